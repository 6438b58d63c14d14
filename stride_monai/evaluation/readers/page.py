"""``report.html`` of a reader study: one file that loads nothing, with the tables and the figures inside."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from jinja2 import Environment, StrictUndefined, Template
from matplotlib.figure import Figure

from stride_monai import __version__
from stride_monai.evaluation.readers.estimate import Estimate
from stride_monai.evaluation.readers.summary import StudySummary
from stride_monai.findings import DISCLAIMER

__all__ = ["study_page"]


def study_page(summary: StudySummary, figures: Mapping[str, Figure]) -> str:
    """The report as HTML text; every text from the tables is escaped."""
    rows: dict[str, dict[str, str]] = {}
    for one in summary.arms:
        rows.setdefault(one.measure, {})[one.arm] = _shown(one.estimate)
    differences = {one.measure: (one, said) for one, said in summary.differences}
    return _template().render(
        summary=summary,
        study=summary.study,
        rows=rows,
        differences=differences,
        pictures={name: _inside(figure) for name, figure in figures.items()},
        version=__version__,
        disclaimer=DISCLAIMER,
    )


def _shown(found: Estimate | None) -> str:
    return "-" if found is None else found.interval.text()


def _p(value: float) -> str:
    if not math.isfinite(value):
        return "-"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _number(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "-"


def _inside(figure: Figure) -> str:
    """A figure as it stands in the page."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=150)
    return base64.b64encode(stream.getvalue()).decode("ascii")


@cache
def _template() -> Template:
    source = files("stride_monai.evaluation.readers").joinpath("report.html").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"shown": _shown, "p": _p, "number": _number}
    return environment.from_string(source)
