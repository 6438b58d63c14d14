"""Many slides: one folder each, an index of the run, and nothing lost when a slide, the disk or the machine fails."""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from stride_monai.errors import OutputError, StrideError
from stride_monai.files import free_name, remove_leftovers, temporary_folder, write_bytes
from stride_monai.findings import Findings, Pictures, SlideStatus
from stride_monai.locks import HeldFolder, held
from stride_monai.ownership import refuse_inputs, refuse_within
from stride_monai.run_index import ERRORS_NAME, INDEX_NAMES, Outcome, RunIndex, without_folders
from stride_monai.screening.inputs import SlideInput
from stride_monai.screening.results import ResultFolder
from stride_monai.screening.screener import Screened, Screener
from stride_monai.slides.parts import own_folders

__all__ = ["Batch", "Writer", "screen_batch"]

_ERROR_HEAD = "stride-monai: a defect met on the slide "
Writer = Callable[[Findings, Pictures, Path], Path]
"""Writes one file of a slide into its folder. Passed in, because reports and screening do not know each other."""


@dataclass(frozen=True, slots=True)
class Batch:
    """One run over a list of slides.

    Attributes:
        out: folder of the results; one folder per slide id below it.
        writers: by name, what is written for each slide.
        overwrite: screen again what is already done with the same settings.
        command: what the user typed, for the run index.
        inputs: files and folders that the user named beside the slides' own; nothing is written over them.
    """

    screener: Screener
    out: Path
    writers: Mapping[str, Writer]
    overwrite: bool = False
    command: Sequence[str] = ()
    inputs: Sequence[Path] = ()


def screen_batch(
    batch: Batch,
    slides: Sequence[SlideInput],
    on_progress: Callable[[SlideInput, int, int], None] | None = None,
    on_done: Callable[[Outcome], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> list[Outcome]:
    """Screen every slide; a bad one never stops the rest.

    Every outcome is noted at once, so a killed run leaves a true index (:class:`~stride_monai.run_index.RunIndex`), and
    the same command takes it up again: a slide is done when all its files are there as they were written, made with the
    same settings, weights and slide file.

    Args:
        on_note: told what the user must know of the output folder.

    Raises:
        OutputError: an input would be written over; the folder cannot be written to, another run is using it, or it
            vanishes.
    """
    _refuse_inputs(batch, slides)
    note = on_note or (lambda _: None)
    with held(batch.out) as folder:
        index = RunIndex(batch.out, _info(batch, len(slides)))
        for text in (folder.note, *index.start()):
            if text:
                note(text)
        remove_leftovers(batch.out)
        try:
            for item in _checked(batch, slides):
                outcome = screen_one(batch, item, on_progress)
                folder.check()
                index.add(outcome)
                if on_done is not None:
                    on_done(outcome)
        except BaseException:
            _finish_early(index, folder)
            raise
        for text in index.finish(finished=True):
            note(text)
    return index.outcomes


def _finish_early(index: RunIndex, folder: HeldFolder) -> None:
    """The index of a run that ends before its time; whatever ended it is what is said."""
    with contextlib.suppress(OutputError):
        folder.check()
        index.finish(finished=False)


def _info(batch: Batch, slides: int) -> dict[str, object]:
    models = batch.screener.models
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "slides": slides,
        "command": list(batch.command),
        "detector": models.detector_choice._asdict(),
        "classifier": models.classifier_choice._asdict(),
        "descriptions": models.explainer.facts.to_dict(),
        "weights": dict(models.weights),
        "weights_from": {
            name: {"from": origin.how, "files": [str(file.absolute()) for file in origin.files]}
            for name, origin in models.origins.items()
        },
    }


def _refuse_inputs(batch: Batch, slides: Sequence[SlideInput]) -> None:
    """Refuse results that would come to lie on, or among, the files of a slide."""
    folders = {folder for item in slides for folder in own_folders(item.path, item.slide_id)}
    refuse_within(batch.out, folders, "choose another --out")
    outputs = [batch.out / name for name in (*INDEX_NAMES, ERRORS_NAME)]
    outputs += [batch.out / item.slide_id for item in slides if not item.problem]
    inputs = [*batch.inputs, *(item.path for item in slides), *folders]
    refuse_inputs(outputs, inputs, "choose another --out")


def _checked(batch: Batch, slides: Sequence[SlideInput]) -> list[SlideInput]:
    """The slides, with a problem where something that is not ours has the name of their results."""
    checked = []
    for item in slides:
        why = "" if item.problem else ResultFolder(batch.out, item.slide_id).why_not()
        advice = "move it elsewhere, choose another --out, or give the slide a slide_id in a manifest"
        checked.append(replace(item, problem=f"{item.path.name}: {why}: {advice}") if why else item)
    return checked


def screen_one(
    batch: Batch, item: SlideInput, on_progress: Callable[[SlideInput, int, int], None] | None = None
) -> Outcome:
    """Screen one slide and write its results; whatever happens to it is its outcome."""
    start = time.perf_counter()
    results = ResultFolder(batch.out, item.slide_id)
    try:
        if item.skipped:
            return Outcome(item.slide_id, item.path.name, SlideStatus.SKIPPED, item.problem, path=str(item.path))
        if item.problem:
            return _failed(batch, item, item.problem, start)
        if not batch.overwrite:
            done = results.done(item.path, batch.screener.config_hash(item))
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
    except StrideError as error:
        return _failed(batch, item, str(error), start)
    except Exception as error:  # a defect must not stop the other slides; the traceback is kept for its report
        what = f"{item.path.name}: unexpected {type(error).__name__}: {error}"
        return _failed(batch, item, " ".join(what.split()), start, traceback.format_exc())


def _for_slide(on_progress: Callable[[SlideInput, int, int], None], item: SlideInput) -> Callable[[int, int], None]:
    return lambda done, total: on_progress(item, done, total)


def _write(batch: Batch, screened: Screened, results: ResultFolder) -> None:
    """All files of a slide, or none: they are made under a temporary name, and moved when all of them are there."""
    try:
        with temporary_folder(batch.out) as made:
            for writer in batch.writers.values():
                writer(screened.findings, screened.pictures, made)
            results.replace(made)
    except OSError as error:
        raise OutputError(
            f"cannot write the results of {results.slide_id} ({error.strerror or error})", "check the disk space"
        ) from error


def _failed(batch: Batch, item: SlideInput, reason: str, start: float, defect: str = "") -> Outcome:
    """A slide that failed: nothing that was found earlier stays in its place."""
    try:
        ResultFolder(batch.out, item.slide_id).set_aside()
    except OutputError as error:
        reason = f"{reason} ({error.what})"
    if defect:
        reason = f"{reason}: please report it{_keep_defect(batch.out, item, defect)}"
    else:
        _forget_error(batch.out, item.slide_id)
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
