"""Readers: the same pixels from each, one clear line for every bad file."""

from __future__ import annotations

import os
import sys
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import plug_ins
import pytest
import tifffile
from PIL import Image
from slide_files import textured, write_pyramid

from stride_monai.errors import ConfigError, MissingExtraError, RegionError, SlideError, SpacingError
from stride_monai.slides import StatedFacts, is_slide_path, open_slide, probe_readers
from stride_monai.slides.readers import cucim as cucim_reader
from stride_monai.slides.readers import image as image_reader
from stride_monai.slides.readers.registry import READERS
from stride_monai.slides.spacing import choose_spacing, stated_number
from stride_monai.units import Box

BOXES = [Box(0, 0, 700, 500), Box(-40, -30, 90, 70), Box(333.3, 211.7, 611.1, 470.2), Box(600, 400, 760, 560)]


def both(path: Path, mpp: float | None = None) -> list[Any]:
    return [open_slide(path, mpp, reader=name) for name in ("openslide", "tiff")]


@pytest.mark.parametrize("compression", ["jpeg", "deflate", "lzw", "zstd", "jpeg2000", None])
@pytest.mark.parametrize("downsamples", [(1, 2, 4), (1, 2.5)])
def test_openslide_and_tiff_agree(tmp_path: Path, compression: str | None, downsamples: tuple[float, ...]) -> None:
    if compression == "jpeg2000":
        pytest.importorskip("imagecodecs")
        path = write_pyramid(tmp_path / "a.tif", textured(500, 700), 0.25, downsamples, "jpeg2000")
        slides = [open_slide(path, reader="tiff"), open_slide(path)]
        assert slides[1].facts.reader == "tiff", "OpenSlide does not read JPEG 2000 in a plain TIFF; auto must go on"
    else:
        slides = both(write_pyramid(tmp_path / "a.tif", textured(500, 700), 0.25, downsamples, compression))
    for box in BOXES:
        for mpp in (0.25, 0.5, 0.8, 1.3):
            left, right = (slide.read(box, mpp).astype(int) for slide in slides)
            # At levels of uneven ratio OpenSlide's whole-pixel addressing shifts by a fraction of a pixel.
            assert np.abs(left - right).max() <= (2 if max(downsamples) == 4 else 8)
    assert slides[0].facts.mpp == pytest.approx(0.25, abs=1e-6)


def test_lossless_level_0_is_exact(tmp_path: Path) -> None:
    array = textured(500, 700)
    for slide in both(write_pyramid(tmp_path / "a.tif", array, compression="deflate")):
        assert np.array_equal(slide.read(Box(0, 0, 700, 500)), array)


def test_striped_gray_and_alpha_tiffs(tmp_path: Path) -> None:
    array = textured(500, 700)
    striped = write_pyramid(tmp_path / "s.tif", array, compression="deflate", tile=None, rowsperstrip=16)
    gray = write_pyramid(tmp_path / "g.tif", array[..., 0], compression="deflate", downsamples=(1,))
    alpha = tmp_path / "a.tif"
    opaque = np.full((500, 700, 1), 255, np.uint8)
    opaque[:100] = 0
    tifffile.imwrite(
        alpha, np.concatenate([array, opaque], 2), tile=(64, 64), photometric="rgb", extrasamples=["unassalpha"]
    )
    part = Box(30, 90, 650, 480)
    expected = array[90:480, 30:650]
    slide = open_slide(striped, reader="tiff")
    assert len(slide.facts.levels) == 3
    assert np.array_equal(slide.read(part), expected)
    assert np.array_equal(open_slide(gray, reader="tiff").read(part), expected[..., :1].repeat(3, 2))
    seen = open_slide(alpha, 0.25, reader="tiff").read(part)
    assert (seen[:10] == 255).all()
    assert np.array_equal(seen[10:], expected[10:])


def test_subifd_pyramids_have_all_levels(tmp_path: Path) -> None:
    path = write_pyramid(tmp_path / "a.tif", textured(500, 700), subifds=True)
    assert len(open_slide(path, reader="tiff").facts.levels) == 3


