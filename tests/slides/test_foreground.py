"""Foreground and streaming: every cell is read, pen and empty glass are not; tiles come in order."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from slide_files import Scene, textured, write_pyramid

from stride_monai.errors import RegionError, SlideError
from stride_monai.slides import Foreground, Slide, Tile, TileGrid, find_foreground, open_slide, stream_tiles
from stride_monai.slides.streaming import done_ahead
from stride_monai.units import Box


def at(foreground: Foreground, x: float, y: float, side: float = 10.0) -> bool:
    """Whether the place (um; scenes have 1 um/px) is read."""
    return foreground.touches(Box.around(x, y, side))


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Foreground:
    picture = Scene(4800, 3600, glass=(240, 236, 218))
    picture.deposit(1700, 1800, 900, 70)
    picture.small_dark_cell(4100, 500)
    picture.cell(4400, 3200, pink=True)
    picture.stroke(400, 3300, 3600, 3350, 350, (40, 140, 70))
    picture.stroke(3200, 300, 3300, 2700, 320, (40, 40, 45))
    picture.stroke(300, 300, 2700, 250, 400, (60, 60, 180))
    picture.bubble(4100, 2000, 350)
    picture.bubble(1700, 1800, 150)
    picture.cell(1700, 1800)
    picture.light(0.2)
    path = picture.write(tmp_path_factory.mktemp("scene") / "scene.tif")
    with open_slide(path) as slide:
        return find_foreground(slide)


def test_the_deposit_is_read_whole(scene: Foreground) -> None:
    angles, radii = np.meshgrid(np.linspace(0, 6.2, 24), np.linspace(0, 750, 6))
    xs, ys = 1700 + radii * np.cos(angles), 1800 + radii * np.sin(angles)
    assert all(at(scene, x, y, 60) for x, y in zip(xs.flat, ys.flat, strict=True))


def test_lone_cells_are_read(scene: Foreground) -> None:
    assert at(scene, 4100, 500)
    assert at(scene, 4400, 3200)


def test_pen_bubbles_and_glass_are_not_read(scene: Foreground) -> None:
    assert not any(at(scene, x, 3294 + x / 64) for x in (600, 2000, 3400)), "green pen"
    assert not any(at(scene, 3250, y) for y in (600, 1500, 2500)), "black pen"
    assert not any(at(scene, x, 280) for x in (500, 1500, 2500)), "blue pen"
    assert not at(scene, 4100, 2000), "inside of a bubble"
    assert not at(scene, 4100 + 362, 2000), "rim of a bubble"
    assert not any(at(scene, x, y, 200) for x, y in ((3800, 1200), (3600, 3000), (4500, 200))), "glass"
    assert at(scene, 1700, 1800), "a cell in a bubble is read"
    assert 0.1 < scene.pen_fraction < 0.25
    assert any(note.startswith("Pen or another opaque smear covers") for note in scene.notes)
    assert any(note.startswith("Air bubbles cover") for note in scene.notes)
    assert 2.5 < scene.area_mm2 < 6


@pytest.mark.parametrize("glass", [(255, 255, 255), (245, 240, 215), (200, 205, 200)])
def test_empty_glass_is_empty(tmp_path: Path, glass: tuple[int, int, int]) -> None:
    picture = Scene(2000, 1800, glass=glass)
    picture.light(0.15)
    foreground = find_foreground(open_slide(picture.write(tmp_path / "a.tif")))
    assert foreground.area_mm2 == 0
    assert not foreground.touches(Box(0, 0, 2000, 1800))
    assert "No cells were found." in foreground.notes


@pytest.mark.parametrize("glass", [(255, 255, 255), (225, 222, 210)])
def test_every_pale_and_small_cell_is_read(tmp_path: Path, glass: tuple[int, int, int]) -> None:
    picture = Scene(3000, 2500, glass=glass, seed=5)
    places = [(float(x), float(y)) for x in range(200, 3000, 430) for y in range(200, 2500, 390)]
    for number, (x, y) in enumerate(places):
        (picture.small_dark_cell if number % 2 else picture.cell)(x, y)
    foreground = find_foreground(open_slide(picture.write(tmp_path / "a.tif")))
    assert all(at(foreground, x, y) for x, y in places)


def test_a_field_is_read_whole_unless_blank(tmp_path: Path) -> None:
    for name, picture in {"dense": textured(600, 800), "blank": np.full((600, 800, 3), 244, np.uint8)}.items():
        Image.fromarray(picture).save(tmp_path / f"{name}.png")
    assert find_foreground(open_slide(tmp_path / "dense.png", 0.228)).mask.all()
    assert not find_foreground(open_slide(tmp_path / "blank.png", 0.228)).mask.any()


def test_what_cannot_be_decoded_is_foreground(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_pyramid(tmp_path / "a.tif", np.full((2000, 2000, 3), 240, np.uint8), 1.0, (1,))
    slide = open_slide(path)
    whole = slide._render

    def render(box: Box, width: int, height: int, level: int) -> object:
        if box.x0 < 700 and box.y0 < 700:
            raise RegionError("a.tif: damaged")
        return whole(box, width, height, level)

    monkeypatch.setattr(slide, "_render", render)
    foreground = find_foreground(slide)
    assert foreground.touches(Box(100, 100, 110, 110))
    assert not foreground.touches(Box(1700, 1700, 1800, 1800))
    assert any("cannot be decoded" in note for note in foreground.notes)


def test_touches_handles_any_box() -> None:
    mask = np.zeros((10, 20), bool)
    mask[9, 19] = True
    foreground = Foreground(mask.astype(np.uint8), 32.0, 0.0)
    assert foreground.touches(Box(19 * 32, 9 * 32, 19 * 32 + 0.5, 9 * 32 + 0.5))
    assert foreground.touches(Box(-1e6, -1e6, 1e6, 1e6))
    assert not foreground.touches(Box(0, 0, 19 * 32, 9 * 32))
    assert not foreground.touches(Box(-100, -100, -5, -5))
    assert not foreground.touches(Box(640, 320, 900, 900))


@pytest.mark.realdata
def test_real_fields_are_read_whole(real_data: Path) -> None:
    for path in sorted((real_data / "cric" / "images").iterdir()):
        assert find_foreground(open_slide(path, 0.228)).mask.all()


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "least", "most"), [("CMU-1-Small-Region.svs", 0.45, 0.7), ("tcga-cr-7395-01a-01-ts1.svs", 0.55, 0.8)]
)
def test_real_tissue_is_no_pen(real_data: Path, name: str, least: float, most: float) -> None:
    foreground = find_foreground(open_slide(real_data / "wsi" / name, 0.5))
    assert foreground.pen_fraction == 0
    assert least < foreground.mask.mean() < most


@pytest.mark.realdata
def test_a_slide_without_decodable_pixels_fails(real_data: Path) -> None:
    with pytest.raises(SlideError, match=r"unreadable\.svs"):
        find_foreground(open_slide(real_data / "wsi" / "unreadable.svs"))


# Streaming


@pytest.fixture(scope="module")
def slide_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pyramid(tmp_path_factory.mktemp("stream") / "a.tif", textured(1200, 1600), 0.25)


@pytest.fixture
def slide(slide_path: Path) -> Slide:
    return open_slide(slide_path)


def tiles_of(slide: Slide) -> list[Tile]:
    return list(TileGrid(slide.width, slide.height, slide.mpp, 0.5, 128, 16))


@pytest.mark.parametrize(("workers", "prefetch"), [(1, 1), (2, None), (4, 3)])
def test_tiles_come_in_order_and_equal_single_reads(slide: Slide, workers: int, prefetch: int | None) -> None:
    tiles = tiles_of(slide)
    streamed = list(stream_tiles(slide, tiles, 0.5, workers, prefetch))
    assert [tile for tile, _ in streamed] == tiles
    for tile, pixels in streamed[::7]:
        assert isinstance(pixels, np.ndarray)
        assert np.array_equal(pixels, slide.read(tile.box, 0.5))


def test_few_tiles_are_read_ahead(slide: Slide, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[Box] = []
    read = slide.read

    def counted(box: Box, mpp: float | None = None) -> object:
        begun.append(box)
        return read(box, mpp)

    monkeypatch.setattr(slide, "read", counted)
    for taken, _ in enumerate(stream_tiles(slide, tiles_of(slide), 0.5, 2, 5)):
        assert len(begun) <= taken + 6


def test_closing_early_stops_the_threads(slide: Slide) -> None:
    before = threading.active_count()
    stream = stream_tiles(slide, tiles_of(slide), 0.5, 3)
    next(stream)
    stream.close()
    assert threading.active_count() == before


def test_results_come_in_order_few_ahead_and_an_error_ends_them() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for k in range(20):
            taken.append(k)
            yield k

    with ThreadPoolExecutor(3) as pool:
        for k, found in enumerate(done_ahead(pool, lambda n: n * n, items(), 4)):
            assert found == k * k
            assert len(taken) <= k + 5
        with pytest.raises(ZeroDivisionError):
            list(done_ahead(pool, lambda n: 1 // (n - 3), range(10), 2))


def test_an_unreadable_tile_is_handed_over_as_its_error(slide: Slide, monkeypatch: pytest.MonkeyPatch) -> None:
    tiles = tiles_of(slide)[:6]
    read = slide.read

    def failing(box: Box, mpp: float | None = None) -> object:
        if box == tiles[2].box:
            raise RegionError("a.tif: damaged")
        return read(box, mpp)

    monkeypatch.setattr(slide, "read", failing)
    kinds = [isinstance(got, RegionError) for _, got in stream_tiles(slide, tiles, 0.5)]
    assert kinds == [False, False, True, False, False, False]


def test_impossible_numbers_of_workers_are_refused(slide: Slide) -> None:
    with pytest.raises(ValueError, match="at least one"):
        next(stream_tiles(slide, tiles_of(slide), 0.5, workers=0))
