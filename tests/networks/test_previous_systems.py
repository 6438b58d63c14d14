"""The slide heads of Cheng et al. 2021 and Zhu et al. 2021 against what they are said to compute, written slowly."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stride_monai.bethesda import CELL_CLASSES
from stride_monai.engines.boosted_trees import BoostedTreesTrainer
from stride_monai.errors import BagError, BundleError, ConfigError, ManifestError, MissingExtraError
from stride_monai.networks.encoders.cell_encoder import CellClassifier
from stride_monai.networks.mil.activation import class_activation
from stride_monai.networks.mil.cheng2021 import ChengHead
from stride_monai.networks.mil.slide_classifier import SlideClassifier
from stride_monai.networks.mil.zhu2021 import QUANTILES, ZhuHead
from stride_monai.networks.weights import load_into, save_weights

D, C, K = 6, 6, 8
MASK = torch.tensor([[1] * 8, [1, 1, 0, 0, 0, 0, 0, 0], [0, 1, 0, 1, 0, 0, 1, 1], [0, 0, 0, 0, 0, 1, 0, 0]]).bool()


def bags(seed: int = 1) -> Tensor:
    return torch.randn(len(MASK), K, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cell_head() -> nn.Module:
    torch.manual_seed(7)
    return nn.Linear(D, len(CELL_CLASSES)).double()


def cheng(**options: Any) -> ChengHead:
    torch.manual_seed(0)
    head = ChengHead(D, cell_head(), C, **{"cells": 3, "pool": 5, "hidden": 7, **options}).double().eval()
    for parameter in head.parameters():
        nn.init.normal_(parameter, std=0.5)
    return head


def probabilities(linear: nn.Module, z: np.ndarray) -> np.ndarray:
    logits = linear.weight.detach().numpy() @ z + linear.bias.detach().numpy()
    powers = [math.exp(value) for value in logits]
    return np.array(powers) / sum(powers)


def ranked(linear: nn.Module, bag: np.ndarray, mask: np.ndarray) -> list[int]:
    """Places of a bag's cells by falling probability of not being NILM."""
    lesion = {k: 1 - probabilities(linear, bag[k])[0] for k in range(len(bag)) if mask[k]}
    return sorted(lesion, key=lambda k: -lesion[k])


def test_the_recurrence_over_the_most_suspicious_cells_written_out() -> None:
    head, features = cheng(), bags()
    logits, attention = head(features, MASK)
    s = {name: value.detach().numpy() for name, value in head.state_dict().items()}
    lengths = []
    for j, bag in enumerate(features.numpy()):
        chosen = ranked(head.ranking.cell_head, bag, MASK[j].numpy())[:3]
        state = np.zeros(7)
        for k in chosen:
            inputs = s["rnn.weight_ih"] @ bag[k] + s["rnn.bias_ih"]
            state = np.maximum(inputs + s["rnn.weight_hh"] @ state + s["rnn.bias_hh"], 0)
        expected = s["classifier.weight"] @ state + s["classifier.bias"]
        np.testing.assert_allclose(logits[j].detach().numpy(), expected, rtol=1e-9, atol=1e-12)
        weights = [1 / len(chosen) if k in chosen else 0 for k in range(K)]
        np.testing.assert_allclose(attention[j].numpy(), weights, rtol=1e-6)
        lengths.append(len(chosen))
    assert lengths == [3, 2, 3, 1], "bags of fewer cells are shorter sequences"


def test_chengs_head_sees_its_cells_and_no_others() -> None:
    head, features = cheng(), bags().requires_grad_()
    logits, attention = head(features, MASK)
    nn.functional.cross_entropy(logits, torch.arange(len(MASK))).backward()
    moved = features.grad.abs().sum(dim=2) > 0
    assert torch.equal(moved, attention > 0)
    there = features.detach().clone()
    there[~MASK] = math.nan
    torch.testing.assert_close(head(there, MASK)[0], logits)
    there[0, int(attention[0].argmax())] *= 1.1
    assert not torch.allclose(head(there, MASK)[0][0], logits[0])


