"""The command line, ``stride-monai``. Heavy imports are inside the commands, so that ``--help`` is instant."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table

from stride_monai.cli.bundle import app as bundle_app
from stride_monai.cli.data import app as data_app
from stride_monai.cli.terminal import console, forgive, plain
from stride_monai.errors import ConfigError, StrideError
from stride_monai.guard import Stopped, if_stopped, stoppable
from stride_monai.names import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stride_monai.phantom.cohorts.design import CohortDesign
    from stride_monai.run_index import Outcome
    from stride_monai.screening.about import About
    from stride_monai.screening.doctor import Check
    from stride_monai.screening.inputs import SlideInput

__all__ = ["app", "main"]

app = typer.Typer(
    name="stride-monai",
    help="Cervical-cytology whole slide screening on MONAI. Research use only.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(data_app)
app.add_typer(bundle_app)
_out = console()
_err = console(stderr=True)
_COLORS = {"ok": "green", "unsatisfactory": "yellow", "skipped": "yellow", "failed": "red"}

_GO_ON = "what is done stays; give the same command again"

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
PlaneOption = Annotated[
    int | None, typer.Option("--plane", help="Which focal plane, channel or time point of a file, from 1; the first.")
]


def main() -> None:
    """Entry point: a :class:`StrideError` is one line on standard error and exit status 2.

    A run that is stopped (Ctrl-C, SIGTERM, SIGHUP) ends with one line that says how to go on, and with the status that
    a shell gives for the signal.
    """
    forgive()
    with stoppable():
        try:
            app()
        except StrideError as error:
            _err.print(f"[red]error[/red] {_escape(str(error))}", highlight=False, soft_wrap=True)
            raise SystemExit(2) from None
        except Stopped as stopped:
            _err.print(f"stopped: {_escape(stopped.done or _GO_ON)}", highlight=False, soft_wrap=True)
            raise SystemExit(stopped.exit_status) from None


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        from stride_monai import __version__

        _out.print(__version__, highlight=False)
        raise typer.Exit


@app.command()
def screen(
    slides: Annotated[list[Path], typer.Argument(help="Slide files, folders of slides, or manifests (CSV, JSON).")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the results, one folder per slide.")],
    mpp: MppOption = None,
    image: ImageOption = None,
    plane: PlaneOption = None,
    reader: Annotated[str, typer.Option(help="auto, openslide, tiff, image, cucim, or an installed plug-in.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    profile: Annotated[str, typer.Option(help="tiny (weights shipped) or paper (your own weights).")] = "tiny",
    detector: Annotated[
        str, typer.Option(help="auto (yolo where its extra is installed, else fcos), yolo, fcos, or another of yours.")
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
    from stride_monai.exporters.writers import WRITERS, load_writers
    from stride_monai.screening.batch import Tell, run_slides
    from stride_monai.screening.config import ScreeningConfig, parse_weights
    from stride_monai.screening.guarded import Allowance, GuardedScreening
    from stride_monai.screening.inputs import collect
    from stride_monai.screening.store import check_config

    config = ScreeningConfig(
        mpp=mpp,
        reader=reader,
        device=device,
        profile=profile,
        bundles=bundles,
        detector=detector,
        classifier=classifier,
        rerank=rerank,
        reranker=reranker,
        candidates=candidates,
        descriptions=descriptions,
        weights=parse_weights(weights or []),
        image=image,
        plane=plane,
    )
    check_config(config)
    names = None if writers is None else [name.strip() for name in writers.split(",") if name.strip()]
    WRITERS.check(*names or ())
    allowance = Allowance(_limit("--slide-timeout", slide_timeout), _limit("--slide-memory", slide_memory))
    items = collect(slides)
    outcomes: list[Outcome] = []
    with _progress() as progress, if_stopped(lambda: _so_far(outcomes, len(items))):
        bar = progress.add_task("slides", total=len(items))
        tiles = progress.add_task("tiles", total=None, visible=False)

        def on_load(begins: bool) -> None:
            progress.update(tiles, description="loading the networks", total=None, visible=begins)

        def on_progress(item: SlideInput, done: int, total: int) -> None:
            progress.update(tiles, description=_escape(item.slide_id[:30]), completed=done, total=total, visible=True)

        def on_done(outcome: Outcome) -> None:
            outcomes.append(outcome)
            progress.update(bar, advance=1)
            progress.update(tiles, visible=False)
            if outcome.status == "failed":
                progress.console.print(f"[red]failed[/red] {_escape(outcome.reason)}", highlight=False, soft_wrap=True)

        def on_note(text: str) -> None:
            progress.console.print(f"[yellow]note[/yellow] {_escape(text)}", highlight=False, soft_wrap=True)

        with GuardedScreening(config, out, overwrite, partial(load_writers, names), allowance, on_load) as one:
            if one.note:
                on_note(one.note)
            command = [printable(word) for word in sys.argv]
            named = [*slides, *chain(*config.weights.values())]
            run_slides(one, items, out, command, named, Tell(on_progress, on_done, on_note))
    _summarize(outcomes, out, one.about)
    if any(outcome.status == "failed" for outcome in outcomes):
        raise typer.Exit(1)


def _limit(option: str, value: float | None) -> float | None:
    if value is not None and not 0 <= value < math.inf:
        raise ConfigError(f"{option} {value} is no limit", "give a number above 0, or 0 for no limit")
    return value


def _so_far(outcomes: Sequence[Outcome], total: int) -> str:
    done = sum(outcome.status in {"ok", "unsatisfactory"} for outcome in outcomes)
    return f"{done} of {total} slides are done; the same command goes on"


def _progress(period: float = 30.0) -> Progress:
    """A bar with the time left, estimated from the last ``period`` seconds."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=_err, transient=True, disable=not _err.is_terminal, speed_estimate_period=period)


