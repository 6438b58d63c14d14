"""The operating point of a slide classifier, set or judged on the slides of an evaluator."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from ignite.engine import Engine

from stride_monai.bethesda import NEGATIVE, SLIDE_CLASSES
from stride_monai.errors import BagError, ConfigError
from stride_monai.handlers.epoch import PRED_AND_LABEL, EpochHandler, predictions
from stride_monai.inferers.threshold import ChosenCells, threshold_for
from stride_monai.metrics.slide import at_threshold, positive_scores, specificity_at_sensitivity
from stride_monai.networks.mil.slide_classifier import SlideClassifier

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

    Args:
        network: holds the threshold (not its data-parallel wrapper).
        sensitivity: least share of positive slides to find, (0, 1].
        update: set the threshold, else judge it.
        output_transform: from the engine's output to logits and class indices.
        force: the stored threshold is to hold for other bags all the same.

    Raises:
        ConfigError: ``sensitivity`` is no share.
        BagError: the bags are of different detectors, or of another than the stored threshold holds for.
    """

    def __init__(
        self,
        network: SlideClassifier,
        sensitivity: float = 0.95,
        update: bool = True,
        output_transform: Callable[[Any], Any] = PRED_AND_LABEL,
        force: bool = False,
    ) -> None:
        if not 0 < sensitivity <= 1:
            raise ConfigError(f"invalid sensitivity {sensitivity}", "give one above 0 and up to 1, such as 0.95")
        super().__init__(output_transform)
        self.network = network
        self.sensitivity = sensitivity
        self.update = update
        self.force = force
        self._detectors: set[str] = set()
        self._bag_size: int | None = None

    def start(self, engine: Engine) -> None:
        super().start(engine)
        self._detectors = set()

    def collect(self, engine: Engine) -> None:
        super().collect(engine)
        batch = engine.state.batch if isinstance(engine.state.batch, Mapping) else {}
        self._detectors |= set(batch.get("detector", ()))
        if "mask" in batch:
            self._bag_size = int(batch["mask"].shape[-1])

    def finish(self, engine: Engine) -> None:
        probabilities, labels = predictions(*self.gathered.columns())
        scores, positive = positive_scores(probabilities), labels != SLIDE_CLASSES.index(NEGATIVE)
        if self.update:
            point = specificity_at_sensitivity(scores, positive, self.sensitivity)
            self.network.set_operating_point(point.threshold, self._bag_size, _only(self._detectors))
        else:
            self._refuse_others()
            point = at_threshold(scores, positive, self.network.operating_point().threshold)
        engine.state.metrics.update(point._asdict())
        _log.info("threshold %.4f: sensitivity %.3f, specificity %.3f (%d slides)", *point, len(labels))

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
