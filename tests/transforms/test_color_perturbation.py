"""Colour perturbations against finite differences and the colour arithmetic of the standard library."""

from __future__ import annotations

import colorsys
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from stride_monai.errors import ConfigError
from stride_monai.transforms.color_perturbation import (
    SPACES,
    AdversarialColorPerturbation,
    ColorPerturbation,
    ColorPerturbationd,
    scaled_to,
)

UNIT = st.floats(0, 1, width=32)
SHIFT = st.tuples(*[st.floats(-0.3, 0.3)] * 3)
SPECIAL = {
    "gray": (0.5, 0.5, 0.5),
    "black": (0.0, 0.0, 0.0),
    "white": (1.0, 1.0, 1.0),
    "red": (1.0, 0.0, 0.0),
    "two largest": (0.7, 0.7, 0.2),
    "dark": (1 / 255, 0.0, 0.0),
}


WEIGHTS = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64).reshape(3, 1, 1)


def pixel(*rgb: float) -> Tensor:
    return torch.tensor(rgb, dtype=torch.float64).reshape(3, 1, 1)


def clipped(value: float) -> float:
    return min(max(value, 0.0), 1.0)


@given(st.tuples(UNIT, UNIT, UNIT), SHIFT)
@settings(max_examples=200, deadline=None)
def test_a_shift_in_hsv_is_that_of_the_standard_library(rgb: tuple[float, ...], shift: tuple[float, ...]) -> None:
    hue, saturation, value = (a + b for a, b in zip(colorsys.rgb_to_hsv(*rgb), shift, strict=True))
    wanted = colorsys.hsv_to_rgb(hue % 1.0, clipped(saturation), clipped(value))
    found = ColorPerturbation("hsv")(pixel(*rgb), shift)
    torch.testing.assert_close(found.flatten(), torch.tensor(wanted, dtype=torch.float64), atol=1e-9, rtol=0)


@given(st.tuples(UNIT, UNIT, UNIT), SHIFT)
@settings(deadline=None)
def test_a_shift_in_rgb_is_added_and_stops(rgb: tuple[float, ...], shift: tuple[float, ...]) -> None:
    found = ColorPerturbation("rgb")(pixel(*rgb), shift).flatten()
    assert found.tolist() == pytest.approx([clipped(a + b) for a, b in zip(rgb, shift, strict=True)])


