"""The cells that a model proposes for review, taken from findings."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from stride_monai.annotations.errors import AnnotationError
from stride_monai.bethesda import CELL_CLASSES
from stride_monai.files import config_hash
from stride_monai.findings import Findings
from stride_monai.units import Box

__all__ = ["Proposal", "cells_from_findings", "model_version_of", "proposed_cell_id"]


@dataclass(frozen=True, slots=True)
class Proposal:
    """One cell that a model shows to the readers of a slide.

    Attributes:
        cell_id: unique in the slide; that of an earlier proposal or of an added cell where it is the same cell.
        rank: 1 for the most suspicious.
        box: level-0 px.
        cell_class: the most probable of :data:`~stride_monai.bethesda.CELL_CLASSES`.
        probabilities: one per cell class, in that order; empty where the cell was not classified.
        score: of the detector, 0-1.
        descriptions: texts that apply, the most similar first.
        model_version: of the model that proposed it.
    """

    cell_id: str
    rank: int
    box: Box
    cell_class: str
    probabilities: tuple[float, ...]
    score: float
    descriptions: tuple[str, ...] = ()
    model_version: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON types; class probabilities become ``{class: probability}``."""
        raw = {name: getattr(self, name) for name in _FIELDS}  # asdict takes ten times as long
        raw["box"], raw["descriptions"] = list(self.box), list(self.descriptions)
        return {**raw, "probabilities": dict(zip(CELL_CLASSES, self.probabilities, strict=False))}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Proposal:
        """Inverse of :meth:`to_dict`.

        Raises:
            AnnotationError: it is none.
        """
        try:
            shares = raw["probabilities"]
            rest = {
                "box": Box(*(float(side) for side in raw["box"])),
                "probabilities": tuple(float(shares[name]) for name in CELL_CLASSES) if shares else (),
                "descriptions": tuple(raw.get("descriptions", ())),
            }
            return cls(**{**raw, **rest})
        except (TypeError, KeyError, ValueError) as error:
            raise AnnotationError(f"not a proposed cell ({error})") from error


_FIELDS = tuple(part.name for part in dataclasses.fields(Proposal))


def proposed_cell_id(box: Box) -> str:
    """Id of a proposed cell by its place on the slide, to a tenth of a pixel: the same wherever it is worked out."""
    text = ",".join(f"{side:.1f}" for side in box)
    return f"c{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def model_version_of(findings: Findings) -> str:
    """Short name of what proposed the cells: package version and the hash of the weights, the same for all slides."""
    return f"{findings.provenance.package_version}-{config_hash(findings.provenance.weights)[:12]}"


def cells_from_findings(findings: Findings, count: int | None = None) -> list[Proposal]:
    """The cells of a screened slide as proposals, by rank.

    Args:
        count: at most so many, the first by rank; None for all.
    """
    version = model_version_of(findings)
    return list(_unique(_proposals(findings, version, count)))


def _proposals(findings: Findings, version: str, count: int | None) -> Iterable[Proposal]:
    for cell in findings.cells[:count]:
        yield Proposal(
            proposed_cell_id(cell.box),
            cell.rank,
            cell.box,
            cell.cell_class,
            cell.probabilities,
            cell.score,
            tuple(description.text for description in cell.descriptions),
            version,
        )


def _unique(proposals: Iterable[Proposal]) -> Iterable[Proposal]:
    """Without a second cell in the same place, which suppression of duplicates leaves none of anyway."""
    seen: set[str] = set()
    for proposal in proposals:
        if proposal.cell_id not in seen:
            seen.add(proposal.cell_id)
            yield proposal
