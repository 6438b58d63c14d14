"""What a SWIFT iteration costs beside a bare PyTorch loop, what it waits for, and how its memory grows with a bag.

    python benchmarks/swift_step.py [--only time|wait|memory|gradients]

Each figure is for one CPU thread. What needs a GPU (iterations a second at the paper's settings, share of the chip's
rate, the largest bag) is not measured here.

- time: MONAI's trainer with pseudo-labels, metrics and moving average against a loop that draws the same views and does
  the same passes and the same step. Both alternate on the same batches in memory; seconds are the processor's, so that
  other jobs on the machine do not count.
- wait: share of the wall time in which the trainer waits for bags and labelled cells that are decoded from bag files,
  without and with one process that loads.
- memory: peak of a process that makes one step with two bags of 256 or of 1024 cells, 64 cells encoded at a time.
- gradients: largest difference between a step that encodes so in parts and one that does not, relative to the largest
  gradient of each parameter.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Events
from monai.data import DataLoader, Dataset
from record import Record, make_parser, quartiles
from torch import Tensor
from torch.nn import functional

from stride_monai.data.bags.bag import BagCell, BagHeader, encode_crop, write_bag
from stride_monai.data.datasets.cells import BagCells
from stride_monai.data.datasets.streams import EndlessStream
from stride_monai.engines.cell_training import StepAugmentation
from stride_monai.engines.swift import SwiftTrainer
from stride_monai.handlers.steps import EmaUpdater
from stride_monai.losses.swift import masked_cross_entropy, refine_labels
from stride_monai.networks.ema import EmaModel
from stride_monai.networks.encoders.cell_encoder import CellClassifier
from stride_monai.networks.mil.activation import class_activation
from stride_monai.networks.mil.slide_classifier import SlideClassifier
from stride_monai.networks.mil.slide_head import AttentionSlideHead
from stride_monai.networks.mil.swift import SwiftStudent
from stride_monai.transforms.loading import LoadBagd
from stride_monai.units import Box

ENCODER, CELLS, PART = "convnext_atto", 32, 64
SIDE, K = 64, 32  # of time, wait and gradients
MEMORY_SIDE, MEMORY_KS = 64, (256, 1024)
STEPS = 2  # of a round


def crops(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8)


def parts(k: int) -> tuple[SlideClassifier, EmaModel, torch.optim.Optimizer]:
    torch.manual_seed(0)
    encoder = CellClassifier(ENCODER)
    network = SlideClassifier(encoder, AttentionSlideHead(encoder.feature_dim), k, freeze_encoder=False)
    return network.train(), EmaModel(encoder), torch.optim.Adam(network.parameters(), 1e-4)


def batch(k: int, side: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Labelled cells, and two bags."""
    labeled = {"image": crops(CELLS, 3, side, side), "label": torch.arange(CELLS) % 5}
    mask = torch.ones(2, k, dtype=torch.bool)
    return labeled, {"image": crops(2, k, 3, side, side), "mask": mask, "label": torch.tensor([0, 4])}


def trainer(k: int, loader: Any, cells: Callable[[int], Any], part: int | None = None) -> SwiftTrainer:
    network, teacher, optimizer = parts(k)
    return SwiftTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=loader,
        network=SwiftStudent(network, part),
        optimizer=optimizer,
        train_handlers=[EmaUpdater(teacher, network.encoder)],
        cells=cells,
        teacher=teacher,
        teacher_part=part,
        optim_set_to_none=True,
    )


def swift(labeled: dict[str, Any], bags: list[dict[str, Any]]) -> Callable[[], None]:
    engine = trainer(K, bags, lambda step: labeled)

    def run() -> None:
        engine.state.max_epochs = engine.state.epoch + 1
        engine.run()

    return run


def bare(labeled: dict[str, Any], bags: list[dict[str, Any]]) -> Callable[[], None]:
    network, teacher, optimizer = parts(K)
    encoder = network.encoder
    strong, weak = (StepAugmentation(strength, 0, stream) for stream, strength in enumerate(("strong", "weak")))

    def run() -> None:
        for step, bag in enumerate(bags):
            images, mask, label = bag["image"].flatten(0, 1), bag["mask"], bag["label"]
            z = encoder.encode(strong(torch.cat([labeled["image"], images]), step))
            features = z[CELLS:].view(*mask.shape, -1)
            logits, attention = network.slide_head(features, mask)
            cells = encoder.head(z)
            beta = class_activation(logits, features, attention, label, mask)
            with torch.no_grad():
                taught = torch.softmax(teacher.module(weak(images, step)), dim=1).view(*mask.shape, -1)
            pseudo = refine_labels(beta, taught, label, mask)
            loss = functional.cross_entropy(cells[:CELLS], labeled["label"]) + functional.cross_entropy(logits, label)
            semi = masked_cross_entropy(cells[CELLS:].view(*mask.shape, -1), pseudo.label, pseudo.chosen, mask)
            optimizer.zero_grad(set_to_none=True)
            (loss + semi).backward()
            optimizer.step()
            teacher.update(encoder)

    return run


