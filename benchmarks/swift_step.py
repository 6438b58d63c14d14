"""What a SWIFT iteration costs beside a bare PyTorch loop, and how its memory grows with the size of a bag.

    python benchmarks/swift_step.py [--encoder convnext_atto] [--side 96] [--k 64] [--cells 32] [--rounds 5]

Time: the trainer (MONAI's engine, pseudo-labels, metrics) against a loop that draws the same views and does the same
passes and the same step; both alternate in this run on the same batches, which are in memory. Memory: peak of a process
that makes two steps with bags of 256 and of 1024 cells, the encoder running over `--part` cells at a time.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from stride_monai.engines.cell_training import StepAugmentation
from stride_monai.engines.swift import SwiftTrainer
from stride_monai.handlers.ema import EmaUpdater
from stride_monai.losses.swift import class_activation, masked_cross_entropy, refine_labels
from stride_monai.networks.cell_encoder import CellClassifier
from stride_monai.networks.ema import EmaModel
from stride_monai.networks.slide_classifier import SlideClassifier
from stride_monai.networks.slide_head import AttentionSlideHead
from stride_monai.networks.swift import SwiftStudent


def crops(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8)


def parts(arguments: argparse.Namespace) -> tuple[SlideClassifier, EmaModel, torch.optim.Optimizer]:
    torch.manual_seed(0)
    encoder = CellClassifier(arguments.encoder)
    network = SlideClassifier(encoder, AttentionSlideHead(encoder.feature_dim), arguments.k, freeze_encoder=False)
    return network.train(), EmaModel(encoder), torch.optim.Adam(network.parameters(), 1e-4)


def batches(arguments: argparse.Namespace, steps: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    n, k, side = arguments.cells, arguments.k, arguments.side
    labelled = {"image": crops(n, 3, side, side), "label": torch.arange(n) % 5}
    bag = {
        "image": crops(2, k, 3, side, side),
        "mask": torch.ones(2, k, dtype=torch.bool),
        "label": torch.tensor([0, 4]),
    }
    return labelled, [bag] * steps


def trainer(arguments: argparse.Namespace, steps: int) -> Callable[[], None]:
    network, teacher, optimizer = parts(arguments)
    labelled, bags = batches(arguments, steps)
    engine = SwiftTrainer(
        device=torch.device("cpu"),
        max_epochs=10**6,
        train_data_loader=bags,
        network=SwiftStudent(network, arguments.part),
        optimizer=optimizer,
        train_handlers=[EmaUpdater(teacher, network.encoder)],
        cells=lambda step: labelled,
        teacher=teacher,
        teacher_part=arguments.part,
        optim_set_to_none=True,
    )

    def run() -> None:
        engine.state.max_epochs = engine.state.epoch + 1
        engine.run()

    return run


def bare(arguments: argparse.Namespace, steps: int) -> Callable[[], None]:
    network, teacher, optimizer = parts(arguments)
    labelled, bags = batches(arguments, steps)
    encoder, n = network.encoder, arguments.cells
    strong, weak = (StepAugmentation(strength, 0, stream) for stream, strength in enumerate(("strong", "weak")))

    def run() -> None:
        for step, bag in enumerate(bags):
            images, mask, label = bag["image"].flatten(0, 1), bag["mask"], bag["label"]
            z = encoder.encode(strong(torch.cat([labelled["image"], images]), step))
            features = z[n:].view(*mask.shape, -1)
            logits, attention = network.slide_head(features, mask)
            cells = encoder.head(z)
            beta = class_activation(logits, features, attention, label, mask)
            with torch.no_grad():
                taught = torch.softmax(teacher.module(weak(images, step)), dim=1).view(*mask.shape, -1)
            pseudo = refine_labels(beta, taught, label, mask)
            loss = functional.cross_entropy(cells[:n], labelled["label"]) + functional.cross_entropy(logits, label)
            semi = masked_cross_entropy(cells[n:].view(*mask.shape, -1), pseudo.label, pseudo.chosen, mask)
            optimizer.zero_grad(set_to_none=True)
            (loss + semi).backward()
            optimizer.step()
            teacher.update(encoder)

    return run


def timed(run: Callable[[], None]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def time_ratio(arguments: argparse.Namespace) -> None:
    steps = 3
    ours, theirs = trainer(arguments, steps), bare(arguments, steps)
    ours(), theirs()
    pairs = [(timed(ours), timed(theirs)) for _ in range(arguments.rounds)]
    seconds = [statistics.median(column) / steps for column in zip(*pairs, strict=True)]
    ratio = statistics.median(a / b for a, b in pairs)
    print(
        f"SWIFT {seconds[0]:.3f} s per step, bare loop {seconds[1]:.3f} s, ratio {ratio:.3f} (median of {len(pairs)})"
    )


def memory(arguments: argparse.Namespace) -> None:
    peaks, grown = [], []
    for k in (256, 1024):
        command = [sys.executable, __file__, "--peak", "--k", str(k), "--part", str(arguments.part or 64)]
        command += ["--encoder", arguments.encoder, "--side", str(arguments.side), "--cells", str(arguments.cells)]
        before, peak = map(int, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-2:])
        peaks.append(peak)
        grown.append(peak - before)
    print(f"peak memory with bags of 256: {peaks[0]} MiB, of 1024: {peaks[1]} MiB, {peaks[1] / peaks[0] - 1:+.1%}")
    print(f"of which above the imported libraries: {grown[0]} and {grown[1]} MiB, {grown[1] / grown[0] - 1:+.1%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", default="convnext_atto")
    parser.add_argument("--side", type=int, default=96)
    parser.add_argument("--k", type=int, default=64)
    parser.add_argument("--cells", type=int, default=32)
    parser.add_argument("--part", type=int, help="cells encoded at once; all by default")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--peak", action="store_true", help="two steps, print the memory of this process before and its peak, MiB"
    )
    arguments = parser.parse_args()
    if arguments.peak:
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
        trainer(arguments, 2)()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
    else:
        time_ratio(arguments)
        memory(arguments)


if __name__ == "__main__":
    main()
