"""What a reader or a panel says of a slide: one Bethesda label, several at once, or ``positive`` alone."""

from __future__ import annotations

from typing import NamedTuple

from stride_monai.bethesda import LABELS, NEGATIVE, REPORT_GROUPS, SEVERITY, parse_label
from stride_monai.errors import ManifestError

__all__ = ["POSITIVE", "Diagnosis", "parse_diagnosis"]

POSITIVE = "positive"
"""Said where a lesion was called without its class, as a system's binary result is written."""
_LEAST = "ASC-US+"  # every lesion belongs to this group


class Diagnosis(NamedTuple):
    """What was said of a slide.

    Attributes:
        labels: of :data:`~stride_monai.bethesda.LABELS`, the most severe first; empty where only :data:`POSITIVE` was
            said.
    """

    labels: tuple[str, ...]

    @property
    def label(self) -> str | None:
        """The most severe label; None for a lesion of no stated class."""
        return self.labels[0] if self.labels else None

    @property
    def severity(self) -> int | None:
        """Rank of the most severe label, 0 (NILM) to 6; None for a lesion of no stated class."""
        return SEVERITY[self.labels[0]] if self.labels else None

    def within(self, group: str) -> bool | None:
        """Whether it is at or above a threshold such as ``LSIL+``; None where a bare ``positive`` leaves it open."""
        if not self.labels:
            return True if group == _LEAST else None
        return self.labels[0] in REPORT_GROUPS[group]

    def __str__(self) -> str:
        return "+".join(self.labels) or POSITIVE


def parse_diagnosis(text: str) -> Diagnosis:
    """A diagnosis as people write it: ``ascus``, ``ASC-H+LSIL``, ``positive``.

    Raises:
        ManifestError: a part names no Bethesda label, or NILM stands beside a lesion; nothing is guessed.
    """
    if text.strip().lower() == POSITIVE:
        return Diagnosis(())
    parts = [part.strip() for part in text.split("+")]
    if not all(parts):
        raise ManifestError(f"'{text}' is no diagnosis", "write labels with + between them, such as ASC-H+LSIL")
    labels = {parse_label(part) for part in parts}
    if NEGATIVE in labels and len(labels) > 1:
        raise ManifestError(f"'{text}' is negative and a lesion at once", f"write one of {', '.join(LABELS)}")
    return Diagnosis(tuple(sorted(labels, key=SEVERITY.__getitem__, reverse=True)))
