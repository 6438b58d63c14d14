"""Reading by cuCIM: fast, opt-in, and imported only after a process of its own has shown that the import returns.

On machines without ``/proc/modules`` the import never returns once a CUDA build of torch is loaded, and nothing can
interrupt it. So it is tried in a subprocess first, under the same circumstances and with a time limit.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stride_monai.errors import MissingExtraError, RegionError, SlideError
from stride_monai.slides.protocol import Pixels, StatedFacts, UnknownFormatError
from stride_monai.slides.tiff.layout import read_layout
from stride_monai.slides.tiff.stated import positive_number

__all__ = ["PROBE_SECONDS", "CuCIMReader", "probe_cucim"]

PROBE_SECONDS = 60.0
"""How long the import may take in the probe; it needs a few seconds where it works."""

_ADVICE = "use --reader openslide"
_probe_lock = threading.Lock()
_probe_result: list[str] = []  # the one answer of this process: empty string where cuCIM works


class CuCIMReader:
    """A slide opened by cuCIM (:class:`~stride_monai.slides.Reader`)."""

    name = "cucim"

    def __init__(self, path: Path) -> None:
        problem = probe_cucim()
        if problem:
            raise SlideError(f"{path.name}: {problem}", _ADVICE)
        self._layout = read_layout(path)
        # Otherwise its storage library leaves a log file in the working folder.
        os.environ.setdefault("CUFILE_LOGFILE_PATH", os.devnull)
        cucim = importlib.import_module("cucim")
        try:
            self._image: Any = cucim.CuImage(str(path))
            resolutions = self._image.resolutions
        except Exception as error:  # cuCIM raises bare RuntimeErrors
            raise UnknownFormatError(f"{path.name}: not a format of cuCIM ({error})") from error
        self._path = path
        self.level_sizes: tuple[tuple[int, int], ...] = tuple(
            (int(width), int(height)) for width, height in resolutions["level_dimensions"]
        )
        self._downsamples = tuple(float(d) for d in resolutions["level_downsamples"])
        self.bounds = (0, 0, *self.level_sizes[0])
        why = "" if self._layout is None else self._layout.disagrees(self.level_sizes)
        if why:  # it makes the assumptions that OpenSlide makes
            self.close()
            raise SlideError(f"{path.name}: cuCIM would show another picture ({why})", "use --reader tiff")
        self.notes = () if self._layout is None else self._layout.notes
        metadata: Mapping[str, Any] = self._image.metadata or {}
        self.format = "aperio" if "aperio" in metadata else "tiff"
        self.stated = _stated(metadata)

    def read_level(self, level: int, x: int, y: int, width: int, height: int) -> Pixels:
        if self._image is None:
            raise SlideError(f"{self._path.name} is closed")
        if self._layout is not None and self._layout.lacks(level, x, y, width, height):
            raise RegionError(f"{self._path.name}: the file does not hold the region at ({x}, {y}) of level {level}")
        downsample = self._downsamples[level]
        location = (round(x * downsample), round(y * downsample))
        try:
            region = np.asarray(self._image.read_region(location=location, size=(width, height), level=level))
        except Exception as error:  # as above
            raise RegionError(
                f"{self._path.name}: region {width}x{height} at level-0 px {location}, level {level}, "
                f"cannot be decoded ({error})"
            ) from error
        return np.ascontiguousarray(region[..., :3])

    def close(self) -> None:
        image, self._image = self._image, None
        if image is not None:
            image.close()


def probe_cucim(seconds: float = PROBE_SECONDS) -> str:
    """Whether cuCIM can be imported, found out in a subprocess, once per process.

    Returns:
        An empty string where it can, else what is wrong.

    Raises:
        MissingExtraError: cuCIM is not installed.
    """
    if "cucim" in sys.modules:
        return ""
    if importlib.util.find_spec("cucim") is None:
        raise MissingExtraError("cucim", "cucim", "the cuCIM reader")
    with _probe_lock:
        if not _probe_result:
            _probe_result.append(_try_import(seconds))
        return _probe_result[0]


def _try_import(seconds: float) -> str:
    # torch first if this process has it: with it the import hangs that works without.
    torch_first = "import torch; " if "torch" in sys.modules else ""
    with tempfile.TemporaryDirectory() as folder:  # it leaves a log file where it runs
        try:
            done = subprocess.run(
                [sys.executable, "-c", f"{torch_first}import cucim; cucim.CuImage"],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"cuCIM does not work on this machine: its import did not return within {seconds:g} s"
        except OSError as error:
            return f"cuCIM could not be tried out ({error})"
    if done.returncode == 0:
        return ""
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    return f"cuCIM cannot be imported ({lines[-1] if lines else f'exit status {done.returncode}'})"


def _stated(metadata: Mapping[str, Any]) -> StatedFacts:
    aperio = metadata.get("aperio") or {}
    mpp = positive_number(aperio.get("MPP"))
    if mpp is not None or "aperio" in metadata:
        return StatedFacts(mpp, mpp, positive_number(aperio.get("AppMag")))
    own = metadata.get("cucim") or {}
    spacing, units = own.get("spacing") or [], own.get("spacing_units") or []
    if len(spacing) >= 2 and len(units) >= 2 and all(str(unit).startswith("micro") for unit in units[:2]):
        return StatedFacts(positive_number(spacing[1]), positive_number(spacing[0]))  # in the order of its axes: y, x
    return StatedFacts()
