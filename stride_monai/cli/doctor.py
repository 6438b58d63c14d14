"""``stride-monai doctor``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from stride_monai.cli.options import BundlesOption, ImageOption, MppOption, PlaneOption, WeightsOption
from stride_monai.cli.terminal import out_console, plain

if TYPE_CHECKING:
    from stride_monai.screening.doctor import Check

__all__ = ["doctor"]


def doctor(
    slide: Annotated[Path | None, typer.Argument(help="A slide to look into.")] = None,
    mpp: MppOption = None,
    image: ImageOption = None,
    plane: PlaneOption = None,
    bundles: BundlesOption = None,
    weights: WeightsOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Say what is installed, what opens the slide, and what to do about each problem."""
    from stride_monai.screening.config import ScreeningConfig, parse_weights
    from stride_monai.screening.doctor import examine, examine_slide_guarded

    checks = examine(ScreeningConfig(bundles=bundles, weights=parse_weights(weights or []))) + (
        [] if slide is None else examine_slide_guarded(slide, mpp, image, plane)
    )
    if as_json:
        healthy = not any(check.state == "problem" for check in checks)
        typer.echo(json.dumps({"healthy": healthy, "checks": [check.to_dict() for check in checks]}, indent=1))
    else:
        out_console.print(_checkup(checks))
    if any(check.state == "problem" for check in checks):
        raise typer.Exit(1)


def _checkup(checks: Sequence[Check]) -> Table:
    marks = {"ok": "[green]ok[/green]", "note": "[yellow]note[/yellow]", "problem": "[red]problem[/red]"}
    table = Table("", "what", "found", "what to do")
    for check in checks:
        table.add_row(marks[check.state], check.name, plain(check.detail), plain(check.advice))
    return table
