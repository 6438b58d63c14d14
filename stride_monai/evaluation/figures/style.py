"""How figures look: sizes of a journal's columns, readable type, colors that the color-blind can tell apart."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from functools import cache, wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

import matplotlib
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from stride_monai.files import write_bytes

__all__ = [
    *("COLORS", "DOUBLE", "GRAY", "SINGLE", "drawable", "drawn_names", "new_figure", "paper_style", "png_of"),
    "save_for_paper",
]

SINGLE, DOUBLE = 3.5, 7.2
"""Width of one and of two columns of a journal, inches (89 and 183 mm)."""

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette (https://jfly.uni-koeln.de/color), the dark ones first; yellow is left out on white."""

GRAY = "#666666"

_STYLE: Mapping[str, Any] = {
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.labelsize": 8,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.fontsize": 7.5,
    "legend.edgecolor": "none",
    "legend.framealpha": 0.75,  # a poor curve runs beneath it
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "lines.linewidth": 1.4,
    "grid.linewidth": 0.5,
    "grid.alpha": 0.35,
    "pdf.fonttype": 42,  # journals ask for TrueType
    "svg.hashsalt": "stride-monai",  # the same figure gives the same bytes
}
# Names of hospitals are written in many ways; the first of these fonts that has a character draws it, then any other.
_FAMILIES = (
    *("DejaVu Sans", "Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "WenQuanYi Micro Hei"),
    *("WenQuanYi Zen Hei", "Microsoft YaHei", "PingFang SC", "SimHei", "Arial Unicode MS"),
)
_P = ParamSpec("_P")
_R = TypeVar("_R")
_drawn: WeakKeyDictionary[Figure, bytes] = WeakKeyDictionary()
_DPI = 300  # of pictures, and of the layout: type is not quite as wide at every resolution
FORMATS = ("png", "pdf", "svg")


_others: list[str] = []  # found for characters that none of those has


@cache
def _preferred() -> tuple[str, ...]:
    """Those of the list that are installed."""
    there = set(font_manager.get_font_names())
    return tuple(name for name in _FAMILIES if name in there) or ("DejaVu Sans",)


def _families() -> list[str]:
    return [*_preferred(), *_others]


@cache
def _characters(family: str) -> frozenset[int]:
    font = font_manager.get_font(font_manager.findfont(family))
    return frozenset(font.get_charmap())


def _has_them(characters: frozenset[int]) -> bool:
    return characters <= frozenset[int]().union(*(_characters(family) for family in _families()))


@cache
def _another(characters: frozenset[int]) -> str | None:
    """An installed family that has all of them; the search reads every font once."""
    for font in font_manager.fontManager.ttflist:  # not by findfont, which tells of every weight that is not there
        if font.name.startswith("Last Resort"):  # has a box for every character there is
            continue
        try:
            if characters <= frozenset(font_manager.get_font(font.fname).get_charmap()):
                return str(font.name)
        except (OSError, RuntimeError, ValueError):  # a font that FreeType cannot read
            continue
    return None


def _style() -> dict[str, Any]:
    return {**_STYLE, "font.family": _families()}


def paper_style(draw: Callable[_P, _R]) -> Callable[_P, _R]:
    """Have a function draw in this style, legends and color bars too."""

    @wraps(draw)
    def styled(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with matplotlib.rc_context(_style()):
            return draw(*args, **kwargs)

    return styled


def drawable(text: str, otherwise: str) -> str:
    """A name as it can be drawn: ``otherwise`` where no installed font has its characters, which would be boxes.

    A font that is found for them draws everything from then on that the usual ones cannot.
    """
    characters = frozenset(map(ord, text))
    if _has_them(characters):
        return text
    family = _another(characters - frozenset[int]().union(*(_characters(family) for family in _families())))
    if family is None:
        return otherwise
    within = matplotlib.rcParams["font.family"] == _families()  # a figure is being drawn in this style
    _others.append(family)
    if within:
        matplotlib.rcParams["font.family"] = _families()
    return text


def drawn_names(names: Sequence[str], kind: str) -> dict[str, str]:
    """How each name is drawn, ``Centre 3`` where no font has its characters; a table should say which is which.

    Args:
        names: all of them in their order, so that a name has one number in every figure. kind: ``Centre``.
    """
    return {name: drawable(name, f"{kind} {place + 1}") for place, name in enumerate(names)}


def new_figure(
    width: float = SINGLE, height: float | None = None, rows: int = 1, columns: int = 1, **more: Any
) -> tuple[Figure, Any]:
    """A figure and its axes (one, or an array of them), drawn without a display, within :func:`paper_style`.

    Args:
        width, height: inches; the height is that of a square plot where it is not given.
        more: of matplotlib's ``Figure.subplots``.
    """
    figure = Figure(figsize=(width, height or width / columns * rows), dpi=_DPI, layout="constrained")
    return figure, figure.subplots(rows, columns, **more)


def _saved(figure: Figure, kind: str) -> bytes:
    stamp = {"pdf": {"CreationDate": None, "ModDate": None}, "svg": {"Date": None}}.get(kind, {})
    stream = io.BytesIO()
    with matplotlib.rc_context(_style()):
        if isinstance(figure.get_layout_engine(), ConstrainedLayoutEngine):  # once, not for each format anew
            for _ in range(2):  # labels move axes, and axes labels
                figure.draw_without_rendering()
            figure.set_layout_engine("none")
        figure.savefig(stream, format=kind, dpi=_DPI, metadata=stamp)
    return stream.getvalue()


def png_of(figure: Figure) -> bytes:
    """A figure as PNG, 300 dpi; a figure is drawn once, and may not be changed after that."""
    if figure not in _drawn:
        _drawn[figure] = _saved(figure, "png")
    return _drawn[figure]


def save_for_paper(folder: Path, figures: Mapping[str, Figure]) -> None:
    """Write figures by name as ``<name>.png`` (300 dpi), ``.pdf`` and ``.svg``, each complete or not at all."""
    for name, figure in figures.items():
        for kind in FORMATS:
            write_bytes(folder / f"{name}.{kind}", png_of(figure) if kind == "png" else _saved(figure, kind))
