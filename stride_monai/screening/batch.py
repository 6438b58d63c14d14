"""Many slides: one folder each, an index of the run, and nothing lost when a slide, the disk or the machine fails."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Protocol

from stride_monai.files import remove_leftovers
from stride_monai.guard import unbroken
from stride_monai.ownership import refuse_inputs, refuse_within
from stride_monai.run_index import ERRORS_NAME, INDEX_NAMES, Outcome
from stride_monai.runs.claims import held
from stride_monai.runs.jobs import Job, Part, never, unheard
from stride_monai.runs.ledger import Ledger
from stride_monai.runs.runners import Runner, serial
from stride_monai.screening.inputs import SlideInput
from stride_monai.screening.one_slide import Batch, Progress, Writer
from stride_monai.screening.results import ResultFolder
from stride_monai.slides.parts import own_folders

__all__ = ["Batch", "OneByOne", "Progress", "Tell", "Writer", "run_slides", "screen_batch"]


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
) -> list[Outcome]:
    """Have every slide screened and keep the index of the run.

    Every outcome is noted at once, so a killed run leaves a true index (:class:`~stride_monai.runs.Ledger`), and
    the same command takes it up again: a slide is done when all its files are there as they were written, made with the
    same settings, weights and slide file.

    Args:
        out: folder of the results; one folder per slide id below it.
        command, inputs: see :class:`~stride_monai.screening.Batch`.
        runner: does the jobs; one that does them elsewhere pickles ``one`` and ``tell.progress``.

    Raises:
        OutputError: an input would be written over; the folder cannot be written to, another run is using it, or it
            vanishes.
    """
    _refuse_inputs(out, inputs, slides)
    info = {"started": datetime.now(UTC).isoformat(timespec="seconds"), "slides": len(slides), "command": list(command)}
    with held(out) as folder, Ledger(folder, {**info, **one.info()}, tell.note) as ledger:
        if folder.note:
            tell.note(folder.note)
        remove_leftovers(out)
        # Whether a slide is done is for those to say who know with what it is screened.
        jobs = [Job(item.slide_id, never, partial(_by, one, item, tell.progress)) for item in _checked(out, slides)]
        with closing(runner(jobs)) as run:
            for ended in run:
                outcome = ended.get()
                with unbroken():
                    ledger.add(outcome, one.info())
                    tell.done(outcome)
        remove_leftovers(out)  # of processes that were ended with a slide
    return ledger.outcomes


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


def _checked(out: Path, slides: Sequence[SlideInput]) -> list[SlideInput]:
    """The slides, with a problem where something that is not ours has the name of their results."""
    checked = []
    for item in slides:
        why = "" if item.problem else ResultFolder(out, item.slide_id).why_not()
        advice = "move it elsewhere, choose another --out, or give the slide a slide_id in a manifest"
        checked.append(replace(item, problem=f"{item.path.name}: {why}: {advice}") if why else item)
    return checked
