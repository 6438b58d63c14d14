"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from stride_monai.errors import ConfigError

__all__ = [
    "BundlesOption",
    "ChoosingSplitOption",
    "ConformalOption",
    "ImageOption",
    "MapOption",
    "MppOption",
    "OutOption",
    "PlaneOption",
    "TruthMapOption",
    "WeightsOption",
]

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


def _out(text: str) -> Path:
    if "://" in text:
        advice = f"give --out FOLDER --mirror {text.partition('?')[0]}, which sends them there slide by slide"
        raise ConfigError("results are written to a folder of this machine first", advice)
    return Path(text)


OutOption = Annotated[
    Path,
    typer.Option("--out", metavar="FOLDER", parser=_out, help="Folder of the results, one folder per slide."),
]


def _plane(text: str) -> int | str:
    return int(text) if text.isdecimal() else text  # what else it may be, the configuration knows


PlaneOption = Annotated[
    Any,
    typer.Option(
        "--plane",
        metavar="N|sharpest|union",
        parser=_plane,
        help="Which focal plane, channel or time point of a file, from 1; the first. 'sharpest': at each pixel. "
        "'union': cells of all planes.",
    ),
]
MapOption = Annotated[
    Path | None, typer.Option("--map", help="YAML or JSON: what another system calls its columns and words.")
]
TruthMapOption = Annotated[
    Path | None, typer.Option("--truth-map", help="YAML or JSON: what the truth table calls its columns and words.")
]
ConformalOption = Annotated[
    bool, typer.Option("--conformal", help="Be 95 % sure that new slides reach it; needs 59 positive slides.")
]
ChoosingSplitOption = Annotated[
    str | None, typer.Option(help="validation: all slides whose split the table does not say are that.")
]