def spent(run: Callable[[], None]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def time_ratio(figures: Record, rounds: int) -> None:
    labeled, bag = batch(K, SIDE)
    runs = swift(labeled, [bag] * STEPS), bare(labeled, [bag] * STEPS)
    for run in runs:
        run()
    pairs = []
    for turn in range(rounds):  # who begins alternates: what comes second finds a warmer cache
        order = (0, 1) if turn % 2 else (1, 0)
        seconds = {which: spent(runs[which]) / STEPS for which in order}
        pairs.append((seconds[0], seconds[1]))
    ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = quartiles([a / b for a, b in pairs], 3)
    figures.say(f"Processor time of a step, median of {rounds}: SWIFT {ours:.3f} s, bare loop {theirs:.3f} s.")
    figures.tables[0].row("SWIFT / bare loop, median (quartiles); bar 1.05", ratio)


def write_bags(folder: Path, slides: int) -> list[dict[str, Any]]:
    rng, items = np.random.default_rng(0), []
    for number in range(slides):
        header = BagHeader(f"s{number}", 0.5, 0.5, SIDE, K)
        noise = rng.integers(0, 256, (K, SIDE // 8, SIDE // 8, 3), dtype=np.uint8)
        pictures = noise.repeat(8, axis=1).repeat(8, axis=2)
        cells = [BagCell(1.0, Box(0, 0, 9, 9), encode_crop(picture), "NILM") for picture in pictures]
        path = folder / f"s{number}.bag.arrow"
        write_bag(path, header, cells)
        items.append({"bag": str(path), "label": number % 6, "slide_id": header.slide_id})
    return items


def waiting(figures: Record, workers: int, slides: int = 16) -> None:
    with tempfile.TemporaryDirectory() as folder:
        items = write_bags(Path(folder), slides)
        bags = DataLoader(Dataset(items, LoadBagd(top_k=K)), batch_size=2, num_workers=workers)
        stream = EndlessStream(BagCells(items, labeled=True, workers=1), CELLS, num_workers=workers)
        waited = []

        def cells(step: int) -> Any:
            start = time.perf_counter()
            got = stream(step)
            waited.append(time.perf_counter() - start)
            return got

        engine = trainer(K, bags, cells)
        begun = {"at": 0.0, "epoch": 0.0}
        engine.add_event_handler(Events.GET_BATCH_STARTED, lambda: begun.update(at=time.perf_counter()))
        engine.add_event_handler(Events.GET_BATCH_COMPLETED, lambda: waited.append(time.perf_counter() - begun["at"]))

        # The first step starts the processes and fills the caches: counted from the second.
        @engine.on(Events.ITERATION_COMPLETED(once=1))  # type: ignore[misc,untyped-decorator]
        def second() -> None:
            waited.clear()
            begun["epoch"] = time.perf_counter()

        engine.run()
        whole = time.perf_counter() - begun["epoch"]
        stream.close()
    figures.tables[0].row(
        f"waiting for data, {workers} processes that load", f"{sum(waited) / whole:.1%} of {whole:.1f} s"
    )


def memory(figures: Record) -> None:
    peaks, grown = [], []
    for k in MEMORY_KS:
        command = [sys.executable, __file__, "--peak", str(k)]
        before, peak = map(int, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-2:])
        peaks.append(peak)
        grown.append(peak - before)
    what = f"two bags of {MEMORY_KS[0]} and of {MEMORY_KS[1]} cells of {MEMORY_SIDE} px"
    for name, (one, other) in {f"peak memory, {what}": peaks, "of which above imported libraries": grown}.items():
        figures.tables[0].row(name, f"{one} and {other} MiB, {other / one - 1:+.1%}")


def peak_of(k: int) -> None:
    """Peak before and after a step, MiB."""
    print(resident_peak())
    labeled, bag = batch(k, MEMORY_SIDE)
    trainer(k, [bag], lambda step: labeled, PART).run()
    print(resident_peak())


def resident_peak() -> int:
    """MiB, of Linux. Not ``ru_maxrss``, in which a process begins with the peak of the one that started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) // 1024


def gradients(figures: Record) -> None:
    labeled, bag = batch(K, SIDE)
    found = []
    for part in (None, 20):
        engine = trainer(K, [bag], lambda step: labeled, part)
        torch.manual_seed(1)
        engine.run()
        # After the step the gradients are still there; nothing but the parts differs.
        found.append([p.grad.clone() for p in engine.network.parameters()])
    gaps = [float((a - b).abs().max() / a.abs().max().clamp_min(1e-12)) for a, b in zip(*found, strict=True)]
    name = "gradients in parts of 20 against all at once, largest relative difference; bar 1e-5"
    figures.tables[0].row(name, f"{max(gaps):.1e}")


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--only", choices=["time", "wait", "memory", "gradients"])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.peak:
        peak_of(arguments.peak)
        return
    figures = Record("swift_step", "One iteration of SWIFT")
    figures.table("figure", "value", caption=f"{CELLS} labelled cells and two bags of {K} cells of {SIDE} px.")
    jobs: dict[str, Callable[[], object]] = {
        "time": lambda: time_ratio(figures, arguments.rounds),
        "wait": lambda: [waiting(figures, workers) for workers in (0, 1)],
        "gradients": lambda: gradients(figures),
        "memory": lambda: memory(figures),
    }
    for name, job in jobs.items():
        if arguments.only in {None, name}:
            job()
    figures.write()


if __name__ == "__main__":
    main()