@pytest.mark.parametrize("space", SPACES)
def test_a_shift_of_nothing_changes_no_bit(space: str) -> None:
    crops = torch.randint(0, 256, (2, 5, 3, 9, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ColorPerturbation(space)(crops, torch.zeros(2, 3)), crops.float() / 255)


@pytest.mark.parametrize("space", SPACES)
def test_each_slide_has_its_own_shift(space: str) -> None:
    bags = torch.rand(2, 4, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    shifts = torch.tensor([[0.05, -0.1, 0.02], [-0.2, 0.03, 0.1]])
    together = ColorPerturbation(space)(bags, shifts)
    for slide in range(2):
        assert torch.equal(together[slide], ColorPerturbation(space)(bags[slide], shifts[slide]))


def one_sided(space: str, rgb: tuple[float, ...], axis: int) -> float:
    """The difference quotient at a shift of 0: towards the inside at a stop, onwards for the hue, else onwards."""
    start = rgb if space == "rgb" else colorsys.rgb_to_hsv(*rgb)
    sign = -1 if start[axis] == 1 and not (space == "hsv" and axis == 0) else 1
    step = torch.zeros(3, dtype=torch.float64)
    step[axis] = sign * 1e-7
    moved = ColorPerturbation(space)(pixel(*rgb), step)
    return float(((moved - pixel(*rgb)) * WEIGHTS).sum()) / (sign * 1e-7)


def gradients(space: str, rgb: tuple[float, ...], dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Of a weighted sum of the channels with respect to the shift, at 0, and to the pixel."""
    image = pixel(*rgb).to(dtype).requires_grad_()
    shift = torch.zeros(3, dtype=dtype, requires_grad=True)
    weighted = (ColorPerturbation(space)(image, shift) * WEIGHTS.to(dtype)).sum()
    to_shift, to_image = torch.autograd.grad(weighted, (shift, image))
    return to_shift, to_image.flatten()


EIGHT_BITS = st.sampled_from([0, 1, 64, 127, 128, 200, 254, 255]).map(lambda level: level / 255)


@pytest.mark.parametrize("space", SPACES)
@given(st.one_of(st.tuples(EIGHT_BITS, EIGHT_BITS, EIGHT_BITS), st.sampled_from(sorted(SPECIAL.values()))))
@settings(max_examples=150, deadline=None)
def test_gradients_are_one_sided_differences_at_every_kink(space: str, rgb: tuple[float, ...]) -> None:
    """White, black, grey, saturated colours and equal channels, and all between them."""
    to_shift, to_image = gradients(space, rgb)
    wanted = [one_sided(space, rgb, axis) for axis in range(3)]
    assert to_shift.tolist() == pytest.approx(wanted, abs=1e-4)
    assert to_image.tolist() == pytest.approx(WEIGHTS.flatten().tolist()), "a shift of 0 leaves the pixel's as it is"
    single, _ = gradients(space, rgb, torch.float32)
    assert single.tolist() == pytest.approx(wanted, abs=1e-3)


@pytest.mark.parametrize("rgb", [(1.0, 1.0, 1.0), (0.0, 0.0, 0.0)])
@pytest.mark.parametrize("space", SPACES)
def test_white_and_black_pixels_count(space: str, rgb: tuple[float, ...]) -> None:
    to_shift, _ = gradients(space, rgb)
    assert to_shift.tolist() == ([1.0, -2.0, 3.0] if space == "rgb" else pytest.approx([0.0, -rgb[0], 2.0]))


@pytest.mark.parametrize("space", SPACES)
@given(st.permutations([0.15, 0.4, 0.7]), st.tuples(*[st.floats(-0.1, 0.1)] * 3))
@settings(max_examples=20, deadline=None)
def test_gradients_of_ordinary_pixels(space: str, rgb: list[float], shift: tuple[float, ...]) -> None:
    image = pixel(*rgb).requires_grad_()
    moved = torch.tensor(shift, dtype=torch.float64, requires_grad=True)
    assume(space == "rgb" or abs((colorsys.rgb_to_hsv(*rgb)[0] + shift[0]) * 6 % 1 - 0.5) < 0.49)
    assert torch.autograd.gradcheck(ColorPerturbation(space), (image, moved))


@pytest.mark.parametrize("rho", [0.1, 0.9])
@pytest.mark.parametrize("space", SPACES)
def test_gradients_are_finite_for_large_shifts_and_in_mixed_precision(space: str, rho: float) -> None:
    levels = torch.tensor([0.0, 1 / 255, 0.5, 254 / 255, 1.0])
    pixels = torch.cartesian_prod(levels, levels, levels).T.reshape(3, 125, 1)
    for signs in torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3):
        shift = (rho * signs).requires_grad_()
        image = pixels.clone().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            moved = ColorPerturbation(space)(image, shift)
            (moved * moved).sum().backward()
        assert shift.grad is not None
        assert image.grad is not None
        assert torch.isfinite(shift.grad).all()
        assert torch.isfinite(image.grad).all()


def test_hue_means_nothing_at_gray_and_turns_a_color() -> None:
    shift = torch.zeros(3, requires_grad=True)
    gray = torch.full((3, 4, 4), 0.6)
    (gradient,) = torch.autograd.grad(ColorPerturbation("hsv")(gray, shift)[0].sum(), shift)
    assert gradient[0] == 0
    green = ColorPerturbation("hsv")(pixel(1.0, 0.0, 0.0), (1 / 3, 0.0, 0.0)).flatten()
    assert green.tolist() == pytest.approx([0.0, 1.0, 0.0])


def test_dictionary_twin() -> None:
    crops = torch.randint(0, 256, (3, 3, 5, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    sample = {"image": crops, "color_shift": [0.1, 0.0, -0.1], "label": 1}
    found = ColorPerturbationd(keys="image", space="hsv")(sample)
    assert torch.equal(found["image"], ColorPerturbation("hsv")(crops, [0.1, 0.0, -0.1]))
    assert sample["image"] is crops, "the sample itself stays"


@pytest.mark.parametrize("shift", [torch.zeros(4), torch.zeros(3, 3), torch.zeros(1, 2, 3)])
def test_shifts_of_another_shape_are_refused(shift: Tensor) -> None:
    with pytest.raises(ConfigError, match="a row for each slide"):
        ColorPerturbation("rgb")(torch.zeros(2, 5, 3, 4, 4), shift)


@pytest.mark.parametrize("wrong", [{"spaces": "lab"}, {"spaces": ()}, {"rho_rgb": -0.1}, {"steps": 0}])
def test_impossible_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        AdversarialColorPerturbation(**wrong)


def problem(seed: int) -> tuple[nn.Module, Tensor, Tensor]:
    """A random network with bags of two slides."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.GELU(), nn.Conv2d(8, 8, 3, 2), nn.GELU(), nn.Flatten(), nn.Linear(288, 4)
    )
    bags = torch.randint(0, 256, (2, 3, 3, 16, 16), generator=generator).float() / 255
    return network, bags, torch.tensor([0, 2])


def losses(network: nn.Module, bags: Tensor, labels: Tensor) -> Tensor:
    """Of each slide, ``[B]``: cross-entropy of the mean of its cells' logits."""
    logits = network(bags.flatten(0, 1)).unflatten(0, bags.shape[:2]).mean(1)
    return nn.functional.cross_entropy(logits, labels, reduction="none")


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("seed", range(3))
def test_no_random_direction_raises_the_loss_more(space: str, seed: int) -> None:
    network, bags, labels = problem(seed)
    # At a stop or between equal channels each side has a best direction of its own: pixels without either. In double
    # precision, for a length at which curvature is nothing beside the slope.
    bags = 0.01 + 0.98 * torch.rand(bags.shape, generator=torch.Generator().manual_seed(seed)).double()
    network, rho = network.double(), 1e-5
    attack = AdversarialColorPerturbation(space, rho_rgb=rho, rho_hsv=rho)
    start = torch.zeros(2, 3, dtype=torch.float64)
    shift = attack(lambda shift: losses(network, attack.perturb(bags, shift), labels).sum(), start)
    assert shift.norm(dim=1).tolist() == pytest.approx([rho, rho])
    random = torch.randn(1000, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    random = rho * random / random.norm(dim=1, keepdim=True)
    with torch.no_grad():
        clean, worst = losses(network, bags, labels), losses(network, attack.perturb(bags, shift), labels)
        assert (worst > clean).all()
        for slide in range(2):
            seen = attack.perturb(bags[slide].expand(1000, -1, -1, -1, -1), random)
            others = losses(network, seen, labels[slide].expand(1000))
            assert worst[slide] >= others.max() - 1e-10
            assert (others < worst[slide]).double().mean() > 0.99


def test_parameters_get_no_gradient() -> None:
    network, bags, labels = problem(0)
    attack = AdversarialColorPerturbation("hsv", steps=3, random_start=True).set_random_state(seed=0)
    attack(lambda shift: losses(network, attack.perturb(bags, shift), labels).sum(), torch.zeros(2, 3))
    assert all(parameter.grad is None for parameter in network.parameters())


def test_more_steps_stay_in_the_ball_and_find_no_less() -> None:
    network, bags, labels = problem(1)

    def reached(**settings: Any) -> Tensor:
        attack = AdversarialColorPerturbation("rgb", rho_rgb=0.3, **settings).set_random_state(seed=3)
        shift = attack(lambda shift: losses(network, attack.perturb(bags, shift), labels).sum(), torch.zeros(2, 3))
        assert (shift.norm(dim=1) <= 0.3 + 1e-6).all()
        with torch.no_grad():
            return losses(network, attack.perturb(bags, shift), labels).sum()

    assert reached(steps=10) >= reached() - 1e-3
    assert reached(steps=10, random_start=True) >= reached() - 1e-2


def test_the_space_is_drawn_and_repeats() -> None:
    attack = AdversarialColorPerturbation()

    def drawn() -> list[str]:
        attack.set_random_state(seed=5)
        spaces = []
        for _ in range(40):
            attack.randomize()
            spaces.append(attack.space)
        return spaces

    first = drawn()
    assert 8 < first.count("rgb") < 32
    assert first == drawn()


@given(st.lists(st.tuples(*[st.floats(allow_nan=True, allow_infinity=True, width=32)] * 3), min_size=1, max_size=4))
@settings(deadline=None)
def test_scaled_rows_have_the_length_or_stay(rows: list[tuple[float, ...]]) -> None:
    vectors = torch.tensor(rows, dtype=torch.float32)
    otherwise = torch.full_like(vectors, 7.0)
    for row, found in zip(vectors, scaled_to(vectors, 0.1, otherwise), strict=True):
        if torch.isfinite(row).all() and row.abs().max() > 0:
            assert found.norm().item() == pytest.approx(0.1, rel=1e-4)
            assert (found * row >= 0).all()
        else:
            assert found.tolist() == [7.0] * 3
