"""Augmentation of a batch on the device, each cell with its own parameters, against the same per sample on the CPU.

    python benchmarks/augmentation_speed.py [--batch 128] [--side 224] [--rounds 20]

The same operations (any rotation, flip, shift, HSV jitter), in turn, round by round: one batched call; one call per
sample, as a data loader would make it; and, where kornia is installed, kornia's batched augmentations. One CPU thread;
a GPU where there is one (per-sample calls stay on the CPU).
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from record import Record, make_parser, quartiles
from torch import Tensor

from stride_monai.engines.cell_training import StepAugmentation
from stride_monai.transforms.augmentation import STRENGTHS, CellAugmentation


def kornia_augmentation() -> Callable[[Tensor], Tensor] | None:
    """The strong augmentation in kornia's words: scale stays 1; its jitter works on brightness and contrast of RGB."""
    if importlib.util.find_spec("kornia") is None:
        return None
    import kornia.augmentation as K

    strong = STRENGTHS["strong"]
    made: Any = K.AugmentationSequential(
        K.RandomAffine(180.0, translate=(strong.shift, strong.shift), padding_mode="reflection", p=1.0),
        K.RandomHorizontalFlip(p=0.5),
        K.ColorJitter(strong.value, 0.0, strong.saturation, strong.hue, p=1.0),
        data_keys=["input"],
    )
    return lambda images: made(images.float() / 255)


def seconds(run: Callable[[], object], device: torch.device) -> float:
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    generator = torch.Generator().manual_seed(0)
    shape = (arguments.batch, 3, arguments.side, arguments.side)
    images = torch.randint(0, 255, shape, dtype=torch.uint8, generator=generator)
    there = images.to(device)
    sides: dict[str, Callable[[], object]] = {}
    for strength in ("weak", "strong"):
        batched, single = StepAugmentation(strength), CellAugmentation(strength)
        sides[f"{strength}, batched on {device.type}"] = lambda call=batched: call(there, 1)  # type: ignore[misc]
        sides[f"{strength}, per sample on cpu"] = lambda call=single: torch.stack(  # type: ignore[misc]
            [call(image) for image in images]
        ).to(device)
    kornia = kornia_augmentation()
    if kornia is not None:
        sides[f"strong, kornia batched on {device.type}"] = lambda: kornia(there)
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(arguments.rounds + 1):
        for name, run in sides.items():
            times[name].append(seconds(run, device))
    figures = Record("augmentation_speed", "Augmentation of crops")
    caption = (
        f"{arguments.batch} crops of {arguments.side} px, one CPU thread, {arguments.rounds} rounds, {device.type}."
    )
    table = figures.table("", "ms per batch (median)", "time / batched strong, median (quartiles)", caption=caption)
    base = np.array(times[f"strong, batched on {device.type}"])[1:]
    for name, spent in times.items():
        table.row(name, f"{np.median(spent[1:]) * 1e3:.0f}", quartiles(np.array(spent)[1:] / base, 2))
    figures.write([0])


if __name__ == "__main__":
    main()
