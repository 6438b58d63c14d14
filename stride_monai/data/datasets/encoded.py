"""Cells as features of a frozen encoder, computed once, for what trains on top of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, Protocol, Self

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from stride_monai.data.datasets.cells import CellBatch, collate_cells

__all__ = ["CellEncoder", "EncodedCells", "encode_all"]

_log = logging.getLogger(__name__)
_KNOWN = ("slide_id", "label", "target", "source")


class CellEncoder(Protocol):
    """A network that makes features ``[N, D]`` of crops ``[N, 3, S, S]``, e.g. a cell classifier."""

    training: bool

    def encode(self, images: Tensor) -> Tensor: ...
    def to(self, device: torch.device) -> Self: ...
    def train(self, mode: bool = True) -> Self: ...


@torch.no_grad()
def encode_all(encoder: CellEncoder, batches: Iterable[Tensor], device: torch.device) -> Tensor:
    """Features float32 ``[N, D]``, on the CPU, of batches of crops, from an encoder in eval mode."""
    training = encoder.training
    encoder = encoder.to(device).train(False)
    parts = [encoder.encode(batch.to(device)).float().cpu() for batch in batches]
    encoder.train(training)
    return torch.cat(parts)


class EncodedCells(Dataset[dict[str, Any]]):
    """A dataset of cells whose pictures are replaced by their features from a frozen encoder in eval mode.

    All cells are encoded, a batch at a time, when the first one is asked for: by then the encoder has its weights.
    They stay in memory, 3 KB a cell for 768 features. Of several processes each encodes all: they need them all, in an
    order that is new in every epoch. Let a loader of it have no workers, each would encode anew.

    Args:
        cells: samples with ``image`` (uint8 ``[3, S, S]``), whose attribute ``data`` says what is known of each.
        encoder: its weights must not change afterwards.
        device: where to run it.
        batch_size: cells encoded at once.
        num_workers: processes that load cells meanwhile.

    A sample is ``image`` (float32 ``[D]``) and of ``slide_id``, ``label``, ``target``, ``source`` what ``data`` has.
    """

    def __init__(
        self,
        cells: Any,
        encoder: CellEncoder,
        device: torch.device | str = "cpu",
        batch_size: int = 256,
        num_workers: int = 0,
    ) -> None:
        self.cells, self.encoder, self.device = cells, encoder, torch.device(device)
        self.batch_size, self.num_workers = batch_size, num_workers
        self.data = [{key: known[key] for key in _KNOWN if key in known} for known in cells.data]

    @cached_property
    def features(self) -> Tensor:
        """All features, float32 ``[len(self), D]``, on the CPU."""
        start = time.perf_counter()
        loader: DataLoader[Any] = DataLoader(
            self.cells, self.batch_size, num_workers=self.num_workers, collate_fn=collate_cells
        )
        features = encode_all(self.encoder, (batch["image"] for batch in loader), self.device)
        _log.info("%d cells encoded in %.0f s", len(self), time.perf_counter() - start)
        return features

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"image": self.features[index], **self.data[index]}

    def __getitems__(self, indices: Sequence[int]) -> CellBatch:
        return CellBatch(self.features[list(indices)], [self.data[index] for index in indices])
