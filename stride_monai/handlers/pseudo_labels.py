"""How many pseudo-labels of an epoch were accepted, of which class, and how many of them are right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from ignite import distributed as idist
from ignite.engine import Engine
from ignite.metrics import Metric
from torch import Tensor

from stride_monai.bethesda import CELL_CLASSES
from stride_monai.losses.swift import SOURCES

__all__ = ["LABEL_SOURCES", "PSEUDO_LABELS", "LabelSources", "PseudoLabels"]

PSEUDO_LABELS = "pseudo_labels"
"""Key of an engine's output that :class:`PseudoLabels` reads."""
LABEL_SOURCES = "label_sources"
"""Key of an engine's output that :class:`LabelSources` reads."""


class PseudoLabels(Metric):
    """Counts the pseudo-labels of an epoch, over all processes, and joins these to the engine's metrics:

    - ``accepted``: share of the unlabelled cells whose pseudo-label was accepted, and ``accepted_<class>`` of those
      that the teacher took for that class (absent where it took none);
    - ``agreement``: share of the accepted ones that are right, and ``agreement_<class>``; over the cells whose class is
      known, absent where there is none. The truth is looked at here and nowhere else.

    The engine's output holds under ``pseudo_labels`` three tensors ``[M]``: the labels, which were accepted, and the
    true classes, -1 where unknown.

    Args:
        classes: names of the classes.
    """

    def __init__(self, classes: Sequence[str] = CELL_CLASSES) -> None:
        self.classes = tuple(classes)
        super().__init__(output_transform=lambda output: output[PSEUDO_LABELS])

    def reset(self) -> None:
        # Rows: labels, accepted ones, accepted ones of known cells, right ones.
        self._counts = torch.zeros(4, len(self.classes), dtype=torch.float64)

    def update(self, output: tuple[Tensor, Tensor, Tensor]) -> None:
        label, accepted, truth = output
        known = accepted & (truth >= 0)
        groups = (torch.ones_like(accepted), accepted, known, known & (truth == label))
        counts = torch.stack([torch.bincount(label[group], minlength=len(self.classes)) for group in groups])
        self._counts = self._counts.to(counts.device) + counts

    def compute(self) -> dict[str, float]:
        counts = self._counts
        if idist.get_world_size() > 1:
            counts = idist.all_reduce(counts)
        values = {}
        columns = [("", counts.sum(1)), *((f"_{name}", counts[:, c]) for c, name in enumerate(self.classes))]
        for suffix, (labels, accepted, known, right) in ((suffix, column.tolist()) for suffix, column in columns):
            if labels:
                values[f"accepted{suffix}"] = accepted / labels
            if known:
                values[f"agreement{suffix}"] = right / known
        return values

    def completed(self, engine: Engine, name: Any) -> None:
        """The values one by one, so that every handler prints and plots them."""
        for key in [key for key in engine.state.metrics if key.startswith(("accepted", "agreement"))]:
            del engine.state.metrics[key]  # of the epoch before
        engine.state.metrics.update(self.compute())


class LabelSources(Metric):
    """Where the pseudo-labels of an epoch come from (SWIFT), over all processes; joins to the engine's metrics:

    - ``from_<source>``: share of the cells whose label has this source; they add up to 1;
    - ``agreement_<source>``: share of those labels that are right, over the cells whose class is known; absent where
      there is none, and for cells without a label.

    The engine's output holds under ``label_sources`` three tensors ``[M]``: the sources (index), the labels, and the
    true classes, -1 where unknown.

    Args:
        sources: their names by index; the first stands for cells without a label.
    """

    def __init__(self, sources: Sequence[str] = SOURCES) -> None:
        self.sources = tuple(sources)
        super().__init__(output_transform=lambda output: output[LABEL_SOURCES])

    def reset(self) -> None:
        # Rows: cells, those whose class is known, those whose label is right.
        self._counts = torch.zeros(3, len(self.sources), dtype=torch.float64)

    def update(self, output: tuple[Tensor, Tensor, Tensor]) -> None:
        source, label, truth = output
        groups = (torch.ones_like(source, dtype=torch.bool), truth >= 0, truth == label)
        counts = torch.stack([torch.bincount(source[group], minlength=len(self.sources)) for group in groups])
        self._counts = self._counts.to(counts.device) + counts

    def compute(self) -> dict[str, float]:
        counts = self._counts
        if idist.get_world_size() > 1:
            counts = idist.all_reduce(counts)
        cells, known, right = counts.tolist()
        values = {f"from_{name}": count / sum(cells) for name, count in zip(self.sources, cells, strict=True)}
        for name, of, hits in zip(self.sources[1:], known[1:], right[1:], strict=True):
            if of:
                values[f"agreement_{name}"] = hits / of
        return values

    def completed(self, engine: Engine, name: Any) -> None:
        """The values one by one, so that every handler prints and plots them."""
        engine.state.metrics.update(self.compute())
