"""Metrics over all predictions of an epoch, of every process, as Ignite metrics; and the operating point."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from ignite.metrics import Metric
from monai.handlers import from_engine
from monai.utils import evenly_divisible_all_gather
from numpy.typing import NDArray
from torch import Tensor

from stride_monai.bethesda import NEGATIVE, SLIDE_CLASSES
from stride_monai.errors import BagError, ConfigError
from stride_monai.metrics.slide import at_threshold, auc, f1_macro, positive_scores, specificity_at_sensitivity
from stride_monai.networks.mil.slide_classifier import SlideClassifier

__all__ = ["MacroF1", "OperatingPointHandler", "Predictions", "SlideAUC", "detectors_of"]

_log = logging.getLogger(__name__)
_PRED_AND_LABEL = from_engine(["pred", "label"])


class Predictions:
    """Probabilities ``[N, C]`` and class indices ``[N]`` gathered batch by batch."""

    def __init__(self) -> None:
        self.logits: list[Tensor] = []
        self.labels: list[Tensor] = []

    def add(self, logits: Tensor | Sequence[Tensor], labels: Tensor | Sequence[Tensor]) -> None:
        # A decollated batch arrives as a list with one row per sample.
        if not isinstance(logits, Tensor):
            logits = torch.stack(list(logits))
        if not isinstance(labels, Tensor):
            labels = torch.stack([torch.as_tensor(label) for label in labels])
        self.logits.append(logits.detach().float())
        self.labels.append(labels.detach().flatten().long())

    def of_all_processes(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        logits = evenly_divisible_all_gather(torch.cat(self.logits))
        labels = evenly_divisible_all_gather(torch.cat(self.labels))
        probabilities: NDArray[np.float64] = torch.softmax(logits.double(), dim=1).cpu().numpy()
        return probabilities, labels.cpu().numpy()


class _EpochMetric(Metric):
    """An Ignite metric of all predictions of an epoch.

    Args:
        output_transform: from the engine's output to logits ``[B, C]`` and class indices ``[B]`` (tensors, or lists of
            samples). Class indices, never one-hot rows: Ignite would count those element by element.
    """

    def __init__(self, output_transform: Callable[[Any], Any] = _PRED_AND_LABEL, device: str = "cpu") -> None:
        self._predictions = Predictions()
        super().__init__(output_transform=output_transform, device=device)

    def reset(self) -> None:
        self._predictions = Predictions()

    def update(self, output: Sequence[Any]) -> None:
        self._predictions.add(output[0], output[1])

    def compute(self) -> float:
        return self.value(*self._predictions.of_all_processes())

    def value(self, probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
        raise NotImplementedError


class MacroF1(_EpochMetric):
    """F1-macro of the most probable class; arguments as :class:`_EpochMetric`."""

    def value(self, probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
        return f1_macro(probabilities.argmax(axis=1), labels)


class SlideAUC(_EpochMetric):
    """AUC of the summed positive probabilities against NILM or not; arguments as :class:`_EpochMetric`."""

    def value(self, probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
        return auc(positive_scores(probabilities), labels != SLIDE_CLASSES.index(NEGATIVE))


class OperatingPointHandler:
    """Sets or judges the threshold on the slide score after every epoch of an evaluator.

    With ``update`` the highest threshold whose sensitivity on these slides is at least ``sensitivity`` goes into the
    network's buffer, with the number of cells in a bag (of the batch's ``mask``) and the detector that chose them
    (``detector`` of the batch, see :class:`~stride_monai.transforms.LoadBagd`); weights that a training started
    from have those of other bags. List this handler before the checkpoint saver, so that the
    checkpoint has them. Without, the stored threshold stays and is judged; cells of another detector are refused.
    Either way ``threshold``, ``sensitivity`` and ``specificity`` as achieved join the engine's metrics.

    Args:
        network: holds the threshold (not its data-parallel wrapper).
        sensitivity: least share of positive slides to find, (0, 1].
        update: set the threshold, else judge it.
        output_transform: from the engine's output to logits and class indices.
        force: judge it on cells of another detector all the same.

    Raises:
        ConfigError: ``sensitivity`` is no share.
        BagError: the bags are of different detectors, or of another than the stored threshold holds for.
    """

    def __init__(
        self,
        network: SlideClassifier,
        sensitivity: float = 0.95,
        update: bool = True,
        output_transform: Callable[[Any], Any] = _PRED_AND_LABEL,
        force: bool = False,
    ) -> None:
        if not 0 < sensitivity <= 1:
            raise ConfigError(
                f"the sensitivity {sensitivity} is no share", "give one above 0 and up to 1, such as 0.95"
            )
        self.network = network
        self.sensitivity = sensitivity
        self.update = update
        self.output_transform = output_transform
        self.force = force
        self._predictions = Predictions()
        self._detectors: set[str] = set()
        self._bag_size: int | None = None

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._finish)

    def _start(self, engine: Engine) -> None:
        self._predictions, self._detectors = Predictions(), set()

    def _collect(self, engine: Engine) -> None:
        self._predictions.add(*self.output_transform(engine.state.output))
        self._detectors |= detectors_of(engine.state.batch)
        if isinstance(batch := engine.state.batch, Mapping) and "mask" in batch:
            self._bag_size = int(batch["mask"].shape[-1])

    def _finish(self, engine: Engine) -> None:
        probabilities, labels = self._predictions.of_all_processes()
        scores, positive = positive_scores(probabilities), labels != SLIDE_CLASSES.index(NEGATIVE)
        if self.update:
            point = specificity_at_sensitivity(scores, positive, self.sensitivity)
            self.network.set_operating_point(point.threshold, self._bag_size, _only(self._detectors))
        else:
            for detector in self._detectors:
                self.network.check_detector(detector, self.force)
            point = at_threshold(scores, positive, self.network.operating_point().threshold)
        engine.state.metrics.update(point._asdict())
        _log.info("threshold %.4f: sensitivity %.3f, specificity %.3f (%d slides)", *point, len(labels))


def detectors_of(batch: Any) -> set[str]:
    """SHA-256 of the detectors that chose the cells of a batch of bags; empty where the batch does not say."""
    return set(batch.get("detector", ())) if isinstance(batch, Mapping) else set()


def _only(detectors: set[str]) -> str:
    if len(detectors) > 1:
        names = ", ".join(sorted(name[:12] or "none" for name in detectors))
        raise BagError(
            f"the bags were made with different detectors ({names}), but a threshold holds for one",
            "make them all with the same weights",
        )
    return next(iter(detectors), "")
