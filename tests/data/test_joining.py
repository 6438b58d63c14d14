"""Cohorts that were joined: what is kept, what is told apart, what is refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from stride_monai.cli.main import app
from stride_monai.data.cells import CellRecord, read_cells, read_regions, write_cells, write_regions
from stride_monai.data.datalists import cell_crops
from stride_monai.data.joining import join_cohorts
from stride_monai.data.manifest import SlideRecord, own_columns, read_manifest, write_manifest
from stride_monai.errors import ManifestError, OutputError
from stride_monai.units import Box

RUN = CliRunner()


def cohort(folder: Path, *ids: str, others: dict[str, list[str]] | None = None, **facts: Any) -> Path:
    """A cohort of pictures with two cells each."""
    folder.mkdir(parents=True, exist_ok=True)
    facts = {"mpp": 0.5, "split": "train", **facts}
    for name in ids:
        Image.new("RGB", (60, 60), "white").save(folder / f"{name}.png")
    records = [SlideRecord(name, folder / f"{name}.png", **facts) for name in ids]
    write_manifest(folder / "manifest.csv", records, others=others or {})
    cells = [CellRecord(name, str(k), 10, 10, 30 + k, 30, ("NILM", "LSIL")[k]) for name in ids for k in range(2)]
    write_cells(folder / "cells.csv", cells)
    return folder


def test_slides_cells_regions_and_columns_of_all_are_in_the_joined_cohort(tmp_path: Path) -> None:
    a = cohort(tmp_path / "a", "s1", "s2", others={"stain": ["x", "y"]}, centre="A", patient="p1")
    b = cohort(tmp_path / "b", "s3", split="test", specimen="q")
    write_regions(b, [("s3", Box(0, 0, 50, 50))])
    (b / "import.json").write_text(json.dumps({"title": "B", "license": "CC BY 4.0", "citation": "me", "counts": {}}))

    facts = join_cohorts([a, b], tmp_path / "c")
    records = {record.slide_id: record for record in read_manifest(tmp_path / "c" / "manifest.csv")}
    assert {key: record.source for key, record in records.items()} == {"s1": "a", "s2": "a", "s3": "b"}
    assert records["s1"].path == a / "s1.png", "images stay where they are"
    assert (records["s1"].centre, records["s1"].patient, records["s1"].split) == ("A", "p1", "train")
    assert (records["s3"].centre, records["s3"].specimen, records["s3"].split) == (None, "q", "test")
    assert read_regions(tmp_path / "c") == {"s3": [Box(0, 0, 50, 50)]}
    assert [cell.slide_id for cell in read_cells(tmp_path / "c" / "cells.csv")] == ["s1", "s1", "s2", "s2", "s3", "s3"]
    assert own_columns(tmp_path / "c" / "manifest.csv") == {"stain": ["x", "y", ""]}
    written = json.loads((tmp_path / "c" / "import.json").read_text())
    assert written == facts
    assert written["sources"]["b"] == {"title": "B", "license": "CC BY 4.0", "citation": "me", "counts": {}}
    assert "not stated" in written["sources"]["a"]["license"]
    assert written["warnings"] == []
    assert {item["source"] for item in cell_crops(tmp_path / "c", "train")} == {"a"}

    third = cohort(tmp_path / "d", "s4")
    facts = join_cohorts([tmp_path / "c", third], tmp_path / "e")
    assert list(facts["sources"]) == ["a", "b", "d"], "what was joined before keeps its sources"
    assert facts["counts"]["images_by_source"] == {"a": 2, "b": 1, "d": 1}


def test_names_that_two_cohorts_have_are_told_apart(tmp_path: Path) -> None:
    a = cohort(tmp_path / "a", "s1", "s2", patient="7", centre="A", specimen="x")
    b = cohort(tmp_path / "b", "S1", "s3", patient="7", centre="B", specimen="x")
    facts = join_cohorts([a, b], tmp_path / "c")
    records = read_manifest(tmp_path / "c" / "manifest.csv")
    assert [record.slide_id for record in records] == ["a-s1", "s2", "b-S1", "s3"]
    assert [record.patient for record in records] == ["a-7", "a-7", "b-7", "b-7"]
    assert [record.specimen for record in records] == ["a-x", "a-x", "b-x", "b-x"]
    assert {cell.slide_id for cell in read_cells(tmp_path / "c" / "cells.csv")} == {"a-s1", "s2", "b-S1", "s3"}
    assert ["1 slide ids occur in more than one cohort" in warning for warning in facts["warnings"]] == [True]


def test_a_patient_of_one_centre_stays_one_woman(tmp_path: Path) -> None:
    a = cohort(tmp_path / "a", "s1", patient="7", centre="A")
    b = cohort(tmp_path / "b", "s2", patient="7", centre="A", split="test")
    facts = join_cohorts([a, b], tmp_path / "c")
    assert [record.patient for record in read_manifest(tmp_path / "c" / "manifest.csv")] == ["7", "7"]
    assert "patient '7' are in different splits" in facts["warnings"][0]
    with pytest.raises(ManifestError, match="different splits"):
        cell_crops(tmp_path / "c", "train")
    assert RUN.invoke(app, ["data", "split", str(tmp_path / "c"), "--overwrite"]).exit_code == 0
    records = read_manifest(tmp_path / "c" / "manifest.csv")
    assert len({record.split for record in records}) == 1
    assert [record.source for record in records] == ["a", "b"], "a new split keeps the sources"


def test_what_cannot_be_joined_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    a, b = cohort(tmp_path / "a", "s1"), cohort(tmp_path / "b", "s2")
    same = cohort(tmp_path / "x" / "A", "s9")
    with pytest.raises(ManifestError, match="nothing to join"):
        join_cohorts([a], tmp_path / "c")
    with pytest.raises(ManifestError, match="two cohorts are named"):
        join_cohorts([a, same], tmp_path / "c")
    with pytest.raises(ManifestError, match="one of the cohorts"):
        join_cohorts([a, b], a, overwrite=True)
    with (b / "manifest.csv").open("a", newline="") as stream:
        csv.writer(stream).writerow(["again", str(a / "s1.png"), "0.5", "", "", "", "train"])
    with pytest.raises(ManifestError, match="is an image of 'a' and of 'b'"):
        join_cohorts([a, b], tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_the_command_says_what_it_joined(tmp_path: Path) -> None:
    a, b = cohort(tmp_path / "a", "s1"), cohort(tmp_path / "b", "s2", split=None)
    command = ["data", "join", str(a), str(b), "--out", str(tmp_path / "c")]
    done = RUN.invoke(app, command, env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    assert "splits: none 1, train 1" in done.output
    assert "images of b are in no split" in done.output
    again = RUN.invoke(app, command)
    assert isinstance(again.exception, OutputError) or "holds a manifest.csv already" in again.output
    assert RUN.invoke(app, [*command, "--overwrite"]).exit_code == 0
