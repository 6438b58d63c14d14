"""What ``stride-monai screen`` says at the end: each slide, the files, and what screened."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Column, Table

from stride_monai.cli.terminal import out_console, plain, say

if TYPE_CHECKING:
    from stride_monai.run_index import Outcome
    from stride_monai.screening.store import About

__all__ = ["say_stages", "say_what_ran", "summarize"]

_COLORS = {"ok": "green", "unsatisfactory": "yellow", "skipped": "yellow", "failed": "red"}


def summarize(outcomes: Sequence[Outcome], out: Path, about: About | None) -> None:
    table = Table(Column("slide", overflow="fold"), Column("status", no_wrap=True), box=None, pad_edge=False)
    for name in ("call", "class", "score", "cells", "um/px", "seconds"):
        table.add_column(name, no_wrap=True)
    for outcome in outcomes:
        color = _COLORS[outcome.status]
        table.add_row(
            plain(outcome.slide_id),
            f"[{color}]{outcome.status}[/{color}]",
            outcome.call or "",
            outcome.slide_class or "",
            "" if outcome.score is None else f"{outcome.score:.3f}",
            "" if outcome.cells is None else str(outcome.cells),
            "" if outcome.mpp is None else f"{outcome.mpp:g}",
            "earlier" if outcome.resumed else f"{outcome.seconds:.1f}",
        )
    out_console.print(table)
    for outcome in outcomes:
        if outcome.status in {"unsatisfactory", "skipped"}:
            say(f"{plain(outcome.slide_id)}: {plain(outcome.reason)}")
    reports = [out / o.slide_id / "report.html" for o in outcomes if o.status in {"ok", "unsatisfactory"}]
    reports = [report for report in reports if report.exists()]
    for report in reports[:10]:
        say(f"report {plain(str(report))}")
    if len(reports) > 10:
        say(f"and {len(reports) - 10} more reports in {plain(str(out))}")
    say(f"summary {plain(str(out / 'summary.csv'))}")
    if about is not None:
        say_what_ran(about)


def say_stages(outcomes: Sequence[Outcome]) -> None:
    """Say what share of the time each stage took, over all slides that were screened now."""
    from stride_monai.screening.stages import shares_of

    shares = shares_of(outcome.stages for outcome in outcomes)
    if not shares:
        say("no slide was screened now: there are no times of stages")
        return
    table = Table(Column("stage", no_wrap=True), Column("share of the time", justify="right"), box=None, pad_edge=False)
    for name, share in shares.items():
        table.add_row(name, f"{100 * share:.1f} %")
    out_console.print(table)


def say_what_ran(about: About) -> None:
    """Say which networks with which weights; and that it is for research."""
    parts = (("detector", "detection", about.detector), ("classifier", "", about.classifier))
    for part, bundle, choice in parts:
        if choice is None:
            continue
        said = f"{part} {choice.name} ({choice.why}), {_which_weights(about, bundle or choice.name)}"
        say(plain(said))
    if about.reranked is not None:
        name, kept, candidates = about.reranked
        how = plain(f"{name}, {_which_weights(about, 'cell_cls')}")
        say(f"re-ranked by {how}: the best {kept} of {candidates} candidates")
    words = about.descriptions
    if words.made:
        how = plain(f"cosine above {words.threshold:.3f}, {_which_weights(about, 'text_align')}")
        say(f"described by text_align ({words.why}): {how}")
    else:
        say(f"[yellow]no descriptions[/yellow]: {plain(words.why)}")
    if about.runtime:
        say(plain(f"networks run by {about.runtime}"))
    if about.operating_point:
        say(plain(f"calls by {about.operating_point}"))
    if not about.holds:
        say("[yellow]no call[/yellow]: the threshold does not hold for these cells")
    say(f"[bold]Research use only.[/bold] {plain(about.note)}")


def _which_weights(about: About, bundle: str) -> str:
    said = f"weights {about.weights[bundle][:12]}"
    origin = about.origins.get(bundle)
    return said if origin is None else f"{said} ({' + '.join(file.name for file in origin.files)}, {origin.how})"
