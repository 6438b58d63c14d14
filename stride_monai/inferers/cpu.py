"""Forwards that give the same bits however many threads, or other inputs, there are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor

__all__ = ["CPU_BATCH", "each_on_one_thread", "one_thread", "over_crops"]

_BATCH, CPU_BATCH = 32, 8
"""Crops per forward. Large ones gain nothing on a CPU, where every thread has its own forward in memory."""

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


def over_crops(forward: Callable[[Tensor], Tensor], crops: Tensor, device: torch.device, width: int) -> Tensor:
    """``forward`` of uint8 crops ``[n, 3, H, W]``, given to it as float in 0..1 on the device: ``[n, width]``.

    Every batch has the same size, the last one padded: kernels are chosen by shape, so what is computed of a cell does
    not depend on how many other cells the slide has.
    """
    size = CPU_BATCH if device.type == "cpu" else _BATCH

    @torch.inference_mode()
    def batch_of(batch: Tensor) -> Tensor:
        full = torch.zeros((size, *batch.shape[1:]), dtype=torch.uint8)
        full[: len(batch)] = batch
        images = full.to(device, non_blocking=True).float() / 255
        return forward(images)[: len(batch)]

    if not len(crops):
        return torch.zeros((0, width), device=device)
    batches = torch.split(crops, size)
    parts = each_on_one_thread(batch_of, batches) if device.type == "cpu" else [batch_of(batch) for batch in batches]
    return torch.cat(parts)
