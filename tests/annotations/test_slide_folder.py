"""Ids and paths that anybody may send: inside the folder of slides, or refused."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from stride_monai.annotations import AccessError, SlideFolder, inside

ATTACKS = [
    *("../secret.svs", "..", ".", "", "/etc/passwd", "a/../../secret.svs", "..\\secret.svs", "C:\\secret.svs"),
    *("C:secret.svs", "%2e%2e%2fsecret.svs", "..%2fsecret.svs", "%252e%252e/secret.svs", "slide.svs::$DATA"),
    *("slide.svs:stream", "slide.svs\0.png", "\0", "//server/share/x.svs", "\\\\?\\C:\\x", "slide.svs.", "slide.svs "),
    *("out.svs", "folder/../slide.svs", "./slide.svs", "folder//inner.svs", "NUL", "con.svs", "out/secret.svs"),
    *("~/secret.svs", "file:///etc/passwd", "．．/secret.svs", "..／secret.svs", "slide.svs/", "\ud800", ".hidden.svs"),
]


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("base")
    outside, folder = base / "outside", base / "studies"
    for made in (outside, folder / "folder"):
        made.mkdir(parents=True)
    for path in (outside / "secret.svs", base / "secret.svs", folder / "slide.svs", folder / "folder" / "inner.svs"):
        path.write_bytes(b"x")
    (folder / ".hidden.svs").write_bytes(b"x")
    (folder / "slide_label.png").write_bytes(b"x")
    (folder / "切片 1.svs").write_bytes(b"x")
    with contextlib.suppress(OSError):
        (folder / "out.svs").symlink_to(outside / "secret.svs")
        (folder / "out").symlink_to(outside)
        (folder / "within.svs").symlink_to(folder / "slide.svs")
    (folder / "scan.mrxs").write_bytes(b"x")
    (folder / "scan").mkdir()
    (folder / "scan" / "Data0000.dat").symlink_to(outside / "secret.svs")
    return folder


def test_what_is_inside_is_found(studies: Path) -> None:
    assert inside(studies, "folder/inner.svs").samefile(studies / "folder" / "inner.svs")
    assert inside(studies, "within.svs").samefile(studies / "slide.svs")
    assert SlideFolder(studies).path_of("切片 1") == studies / "切片 1.svs"


def test_slides_are_listed_without_labels_links_out_and_slides_with_parts_outside(studies: Path) -> None:
    assert set(SlideFolder(studies).ids()) == {"slide", "inner", "within", "切片 1"}


@pytest.mark.parametrize("text", ATTACKS)
def test_ways_out_are_refused(studies: Path, text: str) -> None:
    with pytest.raises(AccessError):
        inside(studies, text)
    with pytest.raises(AccessError):
        SlideFolder(studies).path_of(text)


def test_a_slide_that_a_run_lists_outside_the_folder_is_refused(studies: Path) -> None:
    listed = SlideFolder(studies, {"a": studies / "slide.svs", "b": studies.parent / "secret.svs"})
    assert listed.path_of("a") == studies / "slide.svs"
    with pytest.raises(AccessError):
        listed.path_of("b")


def test_a_slide_that_becomes_a_link_out_is_refused_from_then_on(tmp_path: Path, studies: Path) -> None:
    (tmp_path / "a.svs").write_bytes(b"x")
    slides = SlideFolder(tmp_path)
    assert slides.ids() == ["a"]
    (tmp_path / "a.svs").unlink()
    (tmp_path / "a.svs").symlink_to(studies / "slide.svs")
    with pytest.raises(AccessError):
        slides.path_of("a")


def test_two_slides_of_one_name_are_told(tmp_path: Path) -> None:
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "same.svs").write_bytes(b"x")
    with pytest.raises(AccessError, match="two slides"):
        SlideFolder(tmp_path)


_PARTS = st.sampled_from(
    [
        "..",
        ".",
        "/",
        "\\",
        "%2e",
        "%2f",
        ":",
        "\x00",
        "out",
        "folder",
        "slide.svs",
        "secret.svs",
        " ",
        "~",
        "C:",
        "::$DATA",
    ]
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.lists(_PARTS, max_size=8).map("".join), st.text(max_size=40)))
@example("folder/inner.svs")
def test_nothing_that_is_found_lies_outside(studies: Path, text: str) -> None:
    root = os.path.realpath(studies)
    slides = SlideFolder(studies, {text: studies / "slide.svs"})
    for ask in (lambda: inside(studies, text), lambda: slides.path_of(text)):
        with contextlib.suppress(AccessError):
            assert os.path.realpath(ask()).startswith(root)
