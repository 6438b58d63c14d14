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

from stride_monai.cli.options import (
    BundlesOption,
    ClassifierOption,
    DetectorOption,
    DeviceOption,
    ImageOption,
    MppOption,
    OperatingPointOption,
    OutOption,
    PlaneOption,
    ProfileOption,
    QualityOption,
    WeightsOption,
)
from stride_monai.cli.rehearsal import rehearse
from stride_monai.cli.run_bars import RunBars
from stride_monai.cli.summary import say_stages, summarize
from stride_monai.cli.terminal import plain, progress_bars, say
from stride_monai.errors import ConfigError
from stride_monai.guard import if_stopped
from stride_monai.names import printable

if TYPE_CHECKING:
    from stride_monai.run_index import Outcome
    from stride_monai.screening.config import ScreeningConfig
    from stride_monai.screening.earlier import Earlier
    from stride_monai.screening.guarded import Allowance
    from stride_monai.screening.inputs import SlideInput
    from stride_monai.screening.store import About

__all__ = ["screen"]


def screen(
    slides: Annotated[
        list[str], typer.Argument(help="Slide files, URLs of some, folders, manifests (CSV, JSON), or bag files.")
    ],
    out: OutOption,
    mpp: MppOption = None,
    image: ImageOption = None,
    plane: PlaneOption = None,
    reader: Annotated[str, typer.Option(help="auto, openslide, tiff, image, cucim, or an installed plug-in.")] = "auto",
    device: DeviceOption = "auto",
    runtime: Annotated[
        str, typer.Option(help="On a CPU: torch, openvino (extra fast), onnx (extra onnx), or auto for the fastest.")
    ] = "torch",
    profile: ProfileOption = "tiny",
    detector: DetectorOption = "auto",
    rerank: Annotated[
        bool, typer.Option("--rerank", help="A cell classifier chooses the best K of more cells than K.")
    ] = False,
    reranker: Annotated[
        str, typer.Option(help="With --rerank: a bundle like cell_cls, or weights for it.")
    ] = "cell_cls",
    candidates: Annotated[
        int | None, typer.Option(help="With --rerank: cells that the detector proposes; 4 for each that is kept.")
    ] = None,
    classifier: ClassifierOption = "auto",
    descriptions: Annotated[
        bool | None,
        typer.Option(help="Say in words why each cell is suspicious. Default: where text_align has weights."),
    ] = None,
    bundles: BundlesOption = None,
    weights: WeightsOption = None,
    operating_point: OperatingPointOption = None,
    quality: QualityOption = None,
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
    retry_failed: Annotated[
        bool,
        typer.Option(
            "--retry-failed", help="Only what failed or is missing; what the index has as done is not checked."
        ),
    ] = False,
    workers: Annotated[
        int, typer.Option(help="Slides at once, a process and, where there are several, a GPU each.")
    ] = 1,
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="A Ray cluster that does the work (extra cluster): auto, HOST:PORT; --workers on each machine.",
        ),
    ] = None,
    mirror: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Send the results to s3://, gs://, memory:// ... too (extra remote), each slide when it is finished.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be screened and how long it should take.")
    ] = False,
    profile_stages: Annotated[
        bool, typer.Option("--profile-stages", help="Say at the end what share of the time each stage took.")
    ] = False,
) -> None:
    """Screen slides: suspicious cells, slide probabilities, a report for each slide.

    A run that was stopped is taken up by the same command. The exit status is 1 if any slide failed.
    """
    from stride_monai.exporters.writers import WRITERS
    from stride_monai.screening.config import ScreeningConfig, parse_quality, parse_weights
    from stride_monai.screening.crew import environments
    from stride_monai.screening.earlier import read_earlier
    from stride_monai.screening.guarded import Allowance
    from stride_monai.screening.inputs import collect
    from stride_monai.screening.store import check_config

    if retry_failed and overwrite:
        raise ConfigError("--retry-failed keeps what is done, --overwrite does not", "leave one of the two out")
    config = ScreeningConfig(
        mpp=mpp,
        image=image,
        plane=plane,
        reader=reader,
        device=device,
        runtime=runtime,
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
        quality=parse_quality(quality or []),
    )
    check_config(config)
    names = None if writers is None else [name.strip() for name in writers.split(",") if name.strip()]
    WRITERS.check(*names or ())
    allowance = Allowance(_limit("--slide-timeout", slide_timeout), _limit("--slide-memory", slide_memory))
    environments(workers, device)
    paths = _local(slides)
    named = [*paths, *chain(*config.weights.values()), *([operating_point] if operating_point else [])]
    items = collect(paths)
    if dry_run:
        return rehearse(config, items, out, workers, overwrite)
    earlier = read_earlier(out) if retry_failed else None
    outcomes, about = _run(config, items, named, out, names, allowance, overwrite, workers, earlier, cluster, mirror)
    summarize(outcomes, out, about)
    if profile_stages:
        say_stages(outcomes)
    if any(outcome.status == "failed" for outcome in outcomes):
        raise typer.Exit(1)


def _run(
    config: ScreeningConfig,
    items: Sequence[SlideInput],
    named: Sequence[Path],
    out: Path,
    writers: Sequence[str] | None,
    allowance: Allowance,
    overwrite: bool,
    workers: int,
    earlier: Earlier | None,
    cluster: str | None,
    mirror: str | None,
) -> tuple[list[Outcome], About | None]:
    """The outcome of each slide, and what screened."""
    from stride_monai.exporters.writers import load_writers
    from stride_monai.runs.runners import Threads, serial
    from stride_monai.screening.batch import Tell, run_slides
    from stride_monai.screening.cluster import ClusterScreening, Remote
    from stride_monai.screening.crew import Crew, environments
    from stride_monai.screening.guarded import GuardedScreening
    from stride_monai.screening.mirror import mirrored
    from stride_monai.screening.pace import remember
    from stride_monai.slides.urls import without_secrets

    # Programs of a cluster run in other folders.
    config, out = (config.absolute(), out.absolute()) if cluster else (config, out)
    load, command = partial(load_writers, writers), [printable(without_secrets(word)) for word in sys.argv]
    with progress_bars() as progress:
        bars = RunBars(progress, len(items))
        crew: Crew | ClusterScreening
        if cluster:
            crew = ClusterScreening(Remote(config, out, overwrite, load, allowance), cluster, workers, bars.node)
            slots = crew.slots
        else:
            make = partial(GuardedScreening, config, out, overwrite, load, allowance.shared(workers), bars.load)
            crew, slots = Crew(make, environments(workers, config.device)), workers
        with if_stopped(bars.so_far), crew:
            if crew.note:
                bars.note(crew.note)
            runner = serial if slots == 1 else Threads(slots, crew.abandon)
            with mirrored(out, mirror, bars.done) as done:
                tell = Tell(bars.progress, done, bars.note)
                run_slides(crew, items, out, command, named, tell, runner, earlier)
    if not cluster:  # whose machines may be others tomorrow
        remember(config, workers, bars.outcomes)
    return bars.outcomes, crew.about


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
