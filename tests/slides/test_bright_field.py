"""What is no stained slide in bright field is refused before it is screened as one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from slide_files import Scene, write_pyramid

from stride_monai.errors import SlideError
from stride_monai.slides import find_foreground, open_slide


def scene(dense: bool = True) -> Scene:
    picture = Scene(2400, 1800)
    if dense:
        picture.deposit(1200, 900, 600, 80)
    return picture


def looked_into(path: Path) -> float:
    with open_slide(path, 1.0) as slide:
        return find_foreground(slide).area_mm2


def as_rgb(gray: np.ndarray) -> np.ndarray:
    return np.repeat(gray[..., None], 3, axis=2).astype(np.uint8)


@pytest.mark.parametrize("kind", ["one sample", "RGB in JPEG", "red alone", "plain image"])
def test_a_grey_slide_is_refused(tmp_path: Path, kind: str) -> None:
    pixels = scene().pixels.astype(np.uint8)
    gray = pixels.mean(axis=2).astype(np.uint8)
    path = tmp_path / ("灰 a.png" if kind == "plain image" else "灰 a.tif")
    if kind == "plain image":
        Image.fromarray(gray).save(path)
    elif kind == "one sample":
        write_pyramid(path, gray, compression="deflate", downsamples=(1, 4))
    else:
        write_pyramid(path, as_rgb(pixels[..., 0] if kind == "red alone" else gray), downsamples=(1, 4))
    with pytest.raises(SlideError, match=r"^灰 a\.\w+: the picture is grey.*in colour") as caught:
        looked_into(path)
    assert "\n" not in str(caught.value)


def test_one_focal_plane_of_a_slide_is_in_colour_and_one_channel_is_not(tmp_path: Path) -> None:
    pixels = scene().pixels.astype(np.uint8)
    tifffile.imwrite(tmp_path / "z.ome.tif", np.stack([pixels, pixels]), tile=(256, 256), metadata={"axes": "ZYXS"})
    channels = np.moveaxis(pixels, 2, 0)
    tifffile.imwrite(
        tmp_path / "c.ome.tif", channels, tile=(256, 256), metadata={"axes": "CYX"}, photometric="minisblack"
    )
    with open_slide(tmp_path / "z.ome.tif", 1.0, plane=2) as slide:
        assert find_foreground(slide).area_mm2 > 0.5
    with pytest.raises(SlideError, match="no colour picture"):
        open_slide(tmp_path / "c.ome.tif", 1.0)
    with open_slide(tmp_path / "c.ome.tif", 1.0, plane=2) as slide, pytest.raises(SlideError, match="grey"):
        find_foreground(slide)


@pytest.mark.parametrize("colorful", [False, True])
def test_fluorescence_is_refused(tmp_path: Path, colorful: bool) -> None:
    pixels = 255 - scene().pixels.astype(np.uint8)  # bright cells on dark ground
    if not colorful:
        pixels = as_rgb(pixels[..., 0])
    with pytest.raises(SlideError, match=r"fluorescence and dark field.*only bright-field"):
        looked_into(write_pyramid(tmp_path / "a.tif", pixels, downsamples=(1, 4)))


def test_a_black_picture_is_refused(tmp_path: Path) -> None:
    path = write_pyramid(tmp_path / "a.tif", np.zeros((1200, 1500, 3), np.uint8), downsamples=(1, 4))
    with pytest.raises(SlideError, match="the picture is black"):
        looked_into(path)


def test_black_beyond_the_slide_is_not_the_slide(tmp_path: Path) -> None:
    pixels = np.zeros((3000, 4000, 3), np.uint8)
    part = scene().pixels.astype(np.uint8)
    pixels[:1800, :2400] = part
    assert looked_into(write_pyramid(tmp_path / "a.tif", pixels, compression="deflate", downsamples=(1, 4))) > 0.5


def test_empty_glass_is_blank_and_not_grey(tmp_path: Path) -> None:
    pixels = np.full((1800, 2400, 3), 243, np.uint8)
    assert looked_into(write_pyramid(tmp_path / "a.tif", pixels, downsamples=(1, 4))) == 0


def test_a_few_pale_cells_in_colour_are_read(tmp_path: Path) -> None:
    picture = scene(dense=False)
    for x in (500, 900, 1500):
        picture.cell(x, 800, pink=True)
    assert looked_into(picture.write(tmp_path / "a.tif")) > 0


def test_a_lone_cell_beside_black_pen_is_read(tmp_path: Path) -> None:
    picture = scene(dense=False)
    picture.stroke(300, 300, 2000, 320, 300, (40, 40, 40))
    picture.small_dark_cell(1200, 1300)
    assert looked_into(picture.write(tmp_path / "a.tif")) > 0


@pytest.mark.realdata
def test_real_fields_are_bright_and_in_colour(real_data: Path) -> None:
    fields = (
        sorted((real_data / "lbc").glob("*/*.jpg"))[::40] + sorted((real_data / "cric" / "images").glob("*.png"))[::40]
    )
    assert fields
    for path in fields:
        with open_slide(path, 0.3) as slide:
            find_foreground(slide)
