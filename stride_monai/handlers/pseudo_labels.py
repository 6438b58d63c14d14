"""How many pseudo-labels of an epoch were accepted, of which class and from where, and how many of them are right."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import torch
from ignite import distributed as idist
from ignite.engine import Engine
from ignite.metrics import Metric
from torch import Tensor

from stride_monai.bethesda import CELL_CLASSES
from stride_monai.losses.swift import SOURCES

__all__ = ["LABEL_SOURCES", "PSEUDO_LABELS", "LabelSources", "PseudoLabelShares"]

PSEUDO_LABELS = "pseudo_labels"
"""Key of an engine's output that :class:`PseudoLabelShares` reads."""
LABEL_SOURCES = "label_sources"
"""Key of an engine's output that :class:`LabelSources` reads."""


class _Counts(Metric):
    """Counts of an epoch by name, over all processes; what they say joins the engine's metrics value by value, so that
    every handler prints and plots it."""

    def __init__(self, key: str, names: Sequence[str], groups: int) -> None:
        self.names, self.groups = tuple(names), groups
        self._told: set[str] = set()
        super().__init__(output_transform=itemgetter(key))

    def reset(self) -> None:
        self._counts = torch.zeros(self.groups, len(self.names), dtype=torch.float64)

    def count(self, index: Tensor, groups: Sequence[Tensor]) -> None:
        """Count an index of names ``[M]`` in each group, bool ``[M]``."""
        counts = torch.stack([torch.bincount(index[group], minlength=len(self.names)) for group in groups])
        self._counts = self._counts.to(counts.device) + counts

    def totals(self) -> Tensor:
        """``[groups, names]``."""
        return idist.all_reduce(self._counts) if idist.get_world_size() > 1 else self._counts

    def compute(self) -> dict[str, float]:
        raise NotImplementedError

    def completed(self, engine: Engine, name: Any) -> None:
        for key in self._told:  # of the epoch before
            engine.state.metrics.pop(key, None)
        values = self.compute()
        self._told = set(values)
        engine.state.metrics.update(values)


class PseudoLabelShares(_Counts):
    """Counts the pseudo-labels of an epoch and joins these to the engine's metrics:

    - ``accepted``: share of the unlabeled cells whose pseudo-label was accepted, and ``accepted_<class>`` of those
      that the teacher took for that class (absent where it took none);
    - ``agreement``: share of the accepted ones that are right, and ``agreement_<class>``; over the cells whose class is
      known, absent where there is none. The truth is looked at here and nowhere else.

    The engine's output holds under ``pseudo_labels`` three tensors ``[M]``: the labels, which were accepted, and the
    true classes, -1 where unknown.

    Args:
        classes: names of the classes.
    """

    def __init__(self, classes: Sequence[str] = CELL_CLASSES) -> None:
        super().__init__(PSEUDO_LABELS, classes, groups=4)

    def update(self, output: tuple[Tensor, Tensor, Tensor]) -> None:
        label, accepted, truth = output
        known = accepted & (truth >= 0)
        self.count(label, (torch.ones_like(accepted), accepted, known, known & (truth == label)))

    def compute(self) -> dict[str, float]:
        counts, values = self.totals(), {}
        columns = [("", counts.sum(1)), *((f"_{name}", counts[:, c]) for c, name in enumerate(self.names))]
        for suffix, (labels, accepted, known, right) in ((suffix, column.tolist()) for suffix, column in columns):
            if labels:
                values[f"accepted{suffix}"] = accepted / labels
            if known:
                values[f"agreement{suffix}"] = right / known
        return values


class LabelSources(_Counts):
    """Where the pseudo-labels of an epoch come from (SWIFT); joins to the engine's metrics:

    - ``from_<source>``: share of the cells whose label has this source; they add up to 1;
    - ``agreement_<source>``: share of those labels that are right, over the cells whose class is known; absent where
      there is none, and for cells without a label.

    The engine's output holds under ``label_sources`` three tensors ``[M]``: the sources (index), the labels, and the
    true classes, -1 where unknown.
    """

    def __init__(self) -> None:
        super().__init__(LABEL_SOURCES, SOURCES, groups=3)

    def update(self, output: tuple[Tensor, Tensor, Tensor]) -> None:
        source, label, truth = output
        self.count(source, (torch.ones_like(source, dtype=torch.bool), truth >= 0, truth == label))

    def compute(self) -> dict[str, float]:
        cells, known, right = self.totals().tolist()
        values = {f"from_{name}": count / sum(cells) for name, count in zip(self.names, cells, strict=True)}
        for name, of, hits in zip(self.names[1:], known[1:], right[1:], strict=True):  # the first has no label
            if of:
                values[f"agreement_{name}"] = hits / of
        return values
