"""A results folder of ``screen`` as evaluation reads it: how each slide ended, and what the findings say of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from stride_monai.bethesda import SLIDE_CLASSES
from stride_monai.errors import ManifestError
from stride_monai.findings import SCHEMA_VERSION, SlideStatus
from stride_monai.ownership import read_json
from stride_monai.run_index import RUN_NAME, Outcome

__all__ = ["FINDINGS_NAME", "Results", "ScreenedSlide", "read_results"]

FINDINGS_NAME = "findings.json"
_JUDGED = (SlideStatus.OK, SlideStatus.UNSATISFACTORY)
_FACTS = ("config_hash", "weights", "weights_note", "package_version")


@dataclass(frozen=True, slots=True)
class ScreenedSlide:
    """One slide of a results folder.

    Attributes:
        status, reason, score, slide_class, call: as of :class:`~stride_monai.findings.Findings`.
        probabilities: of :data:`~stride_monai.bethesda.SLIDE_CLASSES`; None where there was nothing to decide from.
        point: of the operating point, ``(threshold, bag size, source)``; None where the slide was not judged.
    """

    slide_id: str
    status: str
    reason: str = ""
    score: float | None = None
    slide_class: str | None = None
    call: str | None = None
    probabilities: tuple[float, ...] | None = None
    point: tuple[float, int, str] | None = None


@dataclass(frozen=True, slots=True)
class Results:
    """What a results folder holds.

    Attributes:
        source: facts of the run, for the record. notes: what the reader must know of it.
    """

    slides: list[ScreenedSlide]
    source: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    notes: tuple[str, ...] = ()


def read_results(folder: Path) -> Results:
    """Read a results folder: slides as its index lists them, and findings of those that were screened.

    Without an index (folders that were copied together), every folder with findings is a slide.

    Raises:
        ManifestError: it holds no results, or findings that are damaged or of another slide.
    """
    outcomes = _outcomes(folder)
    notes: list[str] = []
    if outcomes is None:
        places = sorted(path.parent for path in folder.glob(f"*/{FINDINGS_NAME}"))
        if not places:
            advice = "name the folder that 'stride-monai screen' wrote (--out), or a table"
            raise ManifestError(f"{folder.absolute()} holds no results of screen", advice)
        notes.append(f"the folder has no {RUN_NAME}: slides that failed are not known, and are not counted")
        outcomes = [Outcome(place.name, "", SlideStatus.OK) for place in places]
    provenances: list[Mapping[str, Any]] = []
    slides = [_slide(folder, outcome, provenances) for outcome in outcomes]
    return Results(slides, _source(provenances, notes), tuple(notes))


def _outcomes(folder: Path) -> list[Outcome] | None:
    raw = read_json(folder / RUN_NAME)
    if raw is None:
        return None
    try:
        return [Outcome.from_dict(one) for one in raw["slides"]]
    except (TypeError, KeyError, ValueError) as error:
        what = f"{folder / RUN_NAME} is no index of a run ({error})"
        raise ManifestError(what, "screen again, or give the folder without it") from error


def _slide(folder: Path, outcome: Outcome, provenances: list[Mapping[str, Any]]) -> ScreenedSlide:
    if outcome.status not in _JUDGED:
        return ScreenedSlide(outcome.slide_id, outcome.status.value, outcome.reason)
    path = folder / outcome.slide_id / FINDINGS_NAME
    try:
        raw = json.loads(path.read_bytes())
        if raw["schema_version"].split(".")[0] != SCHEMA_VERSION.split(".")[0]:
            raise ValueError(f"schema {raw['schema_version']}")
        if raw["slide"]["slide_id"] != outcome.slide_id:
            raise ValueError(f"of slide {raw['slide']['slide_id']}")
        by_class, point = raw["slide_probabilities"], raw["operating_point"]
        provenances.append({name: raw["provenance"][name] for name in _FACTS})
        return ScreenedSlide(
            slide_id=outcome.slide_id,
            status=SlideStatus(raw["status"]).value,
            reason=raw["reason"],
            score=raw["score"],
            slide_class=raw["slide_class"],
            call=raw["call"],
            probabilities=None if by_class is None else tuple(float(by_class[name]) for name in SLIDE_CLASSES),
            point=(float(point["threshold"]), int(point["bag_size"]), str(point["source"])),
        )
    except OSError as error:
        what = f"{path} cannot be read ({error.strerror})"
        raise ManifestError(what, "screen the slide again, or give the table summary.csv instead") from error
    except (KeyError, TypeError, ValueError) as error:
        raise ManifestError(f"{path} is no findings file ({error})", "screen the slide again") from error


def _source(provenances: list[Mapping[str, Any]], notes: list[str]) -> dict[str, Any]:
    """Facts that all slides have in common; what differs is said."""
    found: dict[str, Any] = {"slides": len(provenances)}
    for name in _FACTS:
        values = {json.dumps(one[name], sort_keys=True): one[name] for one in provenances}
        found[name] = next(iter(values.values())) if len(values) == 1 else list(values.values())[:5]
        if len(values) > 1 and name == "weights":
            notes.append(f"slides were screened with {len(values)} different sets of weights")
    return found
