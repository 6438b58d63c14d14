"""Tile grids: geometry holds for every slide, um/px and origin."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stride_monai.slides import TileGrid

lengths = st.integers(1, 9000)
origins = st.tuples(st.floats(-20_000, 20_000), st.floats(-20_000, 20_000))


@st.composite
def grids(draw: st.DrawFn) -> TileGrid:
    tile_px = draw(st.sampled_from([128, 256, 512]))
    return TileGrid(
        draw(lengths),
        draw(lengths),
        slide_mpp=draw(st.floats(0.2, 1.0)),
        tile_mpp=draw(st.sampled_from([0.5, 1.0, 2.0])),
        tile_px=tile_px,
        overlap_px=draw(st.integers(0, tile_px // 2)),
        origin=draw(origins),
    )


@given(grids(), st.data())
def test_every_small_square_lies_whole_in_a_tile(grid: TileGrid, data: st.DataObject) -> None:
    overlap = grid.overlap_px * grid.tile_mpp / grid.slide_mpp
    side = data.draw(st.floats(0, min(overlap, grid.width, grid.height)))
    x = data.draw(st.floats(0, grid.width - side))
    y = data.draw(st.floats(0, grid.height - side))
    slack = 1e-6
    assert any(
        tile.box.x0 <= x + slack
        and x + side <= tile.box.x1 + slack
        and tile.box.y0 <= y + slack
        and y + side <= tile.box.y1 + slack
        for tile in grid
    )


@given(grids())
def test_tiles_are_numbered_alike_and_needed(grid: TileGrid) -> None:
    tiles = list(grid)
    assert [tile.index for tile in tiles] == list(range(len(grid)))
    assert len(tiles) == grid.columns * grid.rows
    slack = 1e-6 * grid.side
    for tile in tiles:
        assert tile.box.width == pytest.approx(grid.side)
        assert tile.box.x1 > -slack
        assert tile.box.x0 < grid.width + slack
        assert round(tile.box.width * grid.slide_mpp / grid.tile_mpp) == grid.tile_px


@given(grids())
def test_neighbors_share_the_overlap(grid: TileGrid) -> None:
    tiles = list(grid)
    if grid.columns > 1:
        shared = tiles[0].box.x1 - tiles[1].box.x0
        assert shared * grid.slide_mpp / grid.tile_mpp == pytest.approx(grid.overlap_px, abs=1e-4)


def test_defaults_are_those_of_the_detector() -> None:
    grid = TileGrid(4000, 2000, slide_mpp=0.25)
    assert (grid.side, grid.step) == (2048, 1792)
    assert (grid.columns, grid.rows) == (3, 1)


@pytest.mark.parametrize("overlap", [-1, 512, 600])
def test_impossible_overlaps_are_refused(overlap: int) -> None:
    with pytest.raises(ValueError, match="overlap"):
        TileGrid(100, 100, 0.25, overlap_px=overlap)
