"""The operating point of a slide classifier, set or judged on the slides of an evaluator."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ignite import distributed as idist
from ignite.engine import Engine, Events

from stride_monai.bethesda import NEGATIVE, SLIDE_CLASSES
from stride_monai.errors import BagError, ConfigError
from stride_monai.evaluation.inputs.joining import cohort_hash
from stride_monai.evaluation.operating_points import choose_operating_point
from stride_monai.files import sha256_of
from stride_monai.handlers.epoch import PRED_AND_LABEL, EpochHandler, Gathered, predictions
from stride_monai.inferers.threshold import ChosenCells, threshold_for
from stride_monai.metrics.slide import Threshold, at_threshold, positive_scores
from stride_monai.networks.mil.slide_classifier import SlideClassifier
from stride_monai.operating_point import (
    ChosenOn,
    HoldsFor,
    OperatingPointFile,
    write_operating_point,
)

__all__ = ["OperatingPointHandler"]

_log = logging.getLogger(__name__)


class OperatingPointHandler(EpochHandler):
    """Sets or judges the threshold on the slide score after every epoch of an evaluator.

    With ``update`` the highest threshold whose sensitivity on these slides is at least ``sensitivity`` goes into the
    network's buffer, with the number of cells in a bag (of the batch's ``mask``) and the detector that chose them
    (``detector`` of the batch, see :class:`~stride_monai.transforms.LoadBagd`); weights that a training started
    from have those of other bags. List this handler before the checkpoint saver, so that the
    checkpoint has them. Without, the stored threshold stays and is judged; cells of another detector are refused.
    Either way ``threshold``, ``sensitivity`` and ``specificity`` as achieved join the engine's metrics.

    With ``weights``, the file that the network is saved to, the operating point is also written beside it, as
    ``<name>.operating_point.json``: each time that file was written in an epoch, when the evaluator has completed.

    Args:
        network: holds the threshold (not its data-parallel wrapper).
        sensitivity: least share of positive slides to find, (0, 1].
        update: set the threshold, else judge it.
        output_transform: from the engine's output to logits and class indices.
        force: the stored threshold is to hold for other bags all the same.
        weights: see above; empty for no file. Process 0 writes.
        name: of the slide classifier's bundle, for the file. crop_mpp: um/px of the crops, likewise.
        split: what the slides are of the cohort; a threshold is never set on ``test``.

    Raises:
        ConfigError: ``sensitivity`` is no share, or the threshold was to be set on test slides.
        BagError: the bags are of different detectors, or of another than the stored threshold holds for.
    """

    def __init__(
        self,
        network: SlideClassifier,
        sensitivity: float = 0.95,
        update: bool = True,
        output_transform: Callable[[Any], Any] = PRED_AND_LABEL,
        force: bool = False,
        weights: Path | str = "",
        name: str = "swift_mil",
        crop_mpp: float | None = None,
        split: str = "validation",
    ) -> None:
        if update and split == "test":
            raise ConfigError(
                "a threshold that is set on the test split says nothing about new slides", "use the validation split"
            )
        if not 0 < sensitivity <= 1:
            raise ConfigError(f"invalid sensitivity {sensitivity}", "give one above 0 and up to 1, such as 0.95")
        super().__init__(output_transform)
        self.network = network
        self.sensitivity = sensitivity
        self.update = update
        self.force = force
        self._detectors: set[str] = set()
        self.weights, self.name, self.crop_mpp = Path(weights) if weights else None, name, crop_mpp
        self.split = split
        self._bag_size: int | None = None
        self._ids = Gathered()
        self._written = -1
        self._point: OperatingPointFile | None = None

    def start(self, engine: Engine) -> None:
        super().start(engine)
        self._detectors, self._ids = set(), Gathered()
        if self.weights is not None and not engine.has_event_handler(self.write, Events.COMPLETED):
            # Now that all others are attached, so that it comes after what saves the network.
            engine.add_event_handler(Events.COMPLETED, self.write)
        self._written = self._saved_at()

    def collect(self, engine: Engine) -> None:
        super().collect(engine)
        batch = engine.state.batch if isinstance(engine.state.batch, Mapping) else {}
        self._detectors |= set(batch.get("detector", ()))
        if "slide_id" in batch:
            self._ids.add([str(slide_id) for slide_id in batch["slide_id"]])
        if "mask" in batch:
            self._bag_size = int(batch["mask"].shape[-1])

    def finish(self, engine: Engine) -> None:
        probabilities, labels = predictions(*self.gathered.columns())
        scores, positive = positive_scores(probabilities), labels != SLIDE_CLASSES.index(NEGATIVE)
        if self.update:
            (ids,) = self._ids.columns() or ([],)
            cohort = cohort_hash(ids, [SLIDE_CLASSES[label] for label in labels]) if ids else ""
            chosen_on = ChosenOn(
                len(positive), int(positive.sum()), int((~positive).sum()), cohort, self.split, "training"
            )
            chosen = choose_operating_point(scores, positive, chosen_on, HoldsFor(), self.sensitivity)
            point = Threshold(chosen.threshold, chosen.sensitivity.value, chosen.specificity.value)
            self.network.set_operating_point(point.threshold, self._bag_size, _only(self._detectors))
            self._point = replace(chosen, threshold=self.network.operating_point().threshold)  # as float32 holds it
        else:
            self._refuse_others()
            point = at_threshold(scores, positive, self.network.operating_point().threshold)
        engine.state.metrics.update(point._asdict())
        _log.info("threshold %.4f: sensitivity %.3f, specificity %.3f (%d slides)", *point, len(labels))

    def write(self, engine: Engine) -> None:
        """Write the operating point beside the weights, if these were written since the epoch began."""
        if self._point is None or self.weights is None or idist.get_rank() > 0 or self._saved_at() == self._written:
            return
        self._written = self._saved_at()
        holds_for = HoldsFor(
            classifier=self.name,
            weights={self.name: sha256_of(self.weights)},
            cells_chosen_by=self.network.detector_sha256,
            bag_size=self.network.operating_point().bag_size,
            crop_mpp=self.crop_mpp,
        )
        path = self.weights.with_name(f"{self.weights.stem}.operating_point.json")
        write_operating_point(path, replace(self._point, holds_for=holds_for))
        _log.info("%s holds its operating point", path)

    def _saved_at(self) -> int:
        """When the weights file was written; -1 where there is none."""
        there = self.weights is not None and self.weights.is_file()
        return self.weights.stat().st_mtime_ns if there and self.weights else -1

    def _refuse_others(self) -> None:
        """Refuse bags that the stored threshold does not hold for: it would be judged by what it says of others."""
        top_k = self._bag_size or self.network.operating_point().bag_size
        for chosen_by in sorted(self._detectors):
            point, why = threshold_for(self.network, top_k, ChosenCells(chosen_by), force=self.force)
            if not point.holds:
                raise BagError(
                    why.partition(": no call")[0],
                    "set it anew on bags of this detector (calibrate.json of swift_mil), or force it",
                )


def _only(detectors: set[str]) -> str:
    if len(detectors) > 1:
        names = ", ".join(sorted(name[:12] or "none" for name in detectors))
        raise BagError(
            f"the bags were made with different detectors ({names}), but a threshold holds for one",
            "make them all with the same weights",
        )
    return next(iter(detectors), "")
