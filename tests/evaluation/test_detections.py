"""Curves of tiles and slides as report, tables and figures."""

from __future__ import annotations

import numpy as np
import pytest
from detection_scenes import scene

from stride_monai.evaluation.detections import evaluate_slides, evaluate_tiles
from stride_monai.metrics.detection import TileResult, mean_average_precision
from stride_monai.metrics.detection_curves import SlideResult


def test_curves_of_tiles_say_what_their_metrics_say() -> None:
    results = scene(5)
    found = evaluate_tiles(results, (0.5, 0.75), 500)
    report = found.report()
    assert report["cells"] == sum(len(result.truth) for result in results)
    for name, iou in (("IoU 0.50", 0.5), ("IoU 0.75", 0.75)):
        precision = report["precision_recall"][name]["precision"]
        assert np.mean(precision) == pytest.approx(mean_average_precision(results, 500, (iou,)), abs=1e-6)
    assert report["froc"]["score"] == pytest.approx(found.froc.score, abs=1e-6)
    figures = found.figures()
    assert [line.get_label() for line in figures["precision_recall"].axes[0].lines] == ["IoU 0.50", "IoU 0.75"]
    assert figures["tile_froc"].axes[0].lines[0].get_ydata().tolist() == found.froc.sensitivity.tolist()


def test_recall_of_slides_in_tables() -> None:
    truth = np.array([[0.0, 0, 10, 10], [20, 0, 30, 10]])
    boxes = np.array([[90.0, 0, 99, 10], [20, 0, 30, 10], [50, 0, 60, 10]])
    slides = [
        SlideResult("=a", "HSIL", TileResult(boxes, np.array([0.9, 0.8, 0.7]), truth)),
        SlideResult("b", "NILM", TileResult(boxes[:1], np.array([0.75]), truth[:0])),
    ]
    found = evaluate_slides(slides, top_k=5)
    assert found.ks == [1, 2, 4, 5]
    tables = {name: content.decode().splitlines() for name, content in found.tables().items()}
    assert tables["top_k_recall"] == [
        "k,all,HSIL",
        "1,0.000000,0.000000",
        *(f"{k},0.500000,0.500000" for k in (2, 4, 5)),
    ]
    assert tables["slides"][1:] == ["'=a,HSIL,2,1,3", "b,NILM,0,0,1"]
    assert set(found.figures()) == {"top_k_recall", "slide_froc"}
    assert found.report()["top_k_recall"] == {"k": [1, 2, 4, 5], "all": [0, 0.5, 0.5, 0.5], "HSIL": [0, 0.5, 0.5, 0.5]}
