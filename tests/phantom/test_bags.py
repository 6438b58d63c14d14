"""Bags without slides: the crops that a rendered slide would give, ranked as a detector might."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stride_monai.bethesda import DESCRIPTION_VOCABULARY
from stride_monai.data.bags.bag import BagFile
from stride_monai.errors import ConfigError
from stride_monai.phantom.centres import CENTRES
from stride_monai.phantom.cohorts.bags import BagSettings, cut_crops, write_phantom_bag
from stride_monai.phantom.cohorts.ranking import RankingModel, rank_cells
from stride_monai.phantom.painting.painter import Scene
from stride_monai.phantom.render import plan_slide, render_slide
from stride_monai.slides import Slide
from stride_monai.slides.protocol import StatedFacts
from stride_monai.transforms import TopKCellPatches
from stride_monai.units import Box

DISC = {"diameter_mm": 1.0, "mpp": 0.25}


@pytest.mark.parametrize(("crop_px", "centre"), [(96, "north"), (224, "coast")])
def test_a_crop_is_the_one_that_a_rendered_slide_gives(tmp_path: Path, crop_px: int, centre: str) -> None:
    arguments = {**DISC, "seed": 4, "centre": centre}
    plan, _ = plan_slide("HSIL", **arguments)
    bag_path = tmp_path / "s.bag.arrow"
    write_phantom_bag(bag_path, plan, BagSettings(24, crop_px))
    bag = BagFile(bag_path)
    render_slide(tmp_path / "s.tiff", "HSIL", **arguments)
    cut = TopKCellPatches(top_k=24, crop_px=crop_px)(tmp_path / "s.tiff", bag.boxes, bag.scores)
    assert cut.indices.tolist() == list(range(24))
    from_slide = cut.images.permute(0, 2, 3, 1).numpy().astype(int)
    from_plan = bag.images(range(24)).astype(int)
    # JPEG on either side; a shift by one slide px would differ by several times as much.
    assert np.abs(from_slide - from_plan).mean() < 2.5
    for a, b in zip(from_slide, from_plan, strict=True):
        off = np.abs(np.roll(a, 1, axis=1) - b)[:, 1:].mean()
        assert np.abs(a - b).mean() < 0.6 * off


def test_without_jpeg_a_crop_is_the_slides_to_the_last_bit() -> None:
    """At any um/px and place: on the pixel grid, off it, over the border, finer than the slide."""
    plan, _ = plan_slide("LSIL", seed=2, diameter_mm=0.4, mpp=0.3)
    scene = Scene(plan)
    whole = scene.paint(0, 0, scene.width, scene.height)
    middle = Box.around(scene.width / 2, scene.height / 2, 40)
    boxes = [middle, Box.around(1001.25, 700.5, 30), Box.around(5, scene.height - 3, 20)]

    class Whole:
        name, format = "array", "array"
        level_sizes, bounds = ((scene.width, scene.height),), (0, 0, scene.width, scene.height)
        stated = StatedFacts(0.3, 0.3)

        def read_level(self, level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
            return whole[y : y + height, x : x + width]

        def close(self) -> None: ...

    slide = Slide(Path("whole"), Whole())
    for crop_mpp in (0.6, 0.5, 0.2):
        crops = cut_crops(scene, boxes, 64, crop_mpp)
        for crop, box in zip(crops, boxes, strict=True):
            assert np.array_equal(crop, slide.read(Box.around(*box.center, 64 * crop_mpp / 0.3), mpp=crop_mpp))


def test_crops_through_the_slides_jpeg() -> None:
    """Of one cell the sheet is the window that the crop needs, so the crop is the middle of that window's JPEG."""
    plan, _ = plan_slide("LSIL", seed=2, diameter_mm=0.4, mpp=0.5, centre=replace(CENTRES["north"], jpeg_quality=40))
    scene = Scene(plan)
    x, y = scene.width // 2, scene.height // 2
    (crop,) = cut_crops(scene, [Box.around(x, y, 20)], 64, 0.5, compressed=True)
    (plain,) = cut_crops(scene, [Box.around(x, y, 20)], 64, 0.5)
    sheet = Image.fromarray(scene.paint(x - 33, y - 33, 66, 66))
    stream = io.BytesIO()
    sheet.save(stream, format="JPEG", quality=40, subsampling="4:2:0")
    expected = np.asarray(Image.open(stream))[1:-1, 1:-1]
    assert np.abs(crop.astype(int) - expected.astype(int)).max() <= 2  # another decoder may round otherwise
    assert np.abs(crop.astype(int) - plain.astype(int)).mean() > 1


