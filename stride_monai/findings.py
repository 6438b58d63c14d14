"""Findings: all that is known of one screened slide.

Screening makes a :class:`Findings`; reports, evaluation and applications read it and share nothing else. It is frozen,
versioned, holds no pixels and no timings, so that the same slide, weights and configuration give the same bytes.
What writers need beside it travels with it in :class:`Screened`.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from stride_monai.bethesda import CELL_CLASSES, DESCRIPTIONS_BY_CLASS, SLIDE_CLASSES
from stride_monai.errors import OutputError
from stride_monai.units import Box

__all__ = [
    "DISCLAIMER",
    "GALLERY_SIZE",
    "SCHEMA_VERSION",
    "Cell",
    "Described",
    "Description",
    "Findings",
    "LevelFacts",
    "OperatingPoint",
    "Pictures",
    "Provenance",
    "Quality",
    "Screened",
    "SlideFacts",
    "SlideSource",
    "SlideStatus",
]

SCHEMA_VERSION = "1.6"
GALLERY_SIZE = 32
"""Cells that are shown to a person, by rank (METHOD section 1)."""
DISCLAIMER = "Research use only. Not a medical device; not for diagnosis."


class SlideStatus(StrEnum):
    """How a slide ended."""

    OK = "ok"
    UNSATISFACTORY = "unsatisfactory"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class LevelFacts:
    """One pyramid level: size in its own pixels and downsample relative to level 0."""

    width: int
    height: int
    downsample: float


@dataclass(frozen=True, slots=True)
class SlideFacts:
    """What the file is. Only allow-listed facts: no label image, no vendor free text, no full path.

    What is not known is None: where the cells came from a bag file, all but its first two and the fingerprint.

    Attributes:
        slide_id: file stem; names the output folder.
        mpp: um/px at level 0 that was used.
        mpp_source: ``given`` (by the user), ``metadata`` or ``objective``; ``bag``: as the bag file says.
        mpp_in_file: um/px that the file itself states, None where it states none that is usable.
        bounds_offset: level-0 px (x, y) of the content's corner in the scanner's own coordinates; all coordinates here
            are relative to it.
        fingerprint: SHA-256 of the file's size and of its first and last MiB; tells whether it is still the same file.
        reason: why facts are None: there was no slide file; empty where there was one.
    """

    slide_id: str
    file_name: str | None
    width: int | None
    height: int | None
    mpp: float
    mpp_source: str
    mpp_in_file: float | None
    objective: float | None
    reader: str | None
    format: str | None
    levels: tuple[LevelFacts, ...]
    bounds_offset: tuple[int, int] | None = (0, 0)
    fingerprint: str | None = ""
    reason: str = ""

    @property
    def name(self) -> str:
        """Of the file, or where there was none of the slide; for messages."""
        return self.file_name or self.slide_id


@dataclass(frozen=True, slots=True)
class Quality:
    """What can be said of the slide's quality; None where it is not known, and ``notes`` say why.

    Attributes:
        foreground_mm2: area of the deposit that was read.
        estimated_cells: squamous cells, by the nuclei counted in the tiles that were read.
        focus: median sharpness of the tiles read (variance of the Laplacian of luminance, 0-255 scale).
        pen_fraction: share of the slide's area that is pen and was not read.
        tiles_read: tiles given to the detector.
        unreadable_regions: tiles or crops that the reader could not decode; never painted over.
        adequate: whether ``estimated_cells`` reaches the adequacy floor; None where it is not assessed (a single field
            image).
        notes: sentences for the reader of the report.
        stain: median optical density of the stained pixels of the tiles read in red, green and blue, above white.
        cells_interval: least and most cells that ``estimated_cells`` may stand for, 95 %
            (:meth:`stride_monai.inferers.QualityRules.interval`).
        areas_mm2: area by kind of ground (:class:`~stride_monai.ground.Ground`, names in lower case); together the
            slide. None also for a part of a slide.
    """

    foreground_mm2: float | None = None
    estimated_cells: int | None = None
    focus: float | None = None
    pen_fraction: float | None = None
    tiles_read: int | None = None
    unreadable_regions: int | None = None
    adequate: bool | None = None
    notes: tuple[str, ...] = ()
    stain: tuple[float, float, float] | None = None
    cells_interval: tuple[int, int] | None = None
    areas_mm2: Mapping[str, float] | None = None

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Quality:
        """From plain JSON types.

        Raises:
            TypeError, KeyError: it is none.
        """
        several = {name: raw.get(name) for name in ("stain", "cells_interval")}
        tuples = {name: None if value is None else tuple(value) for name, value in several.items()}
        return cls(**{**raw, "notes": tuple(raw["notes"]), **tuples})


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """The threshold on the slide score and where it comes from; stored with the slide head's weights.

    Attributes:
        threshold: a slide is called positive when its score is at or above it.
        bag_size: K, the number of cells per bag that the threshold holds for.
        source: in words, e.g. ``specificity at sensitivity 0.95, 40 synthetic validation slides``.
        holds: whether it may be applied to these cells: it was set on cells that were chosen in the same way, or it is
            not known that it was not, or the user forced its use (``force``). Where not, no call is made. ``source``
            says why not, and where it was forced.
    """

    threshold: float
    bag_size: int
    source: str
    holds: bool = True

    @property
    def applies(self) -> bool:
        """Whether there is a threshold, and it holds."""
        return self.holds and math.isfinite(self.threshold)

    def call(self, score: float | None, satisfactory: bool = True) -> str | None:
        """``positive`` or ``negative``; None where there is no score, no finite threshold, or it does not hold.

        The one place where a slide is decided. An unsatisfactory slide is never called negative: what cannot be judged
        says nothing about the patient. Positive it may be called, as abnormal cells make a specimen satisfactory
        whatever else it lacks (Bethesda).
        """
        if score is None or not math.isfinite(score) or not self.applies:
            return None
        if score < self.threshold and not satisfactory:
            return None
        return "positive" if score >= self.threshold else "negative"


@dataclass(frozen=True, slots=True)
class Description:
    """A diagnostic description that applies to a cell.

    Attributes:
        text: of :data:`~stride_monai.bethesda.DESCRIPTION_VOCABULARY`.
        similarity: cosine of the cell's and the text's embeddings, -1..1; above the threshold of :class:`Described`.
        fits_class: whether the text belongs to the class that the cell was called. Where not, the description
            contradicts the class, and every output says so.
    """

    text: str
    similarity: float
    fits_class: bool

    @classmethod
    def of(cls, cell_class: str, text: str, similarity: float) -> Description:
        """A description of a cell that was called ``cell_class``, held against that class."""
        return cls(text, similarity, text in DESCRIPTIONS_BY_CLASS[cell_class])


@dataclass(frozen=True, slots=True)
class Described:
    """Whether the cells of a slide were described.

    Attributes:
        made: a cell without descriptions has none that applies; False: nothing was looked for.
        why: in words, e.g. ``the bundle text_align has no weights model.pt``.
        threshold: on the cosine; texts above it are kept. None where no descriptions were made.
    """

    made: bool = False
    why: str = "the version that screened knew no descriptions"
    threshold: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, as in the findings file."""
        plain: dict[str, Any] = _rounded(dataclasses.asdict(self))
        return plain


