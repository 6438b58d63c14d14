"""Which texts of the vocabulary describe a labelled cell: the targets of the description alignment.

What is a target, and what is not, is decided here, and every number that is left out is logged:

- A text of :data:`stride_monai.bethesda.DESCRIPTION_VOCABULARY` is a target.
- Any of the paper's texts of AGC on an AGC cell is the one text of that class (the paper merges them: too few cells).
- Any other text is free text. It stays in the data and is no target. A cell that has nothing else is left out: it
  was described, but in words that cannot be judged right or wrong.
- A cell without any text: see ``undescribed`` of :class:`DescriptionRules`.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from stride_monai.bethesda import (
    AGC_DESCRIPTION,
    CELL_CLASSES,
    DESCRIPTION_VOCABULARY,
    DESCRIPTIONS_BY_CLASS,
    PAPER_DESCRIPTIONS,
)
from stride_monai.data.cells import read_cells
from stride_monai.data.datalists import cell_crops
from stride_monai.errors import ConfigError, ManifestError

__all__ = ["IMPLIED", "DescriptionRules", "Target", "described_cells", "judged_rule"]

_log = logging.getLogger(__name__)
IMPLIED, BY_CLASS, LEAVE_OUT = "implied", "by_class", "leave_out"
_NOT_COUNTED = -1


class Target(NamedTuple):
    """What is known of a cell in words.

    Attributes:
        row: a number for each text of the vocabulary: 1 applies, 0 does not, -1 does not count. None: leave it out.
        free: texts that are none of the vocabulary.
        implied: no text was given, the class says it.
    """

    row: tuple[int, ...] | None
    free: tuple[str, ...] = ()
    implied: bool = False


@dataclass(frozen=True, slots=True)
class DescriptionRules:
    """How texts become targets.

    Args:
        undescribed: what becomes of a labelled cell without any text. ``implied``: where the class has a single text
            (NILM: normal cell; AGC) that text applies, as in the paper, whose numbers of NILM and AGC texts are those
            of the cells; others are left out. ``by_class``: of those others, too, something is known: no text of
            another class applies to them; which of their own do is not known and does not count. For training alone.
            ``leave_out``: all are left out.
        class_mask: only the texts of the cell's own class, and those that were given, count; the others are -1.

    Raises:
        ConfigError: ``undescribed`` is none of them, or is ``by_class`` where only a class's own texts count.
    """

    undescribed: str = IMPLIED
    class_mask: bool = False

    def __post_init__(self) -> None:
        if self.undescribed not in {IMPLIED, BY_CLASS, LEAVE_OUT}:
            raise ConfigError(f"undescribed is '{self.undescribed}'", f"use {IMPLIED}, {BY_CLASS} or {LEAVE_OUT}")
        if self.undescribed == BY_CLASS and self.class_mask:
            raise ConfigError(
                f"undescribed {BY_CLASS} learns from texts of other classes, with class_mask none of them counts",
                "leave one of the two out",
            )

    def target(self, cell_class: str, texts: Sequence[str]) -> Target:
        """The target of a cell of a class (one of :data:`~stride_monai.bethesda.CELL_CLASSES`) with these texts."""
        own = DESCRIPTIONS_BY_CLASS[cell_class]
        merged = [
            AGC_DESCRIPTION if cell_class == "AGC" and text in PAPER_DESCRIPTIONS["AGC"] else text for text in texts
        ]
        free = tuple(text for text in merged if text not in DESCRIPTION_VOCABULARY)
        implied = not texts and len(own) == 1 and self.undescribed != LEAVE_OUT
        if not texts and not implied and self.undescribed == BY_CLASS:
            return Target(tuple(_NOT_COUNTED if text in own else 0 for text in DESCRIPTION_VOCABULARY))
        given = set(own if implied else merged) - set(free)
        if not given:
            return Target(None, free)
        counts = given | set(own) if self.class_mask else set(DESCRIPTION_VOCABULARY)
        row = tuple(int(text in given) if text in counts else _NOT_COUNTED for text in DESCRIPTION_VOCABULARY)
        return Target(row, free, implied)

    def targets(self, labels: Sequence[int], texts: Sequence[Sequence[str]], where: str) -> list[Target]:
        """The targets of many cells; the log says how many are left out, and why.

        Args:
            labels: indices into :data:`~stride_monai.bethesda.CELL_CLASSES`.
            texts: of each cell.
            where: what is being read, for the log.

        Raises:
            ManifestError: no cell has a target.
        """
        found = [self.target(CELL_CLASSES[label], given) for label, given in zip(labels, texts, strict=True)]
        kept = [target for target in found if target.row is not None]
        silent = sum(target.row is None and not target.free for target in found)
        implied = sum(target.implied for target in kept)
        excluded = sum(1 not in target.row for target in kept if target.row is not None)
        foreign = len(found) - len(kept) - silent
        described = len(kept) - excluded
        _log.info("%s: %d described cells, of %d of them the class says the text", where, described, implied)
        if excluded:
            _log.info("%s: of %d cells without a description the class says what does not apply", where, excluded)
        if silent:
            _log.warning("%s: %d labelled cells have no description and are left out", where, silent)
        if foreign:
            _log.warning("%s: %d cells have free text alone and are left out", where, foreign)
        free = Counter(text for target in found for text in target.free)
        if free:
            common = ", ".join(f"'{text}' ({count})" for text, count in free.most_common(3))
            _log.warning("%s: %d free texts are no targets, e.g. %s", where, free.total(), common)
        if not described:
            raise ManifestError(
                f"{where}: none of {len(found)} labelled cells has a description of the vocabulary",
                "fill the column 'descriptions' of cells.csv; the texts stand in stride_monai.bethesda",
            )
        return found


def judged_rule(undescribed: str) -> str:
    """The rule by which cells are judged where others train by ``undescribed``: a cell of which no text is known to
    apply has no part in a judgement."""
    return IMPLIED if undescribed == BY_CLASS else undescribed


def described_cells(
    dataset_dir: Path | str, split: str, undescribed: str = IMPLIED, class_mask: bool = False
) -> list[dict[str, Any]]:
    """The labelled cells of a cohort folder with the texts that describe them, to be read from its slides.

    Args:
        dataset_dir: cohort folder.
        split: ``train``, ``validation`` or ``test``.
        undescribed, class_mask: see :class:`DescriptionRules`.

    Returns:
        As :func:`stride_monai.data.cell_crops`, with ``target``: a number for each text (:class:`Target`).

    Raises:
        ManifestError: broken tables, no slide in the split, or no described cell on them.
    """
    items = cell_crops(dataset_dir, split)
    texts = {(cell.slide_id, cell.cell_id): cell.descriptions for cell in read_cells(Path(dataset_dir) / "cells.csv")}
    found = DescriptionRules(undescribed, class_mask).targets(
        [item["label"] for item in items],
        [texts[item["slide_id"], item["cell_id"]] for item in items],
        f"split {split}",
    )
    return [{**item, "target": target.row} for item, target in zip(items, found, strict=True) if target.row is not None]
