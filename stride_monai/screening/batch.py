"""Many slides: one folder each, an index of the run, and nothing lost when a slide, the disk or the machine fails.

Whatever happens to a slide alone is its outcome.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from stride_monai.errors import OutputError
from stride_monai.files import remove_leftovers, temporary_folder
from stride_monai.findings import Screened, SlideStatus
from stride_monai.guard import unbroken
from stride_monai.ownership import refuse_inputs, refuse_within
from stride_monai.run_index import ERRORS_NAME, INDEX_NAMES, PARQUET_NAME, Outcome, without_folders
from stride_monai.runs.claims import held
from stride_monai.runs.jobs import Ended, Job, Part, attempt, never, unheard
from stride_monai.runs.ledger import Ledger
from stride_monai.runs.notes import Notes
from stride_monai.runs.runners import Runner, serial
from stride_monai.screening.earlier import Earlier
from stride_monai.screening.inputs import SlideInput
from stride_monai.screening.results import ResultFolder
from stride_monai.screening.summary_table import write_summary_parquet
from stride_monai.slides.parts import own_folders

if TYPE_CHECKING:  # the process that only watches needs no networks
    from stride_monai.screening.screener import Screener

__all__ = [
    "Batch",
    "OneByOne",
    "Progress",
    "Tell",
    "Writer",
    "checked",
    "failed_by",
    "failed_slide",
    "not_tried",
    "parquet_kept",
    "run_slides",
    "screen_batch",
]

_ERROR_HEAD = "stride-monai: a defect met on the slide "
Progress = Callable[[SlideInput, int, int], None]
"""Told of a slide's tiles: done, and in all."""
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

    def __call__(self, item: SlideInput, on_progress: Progress | None = None) -> Outcome:
        """Screen one slide and write its results; whatever happens to it is its outcome."""
        if item.problem:
            return not_tried(self.out, item)
        done = never if self.overwrite else partial(_earlier, self, item)
        progress = None if on_progress is None else partial(on_progress, item)
        ended = attempt(Job(item.slide_id, done, lambda _: _screened(self, item, progress)))
        if ended.error is not None:
            return failed_by(self.out, item, ended)
        _errors(self.out).forget(item.slide_id)
        return replace(ended.get(), seconds=ended.seconds)

    def info(self) -> Mapping[str, object]:
        """What screens, for the index of the run."""
        return self.screener.models.about.info()


def _earlier(batch: Batch, item: SlideInput) -> Outcome | None:
    results = ResultFolder(batch.out, item.slide_id)
    done = results.done(item.path, batch.screener.config_hash(item), batch.writers)
    return None if done is None else Outcome.of(done, path=item.path, resumed=True)


def _screened(batch: Batch, item: SlideInput, progress: Callable[[int, int], None] | None) -> Outcome:
    screened = batch.screener.screen(item, progress)
    start = time.perf_counter()
    _write(batch, screened, ResultFolder(batch.out, item.slide_id))
    stages = {**screened.seconds, "write": time.perf_counter() - start}
    return Outcome.of(screened.findings, path=item.path, stages=stages)


def failed_by(out: Path, item: SlideInput, ended: Ended[Any]) -> Outcome:
    """The outcome of a slide that failed; of a defect, which must not stop the others, a traceback is kept."""
    reason = f"{item.path.name}: {ended.reason}" if ended.trace else ended.reason
    return failed_slide(out, item, reason, ended.seconds, ended.trace)


def not_tried(out: Path, item: SlideInput) -> Outcome:
    """The outcome of an input with a problem."""
    if item.skipped:
        return Outcome(item.slide_id, item.path.name, SlideStatus.SKIPPED, item.problem, path=str(item.path))
    return failed_slide(out, item, item.problem, 0.0)


def _write(batch: Batch, screened: Screened, results: ResultFolder) -> None:
    """All files of a slide, or none: they are made under a temporary name, and moved when all of them are there."""
    try:
        with temporary_folder(batch.out) as made:
            for name, writer in batch.writers.items():
                writer(screened, made, batch.settings.get(name, {}))
            results.replace(made, batch.writers)
    except OutputError as error:  # a temporary name says nothing of the slide
        raise OutputError(error.what.replace(str(made.absolute()), results.slide_id), error.advice) from error
    except OSError as error:
        raise OutputError(
            f"cannot write the results of {results.slide_id} ({error.strerror or error})", "check the disk space"
        ) from error


def failed_slide(out: Path, item: SlideInput, reason: str, seconds: float, defect: str = "") -> Outcome:
    """The outcome of a slide that failed: nothing that was found earlier stays in its place.

    Args:
        defect: what to keep for whoever mends a defect, e.g. a traceback.
    """
    try:
        ResultFolder(out, item.slide_id).set_aside()
    except OutputError as error:
        reason = f"{reason} ({error.what})"
    if defect:
        reason = f"{reason}: please report it{_keep_defect(out, item, defect)}"
    else:
        _errors(out).forget(item.slide_id)
    return Outcome(
        slide_id=item.slide_id,
        file_name=item.path.name,
        status=SlideStatus.FAILED,
        reason=reason,
        seconds=seconds,
        path=str(item.path),
    )


def _keep_defect(out: Path, item: SlideInput, defect: str) -> str:
    """Keep a traceback for its report; where it is, in words."""
    if not out.is_dir():  # it vanished, and is not to be made anew without its lock
        return "; its traceback is lost with the output folder"
    try:
        path = _errors(out).write(item.slide_id, without_folders(defect, item.path))
    except OutputError as error:
        return f"; its traceback is lost, {error.what}"
    return f" with {ERRORS_NAME}/{path.name}"


