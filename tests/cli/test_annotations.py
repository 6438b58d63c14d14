"""The commands ``stride-monai annotations ...`` as a user types them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from annotation_samples import reviewed
from typer.testing import CliRunner, Result

from stride_monai.annotations import AnnotationError, AnnotationStore, Users
from stride_monai.annotations import users as users_module
from stride_monai.cli.main import app
from stride_monai.data import read_cells, write_manifest
from stride_monai.errors import ConfigError, OutputError

runner = CliRunner()


def annotations(*arguments: object, typed: str | None = None) -> Result:
    return runner.invoke(app, ["annotations", *map(str, arguments)], input=typed)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    store, slides, _ = reviewed(tmp_path / "结果 1")
    store.close()
    write_manifest(tmp_path / "结果 1" / "manifest.csv", slides)
    return tmp_path / "结果 1"


def test_a_cohort_goes_out_and_is_replaced_only_when_asked(folder: Path, tmp_path: Path) -> None:
    done = annotations("export", folder, "--out", tmp_path / "cohort")
    assert done.exit_code == 0, done.output
    assert "2 images, 5 cells" in done.output
    assert len(read_cells(tmp_path / "cohort" / "cells.csv")) == 5
    refused = annotations("export", folder, "--out", tmp_path / "cohort")
    assert isinstance(refused.exception, OutputError)
    done = annotations("export", folder / "annotations.sqlite", "--slides", folder / "manifest.csv", "--overwrite", "--out", tmp_path / "cohort")  # fmt: skip # noqa: E501
    assert done.exit_code == 0, done.output


def test_coco_has_the_size_of_the_slides(folder: Path, tmp_path: Path) -> None:
    done = annotations("export", folder, "--format", "coco", "--out", tmp_path / "a.json")
    assert done.exit_code == 0, done.output
    content = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert [(image["width"], image["height"]) for image in content["images"]] == [(400, 300)] * 2
    (tmp_path / "mine.json").write_text("{}")
    refused = annotations("export", folder, "--format", "coco", "--out", tmp_path / "mine.json", "--overwrite")
    assert isinstance(refused.exception, OutputError)
    assert (tmp_path / "mine.json").read_text() == "{}"


def test_geojson_goes_out_is_corrected_and_comes_back(folder: Path, tmp_path: Path) -> None:
    done = annotations("export", folder, "--format", "geojson", "--out", tmp_path / "q")
    assert done.exit_code == 0, done.output
    file = tmp_path / "q" / "切片 1.geojson"
    content = json.loads(file.read_text(encoding="utf-8"))
    for feature in content["features"]:
        if feature["properties"].get("classification", {}).get("name") == "not_a_lesion":
            feature["properties"]["classification"] = {"name": "HSIL"}
    file.write_text(json.dumps(content), encoding="utf-8")
    done = annotations("import", folder, file, "--annotator", "cy")
    assert done.exit_code == 0, done.output
    with AnnotationStore(folder, create=False) as store:
        assert [action.after for action in store.actions() if action.who == "cy"] == ["HSIL"]
    unknown = file.rename(tmp_path / "other.geojson")
    refused = annotations("import", folder, unknown, "--annotator", "cy")
    assert isinstance(refused.exception, AnnotationError)
    assert annotations("import", folder, unknown, "--annotator", "cy", "--slide", "切片 1").exit_code == 0


def test_agreement_is_shown_and_written(folder: Path, tmp_path: Path) -> None:
    done = annotations("agreement", folder, "--out", tmp_path / "tables")
    assert done.exit_code == 0, done.output
    assert "ana and bo" in done.output
    with (tmp_path / "tables" / "agreement.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["of"], row["statistic"], row["items"]) for row in rows] == [
        ("cells", "cohen", "2"),
        ("cells", "fleiss", "2"),
    ]
    assert annotations("agreement", folder, "--out", tmp_path / "tables", "--overwrite").exit_code == 0


def test_there_is_no_store_by_mistake(tmp_path: Path) -> None:
    for command in (("export", tmp_path, "--out", tmp_path / "o"), ("agreement", tmp_path)):
        assert isinstance(annotations(*command).exception, AnnotationError)
    (tmp_path / "x.sqlite").write_text("no database at all, but longer than the header of one would be" * 40)
    assert isinstance(annotations("agreement", tmp_path / "x.sqlite").exception, AnnotationError)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.sqlite"]


def test_users_come_and_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(users_module, "_COST", (16, 8, 1))
    file = tmp_path / "users.json"
    done = annotations("users", file, "--add", "ana", "--admin", typed="correct horse battery\n")
    assert done.exit_code == 0, done.output
    assert "admin" in done.output
    assert Users(file).with_password("ana", "correct horse battery").name == "ana"
    token = annotations("users", file, "--token", "ana").stdout.strip().splitlines()[-1]
    assert Users(file).with_token(token).name == "ana"
    both = annotations("users", file, "--remove", "ana", "--revoke", "ana")
    assert isinstance(both.exception, ConfigError)
    assert annotations("users", file, "--remove", "ana").exit_code == 0
    assert Users(file).all() == []
