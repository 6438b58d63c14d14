"""The audit finds what was planted, and nothing where nothing was."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stride_monai.data import CellRecord, SlideRecord, write_cells, write_manifest
from stride_monai.data.audit import Audit, audit_cohort
from stride_monai.data.near_duplicates import find_twins, to_gray
from stride_monai.errors import ManifestError
from stride_monai.units import Box

MPP = 0.5
SIDE = 512


@cache
def _picture(seed: int) -> np.ndarray:
    """A field of cells like no other: nuclei and cytoplasm of many sizes at random places."""
    rng = np.random.default_rng(seed)
    image = np.full((SIDE, SIDE, 3), (238, 236, 240), np.float32) + rng.normal(0, 2, (SIDE, SIDE, 3))
    y, x = np.mgrid[:SIDE, :SIDE]
    for _ in range(40):
        cx, cy, angle = rng.uniform(60, SIDE - 60), rng.uniform(60, SIDE - 60), rng.uniform(0, np.pi)
        place = np.s_[int(cy) - 50 : int(cy) + 50, int(cx) - 50 : int(cx) + 50]
        part, dy, dx = image[place], y[place] - cy, x[place] - cx
        along, across = np.cos(angle) * dx + np.sin(angle) * dy, np.cos(angle) * dy - np.sin(angle) * dx
        wide, high, nucleus = rng.uniform(20, 45), rng.uniform(15, 35), rng.uniform(5, 13)
        part[(along / wide) ** 2 + (across / high) ** 2 < 1] *= rng.uniform(0.6, 0.95, 3)
        part[along**2 + across**2 < nucleus**2] = rng.uniform(40, 140, 3)
    return image.clip(0, 255).astype(np.uint8)


def _cells(slide_id: str, seed: int, count: int = 8) -> list[CellRecord]:
    places = np.random.default_rng(seed).uniform(60, SIDE - 60, (count, 2))
    return [CellRecord(slide_id, str(k), *Box.around(x, y, 60), "LSIL") for k, (x, y) in enumerate(places)]


def _cohort(folder: Path, records: Sequence[SlideRecord], cells: Sequence[CellRecord]) -> Path:
    write_manifest(folder / "manifest.csv", records)
    write_cells(folder / "cells.csv", cells)
    return folder


@pytest.fixture
def clean(tmp_path: Path) -> tuple[Path, list[SlideRecord], list[CellRecord]]:
    """Six images of six patients, two in each split."""
    records, cells = [], []
    for number, split in enumerate(("train", "train", "validation", "validation", "test", "test")):
        name = f"s{number}"
        Image.fromarray(_picture(number)).save(tmp_path / f"{name}.png")
        records.append(
            SlideRecord(name, tmp_path / f"{name}.png", MPP, f"P{number}", split=split, specimen=f"S{number}")
        )
        cells += _cells(name, number)
    return tmp_path, records, cells


def _kinds(audit: Audit) -> list[tuple[str, tuple[str, ...]]]:
    return [(finding.kind, finding.images) for finding in audit.findings]


def test_a_clean_cohort_has_no_finding(clean: tuple[Path, list[SlideRecord], list[CellRecord]]) -> None:
    audit = audit_cohort(_cohort(*clean))
    assert audit.findings == []
    assert audit.images == {"train": 2, "validation": 2, "test": 2}
    assert audit.cells == 48


def test_patients_and_specimens_on_both_sides(clean: tuple[Path, list[SlideRecord], list[CellRecord]]) -> None:
    folder, records, cells = clean
    records[4] = replace(records[4], patient="P0")
    records[5] = replace(records[5], patient=None, specimen="S2")
    records[3] = replace(records[3], patient="P2")  # the same split: no leak
    audit = audit_cohort(_cohort(folder, records, cells))
    assert _kinds(audit) == [("patient", ("s0", "s4")), ("specimen", ("s2", "s5"))]
    assert audit.findings[0].what == "patient 'P0' is in two splits: s0 (train), s4 (test)"
    assert audit.findings[1].splits == ("validation", "test")


def test_the_same_file_under_another_name(clean: tuple[Path, list[SlideRecord], list[CellRecord]]) -> None:
    folder, records, cells = clean
    (folder / "s5.png").write_bytes((folder / "s0.png").read_bytes())
    audit = audit_cohort(_cohort(folder, records, cells))
    assert _kinds(audit) == [("content", ("s0", "s5"))]


@pytest.mark.parametrize(("quality", "shift", "gain"), [(50, 0, 1.0), (80, 6, 1.0), (70, 4, 0.92)])
def test_a_cell_that_was_copied_recompressed_and_moved(
    clean: tuple[Path, list[SlideRecord], list[CellRecord]], quality: int, shift: int, gain: float
) -> None:
    folder, records, cells = clean
    part = _picture(1)[100:400, 100:400]
    stream = io.BytesIO()
    Image.fromarray((part * gain).astype(np.uint8)).save(stream, "JPEG", quality=quality)
    other = _picture(5).copy()
    other[150:450, 150:450] = np.asarray(Image.open(stream))
    Image.fromarray(other).save(folder / "s5.png")
    cells = [cell for cell in cells if cell.slide_id != "s5"]
    cells += [CellRecord("s1", "copied", *Box.around(250, 250, 60), "HSIL")]
    cells += [CellRecord("s5", "copy", *Box.around(300 + shift, 300 - shift, 60), "HSIL")]
    audit = audit_cohort(_cohort(folder, records, cells))
    assert _kinds(audit) == [("near-duplicate", ("s1", "s5"))]
    (finding,) = audit.findings
    assert finding.cells == (("copied", "copy"),)
    assert finding.correlation is not None
    assert 0.94 <= finding.correlation <= 1.0001
    assert finding.what.startswith("a cell of s1 (train) and s5 (test) look the same, e.g. cells copied and copy")
    assert audit_cohort(folder, looks=False).findings == []
    assert json.loads(json.dumps(audit.to_dict()))["findings"][0]["kind"] == "near-duplicate"


def test_an_image_that_cannot_be_read_is_a_finding(clean: tuple[Path, list[SlideRecord], list[CellRecord]]) -> None:
    folder, records, cells = clean
    (folder / "s2.png").unlink()
    (folder / "s3.png").write_bytes(b"no picture")
    audit = audit_cohort(_cohort(folder, records, cells))
    assert _kinds(audit) == [("unreadable", ("s2",)), ("unreadable", ("s3",))]


def test_a_cohort_without_splits_is_refused(clean: tuple[Path, list[SlideRecord], list[CellRecord]]) -> None:
    folder, records, cells = clean
    with pytest.raises(ManifestError, match="fewer than two splits"):
        audit_cohort(_cohort(folder, [replace(record, split=None) for record in records], cells))
    records[0] = replace(records[0], split=None, patient="P5")
    assert audit_cohort(_cohort(folder, records, cells)).findings == []


def test_cells_that_belong_to_no_image_are_not_passed_over(
    clean: tuple[Path, list[SlideRecord], list[CellRecord]],
) -> None:
    folder, records, cells = clean
    cells[0] = replace(cells[0], slide_id="s9")
    with pytest.raises(ManifestError, match=r"names 1 slides that .* e\.g\. 's9'"):
        audit_cohort(_cohort(folder, records, cells))


def test_empty_glass_is_like_nothing() -> None:
    glass = np.full((4, 64, 64), 240, np.uint8)
    assert find_twins(glass, np.array([0, 0, 1, 1])) == []


def test_twins_of_many_are_found_without_comparing_pictures_one_by_one() -> None:
    rng = np.random.default_rng(0)
    scenes = rng.integers(40, 240, (3000, 18, 18), dtype=np.uint8).repeat(4, axis=1).repeat(4, axis=2)
    thumbs = scenes[:, 4:68, 4:68].copy()
    thumbs[2500:2510] = scenes[100:110, 6:70, 1:65]
    parts = (np.arange(3000) >= 2000).astype(np.int64)
    twins = find_twins(thumbs, parts)
    assert {(twin.first, twin.second) for twin in twins} == {(100 + k, 2500 + k) for k in range(10)}


def test_luminance() -> None:
    assert to_gray(np.array([[[255, 255, 255], [255, 0, 0], [0, 0, 0]]], np.uint8)).tolist() == [[255, 76, 0]]


@pytest.mark.parametrize("turn", range(8))
def test_a_copy_that_was_turned_or_mirrored(turn: int) -> None:
    own = np.stack([to_gray(_picture(seed)[::8, ::8]) for seed in range(6)])
    turned = np.rot90(own[::-1] if turn < 4 else own[::-1, :, ::-1], turn, axes=(1, 2))
    twins = find_twins(np.concatenate([own[:3], turned[:4]]), np.array([0, 0, 0, 2, 2, 2, 2]))
    assert [(twin.first, twin.second) for twin in twins] == [(2, 6)]  # seed 2 on both sides
    assert twins[0].correlation > 0.99


def test_small_pictures_of_one_cell_each(tmp_path: Path) -> None:
    """Cut-out cells with dark nuclei in their middle are alike in all but detail, and so are their frames."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:80, :80] - 39.5
    scenes = np.full((12, 80, 80), 200.0)
    scenes[:, np.hypot(x, y) < 20] = 110
    scenes += rng.normal(0, 14, (12, 20, 20)).repeat(4, axis=1).repeat(4, axis=2)  # chromatin
    records, cells = [], []

    def add(name: str, pixels: np.ndarray, split: str) -> None:
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).convert("RGB").save(tmp_path / f"{name}.jpg", quality=80)
        records.append(SlideRecord(name, tmp_path / f"{name}.jpg", 0.25, split=split))
        cells.append(CellRecord(name, "1", 0, 0, pixels.shape[1], pixels.shape[0], "LSIL"))

    for number, scene in enumerate(scenes):
        add(f"s{number:02}", scene, "train" if number < 8 else "test")
    assert audit_cohort(_cohort(tmp_path, records, cells)).findings == []
    add("copy", np.pad(scenes[3], 4, mode="edge")[5:85, 2:82], "test")  # cut 1 and 2 px beside
    add("mirrored", scenes[5, :, ::-1], "test")
    assert _kinds(audit_cohort(_cohort(tmp_path, records, cells))) == [
        ("near-duplicate", ("s03", "copy")),
        ("near-duplicate", ("s05", "mirrored")),
    ]
