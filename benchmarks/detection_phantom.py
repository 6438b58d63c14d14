"""How well the tiny profile's detector finds lesions on synthetic slides: mean and SD over three seeds.

    python benchmarks/detection_phantom.py [--work benchmarks/work/detection] [--seeds 0 1 2]

Renders two cohorts of small deposits at all centres, `train` (with a validation split) and `test`; trains the detection
bundle with its tiny overlay once per seed, keeping the weights of the best validation mAP; evaluates each once on the
test slides with `evaluate.json`. Nothing is chosen on the test slides. Every step is a command that a user could type,
and is skipped when its result is there.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from record import Record, make_parser
from train_weights import bundle

from stride_monai.data.cells import read_cells
from stride_monai.data.datalists import detection_tiles
from stride_monai.phantom.cohorts.cohort import make_slides
from stride_monai.phantom.cohorts.design import CohortDesign

# Training tiles of 256 px show the same cells at a quarter of the cost of 512; evaluation is at the paper's 512.
SETTINGS: dict[str, Any] = {"tile_px": 256, "batch_size": 16, "max_epochs": 10, "val_interval": 5, "resume": "auto"}
LABELS = ("NILM", "ASC-US", "LSIL", "ASC-H", "HSIL", "AGC")
TRAINING_LESIONS = 60  # of its own label on each positive training slide; the test slides have natural numbers
PAPER = {"val_map": 0.484, "val_recall": 0.989}
SHOWN_K = (16, 64, 256)


def render(work: Path) -> None:
    if not (work / "train" / "manifest.csv").exists():
        design = CohortDesign(
            classes=(*LABELS, "NILM") * 20,
            diameter_mm=1.2,
            seed=4343,
            test_fraction=0.0,
            validation_fraction=0.15,
            lesions=TRAINING_LESIONS,
            name="train",
        )
        make_slides(work / "train", design, max_negatives=40)
    if not (work / "test" / "manifest.csv").exists():
        design = CohortDesign(classes=LABELS * 3, diameter_mm=1.6, seed=4242, all_test=True, name="test")
        make_slides(work / "test", design)


def sizes(work: Path, seed: int) -> str:
    """What a seed trains on and what judges it."""
    tiles = detection_tiles(work / "train", "train", tile_px=SETTINGS["tile_px"], seed=seed)
    boxes = sum(len(tile["boxes"]) for tile in tiles)
    lesions = sum(cell.positive for cell in read_cells(work / "test" / "cells.csv"))
    return f"seed {seed}: {len(tiles)} training tiles with {boxes} boxes; the test slides have {lesions} lesions"


def train_and_judge(work: Path, seed: int) -> Path:
    """The folder of a seed's evaluation."""
    folder = work / f"seed-{seed}"
    done = folder / "trained"
    if not done.exists():
        bundle("detection", "train", "tiny", dataset_dir=work / "train", output_dir=folder, seed=seed, **SETTINGS)
        done.touch()
    out = folder / "eval"
    if not (out / "slides" / "metrics.csv").exists():
        given = {"dataset_dir": work / "test", "output_dir": out, "weights": folder / "model.pt", "seed": seed}
        bundle("detection", "train", "tiny", "evaluate", **given)
    return out


def figures(out: Path) -> dict[str, float]:
    """Every figure of an evaluation by name."""
    values: dict[str, float] = {}
    for path in (out / "metrics.csv", out / "slides" / "metrics.csv"):
        values |= {name: float(value) for name, value in csv.reader(path.open())}
    curve = json.loads((out / "slides" / "slide_curves.json").read_text())["top_k_recall"]
    rows = dict(zip(curve.pop("k"), zip(*curve.values(), strict=True), strict=True))
    for k in SHOWN_K:
        values |= {f"top {k}, {name}": value for name, value in zip(curve, rows[k], strict=True)}
    return values


def report(evaluations: list[Path], shown: Record) -> None:
    each = [figures(out) for out in evaluations]
    table = shown.table("figure", "mean", "SD", "each seed", "paper")
    for name in each[0]:
        values = np.array([of[name] for of in each])
        spread = f"{values.std(ddof=1):.4f}" if len(values) > 1 else ""
        seeds = ", ".join(f"{value:.4f}" for value in values)
        table.row(name, f"{values.mean():.4f}", spread, seeds, PAPER.get(name, ""))


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--work", type=Path, default=Path("benchmarks/work/detection"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    work: Path = arguments.work.absolute()
    render(work)
    shown = Record("detection_phantom", "Detector of the tiny profile on synthetic slides")
    for seed in arguments.seeds:
        shown.say(sizes(work, seed))
    report([train_and_judge(work, seed) for seed in arguments.seeds], shown)
    shown.write(arguments.seeds)


if __name__ == "__main__":
    main()
