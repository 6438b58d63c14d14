"""Metrics of an epoch as Ignite metrics: the numbers are those of :mod:`stride_monai.metrics`.

As in MONAI, whose Ignite metrics are handlers too, a configuration names them ``stride_monai.handlers.MacroF1``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from ignite.distributed import all_gather, get_world_size
from ignite.metrics import Metric
from monai.utils import convert_to_numpy
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize, one_hot

from stride_monai.bethesda import NEGATIVE, PAPER_DESCRIPTIONS, SLIDE_CLASSES
from stride_monai.errors import ManifestError
from stride_monai.handlers.epoch import PRED_AND_LABEL, EpochMetric, predictions
from stride_monai.metrics.descriptions import at_prevalence, best_threshold, micro_scores
from stride_monai.metrics.detection import TileResult, detection_recall, mean_average_precision
from stride_monai.metrics.slide import auc, f1_macro, positive_scores
from stride_monai.networks.alignment.aligner import DescriptionAligner

__all__ = [
    "DescriptionF1",
    "DetectionMap",
    "DetectionRecall",
    "FeatureSpread",
    "MacroF1",
    "NeighborF1",
    "SlideAUC",
    "gathered_results",
    "judged_texts",
    "nearest_neighbors",
    "tile_results",
]

_TEMPERATURE, _BLOCK = 0.07, 1024
_array = partial(convert_to_numpy, dtype=np.float64)


class MacroF1(EpochMetric):
    """F1-macro of the most probable class, of logits ``[B, C]`` and class indices ``[B]``."""

    def value(self, logits: Tensor, labels: Tensor) -> float:
        probabilities, truth = predictions(logits, labels)
        return f1_macro(probabilities.argmax(axis=1), truth)


class SlideAUC(EpochMetric):
    """AUC of the summed positive probabilities against NILM or not, of logits ``[B, C]`` and class indices ``[B]``."""

    def value(self, logits: Tensor, labels: Tensor) -> float:
        probabilities, truth = predictions(logits, labels)
        return auc(positive_scores(probabilities), truth != SLIDE_CLASSES.index(NEGATIVE))


def nearest_neighbors(features: Tensor, labels: Tensor, slides: Tensor, k: int = 20) -> Tensor:
    """The class of each cell, ``[N]``, by the vote of its nearest cells on other slides.

    Cells of one slide share stain and focus, so a neighbour on the same slide says little about a new slide. A vote
    counts ``exp(cosine / 0.07)`` (Wu et al., https://arxiv.org/abs/1805.01978).

    Args:
        features: ``[N, D]``. labels: class indices ``[N]``. slides: ``[N]``, any number per slide.
        k: neighbours; fewer where other slides hold fewer cells.

    Raises:
        ManifestError: all cells are of one slide.
    """
    if bool((slides == slides[0]).all()):
        raise ManifestError("the labelled validation cells are all of one slide", "label cells of a second slide")
    units = normalize(features, dim=1)
    classes = one_hot(labels).to(units.dtype)
    out = torch.empty_like(labels)
    for start in range(0, len(units), _BLOCK):
        rows = slice(start, start + _BLOCK)
        similar = units[rows] @ units.T
        similar[slides[rows].unsqueeze(1) == slides] = -torch.inf  # votes exp(-inf) = 0
        best, places = similar.topk(min(k, len(units)), dim=1)
        # Less the best, so that nothing overflows: all votes of a cell shrink alike.
        votes = torch.exp((best - best[:, :1]) / _TEMPERATURE)
        out[rows] = (votes.unsqueeze(2) * classes[places]).sum(1).argmax(1)
    return out


class _Features(EpochMetric):
    """Of features ``[N, D]``, labels ``[N]`` and the slide ids of an epoch, as ``FeatureEvaluator`` gives them."""

    def __init__(self) -> None:
        super().__init__(lambda o: (o["pred"].float(), o["label"].flatten(), o["slide_id"]))


class NeighborF1(_Features):
    """F1-macro of :func:`nearest_neighbors`: how well classes lie apart, from slide to slide.

    Args:
        k: neighbors.
    """

    def __init__(self, k: int = 20) -> None:
        self.k = k
        super().__init__()

    def value(self, features: Tensor, labels: Tensor, slides: Sequence[str]) -> float:
        codes = torch.from_numpy(np.unique(slides, return_inverse=True)[1]).to(features.device)
        predicted = nearest_neighbors(features, labels.long(), codes, self.k)
        return f1_macro(predicted.cpu().numpy(), labels.cpu().numpy())


class FeatureSpread(_Features):
    """Standard deviation of the features, each of length 1, times the root of their number; mean over dimensions.

    About 1 where features fill their space evenly, 0 where they have collapsed to one (SimSiam,
    https://arxiv.org/abs/2011.10566, figure 2).
    """

    def value(self, features: Tensor, labels: Tensor, slides: Sequence[str]) -> float:
        spread = normalize(features, dim=1).std(0, unbiased=False).mean() * features.shape[1] ** 0.5
        return float(spread)


def tile_results(detections: Sequence[Any], truths: Sequence[Any]) -> list[TileResult]:
    """Results of a batch.

    Args:
        detections: of each image, with ``boxes`` and ``scores``.
        truths: of each image, with ``boxes`` and ``ignored``; or the boxes alone, as a tensor or array.
    """
    results = []
    for found, truth in zip(detections, truths, strict=True):
        boxes, ignored = (truth.boxes, _array(truth.ignored) > 0) if hasattr(truth, "boxes") else (truth, None)
        results.append(
            TileResult(_array(found.boxes).reshape(-1, 4), _array(found.scores), _array(boxes).reshape(-1, 4), ignored)
        )
    return results


def gathered_results(results: Sequence[TileResult]) -> list[TileResult]:
    """The results of all processes, in the order in which one process would have had them: a sampler deals images out
    in turn, and the order decides between equal scores."""
    if get_world_size() == 1:
        return list(results)
    parts: list[list[TileResult]] = all_gather(list(results))
    return [part[place] for place in range(max(map(len, parts))) for part in parts if place < len(part)]


class _TileMetric(Metric):
    """A metric of the tiles of an epoch, of all processes, from the output of
    :class:`~stride_monai.engines.DetectionEvaluator`."""

    def __init__(self, max_detections: int) -> None:
        self.max_detections = max_detections
        super().__init__(output_transform=itemgetter("pred", "label"))

    def reset(self) -> None:
        self._results: list[TileResult] = []

    def update(self, output: tuple[Sequence[Any], Sequence[Any]]) -> None:
        self._results += tile_results(*output)


class DetectionMap(_TileMetric):
    """:func:`~stride_monai.metrics.mean_average_precision` over IoU 0.50 to 0.95.

    Args:
        max_detections: as there; 100 is COCO's.
    """

    def __init__(self, max_detections: int = 100) -> None:
        super().__init__(max_detections)

    def compute(self) -> float:
        return mean_average_precision(gathered_results(self._results), self.max_detections)


class DetectionRecall(_TileMetric):
    """:func:`~stride_monai.metrics.detection_recall` at one IoU threshold, of detections at whatever least score the
    detector ran with."""

    def __init__(self, iou: float = 0.5, max_detections: int = 500) -> None:
        self.iou = iou
        super().__init__(max_detections)

    def compute(self) -> float:
        return detection_recall(gathered_results(self._results), self.max_detections, self.iou)


class DescriptionF1(EpochMetric):
    """Micro F1 of the descriptions over all cells of an epoch.

    Args:
        aligner: judges at its stored threshold; None takes the best threshold for these cells.
        output_transform: from the engine's output to cosines (or logits) ``[B, N]`` and targets ``[B, N]``.
    """

    def __init__(
        self, aligner: DescriptionAligner | None = None, output_transform: Callable[[Any], Any] = PRED_AND_LABEL
    ) -> None:
        self.aligner = aligner
        super().__init__(output_transform)

    def value(self, similarity: Tensor, target: Tensor) -> float:
        values, right = judged_texts(similarity, target)
        threshold = best_threshold(values, right) if self.aligner is None else self.aligner.stored_threshold()
        return micro_scores(values, right, threshold)[2]


def weights_of_cells(right: NDArray[np.bool_], texts: Sequence[str], prevalence: float) -> NDArray[np.float64] | None:
    """How much each cell counts where a share of ``prevalence`` are lesions; None, all alike, where there is none.

    A lesion is a cell that no text of normal cells describes.
    """
    if not prevalence:
        return None
    normal = [text in PAPER_DESCRIPTIONS[NEGATIVE] for text in texts]
    return at_prevalence(np.asarray(right[:, normal].sum(axis=1) == 0, np.bool_), prevalence)


def judged_texts(similarity: Tensor, target: Tensor) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Gathered cosines ``[N, texts]``, and which texts are right."""
    return similarity.float().cpu().numpy(), (target == 1).cpu().numpy()
