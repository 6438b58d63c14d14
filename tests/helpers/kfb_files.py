"""Small KFB slides, written after the layout that the library ``kfbslide`` (MIT) describes in its ``_kfbformat``."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image as Pillow
from slide_files import Image, shrink

__all__ = ["Place", "write_kfb"]


class Place(NamedTuple):
    """Where a tile's JPEG lies in a file that was written, and where its record of the index."""

    offset: int
    size: int
    record: int


def write_kfb(
    path: Path,
    array: Image,
    mpp: float = 0.25,
    objective: int = 40,
    downsamples: Sequence[int] = (1, 2, 4),
    side: int = 256,
    left_out: Sequence[tuple[int, int, int]] = (),
    version: float = 1.6,
) -> dict[tuple[int, int, int], Place]:
    """Write ``array`` as KFB with macro and label images.

    Args:
        left_out: (level, column, row) of tiles that are neither in the index nor in the file.

    Returns:
        By (level, column, row) where each tile lies.
    """
    tiles = {
        (level, column, row): tile
        for level, downsample in enumerate(downsamples)
        for (column, row), tile in _cut(array if downsample == 1 else shrink(array, downsample), side).items()
        if (level, column, row) not in left_out
    }
    streams = {key: _jpeg(tile) for key, tile in tiles.items()}
    macro, label = _jpeg(array[:40, :60]), _jpeg(np.zeros((30, 30, 3), np.uint8))
    macro_at = 4 + 88 + 4  # after the first section
    label_at = macro_at + 4 + 44 + 4 + len(macro)
    index_at = label_at + 4 + 44 + 4 + len(label)
    tiles_at = index_at + 64 * len(tiles)
    head = (
        b"KFB\0" + bytes(4) + struct.pack("<fIIIII", version, len(tiles), array.shape[0], array.shape[1], objective, 0)
    )
    head = (
        head[:28]
        + b"JPEG"
        + bytes(4)
        + struct.pack("<IqIIQQfII", 60, 0, macro_at, label_at, tiles_at, index_at, mpp, 0, 0)
    )
    head += struct.pack("<I", side)
    records, places, at = [], {}, tiles_at
    for number, ((level, column, row), data) in enumerate(streams.items()):
        height, width = tiles[level, column, row].shape[:2]
        scale = objective / downsamples[level]
        record = struct.pack("<4xIIIIf8xI28x", column * side, row * side, width, height, scale, len(data))
        records.append(record)
        places[level, column, row] = Place(at, len(data), index_at + 64 * number)
        at += len(data)
    path.write_bytes(
        _section(1, head) + _image(2, macro) + _image(3, label) + b"".join(records) + b"".join(streams.values())
    )
    return places


def _cut(array: Image, side: int) -> dict[tuple[int, int], Image]:
    height, width = array.shape[:2]
    return {
        (x // side, y // side): array[y : y + side, x : x + side]
        for y in range(0, height, side)
        for x in range(0, width, side)
    }


def _jpeg(array: Image) -> bytes:
    stream = io.BytesIO()
    Pillow.fromarray(array).save(stream, "JPEG", quality=92, subsampling=0)
    return stream.getvalue()


def _section(kind: int, payload: bytes) -> bytes:
    return bytes([0xF1, kind, 0xEE, 0xEE]) + payload + bytes([0xFF, kind, 0xEE, 0xEE])


def _image(kind: int, data: bytes) -> bytes:
    with Pillow.open(io.BytesIO(data)) as image:
        width, height = image.size
    payload = struct.pack("<IIIIII", 0, height, width, 0, len(data), 4 + 44 + 4).ljust(44, b"\0")
    return _section(kind, payload) + data
