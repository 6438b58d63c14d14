from __future__ import annotations

import os
import socket
import unicodedata
from pathlib import Path

import pytest

from stride_monai.errors import SlideError
from stride_monai.phantom import render_slide
from stride_monai.screening.inputs import collect
from stride_monai.slides import open_slide


def _touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return path


def test_folders_files_and_manifests_become_slides_in_order(tmp_path: Path) -> None:
    for name in ("b.svs", "a.tiff", "deep/c.png", "notes.txt", ".hidden/d.svs"):
        _touch(tmp_path / "folder" / name)
    single = _touch(tmp_path / "single.svs")
    _touch(tmp_path / "listed.svs")
    manifest = tmp_path / "list.csv"
    manifest.write_text("slide_id,path,mpp\nX1,listed.svs,0.5\n")
    slides = collect([single, tmp_path / "folder", manifest])
    assert [(s.slide_id, s.mpp) for s in slides] == [
        ("single", None),
        ("a", None),
        ("b", None),
        ("c", None),
        ("X1", 0.5),
    ]
    assert not any(s.problem for s in slides)


def test_a_file_named_twice_is_screened_once(tmp_path: Path) -> None:
    slide = _touch(tmp_path / "a.svs")
    assert len(collect([slide, tmp_path, slide])) == 1


def test_two_files_of_one_id_are_both_refused_and_the_rest_is_not(tmp_path: Path) -> None:
    slides = collect([_touch(tmp_path / "1" / "a.svs"), _touch(tmp_path / "2" / "a.svs"), _touch(tmp_path / "b.svs")])
    assert ["same id 'a'" in s.problem for s in slides] == [True, True, False]


def test_no_slide_takes_the_name_of_a_file_of_the_run(tmp_path: Path) -> None:
    names = ("errors.svs", "summary.csv.svs", "run.json.svs", "error.svs")
    slides = collect([_touch(tmp_path / name) for name in names])
    assert ["cannot name a folder of results" in s.problem for s in slides] == [True, True, True, False]


def test_what_is_no_slide_is_a_problem_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.csv").write_text("path,mpp\na.svs,wide\n")
    slides = collect([tmp_path / "empty", tmp_path / "absent.svs", tmp_path / "bad.csv"])
    assert [bool(s.problem) for s in slides] == [True, True, True]
    assert "holds no slide" in slides[0].problem
    assert "no such file" in slides[1].problem
    assert all("\n" not in s.problem and s.problem.count(str(tmp_path)) == 0 for s in slides)


def test_the_files_of_a_dicom_series_are_one_slide_with_the_name_of_its_folder(tmp_path: Path) -> None:
    for name in ("one", "two"):
        render_slide(tmp_path / name, "NILM", diameter_mm=0.15, margin_mm=0.1, mpp=0.5, file_format="dicom")
    alone = tmp_path / "three" / "alone.dcm"
    alone.parent.mkdir()
    alone.write_bytes((tmp_path / "one" / "level-0.dcm").read_bytes())
    damaged = [_touch(tmp_path / "four" / name) for name in ("x.dcm", "y.dcm")]
    slides = collect([tmp_path])
    assert [s.slide_id for s in slides] == [*(d.stem for d in damaged), "one", "alone", "two"]
    assert not any(s.problem for s in slides)
    with open_slide(slides[2].path) as slide:
        assert slide.facts.format == "dicom"
        assert len(list(slides[2].path.parent.iterdir())) > 2