def _summarize(outcomes: Sequence[Outcome], out: Path, about: About | None) -> None:
    table = Table(Column("slide", overflow="fold"), Column("status", no_wrap=True), box=None, pad_edge=False)
    for name in ("call", "class", "score", "cells", "um/px", "seconds"):
        table.add_column(name, no_wrap=True)
    for outcome in outcomes:
        color = _COLORS[outcome.status]
        table.add_row(
            _escape(outcome.slide_id),
            f"[{color}]{outcome.status}[/{color}]",
            outcome.call or "",
            outcome.slide_class or "",
            "" if outcome.score is None else f"{outcome.score:.3f}",
            "" if outcome.cells is None else str(outcome.cells),
            "" if outcome.mpp is None else f"{outcome.mpp:g}",
            "earlier" if outcome.resumed else f"{outcome.seconds:.1f}",
        )
    _out.print(table)
    for outcome in outcomes:
        if outcome.status in {"unsatisfactory", "skipped"}:
            _out.print(f"{_escape(outcome.slide_id)}: {_escape(outcome.reason)}", highlight=False)
    reports = [out / o.slide_id / "report.html" for o in outcomes if o.status in {"ok", "unsatisfactory"}]
    reports = [report for report in reports if report.exists()]
    for report in reports[:10]:
        _out.print(f"report {_escape(str(report))}", highlight=False, soft_wrap=True)
    if len(reports) > 10:
        _out.print(f"and {len(reports) - 10} more reports in {_escape(str(out))}", highlight=False, soft_wrap=True)
    _out.print(f"summary {_escape(str(out / 'summary.csv'))}", highlight=False, soft_wrap=True)
    if about is not None:
        _say_what_screened(about)


def _say_what_screened(about: About) -> None:
    parts = (("detector", "detection", about.detector), ("classifier", "", about.classifier))
    for part, bundle, choice in parts:
        if choice is None:
            continue
        said = f"{part} {choice.name} ({choice.why}), {_which_weights(about, bundle or choice.name)}"
        _out.print(_escape(said), highlight=False, soft_wrap=True)
    if about.reranked is not None:
        how = _escape(f"{about.reranked.name}, {_which_weights(about, 'cell_cls')}")
        kept = f"the best {about.reranked.top_k} of {about.reranked.candidates} candidates"
        _out.print(f"re-ranked by {how}: {kept}", highlight=False, soft_wrap=True)
    words = about.descriptions
    if words.made:
        how = _escape(f"cosine above {words.threshold:.3f}, {_which_weights(about, 'text_align')}")
        _out.print(f"described by text_align ({words.why}): {how}", highlight=False, soft_wrap=True)
    else:
        _out.print(f"[yellow]no descriptions[/yellow]: {_escape(words.why)}", highlight=False, soft_wrap=True)
    if not about.holds:
        _out.print("[yellow]no call[/yellow]: the threshold does not hold for these cells", highlight=False)
    _out.print(f"[bold]Research use only.[/bold] {_escape(about.note)}", highlight=False)


def _which_weights(about: About, bundle: str) -> str:
    said = f"weights {about.weights[bundle][:12]}"
    origin = about.origins.get(bundle)
    return said if origin is None else f"{said} ({' + '.join(file.name for file in origin.files)}, {origin.how})"


@app.command()
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
        _out.print(_checkup(checks))
    if any(check.state == "problem" for check in checks):
        raise typer.Exit(1)


def _checkup(checks: Sequence[Check]) -> Table:
    marks = {"ok": "[green]ok[/green]", "note": "[yellow]note[/yellow]", "problem": "[red]problem[/red]"}
    table = Table("", "what", "found", "what to do")
    for check in checks:
        table.add_row(marks[check.state], check.name, _escape(check.detail), _escape(check.advice))
    return table


