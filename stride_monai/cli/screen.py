"""``stride-monai screen``."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stride_monai.cli.grouped import with_groups
from stride_monai.cli.options import OutOption
from stride_monai.cli.rehearsal import rehearse
from stride_monai.cli.run_bars import RunBars
from stride_monai.cli.settings import Settings
from stride_monai.cli.summary import say_stages, summarize
from stride_monai.cli.terminal import plain, progress_bars, say
from stride_monai.errors import ConfigError
from stride_monai.guard import if_stopped
from stride_monai.names import printable

if TYPE_CHECKING:
    from stride_monai.run_index import Outcome
    from stride_monai.screening.cluster import ClusterScreening
    from stride_monai.screening.config import ScreeningConfig
    from stride_monai.screening.crew import Crew
    from stride_monai.screening.guarded import Allowance
    from stride_monai.screening.inputs import SlideInput
    from stride_monai.screening.store import About

__all__ = ["RunOptions", "screen", "screen_all"]


@dataclass(frozen=True)
class RunOptions:
    """How slides are gone through; nothing here changes the findings of one."""

    slide_timeout: Annotated[
        float | None,
        typer.Option(help="Seconds after which a slide fails, 0 for never; an hour, or 10 s a tile if that is more."),
    ] = None
    slide_memory: Annotated[
        float | None,
        typer.Option(help="GiB of memory above which a slide fails, 0 for any; 80 % of this machine's, 4 at least."),
    ] = None
    writers: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,...", help="Files of each slide: findings, cells, overlay, report, or a plug-in's; all."
        ),
    ] = None
    overwrite: Annotated[bool, typer.Option(help="Screen again what is already done.")] = False
    retry_failed: Annotated[
        bool,
        typer.Option(
            "--retry-failed", help="Only what failed or is missing; what the index has as done is not checked."
        ),
    ] = False
    workers: Annotated[
        int, typer.Option(help="Slides at once, a process and, where there are several, a GPU each.")
    ] = 1
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="A Ray cluster that does the work (extra cluster): auto, HOST:PORT; --workers on each machine.",
        ),
    ] = None
    mirror: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Send the results to s3://, gs://, memory:// ... too (extra remote), each slide when it is finished.",
        ),
    ] = None
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be screened and how long it should take.")
    ] = False
    profile_stages: Annotated[
        bool, typer.Option("--profile-stages", help="Say at the end what share of the time each stage took.")
    ] = False

    def __post_init__(self) -> None:
        if self.retry_failed and self.overwrite:
            raise ConfigError("--retry-failed keeps what is done, --overwrite does not", "leave one of the two out")

    @property
    def names(self) -> list[str] | None:
        """The writers, by name; None for all."""
        return None if self.writers is None else [name.strip() for name in self.writers.split(",") if name.strip()]

    def allowance(self) -> Allowance:
        from stride_monai.screening.guarded import Allowance

        return Allowance(_limit("--slide-timeout", self.slide_timeout), _limit("--slide-memory", self.slide_memory))

    def check(self, device: str) -> None:
        """Refuse a wrong value before slides are looked for.

        Raises:
            ConfigError: naming the option.
        """
        from stride_monai.exporters.writers import WRITERS
        from stride_monai.screening.crew import environments

        WRITERS.check(*self.names or ())
        self.allowance()
        environments(self.workers, device)


@with_groups
def screen(
    slides: Annotated[
        list[str], typer.Argument(help="Slide files, URLs of some, folders, manifests (CSV, JSON), or bag files.")
    ],
    out: OutOption,
    settings: Settings,
    run: RunOptions,
) -> None:
    """Screen slides: suspicious cells, slide probabilities, a report for each slide.

    A run that was stopped is taken up by the same command. The exit status is 1 if any slide failed.
    """
    from stride_monai.screening.inputs import collect

    config = settings.config()
    run.check(config.device)
    paths = _local(slides)
    items = collect(paths)
    if run.dry_run:
        return rehearse(config, items, out, run.workers, run.overwrite)
    point = [config.operating_point] if config.operating_point else []
    outcomes, about = screen_all(config, items, [*paths, *chain(*config.weights.values()), *point], out, run)
    summarize(outcomes, out, about)
    if run.profile_stages:
        say_stages(outcomes)
    if any(outcome.status == "failed" for outcome in outcomes):
        raise typer.Exit(1)


def screen_all(
    config: ScreeningConfig, items: Sequence[SlideInput], named: Sequence[Path], out: Path, run: RunOptions
) -> tuple[list[Outcome], About | None]:
    """The outcome of each slide, and what screened.

    Args:
        named: the files that the user named; nothing is written over them.
    """
    from stride_monai.runs.runners import Threads, serial
    from stride_monai.screening.batch import Tell, run_slides
    from stride_monai.screening.earlier import read_earlier
    from stride_monai.screening.mirror import mirrored
    from stride_monai.screening.pace import remember
    from stride_monai.slides.urls import without_secrets

    out = out.absolute() if run.cluster else out  # its programs run in other folders
    command = [printable(without_secrets(word)) for word in sys.argv]
    earlier = read_earlier(out) if run.retry_failed else None
    with progress_bars() as progress:
        bars = RunBars(progress, len(items))
        crew, slots = _crew(config, out, run, bars)
        with if_stopped(bars.so_far), crew:
            if crew.note:
                bars.note(crew.note)
            runner = serial if slots == 1 else Threads(slots, crew.abandon)
            with mirrored(out, run.mirror, bars.done) as done:
                tell = Tell(bars.progress, done, bars.note)
                run_slides(crew, items, out, command, named, tell, runner, earlier)
    if not run.cluster:  # whose machines may be others tomorrow
        remember(config, run.workers, bars.outcomes)
    return bars.outcomes, crew.about


def _crew(config: ScreeningConfig, out: Path, run: RunOptions, bars: RunBars) -> tuple[Crew | ClusterScreening, int]:
    """What screens, and how many slides at once."""
    from stride_monai.exporters.writers import load_writers
    from stride_monai.screening.cluster import ClusterScreening, Remote
    from stride_monai.screening.crew import Crew, environments
    from stride_monai.screening.guarded import GuardedScreening

    load, allowance = partial(load_writers, run.names), run.allowance()
    if run.cluster:
        remote = Remote(config.absolute(), out, run.overwrite, load, allowance)
        cluster = ClusterScreening(remote, run.cluster, run.workers, bars.node)
        return cluster, cluster.slots
    make = partial(GuardedScreening, config, out, run.overwrite, load, allowance.shared(run.workers), bars.load)
    return Crew(make, environments(run.workers, config.device)), run.workers


def _local(slides: Sequence[str]) -> list[Path]:
    """The arguments as paths; of remote slides copies are fetched first."""
    from stride_monai.slides.urls import is_url

    urls = [slide for slide in slides if is_url(slide)]
    if not urls:
        return [Path(slide) for slide in slides]
    from stride_monai.slides.remote import fetched

    copies = iter(fetched(urls, lambda name: say(f"fetching {plain(name)}")))
    return [next(copies) if is_url(slide) else Path(slide) for slide in slides]


def _limit(option: str, value: float | None) -> float | None:
    if value is not None and not 0 <= value < math.inf:
        raise ConfigError(f"invalid {option} {value}", "give a number above 0, or 0 for no limit")
    return value
