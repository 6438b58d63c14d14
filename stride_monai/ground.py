"""What each place of a slide is to a reader of its report: read, out of focus, not decoded, or left out as what."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["Ground"]


class Ground(IntEnum):
    """A place of a slide; the value stands in maps (``uint8``) and is an index of their palette."""

    GLASS = 0
    READ = 1
    OUT_OF_FOCUS = 2
    UNREADABLE = 3
    BUBBLE = 4
    PEN = 5

    @property
    def words(self) -> str:
        """For a legend."""
        return _LOOKS[self][0]

    @property
    def color(self) -> tuple[int, int, int, int]:
        """RGBA of the map; what was read well is left as it is, so that the picture below stays visible."""
        return _LOOKS[self][1]


_LOOKS = {
    Ground.GLASS: ("no deposit", (70, 80, 90, 120)),
    Ground.READ: ("read", (0, 150, 90, 40)),
    Ground.OUT_OF_FOCUS: ("read, out of focus", (255, 170, 0, 130)),
    Ground.UNREADABLE: ("could not be decoded", (210, 0, 30, 190)),
    Ground.BUBBLE: ("air bubble", (0, 120, 220, 150)),
    Ground.PEN: ("pen or opaque smear", (120, 0, 170, 150)),
}
