"""Tiles cover every level once, and show what lies there."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from slide_files import textured, write_pyramid

from stride_monai.review.pictures import ByteCache
from stride_monai.review.pyramid import Pyramid, TileOutsideError
from stride_monai.slides import open_slide

sides = st.integers(1, 300_000)


@given(sides, sides, st.sampled_from((64, 512)), st.data())
def test_tiles_cover_a_level_once(width: int, height: int, tile_px: int, data: st.DataObject) -> None:
    pyramid = Pyramid(width, height, tile_px)
    level = data.draw(st.integers(pyramid.min_level, pyramid.max_level))
    scale = 2 ** (pyramid.max_level - level)
    columns, rows = math.ceil(math.ceil(width / scale) / tile_px), math.ceil(math.ceil(height / scale) / tile_px)
    column, row = data.draw(st.integers(0, columns - 1)), data.draw(st.integers(0, rows - 1))
    box = pyramid.box(level, column, row)
    assert (box.x0, box.y0) == (column * tile_px * scale, row * tile_px * scale)
    assert 0 < box.width <= tile_px * scale
    assert box.width % scale == box.height % scale == 0
    if column < columns - 1:
        assert box.x1 == pyramid.box(level, column + 1, row).x0
    else:
        assert width <= box.x1 < width + scale
    for beyond in ((columns, row), (column, rows), (-1, row), (column, -1)):
        with pytest.raises(TileOutsideError):
            pyramid.box(level, *beyond)


@given(sides, sides)
def test_the_coarsest_level_is_one_tile_and_the_finest_the_slide(width: int, height: int) -> None:
    pyramid = Pyramid(width, height)
    whole = pyramid.box(pyramid.min_level, 0, 0)
    assert whole.x1 >= width
    assert whole.y1 >= height
    assert pyramid.scale(pyramid.max_level) == 1
    for level in (pyramid.min_level - 1, pyramid.max_level + 1):
        with pytest.raises(TileOutsideError):
            pyramid.box(level, 0, 0)


def test_a_tile_is_the_mean_of_what_it_shows(tmp_path: Path) -> None:
    """By the array that was written, not by the reader."""
    array = textured(900, 1300, seed=4)
    path = write_pyramid(tmp_path / "s.tiff", array, downsamples=(1,), compression=None)
    pyramid = Pyramid(1300, 900)
    with open_slide(path) as slide:
        level = pyramid.max_level - 1
        box = pyramid.box(level, 1, 0)
        tile = slide.read(box, slide.mpp * pyramid.scale(level))
    part = array[:900, 1024:1300].astype(float)
    wanted = part.reshape(450, 2, 138, 2, 3).mean(axis=(1, 3))
    assert tile.shape == (450, 138, 3)
    assert np.abs(tile - wanted).max() <= 1


def test_coarse_tiles_of_a_flat_file_come_from_one_overview(tmp_path: Path) -> None:
    pytest.importorskip("fastapi")
    from review_samples import findings_of, write_findings

    from stride_monai.review.library import Library
    from stride_monai.review.pictures import Pictures

    array = np.full((6000, 6000, 3), 230, np.uint8)
    array[:3000, :3000] = (120, 40, 90)
    (tmp_path / "slides").mkdir()
    path = write_pyramid(tmp_path / "slides" / "flat.tiff", array, downsamples=(1,), compression="deflate")
    write_findings(tmp_path / "results", findings_of(path, [], side=6000, mpp=0.25))
    pictures = Pictures(Library(tmp_path / "results", tmp_path / "slides"))
    pyramid = Pyramid(6000, 6000)
    tile = np.asarray(Image.open(io.BytesIO(pictures.tile("flat", pyramid.min_level, 0, 0))))
    side = math.ceil(6000 / pyramid.scale(pyramid.min_level))
    assert tile.shape == (side, side, 3)
    half = side // 2
    assert np.abs(tile[: half - 8, : half - 8] - np.array([120.0, 40.0, 90.0])).max() < 12
    assert np.abs(tile[half + 8 :, half + 8 :] - 230.0).max() < 12
    assert len(pictures._overviews) == 1


def test_the_cache_keeps_what_was_used_last_and_never_more_than_it_may() -> None:
    cache = ByteCache(capacity=100)
    made: list[int] = []

    def picture(number: int) -> bytes:
        made.append(number)
        return bytes(40)

    for number in (1, 2, 1, 3, 1, 2):
        assert cache.get((number,), lambda number=number: picture(number)) == bytes(40)  # type: ignore[misc]
        assert cache.size <= 100
    assert made == [1, 2, 3, 2]
