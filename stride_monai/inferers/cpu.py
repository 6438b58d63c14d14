"""Forwards on a CPU that give the same bits however many threads there are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

__all__ = ["each_on_one_thread", "one_thread"]

Input = TypeVar("Input")
Output = TypeVar("Output")


def each_on_one_thread(forward: Callable[[Input], Output], inputs: Sequence[Input]) -> list[Output]:
    """``forward`` of each of the inputs, in order: as many at once as torch has threads, each on a single one.

    Threads that share an operation split its sums among them, so their number decides the last bits of the result.
    Forwards that do not share are also faster: less of a small network can be split than of a row of tiles.
    """
    with one_thread() as threads, ThreadPoolExecutor(threads, thread_name_prefix="forwards") as pool:
        return list(pool.map(forward, inputs))


@contextmanager
def one_thread() -> Iterator[int]:
    """Operations of torch inside the block, and in threads begun there, are not split; gives the threads it had.

    The number of torch's threads belongs to the process: nothing else should compute meanwhile.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)
