"""Stain jitter against unmixing written out pixel by pixel, and what normalisation keeps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from skimage.color import rgb_from_hed
from torch import Tensor

from stride_monai.engines.cell_training import StepAugmentation
from stride_monai.errors import ConfigError
from stride_monai.transforms.augmentation import CellAugmentation
from stride_monai.transforms.stain import DYES, StainAugmentation, StainNormalization, stain_jitter


def cells(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(1, 256, (*shape, 3, 8, 8), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("dyes", DYES)
def test_jitter_is_that_of_the_dyes_of_each_pixel(dyes: str) -> None:
    image = cells(2).double() / 255
    factor = torch.tensor([[1.2, 0.8, 1.0], [0.7, 1.1, 1.3]], dtype=torch.float64)
    offset = torch.tensor([[0.01, 0.0, -0.02], [0.0, 0.03, 0.0]], dtype=torch.float64)
    found = stain_jitter(image, factor, offset, dyes)
    for n, y, x in ((0, 0, 0), (0, 5, 2), (1, 7, 7)):
        amounts = np.linalg.solve(np.array(DYES[dyes]).T, -np.log10(image[n, :, y, x].numpy()))
        density = (amounts * factor[n].numpy() + offset[n].numpy()) @ np.array(DYES[dyes])
        assert found[n, :, y, x].tolist() == pytest.approx(np.clip(10**-density, 0, 1).tolist(), abs=1e-9)


def test_the_dyes_of_hed_are_those_of_the_library() -> None:
    np.testing.assert_allclose(np.array(DYES["hed"]), rgb_from_hed, atol=1e-9)


def test_glass_stays_clear_and_a_jitter_of_nothing_changes_nothing() -> None:
    white, one, none = torch.ones(1, 3, 4, 4), torch.ones(1, 3), torch.zeros(1, 3)
    torch.testing.assert_close(stain_jitter(white, 1.3 * one, none), white)
    image = cells(1).float() / 255
    torch.testing.assert_close(stain_jitter(image, one, none), image, atol=1e-5, rtol=0)


def test_augmentation_draws_for_each_cell_in_whole_and_in_parts() -> None:
    images = cells(6)
    whole = StepAugmentation(StainAugmentation(), seed=3)(images, 5)
    assert torch.equal(StepAugmentation(StainAugmentation(), seed=3)(images, 5), whole)
    assert not torch.equal(StepAugmentation(StainAugmentation(), seed=3)(images, 6), whole)
    drawn = StepAugmentation(StainAugmentation(), seed=3).drawn(5, 6)
    assert len(drawn) == 6
    parts = torch.cat([drawn(images[:4], slice(0, 4)), drawn(images[4:], slice(4, 6))])
    torch.testing.assert_close(parts, whole)
    put_together = drawn[torch.arange(6) < 2] + drawn[2:]
    torch.testing.assert_close(put_together(images), whole)
    without = StepAugmentation(StainAugmentation(amount=0.0, offset=0.0), seed=3)(images, 5)
    plain = StepAugmentation("strong", seed=3)(images, 5)
    torch.testing.assert_close(without, plain.clamp(min=1 / 255), atol=1e-5, rtol=0)  # a density has no black
    assert isinstance(StainAugmentation(), CellAugmentation)


def test_normalized_slides_have_one_stain_and_keep_their_order() -> None:
    generator = torch.Generator().manual_seed(1)
    structure = torch.rand(1, 4, 3, 16, 16, generator=generator) * 0.6 + 0.06
    bags = torch.cat([torch.pow(10, -structure), torch.pow(10, -(0.5 * structure + 0.1))])  # one slide pale and hazy
    found = StainNormalization()(bags)
    torch.testing.assert_close(found[0], found[1], atol=0.02, rtol=0)
    density = -torch.log10(found[0])
    assert density.mean((0, 2, 3)).tolist() == pytest.approx([0.15, 0.21, 0.20], abs=0.03)
    for channel in range(3):  # shades that do not end at white or black
        before, after = (-torch.log10(x[0, :, channel]).flatten() for x in (bags, found))
        order = before.argsort()
        assert (after[order].diff() >= -1e-5).all()
    assert torch.equal(StainNormalization()(bags[1]), found[1]), "a slide alone"


def test_a_slide_without_stain_stays_and_glass_stays_clear() -> None:
    glass = torch.ones(2, 3, 8, 8)
    assert torch.equal(StainNormalization()(glass), glass)
    half = torch.ones(1, 3, 8, 8)
    half[..., :4] = torch.rand(1, 3, 8, 4, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.2
    found = StainNormalization()(half)
    assert torch.equal(found[..., 4:], half[..., 4:])
    assert not torch.equal(found[..., :4], half[..., :4])


@pytest.mark.parametrize("wrong", [{"dyes": "iodine"}, {"amount": 2.0}, {"offset": -0.1}])
def test_impossible_jitter_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="stain jitter"):
        StainAugmentation(**wrong)


def test_impossible_normalization_is_refused() -> None:
    with pytest.raises(ConfigError, match="above 0"):
        StainNormalization(deviation=(0.1, 0.0, 0.1))
