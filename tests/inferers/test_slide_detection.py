"""The slide inferer with a detector that sees coloured squares perfectly."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from torch import Tensor

from stride_monai.errors import ConfigError, RegionError
from stride_monai.inferers.slide_detection import SlideDetectionInferer, TileDetectionInferer
from stride_monai.inferers.tile_quality import count_nuclei, measure_tile, sharpness, stain_density
from stride_monai.networks.detection.detector import TileDetections, YoloDetector
from stride_monai.slides import Slide, open_slide
from stride_monai.units import Box

SIDE, MPP = 900, 0.5
needs_yolo = pytest.mark.skipif(find_spec("ultralytics") is None, reason="needs the extra yolo")


class SquareDetector:
    """Finds the dark squares of a tile; the score of each is its darkness."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def detect(
        self, image: Tensor, min_score: float = 0.0, max_per_tile: int = 500, nms_iou: float = 0.5
    ) -> list[TileDetections]:
        self.shapes.append(tuple(image.shape))
        assert image.dtype == torch.uint8
        return [self._one(tile[1].numpy()) for tile in image]

    def _one(self, green: NDArray[np.uint8]) -> TileDetections:
        labels, count = ndimage.label(green < 200)
        boxes = [(c.start, r.start, c.stop, r.stop) for r, c in ndimage.find_objects(labels)]
        # the darkest pixel: the rim of a square may be blended with the background
        scores = [1 - float(green[labels == i + 1].min()) / 255 for i in range(count)]
        return TileDetections(torch.tensor(boxes).reshape(-1, 4).float(), torch.tensor(scores))


@pytest.fixture(scope="module")
def squares() -> NDArray[np.float64]:
    """Level-0 boxes on a lattice of 4 px, apart from each other, 20 to 40 px wide."""
    random = np.random.default_rng(1)
    cells = [
        (x, y, x + s, y + s)
        for gx in range(0, SIDE - 80, 80)
        for gy in range(0, SIDE - 80, 80)
        for x, y, s in [(gx + 4 * random.integers(0, 8), gy + 4 * random.integers(0, 8), 4 * random.integers(5, 11))]
    ]
    return np.array(cells, np.float64)


@pytest.fixture(scope="module")
def slide(squares: NDArray[np.float64], tmp_path_factory: pytest.TempPathFactory) -> Slide:
    image = np.full((SIDE, SIDE, 3), 240, np.uint8)
    for place, (x0, y0, x1, y1) in enumerate(squares.astype(int)):
        image[y0:y1, x0:x1] = np.array((10, 20, 30)) + place
    path = tmp_path_factory.mktemp("slide") / "squares.png"
    Image.fromarray(image).save(path)
    return open_slide(path, mpp=MPP)


def inferer(**options: object) -> SlideDetectionInferer:
    return SlideDetectionInferer(**({"tile_px": 128, "overlap_px": 32, "tile_mpp": 1.0} | options))  # type: ignore[arg-type]


def test_every_square_once_and_ranked(slide: Slide, squares: NDArray[np.float64]) -> None:
    progress: list[tuple[int, int]] = []
    found = inferer()(slide, SquareDetector(), progress=lambda done, of: progress.append((done, of)))
    assert sorted(map(tuple, found.boxes.tolist())) == sorted(map(tuple, squares.tolist()))
    assert found.boxes.tolist() == squares.tolist()  # the first drawn is the darkest
    assert (np.diff(found.scores) <= 0).all()
    assert found.boxes.dtype == found.scores.dtype == np.float64
    assert found.tiles_read == progress[-1][0] == progress[-1][1] == 25
    assert found.tiles_read + found.tiles_skipped == len(inferer().grid(slide))
    assert found.unreadable == 0
    assert found.candidates > len(squares)
    assert {"foreground", "read", "detect", "rank"} <= set(found.seconds)


