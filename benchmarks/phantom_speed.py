"""Speed and memory of rendering one synthetic slide to disk, and the size of its file.

    python benchmarks/phantom_speed.py [--diameter 3] [--diameter 13] [--centre north]

Each slide is rendered in a process of its own on one core, so that its peak memory is its own. Speeds are
per second of processor time, so that other work on the machine does not count; `written` is wall clock. `painted` is
without compression and writing, on windows inside the deposit only; the slide itself also has margins of clear glass.
"""

from __future__ import annotations

import os
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from record import Record, make_parser

from stride_monai.phantom import CENTRES, render_slide
from stride_monai.phantom.painting.painter import Scene
from stride_monai.phantom.render import plan_slide

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
SIDE = 1024


@dataclass(frozen=True)
class Speed:
    """One rendered slide: seconds of wall clock and processor, bytes of memory and file."""

    width: int
    height: int
    cells: int
    seconds: float
    cpu_seconds: float
    peak: int
    at_start: int
    file: int

    @property
    def mpx(self) -> float:
        return self.width * self.height / 1e6


def rendered(folder: str, diameter: float, centre: str, label: str, seed: int) -> Speed:
    path = Path(folder) / f"speed-{diameter:g}mm.tiff"
    at_start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    cpu, start = time.process_time(), time.perf_counter()
    truth = render_slide(path, label, seed=seed, diameter_mm=diameter, centre=centre, overwrite=True)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Speed(truth.width, truth.height, truth.cells_drawn, seconds, cpu, peak, at_start, path.stat().st_size)


def painting_alone(diameter: float, centre: str, label: str, seed: int, windows: int = 12) -> tuple[float, float]:
    """Seconds to plan a slide, and Mpx/s of painting windows of it that are full of cells."""
    start = time.process_time()
    plan, _ = plan_slide(label, seed=seed, diameter_mm=diameter, centre=centre)
    scene = Scene(plan)
    planned = time.process_time() - start
    middle, reach = plan.region.width / 2, diameter * 350 / plan.mpp
    angles = np.linspace(0, 2 * np.pi, windows, endpoint=False)
    side = min(SIDE, plan.region.width)
    places = [(middle + reach * f * np.cos(a), middle + reach * f * np.sin(a)) for f in (0.3, 0.9) for a in angles]
    corners = np.clip(np.array(places) - side / 2, 0, plan.region.width - side).astype(int)
    scene.paint(*map(int, corners[0]), side, side)
    start = time.process_time()
    for x, y in corners:
        scene.paint(int(x), int(y), side, side)
    return planned, len(corners) * side * side / 1e6 / (time.process_time() - start)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--diameter", type=float, action="append", help="mm of the deposit; 3 by default, repeatable")
    parser.add_argument("--centre", choices=list(CENTRES), default="north")
    parser.add_argument("--label", default="HSIL")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--work", type=Path, help="folder for the slides; a temporary one by default")
    arguments = parser.parse_args()
    for name in THREADS:
        os.environ[name] = "1"
    figures = Record("phantom_speed", "Rendering synthetic slides")
    speeds = ("planned", "painted", "written", "Mpx/s wall", "Mpx/s core")
    table = figures.table("deposit", "slide px", "cells", *speeds, "peak", "file", caption="One core.")
    for diameter in arguments.diameter or [3.0]:
        with TemporaryDirectory(dir=arguments.work) as folder:
            given = (diameter, arguments.centre, arguments.label, arguments.seed)
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                speed = pool.submit(rendered, folder, *given).result()
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                planned, painted = pool.submit(painting_alone, *given).result()
        table.row(
            f"{diameter:g} mm",
            f"{speed.width} x {speed.height}",
            speed.cells,
            f"{planned:.1f} s",
            f"{painted:.1f} Mpx/s",
            f"{speed.seconds:.1f} s",
            f"{speed.mpx / speed.seconds:.1f}",
            f"{speed.mpx / speed.cpu_seconds:.1f}",
            f"{speed.peak / 2**20:.0f} MiB, of which {speed.at_start / 2**20:.0f} at start",
            f"{speed.file / 1e6:.0f} MB, {speed.file / speed.mpx / 1e3:.0f} kB/Mpx",
        )
    figures.write([arguments.seed])


if __name__ == "__main__":
    main()
