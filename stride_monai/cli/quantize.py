"""``stride-monai quantize``."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stride_monai.cli.grouped import with_groups
from stride_monai.cli.options import ChoosingSplitOption, ConformalOption, TruthMapOption
from stride_monai.cli.settings import ModelSettings
from stride_monai.cli.terminal import plain, progress_bars, say
from stride_monai.errors import ConfigError, MissingExtraError, OutputError
from stride_monai.guard import if_stopped

if TYPE_CHECKING:
    from stride_monai.evaluation.precision import PrecisionJudgement
    from stride_monai.screening.config import ScreeningConfig
    from stride_monai.screening.inputs import SlideInput

__all__ = ["quantize"]

_JUDGEMENT, _POINT = "judgement.json", "operating_point.json"


@with_groups
def quantize(
    slides: Annotated[list[Path], typer.Argument(help="Validation slides: files, folders, manifests.")],
    truth: Annotated[Path, typer.Option("--truth", help="Table with slide_id, label and split; a manifest is one.")],
    cells: Annotated[Path, typer.Option("--cells", help="Table of their marked cells.")],
    out: Annotated[
        Path, typer.Option("--out", help="Folder of the detector in int8, its operating point, the results.")
    ],
    settings: ModelSettings,
    target: Annotated[float, typer.Option(help="Sensitivity that the operating point is to reach.")] = 0.95,
    conformal: ConformalOption = False,
    split: ChoosingSplitOption = None,
    truth_map: TruthMapOption = None,
    workers: Annotated[int, typer.Option(help="Slides at once.")] = 1,
) -> None:
    """Make the detector faster on a CPU, in int8, and judge whether cells are found and slides decided as well.

    An eighth of the slides quantizes, the others judge: they are screened in float32 and in int8, on the CPU. Where
    recall of lesion cells and AUC are as high, to half a point, OUT/operating_point.json is for 'screen --runtime
    openvino --precision int8'. Else int8 is refused. Stopped, it goes on with the same command.
    """
    from stride_monai.data.cells import read_cells
    from stride_monai.evaluation.choosing import operating_point_of, validation_slides
    from stride_monai.evaluation.inputs.mapping import read_mapping
    from stride_monai.evaluation.inputs.predictions import read_predictions
    from stride_monai.evaluation.inputs.truth import read_truth
    from stride_monai.evaluation.operating_points import refuse_rule
    from stride_monai.evaluation.precision import ALLOWED, judge_precision, refuse_too_few
    from stride_monai.files import write_bytes
    from stride_monai.operating_point import write_operating_point
    from stride_monai.ownership import refuse_inputs
    from stride_monai.screening.calibration import apart

    _check_installed()
    config = settings.config(device="cpu", runtime="openvino")
    given = [*slides, truth, cells, *([truth_map] if truth_map else [])]
    refuse_inputs([out / _JUDGEMENT, out / _POINT], given, "choose another --out")
    _refuse_others(out)
    marked, (known, _) = read_cells(cells), validation_slides(read_truth(truth, read_mapping(truth_map)), split)
    learning, judging = apart(_of_truth(slides, known.slide_id))
    if not learning:
        raise ConfigError(
            f"{len(judging)} validation slides of the truth table are too few", "give 8 or more, rather 100"
        )
    known = known.taken(item.slide_id for item in judging)
    rule, to_judge = "conformal" if conformal else "plain", set(known.slide_id)
    refuse_too_few(known.positive, sum(cell.positive and cell.slide_id in to_judge for cell in marked))
    refuse_rule(rule, target, known.positive)
    fast = replace(config, precision="int8", int8_networks=out)
    (out / _POINT).unlink(missing_ok=True)
    _screen(config, judging, given, out / "float32", workers)
    _quantize(replace(config, runtime="torch"), learning, out / "networks")
    _screen(fast, judging, given, out / "int8", workers)
    judged = judge_precision("int8", out / "float32", out / "int8", known, marked)
    report = {**judged.report(), "quantized_on": [item.slide_id for item in learning]}
    write_bytes(out / _JUDGEMENT, (json.dumps(report, indent=1) + "\n").encode())
    _tell(judged)
    if judged.lost:
        raise ConfigError(
            f"int8 is refused, it is more than {ALLOWED:g} below float32: {'; '.join(judged.lost)}", "use fp32"
        )
    point = operating_point_of(read_predictions(out / "int8"), known, target, rule, split)
    write_operating_point(out / _POINT, point)
    say(plain(f"threshold {point.threshold:.6f}: {point.in_words()}"))
    say(f"operating point {plain(str(out / _POINT))}")


def _refuse_others(out: Path) -> None:
    """Raises:
    OutputError: what has the name of a file that is to be written is not of this command.
    """
    from stride_monai.cli.operating_point import refuse_foreign
    from stride_monai.ownership import read_json

    refuse_foreign(out / _POINT)
    path = out / _JUDGEMENT
    known = read_json(path)
    if os.path.lexists(path) and not (isinstance(known, dict) and "quantized_on" in known):
        raise OutputError(f"{path.absolute()} is there and is no judgement of quantize", "choose another --out")


def _check_installed() -> None:
    for package in ("openvino", "nncf"):
        if find_spec(package) is None:
            raise MissingExtraError(package, "int8", "quantize")


def _of_truth(slides: Sequence[Path], known: Sequence[str]) -> list[SlideInput]:
    """The slides that the truth table has for validation.

    Raises:
        ConfigError: there are none.
    """
    from stride_monai.screening.inputs import collect

    wanted = set(known)
    found = [item for item in collect(slides) if item.slide_id in wanted]
    if not found:
        raise ConfigError("none of the slides is a validation slide of the truth table", "see their slide_id")
    return found


def _screen(
    config: ScreeningConfig, items: Sequence[SlideInput], named: Sequence[Path], out: Path, workers: int
) -> None:
    from stride_monai.cli.screen import RunOptions, screen_all

    say(f"screening {len(items):,} slides in {out.name}")
    outcomes, _ = screen_all(config, items, named, out, RunOptions(writers="findings", workers=workers))
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    for outcome in failed:
        say(f"[yellow]failed[/yellow] {plain(outcome.slide_id)}: {plain(outcome.reason)}")


def _quantize(config: ScreeningConfig, slides: Sequence[SlideInput], home: Path) -> None:
    from stride_monai.screening.calibration import quantize as quantized

    say(f"quantizing on {len(slides):,} slides")
    with progress_bars() as progress, if_stopped(lambda: "give the same command again"):
        bar = progress.add_task("slides", total=len(slides))
        quantized(config, slides, home, lambda done: progress.update(bar, completed=done))


def _tell(judged: PrecisionJudgement) -> None:
    say(f"{judged.slides:,} slides, {judged.positives:,} positive, with {judged.lesions:,} marked lesion cells")
    for name, before, after in (
        ("AUC of the slide score", judged.float32.auc, judged.other.auc),
        ("recall of lesion cells", judged.float32.recall, judged.other.recall),
    ):
        say(f"{name}: {after:.4f}, in float32 {before:.4f}")
    mean, largest = judged.score_change
    say(f"slide scores change by {mean:.4f} on average, {largest:.4f} at most")
