"""The lists that bundles train on: complete, placed right, and never across splits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from slide_files import Scene

from stride_monai.bethesda import CELL_CLASSES, SLIDE_CLASSES
from stride_monai.data import BagCell, BagHeader, CellRecord, SlideRecord, encode_crop, write_bag, write_cells
from stride_monai.data.datalists import (
    bags_with_cells,
    cell_crops,
    class_counts,
    detection_tiles,
    lesion_slides,
    slide_bags,
    slides,
)
from stride_monai.data.manifest import write_manifest
from stride_monai.data.tiles import of_one_size
from stride_monai.errors import BagError, ManifestError, SlideError
from stride_monai.slides import open_slide
from stride_monai.units import Box

MPP = 1.0
SIDE = 1200  # level-0 px of a test slide; more than 1 mm, so that it is no single field of view


def _cells(slide_id: str, count: int, seed: int, label: str = "HSIL") -> list[CellRecord]:
    random = np.random.default_rng(seed)
    corners = random.uniform(0, SIDE - 40, (count, 2))
    sizes = random.uniform(8, 30, (count, 2))
    return [
        CellRecord(slide_id, str(k), x, y, x + w, y + h, label)
        for k, ((x, y), (w, h)) in enumerate(zip(corners, sizes, strict=True))
    ]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cohort")
    (folder / "slides").mkdir()
    records, cells = [], []
    rows = [("hsil", "HSIL", "train"), ("lsil", "LSIL", "train"), ("nilm", "NILM", "train")]
    rows += [("nilm2", "NILM", "train"), ("plain", None, "train"), ("v", "HSIL", "validation"), ("t", "NILM", "test")]
    for seed, (name, label, split) in enumerate(rows):
        scene = Scene(SIDE * MPP, SIDE * MPP, MPP, seed=seed)
        scene.deposit(600, 600, 300, 250)
        path = scene.write(folder / "slides" / f"{name}.tif", downsamples=(1,))
        records.append(SlideRecord(name, path, None, f"P-{name}", "A", label, split))
    cells += _cells("hsil", 30, 1) + _cells("lsil", 5, 2, "LSIL") + _cells("v", 7, 3, "ASC-H/HSIL")
    cells += _cells("nilm", 4, 4, "NILM")
    write_manifest(folder / "manifest.csv", records)
    write_cells(folder / "cells.csv", cells)
    return folder


def test_slides_of_a_split_or_all(cohort: Path) -> None:
    assert [item["slide_id"] for item in slides(cohort)] == ["hsil", "lsil", "nilm", "nilm2", "plain", "v", "t"]
    assert slides(str(cohort), "val") == [
        {"image": str(cohort / "slides" / "v.tif"), "mpp": None, "slide_id": "v"},
    ]


def test_every_positive_cell_lies_wholly_in_a_tile(cohort: Path) -> None:
    tiles = detection_tiles(cohort, "train", tile_px=256, tile_mpp=0.5, negatives_per_positive=0)
    assert {tile["slide_id"] for tile in tiles} == {"hsil", "lsil"}
    for cell in _cells("hsil", 30, 1) + _cells("lsil", 5, 2, "LSIL"):
        own = [Box(*tile["box"]) for tile in tiles if tile["slide_id"] == cell.slide_id]
        assert any(box.intersection(cell.box) == cell.box for box in own)


def test_boxes_of_a_tile_are_its_cells_in_tile_pixels(cohort: Path) -> None:
    cells = {"hsil": _cells("hsil", 30, 1), "lsil": _cells("lsil", 5, 2, "LSIL")}
    for tile in detection_tiles(cohort, "train", tile_px=256, tile_mpp=0.5, negatives_per_positive=0):
        box = Box(*tile["box"])
        assert tile["mpp"] == pytest.approx(MPP)
        assert box.width == pytest.approx(128)  # 256 px of 0.5 um are 128 px of 1 um
        assert box.height == pytest.approx(128)
        assert min(box) >= 0
        assert max(box) <= SIDE + 1e-6
        expected = []
        for cell in cells[tile["slide_id"]]:
            x0, x1 = max(cell.x0, box.x0), min(cell.x1, box.x1)
            y0, y1 = max(cell.y0, box.y0), min(cell.y1, box.y1)
            shown = max(x1 - x0, 0) * max(y1 - y0, 0) / ((cell.x1 - cell.x0) * (cell.y1 - cell.y0))
            if shown >= 0.3:
                expected.append([2 * (x0 - box.x0), 2 * (y0 - box.y0), 2 * (x1 - box.x0), 2 * (y1 - box.y0)])
        assert len(expected) >= 1
        np.testing.assert_allclose(tile["boxes"], expected, atol=1e-6)


def test_tiles_say_what_share_of_each_cell_they_show(cohort: Path) -> None:
    cells = {"hsil": _cells("hsil", 30, 1), "lsil": _cells("lsil", 5, 2, "LSIL")}
    every = detection_tiles(cohort, "train", tile_px=256, tile_mpp=0.5, negatives_per_positive=0, min_visible=0)
    usual = detection_tiles(cohort, "train", tile_px=256, tile_mpp=0.5, negatives_per_positive=0)
    for tile, without_slivers in zip(every, usual, strict=True):
        box = Box(*tile["box"])
        shares = [box.intersection(cell.box).area / cell.box.area for cell in cells[tile["slide_id"]]]
        assert tile["visible"] == pytest.approx([share for share in shares if share > 0])
        pairs = zip(tile["boxes"], tile["visible"], strict=True)
        assert [shown for shown, share in pairs if share >= 0.3] == without_slivers["boxes"]
    seen = [share for tile in every for share in tile["visible"]]
    assert seen.count(1.0) >= 35, "every cell is whole in a tile"
    assert min(seen) < 0.3


def test_cells_in_boxes_of_one_size(cohort: Path) -> None:
    """Squares of 20 um about the middles; where a nucleus was outlined, about that."""
    cells = {"hsil": _cells("hsil", 30, 1), "lsil": _cells("lsil", 5, 2, "LSIL")}
    seen = 0
    for tile in detection_tiles(cohort, "train", tile_px=256, tile_mpp=0.5, negatives_per_positive=0, box_um=20):
        box = Box(*tile["box"])
        whole = [Box(*of) for of, share in zip(tile["boxes"], tile["visible"], strict=True) if share == 1.0]
        middles = [((of.center[0]) / 2 + box.x0, of.center[1] / 2 + box.y0) for of in whole]
        own = np.array([cell.box.center for cell in cells[tile["slide_id"]]])
        for of, middle in zip(whole, middles, strict=True):
            assert (of.width, of.height) == pytest.approx((40, 40))
            assert np.linalg.norm(own - middle, axis=1).min() < 1e-6
        seen += len(whole)
    assert seen >= 35
    slides_of = {item["slide_id"]: item["boxes"] for item in lesion_slides(cohort, "val", box_um=20)}
    for found, cell in zip(slides_of["v"], _cells("v", 7, 3), strict=True):
        assert found == pytest.approx(Box.around(*cell.box.center, 20 / MPP))
    eccentric = CellRecord("s", "1", 0, 0, 60, 40, "LSIL", nucleus=((40, 10), (50, 10), (50, 30), (40, 30)))
    assert of_one_size([eccentric], 16)[0].box == Box(37, 12, 53, 28)


def test_negative_tiles_are_on_the_deposit_of_negative_slides(cohort: Path) -> None:
    tiles = detection_tiles(cohort, "train", tile_px=256, tile_mpp=0.5, negatives_per_positive=0.5)
    positive = [tile for tile in tiles if tile["boxes"]]
    negative = [tile for tile in tiles if not tile["boxes"]]
    assert len(negative) == round(len(positive) / 2)
    share = [sum(tile["slide_id"] == name for tile in negative) for name in ("nilm", "nilm2")]
    assert sum(share) == len(negative)
    assert abs(share[0] - share[1]) <= 1
    dark = 0
    with open_slide(cohort / "slides" / "nilm.tif") as slide:
        for tile in negative:
            if tile["slide_id"] == "nilm":
                x, y = Box(*tile["box"]).center
                assert (x - 600) ** 2 + (y - 600) ** 2 < 420**2
                dark += int(slide.read(Box(*tile["box"])).min() < 150)
    assert dark >= 0.7 * share[0]


def test_tiles_are_the_same_again_and_others_with_another_seed(cohort: Path) -> None:
    first = detection_tiles(cohort, "train", tile_px=256, tile_mpp=0.5)
    assert detection_tiles(cohort, "train", tile_px=256, tile_mpp=0.5) == first
    other = detection_tiles(cohort, "train", tile_px=256, tile_mpp=0.5, seed=1)
    assert other != first
    assert detection_tiles(cohort, "train", tile_px=256, tile_mpp=0.5, layouts=2) == first + other


def test_a_slide_smaller_than_a_tile_is_one_tile_at_its_corner(cohort: Path) -> None:
    tiles = detection_tiles(cohort, "validation", tile_px=2048, tile_mpp=1.0, negatives_per_positive=0)
    assert len(tiles) == 1
    assert tiles[0]["box"] == pytest.approx((0, 0, 2048, 2048))
    assert len(tiles[0]["boxes"]) == 7


def test_a_split_without_positive_cells_is_refused(cohort: Path) -> None:
    with pytest.raises(ManifestError, match="no positive cell"):
        detection_tiles(cohort, "test")
    with pytest.raises(ManifestError, match="no labelled cell"):
        cell_crops(cohort, "test")


def test_cells_become_crops_with_class_indices(cohort: Path) -> None:
    items = cell_crops(cohort, "train")
    assert class_counts(items) == {"NILM": 4, "ASC-US": 0, "LSIL": 5, "ASC-H/HSIL": 30, "AGC": 0}
    cell = _cells("lsil", 5, 2, "LSIL")[0]
    assert items[30] == {
        "image": str(cohort / "slides" / "lsil.tif"),
        "mpp": None,
        "centre": pytest.approx(cell.box.center),
        "label": CELL_CLASSES.index("LSIL"),
        "slide_id": "lsil",
        "cell_id": "0",
    }


def test_random_negatives_come_from_negative_slides_only(cohort: Path) -> None:
    items = cell_crops(cohort, "train", random_negatives=9)
    extra = items[39:]
    assert len(extra) == 9
    assert {item["slide_id"] for item in extra} == {"nilm", "nilm2"}
    assert {item["label"] for item in extra} == {0}
    assert len({item["centre"] for item in extra}) == 9
    assert cell_crops(cohort, "train", random_negatives=9) == items


def test_no_negative_slide_gives_no_random_negatives_and_says_so(
    cohort: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert len(cell_crops(cohort, "validation", random_negatives=5)) == 7
    assert "no slide labelled NILM" in caplog.text


def _copy(cohort: Path, folder: Path, old: str, new: str, name: str = "cells.csv") -> Path:
    for file in ("manifest.csv", "cells.csv"):
        text = (cohort / file).read_text()
        (folder / file).write_text(text.replace(old, new) if file == name else text)
    return folder


def test_contradictions_between_the_tables_are_refused(cohort: Path, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"cells\.csv names slide 'nix'"):
        cell_crops(_copy(cohort, tmp_path, "lsil,0,", "nix,0,"), "train")
    with pytest.raises(ManifestError, match="slide 'nilm' is labelled NILM, its cell '4' is"):
        cell_crops(_copy(cohort, tmp_path, "lsil,4,", "nilm,4,"), "train")
    with pytest.raises(ManifestError, match="'P-hsil' are in different splits"):
        slides(_copy(cohort, tmp_path, "P-v,", "P-hsil,", "manifest.csv"))


def test_folders_without_tables_and_empty_splits_are_refused(cohort: Path, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"manifest\.csv is a file, not a folder"):
        cell_crops(cohort / "manifest.csv", "train")
    with pytest.raises(ManifestError, match=r"no manifest\.csv in"):
        slides(tmp_path)
    _copy(cohort, tmp_path, "", "")
    (tmp_path / "cells.csv").unlink()
    with pytest.raises(ManifestError, match=r"cells\.csv does not exist"):
        cell_crops(tmp_path, "train")
    with pytest.raises(ManifestError, match="unknown split 'holdout'"):
        slides(cohort, "holdout")
    _copy(cohort, tmp_path, ",test", ",train", "manifest.csv")
    with pytest.raises(ManifestError, match="no slide in split 'test'"):
        slides(tmp_path, "test")
    with pytest.raises(SlideError):
        detection_tiles(tmp_path, "train")  # the slides are not here


def _bag(folder: Path, slide_id: str, cells: int) -> Path:
    path = folder / f"{slide_id}.bag.arrow"
    cell = BagCell(0.5, Box(0, 0, 8, 8), encode_crop(np.zeros((8, 8, 3), np.uint8)))
    folder.mkdir(exist_ok=True)
    write_bag(path, BagHeader(slide_id, MPP, 1.0, 8, 4), [cell] * cells)
    return path


def test_bags_get_the_labels_of_their_slides(cohort: Path, tmp_path: Path) -> None:
    paths = {name: _bag(tmp_path / name, name, 2) for name in ("v", "t", "hsil")}
    assert slide_bags(tmp_path, cohort, "validation") == [
        {"bag": str(paths["v"]), "label": SLIDE_CLASSES.index("HSIL"), "slide_id": "v"}
    ]
    assert slide_bags(tmp_path, cohort / "manifest.csv", "test")[0]["label"] == 0


def test_missing_empty_and_double_bags(cohort: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = _copy(cohort, tmp_path, "plain.tif,,P-plain,A,,", "plain.tif,,P-plain,A,NILM,", "manifest.csv")
    store = tmp_path / "bags"
    store.mkdir()
    _bag(store, "hsil", 1)
    _bag(store, "lsil", 0)
    with pytest.raises(BagError, match="4 of 5 slides have no bag with cells"):
        slide_bags(store, folder, "train")
    assert [item["slide_id"] for item in slide_bags(store, folder, "train", allow_missing=True)] == ["hsil"]
    assert "4 slides without a bag" in caplog.text
    with pytest.raises(BagError, match=r"none of the 5 slides has a bag with cells in '.*nowhere'.*--bag_dir"):
        slide_bags(store / "nowhere", folder, "train", allow_missing=True)
    with pytest.raises(ManifestError, match=r"no manifest\.csv in .*nowhere, since there is no such folder"):
        slide_bags(store, folder / "nowhere", "train")
    _bag(store / "again", "hsil", 1)
    with pytest.raises(BagError, match="two bags of 'hsil'"):
        slide_bags(store, folder, "train")
    with pytest.raises(ManifestError, match="'plain' has no slide_class"):
        slide_bags(store, cohort, "train")


def test_empty_bags_are_left_out_of_tables(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    full, bare = _bag(tmp_path, "full", 1), _bag(tmp_path, "bare", 0)
    assert bags_with_cells(tmp_path) == [{"bag": str(full), "slide_id": "full"}]
    assert "1 slides whose bags hold no cell are left out: ['bare']" in caplog.text
    with pytest.raises(BagError, match=r"none of the 1 bags holds a cell, e\.g\. that of slide 'bare': .*min_score"):
        bags_with_cells(bare)
