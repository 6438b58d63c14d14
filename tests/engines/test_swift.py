"""One iteration of SWIFT against a slow, literal reading of Algorithm 1 in float64, and what must not change it."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from monai.engines import SupervisedTrainer
from torch import Tensor, nn

from stride_monai.bethesda import CELL_CLASSES, SLIDE_CLASSES, SLIDE_TO_CELL
from stride_monai.engines.cell_training import StepAugmentation
from stride_monai.engines.swift import SwiftTrainer
from stride_monai.errors import BagError, ConfigError
from stride_monai.handlers.ema import EmaUpdater
from stride_monai.losses.swift import SOURCES
from stride_monai.networks.ema import EmaModel
from stride_monai.networks.encoders.cell_encoder import CellClassifier
from stride_monai.networks.mil.slide_classifier import SlideClassifier
from stride_monai.networks.mil.slide_head import AttentionSlideHead
from stride_monai.networks.mil.swift import SwiftStudent

N, B, K, SIDE, SEED = 3, 2, 4, 32, 7
MASK = torch.tensor([[True] * 4, [True, True, True, False]])


class SmallEncoder(nn.Module):
    """Stands for the cell classifier: features of a coarse picture, so that float64 is quick."""

    feature_dim = 12

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 12), nn.GELU())
        self.head = nn.Linear(12, len(CELL_CLASSES))

    def encode(self, image: Tensor) -> Tensor:
        features: Tensor = self.encoder((image - 0.5).double() * 6)
        return features

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.head(self.encode(image))
        return logits


def classifier() -> SlideClassifier:
    torch.manual_seed(0)
    encoder: Any = SmallEncoder()
    head = AttentionSlideHead(encoder.feature_dim, hidden=8, layers=2, dropout=0.0)
    network = SlideClassifier(encoder, head, top_k=K, freeze_encoder=False).double()
    for module in (network.slide_head, network.encoder.head):
        for parameter in module.parameters():
            nn.init.normal_(parameter, std=0.4)
    return network


def crops(*shape: int, seed: int) -> Tensor:
    return torch.randint(0, 256, (*shape, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(seed)).byte()


def cells(step: int) -> dict[str, Tensor]:
    return {"image": crops(N, seed=100 + step), "label": (torch.arange(N) + step) % len(CELL_CLASSES)}


def bag_batches(count: int, labels: tuple[int, int] = (3, 2)) -> list[dict[str, Any]]:
    return [
        {"image": crops(B, K, seed=step), "mask": MASK, "label": torch.tensor(labels), "slide_id": ["a", "b"]}
        for step in range(count)
    ]


def trainer(
    network: SlideClassifier,
    batches: list[dict[str, Any]],
    part: int | None = None,
    kind: type[SwiftTrainer] = SwiftTrainer,
    **kwargs: Any,
) -> Any:
    student = SwiftStudent(network, part)
    teacher = kwargs.pop("teacher", None) or EmaModel(network.encoder, 0.999)
    return kind(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=batches,
        network=student,
        optimizer=kwargs.pop("optimizer", None) or torch.optim.SGD(network.parameters(), lr=1e-3),
        train_handlers=[EmaUpdater(teacher, network.encoder)],
        cells=cells,
        teacher=teacher,
        teacher_part=part,
        seed=SEED,
        **kwargs,
    )


def slow_softmax(row: list[float]) -> list[float]:
    powers = [math.exp(value - max(row)) for value in row]
    return [power / sum(powers) for power in powers]


def slow_ce(row: Tensor, label: int) -> Tensor:
    return -torch.log(torch.exp(row)[label] / torch.exp(row).sum())


def literal(
    student: SlideClassifier,
    teacher: nn.Module,
    batch: Mapping[str, Any],
    activation: str = "grad_x_feature",
    negative_bags: str = "all_nilm",
    tau: tuple[float, float] = (0.5, 0.9),
) -> dict[str, Any]:
    """Algorithm 1, one cell at a time. The augmented pictures are its input: line 5 and 6."""
    labeled = cells(0)
    strong_cells = StepAugmentation("strong", SEED, 0)(labeled["image"], 0)
    strong = StepAugmentation("strong", SEED, 1)(batch["image"].flatten(0, 1), 0).unflatten(0, (B, K))
    weak = StepAugmentation("weak", SEED, 2)(batch["image"].flatten(0, 1), 0).unflatten(0, (B, K))
    cell_losses = [
        slow_ce(student.encoder(x[None])[0], int(y)) for x, y in zip(strong_cells, labeled["label"], strict=True)
    ]
    slide_losses, semi_losses, labels, masks = [], [], {}, {}
    for j in range(B):
        places = [k for k in range(K) if MASK[j, k]]
        z = torch.stack([student.encoder.encode(strong[j, k][None])[0] for k in places])
        logits, attention = student.slide_head(z[None])
        c = int(batch["label"][j])
        slide_losses.append(slow_ce(logits[0], c))
        (slope,) = torch.autograd.grad(logits[0, c], z, retain_graph=True)
        beta = {
            "eq4": [float(s.mean()) for s in slope],
            "grad_x_feature": [float((s * v.detach()).mean()) for s, v in zip(slope, z, strict=True)],
            "attention": attention[0].tolist(),
        }[activation]
        beta = [max(value, 0.0) for value in beta]
        for i, k in enumerate(places):
            with torch.no_grad():
                pseudo = slow_softmax(teacher(weak[j, k][None])[0].tolist())
            if negative_bags == "all_nilm" and SLIDE_CLASSES[c] == "NILM":
                m, y = 1, CELL_CLASSES.index("NILM")
            elif max(beta) > 0 and beta[i] / max(beta) > tau[0]:
                m, y = 1, CELL_CLASSES.index(SLIDE_TO_CELL[SLIDE_CLASSES[c]])
            elif max(pseudo) > tau[1]:
                m, y = 1, pseudo.index(max(pseudo))
            else:
                m, y = 0, 0
            labels[j, k], masks[j, k] = y, m
            semi_losses.append(m * slow_ce(student.encoder.head(z[i]), y))
    parts = {
        "cell_loss": sum(cell_losses) / N,
        "slide_loss": sum(slide_losses) / B,
        "semi_loss": sum(semi_losses) / len(semi_losses),
    }
    return {**parts, "loss": sum(parts.values()), "labels": labels, "masks": masks}


@pytest.mark.parametrize(
    ("activation", "negative_bags", "slides", "tau"),
    [
        ("grad_x_feature", "all_nilm", (3, 0), (0.5, 0.9)),
        ("grad_x_feature", "paper", (3, 0), (0.4, 0.9)),
        ("eq4", "paper", (2, 5), (0.5, 0.95)),
        ("attention", "all_nilm", (1, 4), (0.95, 0.35)),
    ],
)
def test_an_iteration_equals_algorithm_1(
    activation: str, negative_bags: str, slides: tuple[int, int], tau: tuple[float, float]
) -> None:
    network, batches = classifier(), bag_batches(1, slides)
    student = copy.deepcopy(network)
    teacher = copy.deepcopy(student.encoder)
    with torch.no_grad():  # a teacher that is not the student, so that a mix-up shows
        for parameter in teacher.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    ema = EmaModel(teacher, 0.999)
    expected = literal(student, teacher, batches[0], activation, negative_bags, tau)
    expected["loss"].backward()
    torch.optim.SGD(student.parameters(), lr=1e-3).step()

    settings = {"activation": activation, "negative_bags": negative_bags}
    thresholds = {"activation_threshold": tau[0], "teacher_threshold": tau[1]}
    engine = trainer(network, batches, teacher=ema, **settings, **thresholds)
    engine.run()
    output = engine.state.output
    for name in ("cell_loss", "slide_loss", "semi_loss", "loss"):
        assert float(output[name].detach()) == pytest.approx(float(expected[name].detach()), abs=1e-6), name
    label, chosen, _ = output["pseudo_labels"]
    assert label.tolist() == list(expected["labels"].values())
    assert chosen.int().tolist() == list(expected["masks"].values())
    assert len(set(expected["masks"].values())) == 2, "a case that decides nothing"
    for (name, ours), theirs in zip(network.named_parameters(), student.parameters(), strict=True):
        assert theirs.grad is not None, name
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-6, atol=1e-9, msg=name)
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9, msg=name)
    for mean, old, new in zip(ema.module.parameters(), teacher.parameters(), student.encoder.parameters(), strict=True):
        torch.testing.assert_close(mean, 0.5 * old + 0.5 * new)  # min(1 - 1/2, 0.999) at the first step


def test_bounded_memory_gives_the_same_step() -> None:
    whole, parts = classifier(), classifier()
    trainer(whole, bag_batches(1)).run()
    trainer(parts, bag_batches(1), part=2).run()
    for (name, ours), theirs in zip(parts.named_parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-8, atol=1e-10, msg=name)


def test_the_loss_moves_with_each_stream_and_padding_does_not_matter() -> None:
    def total(change: str) -> float:
        batch = bag_batches(1)[0]
        if change == "bag":
            batch["image"][0, 0] = 255 - batch["image"][0, 0]
        if change == "padding":
            batch["image"][1, 3] = 0
        engine = trainer(classifier(), [batch], activation_threshold=0.2)
        if change == "cells":
            engine.cells = lambda step: {**cells(step), "image": 255 - cells(step)["image"]}
        engine.run()
        return float(engine.state.output["loss"].detach())

    plain = total("")
    assert total("") == plain
    assert total("padding") == plain
    assert abs(total("bag") - plain) > 1e-4
    assert abs(total("cells") - plain) > 1e-4


def test_without_the_semi_supervised_term_the_teacher_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = trainer(classifier(), bag_batches(1), semi_weight=0.0)
    monkeypatch.setattr(engine, "_taught", lambda: pytest.fail("the teacher was asked"))
    engine.run()
    assert "pseudo_labels" not in engine.state.output
    assert float(engine.state.output["semi_loss"]) == 0


def test_counts_where_labels_come_from_and_how_many_are_right() -> None:
    batch = bag_batches(1, (3, 0))[0]
    batch["truth"] = torch.tensor([[3, 0, -1, 3], [0, 0, 2, 4]])
    engine = trainer(classifier(), [batch], activation_threshold=0.4)
    engine.run()
    label, chosen, truth = engine.state.output["pseudo_labels"]
    source = engine.state.output["label_sources"][0]
    metrics = engine.state.metrics
    assert metrics["from_negative_slide"] == pytest.approx(3 / 7)
    assert metrics["from_activation"] == pytest.approx(int((source == 1).sum()) / 7)
    assert sum(metrics[f"from_{name}"] for name in SOURCES) == pytest.approx(1)
    assert metrics["agreement_negative_slide"] == pytest.approx(2 / 3)
    known = (source == 1) & (truth >= 0)
    assert metrics["agreement_activation"] == pytest.approx(
        int((label[known] == truth[known]).sum()) / int(known.sum())
    )
    assert metrics["accepted"] == pytest.approx(int(chosen.sum()) / 7)
    assert metrics["slide_loss"] == pytest.approx(float(engine.state.output["slide_loss"]))


def test_accumulated_gradients_step_once() -> None:
    network = classifier()
    before = copy.deepcopy(network.state_dict())
    engine = trainer(network, bag_batches(2), accumulation_steps=2)
    engine.run()
    assert int(engine.teacher.step) == 1, "the teacher follows steps of the optimiser, not iterations"
    assert any(not torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_wrong_input_is_refused_by_name() -> None:
    with pytest.raises(BagError, match="slide 'b' has class 9"):
        trainer(classifier(), bag_batches(1, (0, 9))).run()
    empty = bag_batches(1)
    empty[0]["mask"] = torch.tensor([[True] * 4, [False] * 4])
    with pytest.raises(BagError):
        trainer(classifier(), empty).run()
    with pytest.raises(ConfigError, match="activation_threshold"):
        trainer(classifier(), bag_batches(1), activation_threshold=1.5)
    with pytest.raises(ConfigError, match=r"[Bb]atch"):
        SlideClassifier(CellClassifier("test_resnet"), AttentionSlideHead(384), freeze_encoder=False)


def test_is_a_monai_trainer() -> None:
    assert issubclass(SwiftTrainer, SupervisedTrainer)