def test_aperio_facts_and_no_label(tmp_path: Path) -> None:
    path = tmp_path / "a.svs"
    text = "Aperio Image Library v1\r\n700x500 (256x256) JPEG/RGB Q=90|AppMag = 40|MPP = 0.2527|User = someone"
    array = textured(512, 768)
    with tifffile.TiffWriter(path) as writer:
        options: dict[str, Any] = {"metadata": None, "photometric": "rgb", "compression": "jpeg"}
        writer.write(array, tile=(256, 256), description=text, **options)
        writer.write(array[::2, ::2], description="Aperio Image Library v1\r\nthumbnail", rowsperstrip=256, **options)
        writer.write(
            array[:, :512], description="Aperio Image Library v1\r\nlabel 512x512", rowsperstrip=512, **options
        )
    slide = open_slide(path, reader="tiff")
    assert (slide.facts.mpp, slide.facts.objective, slide.facts.format) == (0.2527, 40, "aperio")
    assert [level.width for level in slide.facts.levels] == [768]
    assert "someone" not in repr(slide.facts)


def test_jpeg2000_in_ycbcr(tmp_path: Path) -> None:
    """Aperio's compression 33003 stores YCbCr and leaves the conversion to the reader."""
    imagecodecs = pytest.importorskip("imagecodecs")
    array = textured(256, 256)
    ycbcr = np.asarray(Image.fromarray(array).convert("YCbCr"))
    data = imagecodecs.jpeg2k_encode(ycbcr, level=0, codecformat="j2k", mct=False, reversible=True)
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(
            iter([data]), shape=(256, 256, 3), dtype=np.uint8, tile=(256, 256), photometric="rgb", compression=33003
        )
    seen = open_slide(path, 0.25, reader="tiff").read(Box(0, 0, 256, 256)).astype(int)
    assert np.abs(seen - array).max() <= 3


@pytest.mark.parametrize(
    ("suffix", "options"), [("png", {}), ("jpg", {"quality": 95}), ("webp", {"lossless": True}), ("bmp", {})]
)
def test_plain_images(tmp_path: Path, suffix: str, options: dict[str, Any]) -> None:
    array = textured(120, 150)
    path = tmp_path / f"field.{suffix}"
    Image.fromarray(array).save(path, **options)
    with pytest.raises(SpacingError, match="--mpp"):
        open_slide(path)
    slide = open_slide(path, 0.228)
    assert (slide.facts.reader, slide.facts.mpp_source, slide.width, slide.height) == ("image", "given", 150, 120)
    assert np.abs(slide.read(Box(0, 0, 150, 120)).astype(int) - array).max() <= (20 if suffix == "jpg" else 0)


def test_an_image_too_large_is_refused_before_it_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(textured(50, 50)).save(path)
    limit = Image.MAX_IMAGE_PIXELS
    monkeypatch.setattr(image_reader, "MAX_BYTES", 9000)
    with pytest.raises(SlideError, match="too large"):
        open_slide(path, 0.25)
    assert limit == Image.MAX_IMAGE_PIXELS


def bad_files(folder: Path) -> dict[str, Path]:
    good = write_pyramid(folder / "good.tif", textured(300, 300))
    png = folder / "cut.png"
    Image.fromarray(textured(90, 90)).save(png)
    png.write_bytes(png.read_bytes()[:4000])
    contents = {"empty.svs": b"", "text.svs": b"not a slide\n" * 50, "head.tif": good.read_bytes()[:60]}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    (folder / "folder.svs").mkdir()
    names = [*contents, "folder.svs", "missing.svs", "cut.png"]
    return {name: folder / name for name in names}


@pytest.mark.parametrize("name", ["empty.svs", "text.svs", "head.tif", "folder.svs", "missing.svs", "cut.png"])
def test_bad_files_give_one_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(SlideError) as caught:
        open_slide(bad_files(tmp_path)[name], 0.25)
    line = str(caught.value)
    assert line.startswith(name)
    assert "\n" not in line
    assert str(tmp_path) not in line
    assert len(line) < 400


