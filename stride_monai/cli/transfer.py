"""``stride-monai transfer``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stride_monai.cli.options import MapOption, TruthMapOption
from stride_monai.cli.terminal import plain, say

if TYPE_CHECKING:
    from stride_monai.evaluation.transfer import Transfer
    from stride_monai.operating_point import Share

__all__ = ["transfer"]

_ABOUT = "a transfer"
_FILES = ("transfer.html", "transfer.json")


def transfer(
    predictions: Annotated[Path, typer.Argument(help="Results folder of 'screen' of the new centre, or a table.")],
    reference: Annotated[Path, typer.Option("--reference", help="The same of the slides it was chosen on.")],
    operating_point: Annotated[Path, typer.Option("--operating-point", help="File of 'operating-point'.")],
    truth: Annotated[
        Path | None, typer.Option("--truth", help="Table with slide_id and label of the new centre.")
    ] = None,
    reference_truth: Annotated[Path | None, typer.Option(help="The same of the reference.")] = None,
    mapping: MapOption = None,
    truth_map: TruthMapOption = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for a page and transfer.json.")] = None,
) -> None:
    """Say whether an operating point holds at a new centre, and how many slides it takes to choose it anew."""
    from stride_monai.evaluation.folder import refuse_taken
    from stride_monai.evaluation.inputs.mapping import read_mapping
    from stride_monai.evaluation.inputs.predictions import read_predictions
    from stride_monai.evaluation.inputs.truth import read_truth
    from stride_monai.evaluation.reports import p_text
    from stride_monai.evaluation.transfer import transfer as compare
    from stride_monai.operating_point import read_operating_point

    if out is not None:
        given = [predictions, reference, operating_point, truth, reference_truth, mapping, truth_map]
        refuse_taken(out, _ABOUT, _FILES, [path for path in given if path is not None])
    point = read_operating_point(operating_point)
    ours, words = read_mapping(mapping), read_mapping(truth_map)
    truths = [None if path is None else read_truth(path, words) for path in (truth, reference_truth)]
    found = compare(read_predictions(predictions, ours), read_predictions(reference, ours), point, *truths)
    if out is not None:
        _write(found, out)
    for note in found.notes:
        say(f"[yellow]note[/yellow] {plain(note)}")
    for name, one in found.shifts.items():
        said = f"PSI {one.psi:.3f} (by chance below {one.psi_by_chance:.3f}), KS {one.ks:.3f} (p {p_text(one.ks_p)})"
        say(f"scores of {name} slides: {'[yellow]shifted[/yellow]' if one.shifted else 'no shift found'}, {said}")
    say(f"called positive {_in_words(found.called)}; reference {_in_words(found.reference_called)}")
    say(f"sensitivity {_in_words(found.sensitivity)}, specificity {_in_words(found.specificity)}")
    say(plain(found.verdict))
    for need in found.needed:
        slides = "" if need.slides is None else f", {need.slides:,} slides in all"
        aim = "a bound at all" if need.margin is None else f"a sensitivity at most {need.margin:g} above the target"
        say(f"to choose it anew for {aim}: {need.positives:,} positive slides{slides}")
    if out is not None:
        say(f"page {plain(str(out / _FILES[0]))}")


def _in_words(one: Share | None) -> str:
    return "not known" if one is None else f"{one.value:.3f} ({one.low:.3f} to {one.high:.3f})"


def _write(found: Transfer, out: Path) -> None:
    import json

    from stride_monai.evaluation.folder import write_folder
    from stride_monai.evaluation.page.page import page_html
    from stride_monai.evaluation.page.transfer import transfer_page
    from stride_monai.evaluation.transfer import transfer_report

    page = page_html(transfer_page(found)).encode()
    report = (json.dumps(transfer_report(found), indent=1, allow_nan=False) + "\n").encode()
    write_folder(out, _ABOUT, dict(zip(_FILES, (page, report), strict=True)), last=_FILES[1])
