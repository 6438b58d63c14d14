"""Every reader that opens a file shows the same picture as every other, to the rounding of JPEG."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from extras import needs
from kfb_files import write_kfb
from PIL import Image
from slide_files import textured, write_pyramid

from stride_monai.slides import open_slide, probe_readers
from stride_monai.units import Box

ARRAY = textured(528, 704)
"""Of a size that 16 divides: elsewhere OpenSlide takes the ratio of a level from its rounded size, and shows it shifted
by a fraction of a pixel (test_readers.py has such files)."""

BOXES = [Box(0, 0, 704, 528), Box(-40, -30, 90, 70), Box(333.3, 211.7, 611.1, 470.2), Box(600, 400, 760, 560)]
ROUNDING = 2  # levels of 255: two decoders of the same JPEG, and the resampling of what they give


def readers_of(path: Path) -> list[str]:
    return [report.name for report in probe_readers(path) if report.ok]


def check_agreement(path: Path, expected: set[str]) -> None:
    """All readers that open the file, and these at least, show the same at every um/px."""
    names = readers_of(path)
    assert expected <= set(names)
    slides = {name: open_slide(path, 0.25, reader=name) for name in names}
    for left, right in combinations(slides, 2):
        for box in BOXES:
            for mpp in (0.25, 0.5, 0.8, 2.0):
                shown = [slides[name].read(box, mpp).astype(int) for name in (left, right)]
                assert np.abs(shown[0] - shown[1]).max() <= ROUNDING, (left, right, box, mpp)
    for slide in slides.values():
        slide.close()


@pytest.mark.parametrize("compression", ["jpeg", "deflate", None])
@pytest.mark.parametrize("downsamples", [(1,), (1, 2, 4, 8, 16)], ids=["1 level", "5 levels"])
def test_tiled_tiffs(tmp_path: Path, compression: str | None, downsamples: tuple[int, ...]) -> None:
    path = write_pyramid(tmp_path / "a.tif", ARRAY, 0.25, downsamples, compression)
    check_agreement(path, {"openslide", "tiff"})


def test_striped_tiffs(tmp_path: Path) -> None:
    path = write_pyramid(tmp_path / "a.tif", ARRAY, 0.25, (1,), "deflate", tile=None, rowsperstrip=16)
    check_agreement(path, {"tiff", "image"})


@pytest.mark.parametrize("codec", ["uncompressed", "jpeg", "jpeg 2000"])
def test_dicom(tmp_path: Path, codec: str) -> None:
    needs("wsidicom", "dicom")
    from dicom_files import write_dicom_series

    check_agreement(write_dicom_series(tmp_path / "a", [ARRAY], codec), {"openslide", "dicom"})


def test_one_picture_in_every_format_without_loss(tmp_path: Path) -> None:
    """Not two readers of one file, but one picture in many files, KFB's JPEG apart."""
    paths = [
        write_pyramid(tmp_path / f"{codec}.tif", ARRAY, 0.25, (1, 2), codec)
        for codec in ("deflate", "lzw", "zstd", "lzma", "packbits")
    ]
    Image.fromarray(ARRAY).save(tmp_path / "a.png")
    for path in [*paths, tmp_path / "a.png"]:
        with open_slide(path, 0.25) as slide:
            assert np.array_equal(slide.read(BOXES[0]), ARRAY), path.name
    needs("kfbslide", "kfb")
    write_kfb(tmp_path / "a.kfb", ARRAY)
    with open_slide(tmp_path / "a.kfb") as slide:
        assert np.abs(slide.read(BOXES[0]).astype(int) - ARRAY).mean() < 1.5


def test_twelve_levels(tmp_path: Path) -> None:
    """The coarsest is one pixel; whatever um/px is asked for, the picture lies in the same place."""
    side = 2048
    ramp = np.linspace(0, 120, side)
    ramps = np.stack(np.broadcast_arrays(ramp[:, None], ramp, 120 - ramp), axis=2)
    array = (np.tile(textured(256, 256), (8, 8, 1)) // 2 + ramps).astype(np.uint8)
    path = write_pyramid(tmp_path / "a.tif", array, 0.25, [2**level for level in range(12)], "deflate")
    for name in ("openslide", "tiff"):
        with open_slide(path, reader=name) as slide:
            assert [level.width for level in slide.facts.levels] == [side >> level for level in range(12)]
            for level in range(12):
                blocks = array.reshape(side >> level, 2**level, side >> level, 2**level, 3).mean(axis=(1, 3))
                shown = slide.read(slide.box, 0.25 * 2**level).astype(float)
                assert shown.shape == blocks.shape
                assert np.abs(shown - blocks).max() <= 1, (name, level)
