"""From paths to pixels: tiles and cell crops of slides, and bags, or the features of their cells.

Plain tensors; pixels are uint8, channel first.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Transform
from numpy.typing import NDArray

from stride_monai.data.bags.bag import BagFile
from stride_monai.data.datasets.encoded import CellEncoder, encode_all
from stride_monai.data.datasets.tensors import channel_first, crops_of, padded
from stride_monai.errors import BagError
from stride_monai.slides.cache import cached_slide
from stride_monai.slides.crops import crop_around
from stride_monai.units import Box

__all__ = ["EncodeBagd", "LoadBagd", "LoadCellCropd", "LoadSlideRegiond"]


class LoadSlideRegiond(MapTransform):
    """Replace a slide's path by a region of the slide, read at a fixed um/px.

    The sample is one of :func:`stride_monai.data.detection_tiles`: ``box`` is the region, x0, y0, x1, y1 in level-0 px;
    ``mpp`` the slide's um/px (None or absent: the file's own), afterwards the um/px that was used; ``boxes``, where it
    is there, a list of boxes in the region, which becomes a float32 tensor ``[n, 4]``; ``limits``, where it is there
    and not None, a box in level-0 px beyond which the region is painted white: nothing is known of what is there.

    Args:
        keys: of slide paths; each becomes a uint8 tensor ``[3, H, W]``, white beyond the slide's border.
        mpp: um/px of the result.

    Raises (when called):
        SlideError: the slide cannot be opened; RegionError: the region cannot be decoded.
    """

    def __init__(self, keys: KeysCollection = "image", mpp: float = 1.0) -> None:
        super().__init__(keys)
        self._mpp = mpp

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        sample = dict(data)
        for key in self.key_iterator(sample):
            slide = cached_slide(sample[key], data.get("mpp"))
            box = Box(*map(float, sample["box"]))
            pixels = slide.read(box, mpp=self._mpp)
            if sample.get("limits") is not None:
                _whiten(pixels, box, Box(*map(float, sample["limits"])))
            sample |= {key: channel_first(pixels), "mpp": slide.mpp}
        if "boxes" in sample:  # copied: the list is the dataset's
            sample["boxes"] = torch.from_numpy(np.array(sample["boxes"], dtype=np.float32).reshape(-1, 4))
        return sample


def _whiten(pixels: NDArray[np.uint8], box: Box, limits: Box) -> None:
    """Paint white, in place, the pixels of a box that lie beyond some limits, in part or wholly."""
    height, width = pixels.shape[:2]
    x, y = width / box.width, height / box.height
    left, right = math.ceil((limits.x0 - box.x0) * x - 1e-6), math.floor((limits.x1 - box.x0) * x + 1e-6)
    top, bottom = math.ceil((limits.y0 - box.y0) * y - 1e-6), math.floor((limits.y1 - box.y0) * y + 1e-6)
    hidden = np.ones((height, width), np.bool_)
    hidden[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = False
    pixels[hidden] = 255


class LoadCellCropd(MapTransform):
    """Replace a slide's path by the crop around a cell: a fixed field of view, whatever the cell's size.

    The sample is one of :func:`stride_monai.data.cell_crops`: ``centre`` is the cell's, (x, y) in level-0 px; ``mpp``
    as for :class:`LoadSlideRegiond`.

    Args:
        keys: of slide paths; each becomes a uint8 tensor ``[3, crop_px, crop_px]``.
        crop_px: side of the crop in its own px.
        crop_mpp: um/px of the crop.
        own_background: beyond the slide's border the crop is as its own background instead of white; see
            :func:`stride_monai.slides.crop_around`.

    Raises (when called):
        SlideError: the slide cannot be opened; RegionError: the region cannot be decoded.
    """

    def __init__(
        self, keys: KeysCollection = "image", crop_px: int = 224, crop_mpp: float = 0.5, own_background: bool = False
    ) -> None:
        super().__init__(keys)
        self._crop_px, self._crop_mpp, self._own_background = crop_px, crop_mpp, own_background

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        sample = dict(data)
        for key in self.key_iterator(sample):
            slide = cached_slide(sample[key], data.get("mpp"))
            x, y = map(float, sample["centre"])
            pixels = crop_around(slide, x, y, self._crop_px, self._crop_mpp, self._own_background)
            sample |= {key: channel_first(pixels), "mpp": slide.mpp}
        return sample


class LoadBagd(MapTransform):
    """Read the K best cells of a bag file; a bag of fewer is padded and masked.

    Args:
        keys: one key, of the path of a bag file; it keeps the path.
        top_k: K, cells per bag; None for as many as there are.
        crop_px: side of the crops that the network expects. Of larger crops the middle is taken, at the same um/px;
            None to take what there is.
        crop_mpp: um/px of the crops that the network expects; None to take what there is.
        allow_cut: take a bag that was cut to fewer than K cells.

    To the sample are added, zeros where padded: ``image`` uint8 ``[K, 3, crop_px, crop_px]``; ``mask`` bool ``[K]``,
    True for cells; ``boxes`` float64 ``[K, 4]``, level-0 px; ``scores`` float64 ``[K]``; ``rerank_scores`` float64
    ``[K]``, the re-ranking classifier's, NaN where there was none; ``truth`` int64 ``[K]``, index into CELL_CLASSES of
    what the bag knows of a cell, -1 where it knows nothing, and where padded; and ``detector``, the name of what chose
    the cells (:func:`stride_monai.data.bags.bag.chosen_by`): the SHA-256 of the detector's weights, another one where
    its cells were re-ranked, empty if no detector did.

    Raises (when called):
        BagError: the bag is damaged, holds no cell, knows a cell by a class that does not exist, has crops that are
            smaller or of another um/px than expected; or was cut to fewer than K cells, which is another K: a slide
            that has no more cells is padded, one whose other cells were thrown away is refused.
    """

    def __init__(
        self,
        keys: KeysCollection = "bag",
        top_k: int | None = 256,
        crop_px: int | None = None,
        crop_mpp: float | None = None,
        allow_cut: bool = False,
    ) -> None:
        super().__init__(keys)
        if len(self.keys) != 1 or (top_k is not None and top_k < 1):
            raise BagError(
                f"LoadBagd got {len(self.keys)} keys and top_k = {top_k}", "give one key and a positive top_k"
            )
        self._top_k, self._crop_px, self._crop_mpp, self._allow_cut = top_k, crop_px, crop_mpp, allow_cut

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        bag = BagFile(data[self.keys[0]])
        if len(bag) == 0:
            raise BagError(f"the bag of slide '{bag.header.slide_id}' holds no cell", "leave this slide out")
        if not self._allow_cut:
            bag.refuse_cut(self._top_k)
        k = self._top_k or len(bag)
        count = min(k, len(bag))
        rerank_scores = np.full(len(bag), np.nan) if bag.rerank_scores is None else bag.rerank_scores
        return dict(data) | {
            "image": crops_of(bag, count, k, self._crop_px, self._crop_mpp),
            "mask": torch.arange(k) < count,
            "boxes": padded(bag.boxes[:count], k),
            "scores": padded(bag.scores[:count], k),
            "truth": padded(bag.class_indices()[:count], k, fill=-1),
            "rerank_scores": padded(rerank_scores[:count], k),
            "detector": bag.header.chosen_by,
        }


class EncodeBagd(Transform):
    """Replaces the crops of a bag by their features, once, from a frozen encoder in eval mode (two-stage training).

    Stands after :class:`~stride_monai.transforms.LoadBagd`. ``image`` changes from ``[K, 3, H, W]`` to float32
    ``[K, D]`` on the CPU, zero where ``mask`` is false. Cache the result, e.g. with ``monai.data.CacheDataset``, in the
    main process: the encoder may sit on a GPU.

    Args:
        encoder: the cell classifier. device: where to run it. chunk: number of cells encoded at once.
    """

    def __init__(self, encoder: CellEncoder, device: torch.device | str = "cpu", chunk: int = 256) -> None:
        self.encoder = encoder
        self.device = torch.device(device)
        self.chunk = chunk

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        image, mask = data["image"], data["mask"]
        found = encode_all(self.encoder, torch.split(image[mask], self.chunk), self.device)
        features = torch.zeros(len(image), found.shape[1])
        features[mask] = found
        return {**data, "image": features}
