"""um/px at level 0: which of the values at hand is used, and which are refused."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

from stride_monai.errors import SpacingError
from stride_monai.slides.protocol import StatedFacts

__all__ = ["GIVEN_RANGE", "MPP_RANGE", "Spacing", "choose_spacing", "stated_number"]

MPP_RANGE = (0.1, 1.1)
"""um/px that a file may state and be believed: from 100x oil to 9x. A tag that means 72 dpi lies far outside."""

GIVEN_RANGE = (0.03, 2.0)
"""um/px that a user may give: any light microscope's, with 60x and 100x lenses and small camera pixels too."""

_MAX_ANISOTROPY = 1.05
_DECIMAL_COMMA = re.compile(r"\s*[+-]?\d*,\d+\s*")
_REMEDY = "pass the scanner's um/px at full resolution, e.g. --mpp 0.25"


class Spacing(NamedTuple):
    """um/px in use, where it comes from (``given``, ``metadata``, ``objective``) and what the file itself states."""

    mpp: float
    source: str
    in_file: float | None


def choose_spacing(name: str, stated: StatedFacts, given: float | None) -> Spacing:
    """um/px of a slide: the given value, else the file's, else 10 / objective power; never a guess.

    A stated 0, or less, is how some scanners say that they do not know: it counts as not stated.

    Args:
        name: file name, for the message.
        given: um/px from the user, which wins over everything.

    Raises:
        SpacingError: no value, an implausible one (outside :data:`MPP_RANGE`; :data:`GIVEN_RANGE` for a given one), or
            x and y differ by more than 5 %.
    """
    x, y, objective = _known(stated.mpp_x), _known(stated.mpp_y), _known(stated.objective)
    in_file = _mean(x, y)
    if given is not None:
        low, high = GIVEN_RANGE
        if not low <= given <= high:
            raise SpacingError(
                f"{name}: --mpp {given:g} (or that of its manifest) is outside {low:g}-{high:g} um/px",
                "give um/px at full resolution",
            )
        return Spacing(float(given), "given", in_file)
    low, high = MPP_RANGE
    if in_file is not None:
        _check(name, x, y, in_file)
        return Spacing(in_file, "metadata", in_file)
    if objective is not None:
        mpp = 10.0 / objective
        if not low <= mpp <= high:
            raise SpacingError(
                f"{name}: no um/px in the file, and its {objective:g}x objective would mean {mpp:.4g} um/px, "
                f"outside {low}-{high}",
                _REMEDY,
            )
        return Spacing(mpp, "objective", None)
    raise SpacingError(f"{name} states neither um/px nor objective power", _REMEDY)


def stated_number(text: object) -> float | None:
    """A finite number as files state it, also with a decimal comma; None where there is none."""
    if isinstance(text, str) and _DECIMAL_COMMA.fullmatch(text):
        text = text.replace(",", ".")
    try:
        value = float(text)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def _known(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) and value > 0 else None


def _check(name: str, x: float | None, y: float | None, in_file: float) -> None:
    low, high = MPP_RANGE
    if x is not None and y is not None and max(x, y) / min(x, y) > _MAX_ANISOTROPY:
        raise SpacingError(f"{name} states different um/px in x and y ({x:.4g} and {y:.4g})", _REMEDY)
    if not low <= in_file <= high:
        raise SpacingError(f"{name} states {in_file:.4g} um/px, which is outside {low}-{high}", _REMEDY)


def _mean(x: float | None, y: float | None) -> float | None:
    values = [value for value in (x, y) if value is not None]
    return sum(values) / len(values) if values else None
