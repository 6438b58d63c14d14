"""Descriptions that annotators typed instead of choosing one: kept as written, and held against the vocabulary.

Each is shown with the known text that it is nearest to in some embedding, and how far that is. Nothing is replaced:
what a text means is for its author to say.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stride_monai.bethesda import AGC_DESCRIPTION, DESCRIPTION_VOCABULARY, PAPER_DESCRIPTIONS
from stride_monai.data.cells import CellRecord
from stride_monai.data.tables import table_text
from stride_monai.errors import OutputError
from stride_monai.files import write_bytes

__all__ = ["KNOWN_TEXTS", "LEXICAL", "Embed", "Match", "free_texts", "lexical", "match_texts", "write_matches"]

KNOWN_TEXTS: tuple[str, ...] = tuple(
    dict.fromkeys([*DESCRIPTION_VOCABULARY, *(text for texts in PAPER_DESCRIPTIONS.values() for text in texts)])
)
"""The texts that annotators choose from: the vocabulary, and the glandular ones that are merged for training."""

LEXICAL = "character 3-grams"
"""Name of the embedding :func:`lexical`."""

Embed = Callable[[Sequence[str]], NDArray[np.float64]]
"""Texts -> features ``[n, dim]``; only their direction counts."""


@dataclass(frozen=True, slots=True)
class Match:
    """A text as typed, and the known texts that it is nearest to.

    Attributes:
        text: as written.
        cells: how many cells have it.
        nearest, distance: the nearest of :data:`KNOWN_TEXTS`, and 1 - cosine, 0..2.
        far: it is farther than known texts of different meaning are from each other (the median of their distances to
            the nearest other one): the nearest text says little then.
        second, second_distance: the next one; where it is hardly farther, the two cannot be told apart.
        becomes: the text of the vocabulary that the nearest one counts as in training.
        embedding: in which space.
    """

    text: str
    cells: int
    nearest: str
    distance: float
    far: bool
    second: str
    second_distance: float
    becomes: str
    embedding: str


def free_texts(cells: Iterable[CellRecord]) -> dict[str, int]:
    """Descriptions that are not of :data:`KNOWN_TEXTS`, each with the number of cells that have it; most used first."""
    counts = Counter(text for cell in cells for text in set(cell.descriptions) if text not in KNOWN_TEXTS)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def lexical(texts: Sequence[str]) -> NDArray[np.float64]:
    """Counts of groups of three characters, in lower case: how texts are spelt, not what they mean.

    Its columns are the groups that occur in these texts, so features of different calls must not be mixed.
    """
    counts = [Counter(_groups(text)) for text in texts]
    groups = sorted(set().union(*counts))
    return np.array([[own[group] for group in groups] for own in counts], np.float64).reshape(len(texts), len(groups))


def _groups(text: str) -> list[str]:
    padded = f" {' '.join(text.lower().split())} "
    return ["".join(group) for group in zip(padded, padded[1:], padded[2:], strict=False)]


def match_texts(texts: dict[str, int], embed: Embed = lexical, embedding: str = LEXICAL) -> list[Match]:
    """The nearest known texts of typed ones, in the order given.

    Args:
        texts: each with the number of its cells.
        embed: called once, with all texts.
        embedding: its name, for whoever reads the table.
    """
    if not texts:
        return []
    features = embed([*KNOWN_TEXTS, *texts])
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    unit = features / np.where(lengths > 0, lengths, 1)
    known, typed = unit[: len(KNOWN_TEXTS)], unit[len(KNOWN_TEXTS) :]
    limit = float(np.median((1 - known @ known.T + 3 * np.eye(len(known))).min(axis=1)))
    matches = []
    for (text, cells), row in zip(texts.items(), np.clip(1 - typed @ known.T, 0, 2), strict=True):
        first, second = np.argsort(row, kind="stable")[:2].tolist()
        nearest = KNOWN_TEXTS[first]
        matches.append(
            Match(
                text=text,
                cells=cells,
                nearest=nearest,
                distance=round(float(row[first]), 4),
                far=bool(row[first] > limit),
                second=KNOWN_TEXTS[second],
                second_distance=round(float(row[second]), 4),
                becomes=nearest if nearest in DESCRIPTION_VOCABULARY else AGC_DESCRIPTION,
                embedding=embedding,
            )
        )
    return matches


def write_matches(path: Path, matches: Sequence[Match]) -> None:
    """Write matches as CSV, one row each; a file that is there is never replaced.

    Raises:
        OutputError: there is such a file, or it cannot be written.
    """
    if os.path.lexists(path):
        raise OutputError(f"{path.absolute()} is there already", "choose another --out")
    names = [field.name for field in fields(Match)]
    rows = [[_text(getattr(match, name)) for name in names] for match in matches]
    write_bytes(path, table_text(names, rows))


def _text(value: str | float | bool) -> str:
    if isinstance(value, bool):
        return "yes" if value else ""
    return f"{value:.4f}" if isinstance(value, float) else str(value)