def _errors(out: Path) -> Notes:
    return Notes(out / ERRORS_NAME, _ERROR_HEAD)


class OneByOne(Protocol):
    """What screens a slide: in this process or in another one."""

    def __call__(self, item: SlideInput, on_progress: Progress | None) -> Outcome:
        """Screen it; whatever happens to it alone is its outcome."""

    def info(self) -> Mapping[str, object]:
        """What screens, for the index; less where that is not known yet."""


@dataclass(frozen=True, slots=True)
class Tell:
    """Whom to tell what happens.

    Attributes:
        progress: how far a slide is.
        done: how a slide ended.
        note: what the user must know of the output folder.
    """

    progress: Progress | None = None
    done: Callable[[Outcome], None] = unheard
    note: Callable[[str], None] = unheard


_NOBODY = Tell()


def screen_batch(batch: Batch, slides: Sequence[SlideInput], tell: Tell = _NOBODY) -> list[Outcome]:
    """Screen every slide in this process; a bad one never stops the rest, unless a library aborts the process.

    Files and errors as for :func:`run_slides`.
    """
    return run_slides(batch, slides, batch.out, batch.command, batch.inputs, tell)


def run_slides(
    one: OneByOne,
    slides: Sequence[SlideInput],
    out: Path,
    command: Sequence[str] = (),
    inputs: Iterable[Path] = (),
    tell: Tell = _NOBODY,
    runner: Runner = serial,
    kept: Earlier | None = None,
) -> list[Outcome]:
    """Have every slide screened and keep the index of the run.

    Every outcome is noted at once, so a killed run leaves a true index (:class:`~stride_monai.runs.Ledger`), and
    the same command takes it up again: a slide is done when all its files are there as they were written, made with the
    same settings, weights and slide file.

    Args:
        out: folder of the results; one folder per slide id below it.
        command, inputs: see :class:`~stride_monai.screening.Batch`.
        runner: does the jobs; one that does them elsewhere pickles ``one`` and ``tell.progress``.
        kept: a run before, whose slides stand if they were done with the same settings, and are not looked at again.

    Raises:
        OutputError: an input would be written over; the folder cannot be written to, another run is using it, or it
            vanishes.
        ConfigError: the run before had other settings or weights.
    """
    _refuse_inputs(out, inputs, slides)
    info = {"started": datetime.now(UTC).isoformat(timespec="seconds"), "slides": len(slides), "command": list(command)}
    stand: Mapping[str, Outcome] = {}
    if kept is not None:
        settings = str(one.info()["settings"])
        kept.refuse_other_settings(settings)
        info, stand = {**info, **kept.what_screened}, kept.done(slides, settings)
    with (
        held(out) as folder,
        Ledger(folder, {**info, **one.info()}, tell.note) as ledger,
        parquet_kept(out, ledger, tell),
    ):
        if folder.note:
            tell.note(folder.note)
        remove_leftovers(out)
        for outcome in stand.values():
            ledger.add(outcome, {})
            tell.done(outcome)
        left = [item for item in slides if item.slide_id not in stand or item.problem]
        # Whether a slide is done is for those to say who know with what it is screened.
        jobs = [Job(item.slide_id, never, partial(_by, one, item, tell.progress)) for item in checked(out, left)]
        with closing(runner(jobs)) as run:
            for ended in run:
                outcome = ended.get()
                if kept is not None:
                    kept.refuse_other_weights(one.info())
                with unbroken():
                    ledger.add(outcome, one.info())
                    tell.done(outcome)
        remove_leftovers(out)  # of processes that were ended with a slide
        return ledger.outcomes


@contextmanager
def parquet_kept(out: Path, ledger: Ledger, tell: Tell) -> Iterator[None]:
    """The Parquet table of the run, written when the block ends, in whatever way."""
    try:
        yield
    finally:
        if len(ledger) and out.is_dir():
            try:
                write_summary_parquet(out, ledger.outcomes)
            except OutputError as error:
                tell.note(f"{PARQUET_NAME} is not of this run: {error}")


def _by(one: OneByOne, item: SlideInput, on_progress: Progress | None, _: Part) -> Outcome:
    return one(item, on_progress)


def _refuse_inputs(out: Path, others: Iterable[Path], slides: Sequence[SlideInput]) -> None:
    """Refuse results that would come to lie on, or among, the files of a slide."""
    folders = {folder for item in slides for folder in own_folders(item.path, item.slide_id)}
    refuse_within(out, folders, "choose another --out")
    outputs = [out / name for name in (*INDEX_NAMES, ERRORS_NAME)]
    outputs += [out / item.slide_id for item in slides if not item.problem]
    inputs = [*others, *(item.path for item in slides), *folders]
    refuse_inputs(outputs, inputs, "choose another --out")


def checked(out: Path, slides: Sequence[SlideInput]) -> list[SlideInput]:
    """The slides, with a problem where something that is not ours has the name of their results."""
    found = []
    for item in slides:
        why = "" if item.problem else ResultFolder(out, item.slide_id).why_not()
        advice = "move it elsewhere, choose another --out, or give the slide a slide_id in a manifest"
        found.append(replace(item, problem=f"{item.path.name}: {why}: {advice}") if why else item)
    return found