def test_what_a_list_says_holds_whichever_is_named_first(tmp_path: Path) -> None:
    slide = _touch(tmp_path / "slides" / "s.svs")
    manifest = tmp_path / "m.csv"
    manifest.write_text("slide_id,path,mpp\nnice,slides/s.svs,0.5\n")
    link = tmp_path / "link.svs"
    link.symlink_to(slide)
    hard = tmp_path / "hard.svs"
    hard.hardlink_to(slide)
    roundabout = tmp_path / "slides" / ".." / "slides" / "s.svs"
    for others in ([slide], [slide.parent], [link], [hard], [roundabout], [manifest]):
        for arguments in ([manifest, *others], [*others, manifest]):
            assert [(s.slide_id, s.mpp, s.problem) for s in collect(arguments)] == [("nice", 0.5, "")]


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ("a,s.svs,0.25", "b,s.svs,0.5", "the same slide is listed under the ids a, b"),
        ("a,s.svs,0.25", "b,s.svs,0.25", "the same slide is listed under the ids a, b"),
        ("a,s.svs,0.25", "b,./x/../s.svs,", "the same slide is listed under the ids a, b"),
        ("a,s.svs,0.25", "b,link.svs,", "the same slide is listed under the ids a, b"),
        ("a,s.svs,0.25", "a,s.svs,0.5", "listed with 0.25 and with 0.5 um/px"),
        ("a,s.svs,0.25", "a,s.svs,", ""),
        ("a,s.svs,0.25", "a,s.svs,0.25", ""),
    ],
)
@pytest.mark.parametrize("lists", [1, 2])
def test_two_rows_of_one_file(tmp_path: Path, first: str, second: str, words: str, lists: int) -> None:
    _touch(tmp_path / "s.svs")
    (tmp_path / "x").mkdir()
    (tmp_path / "link.svs").symlink_to(tmp_path / "s.svs")
    head, other = "slide_id,path,mpp\n", _touch(tmp_path / "o.svs")
    if lists == 1 and first[0] == second[0]:
        return  # a list with one id twice is refused as a whole
    if lists == 1:
        (tmp_path / "1.csv").write_text(f"{head}{first}\n{second}\n")
        slides = collect([tmp_path / "1.csv", other])
    else:
        (tmp_path / "1.csv").write_text(f"{head}{first}\n")
        (tmp_path / "2.csv").write_text(f"{head}{second}\n")
        slides = collect([tmp_path / "1.csv", tmp_path / "2.csv", other])
    assert [s.slide_id for s in slides if not s.problem][-1] == "o"
    refused = [s for s in slides if s.problem]
    assert {s.slide_id for s in refused} == (({first[0], second[0]}) if words else set())
    assert all(words in s.problem for s in refused)
    if not words:
        assert (slides[0].slide_id, slides[0].mpp) == ("a", 0.25)


def test_a_file_under_two_names_is_screened_once_and_the_other_name_is_not_lost(tmp_path: Path) -> None:
    slide = _touch(tmp_path / "b.svs")
    (tmp_path / "a.svs").symlink_to(slide)
    (tmp_path / "c.svs").hardlink_to(slide)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.svs").symlink_to(slide)
    slides = collect([tmp_path])
    assert [(s.slide_id, s.skipped) for s in slides] == [("a", False), ("b", True), ("c", True)]
    assert "is the same file as a.svs" in slides[1].problem


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("head.csv", "path,mpp\n", "lists no slide"),
        ("one.csv", "s.png\n", "no column 'path'"),
        ("list.json", "[]", "lists no slide"),
        ("blank.tsv", "\n\n", "is empty"),
        ("comments.txt", "# later\n", "is empty"),
        ("book.xlsx", "PK", "save it as CSV"),
    ],
)
def test_a_list_without_a_slide_is_a_problem(tmp_path: Path, name: str, text: str, words: str) -> None:
    (tmp_path / name).write_text(text)
    (item,) = collect([tmp_path / name])
    assert words in item.problem


def test_pipes_sockets_and_devices_are_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe.svs")
    os.mkfifo(tmp_path / "list.csv")
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as held:
        held.bind("socket.png")
        slides = collect([Path("pipe.svs"), Path("list.csv"), Path("socket.png"), Path("/dev/zero")])
    assert ["pipe, socket or device" in s.problem for s in slides] == [True] * 4
    (tmp_path / "m.csv").write_text("path\npipe.svs\n")
    with pytest.raises(SlideError, match="pipe, socket or device"):
        open_slide(collect([tmp_path / "m.csv"])[0].path)
    assert "holds no slide" in collect([tmp_path / "m.csv", _touch(tmp_path / "d" / "n.txt").parent])[1].problem


