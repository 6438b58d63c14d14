"""Whether a slide can be judged: its quality, and the Bethesda rules on it. Every threshold of quality stands here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from stride_monai.errors import ConfigError, SlideError, check_name
from stride_monai.findings import Quality, SlideFacts

if TYPE_CHECKING:
    from stride_monai.inferers.slide_detection import Detections

__all__ = ["RULES", "QualityRules", "is_damaged", "made_satisfactory", "quality_of", "why_unsatisfactory"]

_FIELD_READER = "image"  # a photographed field has no deposit to judge adequacy from
_TWO_SIDED_95 = 1.96


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityRules:
    """The thresholds.

    Attributes:
        min_cells: squamous cells of a satisfactory liquid-based preparation (The Bethesda System, 3rd edition: an
            estimated minimum). A note says where the estimate's interval reaches below it.
        count_spread: standard deviation of the logarithm of counted over true cells, from slide to slide. Measured on
            synthetic slides of laboratories drawn at random (``benchmarks/cell_counts.py``); real ones may differ more.
        out_of_focus: fine detail (:func:`~stride_monai.inferers.fine_detail`) below which a tile is out of focus: a
            blur with a standard deviation of about 1.5 um, where a threshold loses a tenth of its sensitivity
            (docs/robustness.md).
        obscured: share of the deposit's area that is out of focus, not decoded or under bubbles above which a slide is
            unsatisfactory: Bethesda's 75 %.
        unreadable_fails: share of the tiles with cells, or of the cells, above which a slide that cannot be decoded
            there has failed: what is left is no picture of the specimen.
        unreadable_unsatisfactory: share above which it is unsatisfactory, and so never called negative.
        abnormal_cell: probability of all classes from ASC-US on at which a cell counts as abnormal.
    """

    min_cells: int = 5_000
    count_spread: float = 0.24
    out_of_focus: float = 0.18
    obscured: float = 0.75
    unreadable_fails: float = 0.5
    unreadable_unsatisfactory: float = 0.1
    abnormal_cell: float = 0.5

    @classmethod
    def of(cls, changed: Mapping[str, float]) -> QualityRules:
        """The defaults but for some.

        Raises:
            ConfigError: there is no such threshold, or it cannot be such a number.
        """
        names = [item.name for item in fields(cls)]
        for name, value in changed.items():
            check_name("threshold of quality", name, names)
            most = math.inf if name in {"min_cells", "count_spread", "out_of_focus"} else 1.0
            if not (math.isfinite(value) and 0 <= value <= most):
                raise ConfigError(f"invalid {name} {value:g}", f"give a number from 0{' to 1' if most == 1 else ''}")
        values: dict[str, Any] = dict(changed)
        if "min_cells" in values:
            values["min_cells"] = math.ceil(values["min_cells"])
        return cls(**values)

    def interval(self, counted: int) -> tuple[int, int]:
        """The cells that there may be where so many nuclei were counted: 95 %, of the part of the slide that was read.

        The error of counting is taken to be a factor that is the same all over a slide and log-normal from slide to
        slide; chance on top of it is small (1 / sqrt(cells)) and counted in. Columnar cells, which are few, count too.
        """
        if counted <= 0:
            return 0, 0
        reach = math.exp(_TWO_SIDED_95 * math.hypot(self.count_spread, 1 / math.sqrt(counted)))
        return math.floor(counted / reach), math.ceil(counted * reach)


RULES = QualityRules()


def quality_of(
    found: Detections,
    facts: SlideFacts,
    unreadable_crops: int,
    chosen: Sequence[str],
    part: bool = False,
    rules: QualityRules = RULES,
) -> Quality:
    """The quality of a slide.

    Args:
        unreadable_crops: cells that could not be decoded.
        chosen: what the reader decided where the file leaves a choice, in words.
        part: only a part of the slide was looked at.
    """
    field = facts.reader == _FIELD_READER
    unreadable = found.unreadable + unreadable_crops
    interval, adequate = rules.interval(found.estimated_cells), found.estimated_cells >= rules.min_cells
    notes = [*(f"{note[:1].upper()}{note[1:]}." for note in chosen), *found.foreground.notes]
    if field or part:
        notes.append(f"{'A single field' if field else 'A part of the slide'}: adequacy is not assessed.")
    elif adequate and interval[0] < rules.min_cells:
        notes.append(
            f"There may be fewer than {rules.min_cells:,} squamous cells ({interval[0]:,} to {interval[1]:,})."
        )
    if unreadable:
        notes.append(f"{unreadable} regions could not be decoded and were not examined.")
    areas = found.foreground.areas_mm2()
    if areas["out_of_focus"] > 0:
        share = areas["out_of_focus"] / found.foreground.area_mm2
        notes.append(f"{100 * share:.0f} % of the deposit is out of focus: cells may be missed there.")
    return Quality(
        foreground_mm2=found.foreground.area_mm2,
        estimated_cells=found.estimated_cells,
        cells_interval=interval,
        focus=found.focus,
        stain=found.stain,
        pen_fraction=found.foreground.pen_fraction,
        tiles_read=found.tiles_read,
        unreadable_regions=unreadable,
        adequate=None if field or part else adequate,
        notes=tuple(notes),
        areas_mm2=None if part else areas,
    )


def why_unsatisfactory(
    name: str, found: Detections, quality: Quality, cells: int, unreadable_crops: int, rules: QualityRules = RULES
) -> str:
    """Why a slide is unsatisfactory; empty where it is not. Of its cells nothing is known here but how many there are.

    Args:
        cells: those that could be decoded.

    Raises:
        SlideError: more of it cannot be decoded than can.
    """
    damage = [
        *_damage(name, found.unreadable, found.tiles_read + found.unreadable, "tiles with cells", rules),
        *_damage(name, unreadable_crops, cells + unreadable_crops, "suspicious cells", rules),
    ]
    if damage:
        return "; ".join(damage)
    if found.tiles_read == 0:
        return "no deposit was found on the slide"
    if quality.adequate is False:
        low, high = quality.cells_interval or (0, 0)
        return (
            f"about {found.estimated_cells:,} squamous cells ({low:,} to {high:,}): "
            f"fewer than the {rules.min_cells:,} of an adequate slide"
        )
    if quality.adequate is not None and (share := _obscured(quality)) > rules.obscured:
        return f"{100 * share:.0f} % of the deposit is out of focus, under bubbles or could not be decoded"
    return ""


def is_damaged(quality: Quality, cells: int, unreadable_crops: int, rules: QualityRules = RULES) -> bool:
    """Whether so much cannot be decoded that the slide is unsatisfactory, whatever else is seen on it.

    Args:
        cells: those that could be decoded.
    """
    tiles = (quality.unreadable_regions or 0) - unreadable_crops
    tried = ((tiles, (quality.tiles_read or 0) + tiles), (unreadable_crops, cells + unreadable_crops))
    return any(lost > rules.unreadable_unsatisfactory * of for lost, of in tried)


def made_satisfactory(
    reason: str, call: str | None, probabilities: Sequence[Sequence[float]], rules: QualityRules = RULES
) -> str:
    """What to say of a slide that lacks something and is satisfactory for its abnormal cells; empty where it is not.

    Bethesda: a specimen with abnormal cells, ASC-US or worse, is satisfactory whatever else it lacks. A network finds
    something that looks like one on almost every slide; so a cell makes a slide satisfactory only where the slide is
    called positive too. A slide that is not stays unsatisfactory, and is never negative.

    Args:
        reason: what the specimen lacks; empty for nothing. A damaged file (:func:`is_damaged`) is none of it.
        call: at the operating point.
        probabilities: of the cell classes, by cell.
    """
    abnormal = sum(1 - cell[0] >= rules.abnormal_cell for cell in probabilities)
    if not reason or call != "positive" or not abnormal:
        return ""
    cells = "one abnormal cell makes" if abnormal == 1 else f"{abnormal:,} abnormal cells make"
    return f"Satisfactory, as {cells} it so, but: {reason}."


def _obscured(quality: Quality) -> float:
    areas = quality.areas_mm2 or {}
    hidden = sum(areas.get(kind, 0.0) for kind in ("out_of_focus", "unreadable", "bubble"))
    return hidden / max(hidden + areas.get("read", 0.0), 1e-9)


def _damage(name: str, unreadable: int, tried: int, what: str, rules: QualityRules) -> list[str]:
    """What could not be decoded: damage is no finding about the specimen."""
    if unreadable > rules.unreadable_fails * tried:
        raise SlideError(
            f"{name}: {unreadable:,} of {tried:,} {what} cannot be decoded", "copy it again from the scanner"
        )
    if unreadable > rules.unreadable_unsatisfactory * tried:
        return [f"{unreadable:,} of {tried:,} {what} could not be decoded and were not examined"]
    return []
