"""Cells of a slide, and of a part of it, as a bag with what is known of the slide."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from detection_toys import DarkSpots
from numpy.typing import NDArray
from PIL import Image

from stride_monai.data.bags.bag import BagFile
from stride_monai.errors import ConfigError, RegionError, SlideError
from stride_monai.inferers.bag_files import make_bag
from stride_monai.inferers.clock import Clock
from stride_monai.inferers.find import CellFinder
from stride_monai.inferers.slide_detection import SlideDetectionInferer
from stride_monai.slides import open_slide
from stride_monai.slides.slide import Slide
from stride_monai.units import Box


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dark squares in three rows, on a field."""
    image = np.full((600, 800, 3), 240, np.uint8)
    for y in range(64, 600, 192):
        for x in range(64, 800, 96):
            image[y : y + 32, x : x + 32] = np.array((30, 40, 50)) + x // 8
    path = tmp_path_factory.mktemp("find") / "field.png"
    Image.fromarray(image).save(path)
    return path


def finder(top_k: int = 200) -> CellFinder:
    inferer = SlideDetectionInferer(tile_px=128, overlap_px=32, top_k=top_k, workers=1)
    return CellFinder(DarkSpots(), inferer, crop_px=16)


def test_a_region_s_bag_holds_the_cells_of_the_slide_s_bag_in_it(path: Path) -> None:
    region = Box(100, 150, 500, 450)
    with open_slide(path, mpp=0.5) as slide:
        clock = Clock()
        whole, part = finder().find(slide), finder().find(slide, region, clock=clock)
        with pytest.raises(ConfigError, match="is empty"):
            finder().find(slide, Box(5, 5, 5, 5))
    assert {"detect", "crop"} <= set(clock.seconds)
    inner = Box(region.x0 + 64, region.y0 + 64, region.x1 - 64, region.y1 - 64)  # away from the border

    def cells(bag: object) -> dict[tuple[float, ...], tuple[float, bytes]]:
        rows = zip(bag.boxes.tolist(), bag.scores.tolist(), bag.images, bag.mask.tolist(), strict=True)  # type: ignore[attr-defined]
        return {tuple(box): (score, image.numpy().tobytes()) for box, score, image, there in rows if there}

    def within(box: tuple[float, ...], of: Box) -> bool:
        x, y = Box(*box).center
        return of.x0 <= x < of.x1 and of.y0 <= y < of.y1

    every, some = cells(whole), cells(part)
    assert some
    assert all(within(box, region) for box in some), "in level-0 px of the whole slide"
    wanted = {box: cell for box, cell in every.items() if within(box, inner)}
    assert wanted == {box: cell for box, cell in some.items() if within(box, inner)}
    assert whole.quality is not None
    assert part.quality is not None
    assert part.quality.tiles_read < whole.quality.tiles_read
    assert part.quality.adequate is None


def test_the_file_of_a_bag_holds_its_cells(path: Path, tmp_path: Path) -> None:
    made = make_bag(tmp_path / "f.bag.arrow", path, finder(5), "f", 0.5, "HSIL", "ab" * 32, "config")
    file = BagFile(tmp_path / "f.bag.arrow")
    assert len(file) == int(made.mask.sum()) == 5
    assert file.boxes.tolist() == made.boxes.tolist()
    header = file.header
    assert (header.slide_id, header.slide_mpp, header.slide_class, header.top_k) == ("f", 0.5, "HSIL", 5)
    assert (header.detector_sha256, header.config_hash) == ("ab" * 32, "config")


def test_a_slide_that_is_mostly_damaged_gives_no_bag(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Slide.read

    def broken(self: Slide, box: Box, mpp: float | None = None) -> NDArray[np.uint8]:
        if mpp == 1.0:
            raise RegionError("damaged")
        return read(self, box, mpp)

    monkeypatch.setattr(Slide, "read", broken)
    with pytest.raises(SlideError, match=r"field\.png: .* tiles with cells cannot be decoded"):
        make_bag(tmp_path / "f.bag.arrow", path, finder(5), "f", 0.5)
    assert not list(tmp_path.iterdir())
