"""um/px at level 0: which of the values at hand is used, and which are refused."""

from __future__ import annotations

import math
from typing import NamedTuple

from stride_monai.errors import SpacingError
from stride_monai.slides.protocol import StatedFacts

__all__ = ["MPP_RANGE", "Spacing", "choose_spacing"]

MPP_RANGE = (0.1, 1.1)
"""um/px that a scan for cytology can plausibly have: from 100x oil to 9x."""

_MAX_ANISOTROPY = 1.05
_REMEDY = "pass the scanner's um/px at full resolution, e.g. --mpp 0.25"


class Spacing(NamedTuple):
    """um/px in use, where it comes from (``given``, ``metadata``, ``objective``) and what the file itself states."""

    mpp: float
    source: str
    in_file: float | None


def choose_spacing(name: str, stated: StatedFacts, given: float | None) -> Spacing:
    """um/px of a slide: the given value, else the file's, else 10 / objective power; never a guess.

    Args:
        name: file name, for the message.
        stated: what the file states.
        given: um/px from the user, which wins over everything.

    Raises:
        SpacingError: no value, an implausible one (outside :data:`MPP_RANGE`), or x and y differ by more than 5 %.
    """
    in_file = _mean(stated.mpp_x, stated.mpp_y)
    low, high = MPP_RANGE
    if given is not None:
        if not low <= given <= high:
            raise SpacingError(
                f"{name}: --mpp {given:g} is outside {low}-{high} um/px", "give um per pixel at full resolution"
            )
        return Spacing(float(given), "given", in_file)
    if in_file is not None:
        _check(name, stated, in_file)
        return Spacing(in_file, "metadata", in_file)
    if stated.objective is not None and stated.objective > 0:
        mpp = 10.0 / stated.objective
        if not low <= mpp <= high:
            raise SpacingError(
                f"{name}: no um/px in the file, and its {stated.objective:g}x objective would mean {mpp:.4g} um/px, "
                f"outside {low}-{high}",
                _REMEDY,
            )
        return Spacing(mpp, "objective", None)
    raise SpacingError(f"{name} states neither um/px nor objective power", _REMEDY)


def _check(name: str, stated: StatedFacts, in_file: float) -> None:
    x, y = stated.mpp_x, stated.mpp_y
    low, high = MPP_RANGE
    if x is not None and y is not None and (min(x, y) <= 0 or max(x, y) / min(x, y) > _MAX_ANISOTROPY):
        raise SpacingError(f"{name} states different um/px in x and y ({x:.4g} and {y:.4g})", _REMEDY)
    if not low <= in_file <= high:
        raise SpacingError(f"{name} states {in_file:.4g} um/px, which is outside {low}-{high}", _REMEDY)


def _mean(x: float | None, y: float | None) -> float | None:
    values = [v for v in (x, y) if v is not None and math.isfinite(v)]
    return sum(values) / len(values) if values else None
