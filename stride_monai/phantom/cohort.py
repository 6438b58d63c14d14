"""Cohorts: many synthetic slides with manifest, cell table and truth, in parallel and resumable."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from stride_monai import __version__
from stride_monai.artifacts import config_hash
from stride_monai.bethesda import NEGATIVE, parse_label, slide_class_of
from stride_monai.data.cells import CellRecord, write_cells
from stride_monai.data.manifest import SlideRecord, write_manifest
from stride_monai.data.splits import split_by_patient
from stride_monai.errors import ConfigError, ManifestError, OutputError
from stride_monai.phantom.centres import SITES, centre_named
from stride_monai.phantom.render import default_density, plan_slide, render_slide
from stride_monai.phantom.truth import write_truth_geojson

__all__ = ["POSITIVE_MIX", "render_cohort", "truth_cells"]

POSITIVE_MIX: Mapping[str, float] = MappingProxyType(
    {"ASC-US": 0.27, "LSIL": 0.22, "HSIL": 0.21, "ASC-H": 0.17, "AGC": 0.13}
)
"""Shares of the positive classes among positive slides: the paper's order, evened out so that none is too rare."""


@dataclass(frozen=True, slots=True)
class _Job:
    """One slide to render."""

    slide_id: str
    folder: Path
    label: str
    arguments: Mapping[str, Any]

    @property
    def slide(self) -> Path:
        return self.folder / "slides" / f"{self.slide_id}.tiff"

    @property
    def truth(self) -> Path:
        return self.folder / "truth" / f"{self.slide_id}.geojson"

    @property
    def fingerprint(self) -> str:
        """What a slide is made from; an equal one need not be rendered again."""
        return config_hash({"label": self.label, "version": __version__, **self.arguments})


