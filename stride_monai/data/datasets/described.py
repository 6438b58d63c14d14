"""Labelled cells of bags with the texts that describe them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stride_monai.data.datasets.cell_batches import BagCells
from stride_monai.data.descriptions import IMPLIED, DescriptionRules

__all__ = ["DescribedBagCells"]


class DescribedBagCells(BagCells):
    """The labelled cells of bag files with the texts that describe them.

    A sample is that of :class:`~stride_monai.data.BagCells` with ``target``: a number for each text
    (:class:`~stride_monai.data.descriptions.Target`).

    Args:
        bags, crop_px, crop_mpp, workers: as there.
        undescribed, class_mask: see :class:`~stride_monai.data.DescriptionRules`.

    Raises:
        BagError: as there. ManifestError: no cell is described.
    """

    def __init__(
        self,
        bags: Sequence[Any],
        crop_px: int | None = None,
        crop_mpp: float | None = None,
        undescribed: str = IMPLIED,
        class_mask: bool = False,
        workers: int | None = None,
    ) -> None:
        super().__init__(bags, crop_px=crop_px, crop_mpp=crop_mpp, labeled=True, workers=workers)
        found = DescriptionRules(undescribed, class_mask).targets(
            [known["label"] for known in self.data],
            [self._bags[place].descriptions(row) for place, row in self._rows],
            f"{len(self._bags)} bags",
        )
        kept = [k for k, target in enumerate(found) if target.row is not None]
        self._rows = [self._rows[k] for k in kept]
        self.data = [{**self.data[k], "target": found[k].row} for k in kept]
