"""The truth table: the reference diagnosis of each slide, and whatever else is known of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stride_monai.bethesda import ABNORMAL, NEGATIVE, most_severe, parse_label
from stride_monai.data.manifest import parse_split
from stride_monai.data.tables import NOT_KNOWN, Row, named_rows, plain_heading, refuse
from stride_monai.errors import ConfigError, ManifestError
from stride_monai.evaluation.inputs.mapping import NO_MAPPING, Mapped, mapped_rows
from stride_monai.files import sha256_of
from stride_monai.names import readable

__all__ = ["NOT_JUDGEABLE", "Truth", "read_truth"]

NOT_JUDGEABLE = "unsatisfactory"
"""Reference of a slide that the readers could not judge; such slides are counted and not analysed."""

_COLUMNS = ("slide_id", "path", "label", "patient", "centre", "split")
_ALIASES = {
    **{"slide": "slide_id", "image": "path", "file": "path", "slide_class": "label"},
    **{"patient_id": "patient", "center": "centre"},
}
_MAY_BE_UNKNOWN = ("slide_id", "label", "patient", "centre", "split")
_WORDS = {
    **dict.fromkeys(("unsatisfactory", "unsat", "inadequate", "not assessable"), NOT_JUDGEABLE),
    **dict.fromkeys((ABNORMAL, "positive", "abnormal"), ABNORMAL),
}


@dataclass(frozen=True, eq=False)
class Truth:
    """The truth of N slides.

    Attributes:
        slide_id: ``[N]``, each once.
        label: ``[N]``: of :data:`~stride_monai.bethesda.LABELS`; :data:`~stride_monai.bethesda.ABNORMAL` for a lesion
            of unknown grade; :data:`NOT_JUDGEABLE`; empty where it is not known.
        columns: every other column by its heading (``patient``, ``centre`` and ``split`` by these), ``[N]`` each;
            empty where a cell is not known.
        source: ``file`` and ``sha256``. notes: what the reader must know of it.
    """

    slide_id: Sequence[str]
    label: Sequence[str]
    columns: Mapping[str, Sequence[str]]
    source: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.slide_id)

    def taken(self, slide_ids: Iterable[str]) -> Truth:
        """The truth of some of the slides."""
        wanted = set(slide_ids)
        places = [k for k, slide_id in enumerate(self.slide_id) if slide_id in wanted]
        columns = {name: [values[k] for k in places] for name, values in self.columns.items()}
        label = [self.label[k] for k in places]
        return replace(self, slide_id=[self.slide_id[k] for k in places], label=label, columns=columns)

    @property
    def positive(self) -> NDArray[np.bool_]:
        """``[n]``, of the slides with a diagnosis: those that are not NILM."""
        known = [label for label in self.label if label and label != NOT_JUDGEABLE]
        return np.array([label != NEGATIVE for label in known], bool)

    def column(self, name: str) -> str:
        """The heading of a column as people type it; case, spaces and hyphens do not matter.

        Raises:
            ConfigError: there is no such column.
        """
        wanted = plain_heading(name)
        wanted = _ALIASES.get(wanted, wanted)
        for heading in self.columns:
            if plain_heading(heading) == wanted:
                return heading
        raise ConfigError(f"the truth table has no column '{name}'", f"it has {', '.join(self.columns)}")


def read_truth(path: Path | str, mapped: Mapped = NO_MAPPING) -> Truth:
    """Read a truth table.

    Args:
        path: CSV, JSON or Parquet with ``slide_id`` (or ``path``, whose stem it is) and ``label``, the Bethesda
            diagnosis as people write it; a cohort's ``manifest.csv`` is one. A label may be empty or *unknown* (the
            slide is counted, not analysed), *unsatisfactory* (likewise), *abnormal* (a lesion of unknown grade), or
            composite, ``ASC-H+LSIL``, of which the most severe is taken. ``patient``, ``centre``, ``split`` and any
            further columns are kept.
        mapped: their columns and words.

    Raises:
        ManifestError: naming every broken line: no id, an id twice, a label or split that is unknown.
    """
    path = Path(path)
    header, rows = mapped_rows(path, mapped, _COLUMNS)
    present, rows = named_rows(header, rows, path.name, _COLUMNS, _ALIASES, _MAY_BE_UNKNOWN, others=True)
    _refuse_another_table(present, path)
    if not rows:
        raise ManifestError(f"{path.absolute()} lists no slide", "give it a line for each slide")
    words, composite = _Words(mapped), 0
    problems: list[str] = []
    ids, labels, splits, place_of = [], [], [], dict[str, str]()
    for row in rows:
        try:
            slide_id = mapped.slide_id(row.get("slide_id") or _stem(row.get("path")))
            label, split = words.label(row.get("label")), row.get("split")
            splits.append(parse_split(split) if split else "")
        except ManifestError as error:
            problems.append(f"{row.place}: {error.what} (slide '{row.get('slide_id')}')")
            continue
        if not slide_id:
            problems.append(f"{row.place}: no slide_id")
        elif slide_id in place_of:
            problems.append(f"{row.place}: slide '{slide_id}' is that of {place_of[slide_id]} too")
        place_of.setdefault(slide_id, row.place)
        composite += "+" in row.get("label")
        ids.append(slide_id)
        labels.append(label)
    refuse(problems, path.name, "correct the listed lines, or map words to Bethesda labels (--truth-map)")
    columns = _others(header, rows, present)
    if "split" in present:
        columns["split"] = splits
    notes = (f"{composite:,} composite labels count as their most severe part",) if composite else ()
    source = {"file": readable(path.name), "sha256": sha256_of(path), "slides": len(ids)}
    return Truth(ids, labels, columns, source, notes)


def _refuse_another_table(present: set[str], path: Path) -> None:
    if not present & {"slide_id", "path"} or "label" not in present:
        missing = "label" if present & {"slide_id", "path"} else "slide_id"
        raise ManifestError(
            f"{path.absolute()} has no column '{missing}'",
            "a truth table has slide_id, label and any further columns; others are named in a mapping file "
            "(--truth-map)",
        )
    if present >= {"cell_id", "x0", "y0"}:
        raise ManifestError(
            f"{path.absolute()} is a table of marked cells", "give the one that has a line for each slide"
        )


def _stem(path: str) -> str:
    return readable(Path(path.replace("\\", "/")).stem) if path else ""


def _others(header: Sequence[str], rows: Sequence[Row], present: set[str]) -> dict[str, Sequence[str]]:
    """Each column but ids, paths, labels and splits, by its heading in the table's order."""
    known = [name for name in ("patient", "centre") if name in present]
    further = [name for name in header if name in present and name not in _COLUMNS]
    return {name: [_known(row.get(name)) for row in rows] for name in (*known, *further)}


def _known(text: str) -> str:
    """A lone hyphen stays: of HPV and the like it is a result."""
    return "" if text.lower() in NOT_KNOWN - {"-", "--"} else text


class _Words:
    """Labels by what is written for them; a table has few of them and many lines."""

    def __init__(self, mapped: Mapped) -> None:
        self._given, self._known = mapped.labels, {"": ""}

    def label(self, text: str) -> str:
        """One of the labels of :class:`Truth`.

        Raises:
            ManifestError: the text is none.
        """
        if text not in self._known:
            word = self._given.get(text.lower(), text)
            self._known[text] = _WORDS.get(word.lower(), "") or _parse(word)
        return self._known[text]


def _parse(text: str) -> str:
    parts = [parse_label(part) for part in text.split("+")] if text else []
    return most_severe(parts) if parts else ""
