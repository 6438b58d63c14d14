"""The map from a data set's labels into the Bethesda vocabulary: explicit, shown, saved, and never a guess."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from stride_monai.bethesda import ABNORMAL, CELL_CLASSES, LABELS, UNLABELED, cell_class_of, parse_label
from stride_monai.data.importers.texts import parsed_json
from stride_monai.data.tables import read_text
from stride_monai.errors import ManifestError

__all__ = ["BETHESDA", "EXCLUDED", "LabelMap", "MappedLabel", "read_map"]

EXCLUDED = "exclude"
"""MappedLabel of a label whose cells are not imported; they are counted."""

TARGETS = (*LABELS, cell_class_of("HSIL"), ABNORMAL, UNLABELED, EXCLUDED)
"""What a label can be mapped to."""


class MappedLabel(NamedTuple):
    """What a label of a data set becomes.

    Attributes:
        label: one of :data:`TARGETS`.
        lossy: the two do not mean the same.
        subtype: what of the label the target does not say, e.g. an organism.
    """

    label: str
    lossy: bool = False
    subtype: str = ""


_BENIGN = {  # subtype of NILM -> what data sets call it
    "Candida": ("Candida", "Fungi"),
    "Trichomonas": ("Trichomonas", "Trich"),
    "shift in flora": ("Flora",),
    "clue cell": ("CC", "Clue cell"),
    "Herpes simplex": ("Herps", "Herpes", "HSV"),
    "Actinomyces": ("Actinomyces", "Actino"),
}

BETHESDA: Mapping[str, MappedLabel] = {
    **{label: MappedLabel(label) for label in LABELS},
    "Negative for intraepithelial lesion": MappedLabel("NILM"),
    "AGC-NOS": MappedLabel("AGC", False, "not otherwise specified"),
    "AGC-FN": MappedLabel("AGC", False, "favour neoplastic"),
    "AIS": MappedLabel("AGC", True, "adenocarcinoma in situ"),
    "ADC": MappedLabel("AGC", True, "adenocarcinoma"),
    **{name: MappedLabel("NILM", False, subtype) for subtype, names in _BENIGN.items() for name in names},
}
"""Labels of the Bethesda System and the organisms it names, as public data sets write them."""


def _plain(label: str) -> str:
    return "".join(c for c in label.casefold() if c.isalnum())


class _Targets:
    """Targets by label: as written, else without regard to case, spaces and punctuation, where that tells labels apart
    (``p16+`` and ``p16-`` it does not)."""

    def __init__(self, targets: Mapping[str, MappedLabel]) -> None:
        self._exact = dict(targets)
        by_plain: dict[str, set[MappedLabel]] = {}
        for label, target in targets.items():
            by_plain.setdefault(_plain(label), set()).add(target)
        self._plain = {plain: found.pop() for plain, found in by_plain.items() if plain and len(found) == 1}

    def get(self, label: str) -> MappedLabel | None:
        return self._exact.get(label) or self._plain.get(_plain(label))


class LabelMap:
    """Label of a data set -> :class:`MappedLabel`. Case, spaces and punctuation of a label do not matter, unless the
    map itself has labels that differ in nothing else.

    Args:
        default: of the format.
        own: of the user, which wins label by label.
        bethesda: labels that are written in the Bethesda vocabulary stand for themselves.
    """

    def __init__(
        self, default: Mapping[str, MappedLabel], own: Mapping[str, MappedLabel] | None = None, bethesda: bool = True
    ) -> None:
        self._own = dict(own or {})
        self._layers = (_Targets(self._own), _Targets(default))
        self._bethesda = bethesda

    def get(self, label: str) -> MappedLabel | None:
        """The target of a label; None where the map has none."""
        own, default = (layer.get(label) for layer in self._layers)
        target = own or default
        if target is None and self._bethesda:
            if label in CELL_CLASSES:
                return MappedLabel(label)
            try:
                return MappedLabel(parse_label(label))
            except ManifestError:
                return None
        return target

    def unused(self, labels: Iterable[str]) -> list[str]:
        """Labels of the user's own map that the data set does not have: likely misspelt."""
        met = set(labels)
        plain = {_plain(label) for label in met}
        return [label for label in self._own if label not in met and _plain(label) not in plain - {""}]

    def refuse_missing(self, labels: Iterable[str], name: str) -> None:
        """Refuse labels without a target.

        Args:
            labels: of every cell and image, as often as they occur.

        Raises:
            ManifestError: listing every one of them with its number, and what to write to map them.
        """
        counts = Counter(labels)
        missing = {label: count for label, count in sorted(counts.items()) if self.get(label) is None}
        if missing:
            listed = ", ".join(f"'{label}' ({count})" for label, count in missing.items())
            example = json.dumps(dict.fromkeys(missing, "?"), ensure_ascii=False)
            raise ManifestError(
                f"{name} has {len(missing)} labels that no map knows: {listed}",
                f"write {example} to a file with each '?' replaced by one of {', '.join(TARGETS)}, "
                "and pass it with --map",
            )

    def table(self, labels: Iterable[str]) -> dict[str, dict[str, Any]]:
        """The map as far as it was used: label -> target, and how many cells have it. As :func:`read_map` reads it."""
        counts = Counter(labels)
        used = {label: (self.get(label), count) for label, count in sorted(counts.items())}
        return {label: {**target._asdict(), "count": count} for label, (target, count) in used.items() if target}


def read_map(path: Path | str) -> dict[str, MappedLabel]:
    """Read a map: JSON, ``{"label": "LSIL"}`` or ``{"label": {"label": "LSIL", "lossy": true, "subtype": "..."}}``, or
    a ``labels.json`` that an import wrote.

    Raises:
        ManifestError: no such file, no such map, or naming every target that is none.
    """
    path = Path(path)
    content = parsed_json(read_text(path), path.name)
    if isinstance(content, dict) and isinstance(content.get("labels"), dict) and "schema_version" in content:
        content = content["labels"]
    if not isinstance(content, dict):
        raise ManifestError(f"{path.name} holds no map", 'write {"label of the data set": "LSIL", ...}')
    targets: dict[str, MappedLabel] = {}
    wrong: list[str] = []
    for label, value in content.items():
        entry = {"label": value} if isinstance(value, str) else value
        if not isinstance(entry, dict) or not set(entry) <= {"label", "lossy", "subtype", "count"}:
            wrong.append(f"'{label}': {value!r}")
            continue
        try:
            name = str(entry.get("label", ""))
            name = name if name in TARGETS else parse_label(name)
        except ManifestError:
            wrong.append(f"'{label}': '{entry.get('label')}'")
            continue
        targets[label] = MappedLabel(name, bool(entry.get("lossy", False)), str(entry.get("subtype", "")))
    if wrong:
        raise ManifestError(
            f"{path.name} maps to what is no target: {', '.join(wrong)}", f"use one of {', '.join(TARGETS)}"
        )
    return targets
