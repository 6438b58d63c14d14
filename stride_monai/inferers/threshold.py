"""Whether the threshold on the slide score holds for a bag's cells: one rule for slides, bag files and evaluations."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from stride_monai.data.bags.bag import chosen_by
from stride_monai.errors import BundleError
from stride_monai.findings import OperatingPoint
from stride_monai.networks.mil.slide_classifier import SlideClassifier
from stride_monai.operating_point import HoldsFor, OperatingPointFile

__all__ = ["ChosenCells", "GivenPoint", "threshold_at", "threshold_for"]


_STORED_IN = "float32"  # thresholds in weights
_SCORES_OF_ANOTHER = " Its slide head also reads the detector's scores, and was trained on others."


class ChosenCells(NamedTuple):
    """What chose the cells of a bag; a threshold holds for the cells of one such choice.

    Attributes:
        detector: SHA-256 of the detector's weights; empty where no detector chose, or it is not known.
        reranker: SHA-256 of the weights of the cell classifier that re-ranked; empty for none.
        candidates: the most cells that the detector proposed to it.
        rule: what it ranked them by.
        name: of the detector, for people.
    """

    detector: str
    reranker: str = ""
    candidates: int = 0
    rule: str = ""
    name: str = "the detector"

    @property
    def sha256(self) -> str:
        """See :func:`stride_monai.data.bags.bag.chosen_by`."""
        return chosen_by(self.detector, self.reranker, self.candidates, self.rule)


class GivenPoint(NamedTuple):
    """An operating point that the user gave as a file, which decides in place of the threshold in the weights.

    Attributes:
        name: of the file.
        sha256: of its content.
    """

    point: OperatingPointFile
    name: str
    sha256: str

    @property
    def source(self) -> str:
        """In words, for the findings."""
        return f"operating point {self.name} ({self.sha256[:12]}): {self.point.in_words()}"


def threshold_for(
    classifier: SlideClassifier,
    top_k: int,
    cells: ChosenCells,
    source: str = "stored with the weights",
    force: bool = False,
    mixed: bool = True,
    name: str = "swift_mil",
    given: GivenPoint | None = None,
    now: HoldsFor | None = None,
) -> tuple[OperatingPoint, str]:
    """The operating point as far as it holds for bags of ``top_k`` such cells, and what a reader has to know.

    It is the stored one, or one that was given as a file: that one decides alone, holds for the weights, K and um/px
    that it names, and is refused for others. The rest of this is about the stored one.

    A threshold of the same detector without re-ranking does not hold for re-ranked cells, nor one of another detector
    where the user has put the two together (``mixed``): such slides are scored and explained, but not called. Where
    the slide head reads the detector's scores (``score_input``), which mean something else then, the caveat says so.

    Args:
        source: in words, where the threshold comes from.
        force: it is to hold although it was set for another K or on cells that were chosen in another way; ``source``
            says so then. That is all that forcing means, here and everywhere.
        mixed: detector (or bags) and slide classifier were put together by the user; False: one set of bundles.
        name: of the slide classifier, for the message.
        given: the operating point of the user's file.
        now: what screens: slide classifier, its weights, um/px, precision. K and cells are filled in here.

    Raises:
        BundleError: it holds for another K; or for another detector, in one set of bundles; or there is none. One that
            was given holds for other weights, K or um/px, or says not for which.
    """
    if given is not None:
        now = replace(now or HoldsFor(name), bag_size=top_k, cells_chosen_by=cells.sha256)
        return _given(given, now, force)
    point, caveat = _stored(classifier, top_k, cells, source, force, mixed, name)
    if now is None or now.precision == _STORED_IN or not point.holds:
        return point, caveat
    if force:
        return replace(point, source=f"{point.source}; forced on {now.precision}"), caveat
    return replace(point, holds=False, source=f"{point.source}; set in {_STORED_IN}"), (
        f"The slide head's threshold was set in {_STORED_IN} and does not hold for {now.precision}: no call is made. "
        "To set one, screen validation slides as these were, and give those results to stride-monai operating-point."
    )


def _stored(
    classifier: SlideClassifier, top_k: int, cells: ChosenCells, source: str, force: bool, mixed: bool, name: str
) -> tuple[OperatingPoint, str]:
    """The threshold in the weights, as far as it holds for bags of ``top_k`` such cells; see :func:`threshold_for`."""
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
            f"The slide head's threshold was set on the cells of another detector or re-ranking ({stored[:12]}) and "
            f"does not hold for those of {how} ({wanted[:12]}): no call is made. To set it, make bags with this "
            "detector, run calibrate.json of swift_mil on them, and screen with --weights swift_mil=calibrated.pt."
            f"{scores}"
        )
    raise BundleError(
        f"the slide head's threshold does not hold for the detector {how} ({wanted[:12]}; it was set for {stored[:12]},"
        " and a detector with re-ranking counts as another)",
        "choose cells as it was set for, or set it anew: bags with this detector, then calibrate.json of swift_mil",
    )


def _given(given: GivenPoint, now: HoldsFor, force: bool) -> tuple[OperatingPoint, str]:
    held = given.point.holds_for
    if not held.classifier_sha256 or held.bag_size is None:
        raise BundleError(
            f"{given.name} does not say for which weights and which K its threshold holds",
            "make it from a results folder of screen: stride-monai operating-point RESULTS --truth TABLE",
        )
    point = OperatingPoint(given.point.threshold, held.bag_size, given.source)
    others = held.differences(now)
    if others and not (force and held.classifier_sha256 == now.classifier_sha256):
        raise BundleError(
            f"the operating point {given.name} does not hold: {'; '.join(others)}",
            "choose one on validation slides that were screened as these are (stride-monai operating-point)",
        )
    if others:
        point = replace(point, source=f"{point.source}; forced on {'; '.join(others)}")
    if not held.cells_chosen_by or not now.cells_chosen_by:
        return point, f"It is not known whether the operating point {given.name} holds for what chose the cells."
    return point, ""


def threshold_at(
    point: OperatingPoint, given: GivenPoint | None, mpp: float, force: bool = False
) -> tuple[OperatingPoint, str]:
    """The operating point for a slide of this um/px, and what a reader has to know.

    One that was given as a file says what um/px at level 0 the slides had that it was chosen on. It does not hold for
    a slide that is another's: that slide is scored and explained, but not called.
    """
    if given is None or given.point.holds_for.takes_slide(mpp):
        return point, ""
    assert given.point.holds_for.slide_mpp is not None
    low, high = (f"{side:g}" for side in given.point.holds_for.slide_mpp)
    on = f"slides of {low if low == high else f'{low} to {high}'} um/px"
    if force:
        return replace(point, source=f"{point.source}; forced on a slide of {mpp:g} um/px"), ""
    why = f"The operating point {given.name} was chosen on {on} and does not hold for this one of {mpp:g}"
    return replace(point, holds=False, source=f"{point.source}; chosen on {on}"), f"{why}: no call is made."