def test_a_folder_without_slides_says_what_it_holds(tmp_path: Path) -> None:
    for name in ("a.xyz", "b.XYZ", "c.txt", "README"):
        _touch(tmp_path / name)
    (item,) = collect([tmp_path])
    assert "its files end in .xyz (2), .txt (1), nothing (1)" in item.problem


def test_formats_without_a_reader_fail_by_name(tmp_path: Path) -> None:
    for name in ("a.svs", "b.sdpc", "c.HEIC"):
        _touch(tmp_path / name)
    assert [(s.slide_id, bool(s.problem)) for s in collect([tmp_path])] == [("a", False), ("b", True), ("c", True)]


def test_suffixes_of_pictures_and_files_of_systems(tmp_path: Path) -> None:
    names = ["a.jfif", "b.JPE", "c.TIF", "d.ome.tiff", "e.btf", "f.tf8", "g.jp2", "h.SVS", "i.DCM"]
    for name in (*names, "._h.SVS", ".hidden.png", "Thumbs.db", "@eaDir/h.SVS/thumb.jpg", "__MACOSX/x.jpg"):
        _touch(tmp_path / name)
    assert [s.path.name for s in collect([tmp_path])] == names
    assert collect([_touch(tmp_path / "odd.suffix")])[0].problem == ""


def test_linked_folders_hold_slides_and_are_entered_once(tmp_path: Path) -> None:
    _touch(tmp_path / "store" / "r.svs")
    _touch(tmp_path / "home" / "a.svs")
    for name, target in (("one", "store"), ("two", "store"), ("self", "home")):
        (tmp_path / "home" / name).symlink_to(tmp_path / target)
    assert [s.slide_id for s in collect([tmp_path / "home"])] == ["a", "r"]


def test_a_part_that_cannot_be_listed_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _touch(tmp_path / "a.svs")
    locked = _touch(tmp_path / "locked" / "b.svs").parent
    scandir = os.scandir

    def refuse(path: str) -> object:
        if os.fspath(path) == str(locked):
            raise PermissionError(13, "Permission denied", str(locked))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    slides = collect([tmp_path])
    assert [(s.slide_id, bool(s.problem)) for s in slides] == [("a", False), ("locked", True)]
    assert "cannot be listed (Permission denied)" in slides[1].problem


def test_ids_that_a_file_system_takes_for_one_are_refused(tmp_path: Path) -> None:
    nfd = unicodedata.normalize("NFD", "Zählung")
    for name in ("1/S.svs", "2/s.svs", f"1/{nfd}.svs", "2/Zählung.svs", "b.svs"):
        _touch(tmp_path / name)
    assert [s.slide_id for s in collect([tmp_path]) if not s.problem] == ["b"]


def test_names_that_are_too_long_or_not_text_are_known_before_the_work(tmp_path: Path) -> None:
    _touch(tmp_path / f"{'x' * 230}.svs")
    _touch(Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xe4\x1b[2J.svs")))
    ids = {s.slide_id: s.problem for s in collect([tmp_path])}
    assert ids["%E4%1B[2J"] == ""
    assert "it is 230 bytes long, 220 at most" in ids["x" * 230]


def test_a_file_is_found_by_the_other_spelling_of_its_accents(tmp_path: Path) -> None:
    slide = _touch(tmp_path / unicodedata.normalize("NFD", "Zählung.svs"))
    (item,) = collect([tmp_path / "Zählung.svs"])
    assert item.path.samefile(slide)
    assert item.slide_id == "Zählung"


def test_a_folder_with_the_suffix_of_a_slide_is_a_folder(tmp_path: Path) -> None:
    _touch(tmp_path / "scans.svs" / "a.svs")
    assert [s.slide_id for s in collect([tmp_path / "scans.svs"])] == ["a"]


def test_here_and_above_have_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    assert collect([Path()])[0].slide_id == "empty"
    assert collect([Path("..")])[0].slide_id not in {"..", "", "."}