def test_deep_pixels_are_refused_by_the_tile_decoder(tmp_path: Path) -> None:
    path = tmp_path / "deep.tif"
    tifffile.imwrite(path, np.zeros((64, 64, 3), np.uint16), tile=(16, 16), photometric="rgb")
    with pytest.raises(SlideError, match=r"deep\.tif: 16-bit"):
        open_slide(path, 0.25, reader="tiff")


def damaged(path: Path, level_tile: int = 0) -> tuple[Path, Path]:
    """A copy of a JPEG pyramid with the stream of one tile destroyed."""
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        offset, size = page.dataoffsets[level_tile], page.databytecounts[level_tile]
    content = bytearray(path.read_bytes())
    content[offset : offset + size] = b"\x00" * size
    copy = path.with_name(f"damaged-{path.name}")
    copy.write_bytes(content)
    return copy, path


@pytest.mark.parametrize("reader", ["openslide", "tiff"])
def test_a_damaged_tile_leaves_the_rest_readable(tmp_path: Path, reader: str) -> None:
    path, good = damaged(write_pyramid(tmp_path / "a.tif", textured(512, 1024)))
    with open_slide(path, reader=reader) as slide, open_slide(good, reader=reader) as sound:
        for _ in range(2):
            with pytest.raises(RegionError, match=r"damaged-a\.tif"):
                slide.read(Box(10, 10, 100, 100))
            box = Box(300, 20, 800, 400)
            assert np.array_equal(slide.read(box), sound.read(box))


@pytest.mark.parametrize("reader", ["openslide", "tiff"])
def test_damage_met_by_one_thread_spoils_no_other(tmp_path: Path, reader: str) -> None:
    path, good = damaged(write_pyramid(tmp_path / "a.tif", textured(512, 1024)))
    boxes = [Box(10, 10, 60, 60) if i % 5 == 0 else Box(256 + 7 * i, 30, 400 + 7 * i, 90) for i in range(60)]

    def read(slide: Any, box: Box) -> Any:
        try:
            return slide.read(box)
        except RegionError:
            return None

    with open_slide(path, reader=reader) as slide, open_slide(good, reader=reader) as sound:
        with ThreadPoolExecutor(6) as pool:
            seen = list(pool.map(lambda box: read(slide, box), boxes))
        for box, pixels in zip(boxes, seen, strict=True):
            if box.x0 == 10:
                assert pixels is None
            else:
                assert np.array_equal(pixels, sound.read(box))


def test_a_truncated_file_raises_and_is_never_painted(tmp_path: Path) -> None:
    path = write_pyramid(tmp_path / "a.tif", textured(512, 1024), downsamples=(1,))
    with tifffile.TiffFile(path) as tiff:
        last = tiff.pages[0].dataoffsets[-1]
    os.truncate(path, last + 20)
    slide = open_slide(path, 0.25, reader="tiff")
    assert slide.read(Box(0, 0, 200, 200)).shape == (200, 200, 3)
    with pytest.raises(RegionError):
        slide.read(Box(900, 400, 1000, 500))


def test_a_named_reader_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(textured(50, 50)).save(path)
    for name in ("openslide", "tiff"):
        with pytest.raises(SlideError, match=r"a\.png"):
            open_slide(path, 0.25, reader=name)
    with pytest.raises(ConfigError, match="tiff, openslide, image"):
        open_slide(path, 0.25, reader="nosuch")


def test_probe_asks_every_reader(tmp_path: Path) -> None:
    reports = {r.name: r for r in probe_readers(write_pyramid(tmp_path / "a.tif", textured(300, 400)))}
    assert reports["openslide"].ok
    assert reports["tiff"].ok
    assert "400x300" in reports["tiff"].detail
    assert not reports["image"].ok
    with pytest.raises(SlideError, match="does not exist"):
        probe_readers(tmp_path / "none.svs")