@app.command()
def phantom(
    out: Annotated[Path, typer.Option("--out", help="Folder for slides, truth and manifest.")],
    slide_class: Annotated[
        list[str] | None, typer.Option("--slide-class", help="One slide of this class; may be given several times.")
    ] = None,
    slides: Annotated[int, typer.Option(help="Instead of classes: so many slides of mixed classes.")] = 0,
    cohort: Annotated[
        str | None,
        typer.Option(help="internal (8 centres, 21 % positive) or external (4 unseen centres, 4.4 %, test)."),
    ] = None,
    prevalence: Annotated[
        float | None, typer.Option(help="Share of positive slides; 0.21, or that of the cohort.")
    ] = None,
    diameter: Annotated[
        float | None, typer.Option(help="Diameter of the deposit in mm; 13, or with --cohort the centre's own.")
    ] = None,
    centre: Annotated[
        list[str] | None, typer.Option("--centre", help="Use only this centre; may be given several times.")
    ] = None,
    artefact: Annotated[
        list[str] | None,
        typer.Option(
            "--artefact", help="pen, bubbles, coverslip, dust or fibre on every slide; several times if need be."
        ),
    ] = None,
    label_noise: Annotated[float, typer.Option(help="Share of slides of which the manifest has a wrong class.")] = 0.0,
    inadequate: Annotated[float, typer.Option(help="Share of slides with too few or hidden cells.")] = 0.0,
    bags_only: Annotated[bool, typer.Option("--bags-only", help="No slides: only bags of their top crops.")] = False,
    top_k: Annotated[int | None, typer.Option(help="With --bags-only: cells per bag; 256.")] = None,
    crop_px: Annotated[int | None, typer.Option(help="With --bags-only: side of a crop in px; 224.")] = None,
    crop_mpp: Annotated[float | None, typer.Option(help="With --bags-only: um/px of the crops; 0.5.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same slides.")] = 0,
    workers: Annotated[int, typer.Option(help="Processes.")] = 1,
    overwrite: Annotated[bool, typer.Option(help="Replace what is there.")] = False,
) -> None:
    """Render synthetic slides with known truth, or bags of them; no patient data, no network.

    A run that was stopped is taken up by the same command.
    """
    from stride_monai.phantom.cohorts.cohort import BagSettings, make_bags, make_slides

    if slide_class and slides:
        raise ConfigError("say either --slide-class or --slides", "e.g. --slide-class NILM --slide-class HSIL")
    changes = {
        "classes": tuple(slide_class or ()) or slides or None,
        "prevalence": prevalence,
        "diameter_mm": diameter,
        "centres": tuple(centre or ()) or None,
        "artefacts": tuple(artefact or ()) or None,
    }
    design = _design(cohort, {name: value for name, value in changes.items() if value is not None})
    design = replace(design, label_noise=label_noise, inadequate=inadequate, seed=seed)
    crops = {"top_k": top_k, "crop_px": crop_px, "crop_mpp": crop_mpp}
    given: dict[str, Any] = {name: value for name, value in crops.items() if value is not None}
    if given and not bags_only:
        raise ConfigError(f"--{next(iter(given)).replace('_', '-')} is about bags", "add --bags-only, or leave it out")
    with if_stopped("what is done stays; the same command goes on"), _progress(period=600) as progress:
        total = design.classes if isinstance(design.classes, int) else len(design.classes)
        bar = progress.add_task("bags" if bags_only else "slides", total=total)

        def on_part(done: float) -> None:
            progress.update(bar, completed=done)

        run: dict[str, Any] = {"workers": workers, "overwrite": overwrite, "on_progress": lambda done, _: on_part(done)}
        if bags_only:
            manifest = make_bags(out, design, BagSettings(**given), on_part=on_part, **run)
        else:
            manifest = make_slides(out, design, on_part=on_part, **run)
    _out.print(f"manifest {_escape(str(manifest))}", highlight=False, soft_wrap=True)


def _design(cohort: str | None, changes: dict[str, Any]) -> CohortDesign:
    from stride_monai.phantom.cohorts.design import CohortDesign, design_of

    classes = changes.get("classes")
    if isinstance(classes, tuple) and (cohort or "prevalence" in changes):
        raise ConfigError(
            "--slide-class says what every slide is", "leave out --cohort and --prevalence, or the classes"
        )
    if cohort is not None:
        return design_of(cohort, **changes)
    if classes is None:
        raise ConfigError("say --slide-class, --slides or --cohort", "e.g. --slide-class NILM --slide-class HSIL")
    return CohortDesign(**changes)


def _escape(text: str) -> str:
    return plain(text)
