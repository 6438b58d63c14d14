"""Synthetic Papanicolaou slides and cohorts with known truth.

Every score on a synthetic slide is a software test, never evidence of clinical performance.
"""

from __future__ import annotations

from stride_monai.phantom.centres import CENTRES, SITES
from stride_monai.phantom.render import draw_cell, render_field, render_slide
from stride_monai.phantom.stain import Centre
from stride_monai.phantom.truth import SlideTruth, TruthCell, write_truth_geojson

__all__ = [
    "CENTRES",
    "SITES",
    "Centre",
    "SlideTruth",
    "TruthCell",
    "draw_cell",
    "render_field",
    "render_slide",
    "write_truth_geojson",
]
