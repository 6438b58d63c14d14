"""Crops around cells: the field of view, and what is where the picture ends."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from slide_files import textured

from stride_monai.errors import RegionError
from stride_monai.slides import background_color, crop_around, middle_of, open_slide
from stride_monai.slides.protocol import Pixels
from stride_monai.units import Box

BACKGROUND = (231, 214, 226)


def save(path: Path, pixels: Pixels) -> Path:
    Image.fromarray(pixels).save(path)
    return path


def cell(height: int, width: int, radius: int) -> Pixels:
    """A dark disk on a background with a little noise."""
    rng = np.random.default_rng(0)
    pixels = np.clip(np.array(BACKGROUND) + rng.integers(-3, 4, (height, width, 1)), 0, 255).astype(np.uint8)
    y, x = np.ogrid[:height, :width]
    pixels[(y - height / 2) ** 2 + (x - width / 2) ** 2 < radius**2] = (90, 60, 120)
    return pixels


@pytest.mark.parametrize("size", [(61, 40), (40, 61), (64, 64), (200, 33), (1, 1)])
def test_a_small_picture_stands_in_the_middle_on_its_own_background(tmp_path: Path, size: tuple[int, int]) -> None:
    pixels = cell(*size, 10) if min(size) > 20 else np.full((*size, 3), BACKGROUND, np.uint8)
    with open_slide(save(tmp_path / "a.png", pixels), mpp=0.5) as slide:
        crop = crop_around(slide, *middle_of(slide, 64, 0.5), 64, 0.5, own_background=True)
    assert crop.shape == (64, 64, 3)
    height, width = (min(side, 64) for side in size)
    inside = np.zeros((64, 64), bool)
    top, left = (-((side - 64) // 2) if side < 64 else 0 for side in size)
    inside[top : top + height, left : left + width] = True
    shown = pixels[max(0, (size[0] - 64) // 2) :, max(0, (size[1] - 64) // 2) :][:height, :width]
    np.testing.assert_array_equal(crop[inside].reshape(height, width, 3), shown)  # not a pixel is resampled
    outside = crop[~inside]
    assert len(outside) == 64 * 64 - height * width
    assert len(np.unique(outside, axis=0)) <= 1
    if len(outside):
        assert np.abs(outside[0].astype(int) - BACKGROUND).max() <= 3


def test_a_large_picture_is_cut_to_its_middle(tmp_path: Path) -> None:
    pixels = textured(101, 140)
    with open_slide(save(tmp_path / "a.png", pixels), mpp=0.5) as slide:
        crop = crop_around(slide, *middle_of(slide, 64, 0.5), 64, 0.5, own_background=True)
    np.testing.assert_array_equal(crop, pixels[18:82, 38:102])


def test_um_per_px_alone_resizes(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", cell(60, 60, 20))
    with open_slide(path, mpp=0.25) as slide:
        half = crop_around(slide, *middle_of(slide, 64, 0.5), 64, 0.5, own_background=True)
    with open_slide(path, mpp=0.5) as slide:
        whole = crop_around(slide, *middle_of(slide, 64, 0.5), 64, 0.5, own_background=True)
    dark = [int((crop[:, :, 0] < 160).sum()) for crop in (whole, half)]
    assert dark[0] == pytest.approx(np.pi * 20**2, rel=0.05)
    assert dark[1] == pytest.approx(np.pi * 10**2, rel=0.05)
    assert half.min(axis=2).max() < 240, "no white rim between picture and background"


def test_the_border_of_a_field_is_white_or_as_its_background(tmp_path: Path) -> None:
    pixels = cell(100, 100, 10)
    with open_slide(save(tmp_path / "a.png", pixels), mpp=0.4) as slide:
        white = crop_around(slide, 3, 50, 32, 0.5)
        own = crop_around(slide, 3, 50, 32, 0.5, own_background=True)
        same = crop_around(slide, 50, 50, 32, 0.5, own_background=True)
        np.testing.assert_array_equal(white, slide.read(Box.around(3, 50, 40), mpp=0.5))
        np.testing.assert_array_equal(same, crop_around(slide, 50, 50, 32, 0.5))
        with pytest.raises(RegionError, match=r"a\.png: nothing of it is in the crop around \(-30, 50\)"):
            crop_around(slide, -30, 50, 32, 0.5, own_background=True)
    assert (white[:, :10] == 255).all()
    assert np.abs(own[:, :10].astype(int) - BACKGROUND).max() <= 3
    np.testing.assert_allclose(own[:, 16:], white[:, 16:], atol=1)


def test_a_cell_that_touches_most_of_the_border_leaves_the_background_as_it_is() -> None:
    pixels = np.full((40, 40, 3), (90, 60, 120), np.uint8)
    pixels[:14, :] = BACKGROUND
    assert background_color(pixels).tolist() == list(BACKGROUND)
    dark = np.full((9, 40, 3), (3, 2, 1), np.uint8)
    assert background_color(dark).tolist() == [3, 2, 1]
    assert background_color(dark).dtype == np.uint8
