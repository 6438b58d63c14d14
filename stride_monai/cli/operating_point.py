"""``stride-monai operating-point``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stride_monai.cli.options import ChoosingSplitOption, ConformalOption, MapOption, TruthMapOption
from stride_monai.cli.terminal import plain, say
from stride_monai.errors import ConfigError, OutputError

if TYPE_CHECKING:
    from stride_monai.operating_point import OperatingPointFile, Share

__all__ = ["operating_point", "refuse_foreign"]


def operating_point(
    predictions: Annotated[
        Path, typer.Argument(help="Results folder of 'screen'; or a table with slide_id and score, to look at.")
    ],
    truth: Annotated[Path, typer.Option("--truth", help="Table with slide_id, label and split; a manifest is one.")],
    out: Annotated[Path, typer.Option("--out", help="The file to write, for 'screen --operating-point'.")],
    target: Annotated[float, typer.Option(help="Sensitivity to reach.")] = 0.95,
    conformal: ConformalOption = False,
    split: ChoosingSplitOption = None,
    mapping: MapOption = None,
    truth_map: TruthMapOption = None,
) -> None:
    """Choose the threshold on the slide score, on validation slides, and write it with all that it holds for."""
    from stride_monai.evaluation.choosing import operating_point_of
    from stride_monai.evaluation.inputs.mapping import read_mapping
    from stride_monai.evaluation.inputs.predictions import read_predictions
    from stride_monai.evaluation.inputs.truth import read_truth
    from stride_monai.operating_point import write_operating_point
    from stride_monai.ownership import refuse_inputs

    given = [predictions, truth, *(path for path in (mapping, truth_map) if path)]
    refuse_inputs([out], given, "choose another --out")
    refuse_foreign(out)
    said, known = read_predictions(predictions, read_mapping(mapping)), read_truth(truth, read_mapping(truth_map))
    point = operating_point_of(said, known, target, "conformal" if conformal else "plain", split)
    write_operating_point(out, point)
    for note in said.notes:
        say(f"[yellow]note[/yellow] {plain(note)}")
    _tell(point)
    say(f"operating point {plain(str(out))}")


def refuse_foreign(out: Path) -> None:
    """Raises:
    OutputError: what has the name is no operating point.
    """
    from stride_monai.operating_point import read_operating_point

    if not os.path.lexists(out):
        return
    try:
        read_operating_point(out)
    except ConfigError as error:
        raise OutputError(f"{out.absolute()} is there and is no operating point", "choose another --out") from error


def _tell(point: OperatingPointFile) -> None:
    say(plain(f"threshold {point.threshold:.6f}: {point.in_words()}"))
    say(f"sensitivity {_in_words(point.sensitivity)}")
    say(f"specificity {_in_words(point.specificity)}")
    for rule, other in point.others.items():
        if "why_not" in other:
            say(plain(f"{rule} rule: {other['why_not']}"))
            continue
        cost = other["specificity"] - point.specificity.value
        said = f"specificity {other['specificity']:.3f}, {abs(cost):.3f} {'more' if cost >= 0 else 'less'}"
        say(plain(f"{rule} rule: threshold {other['threshold']:.6f}, sensitivity {other['sensitivity']:.3f}, {said}"))
    if point.chosen_on.left_out:
        said = ", ".join(f"{count:,} {why}" for why, count in point.chosen_on.left_out.items())
        say(plain(f"left out: {said}"))
    if not point.holds_for.classifier_sha256:
        say("[yellow]note[/yellow] a table names no weights: 'screen' cannot apply this operating point")


def _in_words(share: Share) -> str:
    return f"{share.value:.3f} ({share.low:.3f} to {share.high:.3f}; {share.found:,} of {share.of:,})"
