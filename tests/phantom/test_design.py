"""Who is in a cohort: prevalence, patients, splits, wrong reports and inadequate slides, to the slide."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest

from stride_monai.bethesda import SEVERITY
from stride_monai.errors import ConfigError, ManifestError
from stride_monai.phantom.centres import SITES
from stride_monai.phantom.cohorts.design import Case, CohortDesign, design_of, floor_density
from stride_monai.phantom.cohorts.presets import CROWDS, EXTERNAL, INTERNAL, MISREPORTED, PRESETS
from stride_monai.phantom.render import plan_slide


def by_patient(cases: list[Case]) -> dict[str, list[Case]]:
    groups = defaultdict(list)
    for case in cases:
        groups[case.patient].append(case)
    return groups


@pytest.mark.parametrize("slides", [40, 100, 333, 1000])
@pytest.mark.parametrize(("name", "share"), [("internal", 0.21), ("external", 0.044)])
def test_prevalence_is_met_to_half_a_slide(name: str, share: float, slides: int) -> None:
    cases = design_of(name, classes=slides).cases()
    positives = sum(case.slide_class != "NILM" for case in cases)
    assert abs(positives - share * slides) <= 0.5
    assert sum(c.slide_class != "NILM" for c in design_of(name, classes=slides, prevalence=0.5).cases()) == slides // 2


def test_external_centres_are_no_internal_ones() -> None:
    assert set(INTERNAL) | set(EXTERNAL) == set(SITES)
    assert not set(INTERNAL) & set(EXTERNAL)
    internal, external = (design_of(name).cases() for name in PRESETS)
    assert {case.centre for case in internal} == set(INTERNAL)
    assert {case.centre for case in external} == set(EXTERNAL)
    assert {case.split for case in internal} == {"train", "validation", "test"}
    assert {case.split for case in external} == {"test"}
    ids = {case.slide_id for case in internal} | {case.slide_id for case in external}
    assert len(ids) == len(internal) + len(external)
    assert not {case.patient for case in internal} & {case.patient for case in external}
    assert len({case.arguments["mpp"] for case in external}) > 1


def test_some_patients_have_several_slides_in_one_split() -> None:
    groups = by_patient(design_of("internal", classes=600, seed=3).cases())
    sizes = Counter(len(group) for group in groups.values())
    assert set(sizes) == {1, 2, 3}
    assert 0.10 < (sizes[2] + sizes[3]) / len(groups) < 0.20
    for group in groups.values():
        assert len({case.split for case in group}) == 1
        assert len({case.centre for case in group}) == 1
        assert len({case.label for case in group}) == 1
        assert len({case.arguments["seed"] for case in group}) == len(group)
    splits = Counter(group[0].split for group in groups.values())
    assert abs(splits["test"] / len(groups) - 0.2) < 0.01
    assert abs(splits["validation"] / len(groups) - 0.16) < 0.01
    alone = by_patient(CohortDesign(classes=50).cases())
    assert {len(group) for group in alone.values()} == {1}


def test_classes_do_not_cling_to_centres() -> None:
    cases = design_of("internal", classes=1000, seed=1).cases()
    positives = Counter(case.centre for case in cases if case.slide_class != "NILM")
    every = Counter(case.centre for case in cases)
    for centre in INTERNAL:
        assert 0.12 < positives[centre] / every[centre] < 0.30


@pytest.mark.parametrize("share", [0.0, 0.05, 0.13, 1.0])
def test_label_noise_is_exact_and_changes_nothing_else(share: float) -> None:
    clean = design_of("internal", classes=400, seed=5).cases()
    noisy = design_of("internal", classes=400, seed=5, label_noise=share).cases()
    assert all(case.reported == case.slide_class for case in clean)
    wrong = [case for case in noisy if case.reported != case.slide_class]
    assert len(wrong) == round(share * 400)
    assert all(case.reported in MISREPORTED[case.slide_class] for case in wrong)
    for a, b in zip(clean, noisy, strict=True):
        assert (a.slide_id, a.patient, a.label, a.split, a.arguments) == (
            b.slide_id,
            b.patient,
            b.label,
            b.split,
            b.arguments,
        )


def test_wrong_reports_are_neighbors_and_missed_positives() -> None:
    cases = design_of("internal", classes=4000, seed=2, label_noise=0.1).cases()
    wrong = [case for case in cases if case.reported != case.slide_class]
    missed = [case for case in wrong if case.reported == "NILM"]
    positives = sum(case.slide_class != "NILM" for case in cases)
    assert len(missed) > 30
    # Positive slides are misread about three times as often as negative ones.
    rate = sum(case.slide_class != "NILM" for case in wrong) / positives
    negative_rate = sum(case.slide_class == "NILM" for case in wrong) / (4000 - positives)
    assert 2.0 < rate / negative_rate < 4.0
    steps = [abs(SEVERITY[case.reported] - SEVERITY[case.slide_class]) for case in wrong]
    assert sum(step <= 2 for step in steps) > 0.6 * len(wrong)
    for true, said in MISREPORTED.items():
        assert true not in said
        assert abs(sum(said.values()) - 1) < 1e-9


def test_inadequate_slides_are_negative_and_fail_in_every_way() -> None:
    cases = design_of("internal", classes=200, seed=4, inadequate=0.12, diameter_mm=2.0).cases()
    failed = [case for case in cases if case.inadequacy]
    assert len(failed) == 24
    assert {case.slide_class for case in failed} == {"NILM"}
    assert Counter(case.inadequacy for case in failed) == {"scant": 8, "blood": 8, "inflammation": 8}
    for case in failed:
        if case.inadequacy == "scant":
            assert case.arguments["density_per_mm2"] < floor_density(2.0)
        else:
            assert case.arguments["crowd_per_mm2"] == dict(CROWDS[case.inadequacy])
    assert all("crowd_per_mm2" not in case.arguments for case in cases if not case.inadequacy)


def test_a_scant_slide_has_fewer_cells_than_the_floor_and_a_crowded_one_hides_them() -> None:
    cases = {
        case.inadequacy: case
        for case in CohortDesign(classes=("NILM",) * 6, inadequate=0.5, diameter_mm=4.0, mpp=0.5).cases()
    }
    cells = {}
    for inadequacy, case in cases.items():
        plan, _ = plan_slide(case.label, **case.arguments)
        kinds = Counter(plan.bank[member].kind for member in plan.common.member.tolist())
        cells[inadequacy] = (plan.cells_drawn, kinds)
    floor = 5000 * (4.0 / 13.0) ** 2
    assert cells["scant"][0] < floor < cells[""][0]
    area = 3.14159 * 4.0
    for name, kind in (("blood", "red_cell"), ("inflammation", "neutrophil")):
        assert cells[name][1][kind] == pytest.approx(CROWDS[name][kind] * area, rel=0.01)
        assert cells[name][0] > floor


def test_seeds_tell_cohorts_apart() -> None:
    first = CohortDesign(classes=30, seed=1).cases()
    assert first == CohortDesign(classes=30, seed=1).cases()
    assert len({case.arguments["seed"] for case in first}) == 30
    assert first != CohortDesign(classes=30, seed=2).cases()


def test_impossible_designs_are_refused() -> None:
    for error, arguments in (
        (ConfigError, {"prevalence": 1.5}),
        (ConfigError, {"label_noise": -0.1}),
        (ConfigError, {"inadequate": 0.9}),
        (ConfigError, {"repeat_patients": 2.0}),
        (ConfigError, {"centres": ()}),
        (ConfigError, {"centres": ("moon",)}),
        (ConfigError, {"diameter_mm": 0.0}),
        (ConfigError, {"mpp": 0.0}),
        (ConfigError, {"seed": -1}),
        (ManifestError, {"held_out_centres": ("lake",)}),
    ):
        with pytest.raises(error) as caught:
            design_of("internal", classes=20, **arguments).cases()
        assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="internal, external"):
        design_of("moon")


def test_a_training_set_may_ask_for_many_lesions_on_every_positive_slide() -> None:
    for case in CohortDesign(classes=("NILM", "ASC-US", "AGC"), diameter_mm=0.6, mpp=0.5, lesions=9).cases():
        plan, _ = plan_slide(case.label, **case.arguments)
        drawn = [cell.figure.label for cell in plan.unique if not cell.hard]
        assert drawn == ([] if case.label == "NILM" else [case.label] * 9)
    with pytest.raises(ConfigError, match="0 lesions"):
        CohortDesign(classes=("HSIL",), lesions=0).cases()


def test_any_gives_every_slide_a_laboratory_of_its_own() -> None:
    cases = CohortDesign(classes=("NILM", "HSIL", "NILM"), diameter_mm=0.4, mpp=0.5, centres=("any",)).cases()
    plans = [plan_slide(case.label, **case.arguments)[0] for case in cases]
    assert {case.centre for case in cases} == {"any"}
    assert len({plan.centre.dye_od for plan in plans}) == 3
    assert len({case.arguments["density_per_mm2"] for case in cases}) == 3
