"""The plan of a slide or field: where every cell lies, decided before a pixel is drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from stride_monai.phantom.cells.figures import Figure
from stride_monai.phantom.cells.kinds import EPITHELIAL
from stride_monai.phantom.scenes.artefacts import Artefact
from stride_monai.phantom.scenes.layout import Region
from stride_monai.phantom.stain import Centre, color_weights

__all__ = ["Common", "Plan", "Unique"]

_SQUAMOUS = set(EPITHELIAL) - {"columnar"}
_NO_SQUAMOUS_CELL = {"naked_nucleus", "swollen_nucleus", "mucus", "candida", "trichomonas", "actinomyces"}


@dataclass(frozen=True, slots=True)
class Common:
    """The abundant cells: members of the bank, turned and recoloured. One array element per cell.

    Attributes:
        member: index into :attr:`Plan.bank`.
        orientation: 0 to ``ORIENTATIONS`` - 1.
        x, y: level-0 px.
        weights: colour weights ``[n, 3, 3]`` of the cytoplasm, nuclear and accent planes.
    """

    member: NDArray[np.int32]
    orientation: NDArray[np.int32]
    x: NDArray[np.int32]
    y: NDArray[np.int32]
    weights: NDArray[np.uint16]


@dataclass(frozen=True, eq=False)
class Unique:
    """A figure that is drawn for one place only: a lesion or a hard negative.

    It is made when it is first asked for: of the thousands of hard negatives of a full slide a bag shows a few hundred.

    Attributes:
        kind: as :attr:`Figure.kind`, known before the figure is made.
        x, y: level-0 px.
        hard: a benign look-alike.
        reach_um, defocus_um: at least those of the figure.
        make: makes the figure, the same one every time.
        centre: whose stain it takes.
    """

    kind: str
    x: int
    y: int
    hard: bool
    reach_um: float
    defocus_um: float
    make: Callable[[], Figure]
    centre: Centre

    @classmethod
    def of(cls, figure: Figure, x: float, y: float, centre: Centre) -> Unique:
        """One whose figure is made already, no hard negative."""
        return cls(figure.kind, round(x), round(y), False, figure.reach_um, figure.defocus_um, lambda: figure, centre)

    @cached_property
    def figure(self) -> Figure:
        return self.make()

    @cached_property
    def weights(self) -> NDArray[np.uint16]:
        """Colour weights ``[3, 3]`` of the cytoplasm, nuclear and accent planes."""
        return color_weights(self.centre, np.array(self.figure.dyes()))


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a picture is painted from."""

    region: Region
    mpp: float
    centre: Centre
    seed: int
    bank: tuple[Figure, ...]
    common: Common
    unique: tuple[Unique, ...]
    artefacts: tuple[Artefact, ...]
    cells_drawn: int

    @property
    def squamous_cells(self) -> int:
        """Squamous cells, metaplastic ones among them, those of clumps and groups one by one."""
        normal = [figure.kind in _SQUAMOUS for figure in self.bank]
        groups = [cell.figure for cell in self.unique if cell.kind not in _NO_SQUAMOUS_CELL]
        lying_apart = int(np.count_nonzero(np.array(normal)[self.common.member]))
        return lying_apart + sum(len(figure.parts) for figure in groups if figure.label != "AGC")
