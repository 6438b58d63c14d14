"""``stride-monai screen``."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import Progress

from stride_monai.cli.options import BundlesOption, ImageOption, MppOption, PlaneOption, WeightsOption
from stride_monai.cli.summary import summarize
from stride_monai.cli.terminal import plain, progress_bars, say
from stride_monai.errors import ConfigError
from stride_monai.guard import if_stopped
from stride_monai.names import printable

if TYPE_CHECKING:
    from stride_monai.run_index import Outcome
    from stride_monai.screening.config import ScreeningConfig
    from stride_monai.screening.guarded import Allowance
    from stride_monai.screening.inputs import SlideInput
    from stride_monai.screening.store import About

__all__ = ["screen"]


def screen(
    slides: Annotated[
        list[Path], typer.Argument(help="Slide files, folders of slides, manifests (CSV, JSON), or bag files.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the results, one folder per slide.")],
    mpp: MppOption = None,
    image: ImageOption = None,
    plane: PlaneOption = None,
    reader: Annotated[str, typer.Option(help="auto, openslide, tiff, image, cucim, or an installed plug-in.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    profile: Annotated[str, typer.Option(help="tiny (weights shipped) or paper (your own weights).")] = "tiny",
    detector: Annotated[
        str, typer.Option(help="auto (fcos; yolo with --profile paper), fcos, yolo (extra yolo), or another of yours.")
    ] = "auto",
    rerank: Annotated[
        bool, typer.Option("--rerank", help="A cell classifier chooses the best K of more cells than K.")
    ] = False,
    reranker: Annotated[
        str, typer.Option(help="With --rerank: a bundle like cell_cls, or weights for it.")
    ] = "cell_cls",
    candidates: Annotated[
        int | None, typer.Option(help="With --rerank: cells that the detector proposes; 4 for each that is kept.")
    ] = None,
    classifier: Annotated[
        str, typer.Option(help="auto (coloradv where it has weights, else swift_mil), coloradv or swift_mil.")
    ] = "auto",
    descriptions: Annotated[
        bool | None,
        typer.Option(help="Say in words why each cell is suspicious. Default: where text_align has weights."),
    ] = None,
    bundles: BundlesOption = None,
    weights: WeightsOption = None,
    operating_point: Annotated[
        Path | None,
        typer.Option(
            "--operating-point",
            metavar="FILE",
            help="Threshold of 'stride-monai operating-point', in place of that in the weights.",
        ),
    ] = None,
    slide_timeout: Annotated[
        float | None,
        typer.Option(help="Seconds after which a slide fails, 0 for never; an hour, or 10 s a tile if that is more."),
    ] = None,
    slide_memory: Annotated[
        float | None,
        typer.Option(help="GiB of memory above which a slide fails, 0 for any; 80 % of this machine's, 4 at least."),
    ] = None,
    writers: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,...", help="Files of each slide: findings, cells, overlay, report, or a plug-in's; all."
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Screen again what is already done.")] = False,
) -> None:
    """Screen slides: suspicious cells, slide probabilities, a report for each slide.

    A run that was stopped is taken up by the same command. The exit status is 1 if any slide failed.
    """
    from stride_monai.exporters.writers import WRITERS
    from stride_monai.screening.config import ScreeningConfig, parse_weights
    from stride_monai.screening.guarded import Allowance
    from stride_monai.screening.store import check_config

    config = ScreeningConfig(
        mpp=mpp,
        image=image,
        plane=plane,
        reader=reader,
        device=device,
        profile=profile,
        detector=detector,
        rerank=rerank,
        reranker=reranker,
        candidates=candidates,
        classifier=classifier,
        descriptions=descriptions,
        bundles=bundles,
        weights=parse_weights(weights or []),
        operating_point=operating_point,
    )
    check_config(config)
    names = None if writers is None else [name.strip() for name in writers.split(",") if name.strip()]
    WRITERS.check(*names or ())
    allowance = Allowance(_limit("--slide-timeout", slide_timeout), _limit("--slide-memory", slide_memory))
    outcomes, about = _run(config, slides, out, names, allowance, overwrite)
    summarize(outcomes, out, about)
    if any(outcome.status == "failed" for outcome in outcomes):
        raise typer.Exit(1)


def _run(
    config: ScreeningConfig,
    slides: Sequence[Path],
    out: Path,
    writers: Sequence[str] | None,
    allowance: Allowance,
    overwrite: bool,
) -> tuple[list[Outcome], About | None]:
    """The outcome of each slide, and what screened."""
    from stride_monai.exporters.writers import load_writers
    from stride_monai.screening.batch import Tell, run_slides
    from stride_monai.screening.guarded import GuardedScreening
    from stride_monai.screening.inputs import collect

    items = collect(slides)
    command, named = [printable(word) for word in sys.argv], [*slides, *chain(*config.weights.values())]
    named += [config.operating_point] if config.operating_point else []
    with progress_bars() as progress:
        watch = _Watch(progress, len(items))
        with (
            if_stopped(watch.so_far),
            GuardedScreening(config, out, overwrite, partial(load_writers, writers), allowance, watch.load) as one,
        ):
            if one.note:
                watch.note(one.note)
            run_slides(one, items, out, command, named, Tell(watch.progress, watch.done, watch.note))
    return watch.outcomes, one.about


class _Watch:
    """Shows how far a run is: a bar of slides, and one of the tiles of the slide in hand."""

    def __init__(self, bars: Progress, total: int) -> None:
        self.outcomes: list[Outcome] = []
        self._bars, self._total = bars, total
        self._slides = bars.add_task("slides", total=total)
        self._tiles = bars.add_task("tiles", total=None, visible=False)

    def load(self, begins: bool) -> None:
        self._bars.update(self._tiles, description="loading the networks", total=None, visible=begins)

    def progress(self, item: SlideInput, done: int, total: int) -> None:
        name = plain(item.slide_id[:30])
        self._bars.update(self._tiles, description=name, completed=done, total=total, visible=True)

    def done(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self._bars.update(self._slides, advance=1)
        self._bars.update(self._tiles, visible=False)
        if outcome.status == "failed":
            say(f"[red]failed[/red] {plain(outcome.reason)}", self._bars.console)

    def note(self, text: str) -> None:
        say(f"[yellow]note[/yellow] {plain(text)}", self._bars.console)

    def so_far(self) -> str:
        done = sum(outcome.status in {"ok", "unsatisfactory"} for outcome in self.outcomes)
        return f"{done} of {self._total} slides are done; the same command goes on"


def _limit(option: str, value: float | None) -> float | None:
    if value is not None and not 0 <= value < math.inf:
        raise ConfigError(f"invalid {option} {value}", "give a number above 0, or 0 for no limit")
    return value
