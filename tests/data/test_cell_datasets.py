"""Cells of bags as a data set; labelled crops of a cohort as bags."""

from __future__ import annotations

import pickle
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bundle_cohort import make_cohort
from monai.data import DataLoader

from stride_monai.bethesda import CELL_CLASSES
from stride_monai.data import datalists
from stride_monai.data.bags.bag import BagCell, BagFile, BagHeader, decode_crop, encode_crop, write_bag
from stride_monai.data.bags.labeled import write_labeled_bags
from stride_monai.data.datasets.cells import BagCells, CellBatch, collate_cells, decode_threads
from stride_monai.errors import BagError, ManifestError
from stride_monai.transforms.loading import LoadBagd, LoadCellCropd
from stride_monai.units import Box

SIDE = 40
LABELS = ["NILM", None, "LSIL", "AGC", None]


def make_bag(folder: Path, name: str, labels: list[str | None], side: int = SIDE) -> Path:
    rng = np.random.default_rng(len(name) + len(labels))
    coarse = rng.integers(0, 255, (len(labels), 5, 5, 3), dtype=np.uint8)
    crops = coarse.repeat(side // 5, 1).repeat(side // 5, 2)
    cells = [
        BagCell(1 - 0.1 * k, Box(10 * k, 0, 10 * k + 8, 8), encode_crop(crop), label)
        for k, (crop, label) in enumerate(zip(crops, labels, strict=True))
    ]
    path = folder / f"{name}.bag.arrow"
    write_bag(path, BagHeader(name, 0.25, 0.5, side, 64), cells)
    return path


@pytest.fixture
def bags(tmp_path: Path) -> list[Path]:
    return [make_bag(tmp_path, "a", LABELS), make_bag(tmp_path, "second", ["ASC-US", None, "NILM"])]


def test_every_cell_of_every_bag_is_a_sample(bags: list[Path]) -> None:
    cells = BagCells(bags)
    assert len(cells) == len(cells.data) == 8
    for index, (bag, row) in enumerate([(bags[0], r) for r in range(5)] + [(bags[1], r) for r in range(3)]):
        sample = cells[index]
        assert (sample["slide_id"], sample["rank"]) == (BagFile(bag).header.slide_id, row + 1)
        assert sample["image"].dtype == torch.uint8
        np.testing.assert_array_equal(sample["image"].permute(1, 2, 0), BagFile(bag).image(row))
    assert cells.known_labels().tolist() == [0, -1, 2, 4, -1, 1, -1, 0]
    assert [sample["rank"] for sample in BagCells(bags, top_k=2).data] == [1, 2, 1, 2]


def test_a_batch_is_the_samples_one_by_one_whatever_the_threads(bags: list[Path]) -> None:
    order = [6, 0, 3, 3, 7]
    for workers in (1, 3):
        cells = BagCells([{"bag": str(path), "label": 0} for path in bags], workers=workers)
        for sample, index in zip(cells.__getitems__(order), order, strict=True):
            torch.testing.assert_close(sample["image"], cells[index]["image"])
    batch = next(iter(DataLoader(BagCells(bags), batch_size=8, num_workers=0)))
    assert batch["image"].shape == (8, 3, SIDE, SIDE)
    assert batch["slide_id"] == ["a"] * 5 + ["second"] * 3


def test_batches_are_the_same_in_worker_processes_and_without_a_copy(bags: list[Path]) -> None:
    cells = BagCells(bags, workers=2)
    here = collate_cells(cells.__getitems__([5, 1, 2]))  # its threads run already when the workers fork
    (there,) = DataLoader(cells, batch_size=3, sampler=[5, 1, 2], collate_fn=collate_cells, num_workers=1)
    torch.testing.assert_close(there["image"], here["image"])
    assert here["rank"].tolist() == there["rank"].tolist() == [1, 2, 3]
    assert here["slide_id"] == there["slide_id"] == ["second", "a", "a"]
    again = pickle.loads(pickle.dumps(cells))
    torch.testing.assert_close(again[5]["image"], here["image"][0])
    plain = collate_cells([cells[5], cells[1], cells[2]])
    torch.testing.assert_close(plain["image"], here["image"])


def test_memory_is_used_again_only_where_nothing_refers_to_it(bags: list[Path]) -> None:
    cells = BagCells(bags, workers=1)
    places = set()
    for _ in range(4):
        batch = cells.__getitems__([0, 1, 2])  # the batch before is held until the name is bound anew
        places.add(batch.images.data_ptr())
    assert len(places) == 2
    part, whole = batch.images[1:], batch.images.clone()
    del batch
    later = [cells.__getitems__([5, 6, 7]) for _ in range(3)]
    torch.testing.assert_close(part, whole[1:], rtol=0, atol=0)
    assert len({batch.images.data_ptr() for batch in later}) == 3


HOLD: dict[str, Callable[[CellBatch], Any]] = {
    "the batch": lambda batch: batch,
    "a part of it": lambda batch: batch[1:],
    "a sample": lambda batch: batch[0],
    "a transposed picture": lambda batch: batch.images[-1].permute(1, 2, 0),
    "an array": lambda batch: batch.images.numpy()[:, ::2],
    "what is collated": collate_cells,
}


@pytest.mark.parametrize("what", HOLD)
def test_a_block_in_use_is_never_overwritten(bags: list[Path], what: str) -> None:
    """Whoever still has any part of a batch finds it as it was, however many batches are made meanwhile."""

    def content(held: Any) -> bytes:
        pixels = held.images if isinstance(held, CellBatch) else held["image"] if isinstance(held, dict) else held
        return np.asarray(pixels).tobytes()

    cells, random = BagCells(bags, workers=2), np.random.default_rng(0)
    held: list[tuple[Any, bytes]] = []
    for step in range(60):
        indices = random.integers(0, len(cells), random.integers(2, 7)).tolist()  # smaller ones take larger blocks too
        one = HOLD[what](cells.__getitems__(indices))
        held.append((one, content(one)))
        assert all(content(part) == before for part, before in held)
        if step % 3 == 2:
            del held[random.integers(len(held))]


def test_blocks_are_not_given_back_while_threads_still_write(bags: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread fails on a damaged crop; the other goes on writing when the error is out."""
    cells, begun, go_on, done = BagCells(bags, workers=2), *(threading.Event() for _ in range(3))
    decode = cells._decode

    def slow(indices: list[int], pictures: Any) -> None:
        if 0 in indices:
            begun.wait(10)
            raise BagError("damaged", "make it again")
        begun.set()
        go_on.wait(10)
        decode(indices, pictures)
        done.set()

    monkeypatch.setattr(cells, "_decode", slow)
    with pytest.raises(BagError, match="damaged"):
        cells.__getitems__([0, 5])
    monkeypatch.setattr(cells, "_decode", decode)
    batch = cells.__getitems__([1, 2])
    before = batch.images.clone()
    go_on.set()
    assert done.wait(10)
    torch.testing.assert_close(batch.images, before, rtol=0, atol=0)


def test_larger_crops_are_cut_in_the_middle_as_bags_are(bags: list[Path]) -> None:
    whole = LoadBagd(top_k=5, crop_px=24, crop_mpp=0.5)({"bag": str(bags[0])})["image"]
    cells = BagCells(bags[:1], crop_px=24, crop_mpp=0.5)
    torch.testing.assert_close(torch.stack([cells[k]["image"] for k in range(5)]), whole)


def test_labeled_cells_alone_with_their_class(bags: list[Path]) -> None:
    cells = BagCells(bags, labeled=True)
    assert [sample["label"] for sample in cells.data] == [0, 2, 4, 1, 0]
    assert [sample["rank"] for sample in cells.data] == [1, 3, 4, 1, 3]
    assert cells[2]["label"] == CELL_CLASSES.index("AGC")


def test_what_does_not_fit_is_refused(bags: list[Path], tmp_path: Path) -> None:
    with pytest.raises(BagError, match="not 48 px"):
        BagCells(bags, crop_px=48)
    with pytest.raises(BagError, match=r"not 40 px at 0.25 um/px"):
        BagCells(bags, crop_mpp=0.25)
    other = make_bag(tmp_path, "larger", ["NILM"], side=60)
    with pytest.raises(BagError, match="no labelled cell"):
        BagCells([make_bag(tmp_path, "unknown", [None, None])], labeled=True)
    assert BagCells([*bags, other])[8]["image"].shape == (3, SIDE, SIDE)  # its middle, as the first bag's crops are
    with pytest.raises(BagError, match="no cell in 0 bags"):
        BagCells([])


def test_a_damaged_crop_is_named(bags: list[Path]) -> None:
    content = bytearray(bags[0].read_bytes())
    jpeg = BagFile(bags[0]).jpeg(2)
    place = bytes(content).find(jpeg)
    content[place : place + 20] = bytes(20)
    bags[0].write_bytes(bytes(content))
    with pytest.raises(BagError, match="rank 3"):
        BagCells(bags).__getitems__([0, 1, 2])


def test_open_bags_hold_no_file_handles(bags: list[Path]) -> None:
    """A cohort has more slides than a process may open files."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    cells = BagCells(bags * 50)
    assert len(list(Path("/proc/self/fd").iterdir())) < before + 10
    assert cells[399]["image"].float().std() > 0


def test_decoding_into_a_buffer() -> None:
    crop = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    out = np.zeros_like(crop)
    jpeg = encode_crop(crop)
    assert decode_crop(jpeg, out) is out
    np.testing.assert_array_equal(out, decode_crop(jpeg))
    with pytest.raises(BagError, match="damaged"):
        decode_crop(jpeg, np.zeros((8, 8, 3), np.uint8))


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cohort(tmp_path_factory.mktemp("cohort") / "cohort")


def test_crops_of_a_cohort_are_those_that_training_would_read(cohort: Path, tmp_path: Path) -> None:
    written = write_labeled_bags(cohort, tmp_path / "crops", crop_px=64, random_negatives=5, seed=3)
    load = LoadCellCropd(crop_px=64, crop_mpp=0.5)
    total = 0
    for split, extra in (("train", 5), ("validation", 0), ("test", 0)):
        items = datalists.cell_crops(cohort, split, extra, seed=3)
        found = BagCells(datalists.labeled_bags(tmp_path / "crops", cohort, split), labeled=True)
        assert len(found) == len(items)
        total += len(items)
        by_place = {(item["slide_id"], *item["centre"]): item for item in items}
        for bag in found._bags:
            for row, centre in enumerate(bag.centres.tolist()):
                item = by_place.pop((bag.header.slide_id, *centre))
                assert bag.cell_class(row) == CELL_CLASSES[item["label"]]
                if row % 6 == 0:
                    crop = load(item)["image"].permute(1, 2, 0).numpy()
                    np.testing.assert_array_equal(bag.image(row), decode_crop(encode_crop(crop)))
        assert not by_place
    assert written == total == 9 * 16 + 5
    assert datalists.cell_counts(cohort, "test") == {"NILM": 32, "ASC-US": 0, "LSIL": 8, "ASC-H/HSIL": 8, "AGC": 0}


def test_bags_that_are_there_are_kept_unless_the_crops_are_others(cohort: Path, tmp_path: Path) -> None:
    write_labeled_bags(cohort, tmp_path, crop_px=32)
    path = tmp_path / "train-LSIL.bag.arrow"
    first = path.stat().st_mtime_ns
    write_labeled_bags(cohort, tmp_path, crop_px=32)
    assert path.stat().st_mtime_ns == first
    path.write_bytes(path.read_bytes()[:1000])
    write_labeled_bags(cohort, tmp_path, crop_px=32)
    assert len(BagFile(path)) == 16
    write_labeled_bags(cohort, tmp_path, crop_px=48)
    assert BagFile(path).header.crop_px == 48


def test_a_missing_bag_is_an_error_that_says_what_to_do(cohort: Path, tmp_path: Path) -> None:
    write_labeled_bags(cohort, tmp_path, crop_px=32)
    (tmp_path / "train-HSIL.bag.arrow").unlink()
    assert len(datalists.labeled_bags(tmp_path, cohort, "test")) == 3
    with pytest.raises(BagError, match=r"train-HSIL.*crops\.json"):
        datalists.labeled_bags(tmp_path, cohort, "train")
    copy = Path(shutil.copytree(cohort, tmp_path / "copy", ignore=shutil.ignore_patterns("slides", "bags")))
    (copy / "cells.csv").unlink()
    assert len(datalists.labeled_bags(tmp_path, copy, "train")) == 2  # nothing says that there should be more
    with pytest.raises(BagError, match="3 slides of split 'train'"):
        datalists.labeled_bags(tmp_path / "nowhere", copy, "train")
    (copy / "manifest.csv").write_text("slide_id,path\na,a.svs\n")
    (copy / "cells.csv").write_text("slide_id,x0,y0,x1,y1,label\na,0,0,5,5,LSIL\n")
    with pytest.raises(ManifestError, match="split"):
        write_labeled_bags(copy, tmp_path)


def test_centres_of_slides(cohort: Path) -> None:
    assert datalists.slide_centres(cohort)["test-LSIL"] == "A"
    assert len(datalists.slide_centres(cohort)) == 9


def test_processes_that_load_decode_by_one_thread_each() -> None:
    assert (decode_threads(0), decode_threads(4)) == (None, 1)
