"""Phantom cells: sizes, descriptions, and a truth that lies where the drawing is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stride_monai.bethesda import DESCRIPTIONS_BY_CLASS, LABELS, NEGATIVE, cell_class_of
from stride_monai.errors import ConfigError, ManifestError
from stride_monai.phantom import draw_cell, render_field
from stride_monai.phantom.cells.anatomy import disc_area
from stride_monai.phantom.cells.hard_negatives import RARE
from stride_monai.phantom.cells.kinds import A0, HARD_NEGATIVES, NORMAL
from stride_monai.phantom.cells.lesions import LESIONS
from stride_monai.phantom.cells.organisms import ORGANISMS
from stride_monai.phantom.cells.outlines import Fold, Outline, ellipse, polygonal
from stride_monai.phantom.cells.sprites import ORIENTATIONS, half_size, rasterize, turned
from stride_monai.phantom.centres import SITES, centre_named
from stride_monai.phantom.painting.painter import Stamp
from stride_monai.phantom.stain import OD_OFFSET, OD_UNITS, lookup_table

MAKERS = {**NORMAL, **HARD_NEGATIVES, **ORGANISMS, **RARE, **LESIONS}
# Area in um2 that every nucleus of a kind must have (METHOD section 10), by kind or label.
NUCLEAR_AREA = {
    "superficial": (disc_area(3), disc_area(6)),
    "intermediate": (disc_area(7), disc_area(8)),
    "parabasal": (disc_area(8), disc_area(10)),
    "metaplastic": (disc_area(7.5), disc_area(8.5)),
    "columnar": (disc_area(7), disc_area(9)),
    "reactive": (1.5 * A0, 2 * A0),
    "ASC-US": (2.5 * A0, 3 * A0),
    "LSIL": (3 * A0, 6 * A0),
    "ASC-H": (1.5 * A0, 2.5 * A0),
    "HSIL": (1.3 * A0, 6 * A0),
}


def shoelace(points: np.ndarray) -> float:
    x, y = points[:, 0], points[:, 1]
    return float(abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) / 2)


@pytest.mark.parametrize("name", sorted(NUCLEAR_AREA))
def test_nuclear_area_measured_from_the_truth_is_in_range(name: str) -> None:
    low, high = NUCLEAR_AREA[name]
    for seed in range(6):
        _, truth = draw_cell(name, seed=seed, mpp=0.5)
        areas = [shoelace(nucleus) * 0.5**2 for nucleus in truth.nuclei]
        assert areas
        assert all(low * 0.995 <= area <= high * 1.005 for area in areas)


def test_hsil_has_a_high_nuclear_cytoplasmic_ratio() -> None:
    for seed in range(20):
        figure = LESIONS["HSIL"](np.random.default_rng(seed), 0.5)
        (part,) = figure.parts
        assert part.cell is not None
        ratio = np.sqrt(part.nuclei[0].outline.area / part.cell.area)
        assert 0.5 <= ratio <= 0.9


@pytest.mark.parametrize("name", sorted(LESIONS))
def test_descriptions_are_of_the_class(name: str) -> None:
    for seed in range(12):
        figure = LESIONS[name](np.random.default_rng(seed), 0.5)
        assert figure.label == name
        assert figure.descriptions
        assert set(figure.descriptions) <= set(DESCRIPTIONS_BY_CLASS[cell_class_of(name)])


def test_binucleation_and_halo_are_described_exactly_when_drawn() -> None:
    for seed in range(40):
        figure = LESIONS["LSIL"](np.random.default_rng(seed), 0.5)
        (part,) = figure.parts
        assert ("binucleation or multinucleation cell" in figure.descriptions) == (len(part.nuclei) > 1)
        distinct = any(halo.distinct for halo in part.vacuoles)
        assert ("perinuclear halo or cytoplasmic vacuolization" in figure.descriptions) == distinct


def test_benign_kinds_are_nilm() -> None:
    for maker in (*NORMAL.values(), *HARD_NEGATIVES.values(), *ORGANISMS.values(), *RARE.values()):
        figure = maker(np.random.default_rng(3), 0.5)
        assert figure.label == NEGATIVE
        assert figure.descriptions == ("normal cell",)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    area=st.floats(1, 3000),
    elongation=st.floats(1, 4),
    irregularity=st.floats(0, 0.3),
    notch=st.floats(0, 0.4),
)
def test_an_outline_has_exactly_its_area(
    seed: int, area: float, elongation: float, irregularity: float, notch: float
) -> None:
    outline = ellipse(
        np.random.default_rng(seed), area, x=3, y=-2, elongation=elongation, irregularity=irregularity, notch=notch
    )
    assert outline.area == pytest.approx(area, rel=1e-6)
    assert shoelace(outline.polygon()) == pytest.approx(area, rel=1e-6)


def test_depth_is_zero_on_the_polygon_and_positive_inside() -> None:
    outline = polygonal(np.random.default_rng(1), 900.0)
    points = outline.polygon().astype(np.float32)
    assert np.abs(outline.depth(points[:, 0], points[:, 1])).max() < 0.05
    assert outline.depth(np.zeros(1, np.float32), np.zeros(1, np.float32))[0] > 5


def test_a_fold_cuts_the_outline() -> None:
    plain = polygonal(np.random.default_rng(2), 900.0)
    folded = Outline(0.0, 0.0, plain.radii, Fold(0.0, 5.0))
    assert folded.polygon()[:, 0].max() == pytest.approx(5.0)
    assert folded.area < plain.area


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_a_sprite_holds_its_whole_figure(name: str) -> None:
    figure = MAKERS[name](np.random.default_rng(5), 0.5)
    sprite = rasterize(figure, 0.5, 0.2, np.random.default_rng(1))
    assert sprite.shape[1] == 2 * half_size(figure.reach_um, figure.defocus_um, 0.5, 0.2)
    border = np.concatenate([sprite[:, 0], sprite[:, -1], sprite[:, :, 0], sprite[:, :, -1]])
    assert border.max() <= 1
    assert sprite.max() > 4


@pytest.mark.parametrize("orientation", range(ORIENTATIONS))
def test_points_turn_with_the_pixels(orientation: int) -> None:
    figure = NORMAL["columnar"](np.random.default_rng(0), 0.5)
    sprite = rasterize(figure, 0.25, 0.2, np.random.default_rng(1))
    nuclear, size = np.zeros(sprite.shape[1:]), sprite.shape[1]
    for plane, top, left, part in Stamp.of(sprite).oriented(orientation).parts:
        if plane == 1:
            nuclear[top : top + part.shape[0], left : left + part.shape[1]] = part
    middle = (np.arange(size) - size / 2 + 0.5) * 0.25
    drawn = np.array([(nuclear.sum(0) * middle).sum(), (nuclear.sum(1) * middle).sum()]) / nuclear.sum()
    nucleus = figure.nuclei()[0].outline.polygon().mean(axis=0)
    assert drawn == pytest.approx(turned(nucleus[None], orientation)[0], abs=0.4)


@pytest.mark.parametrize("label", ["ASC-US", "LSIL", "ASC-H", "HSIL", "AGC"])
@pytest.mark.parametrize("centre", sorted(SITES))
def test_the_truth_box_holds_a_nucleus_darker_than_its_surroundings(label: str, centre: str) -> None:
    image, truth = render_field(
        200, 200, mpp=0.5, label=label, seed=4, centre=centre, lesions={label: 2}, density_per_mm2=60
    )
    density = -np.log10(np.maximum(image[..., 0].astype(float), 1) / 255)
    assert len(truth.positives) == 2
    for cell in truth.positives:
        x0, y0, x1, y1 = (round(value) for value in cell.box)
        assert 0 <= x0 < x1 <= 400
        assert 0 <= y0 < y1 <= 400
        for nucleus in cell.nuclei:
            inside_x, inside_y = nucleus[:, 0] >= x0 - 1, nucleus[:, 1] >= y0 - 1
            assert inside_x.all()
            assert inside_y.all()
        ring = density[max(y0 - 12, 0) : y1 + 12, max(x0 - 12, 0) : x1 + 12]
        x, y = np.rint(cell.nuclei[0].mean(axis=0)).astype(int)
        assert np.median(density[y - 3 : y + 4, x - 3 : x + 4]) > np.median(ring) + 0.08


def test_a_cell_can_be_drawn_alone_and_is_in_the_middle() -> None:
    image, truth = draw_cell("HSIL", seed=1, mpp=0.5, size_px=224)
    again, _ = draw_cell("HSIL", seed=1, mpp=0.5, size_px=224)
    other, _ = draw_cell("HSIL", seed=2, mpp=0.5, size_px=224)
    assert image.shape == (224, 224, 3)
    assert image.dtype == np.uint8
    assert (image == again).all()
    assert (image != other).any()
    assert (truth.x, truth.y) == (112, 112)
    assert truth.cell_class == "ASC-H/HSIL"


def test_the_lookup_table_follows_beer_lambert() -> None:
    centre = centre_named("north")
    table = lookup_table(centre)
    assert tuple(table[:, OD_OFFSET]) == centre.background
    assert (np.diff(table.astype(int), axis=1) <= 0).all()
    one = table[:, OD_OFFSET + OD_UNITS] / np.array(centre.background)
    assert one == pytest.approx(0.03 + 0.97 * 0.1, abs=0.005)


def test_centres_look_different() -> None:
    means = {name: render_field(120, 120, mpp=0.5, seed=2, centre=name)[0].mean(axis=(0, 1)) for name in SITES}
    names = sorted(means)
    assert len(names) >= 4
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            assert np.abs(means[first] - means[second]).max() > 2, (first, second)


def test_a_field_has_the_label_of_its_worst_cell() -> None:
    _, truth = render_field(300, 300, mpp=0.5, seed=1, lesions={"ASC-US": 2, "HSIL": 1})
    assert truth.label == "HSIL"
    assert sorted(cell.label for cell in truth.positives) == ["ASC-US", "ASC-US", "HSIL"]
    for label in LABELS:
        assert render_field(150, 150, mpp=1.0, seed=3, label=label)[1].label == label


def test_impossible_requests_are_refused_in_one_line() -> None:
    for error, call in (
        (ConfigError, lambda: draw_cell("CIN2")),
        (ConfigError, lambda: draw_cell("HSIL", centre="moon")),
        (ConfigError, lambda: draw_cell("HSIL", size_px=2)),
        (ConfigError, lambda: render_field(0, 100)),
        (ConfigError, lambda: render_field(mpp=7)),
        (ConfigError, lambda: render_field(seed=-1)),
        (ConfigError, lambda: render_field(density_per_mm2=0)),
        (ConfigError, lambda: render_field(lesions={"NILM": 3})),
        (ManifestError, lambda: render_field(label="CIN2")),
    ):
        with pytest.raises(error) as caught:
            call()
        assert "\n" not in str(caught.value)
