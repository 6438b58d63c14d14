"""What an adversarial step of ColorAdv costs beside a clean step of SWIFT: time and peak memory.

    python benchmarks/coloradv_step.py [--rounds 9] [--only time|memory]

Both trainers take the same batches in memory, in the paper's proportion of one labelled cell to four cells of bags, on
one CPU thread, with pseudo-labels, metrics, optimizer and moving average. Colour spaces are drawn for each step, as by
default; each is timed alone as well.

- time: seconds of the processor, so that other jobs on the machine do not count. Every round does each kind of step, in
  another order than the round before; the ratio is the median of the rounds' ratios.
- memory: peak resident memory of a process that makes two steps, each kind in processes of its own; of the whole
  process, and of what it takes above what importing takes.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import torch
from record import Record, make_parser, quartiles
from swift_step import crops, parts, resident_peak, spent
from torch import Tensor

from stride_monai.engines.coloradv import ColorAdvTrainer
from stride_monai.engines.swift import SwiftTrainer
from stride_monai.handlers.steps import EmaUpdater
from stride_monai.networks.mil.swift import SwiftStudent

CELLS, SLIDES, K, SIDE = 16, 2, 32, 64
MEMORY_FACTOR = 4  # as many more cells in the memory's steps, so that their peak rises well above the libraries'
STEPS = 2  # of a round

Batch = dict[str, Any]
CLEAN = "clean"
KINDS: dict[str, dict[str, Any]] = {
    CLEAN: {},
    "adversarial": {"spaces": ("rgb", "hsv")},
    "RGB alone": {"spaces": "rgb"},
    "HSV alone": {"spaces": "hsv"},
}


def batch(factor: int = 1) -> tuple[Batch, Batch]:
    """Labelled cells, and bags."""
    cells, k = CELLS * factor, K * factor
    mask = torch.ones(SLIDES, k, dtype=torch.bool)
    labeled = {"image": crops(cells, 3, SIDE, SIDE), "label": torch.arange(cells) % 5}
    return labeled, {"image": crops(SLIDES, k, 3, SIDE, SIDE), "mask": mask, "label": torch.tensor([0, 4])}


def steps(kind: str, labeled: Batch, bag: Batch) -> Callable[[], None]:
    """Makes ``STEPS`` steps of a kind each time it is called."""
    network, teacher, optimizer = parts(bag["mask"].shape[1])
    make: Any = SwiftTrainer if kind == CLEAN else ColorAdvTrainer
    engine = make(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=[bag] * STEPS,
        network=SwiftStudent(network),
        optimizer=optimizer,
        train_handlers=[EmaUpdater(teacher, network.encoder)],
        cells=lambda step: labeled,
        teacher=teacher,
        optim_set_to_none=True,
        **KINDS[kind],
    )

    def run() -> None:
        engine.state.max_epochs = engine.state.epoch + 1
        engine.run()
        assert kind == CLEAN or float(shift_of(engine).norm(dim=1).min()) > 0, "a step that is not adversarial"

    return run


def shift_of(engine: Any) -> Tensor:
    shift: Tensor = engine.state.output["color_shift"]
    return shift


def time_ratio(figures: Record, rounds: int) -> None:
    labeled, bag = batch()
    runs = {kind: steps(kind, labeled, bag) for kind in KINDS}
    for run in runs.values():
        run()
    found: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for turn in range(rounds):  # who begins changes: what comes later finds a warmer cache
        order = [*KINDS][turn % len(KINDS) :] + [*KINDS][: turn % len(KINDS)]
        for kind in order:
            found[kind].append(spent(runs[kind]) / STEPS)
    caption = f"{CELLS} labelled cells and two bags of {K}, crops of {SIDE} px, {rounds} rounds; bar 2.2."
    table = figures.table("step", "core-s", "ratio (quartiles)", caption=caption)
    for kind, seconds in found.items():
        ratio = quartiles([a / b for a, b in zip(seconds, found[CLEAN], strict=True)], 3)
        table.row(kind, f"{statistics.median(seconds):.3f}", "" if kind == CLEAN else ratio)


def memory(figures: Record, rounds: int) -> None:
    kinds = (CLEAN, "adversarial")
    whole: dict[str, list[int]] = {kind: [] for kind in kinds}
    above: dict[str, list[int]] = {kind: [] for kind in kinds}
    for turn in range(rounds):
        for kind in kinds[:: 1 if turn % 2 else -1]:
            command = [sys.executable, __file__, "--peak", kind]
            found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
            before, peak = map(int, found[-2:])
            whole[kind].append(peak)
            above[kind].append(peak - before)
    caption = f"Peak memory, {rounds} processes each; bar 1.15."
    table = figures.table("memory", "clean, MiB", "adversarial, MiB", "ratio", caption=caption)
    for what, peaks in (("whole process", whole), ("above imported libraries", above)):
        clean, adversarial = (statistics.median(peaks[kind]) for kind in kinds)
        table.row(what, f"{clean:.0f}", f"{adversarial:.0f}", f"{adversarial / clean:.3f}")


def peak_of(kind: str) -> None:
    """Peak before and after the steps, MiB."""
    print(resident_peak())
    steps(kind, *batch(MEMORY_FACTOR))()
    print(resident_peak())


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--only", choices=["time", "memory"])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--peak", choices=list(KINDS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.peak:
        peak_of(arguments.peak)
        return
    figures = Record("coloradv_step", "An adversarial step against a clean one")
    if arguments.only != "memory":
        time_ratio(figures, arguments.rounds)
    if arguments.only != "time":
        memory(figures, 3)
    figures.write()


if __name__ == "__main__":
    main()
