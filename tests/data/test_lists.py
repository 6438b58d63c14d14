"""Lists as spreadsheets, statistics packages and people write them: one reader for all tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from stride_monai.data import SlideRecord, read_manifest
from stride_monai.data.cells import read_cells, read_regions
from stride_monai.data.splits import leak_groups
from stride_monai.data.tables import number, numbered_lines
from stride_monai.errors import ManifestError


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("tabs.tsv", "path\tmpp\na.svs\t0.25\n"),
        ("list.txt", "path,mpp\na.svs,0.25\n"),
        ("UPPER.TSV", "PATH\tMPP\r\na.svs\t0.25\r\n"),
        ("sep.csv", "sep=;\r\npath;mpp\r\na.svs;0.25\r\n"),
        ("sep_quoted.csv", '"sep=;"\npath;mpp\na.svs;0.25\n'),
        ("sep_tab.csv", "\ufeffsep=\t\npath\tmpp\na.svs\t0.25\n"),
        ("sep_other.csv", "sep=|\npath|mpp\na.svs|0.25\n"),
        ("comma.csv", "path;mpp\na.svs;0,25\n"),
        ("comma_tab.tsv", "path\tmpp\na.svs\t0,25\n"),
        ("comma_quoted.csv", 'path,mpp\na.svs,"0,25"\n'),
        ("heading.csv", 'path;mpp;"remark, if any"\na.svs;0.25;\n'),
        ("heading_bare.csv", "path;mpp;remark, if any\na.svs;0.25;x, y\n"),
        ("heading_semicolon.csv", "path,mpp,remark; if any\na.svs,0.25,\n"),
        ("comma_first.csv", '"remark, first";path;mpp\n"a, b";a.svs;0.25\n'),
        ("trailing.csv", "path,mpp,,\na.svs,0.25,,,,\n,,,\n"),
        ("comments.csv", "# slides of May; with care\n\n#path,mpp\na.svs,0.25\n"),
        ("spaces.csv", " path , mpp \n a.svs , 0.25 \n"),
        ("quotes.csv", '"path","mpp"\n"a.svs","0.25"\n'),
        ("index.csv", ",path,mpp\n0,a.svs,0.25\n"),
        ("mac.csv", "path,mpp\ra.svs,0.25\r"),
        ("line\u2028ends.csv", "path,mpp,remark\na.svs,0.25,one\x0bcell\x85only\n"),
        ("list.json", '[{"path": "a.svs", "mpp": 0.25}]'),
        ("text.json", '\ufeff[{"path": "a.svs", "mpp": "0,25"}]'),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_one_slide_in_many_spellings(tmp_path: Path, name: str, text: str, encoding: str) -> None:
    (tmp_path / name).write_bytes(text.lstrip("\ufeff" if encoding == "utf-16" else "").encode(encoding))
    assert read_manifest(tmp_path / name) == [SlideRecord("a", tmp_path.resolve() / "a.svs", 0.25)]


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("head.csv", "path,mpp\n", "lists no slide"),
        ("one.csv", "a.svs\n", "no column 'path'.*first line must name"),
        ("one.txt", "a.svs\nb.svs\n", "no column 'path'"),
        ("two.csv", "a.svs,0.25\n", "no column 'path'"),
        ("list.json", "[]", "lists no slide"),
        ("lists.json", '{"training": [], "test": []}', "lists no slide"),
        ("object.json", "{}", "no list of slides"),
        ("blank.csv", " \n\n", "is empty"),
        ("delimiters.csv", ",,,\n;;\n", "is empty|no column"),
        ("comments.csv", "# nothing yet\n# more soon\n", "is empty"),
        ("nothing.json", "", "is not JSON"),
        ("sep.csv", "sep=;\n", "is empty"),
        ("twice.csv", "path,patient,path\na.svs,1,b.svs\n", "two columns 'path'"),
        ("twice_again.csv", "path,Patient ID,patient_id\na.svs,1,2\n", "two columns 'patient_id'"),
        ("twice.json", '[{"path": "a.svs", "path": "b.svs"}]', "'path' is given twice"),
        ("nested.json", '[{"path": ["a.svs", "b.svs"]}]', "entry 1: path is a list"),
        ("patients.json", '[{"path": "a.svs", "patient": {"id": 3}}]', "entry 1: patient is an object"),
        ("zeros.csv", "p\0a\0t\0h\0", "zero bytes"),
        ("thousands.csv", 'path,mpp\na.svs,"1,234"\n', "invalid um/px '1,234'"),
        ("under_score.csv", "path,mpp\na.svs,0_25\n", "invalid um/px '0_25'"),
        ("wide.csv", "path,mpp\na.svs,0.25,more\n", "3 cells under 2 columns"),
    ],
)
def test_a_list_without_slides_or_with_two_meanings_is_refused(tmp_path: Path, name: str, text: str, why: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ManifestError, match=why) as caught:
        read_manifest(tmp_path / name)
    assert name in str(caught.value)


def test_a_folder_named_as_a_list_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.csv").mkdir()
    with pytest.raises(ManifestError, match=r"m\.csv is a folder"):
        read_manifest(tmp_path / "m.csv")


@pytest.mark.parametrize("word", ["", "nan", "NaN", "NA", "N/A", "null", "None", "unknown", "-", "?"])
def test_what_is_not_known_is_nobody(tmp_path: Path, word: str) -> None:
    text = f"path,patient,centre,slide_class,split,specimen,slide_id\na.svs,{word},{word},{word},{word},{word},{word}\n"
    (tmp_path / "m.csv").write_text(text + f"b.svs,{word},,,,,\n")
    first, second = read_manifest(tmp_path / "m.csv")
    assert first == SlideRecord("a", tmp_path.resolve() / "a.svs")
    assert first.group != second.group
    assert len(set(leak_groups([first, second]).values())) == 2


def test_json_without_values_is_nobody_and_numbers_keep_their_form(tmp_path: Path) -> None:
    rows = '{"path": "a.svs", "patient": NaN, "centre": null, "mpp": NaN, "slide_id": 7.50},'
    rows += '{"path": "b.svs", "patient": 12345678901234567890123, "centre": 1e3}'
    (tmp_path / "m.json").write_text(f"[{rows}]")
    first, second = read_manifest(tmp_path / "m.json")
    assert (first.slide_id, first.patient, first.centre, first.mpp) == ("7.50", None, None, None)
    assert (second.patient, second.centre) == ("12345678901234567890123", "1e3")
    (tmp_path / "m.csv").write_text("path,slide_id,patient\na.svs,007,0012\n")
    (row,) = read_manifest(tmp_path / "m.csv")
    assert (row.slide_id, row.patient) == ("007", "0012")


@pytest.mark.parametrize(
    ("text", "decimal_comma", "value"),
    [
        ("0,25", False, 0.25),
        ("12,5", False, 12.5),
        ("-0,5e1", False, -5.0),
        ("1,234", True, 1.234),
        ("1,234", False, None),
        ("0,234", False, 0.234),
        ("1234,567", False, 1234.567),
        ("1,234,567", True, None),
        ("1.234,5", True, None),
        ("1e400", False, None),
        ("", False, None),
    ],
)
def test_numbers_with_a_comma(text: str, decimal_comma: bool, value: float | None) -> None:
    if value is None:
        with pytest.raises(ValueError, match=f"^{text}$"):
            number(text, decimal_comma)
    else:
        assert number(text, decimal_comma) == value


def test_cells_and_regions_are_read_by_the_same_rules(tmp_path: Path) -> None:
    (tmp_path / "cells.csv").write_text(
        "sep=;\nslide_id;x0;y0;x1;y1;label;descriptions\na;0,5;1,125;20;30;LSIL;nan\n", encoding="utf-16"
    )
    (cell,) = read_cells(tmp_path / "cells.csv")
    assert (tuple(cell.box), cell.descriptions) == ((0.5, 1.125, 20, 30), ())
    (tmp_path / "regions.csv").write_text("slide\tx0\ty0\tx1\ty1\na\t0\t0\t10,5\t20\n")
    assert read_regions(tmp_path)["a"][0].x1 == 10.5


def test_lines_are_numbered_as_an_editor_numbers_them() -> None:
    text = 'sep=;\n\na;b\n1;"two\nlines"\n3;4\n'
    delimiter, lines = numbered_lines(text, "a.csv")
    assert delimiter == ";"
    assert [(place, values) for place, values in lines if values] == [
        ("line 3", ["a", "b"]),
        ("lines 4-5", ["1", "two\nlines"]),
        ("line 6", ["3", "4"]),
    ]
