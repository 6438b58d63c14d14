"""``findings.json``: everything that is known of one slide, as canonical JSON."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stride_monai.errors import OutputError
from stride_monai.files import write_bytes
from stride_monai.findings import Screened

__all__ = ["FILE_NAME", "write"]

FILE_NAME = "findings.json"


def write(screened: Screened, folder: Path, settings: Mapping[str, Any]) -> Path:
    """Write ``folder/findings.json``; the same findings give the same bytes."""
    try:
        text = screened.findings.to_json()
    except ValueError as error:
        raise OutputError(
            f"the findings of {screened.findings.slide.name} hold a value that JSON cannot ({error})",
            "check the weights and the operating point",
        ) from error
    path = folder / FILE_NAME
    write_bytes(path, text.encode())
    return path
