"""Whether the threshold on the slide score holds for a bag's cells: one rule for slides, bag files and evaluations."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from stride_monai.data.bags.bag import chosen_by
from stride_monai.errors import BundleError
from stride_monai.findings import OperatingPoint
from stride_monai.networks.mil.slide_classifier import SlideClassifier

__all__ = ["ChosenCells", "threshold_for"]


_SCORES_OF_ANOTHER = " Its slide head also reads the detector's scores, and was trained on others."


class ChosenCells(NamedTuple):
    """What chose the cells of a bag; a threshold holds for the cells of one such choice.

    Attributes:
        detector: SHA-256 of the detector's weights; empty where no detector chose, or it is not known.
        reranker: SHA-256 of the weights of the cell classifier that re-ranked; empty for none.
        candidates: the most cells that the detector proposed to it.
        name: of the detector, for people.
    """

    detector: str
    reranker: str = ""
    candidates: int = 0
    name: str = "the detector"

    @property
    def sha256(self) -> str:
        """See :func:`stride_monai.data.bags.bag.chosen_by`."""
        return chosen_by(self.detector, self.reranker, self.candidates)


def threshold_for(
    classifier: SlideClassifier,
    top_k: int,
    cells: ChosenCells,
    source: str = "stored with the weights",
    force: bool = False,
    mixed: bool = True,
    name: str = "swift_mil",
) -> tuple[OperatingPoint, str]:
    """The stored operating point as far as it holds for bags of ``top_k`` such cells, and what a reader has to know.

    A threshold of the same detector without re-ranking does not hold for re-ranked cells, nor one of another detector
    where the user has put the two together (``mixed``): such slides are scored and explained, but not called. Where
    the slide head reads the detector's scores (``score_input``), which mean something else then, the caveat says so.

    Args:
        source: in words, where the threshold comes from.
        force: it is to hold although it was set for another K or on cells that were chosen in another way; ``source``
            says so then. That is all that forcing means, here and everywhere.
        mixed: detector (or bags) and slide classifier were put together by the user; False: one set of bundles.
        name: of the slide classifier, for the message.

    Raises:
        BundleError: it holds for another K; or for another detector, in one set of bundles; or there is none.
    """
    point = classifier.operating_point(source)
    if point.bag_size != top_k:
        if not force:
            raise BundleError(
                f"the slide head's threshold holds for bags of {point.bag_size} cells, the configuration asks for "
                f"{top_k}",
                f"set top_k to {point.bag_size}, or evaluate {name} at the new size",
            )
        point = replace(point, source=f"{point.source}; forced on bags of {top_k} cells")
    stored, wanted = classifier.detector_sha256, cells.sha256
    if not stored:
        return point, "It is not known for which detector the slide head's threshold holds."
    if not wanted:
        return point, "It is not known which detector chose the cells, so not whether the slide head's threshold holds."
    if stored == wanted:
        return point, ""
    scores = _SCORES_OF_ANOTHER if classifier.takes_scores else ""
    if force:
        return replace(point, source=f"{point.source}; forced on cells that were chosen in another way"), (
            f"The slide head's threshold was set on cells that were chosen in another way; using it was forced.{scores}"
        )
    if cells.reranker and stored == cells.detector:
        return replace(point, holds=False, source=f"{point.source}; set without re-ranking"), (
            "The slide head's threshold was set without re-ranking and does not hold for re-ranked cells: no call is "
            f"made. To set it, make bags with re-ranking and run calibrate.json of swift_mil on them.{scores}"
        )
    how = f"{cells.name} with re-ranking" if cells.reranker else cells.name
    if mixed:
        return replace(point, holds=False, source=f"{point.source}; set on the cells of another detector"), (
            f"The slide head's threshold was set on the cells of another detector ({stored[:12]}) and does not hold "
            f"for those of {how} ({wanted[:12]}): no call is made. To set it, make bags with this detector, run "
            f"calibrate.json of swift_mil on them, and screen with --weights swift_mil=calibrated.pt.{scores}"
        )
    raise BundleError(
        f"the slide head's threshold does not hold for the detector {how} ({wanted[:12]}; it was set for {stored[:12]},"
        " and a detector with re-ranking counts as another)",
        "choose cells as it was set for, or set it anew: bags with this detector, then calibrate.json of swift_mil",
    )
