"""The report of a cell classifier against its predictions, counted slowly; its figures by what they show."""

from __future__ import annotations

import json

import numpy as np
import pytest

from stride_monai.bethesda import CELL_CLASSES
from stride_monai.evaluation.cells import cell_figures, cell_report, cell_table
from stride_monai.evaluation.figures.confusion import confusion_figure
from stride_monai.metrics.cell import calibration, confusion_matrix

CENTRES = [("North", "South", None)[k % 3] for k in range(90)]


def predictions() -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and labels of 90 cells; no cell is AGC and none is called so."""
    labels = np.arange(90) % 4
    logits = np.random.default_rng(0).normal(size=(90, 5))
    logits[np.arange(90), labels] += 1.5
    logits[:, 4] = -20
    powers = np.exp(logits)
    return powers / powers.sum(axis=1, keepdims=True), labels


def test_report() -> None:
    probabilities, truth = predictions()
    counts = dict(zip(CELL_CLASSES, (900, 50, 40, 30, 2), strict=True))
    report = cell_report(probabilities, truth, CENTRES, counts, "test")
    assert "NaN" not in json.dumps(report)
    predicted = probabilities.argmax(1)
    assert report["cells"] == 90
    assert report["accuracy"] == pytest.approx((predicted == truth).mean(), abs=1e-6)
    assert report["confusion"] == confusion_matrix(predicted, truth, 5).tolist()
    f1 = [2 * ((predicted == c) & (truth == c)).sum() / ((predicted == c).sum() + (truth == c).sum()) for c in range(4)]
    assert report["f1_macro"] == pytest.approx(np.mean(f1), abs=1e-6)
    assert [report["classes"][name]["f1"] for name in CELL_CLASSES[:4]] == pytest.approx(f1, abs=1e-6)
    missing = report["classes"]["AGC"]
    assert (missing["cells"], missing["training_cells"], missing["f1"], missing["precision"]) == (0, 2, None, None)
    top, by_class = calibration(probabilities, truth)
    said = report["calibration"]
    assert said["ece"] == pytest.approx(top.error, abs=1e-6)
    assert said["classwise_ece"] == pytest.approx(np.mean([one.error for one in by_class]), abs=1e-6)
    assert sum(said["reliability"]["count"]) == 90
    assert {name: of["cells"] for name, of in report["centres"].items()} == {
        "North": 30,
        "South": 30,
        "(no centre)": 30,
    }
    south = np.array([centre == "South" for centre in CENTRES])
    assert report["centres"]["South"]["accuracy"] == pytest.approx((predicted == truth)[south].mean(), abs=1e-6)
    assert (report["split"], report["weights_sha256"]) == ("test", None)
    assert "synthetic" in report["disclaimer"].lower() or "research" in report["disclaimer"].lower()
    assert cell_report(probabilities, truth)["centres"] == {}


@pytest.mark.parametrize(
    ("counts", "split", "said"),
    [(None, "", "judged"), ({"NILM": 0}, "test", "judged, test"), ({"NILM": 9}, "test", "training")],
)
def test_f1_stands_against_training_counts_where_they_are_known(counts: dict[str, int], split: str, said: str) -> None:
    figures = cell_figures(*predictions(), counts, split)
    assert set(figures) == {"confusion", "f1_by_count", "reliability"}
    axes = figures["f1_by_count"].axes[0]
    assert axes.get_xlabel() == f"cells of the class ({said})"
    assert len(axes.lines) == 4 + 1, "a point for each class that occurs, and the mean"


def test_confusion_picture_shows_shares_of_the_true_class() -> None:
    matrix = np.array([[8, 2, 0], [0, 0, 0], [5, 0, 5]])
    axes = confusion_figure(matrix, ["a", "b", "c"]).axes[0]
    shown = axes.images[0].get_array()
    np.testing.assert_allclose(shown, [[0.8, 0.2, 0], [0, 0, 0], [0.5, 0, 0.5]])
    assert [text.get_text() for text in axes.texts][:3] == ["80 %\n8", "20 %\n2", "0"]


def test_the_table_of_a_bag_has_a_row_for_each_cell_in_order_of_rank() -> None:
    probabilities = np.array([[0.1, 0.2, 0.3, 0.3, 0.1], [1 / 3, 1 / 3, 1 / 3, 0, 0]], np.float32)
    table = cell_table(probabilities, np.array([0.9, 0.5]), np.array([[1, 2, 3, 4.5], [5, 6, 7, 8]]))
    header, *rows = table.decode().splitlines()
    assert header.split(",") == ["rank", "score", "x0", "y0", "x1", "y1", "class", *(f"p_{n}" for n in CELL_CLASSES)]
    assert rows[0] == f"1,0.9,1.0,2.0,3.0,4.5,{CELL_CLASSES[2]},0.1,0.2,0.3,0.3,0.1"
    assert rows[1] == f"2,0.5,5.0,6.0,7.0,8.0,{CELL_CLASSES[0]},0.333333,0.333333,0.333333,0.0,0.0"