def test_third_party_readers_add_formats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class SdpcReader(image_reader.ImageReader):
        name = "sdpc"
        suffixes = (".sdpc",)

        def __init__(self, path: Path) -> None:
            picture = path.with_suffix(".png")
            Image.fromarray(textured(50, 60)).save(picture)
            super().__init__(picture)

    plug_ins.add(monkeypatch, READERS, sdpc=SdpcReader)
    path = tmp_path / "a.sdpc"
    path.write_bytes(b"SDPC")
    assert is_slide_path(path)
    assert open_slide(path, 0.25).facts.reader == "sdpc"
    assert open_slide(path, 0.25, reader="sdpc").width == 60


def test_slide_suffixes() -> None:
    assert is_slide_path(Path("x/A.SVS"))
    assert not is_slide_path(Path("x/.hidden.svs"))
    assert not is_slide_path(Path("manifest.csv"))


# um/px


@pytest.mark.parametrize(
    ("stated", "given", "expected"),
    [
        (StatedFacts(0.25, 0.25, 40), None, (0.25, "metadata", 0.25)),
        (StatedFacts(0.25, 0.26), None, (0.255, "metadata", 0.255)),
        (StatedFacts(None, None, 40), None, (0.25, "objective", None)),
        (StatedFacts(352.8, 352.8, 40), 0.5, (0.5, "given", 352.8)),
        (StatedFacts(), 0.5, (0.5, "given", None)),
        (StatedFacts(0.0, 0.0, 40), None, (0.25, "objective", None)),  # 0 is no statement
        (StatedFacts(-1.0, 0.25, 40), None, (0.25, "metadata", 0.25)),
        (StatedFacts(None, None, 40), 0.0325, (0.0325, "given", None)),  # 100x and a small camera's pixels
        (StatedFacts(), 0.0913, (0.0913, "given", None)),
        (StatedFacts(), 1.6, (1.6, "given", None)),
    ],
)
def test_spacing_chosen(stated: StatedFacts, given: float | None, expected: tuple[float, str, float | None]) -> None:
    spacing = choose_spacing("a.svs", stated, given)
    assert (spacing.mpp, spacing.source, spacing.in_file) == (pytest.approx(expected[0]), expected[1], expected[2])


@pytest.mark.parametrize(
    ("stated", "given", "words"),
    [
        (StatedFacts(), None, "neither um/px nor objective"),
        (StatedFacts(352.8, 352.8, 40), None, "352.8"),
        (StatedFacts(0.25, 0.27), None, "0.25 and 0.27"),
        (StatedFacts(0.0, 0.0), None, "neither um/px nor objective"),
        (StatedFacts(0.0, 0.0, 0.0), None, "neither um/px nor objective"),
        (StatedFacts(0.065, 0.065), None, "states 0.065 um/px, which is outside"),
        (StatedFacts(None, None, 2), None, "2x objective"),
        (StatedFacts(float("nan"), float("inf")), None, "neither"),
        (StatedFacts(0.25, 0.25), 25.0, "--mpp 25"),
        (StatedFacts(0.25, 0.25), float("nan"), "--mpp nan"),
    ],
)
def test_spacing_refused(stated: StatedFacts, given: float | None, words: str) -> None:
    with pytest.raises(SpacingError, match=words) as caught:
        choose_spacing("a.svs", stated, given)
    assert "--mpp" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.25", 0.25),
        (" 0,2527 ", 0.2527),
        ("40", 40.0),
        ("1,234.5", None),
        ("1,2,3", None),
        ("", None),
        (None, None),
        ("nan", None),
    ],
)
def test_numbers_as_files_state_them(text: str | None, value: float | None) -> None:
    assert stated_number(text) == value


# cuCIM: never imported here; a stand-in takes its place


def test_cucim_missing_names_the_extra(tmp_path: Path) -> None:
    if "cucim" in sys.modules:
        pytest.skip("cuCIM is loaded")
    with pytest.raises(MissingExtraError, match=r"stride-monai\[cucim\]"):
        open_slide(write_pyramid(tmp_path / "a.tif", textured(300, 300)), reader="cucim")


