"""Phantom cells as drawn: sizes over many seeds, measures that match the polygons, descriptions that match both."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stride_monai.bethesda import AGC_DESCRIPTION, NEGATIVE, PAPER_DESCRIPTIONS, cell_class_of
from stride_monai.phantom import draw_cell, render_field
from stride_monai.phantom.cells.anatomy import disc_area
from stride_monai.phantom.cells.figures import Figure, Part
from stride_monai.phantom.cells.hard_negatives import RARE
from stride_monai.phantom.cells.kinds import EPITHELIAL, HARD_NEGATIVES, NO_CELLS, NORMAL
from stride_monai.phantom.cells.lesions import LESIONS, lesion
from stride_monai.phantom.cells.measures import A0, IRREGULAR_FROM, NORMAL_DENSITY, contour_irregularity, measures
from stride_monai.phantom.cells.organisms import ORGANISMS
from stride_monai.phantom.cells.outlines import Outline, ellipse, molded
from stride_monai.phantom.cells.sprites import rasterize
from stride_monai.phantom.cells.strands import Strand, winding
from stride_monai.phantom.painting.painter import Scene
from stride_monai.phantom.render import plan_slide
from stride_monai.phantom.scenes.layout import Gathering, Region, gathered, group_offsets
from stride_monai.phantom.scenes.truth import write_truth_geojson

MAKERS = {**NORMAL, **HARD_NEGATIVES, **ORGANISMS, **RARE, **LESIONS}
SEEDS = st.integers(0, 2**32 - 1)
PINKNESS = st.floats(0.05, 0.95)
MEMBRANE = "irregular nuclear membrane or contour"
# Diameters in um of the disc as large as the cell and as each nucleus (METHOD section 10).
CELL_AND_NUCLEUS = {
    "superficial": ((40, 50), (3, 6)),
    "intermediate": ((30, 50), (7, 8)),
    "parabasal": ((15, 30), (8, 10)),
    "metaplastic": ((15, 25), (7.5, 8.5)),
    "columnar": ((8 * 0.85, 30), (7, 9)),
    "neutrophil": ((9, 12), (0, 5)),
    "red_cell": ((6, 8), None),
}
# Nuclear area relative to A0.
RATIO = {
    "reactive": (1.5, 2.0),
    "ASC-US": (2.5, 3.0),
    "LSIL": (3.0, 5.0),
    "ASC-H": (1.5, 2.5),
    "AGC": (1.3, 2.4),
}


def made(name: str, seed: int, pinkness: float = 0.5) -> Figure:
    return MAKERS[name](np.random.default_rng(seed), pinkness)


def unfolded(outline: Outline) -> float:
    return Outline(outline.x, outline.y, outline.radii).area


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(sorted(CELL_AND_NUCLEUS)), seed=SEEDS, pinkness=PINKNESS)
def test_normal_cells_have_the_sizes_of_their_kind(name: str, seed: int, pinkness: float) -> None:
    (low, high), nuclear = CELL_AND_NUCLEUS[name]
    figure = made(name, seed, pinkness)
    for part in figure.parts:
        assert part.cell is not None
        # A fold hides some of the cell; its size is that of the unfolded one.
        assert disc_area(low) * 0.995 <= unfolded(part.cell) <= disc_area(high) * 1.005
        assert bool(part.nuclei) == (nuclear is not None)
        for nucleus in part.nuclei:
            assert nuclear is not None
            assert disc_area(nuclear[0]) * 0.995 <= nucleus.outline.area <= disc_area(nuclear[1]) * 1.005
    if name == "neutrophil":
        assert all(len(part.nuclei) in (3, 4) for part in figure.parts)


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(sorted(RATIO)), seed=SEEDS)
def test_every_nucleus_has_the_area_of_its_class(name: str, seed: int) -> None:
    low, high = RATIO[name]
    for nucleus in made(name, seed).nuclei():
        assert low * 0.999 <= nucleus.outline.area / A0 <= high * 1.001


@settings(max_examples=80, deadline=None)
@given(name=st.sampled_from(sorted({*EPITHELIAL, *LESIONS, "reactive", "halo_only"})), seed=SEEDS)
def test_nuclei_lie_in_their_cells(name: str, seed: int) -> None:
    for part in made(name, seed).parts:
        assert part.cell is not None
        whole = Outline(part.cell.x, part.cell.y, part.cell.radii)
        for nucleus in part.nuclei:
            points = nucleus.outline.polygon().astype(np.float32)
            assert whole.depth(points[:, 0], points[:, 1]).min() > -0.1


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS)
def test_high_grade_cells_are_small_and_their_nuclei_large_or_dark(seed: int) -> None:
    read = measures(made("HSIL", seed))
    assert 0.5 <= read["nc_ratio"] <= 0.9
    assert read["cell_area_um2"] <= disc_area(21)
    assert read["nuclear_density_ratio"] >= 1.35 or read["nc_ratio"] >= 0.6


@settings(max_examples=40, deadline=None)
@given(name=st.sampled_from(sorted(MAKERS)), seed=SEEDS)
def test_measures_match_the_polygons(name: str, seed: int) -> None:
    figure = made(name, seed)
    read = measures(figure)
    nuclei = figure.nuclei()
    assert read["nuclei"] == len(nuclei)
    assert read["cells"] == sum(part.cell is not None for part in figure.parts)
    if nuclei:
        areas = [shoelace(nucleus.outline.polygon()) for nucleus in nuclei]
        assert read["nuclear_area_um2"] == pytest.approx(np.mean(areas), rel=1e-6)
        assert read["nuclear_area_ratio"] == pytest.approx(np.mean(areas) / A0, rel=1e-6)
    if len(figure.parts) == 1 and nuclei and figure.parts[0].cell is not None:
        cell = shoelace(figure.parts[0].cell.polygon())
        assert read["nc_ratio"] == pytest.approx(np.sqrt(sum(areas) / cell), rel=1e-6)


def shoelace(points: np.ndarray) -> float:
    x, y = points[:, 0], points[:, 1]
    return float(abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) / 2)


# What is read off a cell, by the text that says it (METHOD section 10): one rule for every class.
DRAWN = {
    "nuclear enlargement to 2.5-3 times": lambda read: 2.5 <= read["nuclear_area_ratio"] <= 3,
    "nuclear enlargement of more than 3 times": lambda read: read["nuclear_area_ratio"] > 3,
    "mild hyperchromasia, mildly darker than normal staining pattern in the nucleus": lambda read: (
        1.1 <= read["nuclear_density_ratio"] < 1.35
    ),
    "hyperchromasia, darker than normal staining pattern in the nucleus": lambda read: (
        read["nuclear_density_ratio"] >= 1.35
    ),
    "high nuclear-cytoplasmic ratio": lambda read: read["nc_ratio"] >= 0.6,
    "perinuclear halo or cytoplasmic vacuolization": lambda read: read["halo"] > 0,
    "binucleation or multinucleation cell": lambda read: read["nuclei"] > 1,
    "coarsely granular chromatin pattern": lambda read: read["coarse_chromatin"] > 0,
    "marked nuclear dyskaryosis (raisinoid nuclei)": lambda read: read["raisinoid"] > 0,
    "prominent single or multiple nucleoli": lambda read: read["nucleoli"] > 0,
    MEMBRANE: lambda read: read["contour_irregularity"] >= IRREGULAR_FROM,
}
SQUAMOUS = sorted(set(LESIONS) - {"AGC"})


@settings(max_examples=100, deadline=None)
@given(name=st.sampled_from(SQUAMOUS), seed=SEEDS)
def test_texts_of_a_squamous_lesion_follow_the_measures_and_never_the_class(name: str, seed: int) -> None:
    figure = made(name, seed)
    read, texts = measures(figure), figure.descriptions
    assert texts
    for text in PAPER_DESCRIPTIONS[cell_class_of(name)]:
        assert text not in DRAWN or (text in texts) == DRAWN[text](read), text
    # No other darkness is drawn than the class has a word for.
    darkness = [text for text in DRAWN if "hyperchromasia" in text and DRAWN[text](read)]
    assert set(darkness) <= set(texts)
    assert (figure.kind == "koilocyte") == (name == "LSIL" and read["halo"] == 1)


def test_no_text_but_that_of_nuclear_size_goes_with_a_class() -> None:
    """A text that every cell of a class bears can be read off the class instead of the cell."""
    for name in SQUAMOUS:
        drawn = [set(made(name, seed).descriptions) for seed in range(150)]
        for text in PAPER_DESCRIPTIONS[cell_class_of(name)]:
            share = float(np.mean([text in texts for texts in drawn]))
            assert share <= 0.96 or "enlargement" in text, (name, text)
    for name in ("HSIL", "SCC"):
        group = lesion(name, np.random.default_rng(1), 0.5, crowded=True)
        assert "cellular pleomorphism and disordered arrangement" in group.descriptions


def test_the_drawn_nucleus_is_as_dark_as_the_figure_states() -> None:
    """The mean stain within the outline, of even and coarse, cleared, wrinkled and nucleolated nuclei."""
    for name in SQUAMOUS:
        drawn, stated = [], []
        for seed in range(40):
            figure = made(name, seed)
            part = replace(figure.parts[0], grain=0.0, nuclei=figure.nuclei()[:1])
            nucleus = part.nuclei[0]
            sprite = rasterize(replace(figure, parts=(part,)), 0.25, 0.0, np.random.default_rng(seed))[1] / 100
            axis = ((np.arange(sprite.shape[0]) - sprite.shape[0] / 2 + 0.5) * 0.25).astype(np.float32)
            depth = nucleus.outline.depth(axis[None, :], axis[:, None])
            drawn.append(sprite[depth > nucleus.softness / 2].mean())
            stated.append(nucleus.density)
        assert np.mean(drawn) == pytest.approx(np.mean(stated), rel=0.05)
        assert np.abs(np.array(drawn) / np.array(stated) - 1).max() < 0.12


@pytest.mark.parametrize(("name", "without", "contrast"), [("LSIL", "creases", 0.15), ("HSIL", "nucleoli", 0.08)])
def test_creases_and_nucleoli_are_seen_at_the_crops_resolution(name: str, without: str, contrast: float) -> None:
    """At 0.5 um/px, through the optics: the contrast that they add, over the nucleus' stain."""
    figures = [made(name, seed) for seed in range(80)]
    bearing = [figure for figure in figures if getattr(figure.nuclei()[0], without)]
    assert len(bearing) >= 8
    for figure in bearing:
        nucleus = figure.nuclei()[0]
        planes = [
            rasterize(replace(figure, parts=(Part(None, (one,)),)), 0.5, 0.2, np.random.default_rng(0))[1] / 100
            for one in (nucleus, replace(nucleus, **{without: ()}))
        ]
        axis = ((np.arange(planes[0].shape[0]) - planes[0].shape[0] / 2 + 0.5) * 0.5).astype(np.float32)
        within = nucleus.outline.depth(axis[None, :], axis[:, None]) > 1.0
        assert (planes[0] - planes[1])[within].std() > contrast * nucleus.density


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(sorted(LESIONS)), seed=SEEDS)
def test_an_irregular_contour_is_described_exactly_when_it_is_measured(name: str, seed: int) -> None:
    figure = made(name, seed)
    texts = figure.observed or figure.descriptions
    assert (MEMBRANE in texts) == (measures(figure)["contour_irregularity"] >= IRREGULAR_FROM)
    assert set(texts) <= set(PAPER_DESCRIPTIONS[cell_class_of(name)])


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS)
def test_a_halo_without_atypia_is_never_a_lesion(seed: int) -> None:
    figure = made("halo_only", seed)
    read = measures(figure)
    assert figure.label == NEGATIVE
    assert figure.descriptions == ("normal cell",)
    assert read["halo"] == 1
    assert read["nuclear_area_ratio"] < 1.3


