"""Several processes that screen, side by side on one machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from queue import SimpleQueue

from stride_monai.errors import ConfigError
from stride_monai.run_index import Outcome
from stride_monai.screening.batch import Progress
from stride_monai.screening.guarded import GuardedScreening
from stride_monai.screening.inputs import SlideInput
from stride_monai.screening.store import About

__all__ = ["Crew", "environments"]

_GPUS = Path("/proc/driver/nvidia/gpus")


class Crew:
    """So many screenings as one; each takes a slide when it is free.

    It is what :func:`~stride_monai.screening.batch.run_slides` takes with a runner
    :class:`~stride_monai.runs.Threads` of as many threads. As a context manager it ends all processes with the block.

    Args:
        make: makes one screening, given the variables of its process.
        of: the variables of each.
    """

    def __init__(self, make: Callable[[Mapping[str, str]], GuardedScreening], of: list[dict[str, str]]) -> None:
        self._all = [make(environment) for environment in of]
        self._free: SimpleQueue[GuardedScreening] = SimpleQueue()
        for one in self._all:
            self._free.put(one)
        self.note = self._all[0].note
        self._stack = ExitStack()

    @property
    def about(self) -> About | None:
        """What screens; None as long as nothing has been loaded."""
        return next((one.about for one in self._all if one.about is not None), None)

    def info(self) -> Mapping[str, object]:
        """See :class:`~stride_monai.screening.guarded.GuardedScreening`."""
        return next((one for one in self._all if one.about is not None), self._all[0]).info()

    def __call__(self, item: SlideInput, on_progress: Progress | None = None) -> Outcome:
        """See :class:`~stride_monai.screening.guarded.GuardedScreening`."""
        one = self._free.get()
        try:
            return one(item, on_progress)
        finally:
            self._free.put(one)

    def abandon(self) -> None:
        """Have the slides in hand end soon, without a trace."""
        for one in self._all:
            one.abandon()

    def __enter__(self) -> Crew:
        for one in self._all:
            self._stack.enter_context(one)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def environments(workers: int, device: str) -> list[dict[str, str]]:
    """Variables of the processes of a crew: a GPU each in turn, where there are any and none is named; else a share of
    the processors.

    Raises:
        ConfigError: there would be no process to do the work.
    """
    if workers < 1:
        raise ConfigError(f"invalid --workers {workers}", "give 1 or more")
    if workers == 1:
        return [{}]
    gpus = [] if device.partition(":")[0] in {"cpu", "mps"} else _gpus()
    threads = {} if "OMP_NUM_THREADS" in os.environ else {"OMP_NUM_THREADS": str(max(1, _cores() // workers))}
    if not gpus or ":" in device:
        return [dict(threads) for _ in range(workers)]
    return [{**threads, "CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} for number in range(workers)]


def _gpus() -> list[str]:
    """NVIDIA GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip()]
    return [str(number) for number in range(len(list(_GPUS.iterdir())))] if _GPUS.is_dir() else []


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
