"""``stride-monai monitor``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stride_monai.cli.terminal import plain, say

if TYPE_CHECKING:
    from stride_monai.evaluation.monitoring import Monitored

__all__ = ["CROSSED", "monitor"]

CROSSED = 3
"""Exit status where a limit was crossed."""
_ABOUT = "a monitoring"
_FILES = ("monitor.html", "monitor.json", "monitor.csv")


def monitor(
    results: Annotated[Path, typer.Argument(help="Results folder of 'screen' to watch.")],
    reference: Annotated[Path, typer.Option("--reference", help="Results folder to hold it against.")],
    dates: Annotated[
        Path | None, typer.Option(help="Table with slide_id and date; else the days of screening count.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for a page, a table and monitor.json.")] = None,
) -> None:
    """Hold each week's scores, calls, quality, stain and focus against a reference.

    The exit status is 0 where all is within its limits, 3 where a limit was crossed, 2 for an error.
    """
    from stride_monai.evaluation.folder import refuse_taken
    from stride_monai.evaluation.inputs.results_folder import read_results
    from stride_monai.evaluation.monitoring import monitor as watch
    from stride_monai.evaluation.monitoring import read_dates
    from stride_monai.evaluation.reports import counted, percent

    if out is not None:
        refuse_taken(out, _ABOUT, _FILES, [results, reference, *([dates] if dates else [])])
    by_id = None if dates is None else read_dates(dates)
    found = watch(read_results(results), read_results(reference), by_id)
    if out is not None:
        _write(found, out)
    for note in found.notes:
        say(f"[yellow]note[/yellow] {plain(note)}")
    weeks = {week.monday for measure in found.measures for week in measure.weeks}
    charts = f"{len(found.measures)} charts, {found.reference:,} slides of the reference"
    say(f"{counted(found.slides, 'slide')} of {counted(len(weeks), 'week')}, {charts}")
    for measure, week, way in found.crossings:
        value, usual = (percent(x) if measure.is_share else f"{x:.4g}" for x in (week.value, measure.reference))
        say(f"[red]crossed[/red] {week.monday:%G-W%V} {plain(measure.title)}: {way}, {value} (reference {usual})")
    if out is not None:
        say(f"page {plain(str(out / _FILES[0]))}")
    if found.crossings:
        raise typer.Exit(CROSSED)
    say("[green]within limits[/green]")


def _write(found: Monitored, out: Path) -> None:
    import json

    from stride_monai.data.tables import table_text
    from stride_monai.evaluation.folder import write_folder
    from stride_monai.evaluation.monitoring import monitor_report
    from stride_monai.evaluation.page.monitoring import monitor_page
    from stride_monai.evaluation.page.page import page_html

    report = monitor_report(found)
    columns = ("monday", "slides", "value", "z", "ewma", "ewma_limit", "crossed")
    rows = [
        [key, *(week[name] for name in columns)] for key, one in report["measures"].items() for week in one["weeks"]
    ]
    page, table = page_html(monitor_page(found)).encode(), table_text(["measure", *columns], rows)
    content = (page, (json.dumps(report, indent=1) + "\n").encode(), table)
    write_folder(out, _ABOUT, dict(zip(_FILES, content, strict=True)), last=_FILES[1])
