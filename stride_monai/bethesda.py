"""The Bethesda System (TBS) vocabulary: the one place that knows a class name.

Cell classes, slide classes, the map between them, severity, reporting groups, colours and the diagnostic descriptions
(paper, Extended Data Table 2; METHOD section 2). Everything here is plain data, importable without torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from stride_monai.errors import ManifestError

__all__ = [
    "ABNORMAL",
    "AGC_DESCRIPTION",
    "CELL_CLASSES",
    "CELL_COLORS",
    "DESCRIPTIONS_BY_CLASS",
    "DESCRIPTION_VOCABULARY",
    "LABELS",
    "NEGATIVE",
    "PAPER_DESCRIPTIONS",
    "REPORT_GROUPS",
    "SEVERITY",
    "SLIDE_CLASSES",
    "SLIDE_TO_CELL",
    "UNLABELED",
    "binary_score",
    "cell_class_of",
    "description_targets",
    "most_severe",
    "parse_label",
    "slide_class_of",
    "slide_to_cell_indices",
]

NEGATIVE = "NILM"

ABNORMAL = "abnormal_unspecified"
"""Label of a cell that is known to be a lesion, but not of which class: the detector learns it, the classifier not."""

UNLABELED = "unlabelled"
"""Label of a cell that was marked and not classified: nothing learns it, and its place is no negative either."""

LABELS: tuple[str, ...] = ("NILM", "ASC-US", "LSIL", "ASC-H", "AGC", "HSIL", "SCC")
"""Every label met in data, in order of severity."""

SEVERITY: Mapping[str, int] = MappingProxyType({label: rank for rank, label in enumerate(LABELS)})
"""Severity rank: NILM < ASC-US < LSIL < ASC-H < AGC < HSIL < SCC. Not a class index."""

CELL_CLASSES: tuple[str, ...] = ("NILM", "ASC-US", "LSIL", "ASC-H/HSIL", "AGC")
"""Classes of the cell classifier, in index order; SCC cells belong to ASC-H/HSIL."""

SLIDE_CLASSES: tuple[str, ...] = ("NILM", "ASC-US", "LSIL", "ASC-H", "HSIL", "AGC")
"""Classes of the slide head, in index order; SCC slides belong to HSIL."""

SLIDE_TO_CELL: Mapping[str, str] = MappingProxyType(
    {"NILM": "NILM", "ASC-US": "ASC-US", "LSIL": "LSIL", "ASC-H": "ASC-H/HSIL", "HSIL": "ASC-H/HSIL", "AGC": "AGC"}
)
"""Slide class -> cell class, the many-to-one map of Algorithm 1."""

REPORT_GROUPS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "ASC-US+": frozenset({"ASC-US", "LSIL", "ASC-H", "AGC", "HSIL", "SCC"}),
        "LSIL+": frozenset({"LSIL", "ASC-H", "AGC", "HSIL", "SCC"}),
        "ASC-H+": frozenset({"ASC-H", "AGC", "HSIL", "SCC"}),
        "HSIL+": frozenset({"HSIL", "SCC"}),
    }
)
"""Thresholded groups that users report: every label at or above the named one in severity."""

CELL_COLORS: Mapping[str, tuple[int, int, int]] = MappingProxyType(
    {
        "NILM": (46, 125, 50),
        "ASC-US": (249, 168, 37),
        "LSIL": (239, 108, 0),
        "ASC-H/HSIL": (198, 40, 40),
        "AGC": (106, 27, 154),
    }
)
"""RGB colour (0-255) of each cell class in overlays and reports."""

_ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "NEGATIVE": "NILM",
        "NORMAL": "NILM",
        "NEGATIVEFORINTRAEPITHELIALLESION": "NILM",
        "NEGATIVEFORINTRAEPITHELIALLESIONORMALIGNANCY": "NILM",
        "AIS": "AGC",
        "ADC": "AGC",
        "ADENOCARCINOMA": "AGC",
    }
)


def _squash(label: str) -> str:
    return "".join(c for c in label.upper() if c.isalnum())


_BY_SQUASHED: Mapping[str, str] = MappingProxyType({**{_squash(label): label for label in LABELS}, **_ALIASES})


def parse_label(text: str) -> str:
    """The vocabulary's label for a label as people write it (``asc_us``, ``Ascus``, ``ADC`` ...).

    Returns:
        One of :data:`LABELS`.

    Raises:
        ManifestError: the text names no Bethesda label; nothing is guessed.
    """
    label = _BY_SQUASHED.get(_squash(text))
    if label is None:
        raise ManifestError(f"'{text}' is not a Bethesda label", f"use one of {', '.join(LABELS)}")
    return label


def cell_class_of(label: str) -> str:
    """Cell class (one of :data:`CELL_CLASSES`) of a label or of a cell class as written."""
    if label in CELL_CLASSES:
        return label
    parsed = parse_label(label)
    return "ASC-H/HSIL" if parsed in {"ASC-H", "HSIL", "SCC"} else parsed


def slide_class_of(label: str) -> str:
    """Slide class (one of :data:`SLIDE_CLASSES`) of a label."""
    parsed = parse_label(label)
    return "HSIL" if parsed == "SCC" else parsed


def slide_to_cell_indices() -> tuple[int, ...]:
    """For each slide class index the index of its cell class."""
    return tuple(CELL_CLASSES.index(SLIDE_TO_CELL[name]) for name in SLIDE_CLASSES)


def most_severe(labels: Sequence[str]) -> str:
    """The label of highest :data:`SEVERITY`; NILM when there is none."""
    return max((parse_label(label) for label in labels), key=SEVERITY.__getitem__, default=NEGATIVE)


def binary_score(slide_probabilities: Sequence[float]) -> float:
    """Probability of any lesion: the sum of the positive classes' probabilities (METHOD section 8).

    Args:
        slide_probabilities: softmax probabilities in the order of :data:`SLIDE_CLASSES`.
    """
    if len(slide_probabilities) != len(SLIDE_CLASSES):
        raise ValueError(f"expected {len(SLIDE_CLASSES)} probabilities, got {len(slide_probabilities)}")
    return float(sum(p for name, p in zip(SLIDE_CLASSES, slide_probabilities, strict=True) if name != NEGATIVE))


_HYPERCHROMASIA = "hyperchromasia, darker than normal staining pattern in the nucleus"
_MEMBRANE = "irregular nuclear membrane or contour"
_CHROMATIN = "coarsely granular chromatin pattern"

PAPER_DESCRIPTIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "NILM": ("normal cell",),
        "ASC-US": (
            "nuclear enlargement to 2.5-3 times",
            _MEMBRANE,
            "mild hyperchromasia, mildly darker than normal staining pattern in the nucleus",
            _CHROMATIN,
        ),
        "LSIL": (
            "nuclear enlargement of more than 3 times",
            "binucleation or multinucleation cell",
            _CHROMATIN,
            _MEMBRANE,
            "marked nuclear dyskaryosis (raisinoid nuclei)",
            "perinuclear halo or cytoplasmic vacuolization",
            _HYPERCHROMASIA,
        ),
        "ASC-H/HSIL": (
            "high nuclear-cytoplasmic ratio",
            _HYPERCHROMASIA,
            _MEMBRANE,
            _CHROMATIN,
            "cellular pleomorphism and disordered arrangement",
            "prominent single or multiple nucleoli",
        ),
        "AGC": (
            _HYPERCHROMASIA,
            "nuclear pleomorphism, variation in size and shape of nuclei",
            _MEMBRANE,
            "cytoplasmic vacuolation",
            "cell group with rosette or acinar formation with feathering",
            "loss of nuclear polarity and disorganized arrangement",
            "upward nuclear displacement",
        ),
    }
)
"""Descriptions per cell class as the paper lists them: 25 rows, 18 distinct texts."""

AGC_DESCRIPTION = "atypical glandular cells"
"""The one text into which all AGC rows are merged for training."""

DESCRIPTIONS_BY_CLASS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {**PAPER_DESCRIPTIONS, "AGC": (AGC_DESCRIPTION,)}
)
"""Descriptions per cell class as trained, AGC merged."""

DESCRIPTION_VOCABULARY: tuple[str, ...] = tuple(
    dict.fromkeys(text for texts in DESCRIPTIONS_BY_CLASS.values() for text in texts)
)
"""The distinct training texts, in a fixed order; the text branch is keyed by them."""


def description_targets(descriptions: Sequence[str]) -> tuple[int, ...]:
    """Multi-hot row (0/1, one per vocabulary text) of a cell's descriptions.

    Raises:
        ManifestError: a text is not in :data:`DESCRIPTION_VOCABULARY`.
    """
    unknown = [text for text in descriptions if text not in DESCRIPTION_VOCABULARY]
    if unknown:
        raise ManifestError(f"'{unknown[0]}' is not a description of the vocabulary", "see stride_monai.bethesda")
    return tuple(int(text in descriptions) for text in DESCRIPTION_VOCABULARY)
