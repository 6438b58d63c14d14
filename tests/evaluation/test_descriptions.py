"""The report of descriptions against slow counting, and what is said of the cells of a bag."""

from __future__ import annotations

import json

import numpy as np
import pytest

from stride_monai.bethesda import CELL_CLASSES, DESCRIPTION_VOCABULARY, DESCRIPTIONS_BY_CLASS
from stride_monai.evaluation.descriptions import JudgedCells, described_cells, description_figures, description_report

TEXTS, THRESHOLD = tuple(DESCRIPTION_VOCABULARY), 0.2


def judged(count: int = 60) -> JudgedCells:
    random = np.random.default_rng(0)
    right = random.random((count, len(TEXTS))) < 0.2
    right[:, 3] = False  # a text of no cell
    similarity = (0.3 * right + random.normal(scale=0.15, size=right.shape)).astype(np.float32)
    return JudgedCells(similarity, right, random.integers(0, 5, count), random.integers(0, 5, count))


def test_the_report_counts_pairs_texts_and_classes() -> None:
    cells = judged()
    report = description_report(cells, TEXTS, THRESHOLD, "ab" * 32, "val", "left out")
    assert "NaN" not in json.dumps(report)
    kept = cells.similarity > THRESHOLD
    hits = sum(bool(kept[k, n] and cells.right[k, n]) for k in range(60) for n in range(len(TEXTS)))
    assert report["micro"]["f1"] == pytest.approx(2 * hits / (kept.sum() + cells.right.sum()), abs=1e-6)
    row = report["descriptions"][TEXTS[0]]
    assert (row["cells"], row["kept"]) == (cells.right[:, 0].sum(), kept[:, 0].sum())
    assert report["descriptions"][TEXTS[3]]["recall"] is None
    listed = [
        TEXTS[n] in DESCRIPTIONS_BY_CLASS[CELL_CLASSES[cells.predicted[k]]]
        for k, n in zip(*np.nonzero(kept), strict=True)
    ]
    assert report["class_agreement"]["texts"] == pytest.approx(np.mean(listed), abs=1e-6)
    assert {name: part["cells"] for name, part in report["classes"].items()} == {
        name: int((cells.truth == k).sum()) for k, name in enumerate(CELL_CLASSES)
    }
    assert report["right_class"]["cells"] == (cells.truth == cells.predicted).sum()
    assert report["curve"]["threshold"][0] == pytest.approx(cells.similarity.min(), abs=1e-6)
    assert set(description_figures(cells, TEXTS, THRESHOLD)) == {"description_curves", "description_scores"}


def test_kept_texts_of_a_cell_stand_nearest_first_and_contradictions_are_marked() -> None:
    cells = judged(4)
    cells = cells._replace(right=cells.similarity > THRESHOLD, truth=np.array([0, -1, 2, 3]))
    scores, boxes = np.array([0.9, 0.8, 0.7, 1 / 3]), np.arange(16.0).reshape(4, 4)
    described = described_cells(cells, scores, boxes, TEXTS)
    assert [cell["rank"] for cell in described] == [1, 2, 3, 4]
    assert [cell["known_class"] for cell in described] == [CELL_CLASSES[0], None, CELL_CLASSES[2], CELL_CLASSES[3]]
    assert (described[3]["score"], described[3]["box"]) == (0.333333, [12, 13, 14, 15])
    for k, cell in enumerate(described):
        above = {text for text, value in zip(TEXTS, cells.similarity[k], strict=True) if value > THRESHOLD}
        assert {kept["text"] for kept in cell["descriptions"]} == above
        near = [kept["similarity"] for kept in cell["descriptions"]]
        assert near == sorted(near, reverse=True)
        for kept in cell["descriptions"]:
            assert kept["fits_class"] == (kept["text"] in DESCRIPTIONS_BY_CLASS[cell["class"]])
