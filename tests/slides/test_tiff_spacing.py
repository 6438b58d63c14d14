"""What a TIFF states of its um/px, in the words of every maker."""

from __future__ import annotations

from pathlib import Path

import pytest
from slide_files import textured
from tiff_checks import (
    OME,
    mpp_of,
    ome_image,
    with_mpp,
    write,
)
from tiff_files import (
    JPEG,
    JPEG2000,
    RATIONAL,
    SHORT,
    page_of,
)


@pytest.mark.parametrize(
    ("size", "unit", "expected"),
    [
        ("0.25", None, 0.25),
        ("0.25", "µm", 0.25),
        ("0.25", "&#181;m", 0.25),
        ("250", "nm", 0.25),
        ("0.00025", "mm", 0.25),
        ("2500", "Å", 0.25),
        ("2.5e-7", "m", 0.25),
        ("0.00000984252", "in", 0.25),
        ("0,25", "µm", 0.25),
        ("1", "pixel", "neither"),
        ("0.25", "reference frame", "neither"),
        ("0", "µm", "neither"),
    ],
)
@pytest.mark.parametrize("tags", [None, 72, 0.5])
def test_ome_xml_states_um_per_px(
    tmp_path: Path, size: str, unit: str | None, expected: float | str, tags: float | None
) -> None:
    stated = " ".join(f'PhysicalSize{a}="{size}"' + (f' PhysicalSize{a}Unit="{unit}"' if unit else "") for a in "XY")
    page = page_of(textured(64, 64)).text(270, OME.format(ome_image(0, 64, 64, stated)))
    if tags is not None:
        with_mpp(page, tags if tags < 1 else 25_400 / tags, 2)
    found = mpp_of(write(tmp_path / "a.ome.tif", page))
    assert expected in found if isinstance(found, str) else found == pytest.approx(expected, rel=1e-4)


def test_ome_xml_without_a_size_leaves_it_to_the_tags(tmp_path: Path) -> None:
    page = page_of(textured(64, 64)).text(270, OME.format(ome_image(0, 64, 64)))
    assert mpp_of(write(tmp_path / "a.ome.tif", with_mpp(page, 0.5))) == pytest.approx(0.5, rel=1e-3)


@pytest.mark.parametrize(
    ("unit", "per_unit", "expected"),
    [
        ("micron", 4, 0.25),
        ("um", 4, 0.25),
        ("\\u00B5m", 4, 0.25),
        ("µm", 4, 0.25),
        ("nm", 0.004, 0.25),
        ("mm", 4000, 0.25),
        ("cm", 40_000, 0.25),
        ("inch", 101_600, 0.25),
        ("pixel", 1, "neither"),
        ("parsec", 4, "neither"),
    ],
)
def test_imagej_states_um_per_px_in_its_own_unit(
    tmp_path: Path, unit: str, per_unit: float, expected: float | str
) -> None:
    page = page_of(textured(64, 64)).text(270, f"ImageJ=1.53t\nunit={unit}\nloop=false\n")
    page.set(282, RATIONAL, round(per_unit * 1000), 1000).set(283, RATIONAL, round(per_unit * 1000), 1000)
    found = mpp_of(write(tmp_path / "a.tif", page.set(296, SHORT, 1)))
    assert expected in found if isinstance(found, str) else found == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("compression", [JPEG, JPEG2000])
@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("AppMag = 40|MPP = 0", 0.25),
        ("AppMag = 20|MPP = 0,2527", 0.2527),
        ("AppMag = 40,0", 0.25),
        ("MPP = 0.25", 0.25),
    ],
)
def test_aperio_states_um_per_px(tmp_path: Path, compression: int, said: str, expected: float) -> None:
    text = f"Aperio Image Library v11\r\n64x64 (32x32) Q=70|{said}|Left = 1"
    page = page_of(textured(64, 64), compression=compression).text(270, text)
    assert mpp_of(write(tmp_path / "a.svs", page)) == pytest.approx(expected, rel=1e-4)
