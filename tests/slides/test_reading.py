"""Reading regions: right pixels at right places, whatever the level, um/px, border or reader."""

from __future__ import annotations

import math
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from slide_files import area_weights, shrink, textured, write_pyramid

from stride_monai.errors import RegionError, SlideError
from stride_monai.slides import StatedFacts, open_slide
from stride_monai.slides.protocol import Pixels
from stride_monai.slides.resample import resample
from stride_monai.slides.slide import Slide
from stride_monai.units import Box


class ArrayReader:
    """A slide in memory: levels as given, optional bounds."""

    name = "array"
    format = "array"

    def __init__(
        self, levels: list[Pixels], bounds: tuple[int, int, int, int] | None = None, mpp: float = 0.25
    ) -> None:
        self.levels = levels
        self.level_sizes = tuple((level.shape[1], level.shape[0]) for level in levels)
        self.bounds = bounds or (0, 0, *self.level_sizes[0])
        self.stated = StatedFacts(0.25, 0.25)
        self.reads: list[int] = []

    def read_level(self, level: int, x: int, y: int, width: int, height: int) -> Pixels:
        assert x >= 0
        assert y >= 0
        region = self.levels[level][y : y + height, x : x + width]
        assert region.shape[:2] == (height, width), "asked for pixels outside the level"
        self.reads.append(region.size // 3)
        return region

    def close(self) -> None:
        pass


def pyramid(downsamples: list[float], size: tuple[int, int] = (600, 800)) -> ArrayReader:
    base = textured(*size)
    return ArrayReader([base if d == 1 else shrink(base, d) for d in downsamples])


def slide_of(reader: ArrayReader) -> Slide:
    return Slide(Path("array.tif"), reader)


@settings(deadline=None, max_examples=60)
@given(
    st.tuples(st.floats(-3, 20), st.floats(-3, 20)),
    st.tuples(st.floats(1, 5), st.floats(1, 5)),
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
)
def test_area_means_equal_the_weight_matrix(
    start: tuple[float, float], step: tuple[float, float], count: tuple[int, int]
) -> None:
    source = textured(40, 50)
    padded = np.pad(source, ((10, 60), (10, 60), (0, 0)), mode="edge").astype(float)
    (x0, y0), (x1, y1) = start, (start[0] + step[0] * count[0], start[1] + step[1] * count[1])
    rows = area_weights(padded.shape[0], count[1], y0 + 10, y1 + 10)
    columns = area_weights(padded.shape[1], count[0], x0 + 10, x1 + 10)
    expected = np.einsum("ij,jkc,lk->ilc", rows, padded, columns)
    got = resample(source, x0, y0, x1, y1, *count)
    assert np.abs(got - expected).max() <= 0.51


@settings(deadline=None, max_examples=40)
@given(
    st.tuples(st.floats(-3, 20), st.floats(-3, 20)),
    st.tuples(st.floats(0.3, 30), st.floats(0.3, 5)),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
)
def test_what_is_computed_at_a_time_changes_no_bit(
    start: tuple[float, float], step: tuple[float, float], count: tuple[int, int]
) -> None:
    source = textured(40, 50)
    box = (*start, start[0] + step[0] * count[0], start[1] + step[1] * count[1])
    with mock.patch("stride_monai.slides.resample._AT_A_TIME", 1):
        by_rows = resample(source, *box, *count)
    assert np.array_equal(by_rows, resample(source, *box, *count))


def test_strong_reductions_stay_in_place() -> None:
    source = textured(900, 1000)
    x0, y0, width, height, step = 13.7, 21.2, 40, 36, 23.3
    rows = area_weights(900, height, y0, y0 + step * height)
    columns = area_weights(1000, width, x0, x0 + step * width)
    expected = np.tensordot(columns, np.tensordot(rows, source.astype(float), axes=(1, 0)), axes=(1, 1)).swapaxes(0, 1)
    got = resample(source, x0, y0, x0 + step * width, y0 + step * height, width, height)
    assert np.abs(got - expected).max() <= 2
    assert np.abs((got - expected).mean()) < 0.3


def test_native_pixels_come_back_untouched() -> None:
    slide = slide_of(pyramid([1]))
    assert np.array_equal(slide.read(Box(17, 40, 117, 90)), textured(600, 800)[40:90, 17:117])


def test_enlarging_interpolates_between_centres() -> None:
    ramp = np.repeat((np.arange(100, dtype=np.uint8) * 2)[None, :, None], 50, axis=0).repeat(3, axis=2)
    out = slide_of(ArrayReader([np.ascontiguousarray(ramp)])).read(Box(10, 10, 20, 20), 0.125)
    expected = 2 * (10 + (np.arange(20) + 0.5) / 2 - 0.5)
    assert out.shape == (20, 20, 3)
    assert np.abs(out[5, :, 0] - expected).max() <= 0.6


@pytest.mark.parametrize("downsamples", [[1.0, 2.0, 4.0], [1.0, 2.5, 6.3], [1.0, 3.0], [1.0, 4.016]])
@pytest.mark.parametrize("mpp", [0.25, 0.4, 0.7, 1.0, 1.3, 2.0])
def test_levels_agree_in_position(downsamples: list[float], mpp: float) -> None:
    """Through any level a region looks as if it had been averaged from level 0: the sub-pixel place is the same."""
    box = Box(101.3, 57.9, 101.3 + 400, 57.9 + 320)
    through_levels = slide_of(pyramid(downsamples)).read(box, mpp).astype(float)
    from_level_0 = slide_of(pyramid([1.0])).read(box, mpp).astype(float)
    difference = np.abs(through_levels - from_level_0)
    # A shift by a tenth of a pixel at these gradients (up to 6 per level-0 pixel) would exceed this.
    assert difference.mean() < 1.0
    assert difference.max() <= 6


@pytest.mark.parametrize("mpp", [0.5, 1.0, 1.7])
def test_a_spot_is_found_where_it_is(mpp: float) -> None:
    base = np.full((1201, 1603, 3), 255, np.uint8)
    base[700:716, 1100:1116] = 0
    slide = slide_of(ArrayReader([base, shrink(base, 2), shrink(base, 4), shrink(base, 5.3)]))
    x0, y0 = 1000.7, 600.2
    out = 255.0 - slide.read(Box(x0, y0, x0 + 300, y0 + 300), mpp)[..., 0]
    scale = 300 / out.shape[0]
    ys, xs = np.mgrid[: out.shape[0], : out.shape[1]] + 0.5
    assert x0 + scale * (out * xs).sum() / out.sum() == pytest.approx(1108, abs=0.5)
    assert y0 + scale * (out * ys).sum() / out.sum() == pytest.approx(708, abs=0.5)


def test_the_nearest_finer_level_is_read() -> None:
    slide = slide_of(pyramid([1, 2, 4]))
    assert [slide.level_for(mpp) for mpp in (0.1, 0.25, 0.48, 0.495, 0.9, 0.985, 1.0, 8.0)] == [0, 0, 0, 1, 1, 2, 2, 2]


@pytest.mark.parametrize("mpp", [0.25, 0.31, 1.0, 3.0])
def test_beyond_the_border_is_white(mpp: float) -> None:
    dark = ArrayReader([np.full((90, 130, 3), 10, np.uint8), np.full((45, 65, 3), 10, np.uint8)])
    slide = slide_of(dark)
    assert (slide.read(Box(-500, -500, -300, -300), mpp) == 255).all()
    assert (slide.read(Box(130, 0, 180, 50), mpp) == 255).all()
    inside = slide.read(Box(0, 0, 130, 90), mpp)
    assert (inside == 10).all(), "no white may bleed in"
    across = slide.read(Box(-130, 0, 130, 90), mpp)
    assert across[:, : across.shape[1] // 2 - 1].min() == 255
    assert across[:, across.shape[1] // 2 + 1 :].max() == 10


def test_a_level_short_of_a_pixel_leaves_no_white_line() -> None:
    reader = ArrayReader([np.full((101, 203, 3), 60, np.uint8), np.full((25, 50, 3), 60, np.uint8)])
    slide = slide_of(reader)
    assert slide.facts.levels[1].downsample == 4
    assert (slide.read(Box(0, 0, 203, 101), 1.0) == 60).all()


def test_coordinates_begin_at_the_content() -> None:
    base = textured(600, 800)
    whole = slide_of(ArrayReader([base, shrink(base, 2)]))
    part = slide_of(ArrayReader([base, shrink(base, 2)], bounds=(101, 60, 500, 400)))
    assert (part.width, part.height, part.facts.bounds_offset) == (500, 400, (101, 60))
    for mpp in (0.25, 0.5, 0.6):
        inner = Box(10, 20, 310, 220)
        moved = Box(111, 80, 411, 280)
        assert np.array_equal(part.read(inner, mpp), whole.read(moved, mpp))
    assert (part.read(Box(-50, 0, 0, 50)) == 255).all()
    assert (part.read(Box(500, 0, 550, 50)) == 255).all()


@settings(deadline=None, max_examples=50)
@given(st.floats(-50, 700), st.floats(-50, 500), st.floats(0.3, 300), st.floats(0.3, 300), st.floats(0.1, 5))
def test_the_size_is_the_one_promised(x: float, y: float, width: float, height: float, mpp: float) -> None:
    slide = slide_of(ArrayReader([np.zeros((600, 800, 3), np.uint8), np.zeros((300, 400, 3), np.uint8)]))
    box = Box(x, y, x + width, y + height)
    expected = (max(1, round(box.height * 0.25 / mpp)), max(1, round(box.width * 0.25 / mpp)), 3)
    assert slide.read(box, mpp).shape == expected


def test_a_large_region_is_read_in_parts() -> None:
    base = np.zeros((3000, 9000, 3), np.uint8)
    base[:, 4000:] = 200
    reader = ArrayReader([base])
    overview, downsample = slide_of(reader).overview(300)
    assert max(reader.reads) <= 4200**2
    assert overview.shape == (100, 300, 3)
    assert downsample == pytest.approx(30)
    assert overview[:, 134:].min() == 200
    assert overview[:, :133].max() == 0


@pytest.mark.parametrize(
    ("longest", "downsamples", "expected"),
    [
        (1250, [1, 4, 16], 1.0),  # not enlarged
        (5000, [1, 4, 16], 4.0),  # a level as it is
        (12_000, [1, 4, 16], 8.0),  # means of whole pixels of one
        (7000, [1, 4, 16], 7000 / 1600),  # none gives a picture that is large enough
        (20_000, [1], 13.0),
    ],
)
def test_an_overview_is_made_of_whole_pixels_of_a_level_where_that_will_do(
    longest: int, downsamples: list[int], expected: float
) -> None:
    sizes = [(longest // d, longest // 2 // d) for d in downsamples]
    reader = ArrayReader(
        [np.broadcast_to(np.uint8(d), (high, wide, 3)) for d, (wide, high) in zip(downsamples, sizes, strict=True)]
    )
    overview, downsample = slide_of(reader).overview(1600)
    assert downsample == pytest.approx(expected)
    assert overview.shape[1] == math.ceil(longest / expected - 1e-6)
    used = max(d for d in downsamples if d <= expected)
    assert (overview[:400, :400] == used).all()


class Frozen(ArrayReader):
    """Gives read-only views of what it keeps, as Pillow's arrays and a plug-in's cache are."""

    def __init__(self, levels: list[Pixels]) -> None:
        super().__init__(levels)
        for level in levels:
            level.setflags(write=False)


@pytest.mark.parametrize("mpp", [0.125, 0.25, 0.31, 0.5, 0.75, 1.0, 3.0, 4.0, 8.0])
@pytest.mark.parametrize("box", [Box(0, 0, 512, 384), Box(-64, -64, 192, 192), Box(3.3, 4.4, 300, 200)])
def test_what_is_read_is_the_callers_own(mpp: float, box: Box) -> None:
    """Whatever the factor: painting on it neither fails nor changes what is read next."""
    slide = slide_of(Frozen([textured(600, 800)]))
    pixels = slide.read(box, mpp)
    before = pixels.copy()
    assert pixels.flags.writeable
    pixels[...] = 255
    assert np.array_equal(slide.read(box, mpp), before)
    assert not np.shares_memory(pixels, slide.read(box, mpp))


@pytest.mark.parametrize("reader", ["openslide", "tiff", "image"])
@pytest.mark.parametrize("mpp", [0.25, 0.5, 1.0])
def test_so_it_is_with_every_reader(tmp_path: Path, reader: str, mpp: float) -> None:
    path = tmp_path / ("field.png" if reader == "image" else "slide.tif")
    if reader == "image":
        Image.fromarray(textured(300, 400)).save(path)
    else:
        write_pyramid(path, textured(300, 400), 0.25, (1,), compression=None)
    with open_slide(path, mpp=0.25, reader=reader) as slide:
        pixels, overview = slide.read(Box(0, 0, 256, 256), mpp), slide.overview(100)[0]
        before = slide.read(Box(0, 0, 256, 256), mpp)
        for made in (pixels, overview):
            assert made.flags.writeable
            made[...] = 0
        assert np.array_equal(slide.read(Box(0, 0, 256, 256), mpp), before)


@pytest.mark.parametrize("box", [Box(0, 0, 0, 5), Box(5, 5, 1, 9)])
def test_a_region_needs_a_size(box: Box) -> None:
    with pytest.raises(ValueError, match="positive"):
        slide_of(pyramid([1])).read(box)


class Patchy(ArrayReader):
    """Level 0 is undecodable in its top left corner."""

    def read_level(self, level: int, x: int, y: int, width: int, height: int) -> Pixels:
        if x < 300 and y < 300:
            raise RegionError("array.tif: damaged")
        return super().read_level(level, x, y, width, height)


def test_an_overview_goes_round_what_is_damaged() -> None:
    slide = Slide(Path("array.tif"), Patchy([np.full((2048, 2048, 3), 250, np.uint8)]))
    pixels, readable, _ = slide.survey(4.0)
    assert 0.5 < readable.mean() < 1
    assert (pixels[~readable] == 128).all()
    assert (pixels[readable] == 250).all()
    with pytest.raises(RegionError):
        slide.read(Box(200, 200, 400, 400))
    assert slide.read(Box(400, 400, 500, 500)).min() == 250


def test_a_reader_that_lies_about_its_pixels_is_caught() -> None:
    reader = ArrayReader([np.zeros((50, 50, 3), np.uint8)])
    reader.read_level = lambda *_: np.zeros((3, 3, 3), np.uint8)  # type: ignore[method-assign]
    with pytest.raises(RegionError, match="the reader 'array' gave"):
        slide_of(reader).read(Box(0, 0, 10, 10))


def test_a_closed_slide_says_so(tmp_path: Path) -> None:
    path = write_pyramid(tmp_path / "a.tif", textured(300, 300))
    with open_slide(path) as slide:
        assert slide.read(Box(0, 0, 10, 10)).shape == (10, 10, 3)
    with pytest.raises(SlideError, match=r"a\.tif is closed"):
        slide.read(Box(0, 0, 10, 10))
    slide.close()
