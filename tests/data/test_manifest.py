"""Manifests: what is read, what is refused and on which line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stride_monai.data import SlideRecord, read_manifest, write_manifest
from stride_monai.errors import ManifestError


def _write(folder: Path, text: str, name: str = "manifest.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_only_the_path_is_required_and_it_is_relative_to_the_manifest(tmp_path: Path) -> None:
    records = read_manifest(_write(tmp_path, "path\nslides/a.svs\n/abs/b.tiff\n"))
    assert records == [
        SlideRecord("a", tmp_path.resolve() / "slides/a.svs"),
        SlideRecord("b", Path("/abs/b.tiff")),
    ]


def test_all_columns_in_any_case_order_and_delimiter(tmp_path: Path) -> None:
    text = "\ufeffSplit;Slide Class;mpp;patient-id;Center;path;slide_id;remark\nval;scc;0.25;P 1;A;x.svs;one;hello\n\n"
    (record,) = read_manifest(_write(tmp_path, text))
    assert record == SlideRecord("one", tmp_path.resolve() / "x.svs", 0.25, "P 1", "A", "HSIL", "validation")


def test_missing_trailing_cells_are_empty(tmp_path: Path) -> None:
    (record,) = read_manifest(_write(tmp_path, "path,mpp,patient\na.svs\n"))
    assert record.mpp is None
    assert record.patient is None


def test_every_broken_line_is_named(tmp_path: Path) -> None:
    text = (
        "path,slide_id,mpp,slide_class,split\na.svs,,0.25,NILM,train\n,x,,,\nb.svs,,fast,,\nc.svs,,-1,,\nd.svs,,nan,,\n"
    )
    text += 'e.svs,,,CIN2,\nf.svs,,,,sometimes\nA/a.svs,,,,\ng.svs,"../g",,,\n'
    with pytest.raises(ManifestError) as caught:
        read_manifest(_write(tmp_path, text))
    message = str(caught.value)
    for part in (
        "line 3: no path",
        "line 4: invalid um/px 'fast'",
        "line 5: um/px of c is -1.0",
        "line 6: invalid um/px 'nan'",
        "line 7: 'CIN2' is not a Bethesda label",
        "line 8: unknown split 'sometimes'",
        "line 9: slide id 'a' is that of line 2 too",
        "line 10: invalid slide id '../g'",
    ):
        assert part in message
    assert "line 2:" not in message
    assert message.startswith("manifest.csv: ")
    assert str(tmp_path) not in message


def test_many_problems_are_counted_not_listed(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="and 15 more"):
        read_manifest(_write(tmp_path, "path,mpp\n" + "a.svs,x\n" * 25))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,slide_clas\na.svs,NILM\n", "'slide_clas' is unknown: did you mean 'slide_class'"),
        ("pathh\na.svs\n", "did you mean 'path'"),
        ("patients,path\n1,a.svs\n", "did you mean 'patient'"),
        ("name\na.svs\n", "no column 'path'"),
        ("path,image\na.svs,b.svs\n", "a second time"),
        ("path\na.svs,b.svs\n", "line 2: 2 cells under 1 columns"),
        ("", "is empty"),
    ],
)
def test_wrong_headers_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        read_manifest(_write(tmp_path, text))


def test_absent_and_binary_files_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"m\.csv does not exist"):
        read_manifest(tmp_path / "m.csv")
    (tmp_path / "b.csv").write_bytes(b"\xff\xd8\xff\xe0\x00\x10JFIF")
    with pytest.raises(ManifestError, match="cannot be read as text"):
        read_manifest(tmp_path / "b.csv")


def test_json_list_and_decathlon_lists(tmp_path: Path) -> None:
    entries = [{"path": "a.svs", "mpp": 0.25, "slide_class": "LSIL", "patient": 7, "centre": None}]
    (record,) = read_manifest(_write(tmp_path, json.dumps(entries), "m.json"))
    assert record == SlideRecord("a", tmp_path.resolve() / "a.svs", 0.25, "7", None, "LSIL")
    lists = {
        "name": "cervix",
        "labels": {"0": "NILM"},
        "training": [{"image": "a.svs", "label": "NILM"}, {"image": "b.svs", "label": "HSIL"}],
        "test": ["c.svs"],
    }
    records = read_manifest(_write(tmp_path, json.dumps(lists), "d.json"))
    assert [(r.slide_id, r.slide_class, r.split) for r in records] == [
        ("a", "NILM", "train"),
        ("b", "HSIL", "train"),
        ("c", None, "test"),
    ]


@pytest.mark.parametrize("text", ["{", "3", '{"name": "x"}', '{"training": [1]}'])
def test_other_json_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ManifestError, match=r"m\.json"):
        read_manifest(_write(tmp_path, text, "m.json"))


def test_broken_json_entries_are_named(tmp_path: Path) -> None:
    text = json.dumps({"training": [{"path": "a.svs"}, {"path": "b.svs", "mpp": "?"}]})
    with pytest.raises(ManifestError, match="entry 2 of 'training': invalid um/px"):
        read_manifest(_write(tmp_path, text, "m.json"))


def test_written_manifest_reads_back_and_can_move_with_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "cohort"
    folder.mkdir()
    records = [
        SlideRecord("a", folder / "slides" / "a.tiff", 1 / 3, "P,1", 'centre "x"', "ASC-H", "test"),
        SlideRecord("b", Path("/elsewhere/b.tiff")),
    ]
    write_manifest(folder / "manifest.csv", records)
    assert read_manifest(folder / "manifest.csv") == records
    moved = folder.rename(tmp_path / "moved")
    assert read_manifest(moved / "manifest.csv")[0].path == moved / "slides" / "a.tiff"


def test_writing_refuses_equal_ids(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="occurs twice"):
        write_manifest(tmp_path / "m.csv", [SlideRecord("a", Path("x")), SlideRecord("a", Path("y"))])
    assert not (tmp_path / "m.csv").exists()


@pytest.mark.parametrize(
    "facts", [{"slide_class": "SCC"}, {"split": "training"}, {"mpp": 0.0}, {"slide_id": ""}, {"slide_id": "a/b"}]
)
def test_a_record_refuses_what_is_not_in_the_vocabulary(facts: dict[str, object]) -> None:
    with pytest.raises(ManifestError):
        SlideRecord(**({"slide_id": "a", "path": Path("a.svs")} | facts))  # type: ignore[arg-type]