@dataclass(frozen=True, slots=True)
class Cell:
    """One suspicious cell.

    Attributes:
        rank: 1 for the most suspicious.
        score: detector probability, 0-1.
        box: level-0 px.
        cell_class: the most probable of :data:`~stride_monai.bethesda.CELL_CLASSES`.
        probabilities: one per cell class, in that order.
        attention: share of the slide head's attention; sums to 1 over the bag; 0 for cells outside the bag.
        descriptions: diagnostic descriptions that apply, the most similar first; see :class:`Described`.
        cam: class activation, how much the cell speaks for the slide class called; 0-1, 1 for the cell that does most;
            0 for cells outside the bag.
        rerank_score: detector score times lesion probability by the cell classifier that re-ranked; None without.
    """

    rank: int
    score: float
    box: Box
    cell_class: str
    probabilities: tuple[float, ...]
    attention: float
    descriptions: tuple[Description, ...] = ()
    cam: float = 0.0
    rerank_score: float | None = None


@dataclass(frozen=True, slots=True)
class Provenance:
    """What was asked for and what was used.

    Attributes:
        weights: part -> SHA-256 of its weights file.
        requested: options as the user gave them, None where not given.
        used: the values in effect, and the settings of the bundles.
        weights_note: where the weights come from, e.g. that they were trained on synthetic slides.
    """

    package_version: str
    config_hash: str
    weights: Mapping[str, str]
    requested: Mapping[str, Any]
    used: Mapping[str, Any]
    weights_note: str = ""