@pytest.mark.parametrize("kind", ["cheng", "zhu"])
def test_class_activation_in_eval_mode(kind: str, fitted: ZhuHead) -> None:
    """Zero for trees, whose derivative is zero; of the cells that Cheng's head does not see as well."""
    head, features = (cheng(), bags()) if kind == "cheng" else (fitted, bags().float())
    features[~MASK] = math.nan
    given = features.clone().requires_grad_()
    logits, attention = head(given, MASK)
    cam = class_activation(logits, given, attention, logits.argmax(dim=1), MASK)
    assert cam.isfinite().all()
    assert not cam[attention == 0].any()
    assert cam.any() == (kind == "cheng")


def test_chengs_head_does_not_depend_on_the_order_in_the_bag() -> None:
    head, features = cheng(), bags()
    logits, attention = head(features, MASK)
    for seed in range(5):
        turned = torch.randperm(K, generator=torch.Generator().manual_seed(seed))
        other, weights = head(features[:, turned], MASK[:, turned])
        torch.testing.assert_close(other, logits)
        torch.testing.assert_close(weights, attention[:, turned])


def test_training_shuffles_cells_of_the_pool_only() -> None:
    features, times = bags(), 400
    many = features.repeat(times, 1, 1), MASK.repeat(times, 1)
    head = cheng(shuffle=1.0).train()
    torch.manual_seed(3)
    drawn = head(*many)[1].view(times, *MASK.shape)
    for j, bag in enumerate(features.numpy()):
        order = ranked(head.ranking.cell_head, bag, MASK[j].numpy())
        seen = set(torch.nonzero(drawn[:, j].sum(dim=0)).flatten().tolist())
        assert seen == set(order[:5]), "each of the five best is drawn at some time, nothing else ever"
        assert ((drawn[:, j] > 0).sum(dim=1) == min(3, len(order))).all()
    in_order = cheng(shuffle=0.0)
    assert torch.equal(in_order.train()(features, MASK)[0], in_order.eval()(features, MASK)[0])
    half = cheng(shuffle=0.5)
    fixed = half(features, MASK)[0][0]
    found = half.train()(*many)[0].view(times, len(MASK), C)[:, 0]
    same = torch.isclose(found, fixed, rtol=1e-9).all(dim=1).float().mean()
    assert 0.42 < same < 0.6, "half of the bags as they are, and 1 in 60 of the others"


def made(kind: str) -> nn.Module:
    return cheng() if kind == "cheng" else ZhuHead(D, cell_head().float(), C, cells=3)


@pytest.mark.parametrize("kind", ["cheng", "zhu"])
def test_an_empty_bag_is_an_error(kind: str) -> None:
    features = bags().to(torch.float64 if kind == "cheng" else torch.float32)
    mask = MASK.clone()
    mask[2] = False
    with pytest.raises(BagError, match="without cells"):
        made(kind)(features, mask)
    with pytest.raises(BagError, match="do not fit"):
        made(kind)(features, mask[:, :-1])


@pytest.mark.parametrize("kind", ["cheng", "zhu"])
def test_the_cell_classifier_stays_out_of_the_head(kind: str) -> None:
    head = made(kind)
    assert not [name for name in head.state_dict() if "cell" in name]
    assert all(parameter.shape != (len(CELL_CLASSES), D) for parameter in head.parameters())


def test_chengs_classifier_can_be_exported() -> None:
    torch.manual_seed(0)
    encoder = CellClassifier("test_resnet")
    network = SlideClassifier(encoder, ChengHead(encoder.feature_dim, encoder.head), top_k=12).eval()
    crops = torch.randint(0, 255, (1, 12, 3, 32, 32), dtype=torch.uint8)
    traced = torch.jit.trace(network, crops, check_trace=False)
    other = torch.randint(0, 255, crops.shape, dtype=torch.uint8)
    torch.testing.assert_close(traced(other), network(other))


