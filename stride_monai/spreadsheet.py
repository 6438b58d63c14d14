"""Text in tables that a spreadsheet must not take for a formula."""

from __future__ import annotations

import re
from math import isnan

__all__ = ["as_typed", "harmless"]

_NUMBERS = re.compile(r"[+-]?\d[\d.]*(?:[ ,;]+[+-]?\d[\d.]*)+")
_DOUBTFUL = frozenset("=+-@\t\r\n'")


def harmless(text: str) -> str:
    """The text of a cell, with an apostrophe before it where a spreadsheet would calculate it; numbers stay as such.

    A file name, a patient or a message may begin with ``=``, ``+``, ``-``, ``@`` or a control character, and come from
    anywhere. :func:`as_typed` takes the apostrophe away.
    """
    if text[:1] not in _DOUBTFUL or not text or _is_number(text):
        return text
    # Text that has an apostrophe before such a character gets another, so that both come back as they were.
    return f"'{text}" if text[0] != "'" or as_typed(text) != text else text


def as_typed(text: str) -> str:
    """Inverse of :func:`harmless`."""
    rest = text[1:]
    if text[:1] != "'" or harmless(rest) == rest:
        return text
    return rest


def _is_number(text: str) -> bool:
    """A number, or a list of numbers such as an outline."""
    if _NUMBERS.fullmatch(text):
        return True
    try:
        return not isnan(float(text))
    except ValueError:
        return False
