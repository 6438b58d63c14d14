"""``report.html``: one file for a person, the slide beside a gallery of its most suspicious cells.

Self-contained: pictures, styles and the few lines of script are inside, and its content security policy forbids the
browser to load anything else. Every text is escaped; without script it shows the same, only less conveniently.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stride_monai.exporters.view import view_of
from stride_monai.files import write_bytes
from stride_monai.findings import Findings, Pictures, Screened
from stride_monai.pages import template

__all__ = ["FILE_NAME", "page", "write"]

FILE_NAME = "report.html"


def write(screened: Screened, folder: Path, settings: Mapping[str, Any]) -> Path:
    """Write ``folder/report.html``; the same findings and pictures give the same bytes."""
    path = folder / FILE_NAME
    write_bytes(path, page(screened.findings, screened.pictures).encode())
    return path


def page(findings: Findings, pictures: Pictures) -> str:
    """The report as HTML text."""
    return template("stride_monai.exporters", FILE_NAME).render(findings=findings, view=view_of(findings, pictures))
