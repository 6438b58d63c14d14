"""The cells of a run that a reader may be given, as a table of arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from stride_monai.annotations.proposals import Proposal, cells_from_findings
from stride_monai.annotations.state import SlideState
from stride_monai.bethesda import CELL_CLASSES
from stride_monai.errors import ConfigError
from stride_monai.findings import Findings

__all__ = ["Array", "Candidates", "Indices", "Read", "reads_of"]

Array = npt.NDArray[np.floating[Any]]
Indices = npt.NDArray[np.intp]


class Read(NamedTuple):
    """A cell that a reader has read, or holds and is about to read."""

    slide_id: str
    cell_id: str
    reader: str


def reads_of(slides: Iterable[SlideState]) -> list[Read]:
    """Which cells have been labelled by whom, as annotations say.

    What readers hold and have not read yet is not among it: let the store assign what was proposed
    (:meth:`stride_monai.annotations.AnnotationStore.assign`), and ask for more than are needed.
    """
    return [
        Read(slide.slide_id, cell.cell_id, who)
        for slide in slides
        for cell in slide.cells.values()
        for who, said in cell.reads.items()
        if said.label is not None
    ]


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Cells of one run, one row each; arrays are checked and never changed.

    Attributes:
        slide_ids, cell_ids: together they name a cell; none may occur twice.
        ranks: 1 for the most suspicious cell of its slide, int ``[n]``.
        scores: detector probability 0..1, float ``[n]``.
        boxes: level-0 px, float ``[n, 4]``.
        probabilities: of each of :data:`~stride_monai.bethesda.CELL_CLASSES`, float ``[n, C]``, rows sum to 1.
        teacher: the same by the teacher, a moving average of the network; None where there is none.
        features: of the cell encoder, float ``[n, D]``; None where they were not kept.

    Raises:
        ConfigError: a column of another length, a number that is not finite or no probability, a cell named twice.
    """

    slide_ids: Sequence[str]
    cell_ids: Sequence[str]
    ranks: npt.NDArray[np.integer[Any]]
    scores: Array
    boxes: Array
    probabilities: Array
    teacher: Array | None = None
    features: Array | None = None

    def __post_init__(self) -> None:
        count = len(self.slide_ids)
        if len(self.cell_ids) != count:
            raise ConfigError(f"there are {len(self.cell_ids)} cell ids for {count} cells", "give one each")
        classes = len(CELL_CLASSES)
        shapes: dict[str, tuple[int, ...]] = {"ranks": (count,), "scores": (count,), "boxes": (count, 4)}
        shapes |= {"probabilities": (count, classes), "teacher": (count, classes)}
        for name, shape in shapes.items():
            self._check(name, shape)
        self._check("features", (count, -1))
        if len(set(self.keys)) != count:
            twice = next(key for key in self.keys if self.keys.count(key) > 1)
            raise ConfigError(f"cell '{twice[1]}' of slide '{twice[0]}' is a candidate twice", "give each cell once")
        for name in ("scores", "probabilities", "teacher"):
            values = getattr(self, name)
            if values is not None and not ((values >= 0) & (values <= 1)).all():
                raise ConfigError(f"{name} of the candidates are not all between 0 and 1", "give probabilities")

    def _check(self, name: str, shape: tuple[int, ...]) -> None:
        values = getattr(self, name)
        if values is None and name in {"teacher", "features"}:
            return
        pairs = zip(shape, values.shape, strict=False)
        if values.ndim != len(shape) or any(want not in (-1, has) for want, has in pairs):
            raise ConfigError(f"{name} of the candidates have shape {values.shape}", f"it must be {shape}")
        if not np.isfinite(values).all():
            raise ConfigError(f"{name} of the candidates are not all finite", "leave out what could not be computed")

    def __len__(self) -> int:
        return len(self.slide_ids)

    @property
    def keys(self) -> list[tuple[str, str]]:
        """Slide id and cell id of each."""
        return list(zip(self.slide_ids, self.cell_ids, strict=True))

    @classmethod
    def of_findings(cls, findings: Iterable[Findings]) -> Self:
        """The cells of the screened slides of a run that no store of annotations has seen before."""
        return cls.of_proposals({found.slide.slide_id: cells_from_findings(found) for found in findings})

    @classmethod
    def of_proposals(cls, proposals: Mapping[str, Sequence[Proposal]]) -> Self:
        """Cells as a store of annotations knows them: what its ``propose`` returned, by slide id.

        Raises:
            ConfigError: as above; a cell that was not classified has no probabilities.
        """
        rows = [(slide_id, cell) for slide_id, cells in proposals.items() for cell in cells]
        without = sum(not cell.probabilities for _, cell in rows)
        if without:
            raise ConfigError(
                f"{without} proposed cells were not classified", "screen the slides again, or leave them out"
            )
        return cls(
            slide_ids=[slide_id for slide_id, _ in rows],
            cell_ids=[cell.cell_id for _, cell in rows],
            ranks=np.array([cell.rank for _, cell in rows], dtype=np.intp),
            scores=np.array([cell.score for _, cell in rows], dtype=np.float64),
            boxes=np.array([cell.box for _, cell in rows], dtype=np.float64).reshape(-1, 4),
            probabilities=np.array([cell.probabilities for _, cell in rows], np.float64).reshape(-1, len(CELL_CLASSES)),
        )

    def seen_by(self, teacher: Array | None = None, features: Array | None = None) -> Self:
        """The same cells with what a teacher says of them, or with their features."""
        return replace(
            self,
            teacher=self.teacher if teacher is None else teacher,
            features=self.features if features is None else features,
        )

    def take(self, chosen: Sequence[int] | Indices) -> Self:
        """The chosen rows, in the order chosen."""
        index = np.asarray(chosen, dtype=np.intp)
        return replace(
            self,
            slide_ids=[self.slide_ids[k] for k in index],
            cell_ids=[self.cell_ids[k] for k in index],
            ranks=self.ranks[index],
            scores=self.scores[index],
            boxes=self.boxes[index],
            probabilities=self.probabilities[index],
            teacher=None if self.teacher is None else self.teacher[index],
            features=None if self.features is None else self.features[index],
        )
