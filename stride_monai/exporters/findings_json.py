"""``findings.json``: everything that is known of one slide, as canonical JSON."""

from __future__ import annotations

from pathlib import Path

from stride_monai.errors import OutputError
from stride_monai.files import write_bytes
from stride_monai.findings import Findings, Pictures

__all__ = ["FILE_NAME", "write"]

FILE_NAME = "findings.json"


def write(findings: Findings, pictures: Pictures, folder: Path) -> Path:
    """Write ``folder/findings.json``; the same findings give the same bytes.

    Raises:
        OutputError: the folder cannot be written to, or a value is not a finite number.
    """
    try:
        text = findings.to_json()
    except ValueError as error:
        raise OutputError(
            f"the findings of {findings.slide.file_name} hold a value that JSON cannot ({error})",
            "check the weights and the operating point",
        ) from error
    path = folder / FILE_NAME
    write_bytes(path, text.encode())
    return path