def test_the_numbers_of_a_slide_written_out() -> None:
    linear, features = cell_head().float(), bags().float()
    head = ZhuHead(D, linear, C, cells=3)
    found = head.numbers(features, MASK)
    assert found.shape == (len(MASK), len(head.names))
    for j, bag in enumerate(features.numpy()):
        there = [k for k in range(K) if MASK[j, k]]
        p = np.array([probabilities(linear, bag[k]) for k in there])
        expected = {"cells": len(there)}
        for c, name in enumerate([*CELL_CLASSES, "lesion"]):
            values = p[:, c] if name != "lesion" else 1 - p[:, 0]
            most = p.argmax(axis=1) == c if name != "lesion" else values > 0.5
            expected |= {f"{name}: count": sum(most), f"{name}: mean": values.mean()}
            expected |= {f"{name}: q{q:g}": np.quantile(values, q) for q in QUANTILES}
        best = ranked(linear, bag, MASK[j].numpy())[:3]
        expected |= {f"feature {n}": np.mean([bag[k][n] for k in best]) for n in range(D)}
        assert list(expected) == head.names
        np.testing.assert_allclose(found[j].numpy(), list(expected.values()), rtol=1e-5, atol=1e-6)
    padding = features.clone()
    padding[~MASK] = math.nan
    assert torch.equal(head.numbers(padding, MASK), found)


