"""What ``screen`` found on slides whose cells are marked: recall, precision of what is shown, classes, descriptions.

The numbers are those of the bundles: curves as of :mod:`stride_monai.evaluation.detections`, classes as of
:mod:`stride_monai.evaluation.cells`, descriptions as of :mod:`stride_monai.evaluation.descriptions`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import stats

from stride_monai.bethesda import (
    CELL_CLASSES,
    DESCRIPTION_VOCABULARY,
    NEGATIVE,
    SLIDE_CLASSES,
    SLIDE_TO_CELL,
    slide_class_of,
)
from stride_monai.data.cells import CellRecord
from stride_monai.data.descriptions import DescriptionRules
from stride_monai.errors import ManifestError
from stride_monai.evaluation.cells import cell_figures, cell_report
from stride_monai.evaluation.descriptions import JudgedCells, kept_report
from stride_monai.evaluation.detections import SlideEvaluation, evaluate_slides
from stride_monai.evaluation.reports import plain_list
from stride_monai.evaluation.statistics.intervals import LEVEL, Interval
from stride_monai.findings import GALLERY_SIZE, Findings
from stride_monai.metrics.detection import TileResult, box_cover, box_iou
from stride_monai.metrics.detection_curves import (
    Overlap,
    SlideResult,
    precision_at_top,
    ranks_of_truth,
    top_k_recall,
)

__all__ = [
    *("BY_IOU", "COVERED", "CellsEvaluation", "FoundCells", "ShownPrecision", "evaluate_cells", "mean_interval"),
    "read_found_cells",
]

Floats = NDArray[np.float64]
_LEAST = 0.5
COVERED, BY_IOU = "half of the smaller box", "IoU 0.5"
_RULES: Mapping[str, Overlap] = {COVERED: box_cover, BY_IOU: box_iou}
"""When a box lies on a cell. Marks and detections that draw boxes of different sizes agree by the first alone, so cells
are matched by it: many detectors draw the nucleus where the mark is the whole cell."""


class FoundCells(NamedTuple):
    """A slide whose cells are marked, and what was found on it.

    Attributes:
        slide_class: of the slide. findings: cells by rank. truth: the marked cells.
    """

    slide_id: str
    slide_class: str
    findings: Findings
    truth: Sequence[CellRecord]

    @property
    def boxes(self) -> Floats:
        """Of the cells that were found, best first: ``[d, 4]``, level-0 px."""
        return np.array([cell.box for cell in self.findings.cells], np.float64).reshape(-1, 4)

    @property
    def result(self) -> SlideResult:
        """Against the lesions."""
        scores = np.array([cell.score for cell in self.findings.cells], np.float64)
        return SlideResult(self.slide_id, self.slide_class, TileResult(self.boxes, scores, _boxes(self.lesions)))

    @property
    def lesions(self) -> list[CellRecord]:
        """The marked cells that are no NILM."""
        return [cell for cell in self.truth if cell.positive]


def _boxes(cells: Iterable[CellRecord]) -> Floats:
    return np.array([cell.box for cell in cells], np.float64).reshape(-1, 4)


class ShownPrecision(NamedTuple):
    """Of the cells that are shown first, the share that are right: the mean over slides, with Student's interval.

    Attributes:
        rule: when a box lies on a cell. right: ``a lesion``, or ``of the slide's class``. slides: how many.
    """

    slide_class: str
    rule: str
    right: str
    slides: int
    precision: Interval


class CellsEvaluation(NamedTuple):
    """What is said of the cells that were found.

    Attributes:
        curves: recall within the best of each k, and FROC, by IoU. covered: recall of the same k, by :data:`COVERED`.
        shown: precision of the cells that are shown first.
        matched: cells of known class that a box found. missed: those that none found, by class.
        classes: content of a ``cell_report.json`` of the matched cells; None without any.
        probabilities: ``[n, C]`` of the matched cells. truth: their classes ``[n]``.
        described: how descriptions were chosen; None where no matched cell has any, or none was described.
        notes: what must be known.
    """

    curves: SlideEvaluation
    covered: Mapping[str, Floats]
    shown: Sequence[ShownPrecision]
    matched: int
    missed: Mapping[str, int]
    classes: Mapping[str, Any] | None
    probabilities: Floats
    truth: NDArray[np.int64]
    described: Mapping[str, Any] | None
    notes: Sequence[str]

    def report(self) -> dict[str, Any]:
        """Plain JSON types; fields: docs/artifacts.md."""
        return {
            "curves": self.curves.report(),
            "covered_recall": {"k": self.curves.ks, **{name: plain_list(of) for name, of in self.covered.items()}},
            f"precision_at_{GALLERY_SIZE}": [
                {**{name: getattr(one, name) for name in ("slide_class", "rule", "right", "slides")}}
                | {"precision": one.precision.as_json()}
                for one in self.shown
            ],
            "matched": self.matched,
            "missed": dict(self.missed),
            "classes": self.classes,
            "descriptions": self.described,
            "notes": list(self.notes),
        }

    def figures(self) -> dict[str, Figure]:
        """Recall, FROC by IoU, and of the matched cells the figures of a cell classifier."""
        figures = self.curves._replace(recall=self.covered).figures()
        if self.classes is not None:
            figures |= {f"cell_{name}": figure for name, figure in cell_figures(self.probabilities, self.truth).items()}
        return figures


def read_found_cells(results: Path, cells: Sequence[CellRecord], slide_classes: Mapping[str, str]) -> list[FoundCells]:
    """Findings of the slides whose cells are marked, and of NILM slides, on which every box is a false one.

    Args:
        results: folder that ``screen`` wrote. cells: the marked cells. slide_classes: label by slide id.

    Raises:
        ManifestError: no such slide has findings. OutputError: findings are damaged.
    """
    of_slide: dict[str, list[CellRecord]] = {}
    for cell in cells:
        of_slide.setdefault(cell.slide_id, []).append(cell)
    negative = {slide_id for slide_id, label in slide_classes.items() if slide_class_of(label) == NEGATIVE}
    found = []
    for slide_id in sorted({*of_slide} | negative):
        path = results / slide_id / "findings.json"
        if slide_id in slide_classes and path.is_file():
            findings = Findings.from_json(path.read_text(encoding="utf-8"))
            of_class = slide_class_of(slide_classes[slide_id])
            found.append(FoundCells(slide_id, of_class, findings, of_slide.get(slide_id, [])))
    if not any(slide.truth for slide in found):
        raise ManifestError(
            f"no slide of {results} has marked cells and a label",
            "give the cell table and the truth table of the slides that were screened, with the same slide_id",
        )
    return found


def evaluate_cells(slides: Sequence[FoundCells], top_k: int | None = None) -> CellsEvaluation:
    """Judge what was found on some slides.

    Args:
        slides: with marked cells, or negative. top_k: the most cells that a slide keeps; by default the most that any
            has.
    """
    top_k = top_k or max((len(slide.findings.cells) for slide in slides), default=1) or 1
    curves = evaluate_slides([slide.result for slide in slides], top_k, _LEAST)
    covered = [ranks_of_truth(slide.boxes, _boxes(slide.lesions), _LEAST, box_cover) for slide in slides]
    probabilities, truth, predicted, kept, right, missed = _matched(slides)
    classes = cell_report(probabilities, truth) if len(truth) else None
    judged = JudgedCells(kept.astype(np.float64), right > 0, truth, predicted)
    known = (right >= 0).all(axis=1)
    return CellsEvaluation(
        curves=curves,
        covered=top_k_recall([slide.slide_class for slide in slides], covered, curves.ks),
        shown=[one for rule, overlap in _RULES.items() for one in _shown(slides, rule, overlap)],
        matched=len(truth),
        missed=missed,
        classes=classes,
        probabilities=probabilities,
        truth=truth,
        described=kept_report(judged.of(known), DESCRIPTION_VOCABULARY) if known.any() else None,
        notes=_notes(slides, known),
    )


def _matched(slides: Sequence[FoundCells]) -> tuple[Floats, Any, Any, Any, Any, dict[str, int]]:
    """Of the cells of known class that a box found: probabilities ``[n, C]``, class and predicted class ``[n]``, texts
    that were kept and that are right ``[n, N]`` (-1 where nothing is known); and how many of each class none found."""
    rules, rows = DescriptionRules("leave_out"), []
    missed = dict.fromkeys(CELL_CLASSES, 0)
    unknown = np.full(len(DESCRIPTION_VOCABULARY), -1)
    for slide in slides:
        cells = [cell for cell in slide.truth if cell.cell_class is not None]
        for cell, rank in zip(cells, ranks_of_truth(slide.boxes, _boxes(cells), _LEAST, box_cover), strict=True):
            name = str(cell.cell_class)
            if not np.isfinite(rank):
                missed[name] += 1
                continue
            found = slide.findings.cells[int(rank) - 1]
            said = [text in {one.text for one in found.descriptions} for text in DESCRIPTION_VOCABULARY]
            target = rules.target(name, cell.descriptions).row if slide.findings.described.made else None
            right = unknown if target is None else np.array(target)
            of_class = CELL_CLASSES.index(name), CELL_CLASSES.index(found.cell_class)
            rows.append((found.probabilities, *of_class, said, right))
    width = len(DESCRIPTION_VOCABULARY)
    if not rows:
        none = np.zeros(0, np.int64)
        empty = np.zeros((0, width), np.int64)
        return np.zeros((0, len(CELL_CLASSES))), none, none, empty > 0, empty, missed
    p, truth, predicted, kept, right_ = (np.array(column) for column in zip(*rows, strict=True))
    return p.astype(np.float64), truth, predicted, kept, right_, missed


def _shown(slides: Sequence[FoundCells], rule: str, overlap: Overlap) -> list[ShownPrecision]:
    """By class of the slide; NILM slides have no cell that could be right."""
    found = []
    for name in SLIDE_CLASSES:
        mine = [slide for slide in slides if slide.slide_class == name and slide.lesions and len(slide.boxes)]
        if name == NEGATIVE or not mine:
            continue
        for right in ("a lesion", "of the slide's class"):
            values = []
            for slide in mine:
                own = right == "a lesion"
                cells = [c for c in slide.lesions if own or c.cell_class == SLIDE_TO_CELL[name]]
                values.append(precision_at_top(slide.boxes, _boxes(cells), GALLERY_SIZE, _LEAST, overlap))
            found.append(ShownPrecision(name, rule, right, len(mine), mean_interval(values)))
    return found


def mean_interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    """Mean of the shares of slides with Student's interval, within 0 to 1; no bounds of one slide, or of equal ones."""
    mean, method = float(np.mean(values)), "Student's, over slides"
    if len(values) < 2 or not np.std(values) > 0:
        return Interval(mean, level=level, method=method)
    half = float(stats.t.ppf(0.5 + level / 2, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return Interval(mean, max(mean - half, 0.0), min(mean + half, 1.0), level, method)


def _notes(slides: Sequence[FoundCells], known: NDArray[np.bool_]) -> list[str]:
    notes = ["a lesion that nobody marked counts against precision"]
    unmarked = [slide for slide in slides if slide.slide_class != NEGATIVE and not slide.lesions]
    if unmarked:
        notes.append(
            f"{len(unmarked)} positive slides have no marked lesion and are not judged by what is shown of them"
        )
    if not any(slide.findings.described.made for slide in slides):
        notes.append("the cells were not described")
    elif not known.any():
        notes.append("no marked cell that was found has a description of the vocabulary")
    return notes
