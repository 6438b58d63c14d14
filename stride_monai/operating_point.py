"""The operating point of a slide classifier as a file: the threshold, how it was chosen, and what it holds for.

``stride-monai operating-point`` and training write it, ``stride-monai screen --operating-point`` applies it. It holds
for one set of weights, one K and one um/px; with others screening refuses it. Fields: docs/artifacts.md.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stride_monai import __version__
from stride_monai.errors import ConfigError
from stride_monai.files import write_bytes
from stride_monai.findings import DISCLAIMER

__all__ = [
    "RULES",
    "SLIDE_MPP_TOLERANCE",
    "ChosenOn",
    "HoldsFor",
    "OperatingPointFile",
    "Share",
    "read_operating_point",
    "write_operating_point",
]

SCHEMA_VERSION = "1.1"
RULES: Mapping[str, str] = {
    "plain": "the highest threshold whose sensitivity on these slides is at least the target",
    "conformal": "the highest threshold whose sensitivity on new slides is at least the target, with the confidence",
}
SLIDE_MPP_TOLERANCE = 0.1
"""Share by which a slide's um/px may lie outside those of the slides that a threshold was chosen on: scanners of one
nominal magnification differ by so much, the next magnification by a factor of two."""


@dataclass(frozen=True, slots=True)
class Share:
    """A share of slides with its 95 % interval (Clopper-Pearson), 0-1."""

    value: float
    low: float
    high: float
    found: int
    of: int


@dataclass(frozen=True, slots=True)
class ChosenOn:
    """The slides that a threshold was chosen on.

    Attributes:
        split: what they are of the cohort: ``validation``.
        split_from: who says so: ``table`` (the truth table), ``user`` or ``training``.
        left_out: why -> how many slides of the split had no part in it.
        cohort_sha256: names the slides and their truth: SHA-256 of the lines ``<slide id><tab><label>``, sorted; empty
            where ids are not known.
    """

    slides: int
    positives: int
    negatives: int
    cohort_sha256: str
    split: str = "validation"
    split_from: str = "table"
    left_out: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HoldsFor:
    """What a threshold on the slide score holds for; None or empty for what is not known.

    Attributes:
        classifier: name of the slide classifier's bundle.
        weights: part -> SHA-256 of its weights file, as in the provenance of findings: the slide classifier's, and
            those of what chose the cells.
        cells_chosen_by: names what chose the cells (:func:`stride_monai.data.bags.bag.chosen_by`).
        bag_size: K, cells that the slide is decided from.
        tile_mpp, crop_mpp: um/px at which cells are looked for, and judged.
        slide_mpp: the least and the greatest um/px at level 0 of the slides.
        precision: in which detector and cell encoder were computed; an older file says nothing of it, and means
            float32. int8: of int8 the SHA-256 of each network's files, which say what it was calibrated on.
    """

    classifier: str = ""
    weights: Mapping[str, str] = field(default_factory=dict)
    cells_chosen_by: str = ""
    bag_size: int | None = None
    tile_mpp: float | None = None
    crop_mpp: float | None = None
    slide_mpp: tuple[float, float] | None = None
    precision: str = "float32"
    int8: Mapping[str, str] = field(default_factory=dict)

    @property
    def classifier_sha256(self) -> str:
        """Of the slide classifier's weights; empty if not known."""
        return self.weights.get(self.classifier, "")

    def differences(self, now: HoldsFor) -> list[str]:
        """In words, where ``now`` is known to be something else; um/px of slides are left to :meth:`takes_slide`."""
        found = []
        mine, other = self.classifier_sha256, now.classifier_sha256
        if mine and other and mine != other:
            found.append(f"weights {other[:12]} of {now.classifier}, it holds for {mine[:12]} of {self.classifier}")
        mine, other = self.cells_chosen_by, now.cells_chosen_by
        if mine and other and mine != other:
            found.append(f"cells chosen by {other[:12]}, it holds for those of {mine[:12]}")
        if self.precision != now.precision:
            found.append(f"precision {now.precision}, it holds for {self.precision}")
        elif dict(self.int8) != dict(now.int8):
            found.append("other int8 networks than those it was chosen with")
        for name, called in (("bag_size", "K"), ("tile_mpp", "um/px of tiles"), ("crop_mpp", "um/px of crops")):
            held, used = getattr(self, name), getattr(now, name)
            if held is not None and used is not None and not math.isclose(held, used, rel_tol=1e-6):
                found.append(f"{called} {used:g}, it holds for {held:g}")
        return found

    def takes_slide(self, mpp: float) -> bool:
        """Whether a slide of this um/px is like those it was chosen on, to within :data:`SLIDE_MPP_TOLERANCE`."""
        if self.slide_mpp is None:
            return True
        low, high = self.slide_mpp
        return low * (1 - SLIDE_MPP_TOLERANCE) <= mpp <= high * (1 + SLIDE_MPP_TOLERANCE)


