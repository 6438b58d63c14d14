"""Names of files: readable wherever they are written, found whichever way they are spelt, no error on any terminal."""

from __future__ import annotations

import io
import os
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stride_monai.cli import terminal
from stride_monai.data import SlideRecord, read_manifest
from stride_monai.errors import ManifestError, SlideError
from stride_monai.names import MAX_NAME_BYTES, found, name_key, printable, readable, why_no_folder_name
from stride_monai.run_index import Outcome, SlideStatus, write_run, write_summary

GBK = os.fsdecode("切开".encode("gbk"))  # no byte of it is UTF-8
NFC, NFD = "Zählung", unicodedata.normalize("NFD", "Zählung")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a b (1)-ü.svs", "a b (1)-ü.svs"),
        ("切片", "切片"),
        (GBK, "%C7%D0%BF%AA"),
        ("\x1b[31mred", "%1B[31mred"),
        ("two\nlines\t", "two%0Alines%09"),
        ("\x9b31m", "%C2%9B31m"),
        ("gpj.\u202esvs", "gpj.%E2%80%AEsvs"),
        ("\ud800", "%ED%A0%80"),
        (NFD, NFC),
        ("100%", "100%"),
    ],
)
def test_a_name_is_shown_on_one_line_of_utf_8(name: str, shown: str) -> None:
    assert readable(name) == shown


@given(st.text(st.characters(exclude_categories=()), max_size=12))
def test_whatever_a_name_holds_it_can_be_written(name: str) -> None:
    shown = readable(name)
    assert shown.encode().decode() == shown
    assert readable(shown) == shown
    assert not any(unicodedata.category(character) in {"Cc", "Cs"} for character in shown)
    assert printable(name).encode().decode() == printable(name)


def test_messages_hold_no_control_bytes() -> None:
    error = SlideError(f"{GBK}\x1b[2J.svs: no\nslide", "rename\x07 it")
    assert str(error) == "%C7%D0%BF%AA%1B[2J.svs: no\nslide: rename%07 it"
    assert error.args == (error.what, error.advice)


def test_names_that_one_file_system_takes_for_one() -> None:
    assert len({name_key(name) for name in (NFC, NFD, NFC.upper(), f"{NFD} .", "zählung")}) == 1
    assert name_key("a") != name_key("b")


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "a\\b", "a\nb", "a\x1b", GBK, "x" * (MAX_NAME_BYTES + 1), "é" * 120]
)
def test_what_names_no_folder(name: str) -> None:
    assert why_no_folder_name(name)
    with pytest.raises(ManifestError, match="invalid slide id"):
        SlideRecord(name, Path("a.svs"))


@pytest.mark.parametrize("name", ["a", "a.b", "con", "a:b", "切片", "x" * MAX_NAME_BYTES])
def test_what_names_a_folder(name: str) -> None:
    assert not why_no_folder_name(name)


@pytest.mark.parametrize(("there", "written"), [(NFC, NFD), (NFD, NFC)])
def test_a_list_finds_a_file_however_its_accents_are_spelt(tmp_path: Path, there: str, written: str) -> None:
    folder = tmp_path / there
    folder.mkdir()
    (folder / f"{there}.svs").touch()
    (tmp_path / "m.csv").write_text(f"path,patient\n{written}/{written}.svs,{there}\n", encoding="utf-8")
    (record,) = read_manifest(tmp_path / "m.csv")
    assert record.path.samefile(folder / f"{there}.svs")
    assert (record.slide_id, record.patient) == (NFC, NFC)


def test_of_two_spellings_none_is_guessed(tmp_path: Path) -> None:
    for mark in ("a\u0323\u0307", "a\u0307\u0323"):  # two orders of two marks, both unlike the composed spelling
        (tmp_path / mark).touch()
    asked = tmp_path / unicodedata.normalize("NFC", "a\u0323\u0307")
    assert found(asked) == asked
    assert found(tmp_path / "none" / NFC) == tmp_path / "none" / NFC


def test_windows_paths_and_home_folders_in_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slides").mkdir()
    (tmp_path / "slides" / "a.svs").touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "m.csv").write_text("path\nslides\\a.svs\n~/b.svs\n~nobody-of-that-name/c.svs\nD:\\away\\d.svs\n")
    records = read_manifest(tmp_path / "m.csv")
    assert [record.slide_id for record in records] == ["a", "b", "c", "d"]
    assert records[0].path == tmp_path.resolve() / "slides" / "a.svs"
    assert records[1].path == tmp_path / "b.svs"


def test_ids_that_differ_in_case_or_spelling_are_one(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text(f"path,slide_id\na.svs,S1\nb.svs,s1\nc.svs,{NFC}\nd.svs,{NFD}\n", encoding="utf-8")
    with pytest.raises(ManifestError, match=r"line 3: slide id 's1' is that of line 2 too.*line 5: .* line 4 too"):
        read_manifest(tmp_path / "m.csv")


def test_the_index_of_a_run_holds_any_name(tmp_path: Path) -> None:
    outcome = Outcome(f"{GBK}", f"{GBK}.svs", SlideStatus.FAILED, reason=f"{GBK}.svs: \x1b[2Jbad", path=f"/x/{GBK}.svs")
    for written in (write_summary(tmp_path, [outcome]), write_run(tmp_path, {}, [outcome])):
        text = written.read_text(encoding="utf-8")
        assert "%C7%D0%BF%AA.svs" in text
        assert "\\udc" not in text
        assert "\x1b" not in text


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "gbk", "utf-8"])
def test_no_terminal_ends_a_command(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, errors="strict")
    monkeypatch.setattr(sys, "stdout", stream)
    terminal.forgive()
    names = ["切片.svs", "ü ш € 🔬", "[red]x[/red]", GBK, ":smile:", "\x1b[31m", "\\"]
    console = terminal.console()
    for name in names:
        console.print(f"[bold]{terminal.plain(name)}[/bold]", highlight=False, soft_wrap=True)
    stream.flush()
    shown = raw.getvalue().decode(encoding).splitlines()
    assert len(shown) == len(names)
    assert shown[2:] == ["[red]x[/red]", "%C7%D0%BF%AA", ":smile:", "%1B[31m", "\\"]
    assert ("切片.svs" if encoding in {"gbk", "utf-8"} else "\\u5207\\u7247.svs") == shown[0]
