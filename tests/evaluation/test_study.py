"""The topics of an evaluation, each against a plain count or another library."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation_tables import made_up
from matplotlib.text import Annotation
from scipy.stats import binomtest

from stride_monai.bethesda import ABNORMAL, SEVERITY
from stride_monai.errors import BundleError, ConfigError, ManifestError
from stride_monai.evaluation.figures.flow import Box, flow_figure
from stride_monai.evaluation.inputs.features import read_features
from stride_monai.evaluation.inputs.joining import JudgedCohort, join_truth
from stride_monai.evaluation.inputs.predictions import Predictions
from stride_monai.evaluation.inputs.truth import Truth
from stride_monai.evaluation.statistics import Interval, calibration_of, fit_isotonic, fit_temperature, forest
from stride_monai.evaluation.study.calibration import calibrated, calibration_part
from stride_monai.evaluation.study.calls import calls_of
from stride_monai.evaluation.study.centres import centres_part
from stride_monai.evaluation.study.checklist import OPEN, checklist_part
from stride_monai.evaluation.study.comparison import comparison_part, paired
from stride_monai.evaluation.study.exclusion import decision_part, exclusion_part
from stride_monai.evaluation.study.features import features_part
from stride_monai.evaluation.study.model_card import model_card, read_bundle
from stride_monai.evaluation.study.part import Settings, shown, thinned
from stride_monai.evaluation.study.repeats import repeats_part
from stride_monai.evaluation.study.study import Others, run_study
from stride_monai.evaluation.study.subgroups import UNKNOWN, chosen_columns, values_of
from stride_monai.metrics.slide import auc
from stride_monai.workflows.locate import bundle_root

SETTINGS = Settings(threshold=0.5, replicates=0)


def cohort(slides: int = 120, seed: int = 0, first: int = 0, **changes: Any) -> JudgedCohort:
    said, true = made_up(slides, seed, first)
    ids = [row["slide_id"] for row in said]
    known: dict[str, Any] = {
        "score": np.array([row["score"] for row in said]),
        "call": np.array([row["call"] == "positive" for row in said], np.int8),
        "predicted": np.full(slides, -1, np.int8),
        "probabilities": None,
        "status": ["ok"] * slides,
        "reason": [""] * slides,
    }
    columns = {name: [str(row[name]) for row in true] for name in ("patient", "centre", "HPV", "age")}
    labels = [row["label"] for row in true]
    return join_truth(Predictions("A", ids, **{**known, **changes}), Truth(ids, labels, columns))


def test_numbers_are_cut_and_words_are_not() -> None:
    ages = np.array(["24", "25", "34.9", "", "35", "70", "65", *map(str, range(40, 50))])
    values, order = values_of("Age", ages)
    assert values[:7].tolist() == ["<25", "25 to <35", "25 to <35", UNKNOWN, "35 to <50", ">=65", ">=65"]
    assert order == ["<25", "25 to <35", "35 to <50", ">=65", UNKNOWN]
    values, order = values_of("load", np.array([str(k) for k in range(100)]))
    assert order == ["<24.75", "24.75 to <49.5", "49.5 to <74.25", ">=74.25"]
    assert [int((values == name).sum()) for name in order] == [25, 25, 25, 25]
    _, order = values_of("centre", np.array(["c10", "c2", "", "c1", "c2"]))
    assert order == ["c1", "c2", "c10", UNKNOWN]
    assert values_of("HPV", np.array(["0", "1", "1"]))[1] == ["0", "1"]


def test_columns_of_subgroups_are_found_as_people_write_them() -> None:
    columns = {"patient": [], "centre": [], "HPV": [], "Bottle type": [], "split": []}
    assert chosen_columns(columns, None) == ["centre", "HPV"]
    assert chosen_columns(columns, ["bottle_type", "center"]) == ["Bottle type", "centre"]
    with pytest.raises(ConfigError, match="--by patient"):
        chosen_columns(columns, ["patient"])


@pytest.mark.parametrize("seed", range(6))
def test_mcnemar_is_the_sign_test_on_what_differs(seed: int) -> None:
    draw = np.random.default_rng(seed)
    first, second = draw.random(60) < 0.8, draw.random(60) < 0.7
    found = paired(first, second)
    assert (found.both, found.neither) == ((first & second).sum(), (~first & ~second).sum())
    a, b = int((first & ~second).sum()), int((~first & second).sum())
    assert (found.first_alone, found.second_alone) == (a, b)
    if found.method == "exact":
        assert found.p == pytest.approx(binomtest(a, a + b).pvalue)
    assert math.isnan(paired(first, first).p)
    assert paired(np.ones(80, bool), np.arange(80) < 40).method != "exact"


def test_a_system_whose_name_no_font_has_is_named_beneath_the_figure() -> None:
    first, second = (replace(cohort(), system=name) for name in ("\U00010000", "B"))
    part = comparison_part(first, second, SETTINGS)
    legend = part.section.figures[0].figure.axes[0].get_legend()
    assert [text.get_text().partition(":")[0] for text in legend.get_texts()] == ["system 1", "B"]
    assert [("system 1", "\U00010000")] in [[*table.rows] for table in part.section.tables]


def test_calls_that_the_threshold_changes_are_said_in_a_sentence() -> None:
    found = calls_of(cohort(), Settings(threshold=0.2, replicates=0))
    assert found is not None
    assert re.fullmatch(r"The system's own call differs for \d+ slides\.", found.notes[0])


def test_the_arrow_to_what_is_left_out_ends_before_its_box() -> None:
    figure = flow_figure(
        [Box("All\nn = 9", ["of another split: 4"]), Box("Analysed\nn = 5", (), ("A\nn = 1", "B\nn = 4"))]
    )
    figure.draw_without_rendering()
    axes = figure.axes[0]
    (beside,) = (text for text in axes.texts if text.get_text().startswith("Not analysed"))
    edge = beside.get_bbox_patch().get_window_extent().x0
    tips = [axes.transData.transform(text.xy) for text in axes.texts if isinstance(text, Annotation)]
    assert min(abs(x - edge) for x, _ in tips) < 0.01 * figure.bbox.width
    assert all(x <= edge for x, _ in tips)


def test_centres_are_pooled_from_their_counts() -> None:
    judged = cohort()
    calls = calls_of(judged, SETTINGS)
    assert calls is not None
    part = centres_part(judged, calls, SETTINGS)
    assert part is not None
    counts = {}
    for name in "ABCD":
        sick = (judged.columns["centre"] == name) & judged.positive
        counts[name] = (int((judged.score[sick] >= 0.5).sum()), int(sick.sum()))
    assert part.numbers["sensitivity"] == forest(counts).as_json()
    caption = part.section.figures[0].caption
    assert caption.startswith(
        "Sensitivity and specificity by centre with 95 % Wilson intervals; the diamond is the median"
    )
    assert caption.endswith("the line beneath it where a further centre is expected.")
    alone = judged.taken(judged.columns["centre"] == "A")
    alone_calls = calls_of(alone, SETTINGS)
    assert alone_calls is not None
    assert centres_part(alone, alone_calls, SETTINGS) is None


def test_one_centre_with_one_slide_is_defined() -> None:
    judged = cohort(9)
    judged.columns["centre"][:] = ["A"] * 8 + ["B"]
    study = run_study(judged, SETTINGS)
    sensitivity = study.metrics["centres"]["sensitivity"]
    assert sensitivity["centres"]["B"]["total"] == 1  # s008 is positive
    assert "B" not in study.metrics["centres"]["specificity"]["centres"]
    assert study.metrics["subgroups"]["centre"]["B"]["auc"] is None
    json.dumps(study.metrics, allow_nan=False)


def test_scores_are_calibrated_on_other_slides_alone() -> None:
    judged, validation = cohort(), cohort(160, seed=3, first=1000)
    found = calibrated(judged, validation)
    part = calibration_part(judged, found, SETTINGS)
    assert part is not None
    for name, fit in (("temperature", fit_temperature), ("isotonic", fit_isotonic)):
        wanted = calibration_of(fit(validation.score, validation.positive)(judged.score), judged.positive)
        assert part.numbers[name]["brier"] == pytest.approx(wanted.brier, abs=1e-6)
    assert part.numbers["as given"]["ece"] == pytest.approx(calibration_of(judged.score, judged.positive).ece, abs=1e-6)
    with pytest.raises(ManifestError, match="validation slides too"):
        calibrated(judged, judged)


def test_scores_that_are_no_probabilities_are_not_called_so() -> None:
    judged = cohort(score=np.linspace(-3, 5, 120))
    found = calibrated(judged, None)
    part = calibration_part(judged, found, SETTINGS)
    assert part is not None
    assert "no probabilities" in part.section.notes[0]
    assert decision_part(judged, found, SETTINGS) is None
    metrics = run_study(judged, Settings(threshold=1.0, replicates=0)).metrics
    assert "decision_curve" not in metrics
    assert metrics["discrimination"]["ASC-US+"]["auc"] is not None


def test_what_is_excluded_and_lost_is_counted() -> None:
    judged = cohort()
    part = exclusion_part(judged, calls_of(judged, SETTINGS), SETTINGS)
    assert part is not None
    for one in part.numbers["safe"]:
        below = judged.score < one["threshold"] - 1e-7
        assert one["excluded"]["hits"] == below.sum()
        assert all(lost["hits"] == (below & (judged.label == label)).sum() for label, lost in one["lost"].items())
    every = next(one for one in part.numbers["safe"] if one["target"] == 1)
    assert every["lost"]["HSIL"]["hits"] == 0


def test_lesions_of_unknown_grade_count_as_positive_and_nowhere_else() -> None:
    judged = replace(cohort(), label=np.array([ABNORMAL, *cohort().label[1:]]))
    metrics = run_study(judged, SETTINGS).metrics
    assert metrics["discrimination"]["ASC-US+"]["positive"] == 30
    assert metrics["discrimination"]["LSIL+"]["slides"] == 119
    assert metrics["operating_point"]["called_positive_by_label"][ABNORMAL]["total"] == 1
    assert metrics["slides"]["labels"][ABNORMAL] == 1


def test_runs_are_summed_up_on_the_slides_that_all_judged() -> None:
    runs = [cohort(), cohort(seed=1), cohort(seed=2).taken(np.arange(100))]
    part = repeats_part(runs, SETTINGS)
    areas = [auc(run.score[:100], run.positive[:100]) for run in runs]
    assert part.numbers["auc"]["mean"]["estimate"] == pytest.approx(np.mean(areas), abs=1e-6)
    assert part.numbers["auc"]["sd"] == pytest.approx(np.std(areas, ddof=1), abs=1e-6)
    assert "f1-macro" not in part.numbers  # no classes were named
    names = [row[0] for row in part.section.tables[0].rows]
    assert names[:3] == ["AUC", "specificity at sensitivity 90 %", "specificity at sensitivity 95 %"]
    with pytest.raises(ManifestError, match="no slide was judged by all 2 runs"):
        repeats_part([cohort(), cohort(first=500)], SETTINGS)


def test_a_system_of_calls_alone_is_judged_by_them() -> None:
    judged = cohort(score=np.full(120, np.nan))
    study = run_study(judged, Settings(replicates=0))
    assert study.metrics["operating_point"]["rates"]["tp"] > 0
    assert "discrimination" not in study.metrics
    with pytest.raises(ConfigError, match="hold no scores"):
        run_study(judged, SETTINGS)


def test_features_that_tell_the_classes_apart_lie_apart(tmp_path: Path) -> None:
    judged = cohort(60)
    ids = [*judged.slide_id[::-1], "unknown"]
    features = np.random.default_rng(0).normal(size=(61, 12))
    features[:-1] += 9 * judged.positive[::-1, None]
    np.savez(tmp_path / "f.npz", slide_id=np.array(ids), features=features)
    part = features_part(judged, *read_features(tmp_path / "f.npz"), SETTINGS)
    heads, rows = part.tables["tsne"]
    assert heads == ("slide_id", "x", "y", "label")
    places = np.array([row[1:3] for row in rows], float)
    sick = np.array([row[3] != "NILM" for row in rows])
    centre = [places[of].mean(axis=0) for of in (sick, ~sick)]
    own = [np.linalg.norm(places[of] - c, axis=1).mean() for of, c in zip((sick, ~sick), centre, strict=True)]
    assert np.linalg.norm(centre[0] - centre[1]) > max(own)
    assert [figure.name for figure in part.section.figures] == ["tsne_by_label", "tsne_by_centre"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("slide_id,a,b\nx,1,2\nx,1,2\n", "a slide twice"),
        ("slide_id,a\nx,high\n", "line 2: invalid a 'high'"),
        ("name,a\nx,1\n", "no column 'slide_id'"),
        ("slide_id\nx\n", "features for 1 slides"),
    ],
)
def test_what_is_wrong_with_features_is_said(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "f.csv").write_text(text)
    with pytest.raises(ManifestError, match=said):
        read_features(tmp_path / "f.csv")
    (tmp_path / "f.npz").write_bytes(b"no archive")
    with pytest.raises(ManifestError, match="holds no features"):
        read_features(tmp_path / "f.npz")


def test_the_checklist_fills_in_what_it_knows_and_leaves_the_rest_to_the_authors() -> None:
    study = run_study(cohort(), SETTINGS, Others(compare=cohort(seed=4)))
    items = study.metrics["checklist"]["items"]
    open_ones = {item["item"] for item in items if item["here"] == OPEN}
    assert "Ethical approval" in open_ones
    assert "Funding and conflicts of interest" in open_ones
    by_number = {item["stard"]: item["here"] for item in items}
    assert by_number["24"].startswith("tables")
    assert "DeLong" in by_number["14"]
    named = [name for name, _ in (one.split() for one in by_number["21a-21b"].split(", "))]
    assert named == sorted(named, key=SEVERITY.__getitem__) != sorted(named), "by severity"
    assert "McNemar" in by_number["14"]
    numbers = {
        part for item in items for part in item["stard"].replace("a", "").replace("b", "").split("-") if part.isdigit()
    }
    assert numbers >= {str(k) for k in range(1, 31)} - {"11"}  # 10b-11 is one item
    alone = checklist_part(cohort(), study.parts[:1], None, SETTINGS)
    assert alone.numbers["filled"] < study.metrics["checklist"]["filled"]


def test_a_model_card_has_the_numbers_of_the_evaluation(tmp_path: Path) -> None:
    judged = cohort()
    study = run_study(judged, SETTINGS)
    card = model_card(read_bundle(bundle_root("swift_mil")), judged, study.parts)
    area = study.metrics["discrimination"]["ASC-US+"]["auc"]["estimate"]
    assert f"| ASC-US+ | 30 | 90 | {area:.3f} " in card
    assert "120 slides listed, 120 with a diagnosis, 120 analysed (30 positive)" in card
    assert "Not a medical device" in card
    assert "does not say with which weights" in card
    with pytest.raises(BundleError, match="is no bundle"):
        read_bundle(tmp_path)


def test_intervals_are_written_with_the_right_dashes() -> None:
    assert shown(Interval(-0.5, -0.75, -0.25)) == "−0.500 (−0.750 to −0.250)"
    assert shown(Interval(0.5, 0.25, 0.75)) == "0.500 (0.250–0.750)"
    assert shown(Interval(math.nan)) == "–"


def test_thinned_curves_keep_their_ends_and_their_form() -> None:
    x = np.sort(np.random.default_rng(0).random(20_000))
    thin, square = thinned(x, x**2, most=500)
    assert len(thin) <= 501
    assert (thin[0], thin[-1]) == (x[0], x[-1])
    np.testing.assert_array_equal(square, thin**2)
    assert np.diff(thin).max() < 0.01