@dataclass(frozen=True, slots=True)
class OperatingPointFile:
    """A threshold on the slide score, how it was chosen, what it achieved, and what it holds for.

    Attributes:
        threshold: a slide is called positive at or above it, 0-1.
        rule: one of :data:`RULES`.
        target: sensitivity asked for, (0, 1].
        confidence: of the conformal bound; None for the plain rule.
        sensitivity, specificity: achieved on the slides that it was chosen on.
        others: by rule what it would have given on the same slides: ``threshold``, ``sensitivity``, ``specificity``;
            or ``why_not``.
        date: ISO 8601, of the day on which it was chosen, UTC.
    """

    threshold: float
    rule: str
    target: float
    confidence: float | None
    sensitivity: Share
    specificity: Share
    chosen_on: ChosenOn
    holds_for: HoldsFor
    date: str
    others: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    schema_version: str = SCHEMA_VERSION
    package_version: str = __version__
    disclaimer: str = DISCLAIMER

    def in_words(self) -> str:
        """How it was chosen, for a sentence."""
        on = f"{self.chosen_on.slides:,} {self.chosen_on.split} slides"
        sure = "" if self.confidence is None else f" with {100 * self.confidence:.0f} % confidence"
        return f"{self.rule} rule, sensitivity at least {self.target:g}{sure}, {on}"

    def to_json(self) -> str:
        """JSON text with sorted keys; the threshold to the last bit."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True, indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str, name: str = "the file") -> OperatingPointFile:
        """Inverse of :meth:`to_json`.

        Raises:
            ConfigError: the text is no operating point of this schema version.
        """
        advice = "make it by stride-monai operating-point"
        try:
            raw = json.loads(text)
            if raw["schema_version"].split(".")[0] != SCHEMA_VERSION.split(".")[0]:
                version = raw["schema_version"]
                raise ConfigError(f"{name} is an operating point of schema {version}, which is not known", advice)
            slide_mpp = raw["holds_for"].get("slide_mpp")
            held = {**raw["holds_for"], "slide_mpp": None if slide_mpp is None else tuple(slide_mpp)}
            parts = {
                "sensitivity": Share(**raw["sensitivity"]),
                "specificity": Share(**raw["specificity"]),
                "chosen_on": ChosenOn(**raw["chosen_on"]),
                "holds_for": HoldsFor(**held),
            }
            point = cls(**{**raw, **parts})
            _check(point)
            return point
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise ConfigError(f"{name} is no operating point ({error})", advice) from error


def _check(point: OperatingPointFile) -> None:
    """Raises:
    ValueError: a value cannot be.
    """
    held = point.holds_for
    numbers = [point.threshold, point.target, *(x for x in (held.tile_mpp, held.crop_mpp) if x is not None)]
    numbers += held.slide_mpp or ()
    if any(isinstance(x, bool) or not isinstance(x, int | float) or not math.isfinite(x) for x in numbers):
        raise ValueError("a number is none")
    if not 0 <= point.threshold <= 1 or not 0 < point.target <= 1:
        raise ValueError("threshold or target is not within 0 and 1")
    if held.bag_size is not None and (isinstance(held.bag_size, bool) or not isinstance(held.bag_size, int)):
        raise ValueError("bag_size is no whole number")
    texts = [held.precision, *held.weights.values(), *held.int8.values()]
    if point.rule not in RULES or not all(isinstance(text, str) for text in texts):
        raise ValueError("a text is another than it should be")


def read_operating_point(path: Path) -> OperatingPointFile:
    """Raises:
    ConfigError: there is no such file, or it is no operating point.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise ConfigError(
            f"{path.absolute()} cannot be read ({reason})", "name a file of stride-monai operating-point"
        ) from error
    return OperatingPointFile.from_json(text, str(path.absolute()))


def write_operating_point(path: Path, point: OperatingPointFile) -> None:
    """Raises:
    OutputError: it cannot be written.
    """
    write_bytes(path, point.to_json().encode())