def test_every_low_grade_cell_has_an_enlarged_nucleus_with_or_without_a_halo() -> None:
    reads = [measures(made("LSIL", seed)) for seed in range(200)]
    assert all(read["nuclear_area_ratio"] >= 3 for read in reads)
    assert 0.3 < np.mean([read["halo"] for read in reads]) < 0.7
    assert {read["nuclei"] for read in reads} >= {1.0, 2.0, 3.0}


def test_glandular_groups_tell_what_was_drawn() -> None:
    texts: set[str] = set()
    kinds: set[str] = set()
    for seed in range(120):
        figure = made("AGC", seed)
        read = measures(figure)
        assert figure.descriptions == (AGC_DESCRIPTION,)
        assert read["cells"] >= 8
        assert ("cytoplasmic vacuolation" in figure.observed) == (read["vacuoles"] > 0)
        texts |= set(figure.observed)
        kinds.add(figure.kind)
    assert texts == set(PAPER_DESCRIPTIONS["AGC"])
    assert kinds == {"agc_strip", "agc_rosette", "agc_sheet"}


def test_carcinoma_comes_in_all_its_forms() -> None:
    figures = [made("SCC", seed) for seed in range(200)]
    kinds = {figure.kind for figure in figures}
    assert kinds == {f"scc_{form}" for form in ("fibre", "tadpole", "spindle", "bizarre", "non_keratinizing")}
    for figure in figures:
        keratinized = figure.kind != "scc_non_keratinizing"
        assert not keratinized or figure.cytoplasm[3] >= 0.5
        assert bool(figure.parts[0].strands) == (figure.kind in {"scc_fibre", "scc_tadpole"})
        described = "prominent single or multiple nucleoli" in figure.descriptions
        assert described == bool(measures(figure)["nucleoli"])


