"""A results folder of ``screen`` as evaluation reads it: how each slide ended, and what the findings say of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from stride_monai.bethesda import SLIDE_CLASSES
from stride_monai.data.bags.bag import chosen_by
from stride_monai.errors import ManifestError
from stride_monai.findings import SCHEMA_VERSION, Quality, SlideStatus
from stride_monai.operating_point import HoldsFor, OperatingPointFile
from stride_monai.ownership import read_json
from stride_monai.run_index import RUN_NAME, Outcome

__all__ = ["FINDINGS_NAME", "Results", "ScreenedSlide", "common_ground", "read_results", "refuse_other_point"]

FINDINGS_NAME = "findings.json"
_JUDGED = (SlideStatus.OK, SlideStatus.UNSATISFACTORY)
_A_FOLDER = "name the folder that 'stride-monai screen' wrote (--out)"
_FACTS = ("config_hash", "weights", "weights_note", "package_version")


@dataclass(frozen=True, slots=True)
class ScreenedSlide:
    """One slide of a results folder.

    Attributes:
        status, reason, score, slide_class, call: as of :class:`~stride_monai.findings.Findings`.
        probabilities: of :data:`~stride_monai.bethesda.SLIDE_CLASSES`; None where there was nothing to decide from.
        point: of the operating point, ``(threshold, bag size, source)``; None where the slide was not judged.
        mpp: um/px at level 0. quality: as of the findings. held_for: what a threshold on the score holds for. None or
            empty, all three, where the slide was not judged.
        screened_at: ISO 8601, UTC; empty where the index does not say.
    """

    slide_id: str
    status: str
    reason: str = ""
    score: float | None = None
    slide_class: str | None = None
    call: str | None = None
    probabilities: tuple[float, ...] | None = None
    point: tuple[float, int, str] | None = None
    mpp: float | None = None
    quality: Quality = field(default_factory=Quality)
    held_for: HoldsFor = field(default_factory=HoldsFor)
    screened_at: str = ""


@dataclass(frozen=True, slots=True)
class Results:
    """What a results folder holds.

    Attributes:
        source: facts of the run, for the record. notes: what the reader must know of it.
    """

    slides: list[ScreenedSlide]
    source: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    notes: tuple[str, ...] = ()


def common_ground(slides: Iterable[ScreenedSlide]) -> HoldsFor:
    """What a threshold on the scores of these slides holds for, their um/px included.

    Raises:
        ManifestError: they were screened in different ways, whose scores cannot be compared.
    """
    judged = [slide for slide in slides if slide.mpp is not None]
    if not judged:
        return HoldsFor()
    first = judged[0]
    for slide in judged:
        if others := slide.held_for.differences(first.held_for):
            raise ManifestError(
                f"slides {slide.slide_id} and {first.slide_id} were screened in different ways: {'; '.join(others)}",
                "screen them all with the same weights and settings",
            )
    mpps = [slide.mpp for slide in judged if slide.mpp is not None]
    return replace(first.held_for, slide_mpp=(min(mpps), max(mpps)))


def refuse_other_point(point: OperatingPointFile, slides: Iterable[ScreenedSlide]) -> None:
    """Refuse to judge slides by an operating point that does not hold for them, as far as it is known.

    Raises:
        ManifestError: they were screened with other weights or settings than it was chosen with.
    """
    if others := point.holds_for.differences(common_ground(slides)):
        raise ManifestError(
            f"the operating point does not hold for these slides: {'; '.join(others)}",
            "screen them with the weights and settings that it was chosen with",
        )


def read_results(folder: Path) -> Results:
    """Read a results folder: slides as its index lists them, and findings of those that were screened.

    Without an index (folders that were copied together), every folder with findings is a slide.

    Raises:
        ManifestError: it holds no results, or findings that are damaged or of another slide.
    """
    if not folder.is_dir():
        why = "is a file, not a results folder" if folder.exists() else "does not exist"
        raise ManifestError(f"{folder.absolute()} {why}", _A_FOLDER)
    outcomes = _outcomes(folder)
    notes: list[str] = []
    if outcomes is None:
        places = sorted(path.parent for path in folder.glob(f"*/{FINDINGS_NAME}"))
        if not places:
            raise ManifestError(f"{folder.absolute()} holds no results of screen", _A_FOLDER)
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
        return ScreenedSlide(outcome.slide_id, outcome.status.value, outcome.reason, screened_at=outcome.screened_at)
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
            mpp=float(raw["slide"]["mpp"]),
            quality=Quality.from_dict(raw["quality"]),
            held_for=_held_for(raw["provenance"]),
            screened_at=outcome.screened_at,
        )
    except OSError as error:
        what = f"{path} cannot be read ({error.strerror})"
        raise ManifestError(what, "screen the slide again, or give the table summary.csv instead") from error
    except (KeyError, TypeError, ValueError) as error:
        raise ManifestError(f"{path} is no findings file ({error})", "screen the slide again") from error


def _held_for(provenance: Mapping[str, Any]) -> HoldsFor:
    """What a threshold on the score holds for; older findings say less of it."""
    used, weights = provenance["used"], provenance["weights"]
    classifier, reranker = used.get("classifier") or "", weights.get("cell_cls", "") if used.get("rerank") else ""
    candidates, rule = used.get("candidates") or 0, used.get("rerank_rule") or ""
    deciding = {classifier, "detection", *(["cell_cls"] if reranker else [])}
    return HoldsFor(
        classifier=classifier,
        weights={name: sha256 for name, sha256 in weights.items() if name in deciding},
        cells_chosen_by=chosen_by(weights.get("detection", ""), reranker, candidates, rule),
        bag_size=used.get("bag_size"),
        tile_mpp=used.get("tile_mpp"),
        crop_mpp=used.get("crop_mpp"),
        precision=used.get("precision") or "float32",
        int8=used.get("int8_networks") or {},
    )


def _source(provenances: list[Mapping[str, Any]], notes: list[str]) -> dict[str, Any]:
    """Facts that all slides have in common; what differs is said."""
    found: dict[str, Any] = {"slides": len(provenances)}
    for name in _FACTS:
        values = {json.dumps(one[name], sort_keys=True): one[name] for one in provenances}
        found[name] = next(iter(values.values())) if len(values) == 1 else list(values.values())[:5]
        if len(values) > 1 and name == "weights":
            notes.append(f"slides were screened with {len(values)} different sets of weights")
    return found