def test_rows_carry_the_truth_in_order_of_score(tmp_path: Path) -> None:
    plan, _ = plan_slide("HSIL", seed=1, **DISC)
    path = tmp_path / "deep.bag.arrow"
    write_phantom_bag(path, plan, BagSettings(400, 32), slide_class="HSIL", config_hash="abc")
    bag = BagFile(path)
    assert len(bag) == 400
    assert bag.header.slide_id == "deep"
    assert (bag.header.slide_class, bag.header.config_hash, bag.header.top_k) == ("HSIL", "abc", 400)
    assert bag.scores.min() > 0
    assert bag.scores.max() < 1
    lesions = {(cell.x, cell.y): cell for cell in plan.unique if not cell.hard}
    found = 0
    for row in range(len(bag)):
        near = min(lesions, key=lambda place: np.hypot(*(bag.boxes[row].reshape(2, 2).mean(0) - place)))
        if bag.cell_class(row) == "NILM":
            continue
        found += 1
        assert np.hypot(*(bag.boxes[row].reshape(2, 2).mean(0) - near)) < 60
        assert bag.descriptions(row)
        assert set(bag.descriptions(row)) <= set(DESCRIPTION_VOCABULARY) | {"atypical glandular cells"}
    # Nearly every lesion is among the first 400; a few are missed.
    assert 0.85 * len(lesions) <= found <= len(lesions)
    assert len(list(tmp_path.iterdir())) == 1


def test_lesions_come_first_and_hard_negatives_next() -> None:
    plan, _ = plan_slide("LSIL", seed=5, diameter_mm=3.0, mpp=0.5)
    ranked = rank_cells(plan, 400)
    sorts = np.array([0 if cell.truth.positive else 1 if cell.truth.hard else 2 for cell in ranked])
    places = [np.flatnonzero(sorts == sort).mean() for sort in range(3)]
    assert places == sorted(places)
    scores = [cell.score for cell in ranked]
    assert scores == sorted(scores, reverse=True)
    assert [tuple(cell.box) for cell in ranked] == [tuple(cell.box) for cell in rank_cells(plan, 400)]
    for cell in ranked:
        x, y = cell.box.center
        assert (x, y) == (round(x), round(y))
        assert np.hypot(x - cell.truth.box.center[0], y - cell.truth.box.center[1]) < 12


def test_a_worse_detector_misses_more() -> None:
    plan, _ = plan_slide("HSIL", seed=5, diameter_mm=2.0, mpp=0.5)
    n = sum(not cell.hard for cell in plan.unique)

    def recall(model: RankingModel) -> float:
        return sum(cell.truth.positive for cell in rank_cells(plan, 256, model)) / n

    blind = RankingModel(missed=1.0)
    assert recall(RankingModel(missed=0.0, spread=0.2)) == 1.0
    assert recall(RankingModel()) > 0.8
    assert recall(blind) < 0.3
    with pytest.raises(ConfigError, match="missed"):
        RankingModel(missed=1.5)


def test_only_what_is_shown_is_made() -> None:
    plan, _ = plan_slide("NILM", seed=5, diameter_mm=4.0, mpp=0.5)
    rank_cells(plan, 64)
    made = sum("figure" in vars(cell) for cell in plan.unique)
    assert len(plan.unique) > 400
    assert made <= 64


def test_impossible_bags_are_refused(tmp_path: Path) -> None:
    plan, _ = plan_slide("NILM", seed=5, diameter_mm=0.3, mpp=0.5)
    for wrong in ({"top_k": 0}, {"crop_px": 0}, {"crop_mpp": 0.0}):
        with pytest.raises(ConfigError) as caught:
            write_phantom_bag(tmp_path / "x.bag.arrow", plan, BagSettings(**wrong))
        assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_slide_of_few_cells_gives_a_short_bag(tmp_path: Path) -> None:
    plan, _ = plan_slide("NILM", seed=5, diameter_mm=0.3, mpp=0.5)
    write_phantom_bag(tmp_path / "x.bag.arrow", plan, BagSettings(2000, 16))
    assert 20 < len(BagFile(tmp_path / "x.bag.arrow")) < 2000
