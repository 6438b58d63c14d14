"""What an import may replace in a folder, and what stays whatever happens."""

from __future__ import annotations

import json
import os
from pathlib import Path

import dataset_samples as samples
import pytest
from imports import HEADER, one_field, run_import

from stride_monai.data import read_cells, read_manifest
from stride_monai.data.splits import split_cohort
from stride_monai.errors import ManifestError, OutputError


def test_a_cohort_is_replaced_only_on_request_and_then_wholly(tmp_path: Path) -> None:
    source, out = one_field(tmp_path / "in", "aa.png,1,LSIL,50,60\n"), tmp_path / "out"
    own = samples.text(out / "cells.csv", "made by hand\n")
    for overwrite in (False, True):
        with pytest.raises(OutputError, match=r"holds cells\.csv, not written by stride-monai"):
            run_import("cric", source, out, overwrite=overwrite)
    own.unlink()
    run_import("cric", source, out, complete=True)
    split_cohort(out)
    with pytest.raises(OutputError, match=r"holds a manifest\.csv already"):
        run_import("cric", source, out)
    before = (out / "cells.csv").read_bytes()
    samples.text(source / "classifications.csv", HEADER + "aa.png,1,LSIL,nan,60\n")
    with pytest.raises(ManifestError, match="non-finite nucleus_x nan"):
        run_import("cric", source, out, overwrite=True)
    assert (out / "cells.csv").read_bytes() == before  # what is refused destroys nothing
    samples.text(source / "classifications.csv", HEADER + "aa.png,1,LSIL,50,60\n")
    run_import("cric", source, out, overwrite=True)
    names = {"manifest.csv", "cells.csv", "labels.json", "import.json"}
    assert {path.name for path in out.iterdir()} == {*names, "files.json"}
    assert set(json.loads((out / "files.json").read_text())["files"]) == names


@pytest.mark.parametrize("name", ["labels.json", "manifest.csv", "problems.csv", "split.json", "files.json"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_what_another_tool_wrote_is_never_replaced(tmp_path: Path, name: str, overwrite: bool) -> None:
    """Not even in the source itself, and where the import is refused."""
    source = one_field(tmp_path / "in", "aa.png,1,LSIL,50,60\n")
    (source / name).write_text('{"labels": ["LSIL"]}' if name.endswith("json") else "image,label\naa.png,LSIL\n")
    before = {path.name: path.read_bytes() for path in source.iterdir()}
    with pytest.raises(OutputError, match=name) as refused:
        run_import("cric", source, source, overwrite=overwrite)
    assert "--overwrite" not in str(refused.value), "no advice that leads to a loss"
    assert {path.name: path.read_bytes() for path in source.iterdir()} == before


def test_problems_of_an_import_before_are_replaced_and_those_of_a_user_not(tmp_path: Path) -> None:
    source, out = one_field(tmp_path / "in", "aa.png,1,LSIL,nan,60\n"), tmp_path / "out"
    for _ in range(2):
        with pytest.raises(ManifestError):
            run_import("cric", source, out)
    assert [path.name for path in out.iterdir()] == ["problems.csv"]
    (out / "problems.csv").write_text("my notes\n")
    with pytest.raises(OutputError, match=r"problems\.csv"):
        run_import("cric", source, out)
    assert (out / "problems.csv").read_text() == "my notes\n"


def test_a_table_that_somebody_filled_in_is_not_replaced(tmp_path: Path) -> None:
    source, out = one_field(tmp_path / "in", "aa.png,1,LSIL,50,60\n"), tmp_path / "out"
    run_import("cric", source, out)
    (out / "notes.txt").write_text("mine")
    mine = (out / "manifest.csv").read_text().replace("\naa,", "\naa ,")
    (out / "manifest.csv").write_text(mine)
    with pytest.raises(OutputError, match=r"holds manifest\.csv, not written by stride-monai or changed since"):
        run_import("cric", source, out, overwrite=True)
    assert (out / "manifest.csv").read_text() == mine
    (out / "manifest.csv").unlink()
    run_import("cric", source, out, overwrite=True)
    assert (out / "notes.txt").read_text() == "mine"


def test_a_cohort_without_a_list_is_known_by_what_it_holds(tmp_path: Path) -> None:
    """As versions before wrote them."""
    source, out = one_field(tmp_path / "in", "aa.png,1,LSIL,50,60\n"), tmp_path / "out"
    run_import("cric", source, out)
    split_cohort(out)
    (out / "files.json").unlink()
    run_import("cric", source, out, overwrite=True)
    assert not (out / "split.json").exists()


def test_an_import_that_stopped_halfway_can_be_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, out = one_field(tmp_path / "in", "aa.png,1,LSIL,50,60\n"), tmp_path / "out"
    run_import("cric", source, out)
    real = os.replace

    def stops(source: Path, target: Path) -> None:
        if Path(target) == out / "labels.json":
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(os, "replace", stops)
    with pytest.raises(KeyboardInterrupt):
        run_import("cric", source, out, overwrite=True, point_um=3.0)
    assert not (out / "manifest.csv").exists(), "where it stands, the cohort is complete"
    monkeypatch.undo()
    run_import("cric", source, out, overwrite=True, point_um=3.0)
    assert read_manifest(out / "manifest.csv")


def test_text_that_a_spreadsheet_would_calculate_comes_back_as_it_was(tmp_path: Path) -> None:
    source, out = one_field(tmp_path / "in", "aa.png,1,LSIL,50,60\n"), tmp_path / "out"
    (source / "aa.png").rename(source / "=cmd.png")
    samples.text(source / "classifications.csv", HEADER + "=cmd.png,1,LSIL,50,60\n")
    run_import("cric", source, out, centre="@home", own_map=None)
    text = (out / "manifest.csv").read_text()
    assert "'=cmd," in text
    assert "'@home" in text
    (record,) = read_manifest(out / "manifest.csv")
    assert (record.slide_id, record.centre) == ("=cmd", "@home")
    assert {cell.slide_id for cell in read_cells(out / "cells.csv")} == {"=cmd"}


@pytest.mark.parametrize("name", ["tianchi", "coco", "riva", "yolo"])
def test_a_cohort_beside_the_annotations_is_none_of_them(name: str, tmp_path: Path) -> None:
    source = getattr(samples, name)(tmp_path / "in")
    first = run_import(name, source, source / "cohort", skip=True)
    again = run_import(name, source, source / "cohort", skip=True, overwrite=True)
    assert (again.counts, again.problems, again.warnings) == (first.counts, first.problems, first.warnings)
