"""Slide heads that read the detector's scores, from the formula to findings."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from swift_toys import MASK, SEED, B, K, bag_batches, classifier, trainer
from torch import Tensor, nn

from stride_monai.data.bags.bag import BagCell, BagFile, BagHeader, encode_crop, write_bag
from stride_monai.engines.cell_training import StepAugmentation
from stride_monai.engines.coloradv import ColorAdvTrainer
from stride_monai.engines.swift import SwiftTrainer
from stride_monai.errors import BundleError, ConfigError
from stride_monai.handlers.color_pictures import attacked
from stride_monai.inferers.bag_files import read_bag
from stride_monai.inferers.bags import BagInferer
from stride_monai.inferers.judge import judge
from stride_monai.inferers.threshold import ChosenCells, threshold_for
from stride_monai.networks.encoders.cell_encoder import CellClassifier
from stride_monai.networks.factories import create_slide_head, list_slide_heads
from stride_monai.networks.mil.slide_classifier import SlideClassifier
from stride_monai.networks.mil.slide_head import AttentionSlideHead, ScoreEmbedding
from stride_monai.networks.weights import load_into, save_weights
from stride_monai.units import Box

D = 64
INVARIANT = [name for name in list_slide_heads() if name not in {"transmil", "dtfd"}]
PLACES = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [0, 1, 0, 1, 1]]).bool()
BUNDLES = Path(__file__).resolve().parents[2] / "bundles"


def head(name: str, score_input: bool = True) -> Any:
    torch.manual_seed(0)
    made = create_slide_head(name, D, score_input=score_input).double().eval()
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(parameter.numel()))
    return made


def bags() -> tuple[Tensor, Tensor]:
    drawn = torch.Generator().manual_seed(1)
    features = torch.randn(*PLACES.shape, D, dtype=torch.float64, generator=drawn)
    return features, torch.rand(PLACES.shape, dtype=torch.float64, generator=drawn)


def slow(score: float) -> float:
    clipped = min(max(score, 0.001), 0.999)
    return math.log(clipped / (1 - clipped))


@pytest.mark.parametrize("name", list_slide_heads())
def test_a_score_adds_its_logit_times_a_vector_to_the_features(name: str) -> None:
    scored, plain = head(name), create_slide_head(name, D).double().eval()
    plain.load_state_dict({key: value for key, value in scored.state_dict().items() if "score_embedding" not in key})
    features, scores = bags()
    scores[0, :3] = torch.tensor([0.0, 1.0, 0.5])
    moved = features.clone()
    for j, k in PLACES.nonzero().tolist():
        moved[j, k] += slow(float(scores[j, k])) * scored.score_embedding.weight
    for ours, theirs in zip(scored(features, PLACES, scores), plain(moved, PLACES), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", list_slide_heads())
def test_scores_move_the_result_and_those_of_masked_places_do_not(name: str) -> None:
    network, (features, scores) = head(name), bags()
    logits, _ = network(features, PLACES, scores)
    assert not torch.allclose(network(features, PLACES, 1 - scores)[0], logits, rtol=1e-3)
    nowhere = scores.masked_fill(~PLACES, math.nan).requires_grad_()
    found, attention = network(features, PLACES, nowhere)
    torch.testing.assert_close(found, logits)
    assert torch.all(attention[~PLACES] == 0)
    found.sum().backward()
    assert bool(network.score_embedding.weight.grad.isfinite().all())
    assert float(network.score_embedding.weight.grad.abs().sum()) > 0


@pytest.mark.parametrize("name", INVARIANT)
def test_the_order_of_the_cells_does_not_matter(name: str) -> None:
    network, (features, scores) = head(name), bags()
    logits, attention = network(features, PLACES, scores)
    for seed in range(5):
        order = torch.randperm(PLACES.shape[1], generator=torch.Generator().manual_seed(seed))
        again, moved = network(features[:, order], PLACES[:, order], scores[:, order])
        torch.testing.assert_close(again, logits)
        torch.testing.assert_close(moved, attention[:, order])


@pytest.mark.parametrize("name", list_slide_heads())
def test_a_new_head_says_what_it_would_say_without_scores_and_learns_to_use_them(name: str) -> None:
    torch.manual_seed(0)
    plain = create_slide_head(name, D).eval()
    scored = create_slide_head(name, D, score_input=True).eval()
    scored.load_state_dict(plain.state_dict() | {"score_embedding.weight": scored.score_embedding.weight})
    features, scores = (part.float() for part in bags())
    logits = scored(features, PLACES, scores)[0]
    torch.testing.assert_close(logits, plain(features, PLACES, scores)[0])
    logits[:, 0].sum().backward()
    assert float(scored.score_embedding.weight.grad.abs().sum()) > 0
    with pytest.raises(ConfigError, match="score_input"):
        scored(features, PLACES)


def test_half_precision_keeps_scores_near_one_finite() -> None:
    embed = ScoreEmbedding(2).to(torch.bfloat16)
    nn.init.ones_(embed.weight)
    scores = torch.tensor([[0.9999, 1.0, 0.0, 0.5]], dtype=torch.bfloat16)
    found = embed(scores, torch.ones(1, 4, dtype=torch.bool))[0, :, 0].tolist()
    assert found == pytest.approx([math.log(999), math.log(999), -math.log(999), 0], rel=1e-5)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("name", list_slide_heads())
def test_it_is_exported(name: str) -> None:
    network = SlideClassifier(CellClassifier("test_convnext"), head(name).float(), top_k=5).eval()
    features, scores = (part.float() for part in bags())
    wanted = network(features, PLACES, scores)
    script = torch.jit.script(network)
    torch.testing.assert_close(script(features, PLACES, scores), wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(BagInferer(5)(features, script, PLACES, scores), wanted, rtol=1e-4, atol=1e-5)
    with pytest.raises(torch.jit.Error, match="takes the detector's scores"):
        script(features, PLACES)
    old = torch.jit.script(SlideClassifier(CellClassifier("test_convnext"), create_slide_head(name, D), top_k=5).eval())
    assert BagInferer(5)(features, old, PLACES, scores).shape == wanted.shape


# Training.


def scored_classifier() -> SlideClassifier:
    network = classifier()
    slide_head = AttentionSlideHead(12, hidden=8, layers=2, dropout=0.0, score_input=True).double()
    slide_head.load_state_dict({**network.slide_head.state_dict(), "score_embedding.weight": torch.ones(12)})
    return SlideClassifier(network.encoder, slide_head, top_k=K, freeze_encoder=False).double()


@pytest.mark.parametrize("kind", [SwiftTrainer, ColorAdvTrainer])
def test_swift_and_coloradv_give_the_head_the_scores_of_the_bags(kind: type[SwiftTrainer]) -> None:
    scores = torch.rand(B, K, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    (batch,) = bag_batches(1)
    network, before = scored_classifier(), classifier()
    strong = StepAugmentation("strong", SEED, 1)(batch["image"].flatten(0, 1), 0).unflatten(0, (B, K))
    still = torch.optim.SGD(network.parameters(), lr=0.0)
    engine = trainer(network, [batch | {"scores": scores}], kind=kind, optimizer=still)
    engine.run()
    for j in range(B):
        z = torch.stack([before.encoder.encode(strong[j, k][None])[0] for k in range(K) if MASK[j, k]])
        z = z + torch.tensor([slow(float(scores[j, k])) for k in range(K) if MASK[j, k]]).double().unsqueeze(1)
        torch.testing.assert_close(engine.state.output["pred"][j], before.slide_head(z[None])[0][0].detach())
    slope = network.slide_head.score_embedding.weight.grad
    assert slope is not None
    assert float(slope.abs().sum()) > 0
    other = trainer(scored_classifier(), [batch | {"scores": 1 - scores}], kind=kind)
    other.run()
    name = "adversarial_loss" if kind is ColorAdvTrainer else "slide_loss"
    losses = [each.state.output[name] for each in (engine, other)]
    assert float(losses[0]) != float(losses[1])
    with pytest.raises(ConfigError, match="score_input"):
        trainer(scored_classifier(), [batch], kind=kind).run()


def test_pictures_of_adversarial_colors_know_the_scores() -> None:
    encoder = CellClassifier("test_convnext")
    network = SlideClassifier(encoder, head("stride").float(), top_k=K)
    (batch,) = bag_batches(1)
    sample = {"image": batch["image"][0], "mask": MASK[0], "label": 3}
    one, two = (attacked(network, sample | {"scores": torch.full((K,), score)}).loss for score in (0.1, 0.9))
    assert one["original"] != two["original"]


# Screening.


def bag_file(path: Path, scores: list[float]) -> BagFile:
    drawn = np.random.default_rng(0).integers(0, 256, (len(scores), 64, 64, 3), np.uint8)
    cells = [
        BagCell(score, Box(10 * k, 0, 10 * k + 9, 9), encode_crop(crop))
        for k, (score, crop) in enumerate(zip(scores, drawn, strict=True))
    ]
    write_bag(path, BagHeader("one", 0.5, 0.5, 64, 5, detector_sha256="ab" * 32), cells)
    return BagFile(path)


@pytest.mark.parametrize("activation", ["grad_x_feature", "eq4", "attention"])
def test_a_slide_is_judged_by_the_scores_in_its_bag(tmp_path: Path, activation: str) -> None:
    network = SlideClassifier(CellClassifier("test_convnext").eval(), head("stride").float(), top_k=5).eval()
    found = [
        judge(read_bag(bag_file(tmp_path / f"{k}.bag.arrow", scores)), network, 5, activation)
        for k, scores in enumerate(([0.9, 0.8, 0.1], [0.3, 0.2, 0.1]))
    ]
    assert np.array_equal(found[0].cells, found[1].cells), "what is said of a cell hangs on its picture alone"
    assert found[0].slide is not None
    assert not np.allclose(found[0].slide, found[1].slide, rtol=1e-3)
    assert all(each.finite and each.attention.sum() == pytest.approx(1) for each in found)
    features, scores = found[0].features[None], torch.tensor([[0.9, 0.8, 0.1]])
    wanted = network(features, None, scores).softmax(dim=1)[0].detach()
    np.testing.assert_allclose(found[0].slide, wanted, rtol=1e-5)


def test_scores_of_another_detector_are_said_to_be_so() -> None:
    scored = SlideClassifier(CellClassifier("test_convnext"), head("mean").float(), top_k=4)
    plain = SlideClassifier(CellClassifier("test_convnext"), create_slide_head("mean", D), top_k=4)
    for network in (scored, plain):
        network.set_operating_point(0.5, detector="1f" * 32)
    for cells in (ChosenCells("a0" * 32), ChosenCells("1f" * 32, "cc" * 32, 16)):
        for force in (False, True):
            said = [threshold_for(network, 4, cells, force=force)[1] for network in (scored, plain)]
            assert said[0] == said[1] + " Its slide head also reads the detector's scores, and was trained on others."
    assert threshold_for(scored, 4, ChosenCells("1f" * 32))[1] == ""


# Weights and bundles.


def test_weights_know_whether_they_need_scores(tmp_path: Path) -> None:
    plain, scored = (create_slide_head("abmil", D, score_input=given) for given in (False, True))
    for name, network in (("plain", plain), ("scored", scored)):
        save_weights(tmp_path / f"{name}.safetensors", network.state_dict(), {})
        load_into(copy.deepcopy(network), tmp_path / f"{name}.safetensors")
    with pytest.raises(BundleError, match="set score_input to true"):
        load_into(plain, tmp_path / "scored.safetensors")
    with pytest.raises(BundleError, match="set score_input to false"):
        load_into(scored, tmp_path / "plain.safetensors")


@pytest.mark.parametrize("bundle", ["swift_mil", "coloradv"])
@pytest.mark.parametrize("config", ["train", "inference"])
@pytest.mark.parametrize("given", [None, True])
def test_bundles_pass_the_option_on(bundle: str, config: str, given: bool | None) -> None:
    parser = ConfigParser()
    parser.read_config([str(BUNDLES / bundle / "configs" / f"{config}.json")])
    parser.update({"encoder_name": "test_convnext", **({} if given is None else {"score_input": given})})
    network = parser.get_parsed_content("network_def")
    assert network.takes_scores == bool(given)
    if config == "train":
        batch = {name: torch.tensor(k) for k, name in enumerate(("image", "label", "mask", "scores"))}
        image, label, extra, _ = parser.get_parsed_content("prepare_batch")(batch)
        assert torch.stack([image, label, *extra]).tolist() == [0, 1, 2, 3]
