"""What all reports share: numbers as JSON has them, the facts at the head of a report, and complete files."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from stride_monai import __version__
from stride_monai.files import replacing, sha256_of, write_bytes

__all__ = [
    *(
        "counted",
        "hash_of",
        "header",
        "new_axes",
        "p_text",
        "percent",
        "plain",
        "plain_list",
        "save_figures",
        "write_report",
    ),
]


def plain(value: Any) -> float | None:
    """Six decimals; None for what is not defined, which JSON has no word for."""
    return round(float(value), 6) if math.isfinite(value) else None


def plain_list(values: Iterable[Any]) -> list[float | None]:
    """:func:`plain` of each."""
    return [plain(value) for value in values]


def percent(value: float, digits: int = 1) -> str:
    """``98.4 %``; a dash for what is not defined."""
    return f"{100 * value:.{digits}f} %" if math.isfinite(value) else "–"


def counted(number: int, one: str, many: str = "") -> str:
    """``1 slide``, ``12,000 slides``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def p_text(value: float) -> str:
    """A p-value: ``0.012``, ``< 0.001``; a dash for what is not defined."""
    return "–" if not math.isfinite(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"


def header(schema_version: str) -> dict[str, Any]:
    """The first fields of a report: the version of its fields, and of the package."""
    return {"schema_version": schema_version, "package_version": __version__}


def hash_of(weights: Path | str | None) -> str | None:
    """SHA-256 of the weights file that is judged; None for none."""
    return sha256_of(Path(weights)) if weights else None


def new_axes(xlabel: str, ylabel: str, size: tuple[float, float] = (6.4, 4.8), **settings: Any) -> tuple[Figure, Any]:
    """A figure of one plot with a grid, drawn without a display; ``settings`` of matplotlib's axes."""
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot(xlabel=xlabel, ylabel=ylabel, **settings)
    axes.grid(alpha=0.3)
    return figure, axes


def write_report(path: Path, report: Mapping[str, Any], indent: int | None = 1) -> None:
    """Write a report as JSON, complete or not at all."""
    write_bytes(path, (json.dumps(report, indent=indent) + "\n").encode())


def save_figures(folder: Path, figures: Mapping[str, Figure]) -> None:
    """Write figures by name as ``<name>.png``, each complete or not at all."""
    for name, figure in figures.items():
        with replacing(folder / f"{name}.png") as temporary:
            figure.savefig(temporary, format="png", dpi=150)
