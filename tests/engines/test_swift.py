"""One iteration of SWIFT against a slow, literal reading of Algorithm 1 in float64, and what must not change it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from monai.engines import SupervisedTrainer
from swift_toys import bag_batches, cells, classifier, literal, trainer

from stride_monai.engines.swift import SwiftTrainer, epochs_for
from stride_monai.errors import BagError, ConfigError
from stride_monai.losses.dtfd import DTFDLoss
from stride_monai.losses.swift import SOURCES
from stride_monai.networks.ema import EmaModel
from stride_monai.networks.encoders.cell_encoder import CellClassifier
from stride_monai.networks.mil.dtfd import DTFDHead
from stride_monai.networks.mil.slide_classifier import SlideClassifier
from stride_monai.networks.mil.slide_head import AttentionSlideHead


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


def test_bags_of_some_sources_train_their_cells_and_not_the_slide_head() -> None:
    def run(batch: dict[str, Any], **settings: Any) -> tuple[Any, SlideClassifier]:
        network = classifier()
        engine = trainer(network, [batch], **settings)
        engine.run()
        return engine.state.output, network

    batch = {**bag_batches(1, (3, 0))[0], "source": ["phantom", "fields"]}
    both, _ = run(batch)
    one, network = run(batch, cells_only=["fields"])
    logits = both["pred"]
    assert float(one["slide_loss"]) == pytest.approx(float(-logits[0].log_softmax(0)[3]))
    assert float(one["semi_loss"]) == pytest.approx(float(both["semi_loss"]))
    none, untaught = run(batch, cells_only=["fields", "phantom"])
    assert float(none["slide_loss"]) == 0
    gradients = [parameter.grad for parameter in untaught.slide_head.parameters()]
    assert all(grad is not None and not grad.any() for grad in gradients)
    assert any(parameter.grad.any() for parameter in network.slide_head.parameters() if parameter.grad is not None)
    with pytest.raises(ConfigError, match="DTFD"):
        trainer(classifier(), [batch], cells_only=["fields"], slide_loss=DTFDLoss(DTFDHead(12)))


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


def test_epochs_are_about_the_iterations_and_one_at_least() -> None:
    assert [epochs_for(iterations, 100) for iterations in (20, 140, 160, 32_000)] == [1, 1, 2, 320]


def test_a_frozen_encoder_gives_the_same_activations_and_stays() -> None:
    """Only the heads are trained; pseudo-labels, which need the gradient by the features, are as with a free one."""
    frozen, free = classifier(), classifier()
    frozen.encoder.encoder.requires_grad_(False)
    before = copy.deepcopy(frozen.encoder.encoder.state_dict())
    engines = [trainer(network, bag_batches(1), activation_threshold=0.2) for network in (frozen, free)]
    for engine in engines:
        engine.run()
    ours, theirs = (engine.state.output["loss"] for engine in engines)
    torch.testing.assert_close(ours, theirs)
    for name, value in frozen.encoder.encoder.state_dict().items():
        assert torch.equal(value, before[name]), name
    for (name, mine), other in zip(frozen.slide_head.named_parameters(), free.slide_head.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, msg=name)
