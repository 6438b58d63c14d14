"""Extended focus: a z-stack as one picture that shows, pixel by pixel, the focal plane that is sharpest there.

Its planes may be looked at one by one beside it.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stride_monai.errors import SlideError
from stride_monai.slides.protocol import PictureChoice, Pixels, Reader
from stride_monai.slides.readers.registry import AUTO, open_reader

__all__ = ["SharpestPlanes", "energy", "open_sharpest"]

_AROUND_PX = 33
"""Side of the square at level 0 over which a plane's sharpness is summed, 8 um at 0.25 um/px: a nucleus."""
_LEAST_PX = 5
_ADVICE = "leave out --plane, or give the number of one"


def open_sharpest(path: Path, name: str = AUTO, choice: PictureChoice | None = None) -> SharpestPlanes:
    """All focal planes of a file, each opened by the same reader.

    Args:
        name: of the reader; ``auto`` for the first that knows planes and opens the file.
        choice: which image; its plane is not looked at.

    Raises:
        SlideError: the file has no second focal plane, planes are of another kind, or one cannot be read.
        ConfigError, MissingExtraError: see :func:`~stride_monai.slides.readers.registry.open_reader`.
    """
    image = None if choice is None else choice.image
    try:
        second = open_reader(path, name, PictureChoice(image, 2))
    except SlideError as error:
        why = error.what.removeprefix(f"{path.name}: ")
        raise SlideError(f"{path.name}: there are no several focal planes to be merged ({why})", _ADVICE) from error
    with ExitStack() as opened:
        opened.callback(second.close)
        count = getattr(second, "focal_planes", 1)
        if count < 2:
            what = f"{path.name}: its planes are no focal planes, and are not merged"
            raise SlideError(what, "choose one by --plane N")
        planes = []
        for number in range(1, count + 1):
            planes.append(second if number == 2 else open_reader(path, second.name, PictureChoice(image, number)))
            if number != 2:
                opened.callback(planes[-1].close)
        merged = SharpestPlanes(path, planes)
        opened.pop_all()
    return merged


class SharpestPlanes:
    """Several planes of one size as one picture (:class:`~stride_monai.slides.Reader`).

    A pixel is that of the plane with the greatest sum of squared Laplacians of green in the square of 33 level-0 px
    around it; of equal ones that of the first plane. What a pixel is does not depend on the region that is read.
    Nothing is blended: every pixel was recorded so. Where planes show different things, the sharper stands.

    Args:
        planes: the open readers; closed with this one.

    Attributes:
        planes: the same.

    Raises:
        SlideError: they have no level in common.
    """

    def __init__(self, path: Path, planes: list[Reader]) -> None:
        first = planes[0]
        common = [size for size in first.level_sizes if all(size in plane.level_sizes for plane in planes)]
        if not common or common[0] != first.level_sizes[0]:
            raise SlideError(f"{path.name}: its focal planes are of different sizes", "choose one by --plane N")
        self.planes = planes
        self._levels = [[plane.level_sizes.index(size) for plane in planes] for size in common]
        self.name, self.format, self.stated, self.bounds = first.name, first.format, first.stated, first.bounds
        self.level_sizes: tuple[tuple[int, int], ...] = tuple(common)
        self.origin: tuple[int, int] = getattr(first, "origin", (0, 0))
        others = [note for note in getattr(first, "notes", ()) if not ("plane" in note and "the others" in note)]
        self.notes = (f"{len(planes)} focal planes were merged: at each pixel the sharpest", *others)

    def read_level(self, level: int, x: int, y: int, width: int, height: int) -> Pixels:
        wide, high = self.level_sizes[level]
        side = max(_LEAST_PX, round(_AROUND_PX * wide / self.level_sizes[0][0])) | 1
        margin = side // 2 + 1  # of the square, and of the Laplacian
        left, top = max(0, x - margin), max(0, y - margin)
        right, bottom = min(wide, x + width + margin), min(high, y + height + margin)
        stack = [
            plane.read_level(own, left, top, right - left, bottom - top)
            for plane, own in zip(self.planes, self._levels[level], strict=True)
        ]
        inner = (slice(y - top, y - top + height), slice(x - left, x - left + width))
        most = _sharpness(stack[0], side)[inner]
        out = stack[0][inner].copy()
        for pixels in stack[1:]:
            sharp = _sharpness(pixels, side)[inner]
            better = sharp > most
            most[better] = sharp[better]
            out[better] = pixels[inner][better]
        return out

    def close(self) -> None:
        for plane in self.planes:
            plane.close()


def _sharpness(pixels: Pixels, side: int) -> npt.NDArray[np.uint32]:
    """Sum of the squared Laplacian of green over a square around each pixel; beyond the picture nothing is.

    In whole numbers, so that it is the same wherever a region begins. Sums from the region's corner may pass 2**32;
    differences of theirs are right all the same, as that over a square of 33 px is below 2**31.
    """
    height, width = pixels.shape[:2]
    start = side // 2 + 1
    total = np.zeros((height + side, width + side), np.uint32)
    total[start : start + height, start : start + width] = energy(pixels)
    np.cumsum(total, axis=0, out=total)
    np.cumsum(total, axis=1, out=total)
    rows = total[side:] - total[:-side]
    return np.asarray(rows[:, side:] - rows[:, :-side])


def energy(pixels: Pixels) -> npt.NDArray[np.int32]:
    """The squared Laplacian of green, ``[H, W]``; beyond the picture its edge goes on."""
    green = np.pad(pixels[..., 1], 1, mode="edge").astype(np.int16)
    laplacian = -4 * green[1:-1, 1:-1]
    for part in (green[:-2, 1:-1], green[2:, 1:-1], green[1:-1, :-2], green[1:-1, 2:]):
        laplacian += part
    return np.asarray(np.multiply(laplacian, laplacian, dtype=np.int32))
