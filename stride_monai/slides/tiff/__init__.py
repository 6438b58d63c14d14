"""TIFF: what a file is (:mod:`layout`), from its own tags alone, and its tiles as RGB."""

from __future__ import annotations

from stride_monai.slides.tiff.color import Colors
from stride_monai.slides.tiff.decode import decode_segment, is_cut_jpeg
from stride_monai.slides.tiff.directory import FileBytes, TiffError, is_tiff
from stride_monai.slides.tiff.layout import TiffLayout, open_layout, read_layout

__all__ = [
    "Colors",
    "FileBytes",
    "TiffError",
    "TiffLayout",
    "decode_segment",
    "is_cut_jpeg",
    "is_tiff",
    "open_layout",
    "read_layout",
]
