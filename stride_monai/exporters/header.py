"""What every file about a slide says of itself: by what, with which weights and of which slide it was made."""

from __future__ import annotations

from typing import Any

from stride_monai.findings import Findings

__all__ = ["header_of"]


def header_of(findings: Findings) -> dict[str, Any]:
    """Plain JSON types by name, always in this order."""
    return {
        "schema_version": findings.schema_version,
        "package_version": findings.provenance.package_version,
        "slide_id": findings.slide.slide_id,
        "mpp": round(findings.slide.mpp, 6),
        "config_hash": findings.provenance.config_hash,
        "weights_sha256": dict(findings.provenance.weights),
        "weights_note": findings.provenance.weights_note,
        "described": findings.described.to_dict(),
        "disclaimer": findings.disclaimer,
    }
