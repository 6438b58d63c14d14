"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["BundlesOption", "ImageOption", "MppOption", "PlaneOption", "QualityOption", "WeightsOption"]

MppOption = Annotated[
    float | None, typer.Option("--mpp", help="um/px at full resolution; wins over what the file states.")
]
BundlesOption = Annotated[
    Path | None,
    typer.Option("--bundles", help="Folder with bundles of yours, some or all; the others are the package's."),
]
WeightsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--weights",
        metavar="STAGE=FILE",
        help="Weights of yours for detection, cell_cls, swift_mil, coloradv or text_align; again for each stage.",
    ),
]
ImageOption = Annotated[
    int | None, typer.Option("--image", help="Which image of a file that holds several, from 1; the largest.")
]


def _plane(text: str) -> int | str:
    return int(text) if text.isdecimal() else text  # what else it may be, the configuration knows


PlaneOption = Annotated[
    Any,
    typer.Option(
        "--plane",
        metavar="N|sharpest",
        parser=_plane,
        help="Which focal plane, channel or time point of a file, from 1; the first. 'sharpest': at each pixel.",
    ),
]
QualityOption = Annotated[
    list[str] | None,
    typer.Option(
        "--quality",
        metavar="NAME=NUMBER",
        help="A threshold of the slide's quality, e.g. min_cells=2000; again for each (docs/slides.md).",
    ),
]
