"""Results on remote storage: each slide's folder is sent once it is finished, and the index of the run comes last.

The folder of results on this machine stays what counts: a run is taken up from it, and what is remote is a copy. So a
connection that fails costs no slide, and what is missing there is sent by the same command again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stride_monai.errors import ConfigError, OutputError
from stride_monai.findings import SlideStatus
from stride_monai.ownership import LIST_NAME, read_list
from stride_monai.run_index import PARQUET_NAME, RUN_NAME, SUMMARY_NAME, Outcome
from stride_monai.slides.remote import file_system
from stride_monai.slides.urls import is_url, without_secrets

__all__ = ["Mirror", "mirrored"]

_WAITS = (0.5, 2.0, 8.0)  # seconds before each further try
_THREADS = 2
_JUDGED = (SlideStatus.OK, SlideStatus.UNSATISFACTORY)


class Mirror:
    """Sends results to a URL that fsspec can write to. A context manager: a run that is stopped sends no more.

    A slide's folder is complete there when its list of files is: the list goes first when results are replaced, and
    comes last when all files are there. It names each file with its size and SHA-256. Of a slide that failed, the
    list is removed. Nothing else there is removed.

    Args:
        out: the folder of results.
        url: of the folder that is to hold the copy, e.g. ``s3://bucket/run``.
        waits: seconds before each further try.

    Raises:
        ConfigError: it is no URL, or one of a web server.
        MissingExtraError: fsspec is not installed.
        SlideError: fsspec does not know such URLs, or lacks the package for them.
    """

    def __init__(self, out: Path, url: str, waits: tuple[float, ...] = _WAITS) -> None:
        if not is_url(url):
            raise ConfigError(f"--mirror {url} is no URL", "give e.g. s3://bucket/folder, or a folder by --out alone")
        if url.partition("://")[0].lower() in {"http", "https"}:
            what = f"--mirror {without_secrets(url)}: a web server takes no files"
            raise ConfigError(what, "give s3://, gs:// or another storage that can be written to")
        self._out, self._name, self._waits = out, without_secrets(url), waits
        self._files, place = file_system(url, self._name)
        self._root = place.rstrip("/")
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="mirror")
        self._sent: dict[str, Future[None]] = {}

    def done(self, outcome: Outcome) -> None:
        """Send what a slide's outcome changed; returns at once."""
        work = self._slide if outcome.status in _JUDGED else self._forget
        self._sent[outcome.slide_id] = self._pool.submit(self._patiently, lambda: work(outcome.slide_id))

    def finish(self) -> None:
        """Wait for all slides, then send the index of the run.

        Raises:
            OutputError: not all is there. The index is not sent then, so that it never names what is missing.
        """
        errors = {name: error for name, sent in self._sent.items() if (error := sent.exception()) is not None}
        if not errors:
            try:
                self._patiently(self._index)
            except Exception as error:
                errors = {"the index": error}
        if errors:
            name, first = next(iter(errors.items()))
            number = f"{len(errors)} of {len(self._sent)} slides" if name != "the index" else name
            what = f"{number} could not be sent to {self._name} ({name}: {_words(first)})"
            raise OutputError(what, f"all results are in {self._out}; the same command sends what is missing")

    def __enter__(self) -> Mirror:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _slide(self, slide_id: str) -> None:
        folder, there = self._out / slide_id, f"{self._root}/{slide_id}"
        ours = read_list(folder)
        if ours is None:
            raise OutputError(f"the results of {slide_id} have no list of files", "screen the slide again")
        wanted = (folder / LIST_NAME).read_bytes()
        mark = f"{there}/{LIST_NAME}"
        if self._files.exists(mark):
            if self._files.cat_file(mark) == wanted:
                return
            self._files.rm_file(mark)
        self._files.makedirs(there, exist_ok=True)
        for name in sorted(ours.files):
            self._files.put_file(str(folder / name), f"{there}/{name}")
        self._files.pipe_file(mark, wanted)

    def _forget(self, slide_id: str) -> None:
        mark = f"{self._root}/{slide_id}/{LIST_NAME}"
        if self._files.exists(mark):
            self._files.rm_file(mark)

    def _index(self) -> None:
        self._files.makedirs(self._root, exist_ok=True)
        for name in (PARQUET_NAME, SUMMARY_NAME, RUN_NAME):
            if (self._out / name).is_file():
                self._files.put_file(str(self._out / name), f"{self._root}/{name}")

    def _patiently(self, work: Callable[[], Any]) -> None:
        for wait in (*self._waits, None):
            try:
                work()
            except (OutputError, PermissionError, NotImplementedError):
                raise
            except Exception:  # every protocol raises errors of its own kind
                if wait is None:
                    raise
                time.sleep(wait)
            else:
                return


@contextmanager
def mirrored(out: Path, url: str | None, done: Callable[[Outcome], None]) -> Iterator[Callable[[Outcome], None]]:
    """What is to be told of each outcome while the block runs, so that its results are sent too, and the index last.

    Args:
        url: where to; None for nowhere.
        done: told of each outcome first.

    Raises:
        OutputError: not all could be sent; see :class:`Mirror` for what else.
    """
    if url is None:
        yield done
        return

    def both(outcome: Outcome) -> None:
        done(outcome)
        mirror.done(outcome)

    with Mirror(out, url) as mirror:
        yield both
        mirror.finish()


def _words(error: BaseException) -> str:
    return without_secrets(" ".join(str(error).split()))[:200] or type(error).__name__
