"""Annotations to QuPath and back: what stands as GeoJSON, and a corrected file as the actions of a reader."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import shapely

from stride_monai import __version__
from stride_monai.annotations.actions import (
    CANNOT_TELL,
    CELL_LABELS,
    NOT_A_LESION,
    Action,
    Kind,
    added_cell_id,
    new_uuid,
)
from stride_monai.annotations.overlaps import SAME_CELL, overlaps
from stride_monai.annotations.state import CellState, ReviewState, SlideState
from stride_monai.bethesda import CELL_COLORS, cell_class_of, parse_label
from stride_monai.data.tables import refuse
from stride_monai.errors import ManifestError
from stride_monai.geojson import Classification, Feature, Geometry, collection_text
from stride_monai.units import Box

__all__ = ["Corrections", "corrections", "geojson_text"]

_NAMESPACE = uuid.UUID("0d0f3c7e-5f0a-5b8e-9c55-3f2f6f6f7a61")  # ours, fixed: makes object ids reproducible
_REGIONS = frozenset({"region", "region*", "roi"})
_WORDS = {"notalesion": NOT_A_LESION, "cannottell": CANNOT_TELL, "ignore": CANNOT_TELL}
_GREY = (120, 120, 120)
_STILL = 0.5  # px by which a side may differ that nobody moved: QuPath rounds to a hundredth
_RECTANGLE = 0.99  # share of its box that a rectangle, drawn by hand or rounded, fills
_CELL, _SHOWN, _STATE = "Cell", "Shown", "State"  # what a feature says of its cell, kept by QuPath as metadata


def geojson_text(state: SlideState) -> str:
    """The cells and regions of a slide as annotations that QuPath lets a reader change.

    A cell's class is the label that stands; where nobody has read the cell, the model's; where readers differ, none.
    What was shown stands in the metadata ``Shown``, so that :func:`corrections` tells what was changed.
    """
    made_by = {"package_version": __version__, "slide_id": state.slide_id, "fingerprint": state.fingerprint}
    return collection_text(_features(state), {"stride_monai": {**made_by, "coordinates": "level-0 px of the content"}})


def _features(state: SlideState) -> Iterable[Feature]:
    for cell in state.present:
        if cell.box is None:
            continue
        shown = _shown(cell)
        metadata = {_CELL: cell.cell_id, _SHOWN: shown, _STATE: cell.state.value}
        words = [text for read in cell.reads.values() for text in (*read.descriptions, read.typed) if text]
        yield Feature(
            Geometry.box(cell.box),
            _object_id(state.slide_id, cell.cell_id),
            name=f"{cell.proposed.rank} {shown}".strip() if cell.proposed else shown,
            classification=Classification.of(shown, _color(shown)) if shown else None,
            measurements={"Rank": cell.proposed.rank} if cell.proposed else {},
            metadata={**metadata, **({"Descriptions": "; ".join(dict.fromkeys(words))} if words else {})},
        )
    for region_id, box in state.regions.items():
        identity = _object_id(state.slide_id, region_id)
        yield Feature(Geometry.box(box), identity, classification=Classification.of("Region*"))


def _shown(cell: CellState) -> str:
    if cell.state == ReviewState.UNREVIEWED and cell.proposed is not None:
        return cell.proposed.cell_class
    return cell.label or ""


def _color(label: str) -> tuple[int, int, int]:
    return CELL_COLORS[cell_class_of(label)] if label in {*CELL_LABELS[:-3]} else _GREY


def _object_id(slide_id: str, part: str) -> str:
    """A UUID, as QuPath wants: the same for the same cell in every export."""
    return str(uuid.uuid5(_NAMESPACE, f"{slide_id}/{part}"))


@dataclass(frozen=True, slots=True)
class Corrections:
    """What a corrected file changes.

    Attributes:
        actions: to append, all or none.
        counts: ``labels``, ``moved``, ``added``, ``regions``, ``unchanged``, ``missing`` (cells of the store that the
            file lacks), ``removed`` (cells of the file that somebody removed meanwhile, left alone).
    """

    actions: list[Action] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


def corrections(
    state: SlideState,
    features: Sequence[Feature],
    who: str,
    file_name: str,
    confirm: bool = False,
    missing_is_no_lesion: bool = False,
) -> Corrections:
    """A corrected file of :func:`geojson_text`, or one that was drawn from nothing, as the actions of a reader.

    A cell is known by its metadata or object id, else by its place (intersection over union at least 0.5); another
    object is a new cell. A class that differs from the one that was shown is a label, a box whose sides differ by more
    than half a pixel was moved, ``Region*`` and ``ROI`` are regions. Giving the same file again changes nothing.

    Args:
        state: of the slide, as it stands now.
        features: of the file.
        who: the reader.
        file_name: for messages.
        confirm: the reader has looked at every cell: a class that was left as shown is a label too.
        missing_is_no_lesion: cells that the file lacks were deleted as false positives.

    Raises:
        ManifestError: naming what cannot be taken: a class that is no label, a point, a region that is no rectangle.
        AnnotationError: ``who`` is no name of a reader.
    """
    Action(who, state.slide_id, Kind.CALL)  # refuses what is no name before anything is read
    made, problems = _Reading(state, who, confirm), list[str]()
    for number, feature in enumerate((one for top in features for one in top.walk()), start=1):
        if feature.object_type in {"tmaCore", "root"}:
            continue
        try:
            made.take(feature)
        except ManifestError as error:
            problems.append(f"object {number}: {error}")
    refuse(problems, file_name, "correct the listed objects in QuPath")
    made.lacking(missing_is_no_lesion)
    return Corrections(made.actions, made.counts)


class _Reading:
    """Goes through the objects of one file."""

    def __init__(self, state: SlideState, who: str, confirm: bool) -> None:
        self.state, self.who, self.confirm = state, who, confirm
        self.actions: list[Action] = []
        self.counts: Counter[str] = Counter()
        self._by_object = {_object_id(state.slide_id, cell_id): cell_id for cell_id in state.cells}
        self._met: set[str] = set()

    def take(self, feature: Feature) -> None:
        box = _box_of(feature)
        if feature.class_name.lower() in _REGIONS:
            self._region(feature, box)
            return
        label = _label(feature.class_name)
        cell = self._cell(feature, box)
        if cell is None:
            self._add(box, label)
            return
        self._met.add(cell.cell_id)
        if cell.box is None:
            self.counts["removed"] += 1
            return
        moved = max(abs(a - b) for a, b in zip(box, cell.box, strict=True)) > _STILL
        if moved:
            self._act(Kind.BOX_MOVED, cell, list(cell.box), list(box), "moved")
        labeled = self._relabel(cell, label, feature.metadata.get(_SHOWN, _shown(cell)))
        if not moved and not labeled:
            self.counts["unchanged"] += 1

    def _cell(self, feature: Feature, box: Box) -> CellState | None:
        for cell_id in (feature.metadata.get(_CELL, ""), self._by_object.get(feature.feature_id, "")):
            if cell_id in self.state.cells and cell_id not in self._met:
                return self.state.cells[cell_id]
        free = [cell for cell in self.state.present if cell.cell_id not in self._met]
        shares = overlaps([cell.box for cell in free if cell.box is not None], box)
        return free[int(shares.argmax())] if shares.size and shares.max() >= SAME_CELL else None

    def _add(self, box: Box, label: str) -> None:
        made = new_uuid()
        cell = CellState(added_cell_id(made), box)
        self._act(Kind.BOX_ADDED, cell, None, list(box), "added", made)
        if label:
            self._act(Kind.LABEL, cell, None, label, "labels")

    def _relabel(self, cell: CellState, label: str, shown: str) -> bool:
        read = cell.reads.get(self.who)
        own = read.label if read else None
        if not label or label == own or (label == shown and not self.confirm):
            return False
        self._act(Kind.LABEL, cell, own, label, "labels")
        return True

    def _region(self, feature: Feature, box: Box) -> None:
        corners = list(feature.geometry.corners())
        if len(corners) < 3 or shapely.Polygon(corners).area < _RECTANGLE * box.area:
            raise ManifestError("the region is no rectangle", "draw it with QuPath's rectangle tool")
        for known in self.state.regions.values():
            if max(abs(a - b) for a, b in zip(box, known, strict=True)) <= _STILL:
                self.counts["unchanged"] += 1
                return
        self._act(Kind.REGION, CellState(f"r{uuid.uuid4().hex}", box), None, list(box), "regions")

    def lacking(self, no_lesion: bool) -> None:
        """The cells of the store that the file did not have."""
        for cell in self.state.present:
            if cell.cell_id in self._met:
                continue
            self.counts["missing"] += 1
            if no_lesion:
                self._relabel(cell, NOT_A_LESION, "")

    def _act(
        self, kind: Kind, cell: CellState, before: object, after: object, counted: str, given: str | None = None
    ) -> None:
        shown = cell.proposed.model_version if cell.proposed else ""
        made = Action(
            *(self.who, self.state.slide_id, kind, cell.cell_id, before, after, given or new_uuid()),
            fingerprint=self.state.fingerprint,
            model_version=shown,
        )
        self.actions.append(made)
        self.counts[counted] += 1


def _box_of(feature: Feature) -> Box:
    """Raises:
    ManifestError: the object has no extent, as a point has none.
    """
    box = feature.geometry.bounds()
    if box.width <= 0 or box.height <= 0:
        raise ManifestError(f"a {feature.geometry.kind} without extent is no cell", "draw a rectangle around the cell")
    return box


def _label(name: str) -> str:
    """The label of a class as it is called in QuPath; empty for an object without a class.

    Raises:
        ManifestError: it is none.
    """
    if not name or name in CELL_LABELS:
        return name
    squashed = "".join(letter for letter in name.lower() if letter.isalnum())
    return _WORDS.get(squashed) or parse_label(name)
