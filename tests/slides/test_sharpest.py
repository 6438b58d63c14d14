"""Focal planes merged: the sharper plane at each pixel, whichever region is read; refused where there is one plane."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from focal_planes import SIZE, DarkNuclei, cell
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from typer.testing import CliRunner

from stride_monai.cli.main import app
from stride_monai.errors import ConfigError, SlideError
from stride_monai.inferers.slide_detection import SlideDetectionInferer
from stride_monai.screening.config import ScreeningConfig
from stride_monai.slides import Slide, open_slide

LESIONS = ((200, 240, 0), (620, 500, 1), (420, 900, 2))  # x, y, and the plane that it is in focus on
PLANES = 3


def planes_of() -> list[NDArray[np.uint8]]:
    """Each lesion is in focus on one plane only, and far out of it on the others."""
    planes = []
    for number in range(PLANES):
        sharp = np.full((*SIZE, 3), 238, np.uint8)
        soft = sharp.copy()
        for x, y, at in LESIONS:
            cell(sharp if at == number else soft, x, y)
        blurred = ndimage.gaussian_filter(soft, (7, 7, 0))
        planes.append(np.minimum(sharp, blurred))
    return planes


def write_stack(path: Path, axes: str = "ZYXS") -> Path:
    tifffile.imwrite(
        path,
        np.stack(planes_of()),
        tile=(256, 256),
        compression="deflate",
        metadata={"axes": axes, "PhysicalSizeX": 0.5},
    )
    return path


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_stack(tmp_path_factory.mktemp("stack") / "stack.ome.tif")


@pytest.fixture(scope="module")
def merged(path: Path) -> Slide:
    return open_slide(path, 0.5, plane="sharpest")


def test_every_pixel_is_one_that_was_recorded_and_lesions_are_those_in_focus(merged: Slide) -> None:
    pixels, planes = merged.read(merged.box), planes_of()
    assert np.any([(pixels == plane).all(axis=2) for plane in planes], axis=0).all()
    for x, y, at in LESIONS:
        place = (slice(y - 20, y + 20), slice(x - 20, x + 20))
        np.testing.assert_array_equal(pixels[place], planes[at][place])
    assert merged.notes == ("3 focal planes were merged: at each pixel the sharpest",)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 880), st.integers(0, 1080), st.integers(1, 400), st.integers(1, 400))
def test_a_pixel_does_not_depend_on_the_region(merged: Slide, x: int, y: int, width: int, height: int) -> None:
    whole = merged._reader.read_level(0, 0, 0, merged.width, merged.height)
    width, height = min(width, merged.width - x), min(height, merged.height - y)
    np.testing.assert_array_equal(
        merged._reader.read_level(0, x, y, width, height), whole[y : y + height, x : x + width]
    )


def test_lesions_of_all_planes_are_found(path: Path, merged: Slide) -> None:
    inferer = SlideDetectionInferer(tile_mpp=0.5, workers=1)
    for number in range(PLANES):
        with open_slide(path, 0.5, plane=number + 1) as one:
            assert len(inferer(one, DarkNuclei()).boxes) == 1, "one plane shows one of them"
    boxes = inferer(merged, DarkNuclei()).boxes
    middles = {(round(x), round(y)) for x, y in (boxes[:, :2] + boxes[:, 2:]) / 2}
    assert len(middles) == len(LESIONS)
    assert all(min(np.hypot(x - a, y - b) for a, b, _ in LESIONS) < 4 for x, y in middles)


def test_levels_that_all_planes_have_are_merged(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as file:
        stack = np.stack(planes_of())
        options = {"tile": (256, 256), "compression": "deflate", "photometric": "rgb"}
        file.write(stack, subifds=1, metadata={"axes": "ZYXS"}, **options)
        file.write(stack[:, ::4, ::4], subfiletype=1, **options)
    with open_slide(tmp_path / "a.ome.tif", 0.25, plane="sharpest") as slide:
        assert [(level.width, level.height) for level in slide.facts.levels] == [(900, 1100), (225, 275)]
        small = slide._reader.read_level(1, 0, 0, 225, 275)
        x, y, at = LESIONS[1]
        np.testing.assert_array_equal(small[y // 4, x // 4], stack[at, y // 4 * 4, x // 4 * 4])


def test_what_has_no_several_focal_planes_is_refused(tmp_path: Path) -> None:
    one = tmp_path / "one.tif"
    tifffile.imwrite(one, planes_of()[0], tile=(256, 256))
    with pytest.raises(SlideError, match=r"no several focal planes.*1 plane.*leave out --plane, or give the number"):
        open_slide(one, 0.5, plane="sharpest")
    with pytest.raises(SlideError, match=r"planes are no focal planes.*--plane N"):
        open_slide(write_stack(tmp_path / "time.ome.tif", "TYXS"), 0.5, plane="sharpest")
    with pytest.raises(SlideError, match="remote slide are not merged"):
        open_slide("https://127.0.0.1/a.tif", plane="sharpest")
    with pytest.raises(ConfigError, match="invalid plane middle: give a whole number from 1, or sharpest, union"):
        ScreeningConfig(plane="middle")


def test_the_command_knows_the_word(path: Path) -> None:
    union = "cells were sought on each plane"
    for plane, said in (("sharpest", "3 focal planes were merged"), ("union", union), ("2", "plane 2 was read")):
        done = CliRunner().invoke(app, ["doctor", str(path), "--mpp", "0.5", "--plane", plane])
        assert said in " ".join(done.output.replace("│", " ").split())
