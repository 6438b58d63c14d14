"""Many slides: one folder each, an index of the run, and nothing lost when a slide, the disk or the machine fails."""

from __future__ import annotations

import shutil
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from stride_monai.errors import OutputError, StrideError
from stride_monai.files import fingerprint, write_bytes
from stride_monai.findings import Findings, Pictures, SlideStatus
from stride_monai.run_index import ERRORS_NAME, Outcome, write_run, write_summary
from stride_monai.screening.inputs import SlideInput
from stride_monai.screening.screener import Screened, Screener

__all__ = ["Batch", "Writer", "screen_batch"]

FINDINGS_FILE = "findings.json"
_PART = ".part"
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
    """

    screener: Screener
    out: Path
    writers: Mapping[str, Writer]
    overwrite: bool = False
    command: Sequence[str] = ()


def screen_batch(
    batch: Batch,
    slides: Sequence[SlideInput],
    on_progress: Callable[[SlideInput, int, int], None] | None = None,
    on_done: Callable[[Outcome], None] | None = None,
) -> list[Outcome]:
    """Screen every slide; a bad one never stops the rest.

    The index (``summary.csv``, ``run.json``) is rewritten after every slide, so a killed run leaves a true one, and the
    same command takes it up again: a slide is done when its folder is there with the same settings, weights and file.

    Raises:
        OutputError: the folder cannot be written to, or another run is using it.
    """
    started = datetime.now(UTC).isoformat(timespec="seconds")
    outcomes: list[Outcome] = []
    models = batch.screener.models

    def index(finished: bool) -> None:
        write_summary(batch.out, outcomes)
        info = {
            "started": started,
            "finished": finished,
            "slides": len(slides),
            "command": list(batch.command),
            "detector": models.detector_choice._asdict(),
            "classifier": models.classifier_choice._asdict(),
            "descriptions": models.explainer.facts.to_dict(),
            "weights": dict(models.weights),
        }
        write_run(batch.out, info, outcomes)

    with _locked(batch.out):
        for leftover in batch.out.glob(f".*{_PART}"):  # of a run that was killed while writing
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink(missing_ok=True)
        index(finished=False)
        for item in slides:
            progress = None if on_progress is None else _for_slide(on_progress, item)
            outcome = _one(batch, item, progress)
            outcomes.append(outcome)
            index(finished=len(outcomes) == len(slides))
            if on_done is not None:
                on_done(outcome)
    return outcomes


def _for_slide(on_progress: Callable[[SlideInput, int, int], None], item: SlideInput) -> Callable[[int, int], None]:
    return lambda done, total: on_progress(item, done, total)


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """The folder, for this process alone; the lock dies with the process."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = FileLock(out / ".lock")
        lock.acquire(timeout=0)
    except Timeout as error:
        raise OutputError(f"another run is writing to {out.name}", "wait for it, or choose another --out") from error
    except OSError as error:
        raise OutputError(f"cannot write to {out} ({error.strerror})", "choose another --out") from error
    try:
        yield
    finally:
        lock.release()


def _one(batch: Batch, item: SlideInput, progress: Callable[[int, int], None] | None) -> Outcome:
    start = time.perf_counter()
    try:
        if item.problem:
            return _failed(item, item.problem, start)
        folder = batch.out / item.slide_id
        if not batch.overwrite and (done := _already_done(batch, item, folder)) is not None:
            return Outcome.of(done, seconds=time.perf_counter() - start, path=item.path, resumed=True)
        screened = batch.screener.screen(item, progress)
        written = time.perf_counter()
        _write(batch, screened, folder)
        seconds = {**screened.seconds, "write": time.perf_counter() - written}
        return Outcome.of(screened.findings, seconds=time.perf_counter() - start, path=item.path, stages=seconds)
    except StrideError as error:
        return _failed(item, str(error), start)
    except Exception as error:  # a defect must not stop the other slides; the traceback is kept for its report
        log = batch.out / ERRORS_NAME / f"{item.slide_id}.txt"
        write_bytes(log, traceback.format_exc().encode())
        what = f"{item.path.name}: unexpected {type(error).__name__}: {error}"
        reason = f"{what}: please report it with {ERRORS_NAME}/{log.name}"
        return _failed(item, " ".join(reason.split()), start)


def _already_done(batch: Batch, item: SlideInput, folder: Path) -> Findings | None:
    """Findings of an earlier run, if they were made from this very file with these very settings."""
    path = folder / FINDINGS_FILE
    if not path.is_file() or not item.path.is_file():
        return None
    try:
        findings = Findings.from_json(path.read_text(encoding="utf-8"))
    except OutputError:
        return None
    same = findings.provenance.config_hash == batch.screener.config_hash(item)
    return findings if same and findings.slide.fingerprint == fingerprint(item.path) else None


def _write(batch: Batch, screened: Screened, folder: Path) -> None:
    """All files of a slide, or none: they are written to a folder beside it that is renamed at the end."""
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=_PART, dir=batch.out))
    except OSError as error:
        raise OutputError(f"cannot write to {batch.out.name} ({error.strerror})", "check the disk space") from error
    try:
        for writer in batch.writers.values():
            writer(screened.findings, screened.pictures, temporary)
        if folder.exists():
            shutil.rmtree(folder)
        temporary.chmod(0o755)
        temporary.rename(folder)
    except OSError as error:
        raise OutputError(f"cannot write the results of {folder.name} ({error.strerror})", "check the disk") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _failed(item: SlideInput, reason: str, start: float) -> Outcome:
    return Outcome(
        slide_id=item.slide_id,
        file_name=item.path.name,
        status=SlideStatus.FAILED,
        reason=reason,
        seconds=time.perf_counter() - start,
        path=str(item.path),
    )
