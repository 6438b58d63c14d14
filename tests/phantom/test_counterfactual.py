"""Pairs of cells that differ by one property, and by nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from stride_monai.bethesda import DESCRIPTION_VOCABULARY, PAPER_DESCRIPTIONS
from stride_monai.errors import ConfigError
from stride_monai.phantom.cells.figures import Figure
from stride_monai.phantom.cells.measures import IRREGULAR_FROM, measures
from stride_monai.phantom.cells.sprites import rasterize
from stride_monai.phantom.centres import CENTRES
from stride_monai.phantom.cohorts.bags import cut_crops
from stride_monai.phantom.counterfactual import PROPERTIES, Counterfactual, counterfactual, edited
from stride_monai.phantom.painting.painter import Scene
from stride_monai.phantom.scenes.layout import Region
from stride_monai.phantom.scenes.planning import make_plan

CLEAN = replace(CENTRES["north"], dirt_per_mm2=0.0, mpp=0.4)  # dirt and fine pixels are slow to draw
CROP, MPP = 128, 0.5

# Measures of the truth that may differ, by property; every other must be the same number.
SIZES = {"nuclear_area_um2", "nuclear_area_ratio", "nc_ratio"}
MEASURED = {
    "halo": {"halo"},
    "benign_halo": {"halo"},
    "nc_ratio": {"cell_area_um2", "nc_ratio"},
    "binucleation": SIZES | {"nuclei", "nuclear_area_cv", "nuclear_density_ratio", "contour_irregularity"},
    "hyperchromasia": {"nuclear_density_ratio"},
    "mild_hyperchromasia": {"nuclear_density_ratio"},
    "nuclear_size": SIZES,
    "chromatin": {"coarse_chromatin"},
    "membrane": {"contour_irregularity"},
    "raisinoid": {"contour_irregularity", "raisinoid"},
    "nucleoli": {"nucleoli"},
}


def differing(before: Figure, after: Figure) -> set[str]:
    a, b = measures(before), measures(after)
    return {key for key in a.keys() | b.keys() if a.get(key, -1.0) != pytest.approx(b.get(key, -1.0), rel=1e-9)}


@pytest.mark.parametrize("name", PROPERTIES)
def test_the_truth_changes_by_the_stated_texts_and_measures(name: str) -> None:
    what = PROPERTIES[name]
    for seed in range(8):
        original, changed = edited(name, seed, 0.5)
        before, after = set(original.descriptions), set(changed.descriptions)
        assert before - after == what.lost
        assert after - before == what.gained
        assert after <= set(DESCRIPTION_VOCABULARY)
        assert differing(original, changed) <= MEASURED[name]
        assert differing(original, changed)
        assert original.dyes() == changed.dyes()
        assert len(original.parts) == len(changed.parts) == 1


def test_changes_cross_the_bounds_of_their_texts() -> None:
    for seed in range(8):
        before, after = (measures(figure) for figure in edited("membrane", seed, 0.5))
        assert after["contour_irregularity"] < 0.01 < IRREGULAR_FROM <= before["contour_irregularity"]
        before, after = (measures(figure) for figure in edited("nc_ratio", seed, 0.5))
        assert after["nc_ratio"] == pytest.approx(0.35)
        assert before["nc_ratio"] >= 0.49
        before, after = (measures(figure) for figure in edited("nuclear_size", seed, 0.5))
        assert 2.5 <= before["nuclear_area_ratio"] <= 3 < after["nuclear_area_ratio"]
        original, changed = edited("nuclear_size", seed, 0.5)
        assert set(original.descriptions) <= set(PAPER_DESCRIPTIONS["ASC-US"])
        assert set(changed.descriptions) <= set(PAPER_DESCRIPTIONS[changed.label])
        before, after = (measures(figure) for figure in edited("binucleation", seed, 0.5))
        assert before["nuclei"] > after["nuclei"] == 1


def changeable(pair: Counterfactual, nuclear: bool) -> np.ndarray:
    """The pixels of the crop that the changed shapes may reach: polygons of either truth, grown by all that blurs."""
    mask = Image.new("L", (CROP, CROP))
    pen = ImageDraw.Draw(mask)
    x, y = pair.truths[0].box.center
    for truth in pair.truths:
        for polygon in truth.nuclei if nuclear else truth.outlines:
            crop_px = (polygon - (x, y)) * (CLEAN.mpp / MPP) + CROP / 2
            pen.polygon([tuple(point) for point in crop_px], fill=255)
    blur = pair.truths[0].defocus_um
    # Soft edges reach 1 um beyond an outline, the optics 1 um, sharpening and resampling 2 px.
    grown = round((2.0 + 3 * blur) / MPP) + 2
    return np.asarray(mask.filter(ImageFilter.MaxFilter(2 * grown + 1))) > 0


@pytest.mark.parametrize("name", PROPERTIES)
def test_pixels_elsewhere_are_the_same_to_the_last_bit(name: str) -> None:
    pair = counterfactual(name, seed=3, centre=CLEAN, crop_px=CROP, crop_mpp=MPP, density_per_mm2=600)
    assert pair.original.shape == pair.changed.shape == (CROP, CROP, 3)
    differs = (pair.original != pair.changed).any(axis=2)
    where = changeable(pair, PROPERTIES[name].nuclear)
    assert where.mean() < 0.9  # of 64 um
    assert not differs[~where].any()
    assert differs[where].mean() > 0.02
    before, after = (set(truth.descriptions) for truth in pair.truths)
    assert (before - after, after - before) == (pair.lost, pair.gained)
    if name == "nc_ratio":
        assert all(np.array_equal(a, b) for a, b in zip(*(t.nuclei for t in pair.truths), strict=True))


def test_the_same_arguments_give_the_same_pixels_and_another_seed_others() -> None:
    first, again, other = (
        counterfactual("nucleoli", seed=seed, centre=CLEAN, crop_px=32, density_per_mm2=50) for seed in (1, 1, 2)
    )
    assert np.array_equal(first.original, again.original)
    assert np.array_equal(first.changed, again.changed)
    assert not np.array_equal(first.original, other.original)


def test_through_jpeg_only_the_blocks_of_the_change_differ() -> None:
    given = {"seed": 1, "centre": CLEAN, "crop_px": 96, "density_per_mm2": 50}
    plain, compressed = (counterfactual("nucleoli", compressed=jpeg, **given) for jpeg in (False, True))
    differs = [(pair.original != pair.changed).any(axis=2) for pair in (plain, compressed)]
    rows, columns = np.nonzero(differs[0])
    # A block and half of its neighbour, whose colour is interpolated, and what resampling looks at.
    reach = round((16 + 8) * CLEAN.mpp / MPP) + 2
    allowed = np.zeros_like(differs[0])
    allowed[max(rows.min() - reach, 0) : rows.max() + reach, max(columns.min() - reach, 0) : columns.max() + reach] = 1
    assert differs[1][~allowed].sum() == 0
    assert 0.5 < np.abs(plain.original.astype(int) - compressed.original).mean() < 6


def test_the_original_is_the_cell_that_the_generator_draws() -> None:
    figure, _ = edited("halo", 5, CLEAN.eosinophilic)
    pair = counterfactual("halo", seed=5, centre=CLEAN, crop_px=64, crop_mpp=MPP, density_per_mm2=50)
    side = int(np.ceil((64 * MPP + 80) / CLEAN.mpp))
    region = Region(side, side)
    plan = make_plan(region, lesions={}, seed=5, mpp=CLEAN.mpp, density_per_mm2=50, centre=CLEAN, pinned=figure)
    assert np.array_equal(cut_crops(Scene(plan), [pair.truths[0].box], 64, MPP)[0], pair.original)


@pytest.mark.parametrize("name", ["halo", "benign_halo"])
def test_a_filled_halo_leaves_the_nucleus_as_it_was(name: str) -> None:
    """Not only its outline: the grain of its chromatin comes from the same random numbers."""
    original, changed = (rasterize(figure, 0.25, 0.2, np.random.default_rng(0)) for figure in edited(name, 2, 0.5))
    assert np.array_equal(original[1], changed[1])
    assert not np.array_equal(original[0], changed[0])


def test_every_description_of_a_squamous_lesion_but_the_groups_can_be_changed() -> None:
    touched = {text for what in PROPERTIES.values() for text in what.lost | what.gained}
    squamous = {text for name in ("ASC-US", "LSIL", "ASC-H/HSIL") for text in PAPER_DESCRIPTIONS[name]}
    assert squamous - touched == {"cellular pleomorphism and disordered arrangement"}


def test_what_cannot_be_made_is_refused() -> None:
    with pytest.raises(ConfigError, match="no property 'color'"):
        edited("color", 0, 0.5)
    with pytest.raises(ConfigError, match="cannot be made"):
        counterfactual("halo", crop_px=2)
