"""``stride-monai classify``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import Progress

from stride_monai.cli.options import BundlesOption, WeightsOption
from stride_monai.cli.summary import say_what_ran
from stride_monai.cli.terminal import plain, progress_bars, say
from stride_monai.guard import if_stopped

if TYPE_CHECKING:
    from stride_monai.screening.classify.inputs import CellInputs
    from stride_monai.screening.classify.results import ClassifiedCell, Tally, Used

__all__ = ["classify"]

_SHOWN = 20  # failures that are told one by one; the table has all


def classify(
    cells: Annotated[
        list[Path],
        typer.Argument(
            help="Pictures of single cells, folders of them, or lists: path, and x, y of cells on slides and fields."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for cells.csv and classify.json.")],
    mpp: Annotated[
        float | None,
        typer.Option(help="um/px of the pictures, needed where the files do not say; wins over what they state."),
    ] = None,
    boxes: Annotated[
        str, typer.Option(help="What x, y are where a list has width, height too: center, or corner (left, upper).")
    ] = "center",
    descriptions: Annotated[
        bool, typer.Option("--descriptions", help="Say in words why, with the bundle text_align.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    profile: Annotated[str, typer.Option(help="tiny (weights shipped) or paper (your own weights).")] = "tiny",
    classifier: Annotated[
        str,
        typer.Option(help="auto (the one whose weights are named, else cell_cls), cell_cls, swift_mil or coloradv."),
    ] = "auto",
    bundles: BundlesOption = None,
    weights: WeightsOption = None,
    batch_size: Annotated[int, typer.Option(help="Crops in memory at a time; changes no result.")] = 64,
) -> None:
    """Classify single cells: each picture, or each point on a slide or field, gets its class and probabilities.

    A picture that is smaller than the field of view is padded with its own background, a larger one is cut to its
    middle; um/px alone resizes. The exit status is 1 if any cell failed.
    """
    from stride_monai.screening.classify.config import ClassifyConfig
    from stride_monai.screening.classify.guarded import GuardedCells
    from stride_monai.screening.classify.inputs import CellInputs
    from stride_monai.screening.classify.run import check_cells_config, classify_into
    from stride_monai.screening.config import parse_weights

    config = ClassifyConfig(
        mpp=mpp,
        boxes=boxes,
        device=device,
        profile=profile,
        bundles=bundles,
        classifier=classifier,
        descriptions=descriptions,
        weights=parse_weights(weights or []),
    )
    check_cells_config(config)
    inputs = CellInputs(cells, config.boxes)
    with progress_bars() as progress:
        watch = _Watch(progress)
        with if_stopped(watch.so_far), GuardedCells(config, watch.load) as one:
            tally = classify_into(out, one, inputs, config, batch_size, watch.done)
            used = one.used
    _summarize(tally, inputs, used, config.boxes, out, watch.failed)
    if tally.failed:
        raise typer.Exit(1)


class _Watch:
    """Shows how many cells are done, and the first that fail."""

    def __init__(self, bars: Progress) -> None:
        self.failed = 0
        self._bars = bars
        self._cells = bars.add_task("cells", total=None)

    def load(self, begins: bool) -> None:
        self._bars.update(self._cells, description="loading the networks" if begins else "cells")

    def done(self, one: ClassifiedCell) -> None:
        self._bars.update(self._cells, advance=1)
        if not one.error:
            return
        self.failed += 1
        if self.failed <= _SHOWN:
            say(f"[red]failed[/red] {plain(one.cell.name)}: {plain(one.error)}", self._bars.console)

    def so_far(self) -> str:
        return "nothing was written; give the same command again"


def _summarize(tally: Tally, inputs: CellInputs, used: Used | None, boxes: str, out: Path, failed: int) -> None:
    if failed > _SHOWN:
        say(f"[red]failed[/red] and {failed - _SHOWN} more: column error of {plain(str(out / 'cells.csv'))}")
    counts = ", ".join(f"{plain(name)} {count}" for name, count in tally.to_dict()["by_class"].items())
    say(f"{tally.cells} cells: {counts}; {tally.failed} failed")
    if inputs.sized:
        where = "the middle" if boxes == "center" else "the left upper corner"
        other = "corner" if boxes == "center" else "center"
        say(f"x, y were taken as {where} of the boxes; --boxes {other} takes them otherwise")
    if used is not None:
        cut = sum(count for fit, count in tally.fits.items() if "cut" in fit)
        padded = sum(count for fit, count in tally.fits.items() if "padded" in fit)
        view = f"field of view of {used.field_um:g} um"
        if padded:
            say(f"padded {padded}: the picture ends within the {view}, which its own background fills up")
        if cut:
            say(f"cut {cut}: the picture is larger than the {view}, and what is around its middle was classified")
    if inputs.passed_over:
        kinds = ", ".join(f"{plain(suffix)} ({count})" for suffix, count in sorted(inputs.passed_over.items())[:5])
        say(f"passed over as no pictures: {kinds}")
    say(f"table {plain(str(out / 'cells.csv'))}")
    if used is not None:
        say_what_ran(used.about)