@dataclass(frozen=True, slots=True)
class Findings:
    """All that is known of one screened slide (status ``ok`` or ``unsatisfactory``).

    Attributes:
        reason: why the slide is unsatisfactory; empty when ``ok``.
        slide_probabilities: one per slide class in the order of :data:`~stride_monai.bethesda.SLIDE_CLASSES`; None when
            no cell was found, where there is nothing to decide from.
        slide_class: the most probable slide class, or None likewise.
        score: summed probability of the positive classes, None likewise.
        call: ``positive`` or ``negative`` at the operating point (:meth:`OperatingPoint.call`), or None.
        cells: by rank.
        described: whether the cells were described, and why not where they were not.
    """

    status: SlideStatus
    reason: str
    slide: SlideFacts
    quality: Quality
    slide_probabilities: tuple[float, ...] | None
    slide_class: str | None
    score: float | None
    call: str | None
    operating_point: OperatingPoint
    cells: tuple[Cell, ...]
    provenance: Provenance
    described: Described = Described()
    schema_version: str = SCHEMA_VERSION
    disclaimer: str = DISCLAIMER

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; class probabilities become ``{class: probability}``."""
        raw = dataclasses.asdict(self)
        for cell in raw["cells"]:
            cell["probabilities"] = dict(zip(CELL_CLASSES, cell["probabilities"], strict=True))
        if self.slide_probabilities is not None:
            raw["slide_probabilities"] = dict(zip(SLIDE_CLASSES, self.slide_probabilities, strict=True))
        return raw

    def to_json(self) -> str:
        """Canonical JSON text: sorted keys, floats to six decimals; the same findings give the same bytes."""
        return json.dumps(_rounded(self.to_dict()), sort_keys=True, indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Findings:
        """Inverse of :meth:`to_json`, up to its rounding.

        Raises:
            OutputError: the text is no findings file of this schema version.
        """
        try:
            raw = json.loads(text)
            if raw["schema_version"].split(".")[0] != SCHEMA_VERSION.split(".")[0]:
                raise OutputError(
                    f"findings of schema {raw['schema_version']} cannot be read by this version",
                    "screen the slide again",
                )
            findings = cls(**{**raw, **_parts(raw)})
            _check_types(findings)
            return findings
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise OutputError(f"not a findings file ({error})", "screen the slide again") from error


def _check_types(findings: Findings) -> None:
    """Raises:
    TypeError: a fact that others calculate with, or show, is of another kind than it should be.
    """
    slide, quality = findings.slide, findings.quality
    texts = (findings.reason, findings.disclaimer, slide.slide_id, slide.mpp_source, slide.reason)
    known = all(isinstance(text, str) for text in (*texts, findings.provenance.config_hash))
    known &= all(text is None or isinstance(text, str) for text in (slide.file_name, slide.fingerprint))
    known &= all(_is_number(number) for number in (slide.mpp, *(cell.score for cell in findings.cells)))
    may_lack = (quality.foreground_mm2, quality.focus, quality.estimated_cells, quality.unreadable_regions)
    known &= all(number is None or _is_number(number) for number in (*may_lack, findings.score))
    known &= findings.slide_class in {None, *SLIDE_CLASSES} and findings.call in {None, "positive", "negative"}
    known &= all(cell.cell_class in CELL_CLASSES for cell in findings.cells)
    if not known:
        raise TypeError("a value is of another kind than it should be")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value


def _parts(raw: Mapping[str, Any]) -> dict[str, Any]:
    slide, quality, probabilities = raw["slide"], raw["quality"], raw["slide_probabilities"]
    return {
        "status": SlideStatus(raw["status"]),
        "slide": SlideFacts(
            **{
                **slide,
                "levels": tuple(LevelFacts(**level) for level in slide["levels"]),
                "bounds_offset": None if slide["bounds_offset"] is None else tuple(slide["bounds_offset"]),
            }
        ),
        "quality": Quality.from_dict(quality),
        "slide_probabilities": None if probabilities is None else tuple(probabilities[c] for c in SLIDE_CLASSES),
        "operating_point": OperatingPoint(**raw["operating_point"]),
        "cells": tuple(
            Cell(
                **{
                    **cell,
                    "box": Box(*cell["box"]),
                    "probabilities": tuple(cell["probabilities"][c] for c in CELL_CLASSES),
                    "descriptions": tuple(Description(**text) for text in cell["descriptions"]),
                }
            )
            for cell in raw["cells"]
        ),
        "provenance": Provenance(**raw["provenance"]),
        "described": Described(**raw.get("described", {})),
    }


@dataclass(frozen=True, slots=True)
class Pictures:
    """Pictures of one slide for its report; never part of the findings.

    Attributes:
        overview: JPEG of the whole slide (longest side at most 1,600 px); empty if there is none.
        ground: PNG of the same extent, colored by what was read and what not (:class:`~stride_monai.ground.Ground`),
            transparent; empty where that is not known.
        overview_downsample: level-0 px per overview px.
        crops: JPEG of each shown cell by its rank, fixed field of view.
        crop_mpp: um/px of the crops.
    """

    overview: bytes
    overview_downsample: float
    crop_mpp: float
    crops: Mapping[int, bytes] = field(default_factory=dict)
    ground: bytes = b""


@dataclass(frozen=True, slots=True)
class SlideSource:
    """Where a slide came from: for writers whose result must point back to it, and for nobody else.

    It may tell who the patient is. It is kept in memory, never in the findings, and a writer puts into its file what
    that format needs and no more.

    Attributes:
        path: the slide's file; None where the cells came from a bag.
        identity: what the file calls itself, by DICOM keyword (``StudyInstanceUID``, ``SeriesInstanceUID``).
    """

    path: Path | None = None
    identity: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Screened:
    """A slide as writers are given it.

    Attributes:
        seconds: by stage; kept out of the findings.
    """

    findings: Findings
    pictures: Pictures
    seconds: Mapping[str, float] = field(default_factory=dict)
    source: SlideSource = SlideSource()
