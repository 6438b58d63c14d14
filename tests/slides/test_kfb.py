"""KFB slides, written by the tests after the layout that kfbslide describes."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from extras import needs
from kfb_files import Place, write_kfb
from slide_files import textured, write_pyramid

from stride_monai.errors import MissingExtraError, RegionError, SlideError
from stride_monai.slides import is_slide_path, open_slide, probe_readers
from stride_monai.units import Box


@pytest.fixture(autouse=True)
def kfbslide() -> None:
    needs("kfbslide", "kfb")


def test_kfb_reads_like_a_tiff_of_the_same_picture(tmp_path: Path) -> None:
    array = textured(600, 900)
    write_kfb(tmp_path / "a.kfb", array, mpp=0.2519)
    write_pyramid(tmp_path / "a.tif", array, 0.2519, compression="deflate")
    with open_slide(tmp_path / "a.kfb") as slide, open_slide(tmp_path / "a.tif") as exact:
        facts = slide.facts
        assert (facts.reader, facts.format, facts.width, facts.height) == ("kfb", "kfb", 900, 600)
        assert (facts.mpp, facts.objective, slide.notes) == (0.2519, 40.0, ())
        assert [(level.width, level.height) for level in facts.levels] == [(900, 600), (450, 300), (225, 150)]
        for box in (
            Box(0, 0, 900, 600),
            Box(-40, -30, 90, 70),
            Box(333.3, 211.7, 611.1, 470.2),
            Box(850, 560, 990, 700),
        ):
            for mpp in (0.2519, 0.5038, 0.8, 1.3):
                difference = np.abs(slide.read(box, mpp).astype(int) - exact.read(box, mpp))
                assert difference.max() <= 16, "more than JPEG of this quality changes"
                assert difference.mean() < 1.5


def test_kfb_agrees_with_its_library_on_a_sound_file(tmp_path: Path) -> None:
    import kfbslide

    write_kfb(tmp_path / "a.kfb", textured(600, 900))
    theirs = kfbslide.OpenSlide(str(tmp_path / "a.kfb"))
    with open_slide(tmp_path / "a.kfb") as slide:
        for level, (x, y, width, height) in enumerate([(30, 250, 700, 300), (60, 90, 380, 200), (0, 0, 225, 150)]):
            seen = slide._reader.read_level(level, x, y, width, height).astype(int)
            rgba = np.asarray(theirs.read_region((x * 2**level, y * 2**level), level, (width, height)))
            assert np.abs(seen - rgba[..., :3]).max() <= 1


def test_a_tile_that_was_not_scanned_is_white(tmp_path: Path) -> None:
    write_kfb(tmp_path / "a.kfb", textured(600, 900), left_out=[(0, 1, 1)])
    with open_slide(tmp_path / "a.kfb") as slide:
        seen = slide.read(Box(250, 250, 520, 520))
    assert (seen[6:262, 6:262] == 255).all()
    assert seen[:6].max() < 255


@pytest.mark.parametrize("damage", ["zeros", "size", "other size", "cut"])
def test_a_damaged_tile_is_never_shown_as_another(tmp_path: Path, damage: str) -> None:
    """The library would show the next tile there, or stretch what it finds."""
    path = tmp_path / "a.kfb"
    places = write_kfb(path, textured(600, 900))
    with open_slide(path) as sound:
        right = sound.read(Box(512, 256, 900, 600))
    break_tile(path, places[0, 1, 1], damage)
    with open_slide(path) as slide:
        with pytest.raises(RegionError, match=r"a\.kfb: the tile at \(256, 256\) of level 0 cannot be decoded"):
            slide.read(Box(300, 300, 400, 400))
        assert slide.read(Box(0, 0, 900, 256)).shape == (256, 900, 3)
        if damage != "size":  # a wrong size moves all tiles that follow: these fail too
            assert np.array_equal(slide.read(Box(512, 256, 900, 600)), right)
        else:
            with pytest.raises(RegionError):
                slide.read(Box(520, 260, 700, 400))


def break_tile(path: Path, place: Place, damage: str) -> None:
    content = bytearray(path.read_bytes())
    if damage == "zeros":
        content[place.offset : place.offset + place.size] = bytes(place.size)
    elif damage == "cut":
        content[place.offset + place.size // 2 : place.offset + place.size] = bytes(place.size - place.size // 2)
    elif damage == "size":
        struct.pack_into("<I", content, place.record + 32, place.size - 7)
    else:
        struct.pack_into("<I", content, place.record + 12, 200)
    path.write_bytes(content)


def test_files_that_are_cut_or_lie_are_refused_in_one_line(tmp_path: Path) -> None:
    good = tmp_path / "good.kfb"
    places = write_kfb(good, textured(600, 900), mpp=0.25)
    content = good.read_bytes()
    index = min(place.record for place in places.values())
    first = min(place.offset for place in places.values())
    bad = {
        "head": content[:50],
        "index": content[: index + 100],
        "most": content[: first + (len(content) - first) // 4],
        "count": content[:16] + struct.pack("<I", 2**31) + content[20:],
        "side": content[:88] + struct.pack("<I", 2**30) + content[92:],
        "size": content[:20] + bytes(8) + content[28:],
        "scale": content[:28] + struct.pack("<I", 39) + content[32:],
        "codec": content[:32] + b"JP2K" + content[36:],
    }
    for name, data in bad.items():
        path = tmp_path / f"{name}.kfb"
        path.write_bytes(data)
        with pytest.raises(SlideError, match=rf"^{name}\.kfb") as caught:
            open_slide(path)
        assert "\n" not in str(caught.value)
        assert "KFB" in str(caught.value), name


@pytest.mark.parametrize(
    ("size", "place", "says"),
    [
        ((2**31 - 1, 600), (0, 0), "mm, larger than any slide"),
        ((900, 2**31 - 1), (0, 0), "mm, larger than any slide"),
        ((900, 600), (2**31, 0), "1 of 12 tiles of a level lie beside the picture"),
        ((900, 600), (0, 1024), "1 of 12 tiles of a level lie beside the picture"),
    ],
)
def test_sizes_and_places_that_no_slide_has_are_refused(
    tmp_path: Path, size: tuple[int, int], place: tuple[int, int], says: str
) -> None:
    """The places of the tiles that are left out are white: a slide of 2 km would be surveyed for hours."""
    path = tmp_path / "a.kfb"
    record = write_kfb(path, textured(600, 900))[0, 0, 0].record
    data = bytearray(path.read_bytes())
    struct.pack_into("<II", data, 20, *size[::-1])
    struct.pack_into("<II", data, record + 4, *place)
    path.write_bytes(data)
    with pytest.raises(SlideError, match=says):
        open_slide(path)


def test_another_version_is_said(tmp_path: Path) -> None:
    write_kfb(tmp_path / "a.kfb", textured(300, 300), version=1.7)
    with open_slide(tmp_path / "a.kfb") as slide:
        assert slide.notes == ("KFB version 1.7; known is 1.6",)


def test_without_the_library_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_kfb(tmp_path / "切片 1.kfb", textured(300, 300))
    assert is_slide_path(tmp_path / "切片 1.kfb")
    monkeypatch.setitem(sys.modules, "kfbslide", None)
    with pytest.raises(MissingExtraError, match=r"切片 1\.kfb.*stride-monai\[kfb\]"):
        open_slide(tmp_path / "切片 1.kfb")
    reports = {report.name: report for report in probe_readers(tmp_path / "切片 1.kfb")}
    assert "stride-monai[kfb]" in reports["kfb"].detail


def test_what_is_no_kfb_goes_to_other_readers(tmp_path: Path) -> None:
    (tmp_path / "a.kfb").write_bytes(b"something else" * 9)
    with pytest.raises(SlideError, match="no slide or image of a known format"):
        open_slide(tmp_path / "a.kfb")
