"""Cells sought on every focal plane: two that lie one above the other are two, one that two planes show is one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from focal_planes import SIZE, DarkNuclei, cell
from numpy.typing import NDArray

from stride_monai.errors import RegionError
from stride_monai.inferers import slide_detection
from stride_monai.inferers.slide_detection import SlideDetectionInferer
from stride_monai.slides import Slide, open_slide
from stride_monai.slides.crops import crop_around, in_focus
from stride_monai.transforms import TopKCellPatches
from stride_monai.units import Box

ABOVE, BELOW, BOTH = (300, 300), (309, 300), (600, 800)  # middles of nuclei; the first two lie one above the other


def planes_of() -> list[NDArray[np.uint8]]:
    planes = [np.full((*SIZE, 3), 238, np.uint8) for _ in range(2)]
    for plane, (x, y) in zip(planes, (ABOVE, BELOW), strict=True):
        cell(plane, x, y)
        cell(plane, *BOTH)
    return planes


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("union") / "stack.ome.tif"
    how = {"tile": (256, 256), "compression": "deflate", "metadata": {"axes": "ZYXS"}}
    tifffile.imwrite(path, np.stack(planes_of()), **how)
    return path


@pytest.fixture(scope="module")
def stack(path: Path) -> Slide:
    return open_slide(path, 0.5, plane="union")


def middles(boxes: NDArray[np.float64]) -> set[tuple[int, int]]:
    return {(round(x), round(y)) for x, y in (boxes[:, :2] + boxes[:, 2:]) / 2}


def near(found: set[tuple[int, int]], place: tuple[int, int]) -> int:
    return sum(np.hypot(x - place[0], y - place[1]) < 3 for x, y in found)


@pytest.mark.parametrize("on_cpu", [True, False])
def test_cells_of_all_planes_are_found_each_once(
    path: Path, stack: Slide, on_cpu: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slide_detection, "_on_cpu", lambda network: on_cpu)
    inferer = SlideDetectionInferer(tile_mpp=0.5, batch_size=3)
    found = inferer(stack, DarkNuclei())
    assert len(found.boxes) == 3
    assert [near(middles(found.boxes), place) for place in (ABOVE, BELOW, BOTH)] == [1, 1, 1]
    assert found.candidates > 3, "what both planes show was found twice"
    with open_slide(path, 0.5, plane="sharpest") as merged:
        seen = inferer(merged, DarkNuclei())
    assert near(middles(seen.boxes), ABOVE) + near(middles(seen.boxes), BELOW) < 2, "merged, they are no two cells"
    assert (found.tiles_read, found.estimated_cells, found.focus) == (seen.tiles_read, seen.estimated_cells, seen.focus)


def test_a_cell_is_shown_on_the_plane_on_which_it_is_sharpest(stack: Slide) -> None:
    # A box of no more than the upper nucleus, and one of no more than the lower.
    boxes = np.array([[294, 294, 301, 306], [308, 294, 315, 306], [590, 790, 610, 810]], float)
    bag = TopKCellPatches(3, 64, 0.5)(stack, boxes, np.array([0.9, 0.8, 0.7]))
    for row, (plane, box) in enumerate(zip((0, 1, 0), boxes, strict=True)):
        wanted = crop_around(stack.planes[plane], *Box(*box.tolist()).center, 64, 0.5)
        np.testing.assert_array_equal(bag.images[row].permute(1, 2, 0).numpy(), wanted)


def test_what_one_plane_lacks_is_unreadable(path: Path, stack: Slide, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_slide(path, 0.5, plane="union") as damaged:

        def fails(*_: object) -> None:
            raise RegionError("gone")

        monkeypatch.setattr(damaged.planes[1], "read", fails)
        found = SlideDetectionInferer(tile_mpp=0.5)(damaged, DarkNuclei())
        assert found.unreadable > 0
        assert found.tiles_read == len(found.boxes) == 0
        bag = TopKCellPatches(1, 64, 0.5)(damaged, [[590, 790, 610, 810]], [0.9])
        assert bag.unreadable == 1


def test_a_slide_of_one_picture_is_its_own_plane(path: Path, stack: Slide) -> None:
    with open_slide(path, 0.5) as one:
        assert one.planes == ()
        assert in_focus(one, Box(0, 0, 9, 9), 0.5) is one
    assert len(stack.planes) == 2
    assert in_focus(stack, Box(300, 300, 300, 300), 0.5) in stack.planes, "a box may be a point"
    assert stack.notes[-1].startswith("cells were sought on each plane")


def test_closing_closes_the_planes(path: Path) -> None:
    with open_slide(path, 0.5, plane="union") as slide:
        plane = slide.planes[1]
        plane.read(Box(0, 0, 9, 9))
    with pytest.raises(Exception, match="is closed"):
        plane.read(Box(0, 0, 9, 9))
