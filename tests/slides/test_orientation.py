"""Upright pictures: every orientation of EXIF and TIFF, checked against Pillow's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from slide_files import shrink, textured

from stride_monai.slides import StatedFacts
from stride_monai.slides.orientation import orientation_of, upright_reader
from stride_monai.slides.protocol import Pixels
from stride_monai.slides.slide import Slide
from stride_monai.units import Box

TAGS = range(1, 9)


class _Stored:
    """A slide in memory, as the file stores it."""

    name = "stored"
    format = "stored"

    def __init__(self, levels: list[Pixels], bounds: tuple[int, int, int, int] | None = None) -> None:
        self.levels = levels
        self.level_sizes = tuple((level.shape[1], level.shape[0]) for level in levels)
        self.bounds = bounds or (0, 0, *self.level_sizes[0])
        self.stated = StatedFacts(0.25, 0.26, 40)

    def read_level(self, level: int, x: int, y: int, width: int, height: int) -> Pixels:
        region = self.levels[level][y : y + height, x : x + width]
        assert min(x, y) >= 0
        assert region.shape[:2] == (height, width), "asked for pixels outside the level"
        return region

    def close(self) -> None:
        pass


def _pillow(stored: Pixels, tag: int) -> Pixels:
    """The upright picture by Pillow."""
    image = Image.fromarray(np.ascontiguousarray(stored))
    image.getexif()[274] = tag
    return np.asarray(ImageOps.exif_transpose(image))


@settings(max_examples=40)
@given(st.sampled_from(TAGS), st.integers(1, 9), st.integers(1, 9))
def test_pictures_and_sizes_turn_as_pillow_turns_them(tag: int, width: int, height: int) -> None:
    stored = np.random.default_rng(tag).integers(0, 255, (height, width, 3), np.uint8)
    orientation = orientation_of(tag)
    upright = orientation.upright(stored)
    np.testing.assert_array_equal(upright, _pillow(stored, tag))
    assert orientation.size(width, height) == (upright.shape[1], upright.shape[0])
    assert orientation.turned == (tag != 1)


@settings(max_examples=60)
@given(st.sampled_from(TAGS), st.data())
def test_a_box_shows_the_same_pixels_in_both_pictures(tag: int, data: st.DataObject) -> None:
    width, height = data.draw(st.integers(2, 12)), data.draw(st.integers(2, 12))
    x0, y0 = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    x1, y1 = data.draw(st.integers(x0 + 1, width)), data.draw(st.integers(y0 + 1, height))
    stored = np.arange(width * height, dtype=np.int64).reshape(height, width)
    orientation = orientation_of(tag)
    u0, v0, u1, v1 = (int(v) for v in orientation.box_upright(Box(x0, y0, x1, y1), width, height))
    np.testing.assert_array_equal(orientation.upright(stored)[v0:v1, u0:u1], orientation.upright(stored[y0:y1, x0:x1]))
    assert orientation.box_stored(Box(u0, v0, u1, v1), width, height) == (x0, y0, x1, y1)


@pytest.mark.parametrize("tag", [None, 0, 9, -1, "6", 2.5])
def test_an_unknown_tag_means_upright(tag: object) -> None:
    assert not orientation_of(tag).turned


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(TAGS), st.integers(200, 260), st.integers(150, 200), st.sampled_from([(1, 2, 4), (1, 3, 6)]))
def test_a_turned_pyramid_reads_as_the_pyramid_of_the_upright_picture(
    tag: int, width: int, height: int, downsamples: tuple[int, ...]
) -> None:
    stored = textured(height, width)
    turned = _Stored([stored if d == 1 else shrink(stored, d) for d in downsamples])
    upright = orientation_of(tag).upright(stored)
    slide = Slide(Path("a.tif"), upright_reader(turned, orientation_of(tag)))
    assert (slide.width, slide.height) == (upright.shape[1], upright.shape[0])
    assert slide.facts.bounds_offset == (0, 0)
    np.testing.assert_array_equal(slide.read(slide.box), upright)
    np.testing.assert_array_equal(slide.read(Box(41.0, 33.0, 121.0, 97.0)), upright[33:97, 41:121])
    left, top = padding_of(stored.shape[:2], tag, downsamples)
    for coarse in downsamples[1:]:  # at a coarser um/px a level of its own is read, whose pixels lie where they belong
        x0, y0 = -left % coarse + 3 * coarse, -top % coarse + 2 * coarse
        box = Box(x0, y0, x0 + 5 * coarse, y0 + 4 * coarse)
        assert slide.level_for(slide.mpp * coarse) > 0
        got = slide.read(box, slide.mpp * coarse).astype(int)
        want = shrink(upright[int(box.y0) : int(box.y1), int(box.x0) : int(box.x1)], coarse)
        assert np.abs(got - want).max() <= 1


def padding_of(shape: tuple[int, ...], tag: int, downsamples: tuple[int, ...]) -> tuple[int, int]:
    """How far before the picture its coarse pixels begin, once mirrored."""
    height, width = shape
    orientation, whole = orientation_of(tag), max(downsamples)
    wide, high = orientation.size(width, height)
    return -wide % whole * orientation.mirrors_x, -high % whole * orientation.mirrors_y


def test_bounds_and_um_per_px_turn_with_the_picture() -> None:
    stored = textured(120, 160)
    reader = upright_reader(_Stored([stored], bounds=(10, 20, 100, 50)), orientation_of(6))
    assert reader.bounds == (50, 10, 50, 100)
    assert (reader.stated.mpp_x, reader.stated.mpp_y, reader.stated.objective) == (0.26, 0.25, 40)
    slide = Slide(Path("a.tif"), reader)
    expected = np.rot90(stored[20:70, 10:110], -1)
    np.testing.assert_array_equal(slide.read(slide.box), expected)
    assert slide.facts.bounds_offset == (50, 10)
