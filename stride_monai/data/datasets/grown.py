"""Labelled cells together with unlabelled ones that have pseudo-labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

__all__ = ["GrownCells"]


class GrownCells(Dataset[dict[str, Any]]):
    """Labelled cells, and unlabelled ones with pseudo-labels; samples have ``image`` and ``label``.

    Args:
        labelled: data set with ``image`` and ``label``, and with its items under ``data``.
        unlabelled: data set with ``image``.
        chosen: indices into it ``[n]``.
        label: their pseudo-labels ``[n]``.

    Attributes:
        data: the labels, as :class:`~stride_monai.data.CellSampler` takes them.
    """

    def __init__(self, labeled: Any, unlabeled: Any, chosen: Tensor, label: Tensor) -> None:
        self.labeled, self.unlabeled, self.chosen = labeled, unlabeled, chosen.tolist()
        self.data = [{"label": int(item["label"])} for item in labeled.data] + [{"label": c} for c in label.tolist()]

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """A batch; the cells of either set are loaded together."""
        first = len(self.labeled)
        old = [index for index in indices if index < first]
        new = [index for index in indices if index >= first]
        samples = _samples(self.labeled, old) + _samples(self.unlabeled, [self.chosen[i - first] for i in new])
        image = {index: sample["image"] for index, sample in zip(old + new, samples, strict=True)}
        return [{"image": image[index], "label": self.data[index]["label"]} for index in indices]


def _samples(cells: Any, indices: list[int]) -> list[Any]:
    if not indices:
        return []
    return list(cells.__getitems__(indices)) if hasattr(cells, "__getitems__") else [cells[i] for i in indices]
