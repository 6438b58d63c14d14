"""Crops per second from bag files into the device, against the JPEG decoder alone on the same cores.

    python benchmarks/bag_speed.py --work benchmarks/work [--threads 1 2] [--rounds 60]

Both sides make the same batches of the same crops, in turn, so that whatever else the machine does slows
both. The decoder's side has the JPEGs in memory and writes into one batch that is allocated once; the loader's side is
what the bundle cell_cls trains from with from_crops.json: sampler, bag files, collation, transfer. Reported is the
median over the rounds of the ratio of speeds, with its quartiles.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import imagecodecs
import numpy as np
import torch
from monai.data import DataLoader
from numpy.typing import NDArray
from record import Record, make_parser, quartiles
from torch import Tensor
from torchvision.io import decode_jpeg

from stride_monai.data.bags.bag import BagFile
from stride_monai.data.datasets.cells import BagCells, collate_cells
from stride_monai.data.datasets.sampling import CellSampler
from stride_monai.phantom.cohorts.bags import BagSettings
from stride_monai.phantom.cohorts.cohort import make_bags
from stride_monai.phantom.cohorts.design import design_of

BATCH, CROP, OURS = 128, 224, "bag files into the device"


def bags(work: Path) -> list[Path]:
    """Bags of synthetic slides with crops of the paper's size."""
    folder = work / "bag_speed"
    if not (folder / "manifest.csv").exists():
        design = design_of("internal", classes=2, diameter_mm=1.0, seed=3, prevalence=0.5)
        make_bags(folder, design, BagSettings(top_k=BATCH, crop_px=CROP))
    return sorted((folder / "bags").iterdir())


class Alone:
    """Threads that decode batches of JPEGs in memory, each thread a run of the batch."""

    def __init__(self, threads: int, torchvision: bool) -> None:
        self.pool, self.step = ThreadPoolExecutor(threads), -(-BATCH // threads)
        self.torchvision = torchvision
        self.pictures = np.empty((BATCH, CROP, CROP, 3), np.uint8)
        self.planes = torch.empty((BATCH, 3, CROP, CROP), dtype=torch.uint8)

    def __call__(self, jpegs: list[bytes]) -> None:
        list(self.pool.map(lambda start: self._run(jpegs, start), range(0, BATCH, self.step)))

    def _run(self, jpegs: list[bytes], start: int) -> None:
        for place in range(start, min(start + self.step, BATCH)):
            if self.torchvision:
                content = torch.frombuffer(bytearray(jpegs[place]), dtype=torch.uint8)
                self.planes[place] = decode_jpeg(content)
            else:
                imagecodecs.jpeg8_decode(jpegs[place], out=self.pictures[place])


def batches(cells: BagCells, sampler: CellSampler, device: torch.device) -> Iterator[Tensor]:
    for batch in DataLoader(cells, batch_size=BATCH, sampler=sampler, collate_fn=collate_cells, num_workers=0):
        yield batch["image"].to(device, non_blocking=True)


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--work", type=Path, default=Path("benchmarks/work"))
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=60)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    figures = Record("bag_speed", "Reading bag files")
    caption = f"{arguments.rounds} batches of {BATCH} crops of {CROP} px, {device}."
    names = ("threads", "", "crops/s (median)", "bag files / this, median (quartiles)")
    table = figures.table(*names, caption=caption)
    for threads in arguments.threads:
        times = timed(bags(arguments.work), threads, arguments.rounds, device)
        for name, spent in times.items():
            ratio = quartiles(spent / times[OURS], 3)
            table.row(threads, name, f"{BATCH / np.median(spent):.0f}", ratio)
    figures.write()


def timed(paths: list[Path], threads: int, rounds: int, device: torch.device) -> dict[str, NDArray[np.float64]]:
    """Seconds of a batch by the loader and by each decoder alone, in turn; the first three rounds warm up."""
    cells = BagCells(paths, crop_px=CROP, crop_mpp=0.5, workers=threads)
    sampler = CellSampler(cells.data, num_samples=BATCH * (rounds + 3))
    order, files = list(sampler), [BagFile(path) for path in paths]
    content = [file.jpeg(row) for file in files for row in range(len(file))]
    loader = batches(cells, sampler, device)
    alone = {"imagecodecs": Alone(threads, False), "torchvision": Alone(threads, True)}
    times: dict[str, list[float]] = {name: [] for name in (*alone, OURS)}
    for k in range(rounds + 3):
        jpegs = [content[index] for index in order[k * BATCH : (k + 1) * BATCH]]
        for name, run in alone.items():
            times[name].append(seconds(lambda run=run, jpegs=jpegs: run(jpegs)))  # type: ignore[misc]
        times[OURS].append(seconds(lambda: next(loader)))
    return {name: np.array(spent)[3:] for name, spent in times.items()}


if __name__ == "__main__":
    main()