def test_the_name_of_a_look_alike_is_its_kind() -> None:
    for name in (*EPITHELIAL, *HARD_NEGATIVES, *ORGANISMS, *RARE):
        assert made(name, 3).kind == name
    assert set(NORMAL) > NO_CELLS


def test_herpes_has_nuclei_that_mold_and_do_not_overlap() -> None:
    counts = set()
    for seed in range(60):
        nuclei = made("herpes", seed).parts[0].nuclei
        counts.add(len(nuclei))
        for one in nuclei:
            x, y = one.outline.polygon().astype(np.float32).T
            inside = [other.outline.depth(x, y).max() for other in nuclei if other is not one]
            assert max(inside, default=0.0) < 0.4
    assert min(counts) == 1
    assert max(counts) >= 9


def test_molding_flattens_what_faces_a_neighbor_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    left, right = (ellipse(rng, disc_area(10.0), x=x) for x in (-4.0, 4.0))
    pressed, _ = molded([left, right], 0.6)
    assert pressed.polygon()[:, 0].max() == pytest.approx(-0.3, abs=0.3)
    assert pressed.polygon()[:, 0].min() == pytest.approx(left.polygon()[:, 0].min(), abs=1e-6)
    assert (pressed.radii <= left.radii).all()
    (alone,) = molded([left], 0.6)
    assert np.allclose(alone.radii, left.radii)


