"""Encodings that a file shows or declares, tables as programs write them, ids that are none: read or refused."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import dataset_samples as samples
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from imports import run_import

from stride_monai.data import read_cells, read_manifest
from stride_monai.data.importers import MappedLabel
from stride_monai.data.importers.texts import (
    DEFAULT_ENCODING,
    decoded,
    load_xml,
    load_yaml,
    parsed_json,
    to_id,
    to_number,
)
from stride_monai.errors import ManifestError

HEADER = "image_filename,cell_id,bethesda_system,nucleus_x,nucleus_y\n"


def _voc(folder: Path, declared: str, encoding: str, name: str) -> Path:
    """Image and label have a name that only the right encoding gives."""
    samples.field(folder / f"{name}.png")
    head = f'<?xml version="1.0" encoding="{declared}"?>\n' if declared else ""
    box = "<bndbox><xmin>11</xmin><ymin>11</ymin><xmax>50</xmax><ymax>30</ymax></bndbox>"
    body = f"<annotation>\n<filename>{name}.png</filename>\n<object><name>{name}</name>{box}</object></annotation>"
    samples.text(folder / "labels.xml", head + body, encoding)
    return folder


CHINESE, FRENCH, RUSSIAN = "\u5207\u7247", "l\u00e9sion", "\u043a\u043b\u0435\u0442\u043a\u0430"


@pytest.mark.parametrize(
    ("declared", "encoding", "name"),
    [
        ("gbk", "gbk", CHINESE),
        ("GB2312", "gb18030", "\u9555"),  # what programs declare that write more than GB2312 has
        ("big5", "big5", CHINESE[0]),
        ("Shift_JIS", "shift_jis", CHINESE[0]),
        ("ISO-8859-1", "latin-1", FRENCH),
        ("windows-1252", "cp1252", FRENCH),
        ("koi8-r", "koi8-r", RUSSIAN),
        ("UTF-16", "utf-16", CHINESE),
        ("UTF-16", "utf-16-le", CHINESE),
        ("UTF-16BE", "utf-16-be", CHINESE),
        ("utf-32", "utf-32", CHINESE),
        ("utf-16", "utf-8", CHINESE),  # as .NET writes: nothing but UTF-8 is possible
        ("utf-8", "utf-8-sig", CHINESE),
        ("", "utf-16", CHINESE),
        ("", "utf-8", CHINESE),
        ("ascii", "ascii", "lesion"),
    ],
)
def test_an_xml_file_is_read_in_its_encoding(declared: str, encoding: str, name: str, tmp_path: Path) -> None:
    source = _voc(tmp_path / "in", declared, encoding, name)
    run_import("voc", source, tmp_path / "out", own_map={name: MappedLabel("HSIL")})
    (cell,) = read_cells(tmp_path / "out" / "cells.csv")
    assert (cell.slide_id, cell.raw_label) == (name, name)


@pytest.mark.parametrize(
    ("declared", "encoding", "what", "remedy"),
    [
        ("utf-8", "gbk", r"labels\.xml: labels\.xml cannot be read as text: line 3 is not UTF-8", "gbk"),
        ("", "gbk", r"line 2 is not UTF-8", "gbk"),
        ("gbk", "utf-8", r"labels\.xml line 1 declares gbk, but its bytes are UTF-8", "utf-8"),
        ("iso-8859-1", "utf-8", r"line 1 declares iso-8859-1, but its bytes are UTF-8", "utf-8"),
        ("klingon", "gbk", r"line 1 declares the encoding 'klingon', which is unknown", "gbk"),
        ("rot13", "utf-8", "cannot be read as text|its bytes are UTF-8", "utf-8"),
    ],
)
def test_a_wrong_declaration_is_refused_and_can_be_put_right(
    declared: str, encoding: str, what: str, remedy: str, tmp_path: Path
) -> None:
    source = _voc(tmp_path / "in", declared, encoding, CHINESE)
    with pytest.raises(ManifestError, match=what):
        run_import("voc", source, tmp_path / "out")
    run_import("voc", source, tmp_path / "out", own_map={CHINESE: MappedLabel("HSIL")}, encoding=remedy)
    assert read_manifest(tmp_path / "out" / "manifest.csv")[0].slide_id == CHINESE


def test_an_option_does_not_overrule_what_a_file_shows(tmp_path: Path) -> None:
    for number, (declared, encoding) in enumerate((("utf-8", "utf-8"), ("", "utf-8-sig"), ("UTF-16", "utf-16"))):
        source = _voc(tmp_path / str(number), declared, encoding, CHINESE)
        run_import("voc", source, tmp_path / f"out{number}", own_map={CHINESE: MappedLabel("HSIL")}, encoding="gbk")
        assert read_manifest(tmp_path / f"out{number}" / "manifest.csv")[0].slide_id == CHINESE


@pytest.mark.parametrize(
    "text",
    [
        '<?xml version="1.0"?>\n<!DOCTYPE a [<!ENTITY b "c"><!ENTITY d "&b;&b;">]>\n<annotation>&d;</annotation>',
        '<!DOCTYPE a [\n<!ENTITY x SYSTEM "file:///etc/passwd">]>\n<annotation>&x;</annotation>',
        '<!DOCTYPE a [\n<!ENTITY % x SYSTEM "http://localhost/x"> %x;]>\n<annotation/>',
    ],
)
def test_entities_of_xml_are_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"a\.xml line 2 declares an entity"):
        load_xml(samples.text(tmp_path / "a.xml", text))


def test_namespaces_and_capitals_of_xml_do_not_hide_its_objects(tmp_path: Path) -> None:
    text = '<A:Annotation xmlns:A="x"><A:Object><A:BndBox/></A:Object></A:Annotation>'
    _, root = load_xml(samples.text(tmp_path / "a.xml", text))
    assert [element.tag for element in root.iter()] == ["annotation", "object", "bndbox"]


@settings(max_examples=40)
@given(st.text(min_size=2).filter(lambda text: "\0" not in text and text[0] != "\ufeff"))
def test_what_bytes_show_is_their_encoding(text: str) -> None:
    try:
        for encoding in ("utf-8-sig", "utf-16", "utf-32"):
            assert decoded(text.encode(encoding), "a", "gbk") == text
        assert decoded(text.encode(), "a") == text
        ascii_first = "ab" + text
        for encoding in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"):
            assert decoded(ascii_first.encode(encoding), "a") == ascii_first
    except UnicodeEncodeError:  # half a character
        pass


@given(st.binary(max_size=40))
def test_any_bytes_are_text_or_refused(content: bytes) -> None:
    for encoding in (DEFAULT_ENCODING, "gbk", "utf-16"):
        with suppress(ManifestError):
            assert "\0" not in decoded(content, "a", encoding)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_tables_json_and_yaml_with_marks(encoding: str, tmp_path: Path) -> None:
    samples.field(tmp_path / "in" / f"{FRENCH}.png")
    row = f"{FRENCH}.png\t7\tLSIL\t50\t60\n"
    samples.text(tmp_path / "in" / "classifications.csv", HEADER.replace(",", "\t") + row, encoding)
    run_import("cric", tmp_path / "in", tmp_path / "out")
    assert read_cells(tmp_path / "out" / "cells.csv")[0].slide_id == FRENCH
    assert load_yaml(samples.text(tmp_path / "a.yaml", f"names: [{FRENCH}]", encoding)) == {"names": [FRENCH]}
    source = samples.geojson(tmp_path / "g")
    path = source / "slide 1.png.geojson"
    path.write_bytes(path.read_text().encode(encoding))
    assert run_import("geojson", source, tmp_path / "g_out").counts["cells"] == 4


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('{"a": 1,\n"b": {"c": 1},\n"a": 2}', "x line 3: the key 'a' occurs twice"),
        ('[{"a": [{"b": 1,\n"b": 1}]}]', "x line 2: the key 'b' occurs twice"),
        ('{"a": "\\"a\\": 1", "b": "a"}', None),
        ('[{"a": 1}, {"a": 1}]', None),
        ("[" * 100_000, "x is not JSON that can be read"),
        ("[1,\n2", "x line 2 is not JSON"),
    ],
)
def test_json_that_says_a_thing_twice(text: str, what: str | None) -> None:
    if what is None:
        assert parsed_json(text, "x")
    else:
        with pytest.raises(ManifestError, match=what):
            parsed_json(text, "x")


def test_yaml_makes_nothing_of_a_name(tmp_path: Path) -> None:
    text = "names: [NO, off, 1e3, 2024_05, 012, 1.0, 2024-05-01, null]\npath: !!python/object:os.system x"
    path = samples.text(tmp_path / "a.yaml", text)
    names = ["NO", "off", "1e3", "2024_05", "012", "1.0", "2024-05-01", "null"]
    assert load_yaml(path) == {"names": names, "path": "x"}
    with pytest.raises(ManifestError, match=r"a\.yaml line 2 is no YAML"):
        load_yaml(samples.text(path, "names: 1\n{"))


def _cric(folder: Path, content: str) -> Path:
    samples.field(folder / "aa.png")
    samples.text(folder / "classifications.csv", content)
    return folder


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (HEADER + "aa.png,nan,LSIL,50,60\n", "line 2: cell_id is 'nan', which names nothing"),
        (HEADER + "aa.png,None,LSIL,50,60\n", "line 2: cell_id is 'None'"),
        (HEADER + "NaN,1,LSIL,50,60\n", "line 2: the row names no image"),
        (HEADER + "aa.png,1.0,LSIL,50,60\naa.png,1,LSIL,90,60\n", "line 3: cell id '1' is that of .* line 2 too"),
        (HEADER[:-1] + ",nucleus_x\naa.png,1,LSIL,50,60,70\n", "has the column 'nucleus_x' twice"),
        (HEADER[:-1] + ",X\naa.png,1,LSIL,50,60,70\n", "line 2: nucleus_x is '50' but x is '70'"),
        (HEADER + "aa.png,1,LSIL,1_0,60\n", "invalid nucleus_x '1_0'"),
        (HEADER + 'aa.png,1,LSIL,"1,234",60\n', "invalid nucleus_x '1,234'"),
        (HEADER + "aa.png,1,LSIL,0.7,0.6\n", "all of it lies in the image's first pixel"),
        (HEADER + "aa.png,1,LSIL,50\n", "invalid nucleus_y ''"),
        ("sep=;\n" + HEADER.replace(",", ";") + "aa.png;1;LSIL;x;60\n", "line 3: invalid nucleus_x 'x'"),
    ],
)
def test_tables_that_say_nothing_or_two_things(content: str, what: str, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=rf"classifications\.csv.*{what}"):
        run_import("cric", _cric(tmp_path / "in", content), tmp_path / "out")


@pytest.mark.parametrize(
    "content",
    [
        HEADER.replace(",", ";") + "aa.png;1;LSIL;50,125;60\n",
        "sep=;\r\n" + HEADER.replace(",", ";") + 'aa.png;1;LSIL;"50,125";60,0\r\n',
        HEADER.replace(",", "\t") + "aa.png\t1.0\tLSIL\t50.125\t60\n",
        HEADER[:-1] + ",x\naa.png,1,LSIL,50.125,60,50.125\n",
    ],
)
def test_tables_as_spreadsheets_write_them(content: str, tmp_path: Path) -> None:
    run_import("cric", _cric(tmp_path / "in", content), tmp_path / "out", point_um=10.0)
    (cell,) = read_cells(tmp_path / "out" / "cells.csv")
    assert (cell.cell_id, cell.box.center) == ("1", (49.625, 59.5))


def test_tables_of_riva_that_have_longer_names(tmp_path: Path) -> None:
    source = samples.riva(tmp_path / "in")
    for path in sorted((source / "annotations").iterdir()):
        if path.stem in {"train", "val"}:
            path.rename(path.with_name(f"riva_{path.name}"))
        else:
            path.unlink()
    run_import("riva", source, tmp_path / "out")
    assert {record.split for record in read_manifest(tmp_path / "out" / "manifest.csv")} == {"train", "validation"}


@pytest.mark.parametrize(
    ("value", "text"), [(7, "7"), (7.0, "7"), ("7.00", "7"), ("007", "007"), ("a.0", "a.0"), ("1.5", "1.5"), (None, "")]
)
def test_ids_are_the_same_however_written(value: object, text: str) -> None:
    assert to_id(value, "id") == text


@pytest.mark.parametrize("value", [float("nan"), "NaN", "<NA>", True, [1], {}])
def test_what_is_no_id(value: object) -> None:
    with pytest.raises(ManifestError, match=r"^id is "):
        to_id(value, "id")


@pytest.mark.parametrize("value", [True, "1_0", "", "nan", "inf", None, [1]])
def test_what_is_no_number(value: object) -> None:
    with pytest.raises(ManifestError, match=r"^(invalid|non-finite) x "):
        to_number(value, "x")


def test_names_of_two_images_that_differ_in_their_accents_only(tmp_path: Path) -> None:
    samples.field(tmp_path / "in" / "LSIL" / "u\u0308.png", size=(40, 40))
    samples.field(tmp_path / "in" / "LSIL" / "\u00fc.png", size=(40, 40), seed=1)
    if len(list((tmp_path / "in" / "LSIL").iterdir())) < 2:
        pytest.skip("this file system takes the two for one")
    with pytest.raises(ManifestError, match=r"image 'LSIL--\u00fc\.png' is named by .* too"):
        run_import("folder", tmp_path / "in", tmp_path / "out")
