"""Options of ``stride-monai evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "ByOption",
    "CellsOption",
    "CompareMapOption",
    "CompareOption",
    "FeaturesOption",
    "ModelCardOption",
    "OutOption",
    "PointOption",
    "PredictionsArgument",
    "PrevalenceOption",
    "RepeatOption",
    "ReplicatesOption",
    "SeedOption",
    "SplitOption",
    "ThresholdOption",
    "TruthOption",
    "UnsatisfactoryOption",
    "ValidationOption",
]

PredictionsArgument = Annotated[
    Path, typer.Argument(help="Results folder of screen, or a table (CSV, JSON, Parquet): slide_id, score, call, ...")
]
TruthOption = Annotated[
    Path, typer.Option("--truth", help="Table with slide_id, label (Bethesda) and any further columns.")
]
OutOption = Annotated[Path, typer.Option("--out", help="Folder for metrics.json, report.html, tables and figures.")]
SplitOption = Annotated[str, typer.Option(help="Judge slides of this split alone: train, validation or test.")]
UnsatisfactoryOption = Annotated[
    bool, typer.Option("--with-unsatisfactory", help="Judge unsatisfactory slides that have a score like the others.")
]
ThresholdOption = Annotated[
    float | None, typer.Option(help="Call slides positive at or above it, whatever the system called them.")
]
PointOption = Annotated[
    Path | None, typer.Option("--operating-point", help="The same with the threshold of a file of operating-point.")
]
ByOption = Annotated[
    list[str] | None,
    typer.Option(help="Column of the truth table for a table of subgroups; again for each. Default: the usual ones."),
]
PrevalenceOption = Annotated[
    list[float] | None,
    typer.Option(help="Share of positive slides for which PPV and NPV are given; again for each."),
]
CompareOption = Annotated[Path | None, typer.Option(help="Predictions of another system on the same slides.")]
CompareMapOption = Annotated[Path | None, typer.Option("--compare-map", help="Its mapping file.")]
CellsOption = Annotated[
    Path | None, typer.Option(help="Table of marked cells: judge too which of them were found, and as what.")
]
ValidationOption = Annotated[
    Path | None,
    typer.Option(help="The system's predictions of validation slides of the truth table: calibrates the scores."),
]
RepeatOption = Annotated[
    list[Path] | None,
    typer.Option(help="Predictions of the same training with another seed; again for each: mean and SD."),
]
FeaturesOption = Annotated[
    Path | None, typer.Option(help="Features of slides for t-SNE: .npz, or a table with slide_id and numbers.")
]
ModelCardOption = Annotated[
    str, typer.Option("--model-card", metavar="BUNDLE", help="Write MODEL_CARD.md of a bundle: its name or folder.")
]
ReplicatesOption = Annotated[int, typer.Option(help="Bootstrap samples of patients and centres; 0 for none.")]
SeedOption = Annotated[int, typer.Option(help="Of whatever is drawn.")]