def test_organisms_come_to_a_slide_where_they_are_asked_for_alone() -> None:
    small = {"seed": 4, "diameter_mm": 0.4}
    plain, _ = plan_slide(NEGATIVE, **small)
    infected, parameters = plan_slide(NEGATIVE, **small, crowd_per_mm2={"herpes": 80.0, "clue_cell": 40.0})
    assert not {cell.kind for cell in plain.unique} & {*ORGANISMS, *RARE}
    kinds = [cell.kind for cell in infected.unique]
    area = infected.region.area_mm2(infected.mpp)
    assert kinds.count("herpes") == round(80 * area)
    assert kinds.count("clue_cell") == round(40 * area)
    assert all(cell.hard for cell in infected.unique)
    assert parameters["crowd_per_mm2"] == {"herpes": 80.0, "clue_cell": 40.0}


def test_a_swollen_nucleus_is_as_large_as_a_lesion_s_and_changes_no_other_cell() -> None:
    for seed in range(40):
        figure = made("swollen_nucleus", seed)
        assert all(part.cell is None for part in figure.parts)
        assert 1 <= len(figure.nuclei()) <= 4
        for nucleus in figure.nuclei():
            assert disc_area(9.0) - 1e-6 <= nucleus.outline.area <= disc_area(15.0) + 1e-6
            assert nucleus.density < NORMAL_DENSITY * 1.1
    small = {"seed": 4, "diameter_mm": 0.4, "crowd_per_mm2": {"herpes": 80.0}}
    plain, _ = plan_slide(NEGATIVE, **small)
    strewn, _ = plan_slide(NEGATIVE, **{**small, "crowd_per_mm2": {"herpes": 80.0, "swollen_nucleus": 60.0}})
    known = [cell.figure.reach_um for cell in plain.unique if cell.kind == "herpes"]
    assert [cell.figure.reach_um for cell in strewn.unique if cell.kind == "herpes"] == known
    assert [cell.kind for cell in strewn.unique].count("swollen_nucleus") == round(
        60 * strewn.region.area_mm2(strewn.mpp)
    )


