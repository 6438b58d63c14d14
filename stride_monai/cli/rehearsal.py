"""What ``stride-monai screen --dry-run`` says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from stride_monai.cli.terminal import plain, progress_bars, say

if TYPE_CHECKING:
    from stride_monai.screening.config import ScreeningConfig
    from stride_monai.screening.inputs import SlideInput
    from stride_monai.screening.plan import Plan

__all__ = ["rehearse"]

_SHOWN = 10


def rehearse(config: ScreeningConfig, items: Sequence[SlideInput], out: Path, workers: int, overwrite: bool) -> None:
    """Say what a run would do and how long it should take; write nothing.

    Raises:
        typer.Exit: with status 1 if an input would fail.
    """
    from stride_monai.screening.earlier import Earlier, read_earlier
    from stride_monai.screening.plan import plan_of

    with progress_bars() as progress:
        task = progress.add_task("opening slides", total=None)
        earlier = Earlier(out) if overwrite else read_earlier(out)
        plan = plan_of(items, config, earlier, lambda: progress.advance(task))
    for item in plan.refused[:_SHOWN]:
        say(f"{'[yellow]skipped[/yellow]' if item.skipped else '[red]fails[/red]'} {plain(item.problem)}")
    if len(plan.refused) > _SHOWN:
        say(f"and {len(plan.refused) - _SHOWN} more that would fail or be skipped")
    say(f"{len(plan.screen)} to screen, {len(plan.done)} done before, {len(plan.refused)} that cannot be screened")
    if plan.screen:
        say(plain(_how_long(plan, config, workers)))
    say("nothing was written")
    if any(not item.skipped for item in plan.refused):
        raise typer.Exit(1)


def _how_long(plan: Plan, config: ScreeningConfig, workers: int) -> str:
    from stride_monai.runs.progress import duration
    from stride_monai.screening.pace import pace_of

    pace, basis = pace_of(config, workers), f"{workers} at once"
    if pace is None and workers > 1 and (pace := pace_of(config)) is not None:
        basis = f"one at once, divided by {workers}"
    if pace is None:
        return "how long it takes is not known: this machine remembers no slide that was screened like this; screen one"
    if not plan.mm2:
        return "how long it takes is not known: no slide tells its size"
    return (
        f"about {duration(plan.seconds(pace, workers))}: {plan.mm2:.0f} mm2 ({plan.opened} slides opened), "
        f"{pace.seconds / pace.mm2:.3f} s per mm2 on this machine ({pace.slides:.0f} slides, {basis})"
    )
