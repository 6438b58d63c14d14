"""Self-supervised training on MONAI's engines: schedules, clipping, resumption, and what is watched."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader
from self_supervised_toys import BATCH, CELLS, EPOCHS, cells, dino, moco, trainer
from torch import nn

from stride_monai.engines.self_supervised import FeatureEvaluator, SelfSupervisedTrainer, clip_each
from stride_monai.errors import ConfigError, ManifestError
from stride_monai.handlers.metrics import FeatureSpread, NeighborF1, nearest_neighbors
from stride_monai.metrics.slide import f1_macro
from stride_monai.networks.encoders.cell_encoder import CellClassifier

pytest.importorskip("lightly")


def test_weight_decay_follows_the_cosine_of_the_reference_and_spares_biases() -> None:
    engine = trainer(dino(), final_weight_decay=0.4, clip_gradient=3.0)
    seen: list[tuple[float, float]] = []
    engine.add_event_handler(
        Events.ITERATION_COMPLETED,
        lambda: seen.append(tuple(group["weight_decay"] for group in engine.optimizer.param_groups)),
    )
    engine.run()
    steps = EPOCHS * (CELLS // BATCH)
    expected = [0.4 + 0.5 * (0.04 - 0.4) * (1 + math.cos(math.pi * step / steps)) for step in range(steps)]
    assert [decayed for decayed, _ in seen] == pytest.approx(expected)
    assert {spared for _, spared in seen} == {0.0}


def test_gradients_are_clipped_one_by_one_before_the_last_layer_is_held() -> None:
    small, large = torch.full((4,), 0.5), torch.full((9,), 4.0)
    gradients = [small.clone(), large.clone()]
    clip_each(gradients, 3.0)
    assert torch.equal(gradients[0], small), "norm 1 stays"
    assert float(gradients[1].norm()) == pytest.approx(3.0, rel=1e-5)

    method = dino()
    frozen = method.head.last_layer.weight_v.detach().clone()
    engine = trainer(method, clip_gradient=1e-3)
    norms: list[float] = []
    held: list[bool] = []

    def look() -> None:
        norms.extend(float(p.grad.norm()) for p in method.parameters() if p.grad is not None)
        held.append(torch.equal(method.head.last_layer.weight_v, frozen))

    engine.add_event_handler(Events.ITERATION_COMPLETED, look)
    engine.run()
    assert max(norms) <= 1e-3 * 1.001
    assert held == [True, True, False, False, False, False], "in the first epoch only"


def test_under_mixed_precision_the_limit_is_that_of_the_unscaled_gradient() -> None:
    method = moco()
    engine = trainer(method, clip_gradient=0.02)
    engine.amp, engine.scaler = True, torch.amp.GradScaler("cpu", init_scale=1024.0)
    weight = method.student.encoder.stem[0].weight
    method.zero_grad()
    engine.scaler.scale((weight * 0.01).sum()).backward()
    engine._before_step()
    assert 0.01 * weight.numel() ** 0.5 > 0.02, "would be clipped"
    assert float(weight.grad.norm()) == pytest.approx(0.02, rel=1e-3)
    before = weight.detach().clone()
    for group in engine.optimizer.param_groups:  # the warm-up begins at 0
        group["lr"] = 0.1
    engine.scaler.step(engine.optimizer)  # does not unscale a second time
    assert not torch.equal(before, weight)
    assert float(weight.grad.norm()) == pytest.approx(0.02, rel=1e-3)


@pytest.mark.parametrize("make", [moco, dino])
def test_a_resumed_training_ends_where_one_without_a_break_ends(make: Any, tmp_path: Path) -> None:
    options = {"final_weight_decay": 0.4, "clip_gradient": 3.0}

    def fresh() -> Any:
        torch.manual_seed(0)
        return make()

    whole = fresh()
    trainer(whole, tmp_path / "whole", **options).run()
    part = trainer(fresh(), tmp_path / "part", **options)
    part.add_event_handler(Events.EPOCH_STARTED(once=2), lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        part.run()
    torch.manual_seed(77)
    resumed = make()
    trainer(resumed, tmp_path / "part", resume="auto", **options).run()
    ours, theirs = resumed.state_dict(), whole.state_dict()
    assert ours.keys() == theirs.keys()
    assert {"moco": "loss.memory_bank.bank", "dino": "loss.center"}[make.__name__] in ours
    for key, value in theirs.items():
        torch.testing.assert_close(ours[key], value, rtol=0, atol=0, msg=lambda text, key=key: f"{key}: {text}")


def test_a_loader_without_a_batch_and_accumulation_are_refused() -> None:
    method = moco()
    few = DataLoader(cells(2), batch_size=4, drop_last=True, num_workers=0)
    common: dict[str, Any] = {
        "device": torch.device("cpu"),
        "max_epochs": 1,
        "network": method,
        "optimizer": torch.optim.SGD(method.student.parameters(), lr=0.1),
        "loss_function": lambda loss, nothing: loss,
    }
    with pytest.raises(ConfigError, match="batch_size"):
        SelfSupervisedTrainer(train_data_loader=few, **common)
    with pytest.raises(ConfigError, match="accumulation_steps"):
        SelfSupervisedTrainer(train_data_loader=[cells(2)[0]], accumulation_steps=2, **common)


def test_neighbors_vote_from_other_slides_only() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(60, 5, generator=generator)
    labels = torch.randint(0, 3, (60,), generator=generator)
    slides = torch.randint(0, 4, (60,), generator=generator)
    expected = []
    for i in range(60):
        others = [j for j in range(60) if slides[j] != slides[i]]
        cosines = {j: float(torch.cosine_similarity(features[i], features[j], dim=0)) for j in others}
        nearest = sorted(others, key=lambda j: -cosines[j])[:7]
        votes = [sum(math.exp(cosines[j] / 0.07) for j in nearest if labels[j] == c) for c in range(3)]
        expected.append(int(np.argmax(votes)))
    found = nearest_neighbors(features, labels, slides, k=7)
    assert found.tolist() == expected
    assert torch.equal(nearest_neighbors(3.0 * features, labels, slides, k=7), found), "length counts for nothing"
    nearest_neighbors(features, labels, slides, k=500)  # fewer cells than neighbours
    with pytest.raises(ManifestError, match="second slide"):
        nearest_neighbors(features, labels, torch.zeros(60))


def test_spread_tells_collapse() -> None:
    generator = torch.Generator().manual_seed(0)
    spread, labels, slides = FeatureSpread(), torch.zeros(4000), torch.zeros(4000)
    assert spread.value(torch.randn(4000, 64, generator=generator), labels, slides) == pytest.approx(1, abs=0.02)
    assert spread.value(torch.ones(4000, 64) + 1e-6 * torch.randn(4000, 64), labels, slides) < 1e-4


def test_evaluator_reports_the_features_of_the_encoder() -> None:
    network = CellClassifier("test_convnext")
    data = cells(12)
    engine = FeatureEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(data, batch_size=5, num_workers=0),
        network=network,
        key_val_metric={"val_knn_f1": NeighborF1(k=3)},
        additional_metrics={"val_feature_spread": FeatureSpread()},
        decollate=False,
    )
    engine.run()
    with torch.no_grad():
        features = network.eval().encode(torch.stack([cell["image"] for cell in data]))
    labels = torch.tensor([cell["label"] for cell in data])
    slides = torch.tensor([k % 3 for k in range(12)])
    predicted = nearest_neighbors(features, labels, slides, k=3)
    assert engine.state.metrics["val_knn_f1"] == f1_macro(predicted.numpy(), labels.numpy())
    units = nn.functional.normalize(features, dim=1).numpy()
    assert engine.state.metrics["val_feature_spread"] == pytest.approx(units.std(0).mean() * 8, rel=1e-4)
