"""Slides are found by their ids, and nothing outside of their folder is."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from review_samples import findings_of, write_findings, write_slide

from stride_monai.errors import ConfigError, SlideError
from stride_monai.review.library import Library, UnknownSlideError

HOSTILE = (
    "..", "../slides/slide one.tiff", "..\\..\\x", "/etc/passwd", "%2e%2e%2f", "slide one.tiff", "slide one::$DATA",
    "slide one\0", "C:\\slide one", "", ".", "slide one/", "SLIDE ONE",
)  # fmt: skip


def test_slides_are_listed_and_opened(study: tuple[Path, Path]) -> None:
    library = Library(*study)
    assert [entry.slide_id for entry in library.refresh()] == ["slide one", "切片 二"]
    with library.open(library.entry("切片 二")) as slide:
        assert (slide.width, slide.mpp) == (1400, 1.0)


@pytest.mark.parametrize("slide_id", HOSTILE)
def test_an_id_that_was_not_listed_opens_nothing(study: tuple[Path, Path], slide_id: str) -> None:
    with pytest.raises(UnknownSlideError):
        Library(*study).entry(slide_id)


@given(st.text(max_size=40))
def test_no_text_is_an_id_but_those_of_the_slides(study: tuple[Path, Path], slide_id: str) -> None:
    library = Library(*study)
    if slide_id not in {"slide one", "切片 二"}:
        with pytest.raises(UnknownSlideError):
            library.findings(slide_id)


@pytest.fixture
def one(tmp_path: Path) -> tuple[Path, Path]:
    """Results of a slide ``a.tiff``, and an empty folder of slides beside the slide."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "slides").mkdir()
    path = tmp_path / "elsewhere" / "a.tiff"
    write_findings(tmp_path / "results", findings_of(path, write_slide(path, cells=2)))
    return tmp_path / "results", tmp_path / "slides"


def test_a_link_out_of_the_folder_is_not_followed(one: tuple[Path, Path]) -> None:
    results, slides = one
    (slides / "a.tiff").symlink_to(results.parent / "elsewhere" / "a.tiff")
    (slides / "folder").symlink_to(results.parent / "elsewhere")
    library = Library(results, slides)
    with pytest.raises(SlideError, match="not among the slides"):
        library.open(library.entry("a"))


def test_a_slide_that_comes_later_is_found(one: tuple[Path, Path]) -> None:
    results, slides = one
    library = Library(results, slides)
    with pytest.raises(SlideError, match="not among the slides"):
        library.open(library.entry("a"))
    (slides / "deep").mkdir()
    (results.parent / "elsewhere" / "a.tiff").rename(slides / "deep" / "a.tiff")
    with library.open(library.entry("a")) as slide:
        assert slide.width == 1400


def test_another_file_of_the_same_name_is_refused(one: tuple[Path, Path]) -> None:
    results, slides = one
    write_slide(slides / "a.tiff", seed=9, cells=2)
    library = Library(results, slides)
    with pytest.raises(SlideError, match="not the one that was screened"):
        library.open(library.entry("a"))


def test_damaged_findings_say_so(one: tuple[Path, Path]) -> None:
    results, slides = one
    (results / "a" / "findings.json").write_text("{", encoding="utf-8")
    from stride_monai.errors import OutputError

    with pytest.raises(OutputError, match="not a findings file"):
        Library(results, slides).findings("a")


def test_folders_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no folder of results"):
        Library(tmp_path / "none", tmp_path)
