"""Quality and adequacy: counts on phantoms of known counts, focus, areas, and the Bethesda rules."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from slide_files import Scene
from torch import Tensor, nn, zeros

from stride_monai.errors import ConfigError, SlideError
from stride_monai.findings import OperatingPoint, Quality
from stride_monai.ground import Ground
from stride_monai.inferers.adequacy import (
    RULES,
    QualityRules,
    is_damaged,
    made_satisfactory,
    quality_of,
    why_unsatisfactory,
)
from stride_monai.inferers.find import CellFinder
from stride_monai.inferers.slide_detection import Detections, SlideDetectionInferer
from stride_monai.inferers.tile_quality import count_nuclei, fine_detail, measure_tile
from stride_monai.networks.detection.detector import TileDetections
from stride_monai.phantom.render import plan_slide, render_slide
from stride_monai.slides import Foreground, Slide, find_foreground, open_slide
from stride_monai.units import Box

PROBABLY = st.floats(0, 1)


class Blind(nn.Module):
    """Finds nothing."""

    def detect(self, image: Tensor, *_: object, **__: object) -> list[TileDetections]:
        return [TileDetections(zeros(0, 4), zeros(0)) for _ in image]


def seen(cells: int = 9000, ground: NDArray[np.uint8] | None = None, unreadable: int = 0, read: int = 10) -> Detections:
    none = np.zeros(0)
    ground = np.full((10, 10), Ground.READ, np.uint8) if ground is None else ground
    return Detections(none, none, read, 0, unreadable, 0, 100.0, cells, Foreground(ground, 32.0, 0.01), {})


def judged(found: Detections, rules: QualityRules = RULES, lost_cells: int = 0, cells: int = 10) -> tuple[Quality, str]:
    quality = quality_of(found, FACTS, lost_cells, (), rules=rules)
    return quality, why_unsatisfactory("slide", found, quality, cells, lost_cells, rules)


@pytest.fixture(scope="module", autouse=True)
def facts(tmp_path_factory: pytest.TempPathFactory) -> None:
    global FACTS
    picture = Scene(1500, 1200)
    with open_slide(picture.write(tmp_path_factory.mktemp("facts") / "slide.tif")) as slide:
        FACTS = slide.facts


# --- the count -------------------------------------------------------------------------------------------------------


def squamous_drawn(seed: int, centre: str, path: Path) -> int:
    """Makes a phantom, and says how many cells it has: those of the common kinds, and those of its hard negatives."""
    options: dict[str, Any] = {"seed": seed, "diameter_mm": 0.8, "mpp": 0.5, "centre": centre, "margin_mm": 0.1}
    plan, _ = plan_slide("NILM", **options)
    render_slide(path, "NILM", **options)
    return plan.squamous_cells


@pytest.mark.parametrize(("seed", "centre"), [(1, "north"), (2, "lake"), (3, "desert"), (4, "west")])
def test_the_interval_holds_the_cells_of_a_phantom(tmp_path: Path, seed: int, centre: str) -> None:
    drawn = squamous_drawn(seed, centre, tmp_path / "slide.tiff")
    with open_slide(tmp_path / "slide.tiff") as slide:
        quality = CellFinder(Blind(), SlideDetectionInferer(workers=1), crop_px=16).find(slide).quality
    assert quality is not None
    assert quality.cells_interval is not None
    low, high = quality.cells_interval
    assert low <= drawn <= high, (drawn, quality.estimated_cells)
    assert quality.adequate is False, "a deposit of 1 mm holds no 5,000 cells"


@given(st.integers(0, 10**7), st.floats(0, 1), st.floats(0, 1))
def test_the_interval_holds_its_estimate_and_grows_with_the_spread(counted: int, one: float, other: float) -> None:
    narrow, wide = (QualityRules(count_spread=spread).interval(counted) for spread in sorted((one, other)))
    assert 0 <= wide[0] <= narrow[0] <= counted <= narrow[1] <= wide[1]
    assert RULES.interval(counted)[0] <= RULES.interval(counted + 1)[0]


def test_the_interval_holds_95_in_100_counts_whose_error_is_as_it_assumes() -> None:
    random, true = np.random.default_rng(0), 6000
    counts = random.poisson(true * np.exp(random.normal(0, RULES.count_spread, 4000)))
    held = [low <= true <= high for low, high in map(RULES.interval, counts.tolist())]
    assert np.mean(held) == pytest.approx(0.95, abs=0.01)


def test_a_fold_of_strong_cytoplasm_is_no_nucleus() -> None:
    tile = np.full((512, 512, 3), 240, np.uint8)
    y, x = np.mgrid[:512, :512]
    tile[(y - 256) ** 2 + (x - 256) ** 2 < 100**2] = (90, 130, 140)
    tile[((y - 256) ** 2 + (x - 256) ** 2 < 80**2) & (abs(x - y) < 4)] = (55, 95, 105)
    assert count_nuclei(tile, 1.0) == 0
    tile[(y - 256) ** 2 + (x - 256) ** 2 < 5**2] = (12, 15, 60)
    assert count_nuclei(tile, 1.0) == 1


# --- focus -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tile() -> NDArray[np.uint8]:
    image, random = np.full((512, 512, 3), 240, np.uint8), np.random.default_rng(3)
    y, x = np.mgrid[:512, :512]
    for cy, cx in random.uniform(20, 490, (80, 2)):
        for radius, color in ((18, (170, 200, 210)), (4, (90, 80, 140))):
            image[(y - cy) ** 2 + (x - cx) ** 2 < radius**2] = color
    return image


def blurred(image: NDArray[np.uint8], sigma: float) -> NDArray[np.uint8]:
    out: NDArray[np.uint8] = ndimage.gaussian_filter(image, (sigma, sigma, 0))
    return out


def test_fine_detail_tells_focus_whatever_the_stain(tile: NDArray[np.uint8]) -> None:
    pale = (255 - (255 - tile.astype(float)) / 3).astype(np.uint8)
    for image in (tile, pale):
        sharp, soft, softer = (measure_tile(blurred(image, sigma), 1.0) for sigma in (0, 2, 3))
        assert not sharp.blurred(RULES.out_of_focus)
        assert soft.blurred(RULES.out_of_focus)
        assert softer.blurred(RULES.out_of_focus)
    assert measure_tile(tile, 1.0).sharpness > 5 * measure_tile(pale, 1.0).sharpness, "which sharpness does not"


def test_an_empty_tile_is_not_out_of_focus() -> None:
    empty = np.random.default_rng(0).normal(240, 1.0, (512, 512, 3)).astype(np.uint8)
    assert not measure_tile(empty, 1.0).blurred(RULES.out_of_focus)
    assert fine_detail(np.full((512, 512, 3), 240, np.uint8)) is None


@pytest.mark.realdata
def test_real_fields_are_in_focus_until_they_are_blurred(real_data: Path) -> None:
    for path in sorted((real_data / "cric" / "images").iterdir())[:4]:
        with open_slide(path, 0.228) as slide:
            field = slide.read(slide.box, 1.0)
        assert not measure_tile(field, 1.0).blurred(RULES.out_of_focus), path.name
        assert measure_tile(blurred(field, 2), 1.0).blurred(RULES.out_of_focus), path.name


# --- areas -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def half_blurred(tmp_path_factory: pytest.TempPathFactory) -> Slide:
    """A deposit whose right half is out of focus, with a bubble beside it."""
    picture = Scene(3600, 2400)
    picture.deposit(1500, 1200, 900, 170)
    picture.bubble(3100, 600, 300)
    picture.pixels **= 3  # dyed as strongly as real cells are
    picture.pixels /= 255**2
    picture.pixels[:, 1536:2752] = blurred(picture.pixels[:, 1536:2752], 3)
    return open_slide(picture.write(tmp_path_factory.mktemp("areas") / "slide.tif"))


def test_the_areas_of_a_slide_are_measured(half_blurred: Slide) -> None:
    finder = CellFinder(Blind(), SlideDetectionInferer(workers=1), crop_px=16)
    bag = finder.find(half_blurred)
    assert bag.quality is not None
    assert bag.ground is not None
    areas = bag.quality.areas_mm2
    assert areas is not None
    assert sum(areas.values()) == pytest.approx(3.6 * 2.4, rel=0.01)
    assert areas["bubble"] == pytest.approx(math.pi * 0.34**2, rel=0.2)
    assert areas["read"] + areas["out_of_focus"] == pytest.approx(bag.quality.foreground_mm2 or 0)
    right = bag.ground.mask[:, int(1824 / bag.ground.downsample) :]  # the first tile that shows nothing sharp
    soft = areas["out_of_focus"] / (right.sum() * bag.ground.pixel_mm2)
    assert 0.7 < soft <= 1, "but for tiles with hardly a cell, of which nobody can tell"
    assert any("of the deposit is out of focus" in note for note in bag.quality.notes)
    kinds = [bag.ground.ground[int(y / bag.ground.downsample), int(x / bag.ground.downsample)] for x, y in POINTS]
    assert kinds == [Ground.READ, Ground.OUT_OF_FOCUS, Ground.BUBBLE, Ground.GLASS]
    assert finder.find(half_blurred, Box(0, 0, 1000, 1000)).ground is None


POINTS = ((1100.0, 1200.0), (2000.0, 1200.0), (3100.0, 600.0), (3300.0, 2200.0))


def test_what_is_marked_is_deposit_only(half_blurred: Slide) -> None:
    foreground = find_foreground(half_blurred)
    marked = foreground.marked([(half_blurred.box, Ground.UNREADABLE)])
    assert set(np.unique(marked.ground)) == {Ground.GLASS, Ground.UNREADABLE, Ground.BUBBLE}
    np.testing.assert_array_equal(marked.mask, foreground.mask)
    assert Ground.UNREADABLE not in foreground.ground, "the first stays as it was"


# --- the Bethesda rules ----------------------------------------------------------------------------------------------


def test_the_estimate_has_to_reach_the_floor_and_a_note_says_where_its_interval_does_not() -> None:
    certain, enough, scant = math.ceil(5000 * math.exp(1.96 * RULES.count_spread)) + 100, 6000, 4999
    quality, reason = judged(seen(certain))
    assert (quality.adequate, reason, quality.notes) == (True, "", ())
    quality, reason = judged(seen(enough))
    assert (quality.adequate, reason) == (True, "")
    assert quality.notes[0].startswith("There may be fewer than 5,000 squamous cells (3,7")
    quality, reason = judged(seen(scant))
    assert quality.adequate is False
    assert "about 4,999 squamous cells (3,1" in reason
    assert judged(seen(scant), QualityRules.of({"min_cells": 2000}))[1] == ""
    assert judged(seen(0, read=0))[1] == "no deposit was found on the slide"


def test_a_hidden_deposit_is_unsatisfactory() -> None:
    ground = np.full((10, 10), Ground.OUT_OF_FOCUS, np.uint8)
    ground[:2] = Ground.READ
    assert (
        judged(seen(90_000, ground))[1] == "80 % of the deposit is out of focus, under bubbles or could not be decoded"
    )
    ground[:3] = Ground.READ
    assert judged(seen(90_000, ground))[1] == ""


def test_damage_is_no_finding() -> None:
    assert "2 of 12 tiles with cells could not be decoded" in judged(seen(90_000, unreadable=2))[1]
    assert judged(seen(90_000, unreadable=1))[1] == ""
    assert "5 of 15 suspicious cells" in judged(seen(90_000), lost_cells=5)[1]
    assert is_damaged(judged(seen(90_000, unreadable=2))[0], 10, 0)
    assert is_damaged(judged(seen(90_000), lost_cells=5)[0], 10, 5)
    assert not is_damaged(judged(seen(90_000, unreadable=1))[0], 10, 0)
    assert not is_damaged(judged(seen(3))[0], 10, 0), "few cells are no damage"
    with pytest.raises(SlideError, match="11 of 21 tiles with cells cannot be decoded"):
        judged(seen(90_000, unreadable=11))


@given(st.floats(0, 1), st.floats(0, 1), st.lists(PROBABLY, max_size=5), st.booleans())
def test_an_unsatisfactory_slide_is_never_negative(
    score: float, threshold: float, nilm: list[float], few: bool
) -> None:
    reason, cells = "few cells" if few else "", [(p, 1 - p) for p in nilm]
    call = OperatingPoint(threshold, 4, "a test").call(score, satisfactory=not reason)
    saved = made_satisfactory(reason, call, cells)
    unsatisfactory = bool(reason) and not saved
    assert not (unsatisfactory and call == "negative")
    assert not (saved and call != "positive"), "what is saved is positive"
    if few and call == "positive":
        assert bool(saved) == any(1 - p >= 0.5 for p in nilm), "any cell from ASC-US on makes it satisfactory"


def test_thresholds_of_quality_are_checked() -> None:
    assert QualityRules.of({"min_cells": 1999.5, "obscured": 0.5}) == QualityRules(min_cells=2000, obscured=0.5)
    for wrong in ({"cells": 1.0}, {"obscured": 1.5}, {"min_cells": -1.0}, {"count_spread": math.nan}):
        with pytest.raises(ConfigError):
            QualityRules.of(wrong)
