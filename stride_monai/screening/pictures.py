"""Pictures of a slide for its report, from the slide or from its bag."""

from __future__ import annotations

import io
from contextlib import suppress

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from stride_monai.data.bags.bag import BagFile, encode_crop
from stride_monai.errors import RegionError
from stride_monai.findings import GALLERY_SIZE, Pictures
from stride_monai.slides import Slide
from stride_monai.units import Box

__all__ = ["pictures_in", "pictures_of"]

GALLERY_MPP = 0.25  # of the gallery's pictures, where the slide is as fine


def pictures_of(slide: Slide, boxes: torch.Tensor, field_um: float) -> Pictures:
    """Overview, and the field of view of the best cells at a resolution for the eye, finer than the networks'.

    Args:
        boxes: of the ranked cells, level-0 px ``[n, 4]``.
        field_um: side of the field of view around each box's centre, um.
    """
    overview, downsample = slide.overview(max_side=1600)
    mpp = max(slide.mpp, GALLERY_MPP)
    crops = {}
    for rank, box in enumerate(boxes[:GALLERY_SIZE].tolist(), start=1):
        with suppress(RegionError):  # the report says of this cell that there is no picture
            crops[rank] = _jpeg(slide.read(Box.around(*Box(*box).center, field_um / slide.mpp), mpp=mpp))
    return Pictures(overview=_jpeg(overview), overview_downsample=downsample, crop_mpp=mpp, crops=crops)


def pictures_in(file: BagFile, crop_px: int | None = None) -> Pictures:
    """The best cells of a bag file, as it holds them: there is no slide to look at more closely, and no overview.

    Args:
        crop_px: field of view that the networks saw, see :meth:`~stride_monai.data.BagFile.window`.
    """
    cut = file.window(crop_px)
    whole = cut.stop - cut.start == file.header.crop_px
    crops = {
        row + 1: file.jpeg(row) if whole else encode_crop(file.image(row)[cut, cut])
        for row in range(min(len(file), GALLERY_SIZE))
    }
    return Pictures(overview=b"", overview_downsample=1.0, crop_mpp=file.header.crop_mpp, crops=crops)


def _jpeg(image: NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=88)
    return stream.getvalue()