@pytest.mark.parametrize(
    ("kind", "counts"), [("candida", 0), ("mucus", 0), ("actinomyces", 0), ("columnar", 0), ("clue_cell", 1)]
)
def test_only_squamous_cells_count_for_adequacy(kind: str, counts: int) -> None:
    """A strand of Candida is none, nor is a thread of mucus."""
    plans = [plan_slide(NEGATIVE, seed=4, diameter_mm=0.4, crowd_per_mm2={kind: some})[0] for some in (0.0, 200.0)]
    few, many = (plan.squamous_cells for plan in plans)
    added = round(200 * plans[1].region.area_mm2(plans[1].mpp))
    assert added > 10
    assert many - few == counts * added


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, elongation=st.floats(1, 4), x=st.floats(-30, 30), angle=st.floats(0, 6))
def test_an_ellipse_is_regular_and_a_notch_is_not(seed: int, elongation: float, x: float, angle: float) -> None:
    rng = np.random.default_rng(seed)
    smooth = ellipse(rng, 60.0, x=x, y=3.0, elongation=elongation, angle=angle)
    assert contour_irregularity(smooth.polygon()) < 0.01
    notched = ellipse(rng, 60.0, x=x, elongation=min(elongation, 1.4), notch=0.3)
    assert contour_irregularity(notched.polygon()) > IRREGULAR_FROM
    turned = smooth.polygon() @ np.array([[0.6, -0.8], [0.8, 0.6]]) * 3.0
    assert contour_irregularity(turned) == pytest.approx(contour_irregularity(smooth.polygon()), abs=1e-3)


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, length=st.floats(5, 80), width=st.floats(0.3, 4))
def test_a_strand_is_drawn_where_its_polygon_lies(seed: int, length: float, width: float) -> None:
    points = winding(np.random.default_rng(seed), start=(2.0, -1.0), angle=0.3, length=length, turn=0.5)
    strand = Strand(points, np.full(len(points), width), 0.3)
    polygon = strand.polygon()
    assert len(polygon) == 2 * len(points)
    assert np.hypot(polygon[:, 0] - strand.x, polygon[:, 1] - strand.y).max() <= strand.reach + 1e-6
    middle = ((points[3] + points[4]) / 2).astype(np.float32)
    assert strand.depth(3, middle[:1], middle[1:])[0] == pytest.approx(width, rel=1e-3)


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_drawing_is_deterministic_and_differs_by_seed(name: str) -> None:
    first, again = (rasterize(made(name, 7), 0.5, 0.2, np.random.default_rng(1)) for _ in range(2))
    assert (first == again).all()
    other = rasterize(made(name, 8), 0.5, 0.2, np.random.default_rng(1))
    assert first.shape != other.shape or (first != other).any()


