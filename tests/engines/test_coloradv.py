"""A step of ColorAdv against equations 7 and 8 written out, and what must not change it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from ignite.engine import Events
from swift_toys import MASK, SEED, B, K, bag_batches, classifier, literal, slow_ce, trainer
from torch import Tensor

from stride_monai.engines.cell_training import StepAugmentation
from stride_monai.engines.coloradv import ColorAdvTrainer
from stride_monai.errors import ConfigError
from stride_monai.handlers.steps import GradientClipping
from stride_monai.networks.ema import EmaModel
from stride_monai.networks.mil.slide_classifier import SlideClassifier
from stride_monai.transforms.color_perturbation import ColorPerturbation

RHO = 0.1


def color_trainer(network: SlideClassifier, batches: list[dict[str, Any]], **kwargs: Any) -> Any:
    return trainer(network, batches, kind=ColorAdvTrainer, **kwargs)


def loss_of_slides(student: SlideClassifier, strong: Tensor, shift: Tensor, space: str, labels: Any, found: Any) -> Any:
    """One cell at a time; ``found`` has the pseudo-labels of the clean pass."""
    slide_losses, semi_losses = [], []
    for j in range(B):
        places = [k for k in range(K) if MASK[j, k]]
        z = [student.encoder.encode(ColorPerturbation(space)(strong[j, k], shift[j])[None])[0] for k in places]
        logits, _ = student.slide_head(torch.stack(z)[None])
        slide_losses.append(slow_ce(logits[0], int(labels[j])))
        for feature, k in zip(z, places, strict=True):
            semi_losses.append(found["masks"][j, k] * slow_ce(student.encoder.head(feature), found["labels"][j, k]))
    return sum(slide_losses) / B + sum(semi_losses) / len(semi_losses)


@pytest.mark.parametrize("space", ["rgb", "hsv"])
def test_a_step_equals_equations_7_and_8(space: str) -> None:
    network, (batch,) = classifier(), bag_batches(1, (3, 0))
    student = copy.deepcopy(network)
    found = literal(student, copy.deepcopy(student.encoder), batch)
    strong = StepAugmentation("strong", SEED, 1)(batch["image"].flatten(0, 1), 0).unflatten(0, (B, K))
    zero = torch.zeros(B, 3, requires_grad=True)
    clean = loss_of_slides(student, strong, zero, space, batch["label"], found)
    assert float(clean) == pytest.approx(float(found["slide_loss"] + found["semi_loss"]), rel=1e-6)
    (gradient,) = torch.autograd.grad(clean, zero)
    shift = torch.stack([RHO * row / row.norm() for row in gradient])
    adversarial = loss_of_slides(student, strong, shift, space, batch["label"], found)
    (found["loss"] + 0.7 * adversarial).backward()

    engine = color_trainer(network, [batch], spaces=space, adversarial_weight=0.7)
    engine.run()
    output = engine.state.output
    torch.testing.assert_close(output["color_shift"], shift, rtol=1e-4, atol=1e-6)
    assert float(output["adversarial_loss"]) == pytest.approx(float(adversarial.detach()), rel=1e-6)
    assert float(output["loss"]) == pytest.approx(float(found["loss"].detach()), rel=1e-6), "the clean loss"
    assert engine.state.metrics["adversarial_loss"] == pytest.approx(float(adversarial.detach()), rel=1e-6)
    for (name, ours), theirs in zip(network.named_parameters(), student.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-8, msg=name)


def gradients(batches: list[dict[str, Any]], **kwargs: Any) -> list[Tensor]:
    network = classifier()
    color_trainer(network, batches, **kwargs).run()
    return [parameter.grad for parameter in network.parameters() if parameter.grad is not None]


def test_without_length_both_passes_are_the_clean_one_and_without_weight_it_is_swift() -> None:
    batches = bag_batches(1)
    swift = classifier()
    trainer(swift, batches).run()
    clean = [parameter.grad for parameter in swift.parameters()]
    for ours, theirs in zip(gradients(batches, adversarial_weight=0.0), clean, strict=True):
        assert torch.equal(ours, theirs)
    slides_alone = {"cell_weight": 0.0, "rho_rgb": 0.0, "rho_hsv": 0.0}
    single, twice = (gradients(batches, adversarial_weight=w, **slides_alone) for w in (0.0, 1.0))
    for one, two in zip(single, twice, strict=True):
        torch.testing.assert_close(two, 2 * one, rtol=1e-8, atol=1e-12)


def test_the_shift_raises_the_loss_and_is_of_each_slide_alone() -> None:
    batches = bag_batches(1)
    network = classifier()
    engine = color_trainer(
        network, batches, spaces="rgb", rho_rgb=0.02, optimizer=torch.optim.SGD([*network.parameters()], lr=0.0)
    )
    engine.run()
    output = engine.state.output
    assert float(output["adversarial_loss"]) > float(output["slide_loss"] + output["semi_loss"])
    shift = output["color_shift"]
    assert shift.norm(dim=1).tolist() == pytest.approx([0.02, 0.02])
    other = copy.deepcopy(batches)
    other[0]["image"][1] = 255 - other[0]["image"][1]
    again = color_trainer(classifier(), other, spaces="rgb", rho_rgb=0.02)
    again.run()
    torch.testing.assert_close(again.state.output["color_shift"][0], shift[0])
    assert not torch.allclose(again.state.output["color_shift"][1], shift[1], atol=1e-4)


def test_bounded_memory_and_accumulation_give_the_same_gradients() -> None:
    batches = bag_batches(1)
    for ours, theirs in zip(gradients(batches, part=2), gradients(batches), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-8)  # colours and shifts are of single precision
    network = classifier()
    still = torch.optim.SGD(network.parameters(), lr=0.0)
    color_trainer(network, bag_batches(1) * 2, optimizer=still, accumulation_steps=2, spaces="rgb").run()
    accumulated = [parameter.grad for parameter in network.parameters()]
    assert all(gradient is not None and torch.isfinite(gradient).all() for gradient in accumulated)


def test_both_gradients_are_clipped_together() -> None:
    network = classifier()
    engine = ColorAdvTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=bag_batches(1),
        network=trainer(network, []).network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.0),
        cells=trainer(network, []).cells,
        teacher=EmaModel(network.encoder, 0.999),
        train_handlers=[GradientClipping(1e-3)],
    )
    engine.run()
    total = torch.stack([parameter.grad.norm() for parameter in network.parameters()]).norm()
    assert float(total) == pytest.approx(1e-3, rel=1e-4)


def test_more_steps_find_no_less_and_a_random_start_still_raises_the_loss() -> None:
    def reached(**settings: Any) -> tuple[float, float]:
        engine = color_trainer(classifier(), bag_batches(1), spaces="rgb", rho_rgb=0.3, **settings)
        engine.run()
        output = engine.state.output
        assert (output["color_shift"].norm(dim=1) <= 0.3 + 1e-6).all()
        return float(output["adversarial_loss"]), float(output["slide_loss"] + output["semi_loss"])

    once, _ = reached()
    assert reached(adversarial_steps=6)[0] >= once - 1e-3
    raised, clean = reached(adversarial_steps=6, random_start=True)
    assert raised > clean


def test_the_space_changes_from_step_to_step_and_a_run_repeats() -> None:
    def spaces() -> list[str]:
        seen: list[str] = []
        engine = color_trainer(classifier(), bag_batches(12))
        engine.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: seen.append(engine.attack.space))
        engine.run()
        return seen

    first = spaces()
    assert set(first) == {"rgb", "hsv"}
    assert spaces() == first


@pytest.mark.parametrize("semi_weight", [0.0, 1.0])
def test_the_second_pass_reaches_every_parameter(semi_weight: float) -> None:
    """Else data parallelism would wait for the gradient of the cell head for ever."""
    network = classifier()
    engine = color_trainer(network, bag_batches(1), semi_weight=semi_weight)
    engine.run()
    loss = engine._loss_of_slides(torch.zeros(B, 3), engine.network)
    found = torch.autograd.grad(loss, list(network.parameters()), allow_unused=True)
    assert [name for (name, _), g in zip(network.named_parameters(), found, strict=True) if g is None] == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"spaces": "lab"},
        {"adversarial_weight": -1.0},
        {"adversarial_steps": 0},
        {"slide_weight": 0.0, "semi_weight": 0.0},
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        color_trainer(classifier(), bag_batches(1), **wrong)