@pytest.mark.parametrize(
    ("body", "words"), [("import time; time.sleep(60)", "did not return"), ("raise OSError('no lib')", "no lib")]
)
def test_cucim_is_probed_outside_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, words: str
) -> None:
    (tmp_path / "cucim.py").write_text(body)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(cucim_reader, "_probe_result", [])
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert words in cucim_reader.probe_cucim(seconds=2.0)
    assert "cucim" not in sys.modules


class FakeCuImage:
    def __init__(self, path: str) -> None:
        self._slide = open_slide(path, reader="tiff")
        sizes = [(level.width, level.height) for level in self._slide.facts.levels]
        self.resolutions = {"level_dimensions": sizes, "level_downsamples": [1.0, 2.0, 4.0]}
        self.metadata = {
            "cucim": {"spacing": [0.25, 0.25, 1.0], "spacing_units": ["micrometer", "micrometer", "color"]}
        }

    def read_region(self, location: tuple[int, int], size: tuple[int, int], level: int) -> Any:
        scale = 2**level
        if location == (0, 0) and size == (1, 1):
            raise RuntimeError("bad tile")
        return self._slide._reader.read_level(level, location[0] // scale, location[1] // scale, *size)

    def close(self) -> None:
        self._slide.close()


def test_cucim_reads_like_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("cucim")
    module.CuImage = FakeCuImage  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cucim", module)
    path = write_pyramid(tmp_path / "a.tif", textured(500, 700))
    slide, other = open_slide(path, reader="cucim"), open_slide(path, reader="tiff")
    assert (slide.facts.reader, slide.facts.mpp) == ("cucim", 0.25)
    for box in BOXES:
        for mpp in (0.25, 0.6, 1.0):
            assert np.array_equal(slide.read(box, mpp), other.read(box, mpp))
    with pytest.raises(RegionError, match="bad tile"):
        slide.read(Box(0, 0, 1, 1))


# Real files


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["CMU-1-Small-Region.svs", "tcga-cr-7395-01a-01-ts1.svs"])
def test_real_slides_are_read_alike(real_data: Path, name: str) -> None:
    left, right = both(real_data / "wsi" / name, 0.5)
    assert [level.width for level in left.facts.levels] == [level.width for level in right.facts.levels]
    for mpp in (0.5, 1.0, 1.7):
        box = Box(500.5, 700.25, 1500.5, 1600.75)
        difference = np.abs(left.read(box, mpp).astype(int) - right.read(box, mpp))
        # OpenSlide takes level-0 addresses only: where its ratio is 2.0005 it interpolates, by hundredths of a pixel.
        assert difference.max() <= (2 if left.level_for(mpp) == 0 else 20)
        assert difference.mean() < 1.5


@pytest.mark.realdata
def test_real_um_per_px(real_data: Path) -> None:
    folder = real_data / "wsi"
    slide = open_slide(folder / "CMU-1-Small-Region.svs")
    assert (slide.mpp, slide.facts.mpp_source, slide.facts.reader) == (0.499, "metadata", "tiff")
    refused = {
        "tcga-cr-7395-01a-01-ts1.svs": None,
        "jpeg.dicom": 16.783,
        "yb10kx5k.zstd.tiff": 352.858,
        "boxes.tiff": 352.778,
    }
    for name, in_file in refused.items():
        with pytest.raises(SpacingError, match="--mpp"):
            open_slide(folder / name)
        facts = open_slide(folder / name, 0.5).facts
        assert (facts.mpp, facts.mpp_source) == (0.5, "given")
        assert facts.mpp_in_file == (None if in_file is None else pytest.approx(in_file, abs=1e-3))


@pytest.mark.realdata
def test_real_damaged_files(real_data: Path) -> None:
    folder = real_data / "wsi"
    for name in ("broken.svs", "unopenable.tiff"):
        with pytest.raises(SlideError, match=name):
            open_slide(folder / name, 0.5)
    with open_slide(folder / "unreadable.svs") as slide:
        with pytest.raises(RegionError, match=r"unreadable\.svs"):
            slide.read(Box(0, 0, 16, 16))
        with pytest.raises(SlideError, match="no part of it can be decoded"):
            slide.overview()
    assert open_slide(folder / "small.svs").overview()[0].shape == (16, 16, 3)
