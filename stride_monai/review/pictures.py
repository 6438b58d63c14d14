"""Tiles and crops as JPEG, read from the slides when they are asked for: nothing is cut beforehand or kept on disk."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Callable

import numpy as np
from PIL import Image

from stride_monai.review.library import Library, SlideEntry
from stride_monai.review.open_slides import OpenSlides
from stride_monai.review.pyramid import Pyramid
from stride_monai.slides import Pixels, Slide, crop_around
from stride_monai.units import Box

__all__ = ["CROP_PX", "CROP_UM", "ByteCache", "Pictures"]

CROP_PX = 224
"""Side of a crop in the gallery."""
CROP_UM = 80.0
"""Field of view of a crop: the same for every cell, so that sizes can be compared."""
_QUALITY = 88
_CACHE_BYTES = 64 << 20
_TOO_COARSE = 8  # a tile this much coarser than the coarsest stored level comes from an overview, which is read once
_OVERVIEWS = 2


class ByteCache:
    """The pictures last used, up to a number of bytes; safe for threads."""

    def __init__(self, capacity: int = _CACHE_BYTES) -> None:
        self._capacity, self._bytes = capacity, 0
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[object, ...], bytes] = OrderedDict()

    @property
    def size(self) -> int:
        """Bytes that are kept."""
        return self._bytes

    def get(self, key: tuple[object, ...], make: Callable[[], bytes]) -> bytes:
        """What was made for this key, or is made now; two threads that ask at once may both make it."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        content = make()
        with self._lock:
            self._bytes += len(content) - len(self._kept.pop(key, b""))
            self._kept[key] = content
            while self._bytes > self._capacity:
                self._bytes -= len(self._kept.popitem(last=False)[1])
        return content


class Pictures:
    """Pictures of the slides of a library."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._slides = OpenSlides()
        self._cache = ByteCache()
        self._overviews: OrderedDict[tuple[str, str], tuple[Pixels, float]] = OrderedDict()
        self._overview_lock = threading.Lock()

    def tile(self, slide_id: str, level: int, column: int, row: int) -> bytes:
        """One tile (:class:`~stride_monai.review.pyramid.Pyramid`) as JPEG.

        Raises:
            UnknownSlideError, TileOutsideError: there is none.
            SlideError: the slide's file is gone, is another one, or cannot be read there.
        """
        entry = self._library.entry(slide_id)

        def make() -> bytes:
            with self._slides.use(entry.version, lambda: self._library.open(entry)) as slide:
                pyramid = Pyramid(slide.width, slide.height)
                box, scale = pyramid.box(level, column, row), pyramid.scale(level)
                if scale >= _TOO_COARSE * slide.facts.levels[-1].downsample:
                    return _jpeg(self._from_overview(entry, slide, box, scale))
                return _jpeg(slide.read(box, slide.mpp * scale))

        return self._cache.get((entry.version, level, column, row), make)

    def crop(self, slide_id: str, box: Box) -> bytes:
        """A cell in its surroundings, :data:`CROP_UM` wide and high, as JPEG.

        Raises:
            UnknownSlideError, SlideError: as :meth:`tile`.
        """
        entry = self._library.entry(slide_id)

        def make() -> bytes:
            with self._slides.use(entry.version, lambda: self._library.open(entry)) as slide:
                return _jpeg(crop_around(slide, *box.center, CROP_PX, CROP_UM / CROP_PX))

        return self._cache.get((entry.version, *box.center), make)

    def close(self) -> None:
        """Close the slides."""
        self._slides.close()

    def _from_overview(self, entry: SlideEntry, slide: Slide, box: Box, scale: int) -> Pixels:
        """Part of the slide as a whole: a file without small levels would be decoded for every such tile."""
        with self._overview_lock:
            key = (entry.version, "overview")
            if key not in self._overviews:
                pixels, _, downsample = slide.survey(slide.mpp * _TOO_COARSE * slide.facts.levels[-1].downsample)
                self._overviews[key] = pixels, downsample
                while len(self._overviews) > _OVERVIEWS:
                    self._overviews.popitem(last=False)
            self._overviews.move_to_end(key)
            pixels, downsample = self._overviews[key]
        size = (round(box.width / scale), round(box.height / scale))
        part = tuple(side / downsample for side in box)
        picture = Image.fromarray(pixels).resize(size, Image.Resampling.BOX, _inside(part, pixels.shape))
        return np.asarray(picture)


def _inside(part: tuple[float, ...], shape: tuple[int, ...]) -> tuple[float, float, float, float]:
    """A box of an overview without what its rounding adds beyond the border."""
    x0, y0, x1, y1 = part
    return x0, y0, min(x1, float(shape[1])), min(y1, float(shape[0]))


def _jpeg(pixels: Pixels) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=_QUALITY)
    return stream.getvalue()
