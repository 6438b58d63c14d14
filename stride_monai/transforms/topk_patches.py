"""The K most suspicious cells of a slide as a bag of crops, each of the same physical field of view."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Transform
from numpy.typing import NDArray
from torch import Tensor

from stride_monai.data.datasets.tensors import padded
from stride_monai.data.ranking import rank_boxes
from stride_monai.errors import BagError, RegionError
from stride_monai.findings import Quality
from stride_monai.slides import Slide
from stride_monai.slides.cache import cached_slide
from stride_monai.slides.crops import crop_around, in_focus
from stride_monai.slides.foreground import Foreground
from stride_monai.units import Box

__all__ = ["CellBag", "TopKCellPatches", "TopKCellPatchesd"]


class CellBag(NamedTuple):
    """A bag of K cells, best first; n <= K rows are cells, the rest is padding.

    Attributes:
        images: uint8 ``[K, 3, crop_px, crop_px]`` RGB; zeros where padded.
        boxes: float64 ``[K, 4]``, x0, y0, x1, y1 in level-0 px; zeros where padded.
        scores: float64 ``[K]``; zeros where padded.
        mask: bool ``[K]``, True for cells.
        indices: int64 ``[K]``, row of each cell in the boxes that were given; -1 where padded.
        unreadable: cells of higher rank that are not in the bag because the slide could not be decoded there.
        rerank_scores: float64 ``[K]``, by which the cells are ranked where a classifier re-ranked them
            (:class:`~stride_monai.inferers.CellReranker`), zeros where padded; None without.
        features: of the n cells ``[n, D]``, where what re-ranked them looked with the slide classifier's eyes; None
            where they are still to be computed.
        quality: of the slide that the cells were found on; None where it is not known.
        unsatisfactory: why that slide is unsatisfactory; empty where it is not, or where that is not known.
        ground: what of that slide was read and what not; None where it is not known, as in a bag file.
    """

    images: Tensor
    boxes: Tensor
    scores: Tensor
    mask: Tensor
    indices: Tensor
    unreadable: int
    rerank_scores: Tensor | None = None
    features: Tensor | None = None
    quality: Quality | None = None
    unsatisfactory: str = ""
    ground: Foreground | None = None


class TopKCellPatches(Transform):
    """Crop the K best cells of a slide: the paper's top-K cell patching.

    Every crop shows a square of ``crop_px * crop_mpp`` um around the centre of its box and is never resized to the box:
    nuclear size is the diagnostic variable. Beyond the slide's border it is white. A crop that cannot be decoded is
    left out and counted, the next cell by rank takes its place. Cells with equal scores are ordered by y0, then x0, so
    the bag does not depend on the order in which boxes are given.

    Args:
        top_k: K, cells per bag; a slide with fewer gives a padded bag.
        crop_px: side of a crop in its own px.
        crop_mpp: um/px of the crops.
        workers: threads that read; the bag does not depend on it.

    Example::

        bag = TopKCellPatches(top_k=256)("slide.svs", boxes, scores)
        logits = network(bag.images[None].float() / 255, bag.mask[None])
    """

    def __init__(self, top_k: int = 1024, crop_px: int = 224, crop_mpp: float = 0.5, workers: int = 2) -> None:
        if top_k < 1 or crop_px < 1 or not 0 < crop_mpp < float("inf") or workers < 1:
            given = f"top_k = {top_k}, crop_px = {crop_px}, crop_mpp = {crop_mpp}, workers = {workers}"
            raise BagError(given, "all of them must be positive")
        self.top_k, self.crop_px, self.crop_mpp, self.workers = top_k, crop_px, crop_mpp, workers

    def __call__(self, slide: Slide | Path | str, boxes: Any, scores: Any, mpp: float | None = None) -> CellBag:
        """Args:
            slide: an open slide, which stays open, or a path.
            boxes: ``[n, 4]`` as x0, y0, x1, y1 in level-0 px, in any order; tensor or array; n may be 0.
            scores: ``[n]``, higher is more suspicious.
            mpp: um/px of the slide's level 0 where its path is given and its own is missing or wrong.

        Raises:
            BagError: shapes do not fit, or a box or score is non-finite, or a box is turned inside out.
            SlideError: the slide cannot be opened.
        """
        opened = slide if isinstance(slide, Slide) else cached_slide(slide, mpp)
        places, values = _checked(boxes, scores, opened.facts.slide_id)
        images = torch.zeros((self.top_k, 3, self.crop_px, self.crop_px), dtype=torch.uint8)
        ranked = rank_boxes(places, values)
        kept: list[int] = []
        tried = 0
        with ThreadPoolExecutor(self.workers, thread_name_prefix="crops") as pool:
            while len(kept) < self.top_k and tried < len(ranked):
                some = ranked[tried : tried + self.top_k - len(kept)]
                kept += self._fill(images[len(kept) :], opened, places, some, pool)
                tried += len(some)
        indices = np.array(kept, dtype=np.int64)
        return CellBag(
            images=images,
            boxes=padded(places[indices], self.top_k),
            scores=padded(values[indices], self.top_k),
            mask=torch.arange(self.top_k) < len(kept),
            indices=padded(indices, self.top_k, fill=-1),
            unreadable=tried - len(kept),
        )

    def _fill(
        self, images: Tensor, slide: Slide, places: NDArray[np.float64], some: NDArray[np.intp], pool: Executor
    ) -> list[int]:
        """The crops about some boxes into the first rows of ``images``, ranked; gives the boxes that can be decoded.

        They are read in the order in which they lie on the slide, so that crops which share a tile of the file come
        soon after one another and find it decoded.
        """

        rows_of = images.numpy()  # torch would begin threads of its own for each copy

        def crop(row: int) -> bool:
            box = Box(*places[some[row]].tolist())
            try:
                plane = in_focus(slide, box, self.crop_mpp)
                rows_of[row] = crop_around(plane, *box.center, self.crop_px, self.crop_mpp).transpose(2, 0, 1)
            except RegionError:
                return False
            return True

        side = self.crop_px * self.crop_mpp / slide.mpp
        x, y = ((places[some, :2] + places[some, 2:]) / 2).T
        order = np.lexsort((x, y // side))
        there = np.zeros(len(some), bool)
        there[order] = list(pool.map(crop, order.tolist()))
        if not there.all():
            rows = np.flatnonzero(there)
            images[: len(rows)] = images[rows]
            images[len(rows) : len(some)] = 0
        return [int(index) for index in some[there]]


def _checked(boxes: Any, scores: Any, slide_id: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    places, values = (
        np.asarray(given.detach().cpu() if isinstance(given, Tensor) else given, dtype=np.float64)
        for given in (boxes, scores)
    )
    if places.size == 0 and values.size == 0:
        return np.empty((0, 4)), np.empty(0)
    if places.ndim != 2 or places.shape[1] != 4 or values.shape != places.shape[:1]:
        raise BagError(
            f"slide '{slide_id}': boxes have shape {places.shape} and scores {values.shape}", "give [n, 4] and [n]"
        )
    if not (np.isfinite(places).all() and np.isfinite(values).all()):
        raise BagError(f"slide '{slide_id}': a box or a score is non-finite", "check the detector's output")
    if np.any(places[:, 2:] < places[:, :2]):
        raise BagError(f"slide '{slide_id}': a box has x1 < x0 or y1 < y0", "give boxes as x0, y0, x1, y1")
    return places, values


class TopKCellPatchesd(MapTransform):
    """Dictionary twin of :class:`TopKCellPatches`: a slide and its boxes become a bag.

    The sample has ``boxes`` ``[n, 4]`` in level-0 px and ``scores`` ``[n]``, which become those of the bag, and may
    have ``mpp``, the slide's um/px. It gets ``mask``, ``indices`` and ``unreadable`` as of :class:`CellBag`.

    Args:
        keys: one key, of an open slide or a path; gets the crops, uint8 ``[K, 3, crop_px, crop_px]``.
        top_k, crop_px, crop_mpp, workers: as for :class:`TopKCellPatches`.

    Raises (when called):
        BagError, SlideError: as :class:`TopKCellPatches`.
    """

    def __init__(
        self,
        keys: KeysCollection = "image",
        top_k: int = 1024,
        crop_px: int = 224,
        crop_mpp: float = 0.5,
        workers: int = 2,
    ) -> None:
        super().__init__(keys)
        if len(self.keys) != 1:
            raise BagError(f"TopKCellPatchesd got {len(self.keys)} keys", "give the one key of the slide")
        self._patches = TopKCellPatches(top_k, crop_px, crop_mpp, workers)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        slide_key = self.keys[0]
        bag = self._patches(data[slide_key], data["boxes"], data["scores"], mpp=data.get("mpp"))
        names = ("boxes", "scores", "mask", "indices", "unreadable")
        return {**data, slide_key: bag.images, **{name: getattr(bag, name) for name in names}}