@pytest.mark.parametrize("origin", [(-17.0, -90.0), (-64.0, -2.0), (33.0, 150.0), (-1.0, -1.0)])
def test_does_not_depend_on_where_the_grid_starts(slide: Slide, origin: tuple[float, float]) -> None:
    # an even start keeps squares on whole tile pixels, an odd one blends their rims
    plain, moved = inferer()(slide, SquareDetector()), inferer(origin=origin)(slide, SquareDetector())
    assert len(plain.boxes) == len(moved.boxes)
    tolerance = 0 if all(o % 2 == 0 for o in origin) else 2.0
    assert np.abs(plain.boxes - moved.boxes).max() <= tolerance
    np.testing.assert_array_equal(plain.scores, moved.scores)


def test_keeps_the_best(slide: Slide, squares: NDArray[np.float64]) -> None:
    found = inferer(top_k=7)(slide, SquareDetector())
    assert found.boxes.tolist() == squares[:7].tolist()


@pytest.mark.parametrize("region", [Box(300, 200, 620, 700), Box(0, 0, 450, 900), Box(410.5, 333.3, 555, 444.4)])
def test_a_region_has_the_cells_of_the_whole_slide_in_it(slide: Slide, region: Box) -> None:
    whole, part = inferer()(slide, SquareDetector()), inferer()(slide, SquareDetector(), region=region)
    middle = (whole.boxes[:, :2] + whole.boxes[:, 2:]) / 2
    inside = (middle >= region[:2]).all(axis=1) & (middle < region[2:]).all(axis=1)
    assert 0 < inside.sum() < len(inside)
    assert part.boxes.tolist() == whole.boxes[inside].tolist()
    assert part.scores.tolist() == whole.scores[inside].tolist()
    assert 0 < part.tiles_read < whole.tiles_read, "the other tiles are not read"
    assert part.foreground.area_mm2 < whole.foreground.area_mm2
    assert part.estimated_cells <= whole.estimated_cells


def test_the_whole_slide_as_a_region_is_the_slide(slide: Slide) -> None:
    whole = inferer()(slide, SquareDetector())
    same = inferer()(slide, SquareDetector(), region=Box(0, 0, SIDE, SIDE))
    assert same.boxes.tolist() == whole.boxes.tolist()
    assert (same.tiles_read, same.tiles_skipped) == (whole.tiles_read, whole.tiles_skipped)
    assert same.foreground.area_mm2 == whole.foreground.area_mm2


@pytest.mark.parametrize(
    ("region", "why"),
    [
        (Box(10, 10, 10, 50), "is empty"),
        (Box(50, 10, 10, 50), "is empty"),
        (Box(0, 0, float("nan"), 50), "is non-finite"),
        (Box(0, 0, float("inf"), 50), "is non-finite"),
        (Box(-1, 0, 50, 50), "is not within its 900 x 900 px"),
        (Box(0, 0, 50, 900.5), "is not within its 900 x 900 px"),
    ],
)
def test_a_region_that_is_none_is_refused(slide: Slide, region: Box, why: str) -> None:
    detector = SquareDetector()
    with pytest.raises(ConfigError, match=rf"slide 'squares' {why}: give x0, y0, x1, y1 in level-0 px"):
        inferer()(slide, detector, region=region)
    assert not detector.shapes


