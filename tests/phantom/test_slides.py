"""Phantom slides: same bytes from the same seed, seamless tiles, a file that other readers understand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import openslide
import psutil
import pytest
import tifffile

from stride_monai.errors import ConfigError, OutputError
from stride_monai.phantom import render_slide, write_truth_geojson
from stride_monai.phantom.centres import CENTRES
from stride_monai.phantom.painting.background import GLASS_PERIOD
from stride_monai.phantom.painting.painter import Scene
from stride_monai.phantom.render import default_density, plan_slide
from stride_monai.phantom.scenes.composition import lesion_counts
from stride_monai.phantom.scenes.truth import SlideTruth
from stride_monai.units import Box

SMALL = {"diameter_mm": 0.6, "margin_mm": 0.1, "seed": 5}


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SlideTruth]:
    path = tmp_path_factory.mktemp("phantom") / "small.tiff"
    return path, render_slide(path, "HSIL", centre="south", artefacts=("pen", "bubbles"), **SMALL)


def test_openslide_reads_spacing_objective_and_levels(slide: tuple[Path, SlideTruth]) -> None:
    path, truth = slide
    with openslide.OpenSlide(path) as opened:
        assert opened.properties["openslide.vendor"] == "aperio"
        assert float(opened.properties["openslide.mpp-x"]) == 0.25
        assert opened.properties["openslide.objective-power"] == "40"
        assert opened.dimensions == (truth.width, truth.height) == (3200, 3200)
        assert opened.level_dimensions == ((3200, 3200), (800, 800), (200, 200))
        full = np.asarray(opened.read_region((1024, 1024), 0, (512, 512)).convert("RGB"), float)
        small = np.asarray(opened.read_region((1024, 1024), 1, (128, 128)).convert("RGB"), float)
    assert np.abs(full.reshape(128, 4, 128, 4, 3).mean(axis=(1, 3)) - small).mean() < 4


def test_tifffile_reads_the_same_pyramid(slide: tuple[Path, SlideTruth]) -> None:
    with tifffile.TiffFile(slide[0]) as tiff:
        assert tiff.is_bigtiff
        assert tiff.is_svs
        assert [level.shape for level in tiff.series[0].levels] == [(3200, 3200, 3), (800, 800, 3), (200, 200, 3)]
        assert tiff.pages.first.tilewidth == 512


def test_the_file_shows_what_was_painted(slide: tuple[Path, SlideTruth]) -> None:
    plan, _ = plan_slide("HSIL", centre="south", artefacts=("pen", "bubbles"), **SMALL)
    painted = Scene(plan).paint(1100, 1300, 600, 500).astype(float)
    with openslide.OpenSlide(slide[0]) as opened:
        read = np.asarray(opened.read_region((1100, 1300), 0, (600, 500)).convert("RGB"), float)
    assert np.abs(painted - read).mean() < 4


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(
    slide: tuple[Path, SlideTruth], tmp_path: Path
) -> None:
    arguments = {"centre": "south", "artefacts": ("pen", "bubbles")}
    again = render_slide(tmp_path / "small.tiff", "HSIL", **arguments, **SMALL)
    assert (tmp_path / "small.tiff").read_bytes() == slide[0].read_bytes()
    assert [cell.box for cell in again.cells] == [cell.box for cell in slide[1].cells]
    render_slide(tmp_path / "other.tiff", "HSIL", **arguments, **{**SMALL, "seed": 6})
    assert (tmp_path / "other.tiff").read_bytes() != slide[0].read_bytes()


@pytest.mark.parametrize("side", [256, 384, 1000])
def test_tiles_are_seamless_whatever_their_size_and_order(side: int) -> None:
    plan, _ = plan_slide("LSIL", artefacts=("pen", "bubbles"), **SMALL)
    whole = Scene(plan).paint(500, 300, 1000, 1000)
    scene, tiled = Scene(plan), np.zeros_like(whole)
    corners = [(x, y) for y in range(0, 1000, side) for x in range(0, 1000, side)]
    for x, y in reversed(corners):
        width, height = min(side, 1000 - x), min(side, 1000 - y)
        tiled[y : y + height, x : x + width] = scene.paint(500 + x, 300 + y, width, height)
    assert (tiled == whole).all()


def test_a_redrawn_sprite_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    plan, _ = plan_slide("LSIL", **SMALL)
    whole = Scene(plan).paint(0, 0, 3200, 1600)
    monkeypatch.setattr("stride_monai.phantom.painting.painter._STAMP_CACHE_BYTES", 1)
    assert (Scene(plan).paint(0, 0, 3200, 1600) == whole).all()


def test_glass_is_glass() -> None:
    plan, _ = plan_slide("NILM", **{**SMALL, "margin_mm": 0.4})
    scene = Scene(plan)
    assert scene.is_glass(0, 0, 512, 512)
    assert not scene.is_glass(plan.region.width // 2, plan.region.height // 2, 512, 512)
    pixels = scene.paint(0, 0, 512, 512)
    assert np.abs(pixels.astype(float).mean(axis=(0, 1)) - plan.centre.background).max() < 4
    assert scene.is_glass(GLASS_PERIOD, 0, 512, 512)
    assert (scene.paint(GLASS_PERIOD, 0, 512, 512) == pixels).all()


@pytest.mark.parametrize("label", ["NILM", "ASC-US", "LSIL", "ASC-H", "HSIL", "SCC", "AGC"])
def test_the_label_is_that_of_the_most_severe_cell(label: str) -> None:
    for seed in range(5):
        counts = lesion_counts(label, 80_000, np.random.default_rng(seed))
        assert (label in counts) == (label != "NILM")
        plan, _ = plan_slide(label, seed=seed, diameter_mm=0.8)
        drawn = {cell.figure.label for cell in plan.unique}
        assert label in drawn or label == "NILM"
        assert label != "NILM" or drawn <= {"NILM"}


def test_numbers_of_lesions_follow_the_ranges() -> None:
    ranges = {"ASC-US": (1, 20), "LSIL": (20, 500), "ASC-H": (2, 30), "HSIL": (20, 500), "AGC": (1, 15)}
    for label, (low, high) in ranges.items():
        counts = [lesion_counts(label, 80_000, np.random.default_rng(seed))[label] for seed in range(60)]
        assert low <= min(counts)
        assert max(counts) <= high
        assert max(counts) > 2 * min(counts)
        assert lesion_counts(label, 500, np.random.default_rng(0))[label] >= 3


def test_cells_lie_on_the_deposit_at_the_stated_density() -> None:
    plan, parameters = plan_slide("NILM", seed=1, diameter_mm=2.0)
    assert parameters["density_per_mm2"] == default_density(2.0) == 603
    assert default_density(20) == 255
    assert plan.cells_drawn == round(603 * np.pi)
    points = np.stack([plan.common.x, plan.common.y], axis=1) - plan.region.width / 2
    assert np.hypot(*points.T).max() <= plan.region.radius + 1


def test_lesions_are_mostly_visible() -> None:
    plan, _ = plan_slide("HSIL", seed=2, diameter_mm=1.5)
    lesions = [cell for cell in plan.unique if cell.figure.label != "NILM"]
    common = np.stack([plan.common.x, plan.common.y], axis=1)
    covered = [np.hypot(*(common - (cell.x, cell.y)).T).min() < 5 / 0.25 for cell in lesions]
    assert np.mean(covered) < 0.25


def test_crowding_puts_lesions_into_groups_and_among_other_cells() -> None:
    neighbors, clusters = [], []
    for crowding in (0.0, 1.0):
        centre = replace(CENTRES["north"], crowding=crowding)
        plan, _ = plan_slide("LSIL", seed=2, diameter_mm=1.5, mpp=0.5, centre=centre, lesions={"LSIL": 40})
        lesions = np.array([(cell.x, cell.y) for cell in plan.unique if cell.figure.label != "NILM"])
        common = np.stack([plan.common.x, plan.common.y], axis=1)
        assert np.hypot(*(common - plan.region.middle).T).max() <= plan.region.radius + 1
        neighbors.append(np.mean([(np.hypot(*(common - place).T) < 20 / 0.5).sum() for place in lesions]))
        distance = np.hypot(*(lesions[:, None] - lesions).transpose(2, 0, 1)) + np.eye(len(lesions)) * 1e9
        clusters.append(np.median(distance.min(axis=1)) * 0.5)
    assert neighbors[1] > 2 * neighbors[0]
    assert clusters[1] < 0.85 * clusters[0]


def test_no_lesion_lies_under_the_pen() -> None:
    plan, _ = plan_slide("HSIL", seed=3, diameter_mm=1.5, artefacts=("pen",))
    (pen,) = plan.artefacts
    lesions = [cell for cell in plan.unique if cell.figure.label != "NILM"]
    assert lesions
    assert not any(pen.box.intersection(Box.around(cell.x, cell.y, 8)).area for cell in lesions)


def test_memory_does_not_grow_with_the_slide() -> None:
    plan, _ = plan_slide("NILM", seed=1, diameter_mm=13.0, density_per_mm2=60)
    assert plan.region.width > 50_000
    scene = Scene(plan)
    before = psutil.Process().memory_info().rss
    for row in range(3):
        scene.paint(25_000, 25_000 + 512 * row, 2048, 512)
    assert psutil.Process().memory_info().rss - before < 200 << 20


def test_the_truth_is_geojson_in_level_0_px(slide: tuple[Path, SlideTruth], tmp_path: Path) -> None:
    _, truth = slide
    write_truth_geojson(tmp_path / "truth.geojson", truth)
    document = json.loads((tmp_path / "truth.geojson").read_text())
    assert document["type"] == "FeatureCollection"
    assert document["slide"]["label"] == truth.label == "HSIL"
    assert document["slide"]["mpp"] == 0.25
    assert len(document["features"]) == len(truth.cells)
    assert len({feature["id"] for feature in document["features"]}) == len(truth.cells)
    for feature, cell in zip(document["features"], truth.cells, strict=True):
        assert feature["properties"]["classification"]["name"] == cell.cell_class
        rings = feature["geometry"]["coordinates"]
        points = np.concatenate(
            [
                np.array(ring)
                for part in (rings if feature["geometry"]["type"] == "MultiPolygon" else [rings])
                for ring in part
            ]
        )
        x0, y0, x1, y1 = feature["properties"]["box"]
        assert (points.min(axis=0) >= (x0 - 0.2, y0 - 0.2)).all()
        assert (points.max(axis=0) <= (x1 + 0.2, y1 + 0.2)).all()


def test_wrong_arguments_leave_nothing_behind(tmp_path: Path) -> None:
    for arguments in (
        {"diameter_mm": 0},
        {"diameter_mm": -3},
        {"diameter_mm": 90},
        {"centre": "moon"},
        {"mpp": 5},
        {"artefacts": ("coffee",)},
        {"density_per_mm2": -1},
        {"margin_mm": -1},
        {"lesions": {"HSIL": -1}},
    ):
        with pytest.raises(ConfigError) as caught:
            render_slide(tmp_path / "x.tiff", **{**SMALL, **arguments})
        assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_slide_is_kept_unless_asked(tmp_path: Path) -> None:
    path = tmp_path / "x.tiff"
    path.write_bytes(b"precious")
    with pytest.raises(OutputError, match=r"x\.tiff exists"):
        render_slide(path, **SMALL)
    assert path.read_bytes() == b"precious"


def test_an_interrupted_slide_is_absent(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        render_slide(tmp_path / "x.tiff", progress=stop, **SMALL)
    assert list(tmp_path.iterdir()) == []