def test_the_truth_file_carries_measures_and_observations(tmp_path: Path) -> None:
    _, truth = render_field(200, 200, mpp=0.5, seed=3, lesions={"LSIL": 2, "AGC": 1}, density_per_mm2=200)
    write_truth_geojson(tmp_path / "truth.geojson", truth)
    features = json.loads((tmp_path / "truth.geojson").read_text())["features"]
    assert len(features) == len(truth.cells)
    for feature, cell in zip(features, truth.cells, strict=True):
        facts = feature["properties"]
        assert facts["measures"] == {name: pytest.approx(value, abs=6e-4) for name, value in cell.measures.items()}
        assert facts["observed"] == list(cell.observed)
        assert cell.kind not in NO_CELLS
        if cell.nuclei and len(cell.nuclei) == cell.measures["nuclei"]:
            areas = [shoelace(nucleus) * 0.5**2 for nucleus in cell.nuclei]
            assert cell.measures["nuclear_area_um2"] == pytest.approx(np.mean(areas), rel=1e-4)
    glandular = [cell for cell in truth.cells if cell.label == "AGC"]
    assert glandular[0].observed != glandular[0].descriptions


def test_a_window_has_the_same_pixels_whatever_is_painted_before() -> None:
    plan, _ = plan_slide(
        "HSIL", seed=5, diameter_mm=0.5, density_per_mm2=600, mpp=0.5, lesions={"HSIL": 12, "SCC": 4, "AGC": 2}
    )
    whole = Scene(plan).paint(400, 300, 600, 500)
    scene = Scene(plan)
    scene.paint(0, 0, 150, 1200)
    assert (scene.paint(700, 450, 300, 350) == whole[150:, 300:]).all()
    assert (scene.paint(400, 300, 300, 500) == whole[:, :300]).all()


def test_cells_gather_in_groups_that_stay_on_the_deposit() -> None:
    region, how = Region(4000, 4000, 1900.0), Gathering(40.0, 0.3, 5.0, 30, (0.45, 0.95))
    points, group = gathered(region, np.random.default_rng(0), 2000, 0.25, how, 0.5)
    assert points.shape == (2000, 2)
    assert region.contains(points).all()
    sizes = np.bincount(group)
    assert sizes.max() <= 30
    assert 0.2 < (sizes[group] == 1).mean() < 0.45
    assert (sizes[group] >= 5).mean() > 0.3
    assert len(gathered(region, np.random.default_rng(0), 0, 0.25, how, 0.5)[0]) == 0


def test_high_grade_groups_are_rows_crowds_and_loose_sheets() -> None:
    narrowness, nearest = [], []
    for seed in range(60):
        points = np.array(group_offsets(np.random.default_rng(seed), "HSIL", 8, 16.0))
        spread = np.sqrt(np.linalg.eigvalsh(np.cov(points.T)))
        narrowness.append(spread[0] / spread[1])
        gaps = np.hypot(*(points[:, None] - points[None]).transpose(2, 0, 1)) + 1e9 * np.eye(8)
        nearest.append(gaps.min(axis=1).mean())
    assert min(narrowness) < 0.3 < max(narrowness)
    assert min(nearest) < 9 < 12 < max(nearest)


def test_a_dense_field_is_partly_covered_by_cells() -> None:
    covered = []
    for seed in range(3):
        image, _ = render_field(800, 800, mpp=1.0, seed=seed, density_per_mm2=600)
        glass = np.percentile(image.reshape(-1, 3), 95, axis=0)
        covered.append(float((np.abs(image - glass).max(axis=2) > 16).mean()))
    assert min(covered) > 0.2
    assert max(covered) < 0.65


def test_a_cell_alone_carries_its_numbers() -> None:
    _, truth = draw_cell("LSIL", seed=2, mpp=0.5)
    assert truth.measures["nuclear_area_ratio"] >= 3
    assert truth.observed == truth.descriptions
