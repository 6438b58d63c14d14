"""Evaluate a reader study into a folder, and turn a trial's record into the tables that this needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from stride_monai.data.tables import read_text
from stride_monai.errors import OutputError
from stride_monai.evaluation.figures.style import save_for_paper
from stride_monai.evaluation.page.page import page_html
from stride_monai.evaluation.readers.figures import study_figures
from stride_monai.evaluation.readers.page import study_page
from stride_monai.evaluation.readers.reads import panel_table, read_panel, read_reads, reads_table
from stride_monai.evaluation.readers.records import Record, parse_record, reads_of_record, rows_table
from stride_monai.evaluation.readers.study import reader_study
from stride_monai.evaluation.readers.summary import StudySummary, compared_arms, summarize_readers
from stride_monai.evaluation.readers.tables import study_record, study_tables
from stride_monai.evaluation.reports import write_report
from stride_monai.files import remove_leftovers, sha256_of, temporary_folder, write_bytes
from stride_monai.ownership import hand_over, read_list, refuse_inputs

__all__ = ["evaluate_readers", "import_record"]

_STUDY, _RECORD = "a reader study", "a trial's record"


def evaluate_readers(
    reads: Path,
    truth: Path,
    out: Path,
    unaided: str | None = None,
    aided: str | None = None,
    margin: float | None = None,
) -> StudySummary:
    """Write ``reader_study.json``, ``measures.csv``, ``readers.csv``, ``mcnemar.csv``, ``report.html`` and the figures.

    Args:
        reads: table of :func:`~stride_monai.evaluation.readers.reads.read_reads`. truth: of ``read_panel`` there.
        out: folder; made if need be.
        unaided, aided: names of the arms to compare. margin: of non-inferiority.

    Raises:
        ManifestError: a table is wrong. ConfigError: an arm or the margin is.
        OutputError: something that is not ours would be written over.
    """
    study = reader_study(read_reads(reads), read_panel(truth))
    summary = summarize_readers(study, compared_arms(study, unaided, aided), margin)
    sources = {path.name: sha256_of(path) for path in (reads, truth)}

    def write(made: Path) -> None:
        figures = study_figures(summary)
        for name, table in study_tables(summary).items():
            write_bytes(made / f"{name}.csv", table)
        save_for_paper(made, figures)
        write_bytes(made / "report.html", page_html(study_page(summary, figures)).encode())
        write_report(made / "reader_study.json", study_record(summary, sources))

    _fill(out, _STUDY, (reads, truth), "reader_study.json", write)
    return summary


def import_record(text: Path, out: Path, arms: Mapping[str, str] | None = None) -> Record:
    """Write ``reads.csv``, ``truth.csv`` and ``rows.csv`` of a trial's record.

    Args:
        text: that holds the record, see :mod:`stride_monai.evaluation.readers.records`. arms: as for
            :func:`~stride_monai.evaluation.readers.records.reads_of_record`.

    Raises:
        ManifestError: the text holds no record. ConfigError: an arm of no stage.
        OutputError: something that is not ours would be written over.
    """
    record = parse_record(read_text(text), text.name)
    reads = reads_of_record(record, arms)

    def write(made: Path) -> None:
        write_bytes(made / "truth.csv", panel_table([row.panel for row in record.rows]))
        write_bytes(made / "rows.csv", rows_table(record))
        write_bytes(made / "reads.csv", reads_table(reads))

    _fill(out, _RECORD, (text,), "reads.csv", write)
    return record


def _fill(out: Path, of: str, inputs: Sequence[Path], last: str, write: Callable[[Path], None]) -> None:
    """Have the files of a folder written, in place of those of an earlier run."""
    refuse_inputs([out / last], inputs, "choose another --out")
    earlier = read_list(out)
    if earlier is not None and earlier.of != of:
        raise OutputError(f"{out} holds other files of stride-monai ({earlier.of})", "choose another --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
        remove_leftovers(out)
        with temporary_folder(out) as made:
            write(made)
            hand_over(made, out, of, earlier, last)
    except OSError as error:
        raise OutputError(f"cannot write to {out} ({error.strerror or error})", "check the disk space") from error
