"""``stride-monai watch``."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stride_monai.cli.grouped import with_groups
from stride_monai.cli.options import OutOption
from stride_monai.cli.settings import Settings
from stride_monai.cli.terminal import plain, say
from stride_monai.errors import ConfigError
from stride_monai.guard import if_stopped
from stride_monai.names import printable

if TYPE_CHECKING:
    from stride_monai.run_index import Outcome

__all__ = ["watch"]


@with_groups
def watch(
    folder: Annotated[
        Path, typer.Argument(help="The folder into which slides come, and its subfolders; results lie elsewhere.")
    ],
    out: OutOption,
    settings: Settings,
    port: Annotated[int, typer.Option(help="Of /metrics and /healthz on 127.0.0.1; 0 for any that is free.")] = 9464,
    every: Annotated[float, typer.Option(help="Seconds between two looks at the folder.")] = 5.0,
    settle: Annotated[
        float, typer.Option(help="Seconds without a change after which a slide counts as copied.")
    ] = 10.0,
) -> None:
    """Screen each slide that comes into a folder, once it is complete, until it is stopped.

    Given again, the same command goes on: what is done is not screened again. Settings are those of screen.
    """
    from stride_monai.exporters.writers import load_writers
    from stride_monai.screening.batch import Tell
    from stride_monai.screening.guarded import GuardedScreening
    from stride_monai.screening.vitals import Vitals, served
    from stride_monai.screening.watching import Patience, watch_folder

    if not every > 0 or not settle >= 0:
        raise ConfigError(f"invalid --every {every} or --settle {settle}", "give seconds")
    config = settings.config()
    command, vitals = [printable(word) for word in sys.argv], Vitals(alive=max(120.0, 10 * every))
    counts = {"done": 0}

    def done(outcome: Outcome) -> None:
        counts["done"] += 1
        color = "red" if outcome.status == "failed" else "green"
        more = outcome.reason or f"{outcome.call or 'no call'}, {outcome.seconds:.1f} s"
        say(f"[{color}]{outcome.status}[/{color}] {plain(outcome.slide_id)}: {plain(more)}")

    def note(text: str) -> None:
        say(f"[yellow]note[/yellow] {plain(text)}")

    screening = GuardedScreening(config, out, False, partial(load_writers, None))
    with (
        if_stopped(lambda: f"{counts['done']} slides were screened; the same command goes on"),
        served(vitals, port) as at,
        screening as one,
    ):
        say(f"watching {plain(str(folder))}; http://127.0.0.1:{at}/metrics and /healthz")
        watch_folder(one, folder, out, vitals, Tell(done=done, note=note), command, Patience(every, settle))