def test_batches_on_an_accelerator_are_filled_up(
    slide: Slide, squares: NDArray[np.float64], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stride_monai.inferers.slide_detection._on_cpu", lambda network: False)
    detector = SquareDetector()
    found = inferer(batch_size=4)(slide, detector)
    assert set(detector.shapes) == {(4, 3, 128, 128)}
    assert found.boxes.tolist() == squares.tolist()


def test_unreadable_tiles_are_counted_and_the_rest_goes_on(slide: Slide, monkeypatch: pytest.MonkeyPatch) -> None:
    read = slide.read

    def broken(box: Box, mpp: float | None = None) -> NDArray[np.uint8]:
        if box.x0 == box.y0 == 0 and mpp == 1.0:
            raise RegionError("squares.png is damaged at 0, 0")
        return read(box, mpp)

    monkeypatch.setattr(slide, "read", broken)
    found = inferer()(slide, SquareDetector())
    assert found.unreadable == 1
    assert found.tiles_read == 24
    assert 0 < len(found.boxes) < 121


def test_slide_without_cells(tmp_path: Path) -> None:
    Image.fromarray(np.full((600, 600, 3), 255, np.uint8)).save(tmp_path / "blank.png")
    with open_slide(tmp_path / "blank.png", mpp=0.5) as blank:
        found = inferer()(blank, SquareDetector())
    assert found.boxes.shape == (0, 4)
    assert found.tiles_read == found.estimated_cells == 0
    assert found.focus == 0.0


def test_cell_larger_than_a_tile_is_found(tmp_path: Path) -> None:
    image = np.full((800, 800, 3), 240, np.uint8)
    image[100:600, 150:650] = (20, 30, 40)
    Image.fromarray(image).save(tmp_path / "large.png")
    with open_slide(tmp_path / "large.png", mpp=0.5) as large:
        found = inferer()(large, SquareDetector())
    assert len(found.boxes) >= 4


@needs_yolo
def test_yolo_gives_the_same_whatever_the_batch_size(slide: Slide) -> None:
    torch.manual_seed(0)
    network = YoloDetector("yolov5n").eval()
    options = {"min_score": 0.0, "max_per_tile": 20}
    one, many = (inferer(batch_size=size, **options)(slide, network) for size in (1, 7))
    np.testing.assert_array_equal(one.boxes, many.boxes)
    np.testing.assert_array_equal(one.scores, many.scores)
    assert len(one.boxes) > 20
    assert (one.boxes >= 0).all()
    assert (one.boxes <= SIDE).all()


@needs_yolo
def test_loose_tiles() -> None:
    network = YoloDetector("yolov5n").eval()
    found = TileDetectionInferer(min_score=0.0, max_per_tile=5)(torch.rand(2, 3, 64, 64), network)
    assert [len(d.scores) for d in found] == [5, 5]


# --- quality ---------------------------------------------------------------------------------------------------------


def cells(count: int, radius: float, cytoplasm: float = 14, seed: int = 0) -> NDArray[np.uint8]:
    """A tile at 1 um/px with nuclei in cytoplasm, or (cytoplasm 0) on the bare glass."""
    image = np.full((512, 512, 3), 240, np.uint8)
    y, x = np.mgrid[:512, :512]
    random = np.random.default_rng(seed)
    places = random.permutation([(i, j) for i in range(20, 500, 32) for j in range(20, 500, 32)])[:count]
    for size, color in ((cytoplasm, (170, 200, 210)), (radius, (90, 80, 140))):
        for cy, cx in places:
            image[(y - cy) ** 2 + (x - cx) ** 2 < size**2] = color
    return image


@pytest.mark.parametrize("radius", [2.5, 4, 6])
def test_counts_nuclei(radius: float) -> None:
    assert count_nuclei(cells(100, radius), 1.0) == 100
    assert count_nuclei(cells(0, radius), 1.0) == 0


def test_nuclei_without_cytoplasm_are_not_counted() -> None:
    assert count_nuclei(cells(100, 5, cytoplasm=0), 1.0) == 0


def test_the_density_of_the_stain_is_that_of_its_formula() -> None:
    tile = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    density = -np.log10((tile[::4, ::4].reshape(-1, 3).astype(np.float64) + 1) / 256)
    mean = density.mean(axis=1)
    stained = density[mean - min(np.percentile(mean, 2), 0.06) > 0.05]
    found = measure_tile(tile, 1.0)
    assert (found.sharpness, found.stain, found.nuclei) == (
        sharpness(tile),
        stain_density(tile),
        count_nuclei(tile, 1.0),
    )
    assert found.stain == pytest.approx(stained.mean(axis=0), abs=1e-5)


def test_a_tile_without_glass() -> None:
    tile = cells(100, 4)
    tile[(tile == 240).all(axis=2)] = (170, 200, 210)
    assert count_nuclei(tile, 1.0) == 100


def test_overlapping_cores_count_each_nucleus_once() -> None:
    tile = cells(150, 4)
    halves = [count_nuclei(tile, 1.0, core) for core in ((0, 0, 255, 512), (255, 0, 512, 512))]
    assert sum(halves) == 150


def test_sharpness_falls_with_blur() -> None:
    tile = cells(100, 4)
    blurred = ndimage.gaussian_filter(tile, (2, 2, 0))
    assert sharpness(tile) > 5 * sharpness(blurred) > 0
