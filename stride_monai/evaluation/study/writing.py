"""The files of an evaluation: complete or absent, and never in place of anybody else's."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from stride_monai.data.tables import table_text
from stride_monai.errors import OutputError
from stride_monai.evaluation.figures.style import save_for_paper
from stride_monai.evaluation.page.page import page_html
from stride_monai.evaluation.reports import write_report
from stride_monai.evaluation.study.model_card import MODEL_CARD_NAME
from stride_monai.evaluation.study.study import Study
from stride_monai.files import temporary_folder, write_bytes
from stride_monai.ownership import hand_over, read_list, refuse_foreign, refuse_inputs

__all__ = ["METRICS_NAME", "REPORT_NAME", "refuse_out", "write_study"]

METRICS_NAME, REPORT_NAME = "metrics.json", "report.html"
_OF = "evaluation"


def refuse_out(out: Path, inputs: Iterable[Path]) -> None:
    """Refuse a folder before the work begins: an input, a folder of other results, or files of such names.

    Raises:
        OutputError: naming what stands there.
    """
    inputs = list(inputs)
    advice = "choose another --out"
    refuse_inputs([out / name for name in (METRICS_NAME, REPORT_NAME)], inputs, advice)
    if any(path.is_dir() and path.resolve() == out.resolve() for path in inputs):
        raise OutputError(f"{out} is the folder of the predictions", advice)
    ours = read_list(out)
    if ours is not None and ours.of != _OF:
        raise OutputError(f"{out} holds other results of stride-monai", advice)
    refuse_foreign(
        out, (METRICS_NAME, REPORT_NAME, MODEL_CARD_NAME), lambda name: ours is not None and ours.own(out, name)
    )


def write_study(study: Study, out: Path, card: str = "") -> list[str]:
    """Write ``metrics.json``, ``report.html``, tables and figures; those of an earlier evaluation make room.

    Args:
        card: text of the model card; empty for none.

    Returns:
        Names of the files.

    Raises:
        OutputError: a name is taken by something that is not ours, or the folder cannot be written to.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with temporary_folder(out) as made:
            for part in study.parts:
                for name, (columns, rows) in part.tables.items():
                    write_bytes(made / f"{name}.csv", table_text(columns, rows))
                save_for_paper(made / "figures", {figure.name: figure.figure for figure in part.section.figures})
            write_bytes(made / REPORT_NAME, page_html(study.page).encode())
            if card:
                write_bytes(made / MODEL_CARD_NAME, card.encode())
            write_report(made / METRICS_NAME, study.metrics)
            names = sorted(path.relative_to(made).as_posix() for path in made.rglob("*") if path.is_file())
            hand_over(made, out, _OF, read_list(out), last=METRICS_NAME)
    except OSError as error:
        raise OutputError(
            f"cannot write to {out} ({error.strerror or os.strerror(error.errno or 0)})", "check it"
        ) from error
    return names
