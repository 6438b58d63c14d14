"""Slides that stay open for the next caller."""

from __future__ import annotations

from pathlib import Path

from slide_files import textured, write_pyramid

from stride_monai.slides import cached_slide
from stride_monai.units import Box


def test_slides_stay_open_until_the_file_changes(tmp_path: Path) -> None:
    path = write_pyramid(tmp_path / "a.tif", textured(64, 64, 1), 0.5, (1,), compression=None)
    first = cached_slide(path)
    assert cached_slide(str(path)) is first
    assert cached_slide(path, 0.25) is not first
    write_pyramid(path, textured(64, 96, 2), 0.5, (1,), compression=None)
    assert cached_slide(path).width == 96


def test_only_a_few_slides_stay_open(tmp_path: Path) -> None:
    paths = [write_pyramid(tmp_path / f"{k}.tif", textured(64, 64), 0.5, (1,), compression=None) for k in range(9)]
    first = cached_slide(paths[0])
    for path in paths[1:]:
        cached_slide(path)
    assert cached_slide(paths[0]) is not first
    assert first.read(Box(0, 0, 8, 8)).shape == (8, 8, 3)  # whoever still holds it can read on
