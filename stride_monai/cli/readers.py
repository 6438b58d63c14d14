"""``stride-monai evaluate-readers`` and ``stride-monai import-reads``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stride_monai.cli.terminal import plain, say
from stride_monai.errors import ConfigError

if TYPE_CHECKING:
    from stride_monai.evaluation.readers.measures import Verdict
    from stride_monai.evaluation.readers.summary import StudySummary

__all__ = ["evaluate_readers", "import_reads"]


def evaluate_readers(
    reads: Annotated[
        Path,
        typer.Argument(
            help="Table of reads: reader, case, arm, diagnosis; also stage, seconds, score.", metavar="READS"
        ),
    ],
    truth: Annotated[
        Path, typer.Option(help="The panel's table: case, label; also expert_1, expert_2, ..., arbitration.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the report and the tables.")],
    unaided: Annotated[str | None, typer.Option(help="Arm to compare with; by default 'unaided'.")] = None,
    aided: Annotated[str | None, typer.Option(help="Arm that is compared; by default 'aided'.")] = None,
    margin: Annotated[
        float | None, typer.Option(help="Margin of non-inferiority in sensitivity, specificity and AUC, such as 0.05.")
    ] = None,
) -> None:
    """Judge a reader study: sensitivity, specificity, AUC, kappa and time of each arm, and what the help changes.

    Intervals take readers and cases for samples; docs/reader-studies.md says how.
    """
    from stride_monai.evaluation.readers.run import evaluate_readers as evaluate

    _say_study(evaluate(reads, truth, out, unaided, aided, margin))
    say(f"report {plain(str(out / 'report.html'))}")


def _say_study(summary: StudySummary) -> None:
    study = summary.study
    say(f"{len(study.readers)} readers, {len(study.cases)} cases, {len(study.reads)} reads")
    for note in summary.notes:
        say(f"[yellow]note[/yellow] {plain(note)}")
    main = (f"sensitivity ({summary.group})", f"specificity ({summary.group})", f"AUC ({summary.group})")
    for one in [*summary.arms, *(found for found, _ in summary.differences)]:
        if one.measure in main and one.estimate is not None:
            say(f"{plain(one.measure)}, {plain(one.arm)}: {one.estimate.interval.text()}")
    for one, said in summary.differences:
        if said is not None and one.measure in main:
            say(f"{plain(one.measure)}: {_word(said)} at a margin of {said.margin:g}")


def _word(said: Verdict) -> str:
    found = "not inferior" if said.non_inferior else "non-inferiority not shown"
    return f"superior, and {found}" if said.superior else found


def import_reads(
    text: Annotated[Path, typer.Argument(help="Text that holds a trial's record, with tabs between the cells.")],
    out: Annotated[Path, typer.Option(help="Folder for reads.csv, truth.csv and rows.csv.")],
    arm: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STAGE=NAME",
            help="Arm of a stage's reads, as 1=unaided, or of a group's, as A1=unaided; again for each.",
        ),
    ] = None,
) -> None:
    """Turn a trial's printed record into tables of reads and labels; rows that cannot be read for sure are flagged.

    The exit status is 1 if any row is flagged.
    """
    from stride_monai.evaluation.readers.run import import_record

    arms = {}
    for given in arm or []:
        stage, found, name = given.partition("=")
        if not found or not stage.strip() or not name.strip():
            raise ConfigError(f"--arm {given} names no arm", "write it as 1=unaided")
        arms[stage] = name
    record = import_record(text, out, arms)
    for row in record.flagged:
        say(f"[yellow]flagged[/yellow] line {row.line}: {plain('; '.join(row.problems))}")
    noted = sum(bool(row.notes) for row in record.rows)
    say(f"{len(record.rows)} rows read, {noted} of them with a note; {len(record.flagged)} flagged")
    say(f"table {plain(str(out / 'rows.csv'))}")
    if record.flagged:
        raise typer.Exit(1)
