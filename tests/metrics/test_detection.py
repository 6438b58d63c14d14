"""Detection metrics against pycocotools, against MONAI's COCO implementation and by hand."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence

import numpy as np
import pytest
from detection_scenes import scene, with_ignored
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.apps.detection.metrics.matching import matching_batch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from stride_monai.metrics.detection import TileResult, box_iou, detection_recall, mean_average_precision


def slow_map(results: Sequence[TileResult], most: int) -> float:
    """MONAI's matching; then precision at each recall by its definition. (MONAI's own mean divides in float32, where
    a recall of 0.04 falls short of 0.04.)"""
    ious = np.linspace(0.5, 0.95, 10)
    matched = matching_batch(
        iou_fn=box_iou,
        iou_thresholds=ious,
        pred_boxes=[r.boxes for r in results],
        pred_classes=[np.zeros(len(r.boxes), int) for r in results],
        pred_scores=[r.scores for r in results],
        gt_boxes=[r.truth for r in results],
        gt_classes=[np.zeros(len(r.truth), int) for r in results],
        max_detections=most,
    )
    tiles = [tile[0] for tile in matched if 0 in tile]
    scores = np.concatenate([tile["dtScores"] for tile in tiles])
    hits = np.concatenate([tile["dtMatches"] for tile in tiles], axis=1)[:, np.argsort(-scores, kind="stable")]
    total = sum(len(r.truth) for r in results)
    values = []
    for row in hits:
        curve = [(row[: n + 1].sum() / total, row[: n + 1].mean()) for n in range(len(row))]
        values += [max((p for r, p in curve if r >= at), default=0.0) for at in np.linspace(0, 1, 101)]
    return float(np.mean(values))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.sampled_from([3, 10, 100]))
def test_equals_a_slow_one(seed: int, most: int) -> None:
    results = scene(seed)
    if sum(len(r.truth) for r in results) and sum(len(r.boxes) for r in results):
        assert mean_average_precision(results, most) == pytest.approx(slow_map(results, most), abs=1e-12)


def coco(results: Sequence[TileResult], most: int) -> tuple[float, float]:
    """Average precision over IoU 0.50:0.95 and recall at IoU 0.50, as pycocotools computes them."""

    def corner_and_size(box: np.ndarray) -> list[float]:
        return [*box[:2].tolist(), *(box[2:] - box[:2]).tolist()]

    truth, found = [], []
    for image, result in enumerate(results, 1):
        ignored = np.zeros(len(result.truth), bool) if result.ignored is None else result.ignored
        for box, crowd in zip(result.truth, ignored, strict=True):
            x, y, w, h = corner_and_size(box)
            facts = {"id": len(truth) + 1, "image_id": image, "category_id": 1, "bbox": [x, y, w, h], "area": w * h}
            truth.append(facts | {"iscrowd": int(crowd)})
        for box, score in zip(result.boxes, result.scores, strict=True):
            found.append({"image_id": image, "category_id": 1, "bbox": corner_and_size(box), "score": float(score)})
    images = [{"id": image} for image in range(1, len(results) + 1)]
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO()
        reference.dataset = {"images": images, "annotations": truth, "categories": [{"id": 1}]}
        reference.createIndex()
        evaluation = COCOeval(reference, reference.loadRes(found), "bbox")
        evaluation.params.maxDets = [most]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, 0, 0, 0]
    return float(precision.mean()), float(evaluation.eval["recall"][0, 0, 0, 0])


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.sampled_from([3, 10, 100, 500]), st.booleans())
def test_equals_pycocotools(seed: int, most: int, ignore: bool) -> None:
    results = with_ignored(scene(seed), seed) if ignore else scene(seed)
    if sum(r.wanted for r in results) and sum(len(r.boxes) for r in results):
        precision, found = coco(results, most)
        assert mean_average_precision(results, most) == pytest.approx(precision, abs=1e-6)
        assert detection_recall(results, most, 0.5) == pytest.approx(found, abs=1e-6)


@pytest.mark.parametrize("seed", range(2))
def test_equals_pycocotools_in_a_crowd(seed: int) -> None:
    """Tiles with more than a hundred cells, of which some touch, on whole pixels so that IoUs and scores tie."""
    random = np.random.default_rng(seed)
    results = []
    for count in (120, 0, 150):
        corner = random.integers(0, 480, (count, 2)).astype(float)
        truth = np.hstack([corner, corner + random.choice([16.0, 24.0, 32.0], (count, 1))])
        shift = random.integers(-6, 7, (count, 2))
        strays = random.integers(0, 480, (100, 2)).astype(float)
        boxes = np.concatenate([truth + np.hstack([shift, shift]), np.hstack([strays, strays + 24])])
        scores = np.concatenate([random.integers(3, 20, count), random.integers(0, 12, 100)]) / 20
        results.append(TileResult(boxes, scores, truth, random.random(count) < 0.2))
    for most in (100, 500):
        precision, found = coco(results, most)
        assert 0 < precision < found < 1
        assert mean_average_precision(results, most) == pytest.approx(precision, abs=1e-6)
        assert detection_recall(results, most) == pytest.approx(found, abs=1e-6)
    assert detection_recall(results, 500) > detection_recall(results, 100)


def test_a_cut_cell_counts_neither_for_nor_against() -> None:
    truth = np.array([[0.0, 0, 10, 10], [90, 0, 100, 20]])
    cut = np.array([False, True])
    found = np.array([[0.0, 0, 10, 10], [90, 0, 100, 20], [90, 0, 100, 10], [50, 50, 60, 60]])
    scores = np.array([0.6, 0.9, 0.8, 0.7])
    ignoring = TileResult(found, scores, truth, cut)
    assert (mean_average_precision([ignoring]), detection_recall([ignoring])) == (0.5, 1.0)  # only the stray is wrong
    assert mean_average_precision([TileResult(found[:3], scores[:3], truth, cut)]) == 1.0
    assert detection_recall([TileResult(found[1:2], scores[1:2], truth, cut)]) == 0.0
    assert np.isnan(mean_average_precision([TileResult(found, scores, truth, np.ones(2, bool))]))


def test_by_hand() -> None:
    truth = np.array([[0.0, 0, 10, 10], [20, 0, 30, 10]])
    strays = np.array([[50.0, 50, 60, 60]])
    hit_first = TileResult(np.concatenate([truth[:1], strays]), np.array([0.9, 0.8]), truth)
    assert mean_average_precision([hit_first]) == pytest.approx(51 / 101)  # recall 0.5 at precision 1
    assert detection_recall([hit_first]) == 0.5
    assert detection_recall([hit_first], iou=1.0) == 0.5
    assert mean_average_precision([TileResult(truth, np.array([0.2, 0.1]), truth)]) == 1.0
    assert mean_average_precision([TileResult(truth[:0], np.zeros(0), truth)]) == 0.0
    assert np.isnan(mean_average_precision([TileResult(truth, np.ones(2), truth[:0])]))
    assert np.isnan(detection_recall([TileResult(truth, np.ones(2), truth[:0])]))


def test_the_limit_of_detections_counts_per_tile() -> None:
    corner = np.array([(20.0 * i, 20.0 * j) for i in range(15) for j in range(10)])
    truth = np.hstack([corner, corner + 10])
    crowded = [TileResult(truth, np.linspace(1, 0.5, 150), truth)]
    assert mean_average_precision(crowded, 100) < 0.7
    assert mean_average_precision(crowded, 500) == 1.0
    assert detection_recall(crowded, 100) == pytest.approx(100 / 150)


def test_one_true_box_is_found_once() -> None:
    truth = np.array([[0.0, 0, 10, 10]])
    twice = TileResult(np.repeat(truth, 2, 0), np.array([0.9, 0.8]), truth)
    assert mean_average_precision([twice]) == 1.0
    other = TileResult(np.array([[50.0, 0, 60, 10]]), np.array([0.85]), truth)
    # hits at ranks 1 of 3; the second truth is missed
    assert mean_average_precision([twice, other]) == pytest.approx(51 / 101)