def render_cohort(
    folder: Path | str,
    *,
    classes: Sequence[str] | int,
    prevalence: float = 0.21,
    diameter_mm: float = 13.0,
    density_per_mm2: float | None = None,
    mpp: float = 0.25,
    centres: Sequence[str] | None = None,
    seed: int = 0,
    workers: int = 1,
    test_fraction: float = 0.2,
    validation_fraction: float = 0.2,
    held_out_centres: Sequence[str] = (),
    max_negatives: int = 200,
    artefacts: Sequence[str] = (),
    overwrite: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Render a cohort folder: ``manifest.csv``, ``cells.csv``, ``slides/*.tiff`` and ``truth/*.geojson``.

    The same arguments give the same files, whatever the number of workers. A slide that stands there complete, made
    from the same arguments, is kept, so that an interrupted call goes on where it stopped.

    Args:
        classes: the Bethesda label of each slide, or a number of slides of mixed classes.
        prevalence: share of positive slides when ``classes`` is a number, 0-1.
        density_per_mm2: epithelial cells per mm2; by default that of a deposit of this diameter.
        centres: names of :data:`stride_monai.phantom.centres.CENTRES`, taken in turn; all ``SITES`` by default.
        workers: processes.
        test_fraction, validation_fraction, held_out_centres: of the split by patient (each slide is a patient).
        max_negatives: at most so many NILM cells of each slide enter ``cells.csv``; up to two thirds are look-alikes.
        artefacts: as in :func:`stride_monai.phantom.render.render_slide`.
        overwrite: render every slide again.
        on_progress: called with (slides done, slides in all).

    Returns:
        Path of the manifest.

    Raises:
        ConfigError: an argument makes no cohort.
        OutputError: a slide made from other arguments stands there and ``overwrite`` is False.
    """
    folder = Path(folder)
    chosen = SITES if centres is None else tuple(centre_named(name).name for name in centres)
    labels = _labels(classes, prevalence, seed)
    if workers < 1 or max_negatives < 0 or not chosen:
        raise ConfigError("a cohort needs a worker, a centre and no negative limit", "check workers and centres")
    density = default_density(diameter_mm) if density_per_mm2 is None else density_per_mm2
    shared = {"diameter_mm": diameter_mm, "density_per_mm2": density, "mpp": mpp, "artefacts": list(artefacts)}
    seeds = np.random.SeedSequence(seed).generate_state(len(labels))
    jobs = [
        _Job(
            f"phantom-{i + 1:04d}",
            folder,
            label,
            {**shared, "seed": int(seeds[i]), "centre": chosen[i % len(chosen)]},
        )
        for i, label in enumerate(labels)
    ]
    records = split_by_patient(
        [
            SlideRecord(
                job.slide_id,
                job.slide,
                None,
                f"patient-{job.slide_id[8:]}",
                job.arguments["centre"],
                slide_class_of(job.label),
            )
            for job in jobs
        ],
        test_fraction,
        validation_fraction,
        seed,
        held_out_centres,
    )
    _check(jobs[0], diameter_mm)
    _render_all(jobs, workers, overwrite, on_progress)
    write_cells(
        folder / "cells.csv", (cell for job in jobs for cell in _limited(truth_cells(job.truth), max_negatives))
    )
    # The manifest comes last: where it stands, the cohort is complete.
    write_manifest(folder / "manifest.csv", records)
    return folder / "manifest.csv"


def _labels(classes: Sequence[str] | int, prevalence: float, seed: int) -> list[str]:
    if not isinstance(classes, int):
        labels = [parse_label(name) for name in classes]
        if not labels:
            raise ConfigError("a cohort of no slides", "name at least one slide class")
        return labels
    if classes < 1:
        raise ConfigError(f"a cohort of {classes} slides", "give 1 or more")
    if not 0 <= prevalence <= 1:
        raise ConfigError(f"a prevalence of {prevalence:g} is impossible", "give a share between 0 and 1")
    positives = round(classes * prevalence)
    # Evenly spaced quantiles of the mix: every class in proportion, to within one slide.
    edges = np.cumsum(list(POSITIVE_MIX.values()))
    places = np.searchsorted(edges / edges[-1], (np.arange(positives) + 0.5) / max(positives, 1))
    labels = [list(POSITIVE_MIX)[place] for place in places] + [NEGATIVE] * (classes - positives)
    order = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(77,))).permutation(classes)
    return [labels[i] for i in order]


def _check(job: _Job, diameter_mm: float) -> None:
    """Refuse impossible arguments before a process is started, on a plan of a small deposit."""
    arguments = dict(job.arguments)
    if diameter_mm > 0.5:
        arguments["diameter_mm"] = 0.5 if diameter_mm <= 40 else diameter_mm
    plan_slide(job.label, **arguments)


def _render_all(
    jobs: Sequence[_Job], workers: int, overwrite: bool, on_progress: Callable[[int, int], None] | None
) -> None:
    pending = [job for job in jobs if not _complete(job, overwrite)]
    done = len(jobs) - len(pending)
    if on_progress is not None:
        on_progress(done, len(jobs))
    for _ in _rendered(pending, min(workers, len(pending))):
        done += 1
        if on_progress is not None:
            on_progress(done, len(jobs))


def _rendered(jobs: Sequence[_Job], workers: int) -> Iterator[None]:
    if workers <= 1:
        for job in jobs:
            _render(job)
            yield
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(_render, job) for job in jobs]
        try:
            for future in as_completed(futures):
                future.result()
                yield
        finally:
            pool.shutdown(cancel_futures=True)


def _render(job: _Job) -> None:
    truth = render_slide(job.slide, job.label, overwrite=True, **job.arguments)
    # Truth last: it carries the fingerprint that says the slide is complete.
    truth = replace(truth, parameters={**truth.parameters, "fingerprint": job.fingerprint})
    write_truth_geojson(job.truth, truth)


def _complete(job: _Job, overwrite: bool) -> bool:
    if overwrite:
        job.truth.unlink(missing_ok=True)
        return False
    if not job.slide.exists() or not job.truth.exists():
        return False
    if _document(job.truth)["slide"]["parameters"].get("fingerprint") == job.fingerprint:
        return True
    raise OutputError(
        f"{job.slide.name} was rendered from other arguments", "choose another folder or ask to overwrite it"
    )


def _document(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text())
    except ValueError:
        document = None
    if isinstance(document, dict) and "features" in document and "parameters" in document.get("slide", {}):
        return document
    raise ManifestError(f"{path.name} is no truth file of a synthetic slide", "render the slide again")


def truth_cells(path: Path | str) -> list[CellRecord]:
    """The cells of a truth GeoJSON as cell records; hard negatives come before the other NILM cells.

    Raises:
        ManifestError: the file is no truth file.
    """
    document = _document(Path(path))
    cells = [_record(document["slide"]["slide_id"], feature) for feature in document["features"]]
    hard = {feature["id"] for feature in document["features"] if feature["properties"]["hard_negative"]}
    return sorted(cells, key=lambda cell: (not cell.positive, cell.cell_id not in hard))


def _record(slide_id: str, feature: Mapping[str, Any]) -> CellRecord:
    facts = feature["properties"]
    x0, y0, x1, y1 = facts["box"]
    return CellRecord(slide_id, feature["id"], x0, y0, x1, y1, facts["label"], tuple(facts["descriptions"]))


def _limited(cells: Sequence[CellRecord], max_negatives: int) -> list[CellRecord]:
    """All positive cells and an even choice of the others: look-alikes fill up to two thirds of the room."""
    positives = [cell for cell in cells if cell.positive]
    hard = [cell for cell in cells if not cell.positive and cell.cell_id.startswith("u")]
    plain = [cell for cell in cells if not cell.positive and not cell.cell_id.startswith("u")]
    hard = _spread(hard, max(max_negatives * 2 // 3, max_negatives - len(plain)))
    return positives + hard + _spread(plain, max_negatives - len(hard))


def _spread(cells: Sequence[CellRecord], most: int) -> list[CellRecord]:
    """At most so many, evenly spaced, so that every kind is there."""
    if len(cells) <= most:
        return list(cells)
    return [cells[i * len(cells) // most] for i in range(most)]
