"""What the process does that screens: one slide after the other, with networks that it loads when there is need to."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stride_monai.run_index import Outcome
from stride_monai.runs.jobs import Job, Part, attempt, never
from stride_monai.screening.batch import Batch, Writer, failed_by
from stride_monai.screening.config import ScreeningConfig
from stride_monai.screening.inputs import SlideInput, is_bag_path, open_input
from stride_monai.screening.store import About

__all__ = ["Load", "Look", "Screen", "worker"]

_REPORT_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Look:
    """Open the slide and close it again: what cannot be opened needs no networks. The answer is a failure or None."""

    item: SlideInput


@dataclass(frozen=True, slots=True)
class Load:
    """Load the networks. The answer is what screens."""


@dataclass(frozen=True, slots=True)
class Screen:
    """Screen the slide, which the networks are there for. The answer is its outcome."""

    item: SlideInput


Report = Callable[..., None]


def worker(
    config: ScreeningConfig, out: Path, overwrite: bool, load_writers: Callable[[], Mapping[str, Writer]]
) -> Callable[[Any, Report], Any]:
    """A handler of requests, for :class:`~stride_monai.guard.Guard`.

    Args:
        out, overwrite: as of :class:`~stride_monai.screening.Batch`.
    """
    batches: list[Batch] = []

    def handle(request: Look | Load | Screen, report: Report) -> Outcome | About | None:
        match request:
            case Look(item):
                return _look(item, config, out)
            case Load():
                from stride_monai.screening.screener import Screener  # imports the networks' libraries

                writers = load_writers()
                batches.append(Batch(Screener(config), out, writers, overwrite=overwrite))
                return batches[-1].screener.models.about
            case Screen(item):
                return batches[-1](item, _seldom(report))

    return handle


def _look(item: SlideInput, config: ScreeningConfig, out: Path) -> Outcome | None:
    def look(_: Part) -> None:
        if is_bag_path(item.path):
            from stride_monai.data.bags.bag import BagFile  # the process that watches needs no Arrow

            BagFile(item.path)
        else:
            open_input(item, config).close()

    ended = attempt(Job(item.slide_id, never, look))
    return None if ended.error is None else failed_by(out, item, ended)


def _seldom(report: Report) -> Callable[[SlideInput, int, int], None]:
    """Reports of tiles, no more than can be seen: each costs the time of a message."""
    last = 0.0

    def on_progress(item: SlideInput, done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if done in {0, 1, total} or now - last >= _REPORT_SECONDS:
            last = now
            report(done, total)

    return on_progress
