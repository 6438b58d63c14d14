"""What can be said of the quality of a slide whose cells were looked for, and whether that is enough to judge it."""

from __future__ import annotations

from collections.abc import Sequence

from stride_monai.errors import SlideError
from stride_monai.findings import Quality, SlideFacts
from stride_monai.inferers.slide_detection import Detections

__all__ = ["MIN_CELLS", "quality_of", "why_unsatisfactory"]

MIN_CELLS = 5_000  # Bethesda's adequacy floor for liquid-based preparations
UNREADABLE_FAILS = 0.5
"""Share of the tiles with cells, or of the cells, above which a slide that cannot be decoded there has failed: what is
left is no picture of the specimen."""
UNREADABLE_UNSATISFACTORY = 0.1
"""Share above which a slide is unsatisfactory, and so never called negative, for what could not be decoded."""
_FIELD_READER = "image"  # a photographed field has no deposit to judge adequacy from


def quality_of(
    found: Detections, facts: SlideFacts, unreadable_crops: int, chosen: Sequence[str], part: bool = False
) -> Quality:
    """The quality of a slide.

    Args:
        found: what the detector found.
        unreadable_crops: cells that could not be decoded.
        chosen: what the reader decided where the file leaves a choice, in words.
        part: only a part of the slide was looked at.
    """
    field = facts.reader == _FIELD_READER
    unreadable = found.unreadable + unreadable_crops
    notes = [*(f"{note[:1].upper()}{note[1:]}." for note in chosen), *found.foreground.notes]
    if field or part:
        notes.append(f"{'A single field' if field else 'A part of the slide'}: adequacy is not assessed.")
    if unreadable:
        notes.append(f"{unreadable} regions could not be decoded and were not examined.")
    return Quality(
        foreground_mm2=found.foreground.area_mm2,
        estimated_cells=found.estimated_cells,
        focus=found.focus,
        pen_fraction=found.foreground.pen_fraction,
        tiles_read=found.tiles_read,
        unreadable_regions=unreadable,
        adequate=None if field or part else found.estimated_cells >= MIN_CELLS,
        notes=tuple(notes),
    )


def why_unsatisfactory(name: str, found: Detections, quality: Quality, cells: int, unreadable_crops: int) -> str:
    """Why a slide is unsatisfactory; empty where it is not.

    Args:
        name: of the slide's file, for the message.
        found, quality, unreadable_crops: as of :func:`quality_of`.
        cells: those that could be decoded.

    Raises:
        SlideError: more of it cannot be decoded than can.
    """
    damage = [
        *_damage(name, found.unreadable, found.tiles_read + found.unreadable, "tiles with cells"),
        *_damage(name, unreadable_crops, cells + unreadable_crops, "suspicious cells"),
    ]
    if damage:
        return "; ".join(damage)
    if found.tiles_read == 0:
        return "no deposit was found on the slide"
    if quality.adequate is False:
        return f"about {found.estimated_cells:,} nucleated cells, fewer than the {MIN_CELLS:,} of an adequate slide"
    return ""


def _damage(name: str, unreadable: int, tried: int, what: str) -> list[str]:
    """What could not be decoded: damage is no finding about the specimen."""
    if unreadable > UNREADABLE_FAILS * tried:
        raise SlideError(
            f"{name}: {unreadable:,} of {tried:,} {what} cannot be decoded", "copy it again from the scanner"
        )
    if unreadable > UNREADABLE_UNSATISFACTORY * tried:
        return [f"{unreadable:,} of {tried:,} {what} could not be decoded and were not examined"]
    return []
