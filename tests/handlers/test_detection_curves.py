"""The files, figures and pictures of a detector's evaluation."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from PIL import Image

from stride_monai.engines.detection import TileTruth
from stride_monai.handlers.detection_curves import (
    FOUND_COLOR,
    IGNORED_COLOR,
    TRUTH_COLOR,
    DetectionPictures,
    SlideCurves,
    TileCurves,
)
from stride_monai.metrics.detection import TileResult
from stride_monai.metrics.detection_curves import (
    SlideResult,
)
from stride_monai.networks.detection.detector import TileDetections


def colors(path: Path) -> set[tuple[int, int, int]]:
    return {tuple(pixel) for pixel in np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3).tolist()}


def batch() -> dict[str, object]:
    boxes = torch.tensor([[4.0, 4, 30, 30], [40, 40, 64, 64]])
    truth = TileTruth(boxes, torch.tensor([False, True]))
    found = TileDetections(torch.tensor([[5.0, 5, 31, 31], [30, 4, 60, 20]]), torch.tensor([0.8, 0.1]))
    empty = TileTruth(boxes[:0], torch.zeros(0, dtype=torch.bool))
    image = torch.full((2, 3, 64, 64), 0.9)
    return {"image": image, "pred": [found, found], "label": [truth, empty]}


def test_pictures_show_truth_and_what_was_found(tmp_path: Path) -> None:
    engine = Engine(lambda _, batch: batch)
    DetectionPictures(count=3, min_score=0.25, path=tmp_path / "tiles.png").attach(engine)
    engine.run([batch(), batch()])
    seen = colors(tmp_path / "tiles.png")
    assert {TRUTH_COLOR, FOUND_COLOR, IGNORED_COLOR} <= seen
    with Image.open(tmp_path / "tiles.png") as picture:
        assert picture.size == (2 * 64 + 3 * 2, 64 + 2 * 2)  # two tiles: those without a lesion are not drawn
    swapped = batch()  # corners, as an untrained detector may give them
    swapped["pred"] = [TileDetections(torch.tensor([[31.0, 5, 5, 31]]), torch.tensor([0.8]))] * 2
    engine.run([swapped])
    assert FOUND_COLOR in colors(tmp_path / "tiles.png")
    lower = batch()
    lower["pred"] = [TileDetections(torch.rand(3, 4) * 60, torch.full((3,), 0.2))] * 2
    engine.run([lower])
    assert FOUND_COLOR not in colors(tmp_path / "tiles.png")


def test_files_of_a_tile_evaluation(tmp_path: Path) -> None:
    engine = Engine(lambda _, batch: batch)
    TileCurves(tmp_path).attach(engine)
    engine.run([batch()])
    content = json.loads((tmp_path / "tile_curves.json").read_text())
    assert (content["tiles"], content["cells"]) == (2, 1)  # the cut cell is not asked for
    # Of the two best boxes with equal scores the earlier tile's comes first.
    assert content["precision_recall"]["IoU 0.50"]["precision"][0] == 1.0
    assert engine.state.metrics["val_froc"] == pytest.approx(content["froc"]["score"], abs=1e-6)
    for name in ("precision_recall.png", "tile_froc.png"):
        with Image.open(tmp_path / name) as picture:
            assert picture.size == (960, 720)
            assert len(picture.convert("RGB").getcolors(10**6) or ()) > 20


def test_files_of_a_slide_evaluation(tmp_path: Path) -> None:
    truth = np.array([[0.0, 0, 10, 10], [20, 0, 30, 10]])
    boxes = np.array([[90.0, 0, 99, 10], [20, 0, 30, 10], [50, 0, 60, 10]])
    slides = [
        SlideResult("a", "HSIL", TileResult(boxes, np.array([0.9, 0.8, 0.7]), truth)),
        SlideResult("b", "NILM", TileResult(boxes[:1], np.array([0.75]), truth[:0])),
    ]
    engine = Engine(lambda _, batch: batch)
    SlideCurves(tmp_path, top_k=3).attach(engine)
    engine.run([slides])
    assert engine.state.metrics == {"top_k_recall": 0.5, "slide_froc": pytest.approx(0.5)}
    rows = list(csv.reader((tmp_path / "top_k_recall.csv").open()))
    assert rows == [
        ["k", "all", "HSIL"],
        ["1", "0.000000", "0.000000"],
        ["2", "0.500000", "0.500000"],
        ["3", "0.500000", "0.500000"],
    ]
    assert (tmp_path / "slides.csv").read_text().splitlines()[1:] == ["a,HSIL,2,1,3", "b,NILM,0,0,1"]
    content = json.loads((tmp_path / "slide_curves.json").read_text())
    assert content["froc"]["false_positives_per_image"] == [0, 0, 1]
    assert content["froc"]["sensitivity"] == [0, 0.5, 0.5]
    assert {"top_k_recall.png", "slide_froc.png"} <= {path.name for path in tmp_path.iterdir()}


def test_an_evaluation_without_lesions_says_so_with_nan(tmp_path: Path) -> None:
    engine = Engine(lambda _, batch: batch)
    SlideCurves(tmp_path, top_k=1).attach(engine)
    engine.run([[SlideResult("b", "NILM", TileResult(np.zeros((0, 4)), np.zeros(0), np.zeros((0, 4))))]])
    assert np.isnan(engine.state.metrics["top_k_recall"])
    assert np.isnan(engine.state.metrics["slide_froc"])
    assert json.loads((tmp_path / "slide_curves.json").read_text())["froc"]["score"] is None
