"""Pictures of a slide for its report, from the slide or from its bag."""

from __future__ import annotations

import io
import math
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from stride_monai.data.bags.bag import BagFile, encode_crop
from stride_monai.errors import RegionError
from stride_monai.findings import GALLERY_SIZE, Pictures
from stride_monai.ground import Ground
from stride_monai.slides import Slide
from stride_monai.slides.crops import in_focus
from stride_monai.slides.foreground import Foreground
from stride_monai.units import Box

__all__ = ["pictures_in", "pictures_of"]

_GROUND_SIDE = 800
_MATTERS = (Ground.GLASS, Ground.PEN, Ground.BUBBLE, Ground.READ, Ground.OUT_OF_FOCUS, Ground.UNREADABLE)
"""The more a kind of ground matters to a reader, the later."""
GALLERY_MPP = 0.25  # of the gallery's pictures, where the slide is as fine


def pictures_of(
    slide: Slide, boxes: torch.Tensor, crop_px: int, crop_mpp: float, ground: Foreground | None = None
) -> Pictures:
    """Overview, and the field of view of the best cells at a resolution for the eye, finer than the networks'.

    Args:
        boxes: of the ranked cells, level-0 px ``[n, 4]``.
        crop_px, crop_mpp: of the networks' crops, whose field of view is shown.
        ground: what was read of the slide and what not, if that is known.
    """
    mpp = max(slide.mpp, GALLERY_MPP)

    def picture(sides: list[float]) -> bytes:
        box = Box(*sides)
        with suppress(RegionError):  # the report says of this cell that there is no picture
            plane = in_focus(slide, box, crop_mpp)
            return _jpeg(plane.read(Box.around(*box.center, crop_px * crop_mpp / slide.mpp), mpp=mpp))
        return b""

    with ThreadPoolExecutor(max(2, torch.get_num_threads()), thread_name_prefix="pictures") as pool:
        whole = pool.submit(slide.overview, max_side=1600)  # takes as long as all the others
        made = list(pool.map(picture, boxes[:GALLERY_SIZE].tolist()))
    overview, downsample = whole.result()
    return Pictures(
        overview=_jpeg(overview),
        overview_downsample=downsample,
        crop_mpp=mpp,
        crops={rank: jpeg for rank, jpeg in enumerate(made, start=1) if jpeg},
        ground=b"" if ground is None else _ground_png(ground, slide),
    )


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


def _ground_png(ground: Foreground, slide: Slide) -> bytes:
    """The map as a picture of the slide's extent, at most 800 px; a pixel shows what matters most of what it covers."""
    rows, columns = (math.ceil(side / ground.downsample) for side in (slide.height, slide.width))
    kinds = ground.ground[:rows, :columns]
    step = max(1, math.ceil(max(kinds.shape) / _GROUND_SIDE))
    padded = np.pad(kinds, [(0, -side % step) for side in kinds.shape], mode="edge")
    rank = np.array([_MATTERS.index(kind) for kind in Ground], np.uint8)
    blocks = rank[padded].reshape(padded.shape[0] // step, step, padded.shape[1] // step, step)
    shown = np.array(_MATTERS, np.uint8)[blocks.max(axis=(1, 3))]
    image = Image.fromarray(shown, "P")
    image.putpalette([channel for kind in Ground for channel in kind.color], "RGBA")
    stream = io.BytesIO()
    image.save(stream, "PNG", optimize=True)
    return stream.getvalue()


def _jpeg(image: NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=88)
    return stream.getvalue()
