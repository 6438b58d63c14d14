"""Findings -> files. A writer is ``write(findings, pictures, folder) -> Path`` and leaves its file complete or absent.

The room reads :class:`~stride_monai.findings.Findings` and nothing else: no slide, no network, no torch.
"""

from __future__ import annotations

from stride_monai.reports.writers import Writer, load_writers

__all__ = ["Writer", "load_writers"]
