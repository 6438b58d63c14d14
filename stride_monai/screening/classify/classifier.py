"""Cells in, classes out: some at a time, each by its crop; what cannot be read fails alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from stride_monai.errors import StrideError
from stride_monai.findings import Description
from stride_monai.inferers.crops import classify_crops
from stride_monai.screening.classify.config import ClassifyConfig
from stride_monai.screening.classify.inputs import CellInput
from stride_monai.screening.classify.networks import CellNetworks, load_cell_networks
from stride_monai.screening.classify.results import ClassifiedCell, Used, failed_cell
from stride_monai.slides import Slide, cached_slide, middle_of
from stride_monai.transforms.loading import LoadCellCropd
from stride_monai.units import Box

__all__ = ["CellsClassifier", "load_cells_classifier"]

_READERS = 4  # files that are read at once


def load_cells_classifier(config: ClassifyConfig) -> CellsClassifier:
    """What classifies cells as a configuration says.

    Raises:
        BundleError, ConfigError: the networks cannot be loaded as asked.
    """
    return CellsClassifier(load_cell_networks(config), config.mpp)


class CellsClassifier:
    """Classifies cells in this process.

    Args:
        networks: as :func:`~stride_monai.screening.classify.networks.load_cell_networks` gives them.
        mpp: um/px for those whose list states none; None for the files' own.
    """

    def __init__(self, networks: CellNetworks, mpp: float | None = None) -> None:
        self.networks, self._mpp = networks, mpp
        self._load = LoadCellCropd("image", networks.crop_px, networks.crop_mpp, own_background=True)

    @property
    def used(self) -> Used:
        """What classifies, without the networks."""
        networks = self.networks
        return Used(networks.about, networks.device, networks.crop_px, networks.crop_mpp)

    def __call__(self, cells: Sequence[CellInput]) -> list[ClassifiedCell]:
        """Each cell's class, in order; their crops are in memory together.

        Raises:
            BundleError: the networks give non-finite values.
        """
        done = [failed_cell(cell, cell.problem) for cell in cells]
        places: dict[tuple[Path, float | None], list[int]] = defaultdict(list)
        for at, cell in enumerate(cells):
            if not cell.problem:
                places[cell.path, cell.mpp].append(at)
        crops: dict[int, Tensor] = {}
        with ThreadPoolExecutor(_READERS) as pool:
            for some in pool.map(lambda group: self._read([(at, cells[at]) for at in group]), places.values()):
                for at, crop, read in some:
                    done[at] = read
                    if crop is not None:
                        crops[at] = crop
        if crops:
            for at, said in zip(crops, self._said([done[at] for at in crops], [*crops.values()]), strict=True):
                done[at] = said
        return done

    def _read(self, cells: Sequence[tuple[int, CellInput]]) -> list[tuple[int, Tensor | None, ClassifiedCell]]:
        """The crops of cells of one file; None where there is none, for the reason that is given."""
        found: list[tuple[int, Tensor | None, ClassifiedCell]] = []
        why = ""
        for at, cell in cells:
            if not why:
                try:
                    slide = cached_slide(cell.path, cell.mpp or self._mpp)
                except Exception as error:
                    why = _reason(cell, error)
            if why:
                found.append((at, None, failed_cell(cell, why)))
                continue
            try:
                crop, read = self._crop(cell, slide)
                found.append((at, crop, read))
            except Exception as error:
                found.append((at, None, failed_cell(cell, _reason(cell, error))))
        return found

    def _crop(self, cell: CellInput, slide: Slide) -> tuple[Tensor | None, ClassifiedCell]:
        px, mpp = self.networks.crop_px, self.networks.crop_mpp
        x, y = cell.center or middle_of(slide, px, mpp)
        if cell.center and not (0 <= x <= slide.width and 0 <= y <= slide.height):
            what = f"({x:g}, {y:g}) is outside of the picture, which is {slide.width}x{slide.height} px"
            return None, failed_cell(cell, f"{what}: give x and y in px of it at full resolution")
        field = Box.around(x, y, px * mpp / slide.mpp)
        sample = self._load({"image": cell.path, "centre": (x, y), "mpp": cell.mpp or self._mpp})
        return sample["image"], ClassifiedCell(
            cell,
            center=(x, y),
            mpp=slide.mpp,
            mpp_source=slide.facts.mpp_source,
            fit=_fit(slide.box, field, single=cell.center is None),
            note="; ".join(slide.notes),
        )

    def _said(self, read: Sequence[ClassifiedCell], crops: Sequence[Tensor]) -> list[ClassifiedCell]:
        """What the networks say of crops."""
        networks, images = self.networks, torch.stack(list(crops))
        same, levels = networks.describer is networks.network, networks.explainer.levels
        evidence = classify_crops(images, networks.network, levels if same else ())
        words: Sequence[tuple[Description, ...]] = [()] * len(read)
        if networks.explainer.aligner is not None:
            features = evidence.features if same else classify_crops(images, networks.describer, levels).features
            words = networks.explainer.describe(features, evidence.classes, "the pictures")
        return [
            replace(one, cell_class=cell_class, probabilities=tuple(row), descriptions=texts)
            for one, cell_class, row, texts in zip(
                read, evidence.classes, evidence.probabilities.tolist(), words, strict=True
            )
        ]


def _reason(cell: CellInput, error: Exception) -> str:
    if isinstance(error, StrideError):
        return str(error)
    return f"{cell.path.name}: unexpected {type(error).__name__}: {error}: please report it"


def _fit(picture: Box, field: Box, single: bool) -> str:
    """What the field of view takes of a picture, to a thousandth of a pixel."""
    cut = single and (picture.width > field.width + 1e-3 or picture.height > field.height + 1e-3)
    beyond = min(field.x0, field.y0) < -1e-3 or field.x1 > picture.x1 + 1e-3 or field.y1 > picture.y1 + 1e-3
    return " and ".join(["cut"] * cut + ["padded"] * beyond)
