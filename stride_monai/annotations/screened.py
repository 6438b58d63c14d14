"""The slides of a screening run, as annotations need them: where they are, and their findings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from stride_monai.annotations.errors import AnnotationError
from stride_monai.data.manifest import SlideRecord, read_manifest
from stride_monai.errors import OutputError
from stride_monai.findings import Findings, SlideStatus
from stride_monai.ownership import read_json
from stride_monai.run_index import RUN_NAME, Outcome

__all__ = ["findings_of_run", "slides_of", "slides_of_run"]

_DONE = {SlideStatus.OK, SlideStatus.UNSATISFACTORY}


def outcomes_of_run(results: Path) -> list[Outcome]:
    """How the slides of a finished run ended.

    Raises:
        AnnotationError: the folder has no ``run.json`` of a run.
    """
    try:
        return [Outcome.from_dict(raw) for raw in read_json(results / RUN_NAME)["slides"]]
    except (TypeError, KeyError, ValueError) as error:
        raise AnnotationError(
            f"{results} holds no results of `stride-monai screen`", f"name the folder with its {RUN_NAME}"
        ) from error


def findings_of_run(results: Path) -> Iterator[Findings]:
    """The findings of a run's slides, one after the other, in its order; slides that failed have none.

    Raises:
        AnnotationError: no run, or findings that are gone or broken; names the slide.
    """
    for outcome in outcomes_of_run(results):
        if outcome.status not in _DONE:
            continue
        path = results / outcome.slide_id / "findings.json"
        try:
            yield Findings.from_json(path.read_text(encoding="utf-8"))
        except (OSError, OutputError, UnicodeDecodeError) as error:
            raise AnnotationError(
                f"the findings of slide '{outcome.slide_id}' cannot be read ({error})", "screen it again"
            ) from error


def slides_of_run(results: Path) -> list[SlideRecord]:
    """The slides of a run that were screened: ids, paths and um/px."""
    done = [outcome for outcome in outcomes_of_run(results) if outcome.status in _DONE]
    return [SlideRecord(outcome.slide_id, Path(outcome.path), outcome.mpp) for outcome in done]


def slides_of(place: Path) -> list[SlideRecord]:
    """The slides of a run's folder, of a cohort's folder, or of a manifest.

    Raises:
        AnnotationError, ManifestError: it is none of them.
    """
    if place.is_dir() and not (place / RUN_NAME).exists() and (place / "manifest.csv").exists():
        return read_manifest(place / "manifest.csv")
    return slides_of_run(place) if place.is_dir() else read_manifest(place)
