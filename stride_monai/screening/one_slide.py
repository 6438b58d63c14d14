"""One slide from its file to its files of results; whatever happens to it is its outcome."""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stride_monai.errors import OutputError, StrideError
from stride_monai.files import free_name, temporary_folder, write_bytes
from stride_monai.findings import Screened, SlideStatus
from stride_monai.run_index import ERRORS_NAME, Outcome, without_folders
from stride_monai.screening.inputs import SlideInput
from stride_monai.screening.results import ResultFolder

if TYPE_CHECKING:  # the process that only watches needs no networks
    from stride_monai.screening.screener import Screener

__all__ = ["Batch", "Writer", "failed_by", "failed_slide", "not_tried", "screen_one"]

_ERROR_HEAD = "stride-monai: a defect met on the slide "
Writer = Callable[[Screened, Path, Mapping[str, Any]], Path]
"""Writes one file of a slide into its folder. Passed in, because exporters and screening do not know each other."""


@dataclass(frozen=True, slots=True)
class Batch:
    """One run over a list of slides.

    Attributes:
        out: folder of the results; one folder per slide id below it.
        writers: by name, what is written for each slide.
        overwrite: screen again what is already done with the same settings.
        command: what the user typed, for the run index.
        inputs: files and folders that the user named beside the slides' own; nothing is written over them.
        settings: of a writer, by its name; what is not named here has its own defaults.
    """

    screener: Screener
    out: Path
    writers: Mapping[str, Writer]
    overwrite: bool = False
    command: Sequence[str] = ()
    inputs: Sequence[Path] = ()
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def screen_one(
    batch: Batch, item: SlideInput, on_progress: Callable[[SlideInput, int, int], None] | None = None
) -> Outcome:
    """Screen one slide and write its results; whatever happens to it is its outcome."""
    start = time.perf_counter()
    results = ResultFolder(batch.out, item.slide_id)
    try:
        if item.problem:
            return not_tried(batch.out, item)
        if not batch.overwrite:
            done = results.done(item.path, batch.screener.config_hash(item), batch.writers)
            if done is not None:
                _forget_error(batch.out, item.slide_id)
                return Outcome.of(done, seconds=time.perf_counter() - start, path=item.path, resumed=True)
        progress = None if on_progress is None else _for_slide(on_progress, item)
        screened = batch.screener.screen(item, progress)
        written = time.perf_counter()
        _write(batch, screened, results)
        _forget_error(batch.out, item.slide_id)
        seconds = {**screened.seconds, "write": time.perf_counter() - written}
        return Outcome.of(screened.findings, seconds=time.perf_counter() - start, path=item.path, stages=seconds)
    except Exception as error:
        return failed_by(batch.out, item, error, start)


def not_tried(out: Path, item: SlideInput) -> Outcome:
    """The outcome of an input with a problem."""
    if item.skipped:
        return Outcome(item.slide_id, item.path.name, SlideStatus.SKIPPED, item.problem, path=str(item.path))
    return failed_slide(out, item, item.problem, time.perf_counter())


def failed_by(out: Path, item: SlideInput, error: Exception, start: float) -> Outcome:
    """The outcome of a slide that failed by an error; of a defect, which must not stop the others, a traceback is kept.

    Arguments as for :func:`failed_slide`.
    """
    if isinstance(error, StrideError):
        return failed_slide(out, item, str(error), start)
    what = f"{item.path.name}: unexpected {type(error).__name__}: {error}"
    return failed_slide(out, item, " ".join(what.split()), start, "".join(traceback.format_exception(error)))


def _for_slide(on_progress: Callable[[SlideInput, int, int], None], item: SlideInput) -> Callable[[int, int], None]:
    return lambda done, total: on_progress(item, done, total)


def _write(batch: Batch, screened: Screened, results: ResultFolder) -> None:
    """All files of a slide, or none: they are made under a temporary name, and moved when all of them are there."""
    try:
        with temporary_folder(batch.out) as made:
            for name, writer in batch.writers.items():
                writer(screened, made, batch.settings.get(name, {}))
            results.replace(made, batch.writers)
    except OSError as error:
        raise OutputError(
            f"cannot write the results of {results.slide_id} ({error.strerror or error})", "check the disk space"
        ) from error


def failed_slide(out: Path, item: SlideInput, reason: str, start: float, defect: str = "") -> Outcome:
    """The outcome of a slide that failed: nothing that was found earlier stays in its place.

    Args:
        out: folder of the run.
        start: when it began, by :func:`time.perf_counter`.
        defect: what to keep for whoever mends a defect, e.g. a traceback.
    """
    try:
        ResultFolder(out, item.slide_id).set_aside()
    except OutputError as error:
        reason = f"{reason} ({error.what})"
    if defect:
        reason = f"{reason}: please report it{_keep_defect(out, item, defect)}"
    else:
        _forget_error(out, item.slide_id)
    return Outcome(
        slide_id=item.slide_id,
        file_name=item.path.name,
        status=SlideStatus.FAILED,
        reason=reason,
        seconds=time.perf_counter() - start,
        path=str(item.path),
    )


def _keep_defect(out: Path, item: SlideInput, defect: str) -> str:
    """Keep a traceback for its report; where it is, in words."""
    path = out / ERRORS_NAME / f"{item.slide_id}.txt"
    if not out.is_dir():  # it vanished, and is not to be made anew without its lock
        return "; its traceback is lost with the output folder"
    if not _own_error(path):
        path = free_name(path)
    text = f"{_ERROR_HEAD}{item.slide_id}\n\n{without_folders(defect, item.path)}"
    try:
        write_bytes(path, text.encode("utf-8", "backslashreplace"))
    except OutputError as error:
        return f"; its traceback is lost, {error.what}"
    return f" with {ERRORS_NAME}/{path.name}"


def _forget_error(out: Path, slide_id: str) -> None:
    """Remove the traceback of an earlier run, which is no longer true."""
    path = out / ERRORS_NAME / f"{slide_id}.txt"
    with contextlib.suppress(OSError):
        if _own_error(path):
            path.unlink()


def _own_error(path: Path) -> bool:
    try:
        if path.is_symlink() or not path.is_file():
            return False
        with path.open("rb") as stream:
            head = stream.read(256).decode("utf-8", "replace")
    except OSError:
        return False
    # Before there was a first line of ours, a traceback was all.
    return head.startswith((_ERROR_HEAD, "Traceback (most recent call last):\n"))
