"""Annotated regions: outside them nothing is known, so no tile shows what is there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stride_monai.bethesda import ABNORMAL, UNLABELED
from stride_monai.data import CellRecord, SlideRecord, write_cells, write_manifest
from stride_monai.data.cells import read_regions, write_regions
from stride_monai.data.datalists import cell_crops, detection_tiles
from stride_monai.errors import ManifestError
from stride_monai.transforms.loading import LoadSlideRegiond
from stride_monai.units import Box

MPP = 1.0
WIDE, NARROW = Box(100, 50, 500, 450), Box(700, 600, 750, 640)


def _cell(name: str, x: float, y: float, label: str) -> CellRecord:
    return CellRecord("a", name, *Box.around(x, y, 20), label)


CELLS = [
    _cell("in", 120, 70, "HSIL"),
    _cell("also in", 480, 300, ABNORMAL),
    _cell("in the small one", 720, 620, "LSIL"),
    _cell("outside", 900, 100, "HSIL"),
    _cell("unknown", 300, 250, UNLABELED),
    _cell("negative", 200, 400, "NILM"),
]


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    """A slide of 1 mm with dots everywhere, of which a wide and a small region are annotated, and a negative one."""
    pixels = np.full((900, 1000, 3), 230, np.uint8)
    pixels.reshape(36, 25, 40, 25, 3)[:, 8:18, :, 8:18] = (90, 100, 110)
    for name in ("a", "n"):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    write_manifest(
        tmp_path / "manifest.csv",
        [
            SlideRecord("a", tmp_path / "a.png", MPP, split="train"),
            SlideRecord("n", tmp_path / "n.png", MPP, slide_class="NILM", split="train"),
        ],
    )
    write_cells(tmp_path / "cells.csv", CELLS)
    write_regions(tmp_path, [("a", WIDE), ("a", NARROW), ("n", WIDE)])
    return tmp_path


def test_regions_are_read_as_written_and_absent_ones_are_none(
    cohort: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert read_regions(cohort) == {"a": [WIDE, NARROW], "n": [WIDE]}
    assert read_regions(tmp_path_factory.mktemp("none")) == {}


def test_broken_regions_are_named(tmp_path: Path) -> None:
    (tmp_path / "regions.csv").write_text("slide_id,x0,y0,x1,y1\na,0,0,5,5\na,5,0,5,5\na,nan,0,5,5\n")
    with pytest.raises(ManifestError, match=r"line 3: region .* is empty.*; line 4: invalid number 'nan'"):
        read_regions(tmp_path)
    (tmp_path / "regions.csv").write_text("slide_id,x0,y0,x1\n")
    with pytest.raises(ManifestError, match="no column y1"):
        read_regions(tmp_path)


def test_tiles_stay_inside_a_region_and_negatives_keep_off_what_is_marked(
    cohort: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tiles = detection_tiles(cohort, "train", tile_px=64, tile_mpp=1.0, negatives_per_positive=20)
    assert "1 positive cells lie outside its annotated regions" in caplog.text
    positive = [tile for tile in tiles if tile["boxes"]]
    negative = [tile for tile in tiles if not tile["boxes"]]
    assert len(positive) == 3
    assert len(negative) == 60
    marked = [cell.box for cell in CELLS if cell.positive or cell.label == UNLABELED]
    small = 0
    for tile in tiles:
        box = Box(*tile["box"])
        if tile["limits"] is None:
            assert box.intersection(WIDE).area == pytest.approx(box.area)
        else:
            small += 1
            assert Box(*tile["limits"]) == NARROW
        if not tile["boxes"] and tile["slide_id"] == "a":
            assert not any(box.intersection(other).area for other in marked)
    assert small == 1
    assert {tile["slide_id"] for tile in negative} == {"a", "n"}


def test_what_lies_beyond_a_small_region_is_white(cohort: Path) -> None:
    tiles = detection_tiles(cohort, "train", tile_px=64, tile_mpp=1.0, negatives_per_positive=0)
    (tile,) = [tile for tile in tiles if tile["limits"]]
    pixels = LoadSlideRegiond("image", mpp=1.0)(tile)["image"].numpy()
    assert pixels.shape == (3, 64, 64)
    assert set(np.unique(pixels[:, :40, :50])) == {90, 100, 110, 230}
    assert (pixels[:, 40:] == 255).all()
    assert (pixels[:, :, 50:] == 255).all()
    assert tile["boxes"] == [pytest.approx([10, 10, 30, 30])]


def test_cells_without_a_class_train_no_classifier_and_are_counted(
    cohort: Path, caplog: pytest.LogCaptureFixture
) -> None:
    items = cell_crops(cohort, "train", random_negatives=10)
    assert sorted(item["cell_id"] for item in items if item["slide_id"] == "a") == sorted(
        ["in", "in the small one", "outside", "negative"]
    )
    assert "2 marked cells have no class" in caplog.text
    random = [item for item in items if item["slide_id"] == "n"]
    assert len(random) == 10
    for item in random:
        x, y = item["centre"]
        assert WIDE.x0 <= x < WIDE.x1
        assert WIDE.y0 <= y < WIDE.y1
