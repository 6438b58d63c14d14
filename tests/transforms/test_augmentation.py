"""Augmentation of cells: a cell keeps its size, and the same seed gives the same picture."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.bundle import ConfigParser
from monai.transforms import Compose

from stride_monai.errors import ConfigError
from stride_monai.transforms import (
    CellAugmentation,
    CellAugmentationd,
    ScaleUint8,
    Strength,
    hsv_to_rgb,
    rgb_to_hsv,
)
from stride_monai.transforms.augmentation import STRENGTHS
from stride_monai.transforms.color import jitter_hsv


def _disc(side: int = 96, radius: float = 20.0) -> torch.Tensor:
    """A dark nucleus in the middle of a pale field, float [3, S, S]."""
    y, x = np.mgrid[:side, :side] + 0.5 - side / 2
    inside = np.clip(radius - np.hypot(x, y) + 0.5, 0, 1)
    return torch.as_tensor(1 - 0.8 * inside, dtype=torch.float32).expand(3, -1, -1).clone()


@pytest.mark.parametrize("strength", ["weak", "strong", "domain"])
def test_a_nucleus_keeps_its_area(strength: str) -> None:
    geometry = STRENGTHS[strength]
    only = Strength(rotation=geometry.rotation, flip=geometry.flip, shift=geometry.shift)
    batch = _disc().expand(64, -1, -1, -1)
    area = (1 - batch[0]).sum() / 0.8 / 3
    assert area == pytest.approx(np.pi * 400, rel=0.01)
    out = CellAugmentation(only).set_random_state(seed=3)(batch)
    areas = (1 - out).sum((1, 2, 3)) / 0.8 / 3
    assert areas.min() > area * 0.99
    assert areas.max() < area * 1.01
    assert out.std(0).max() > 0.05  # it moved


def test_any_angle_keeps_distances_and_shapes() -> None:
    """Two dots stay as far apart as they were; mirrored letters appear only when flips are on."""
    image = torch.zeros(3, 65, 65)
    image[:, 32, 20] = image[:, 32, 44] = 1.0
    image = torch.nn.functional.avg_pool2d(image, 3, 1, 1)
    batch = image.expand(40, -1, -1, -1)
    out = CellAugmentation(Strength(rotation="any")).set_random_state(seed=0)(batch)
    y, x = np.mgrid[:65, :65] - 32.0
    angles = []
    for picture in out[:, 0].numpy():
        weight = picture / picture.sum()
        assert np.hypot((weight * x).sum(), (weight * y).sum()) < 0.05  # the middle stays
        assert (weight * (x**2 + y**2)).sum() == pytest.approx(144, abs=3)  # so do the distances from it
        angles.append(0.5 * np.arctan2(2 * (weight * x * y).sum(), (weight * (x**2 - y**2)).sum()))
    assert np.ptp(angles) > 2.5  # all directions occur


def test_right_angles_and_flips_move_pixels_and_change_none() -> None:
    image = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))
    out = CellAugmentation(Strength(rotation="right", flip=True)).set_random_state(seed=1)(image.expand(64, -1, -1, -1))
    group = [turned for k in range(4) for turned in (image.rot90(k, (1, 2)), image.flip(2).rot90(k, (1, 2)))]
    seen = set()
    for picture in out:
        distances = [float((picture - member).abs().max()) for member in group]
        assert min(distances) < 1e-4
        seen.add(int(np.argmin(distances)))
    assert seen == set(range(8))


def test_a_shift_is_whole_pixels_within_its_bound() -> None:
    image = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0))
    out = CellAugmentation(Strength(shift=1 / 8)).set_random_state(seed=1)(image.expand(50, -1, -1, -1))
    middle = out[:, :, 8:24, 8:24]
    shifts = set()
    for picture in middle:
        matches = [
            (dx, dy)
            for dx in range(-4, 5)
            for dy in range(-4, 5)
            if (picture - image[:, 8 + dy : 24 + dy, 8 + dx : 24 + dx]).abs().max() < 1e-4
        ]
        assert len(matches) == 1
        shifts.add(matches[0])
    assert len(shifts) > 20


@pytest.mark.parametrize("strength", ["none", "weak", "strong", "domain"])
def test_any_input_gives_float_from_0_to_1_of_the_same_shape(strength: str) -> None:
    random = np.random.default_rng(0)
    augment = CellAugmentation(strength)
    for shape in ((3, 24, 24), (5, 3, 24, 24), (0, 3, 24, 24)):
        out = augment(random.integers(0, 256, shape, dtype=np.uint8))
        assert out.shape == shape
        assert out.dtype == torch.float32
        assert out.numel() == 0 or (out.min() >= 0 and out.max() <= 1)


def test_strength_none_changes_nothing() -> None:
    image = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    assert (CellAugmentation("none")(image) - image / 255).abs().max() < 1e-4


def test_the_seed_decides_and_images_of_a_batch_differ() -> None:
    batch = torch.rand(3, 32, 32).expand(6, -1, -1, -1)
    one = CellAugmentation("strong").set_random_state(seed=5)(batch)
    assert torch.equal(one, CellAugmentation("strong").set_random_state(seed=5)(batch))
    assert not torch.equal(one, CellAugmentation("strong").set_random_state(seed=6)(batch))
    assert all(not torch.equal(one[0], other) for other in one[1:])
    through_compose = Compose([CellAugmentationd("image", "strong")]).set_random_state(seed=5)
    first = through_compose({"image": batch})["image"]
    through_compose.set_random_state(seed=5)
    assert torch.equal(through_compose({"image": batch})["image"], first)
    assert not torch.equal(through_compose({"image": batch})["image"], first)


def test_a_look_is_drawn_for_each_cell_whatever_batch_and_process_it_is_in() -> None:
    batch = torch.rand(3, 24, 24).expand(8, -1, -1, -1)
    whole = CellAugmentation("domain").set_random_state(seed=5)(batch)
    assert all(not torch.equal(whole[0], other) for other in whole[1:])
    views = CellAugmentation("domain").set_random_state(seed=5).drawn(8)
    assert torch.equal(torch.cat([views(batch[:3], slice(3)), views(batch[3:], slice(3, 8))]), whole)
    for rank in range(2):
        part = CellAugmentation("domain").set_random_state(seed=5).drawn(8, slice(rank, None, 2))
        assert torch.equal(part(batch[rank::2]), whole[rank::2])


def test_all_keys_of_a_sample_get_the_same_draw() -> None:
    image = torch.rand(3, 16, 16)
    sample = CellAugmentationd(("a", "b"), "strong")({"a": image, "b": image, "label": 1})
    assert torch.equal(sample["a"], sample["b"])
    assert sample["label"] == 1


def test_bad_images_and_strengths_are_refused() -> None:
    for shape in ((3, 8, 9), (1, 8, 8), (8, 8)):
        with pytest.raises(ConfigError, match="square crops"):
            CellAugmentation()(torch.zeros(shape))
    with pytest.raises(ConfigError, match="unknown strength of an augmentation 'mighty'"):
        CellAugmentation("mighty")
    for wrong in ({"rotation": "left"}, {"shift": 0.6}, {"hue": -0.1}, {"value": 1.5}):
        with pytest.raises(ConfigError):
            Strength(**wrong)  # type: ignore[arg-type]


def test_uint8_is_scaled_and_float_is_left() -> None:
    assert ScaleUint8()(torch.tensor([0, 51, 255], dtype=torch.uint8)).tolist() == pytest.approx([0, 0.2, 1])
    assert ScaleUint8()(np.array([0.25], np.float64)).tolist() == [0.25]


def test_transforms_can_be_named_in_a_bundle() -> None:
    config = {
        "target": {"_target_": "stride_monai.transforms.CellAugmentationd", "keys": "image", "strength": "weak"},
        "other": {"_target_": "stride_monai.transforms.loading.LoadBagd", "top_k": 4},
    }
    parser = ConfigParser(config)
    assert isinstance(parser.get_parsed_content("target"), CellAugmentationd)
    assert type(parser.get_parsed_content("other")).__name__ == "LoadBagd"


_CHANNEL = st.integers(0, 255)


@settings(max_examples=200, deadline=None)
@given(rgb=st.tuples(_CHANNEL, _CHANNEL, _CHANNEL))
def test_colors_agree_with_the_standard_library_and_come_back(rgb: tuple[int, int, int]) -> None:
    image = (torch.tensor(rgb, dtype=torch.float64) / 255).reshape(3, 1, 1)
    hsv = rgb_to_hsv(image)
    assert hsv.flatten().tolist() == pytest.approx(colorsys.rgb_to_hsv(*(c / 255 for c in rgb)), abs=1e-12)
    assert hsv_to_rgb(hsv).flatten().tolist() == pytest.approx(image.flatten().tolist(), abs=1e-12)


def test_the_gradient_is_finite_everywhere_and_right_off_gray() -> None:
    colors = torch.tensor([[0.0, 0, 0], [0.5, 0.5, 0.5], [1, 1, 1], [1, 0, 0], [0.3, 0.3, 0.1], [0.2, 0.6, 0.4]])
    image = colors.T.reshape(3, 1, 6).double().requires_grad_()
    hsv_to_rgb(rgb_to_hsv(image) * 0.9).square().sum().backward()
    assert image.grad is not None
    assert torch.isfinite(image.grad).all()
    point = torch.tensor([0.2, 0.6, 0.45], dtype=torch.float64).reshape(3, 1, 1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: hsv_to_rgb(rgb_to_hsv(x)), point)
    assert torch.autograd.gradcheck(rgb_to_hsv, point)


def test_jitter_turns_hue_and_scales_the_rest() -> None:
    red = torch.tensor([1.0, 0, 0]).reshape(1, 3, 1, 1).expand(2, -1, -1, -1)
    one, none = torch.ones(2), torch.zeros(2)
    turned = jitter_hsv(red, torch.tensor([1 / 3, -1 / 3]), one, one)
    assert turned.flatten(1).tolist() == [pytest.approx([0, 1, 0], abs=1e-6), pytest.approx([0, 0, 1], abs=1e-6)]
    assert jitter_hsv(red, none, one / 2, one / 2)[0].flatten().tolist() == pytest.approx([0.5, 0.25, 0.25])
    assert jitter_hsv(red, none, one * 2, one * 2)[0].flatten().tolist() == pytest.approx([1, 0, 0])