def slides(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Bags whose class is the number of cells that lie far out in one direction, and nothing else."""
    random = torch.Generator().manual_seed(seed)
    features = torch.randn(count, K, D, generator=random)
    labels = torch.randint(0, 3, (count,), generator=random)
    for j, label in enumerate(labels):
        features[j, : 2 * int(label), 0] += 8
    return features, labels


@pytest.fixture(scope="module")
def fitted() -> ZhuHead:
    linear = nn.Linear(D, len(CELL_CLASSES))
    with torch.no_grad():
        linear.weight.zero_()
        linear.weight[1, 0] = 1.0
        linear.bias.copy_(torch.tensor([4.0, 0, 0, 0, 0]))
    head = ZhuHead(D, linear, C, cells=3)
    features, labels = slides(60, seed=0)
    loss = head.fit(head.numbers(features), labels, rounds=8)
    assert 0 < loss < math.log(C)
    return head


def test_zhus_head_learns_what_is_there_to_learn(fitted: ZhuHead) -> None:
    features, labels = slides(40, seed=1)
    logits, attention = fitted(features)
    assert (logits.argmax(dim=1) == labels).float().mean() > 0.9
    torch.testing.assert_close(logits.exp().sum(dim=1), torch.ones(40))
    assert (attention > 0).sum(dim=1).eq(3).all()
    positive = features[labels == 2][:1]
    cleaned = positive.clone()
    cleaned[..., 0] -= 8 * (positive[..., 0] > 4)
    assert not torch.allclose(fitted(cleaned)[0], fitted(positive)[0])


def test_the_same_slides_give_the_same_trees(fitted: ZhuHead) -> None:
    features, labels = slides(60, seed=0)
    again = ZhuHead(D, fitted.ranking.cell_head, C, cells=3)
    again.fit(again.numbers(features), labels, rounds=8)
    assert again.trees_json() == fitted.trees_json()


def walked(tree: dict[str, Any], row: np.ndarray) -> float:
    node = 0
    while tree["left_children"][node] != -1:
        left = row[tree["split_indices"][node]] < np.float32(tree["split_conditions"][node])
        node = tree["left_children" if left else "right_children"][node]
    return float(tree["split_conditions"][node])


def test_the_json_alone_says_what_the_head_says(fitted: ZhuHead) -> None:
    features, _ = slides(12, seed=2)
    learner = json.loads(fitted.trees_json())["learner"]
    assert learner["feature_names"] == fitted.names
    model = learner["gradient_booster"]["model"]
    base = np.array(json.loads(learner["learner_model_param"]["base_score"]), float)
    for row, logits in zip(fitted.numbers(features).numpy(), fitted(features)[0], strict=True):
        sums = np.zeros(C) + base
        for tree, of in zip(model["trees"], model["tree_info"], strict=True):
            sums[of] += walked(tree, row)
        np.testing.assert_allclose(logits.exp().numpy(), np.exp(sums) / np.exp(sums).sum(), rtol=1e-4)


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_weights_files_carry_the_trees(fitted: ZhuHead, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"weights.{suffix}"
    if suffix == "pt":
        torch.save(fitted.state_dict(), path)
    else:
        save_weights(path, fitted.state_dict(), {})
    other = ZhuHead(D, fitted.ranking.cell_head, C, cells=3)
    features, _ = slides(5, seed=3)
    with pytest.raises(BundleError, match="no trees yet"):
        other(features)
    load_into(other, path)
    assert torch.equal(other(features)[0], fitted(features)[0])
    with pytest.raises(BundleError, match="encoder that they were trained with"):
        load_into(ZhuHead(D + 1, nn.Linear(D + 1, len(CELL_CLASSES)), C), path)


def test_trees_that_are_none_are_refused(fitted: ZhuHead) -> None:
    for text in (b"\x80\x04 no json", b'{"a": 1}', fitted.trees_json()[:-40]):
        state = {"_extra_state": torch.frombuffer(bytearray(text), dtype=torch.uint8)}
        with pytest.raises(BundleError, match="no JSON of XGBoost"):
            ZhuHead(D, cell_head(), C).load_state_dict(state)


def test_slides_that_teach_nothing_are_refused() -> None:
    head = ZhuHead(D, cell_head().float(), C)
    numbers = head.numbers(*[value[:3] for value in (bags().float(), MASK)])
    with pytest.raises(ManifestError, match="one class"):
        head.fit(numbers, torch.tensor([2, 2, 2]))
    numbers[1, 3] = math.nan
    with pytest.raises(BagError, match="non-finite"):
        head.fit(numbers, torch.tensor([0, 1, 2]))


def test_the_trainer_fits_saves_and_names_the_slide_that_it_cannot_use(tmp_path: Path) -> None:
    encoder = CellClassifier("test_resnet")
    network = SlideClassifier(encoder, ZhuHead(encoder.feature_dim, encoder.head), top_k=K)
    image = torch.randn(2, K, encoder.feature_dim)
    batch = {"image": image, "mask": MASK[:2], "label": torch.tensor([0, 4]), "slide_id": ["first", "second"]}
    BoostedTreesTrainer("cpu", 2, [batch], network, tmp_path / "xgboost.json").run()
    assert (tmp_path / "xgboost.json").read_bytes() == network.slide_head.trees_json() != b""
    image[1, 0, 0] = math.nan
    with pytest.raises(BagError, match="slide 'second'"):
        BoostedTreesTrainer("cpu", 2, [batch], network, tmp_path / "other.json").run()
    assert not (tmp_path / "other.json").exists()
    by_gradients = SlideClassifier(encoder, ChengHead(encoder.feature_dim, encoder.head), top_k=K)
    with pytest.raises(ConfigError, match="not made of trees"):
        BoostedTreesTrainer("cpu", 2, [batch], by_gradients, tmp_path / "other.json")


def test_without_the_extra_one_line_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xgboost", None)
    with pytest.raises(MissingExtraError, match=r"stride-monai\[baselines\]"):
        ZhuHead(D, cell_head(), C)


@pytest.mark.parametrize("name", ["resnet50", "legacy_xception"])
def test_batch_norm_is_allowed_frozen_and_refused_end_to_end(name: str) -> None:
    with torch.device("meta"):  # these are large, and nothing is computed
        encoder = CellClassifier(name)
    head = ChengHead(encoder.feature_dim, encoder.head)
    assert encoder.feature_dim == 2048
    network = SlideClassifier(encoder, head, freeze_encoder=True).train()
    assert not any(module.training for module in network.encoder.modules())
    with pytest.raises(ConfigError, match="normalises by batch"):
        SlideClassifier(encoder, head, freeze_encoder=False)
