"""A reader plug-in of a site, for files ``*.toy`` that say what happens to whoever reads them."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from stride_monai.slides.protocol import Pixels, StatedFacts, UnknownFormatError

SIZE = 600


class ToyReader:
    """``open:`` does what it names when the file is opened, ``read:`` when pixels are read."""

    name = "toy"
    format = "toy"
    suffixes = (".toy",)
    level_sizes = ((SIZE, SIZE),)
    bounds = (0, 0, SIZE, SIZE)
    stated = StatedFacts(0.5, 0.5, 20)

    def __init__(self, path: Path) -> None:
        if path.suffix != ".toy":
            raise UnknownFormatError(f"{path.name} is no toy")
        self._when, _, self._what = path.read_text().strip().partition(":")
        if self._when == "open":
            happen(self._what)

    def read_level(self, level: int, x: int, y: int, width: int, height: int) -> Pixels:
        if self._when == "read":
            happen(self._what)
        pixels = np.full((SIZE, SIZE, 3), 235, np.uint8)
        pixels[100:500, 100:500] = (200, 170, 210)
        pixels[200:240, 200:240] = pixels[300:340, 300:340] = (90, 60, 140)
        return pixels[y : y + height, x : x + width].copy()

    def close(self) -> None:
        pass


def happen(what: str) -> None:
    os.write(2, b"PatientName DOE^JANE\n")
    match what:
        case "abort":
            os.abort()
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "segfault":
            ctypes.string_at(0)
        case "sleep":
            time.sleep(120)
        case "allocate":
            kept = [bytearray(b"x" * 2**20) for _ in range(3000)]
            time.sleep(len(kept))
        case "exit":
            sys.exit(3)
        case "odd":
            raise ArithmeticError("odd")


def install(folder: Path) -> None:
    """Put the plug-in into a folder that is on ``sys.path``, as pip would."""
    info = folder / "toy_reader-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-reader\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[stride_monai.readers]\ntoy = toy_reader:ToyReader\n")
