"""Augmentation of tiles: boxes stay on their cells, cells keep their size, looks change as they say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stride_monai.errors import ConfigError
from stride_monai.transforms import DetectionAugmentation, DetectionAugmentationd, Look, Strength
from stride_monai.transforms.augmentation import STRENGTHS

PLAIN = Strength()


def _painted(height: int, width: int, boxes: list[tuple[int, int, int, int]]) -> torch.Tensor:
    image = torch.zeros(3, height, width)
    for k, (x0, y0, x1, y1) in enumerate(boxes):
        image[:, y0:y1, x0:x1] = (k + 1) / 10
    return image


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31 - 1), height=st.integers(20, 40), width=st.integers(20, 40))
def test_boxes_stay_on_what_they_mark(seed: int, height: int, width: int) -> None:
    marks = [(1, 2, 6, 5), (10, 8, 13, 19), (16, 1, 20, 4)]
    geometry = Strength(rotation="right", flip=True)
    augment = DetectionAugmentation(geometry).set_random_state(seed=seed)
    image, boxes = augment(_painted(height, width, marks), torch.tensor(marks))
    assert sorted(image.shape[1:]) == sorted((height, width))
    for k, (x0, y0, x1, y1) in enumerate(boxes.int().tolist()):
        where = (image[0] - (k + 1) / 10).abs() < 1e-6
        rows, columns = np.nonzero(where.numpy())
        assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (x0, y0, x1, y1)


def test_all_eight_positions_of_a_tile_occur_and_repeat_with_the_seed() -> None:
    image, boxes = torch.rand(3, 12, 12), torch.tensor([[1.0, 2, 5, 8]])
    augment = DetectionAugmentation(Strength(rotation="right", flip=True)).set_random_state(seed=0)
    seen = {tuple(augment(image, boxes)[1][0].tolist()) for _ in range(100)}
    assert len(seen) == 8
    one = DetectionAugmentationd().set_random_state(seed=2)({"image": image, "boxes": boxes})
    two = DetectionAugmentationd().set_random_state(seed=2)({"image": image, "boxes": boxes})
    assert torch.equal(one["image"], two["image"])
    assert torch.equal(one["boxes"], two["boxes"])


def test_a_tile_without_boxes_is_augmented_too() -> None:
    image, boxes = DetectionAugmentation("domain")(torch.randint(0, 256, (3, 8, 8), dtype=torch.uint8), [])
    assert image.dtype == torch.float32
    assert boxes.shape == (0, 4)


def _tile(side: int = 64) -> torch.Tensor:
    """Glass, a cytoplasm and a nucleus in the middle: float [3, S, S]."""
    y, x = np.mgrid[:side, :side] + 0.5 - side / 2
    image = np.full((3, side, side), 0.95)
    for radius, color in ((0.4 * side, (0.9, 0.6, 0.6)), (0.12 * side, (0.35, 0.25, 0.4))):
        image[:, np.hypot(x, y) < radius] = np.array(color)[:, None]
    return torch.as_tensor(image, dtype=torch.float32)


def _seen(look: Look, image: torch.Tensor, count: int = 40) -> list[torch.Tensor]:
    augment = DetectionAugmentation(replace(PLAIN, look=look)).set_random_state(seed=0)
    return [augment(image, [])[0] for _ in range(count)]


def _density(image: torch.Tensor) -> tuple[float, float]:
    """Of the nucleus and of the cytoplasm, green channel."""
    middle = image.shape[1] // 2
    green = -image[1].clamp(1e-3).log()
    return float(green[middle, middle]), float(green[middle, middle + image.shape[1] // 4])


def test_a_look_of_nothing_changes_nothing() -> None:
    image = _tile()
    assert all(torch.allclose(seen, image, atol=1e-5) for seen in _seen(Look(chance=1.0), image, 5))


def test_chance_0_changes_nothing_and_every_part_changes_something() -> None:
    image = _tile()
    for part in ({"density": 0.5}, {"mixing": 0.2}, {"contrast": 0.5}, {"glass": 0.1}, {"grain": 0.2}, {"blur": 1.5}):
        assert all(torch.allclose(seen, image, atol=1e-5) for seen in _seen(Look(chance=0.0, **part), image, 5)), part
        assert max(float((seen - image).abs().mean()) for seen in _seen(Look(chance=1.0, **part), image)) > 0.002, part
    for part in ({"sharpen": 1.0}, {"noise": 0.05}, {"jpeg": 20}, {"gray": 1.0}):
        assert max(float((seen - image).abs().mean()) for seen in _seen(Look(chance=1.0, **part), image)) > 0.002, part


def test_density_scales_every_density_alike_and_within_its_bound() -> None:
    nucleus, cytoplasm = _density(_tile())
    factors = []
    for seen in _seen(Look(chance=1.0, density=0.5), _tile()):
        dark, pale = _density(seen)
        assert dark / nucleus == pytest.approx(pale / cytoplasm, rel=1e-3)
        factors.append(dark / nucleus)
    assert np.exp(-0.5) <= min(factors) < 0.75
    assert 1.35 < max(factors) <= np.exp(0.5)


def test_contrast_changes_how_much_darker_a_nucleus_is() -> None:
    nucleus, cytoplasm = _density(_tile())
    ratios = [np.divide(*_density(seen)) for seen in _seen(Look(chance=1.0, contrast=0.5), _tile())]
    assert min(ratios) < (nucleus / cytoplasm) ** 0.75
    assert max(ratios) > (nucleus / cytoplasm) ** 1.3


@pytest.mark.parametrize("name", sorted(STRENGTHS))
def test_no_strength_changes_the_size_of_a_cell(name: str) -> None:
    """The nucleus, taken at half of its darkness, keeps its area whatever colour and sharpness it is given."""
    image = _tile(96)

    def area(seen: torch.Tensor) -> float:
        dark = torch.nn.functional.avg_pool2d(seen.mean(0, keepdim=True), 3, 1)[0]
        return float((dark < (dark.min() + dark[46, 22]) / 2).sum())

    augment = DetectionAugmentation(name).set_random_state(seed=1)
    areas = [area(augment(image, [])[0]) for _ in range(30)]
    assert np.median(areas) == pytest.approx(area(image), rel=0.03)
    assert max(areas) < 1.3 * area(image)
    assert min(areas) > 0.7 * area(image)


@pytest.mark.parametrize("name", sorted(STRENGTHS))
def test_the_seed_decides_and_values_stay_between_0_and_1(name: str) -> None:
    image, boxes = torch.randint(0, 256, (3, 32, 48), dtype=torch.uint8), [[1.0, 2, 5, 8]]
    one, other = (DetectionAugmentation(name).set_random_state(seed=7) for _ in range(2))
    for _ in range(6):
        first, second = one(image, boxes), other(image, boxes)
        assert torch.equal(first[0], second[0])
        assert torch.equal(first[1], second[1])
        assert first[0].dtype == torch.float32
        assert 0 <= first[0].min() <= first[0].max() <= 1
    again = one(image, boxes, randomize=False)
    assert torch.equal(again[0], first[0])
    if name != "none":
        assert not torch.equal(one(image, boxes)[0], first[0])


def test_an_impossible_look_is_refused() -> None:
    for wrong in ({"chance": 1.5}, {"jpeg": 101}, {"blur": -1}, {"glass": 0.6}):
        with pytest.raises(ConfigError, match="of a look"):
            Look(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="unknown strength of an augmentation 'mighty'"):
        DetectionAugmentation("mighty")
