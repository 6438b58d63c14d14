"""A folder into which a scanner drops slides: each is screened once, when it is complete."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Event

from stride_monai.errors import ConfigError
from stride_monai.files import files_below, remove_leftovers
from stride_monai.guard import unbroken
from stride_monai.ownership import refuse_within
from stride_monai.runs.claims import held
from stride_monai.runs.ledger import Ledger
from stride_monai.screening.batch import Tell, checked, parquet_kept
from stride_monai.screening.earlier import Earlier, read_earlier
from stride_monai.screening.guarded import GuardedScreening
from stride_monai.screening.inputs import SlideInput, collect
from stride_monai.screening.vitals import Vitals
from stride_monai.slides.parts import own_folders, parts_of

__all__ = ["Patience", "watch_folder"]

_ADVICE = "choose another --out, or screen the folder into it with these settings first"
Signature = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait, in seconds.

    Attributes:
        every: between two looks at the folder.
        settle: for which the files of a slide do not change before it counts as copied.
        open: for which a slide that is copied and cannot be opened may still become one; then it has failed.
        index: between two writings of the index while there is nothing else to do.
    """

    every: float = 5.0
    settle: float = 10.0
    open: float = 300.0
    index: float = 60.0


@dataclass(slots=True)
class _Waiting:
    """A slide that is not done: what its files are, since when, and when it is worth a look."""

    signature: Signature
    since: float
    next_look: float = 0.0


@dataclass(slots=True)
class _Folder:
    """What is known of the folder's slides by the path of each: those that are done, and those that wait."""

    done: dict[Path, Signature] = field(default_factory=dict)
    waiting: dict[Path, _Waiting] = field(default_factory=dict)


def watch_folder(
    one: GuardedScreening,
    folder: Path,
    out: Path,
    vitals: Vitals,
    tell: Tell,
    command: Sequence[str] = (),
    patience: Patience = Patience(),
    stop: Event | None = None,
) -> None:
    """Screen what comes into a folder until it is stopped.

    A slide is complete when its files have kept size and time for a while, and it opens. A slide that changes after
    that is screened again. What the index has as done is not looked at when the watch begins anew, unless its file is
    younger than its results; what failed is tried once more.

    Args:
        vitals: told how things are.
        stop: ends the watch when it is set.

    Raises:
        ConfigError: the folder is none; the run in ``out`` had other settings or weights.
        OutputError: results would come to lie in the folder; the output folder cannot be written to, another run is
            using it, or it vanishes.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder} is not a folder", "name the folder that the scanner writes to")
    refuse_within(out, [folder], "choose another --out")
    earlier, stop = read_earlier(out), stop or Event()
    if earlier.outcomes:
        earlier.refuse_other_settings(str(one.info()["settings"]), _ADVICE)
    begun = {"started": datetime.now(UTC).isoformat(timespec="seconds"), "command": list(command)}
    info: dict[str, object] = {**earlier.what_screened, **begun, "watched": str(folder.absolute()), **one.info()}
    with held(out) as place, Ledger(place, info, tell.note) as ledger, parquet_kept(out, ledger, tell):
        remove_leftovers(out)
        for outcome in earlier.outcomes.values():
            ledger.add(replace(outcome, resumed=True), {})
        watch = _Watch(one, folder, out, vitals, tell, patience, earlier, ledger)
        while not stop.is_set():
            if not watch.step():
                stop.wait(patience.every)


class _Watch:
    def __init__(
        self,
        one: GuardedScreening,
        folder: Path,
        out: Path,
        vitals: Vitals,
        tell: Tell,
        patience: Patience,
        earlier: Earlier,
        ledger: Ledger,
    ) -> None:
        self._one, self._place, self._out, self._vitals = one, folder, out, vitals
        self._tell, self._patience, self._earlier, self._ledger = tell, patience, earlier, ledger
        self._known = _Folder()
        self._settings = str(one.info()["settings"])
        self._written, self._new = time.monotonic(), False

    def step(self) -> bool:
        """Look at the folder and screen one slide that is complete; whether there was one."""
        try:
            files_below(self._place)  # a share that went away has no slides, and says so
            items = [item for item in collect([self._place]) if item.path != self._place]
        except Exception as error:  # it may come back
            self._vitals.looked(None, f"the folder cannot be listed ({error})")
            return False
        ready = [item for item in items if self._ready(item)]
        present = {item.path for item in items}
        self._known.waiting = {path: one for path, one in self._known.waiting.items() if path in present}
        self._vitals.looked(len(self._known.waiting))
        for item in ready:
            if self._screen(item):
                return True
        self._write()
        return False

    def _ready(self, item: SlideInput) -> bool:
        """Whether a slide is worth a try: not done, and unchanged for a while."""
        now, signature = time.monotonic(), _signature(item)
        if self._known.done.get(item.path) == signature:
            return False
        if item.path not in self._known.done and self._done_before(item, signature):
            self._known.done[item.path] = signature
            return False
        waits = self._known.waiting.get(item.path)
        if waits is None or waits.signature != signature:
            self._known.waiting[item.path] = _Waiting(signature, now)
            return False
        empty = not signature or any(size == 0 for path, size, _ in signature if path == str(item.path))
        ripe = now - waits.since >= (self._patience.open if empty else self._patience.settle)
        return ripe and now >= waits.next_look

    def _done_before(self, item: SlideInput, signature: Signature) -> bool:
        outcome = self._earlier.done([item], self._settings).get(item.slide_id)
        if outcome is None or not outcome.screened_at:
            return False
        screened = datetime.fromisoformat(outcome.screened_at).timestamp()  # of whole seconds, rounded down
        return all(changed // 10**9 <= screened for _, _, changed in signature)

    def _screen(self, item: SlideInput) -> bool:
        """Screen a slide, unless it cannot be opened yet; whether it is done with."""
        (item,) = checked(self._out, [item])
        waits, now = self._known.waiting[item.path], time.monotonic()
        if now - waits.since < self._patience.open and not item.problem and self._one.look(item) is not None:
            waits.next_look = now + max(self._patience.every, (now - waits.since) / 2)
            return False
        with self._vitals.at_work():
            outcome = self._one(item, self._tell.progress)
        self._earlier.refuse_other_weights(self._one.info(), _ADVICE)
        with unbroken():
            self._ledger.add(outcome, self._one.info())
            self._vitals.ended(outcome)
            self._tell.done(outcome)
        self._new = True
        del self._known.waiting[item.path]
        self._known.done[item.path] = waits.signature
        return True

    def _write(self) -> None:
        """The index, when there is time for it: seldom where it is long, as it is written as a whole."""
        long = 1 + len(self._ledger.outcomes) / 10_000
        if self._new and time.monotonic() - self._written >= self._patience.index * long:
            self._ledger.write()
            self._written, self._new = time.monotonic(), False


def _signature(item: SlideInput) -> Signature:
    """Size and time of all files of a slide; changes while it is being copied."""
    files = {item.path, *parts_of(item.path)}
    for folder in own_folders(item.path, item.slide_id):
        files |= set(files_below(folder, lambda _: None)) if folder.is_dir() else set()
    facts = []
    for path in sorted(files):
        try:
            state = path.stat()
        except OSError:
            continue
        facts.append((str(path), state.st_size, state.st_mtime_ns))
    return tuple(facts)
