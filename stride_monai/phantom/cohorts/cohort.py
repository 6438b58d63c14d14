"""Cohort folders: synthetic slides, or bags of slides that are never drawn, with manifest and truth."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from stride_monai import __version__
from stride_monai.bethesda import NEGATIVE
from stride_monai.data.bags.bag import BagFile
from stride_monai.data.bags.folder import BAG_SUFFIX
from stride_monai.data.cells import CellRecord, write_cells
from stride_monai.data.cohort_files import CohortFiles
from stride_monai.data.manifest import SlideRecord, write_manifest
from stride_monai.data.tables import table_text
from stride_monai.errors import BagError, ConfigError, ManifestError, OutputError
from stride_monai.files import config_hash, write_bytes
from stride_monai.phantom.cohorts.bags import BagSettings, write_phantom_bag
from stride_monai.phantom.cohorts.design import Case, CohortDesign
from stride_monai.phantom.cohorts.production import produce
from stride_monai.phantom.render import plan_slide, render_slide
from stride_monai.phantom.scenes.truth import write_truth_geojson
from stride_monai.runs.jobs import Part, unheard
from stride_monai.runs.runners import Processes

__all__ = [
    "DRAWING",
    "TRUTH_COLUMNS",
    "make_bags",
    "make_slides",
    "truth_cells",
]

TRUTH_COLUMNS: Mapping[str, Callable[[Case], str]] = {
    "slide_id": lambda case: case.slide_id,
    "patient": lambda case: case.patient,
    "centre": lambda case: case.centre,
    "split": lambda case: case.split,
    "label": lambda case: case.label,
    "true_class": lambda case: case.slide_class,
    "reported_class": lambda case: case.reported,
    "inadequacy": lambda case: case.inadequacy,
    "seed": lambda case: str(case.arguments["seed"]),
}
"""Columns of ``truth.csv``: what the manifest does not tell."""

_MARGIN_MM = 0.4  # of glass around a deposit, as render_slide leaves it
_BYTES_PER_PX = 0.24
_BYTES_PER_CROP_PX = 0.4
DRAWING = 2
"""Raised when the same arguments give other pictures or texts, so that a run does not go on over earlier files."""


@dataclass(frozen=True, slots=True)
class _SlideProduct:
    """One slide to render, and its truth."""

    case: Case
    folder: Path

    @property
    def slide(self) -> Path:
        return self.folder / "slides" / f"{self.case.slide_id}.tiff"

    @property
    def truth(self) -> Path:
        return self.folder / "truth" / f"{self.case.slide_id}.geojson"

    @property
    def files(self) -> tuple[Path, ...]:
        return self.slide, self.truth

    @property
    def fingerprint(self) -> str:
        """What a slide is made from; an equal one need not be rendered again."""
        return _fingerprint(self.case)

    def done(self) -> Path | None:
        if not self.slide.exists() or not self.truth.exists():
            return None
        if _document(self.truth)["slide"]["parameters"].get("fingerprint") == self.fingerprint:
            return self.slide
        raise _other_arguments(self.slide)

    def make(self, on_part: Part) -> Path:
        case = self.case
        truth = render_slide(
            self.slide,
            case.label,
            overwrite=True,
            progress=lambda rows, total: on_part(rows / total),
            **case.arguments,
        )
        # Truth last: it carries the fingerprint that says the slide is complete.
        known = {
            "fingerprint": self.fingerprint,
            "patient": case.patient,
            "reported_class": case.reported,
            "adequate": not case.inadequacy,
            "inadequacy": case.inadequacy,
        }
        write_truth_geojson(self.truth, replace(truth, parameters={**truth.parameters, **known}))
        return self.slide


@dataclass(frozen=True, slots=True)
class _BagProduct:
    """One bag to make of a slide that is only planned."""

    case: Case
    folder: Path
    settings: BagSettings

    @property
    def bag(self) -> Path:
        return self.folder / "bags" / f"{self.case.slide_id}{BAG_SUFFIX}"

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.bag,)

    @property
    def fingerprint(self) -> str:
        return _fingerprint(self.case, asdict(self.settings))

    def done(self) -> Path | None:
        try:
            header = BagFile(self.bag).header
        except BagError:  # absent or damaged: made anew
            return None
        if header.config_hash == self.fingerprint:
            return self.bag
        raise _other_arguments(self.bag)

    def make(self, on_part: Part) -> Path:
        plan, _ = plan_slide(self.case.label, **self.case.arguments)
        said, made_from = self.case.reported, self.fingerprint
        write_phantom_bag(self.bag, plan, self.settings, slide_class=said, config_hash=made_from)
        return self.bag


def _fingerprint(case: Case, more: Mapping[str, Any] | None = None) -> str:
    return config_hash({**asdict(case), **(more or {}), "version": __version__, "drawing": DRAWING})


def _other_arguments(path: Path) -> OutputError:
    return OutputError(f"{path.name} was made from other arguments", "choose another folder or ask to overwrite it")


def make_slides(
    folder: Path | str,
    design: CohortDesign,
    *,
    workers: int = 1,
    max_negatives: int = 200,
    overwrite: bool = False,
    on_progress: Part = unheard,
) -> Path:
    """Render a cohort folder: ``slides/*.tiff``, ``truth/*.geojson``, ``cells.csv``, ``truth.csv``, ``manifest.csv``.

    The same design gives the same files, whatever the number of workers. A slide that stands there complete is kept,
    so that an interrupted call goes on where it stopped. The manifest states the reported classes; ``truth.csv`` the
    true ones. ``cells.csv`` holds no lesion of a slide that is reported negative: who missed the slide marked none.

    Args:
        workers: processes.
        max_negatives: at most so many NILM cells of each slide enter ``cells.csv``; up to two thirds are look-alikes.
        overwrite: render every slide again.
        on_progress: called with the number of slides done, started ones by their share.

    Returns:
        Path of the manifest.

    Raises:
        ConfigError: the design makes no cohort.
        OutputError: a cohort made from other arguments stands there and ``overwrite`` is False, or no room is left.
    """
    folder, runner = Path(folder), Processes(workers)
    if max_negatives < 0:
        raise ConfigError(f"{max_negatives} negatives of a slide", "give 0 or more")
    cases = design.cases()
    design.refuse_impossible(cases)
    made = [_SlideProduct(case, folder) for case in cases]
    settings = {"made": "slides", "design": asdict(design), "max_negatives": max_negatives}
    produce(folder, settings, made, max(map(_slide_bytes, cases)), runner, overwrite, on_progress)
    cells = (cell for one in made for cell in _annotated(truth_cells(one.truth), one.case, max_negatives))
    CohortFiles(folder).write("cells.csv", lambda path: write_cells(path, cells))
    return _write_tables(folder, [(one.case, one.slide) for one in made])


def make_bags(
    folder: Path | str,
    design: CohortDesign,
    settings: BagSettings | None = None,
    *,
    workers: int = 1,
    overwrite: bool = False,
    on_progress: Part = unheard,
) -> Path:
    """Make the bags of a cohort without its slides: ``bags/*.bag.arrow``, ``truth.csv`` and ``manifest.csv``.

    The cells, their places and pixels are those that :func:`make_slides` would draw for the same design. A bag's rows
    hold the true cell classes and descriptions, its header the reported class. The manifest's ``path`` is the bag.
    Arguments, return value and errors are as for :func:`make_slides`.
    """
    folder, settings, runner = Path(folder), settings or BagSettings(), Processes(workers)
    cases = design.cases()
    design.refuse_impossible(cases)
    made = [_BagProduct(case, folder, settings) for case in cases]
    facts = {"made": "bags", "design": asdict(design), "bags": asdict(settings)}
    size = settings.top_k * (settings.crop_px**2 * _BYTES_PER_CROP_PX + 1000)
    produce(folder, facts, made, size, runner, overwrite, on_progress)
    return _write_tables(folder, [(one.case, one.bag) for one in made])


def _slide_bytes(case: Case) -> float:
    """At least what a slide takes, up to twice as much; noise makes glass as dear as cells."""
    side = (case.arguments["diameter_mm"] + 2 * _MARGIN_MM) * 1000 / case.arguments["mpp"]
    return float(_BYTES_PER_PX * side**2)


def _write_tables(folder: Path, made: Sequence[tuple[Case, Path]]) -> Path:
    rows = ([said(case) for said in TRUTH_COLUMNS.values()] for case, _ in made)
    files = CohortFiles(folder)
    files.write("truth.csv", lambda path: write_bytes(path, table_text(tuple(TRUTH_COLUMNS), rows)))
    records = [
        SlideRecord(case.slide_id, path, None, case.patient, case.centre, case.reported, case.split)
        for case, path in made
    ]
    # The manifest comes last: where it stands, the cohort is complete.
    files.write("manifest.csv", lambda path: write_manifest(path, records))
    return folder / "manifest.csv"


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


def _annotated(cells: Iterable[CellRecord], case: Case, max_negatives: int) -> list[CellRecord]:
    """What is marked on a slide: all its lesions if it was reported positive, and an even choice of other cells.

    Look-alikes fill up to two thirds of the room.
    """
    cells = list(cells)
    positives = [cell for cell in cells if cell.positive and case.reported != NEGATIVE]
    hard = [cell for cell in cells if not cell.positive and cell.cell_id.startswith("u")]
    plain = [cell for cell in cells if not cell.positive and not cell.cell_id.startswith("u")]
    hard = _spread(hard, max(max_negatives * 2 // 3, max_negatives - len(plain)))
    return positives + hard + _spread(plain, max_negatives - len(hard))


def _spread(cells: Sequence[CellRecord], most: int) -> list[CellRecord]:
    """At most so many, evenly spaced, so that every kind is there."""
    if len(cells) <= most:
        return list(cells)
    return [cells[i * len(cells) // most] for i in range(most)]
