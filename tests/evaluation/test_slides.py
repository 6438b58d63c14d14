"""The report, table and figures of a slide classifier's predictions."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from stride_monai.bethesda import SLIDE_CLASSES
from stride_monai.evaluation.slides import JudgedSlides, slide_figures, slide_report, slide_table
from stride_monai.findings import OperatingPoint
from stride_monai.metrics.slide import at_threshold, auc, f1_macro


def judged(count: int = 30) -> JudgedSlides:
    random = np.random.default_rng(0)
    label = random.integers(0, len(SLIDE_CLASSES), count) * (random.random(count) < 0.6)
    names = [f"s{k:02d}" for k in random.permutation(count)]
    return JudgedSlides(names, random.dirichlet(np.ones(len(SLIDE_CLASSES)), count), label, np.zeros((5, 5), int))


def test_every_centre_is_judged_by_itself_and_what_is_not_defined_is_none() -> None:
    slides = judged()
    negative = slides.slide_id[int(np.flatnonzero(~slides.positive)[0])]
    centres = dict.fromkeys(slides.slide_id[:20], "north") | {negative: "alone"}
    report = slide_report(slides, 0.7, centres, "test")
    assert "NaN" not in json.dumps(report)
    assert (report["slides"], report["split"], report["cells"]["known"]) == (30, "test", 0)
    assert set(report["centres"]) == {"north", "alone", "(no centre)"}
    assert report["centres"]["alone"] | {"f1_macro": 0} == {
        **{"slides": 1, "positive": 0, "f1_macro": 0},
        **dict.fromkeys(("auc", "at_sensitivity", "at_threshold")),
    }
    of = np.array([centres.get(name) == "north" for name in slides.slide_id])
    north = report["centres"]["north"]
    assert north["auc"] == pytest.approx(auc(slides.scores[of], slides.positive[of]), abs=1e-6)
    assert north["f1_macro"] == pytest.approx(f1_macro(slides.probabilities[of].argmax(1), slides.label[of]), abs=1e-6)
    point = at_threshold(slides.scores[of], slides.positive[of], 0.7)
    assert north["at_threshold"] == pytest.approx(point._asdict(), abs=1e-6)
    assert slide_report(slides, 0.7)["centres"] == {}


def test_the_table_is_in_order_and_harmless_in_a_spreadsheet() -> None:
    slides = judged(3)._replace(slide_id=["b", "=a", "c"])
    point = OperatingPoint(0.7, 4, "a test")
    points = [point, replace(point, holds=False), point]
    rows = list(csv.DictReader(slide_table(slides, points, {"c": "+south"}).decode().splitlines()))
    assert [(row["slide_id"], row["centre"]) for row in rows] == [("'=a", ""), ("b", ""), ("c", "'+south")]
    assert float(rows[1]["score"]) == pytest.approx(slides.scores[0], abs=1e-9)
    assert [row["call"] for row in rows] == ["", point.call(slides.scores[0]), point.call(slides.scores[2])]
    assert [rows[2]["label"], rows[2]["class"]] == [
        SLIDE_CLASSES[slides.label[2]],
        SLIDE_CLASSES[slides.probabilities[2].argmax()],
    ]


def test_figures_are_those_that_are_defined() -> None:
    slides = judged()
    figures = slide_figures(slides, at_threshold(slides.scores, slides.positive, 0.7))
    assert set(figures) == {"confusion", "roc"}
    legend = [text.get_text() for text in figures["roc"].axes[0].get_legend().get_texts()]
    assert legend[0].startswith("AUC 0.")
    assert legend[1].startswith("operating point: ")
    alike = slides._replace(label=np.zeros(30, int), cells=np.eye(5, dtype=int))
    assert set(slide_figures(alike)) == {"confusion", "cell_confusion"}
