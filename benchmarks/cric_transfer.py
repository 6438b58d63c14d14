"""How well a detector trained on synthetic slides alone finds the labelled lesions of real CRIC fields.

    python benchmarks/cric_transfer.py --name "six sites" [--checkout DIR] [--centre north] [--augmentation weak]

Renders a small cohort, trains the tiny detector on it for a fixed number of epochs and prints a row of a table: recall
of the lesion nuclei in the top 64 and 256 boxes of each field, and of all nuclei; and beside it what the same detector
does on synthetic slides of six laboratories that it has not met, half of them with odd optics and stain: average
precision of the ranking, recall in the top 64. That second test is what choices are made by; the fields judge.
`--checkout` takes the generator from another revision of the project, so that generators can be compared at equal cost;
training is the same for all rows.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from cric_recall import DATA, detections, recall
from train_weights import found

from stride_monai.data.cells import read_cells, write_cells
from stride_monai.data.manifest import SlideRecord, read_manifest, write_manifest
from stride_monai.phantom import render_slide
from stride_monai.phantom.centres import centre_named
from stride_monai.phantom.cohort import truth_cells
from stride_monai.phantom.truth import write_truth_geojson

ROOT = Path(__file__).resolve().parents[1]
LABELS = ["NILM", "ASC-US", "LSIL", "ASC-H", "HSIL", "AGC", "NILM", "LSIL"]
TRAINING_SITES = ["north", "east", "coast", "harbour", "lake", "desert"]
OTHER_SITES = ["south", "west", "valley", "island", "forest", "mountain"]
TOP = 64
SMALL = {"diameter_mm": 1.0, "mpp": 0.5}  # half the pixels that ship: cheap, and finer than what the detector sees
RENDER = """
if __name__ == "__main__":
    from stride_monai.phantom.cohort import render_cohort
    render_cohort({folder!r}, classes={labels!r}, seed={seed}, test_fraction=0.0, validation_fraction=0.1,
                  centres={centres!r}, max_negatives=10, **{small!r})
"""


def run(checkout: Path, *command: str) -> None:
    # From the checkout's own folder: python looks for packages there first.
    subprocess.run(
        [sys.executable, *command], check=True, cwd=checkout, env={**os.environ, "PYTHONPATH": str(checkout)}
    )


def trained(arguments: argparse.Namespace, work: Path) -> Path:
    """The checkpoint of a detector trained as asked; what is there already is kept."""
    cohort, out = (arguments.cohort or work / "cohort").resolve(), work / "detection"
    labels = [LABELS[i % len(LABELS)] for i in range(arguments.slides)]
    if not (cohort / "manifest.csv").exists():
        centres = arguments.centre or TRAINING_SITES
        settings = {"labels": labels, "seed": arguments.seed, "centres": centres, "small": SMALL}
        run(arguments.checkout.resolve(), "-c", RENDER.format(folder=str(cohort), **settings))
    if not (out / "model.pt").exists():
        root = ROOT / "bundles" / "detection"
        overrides = {
            "config_file": str([str(root / "configs" / f"{name}.json") for name in ("train", "tiny")]),
            "bundle_root": root,
            "dataset_dir": cohort,
            "output_dir": out,
            "tile_size": 256,
            "batch_size": 16,
            "val_batch_size": 16,
            "max_epochs": arguments.epochs,
            "val_interval": arguments.epochs,
            "augmentation": arguments.augmentation,
            "negatives_per_positive": arguments.negatives,
            "seed": arguments.seed,
        }
        run(ROOT, "-m", "monai.bundle", "run", *(part for k, v in overrides.items() for part in (f"--{k}", str(v))))
    return out / "model.pt"


def held_out(folder: Path) -> Path:
    """Twelve positive slides of the sites that no row trains on, every other one stained and scanned oddly."""
    if not (folder / "manifest.csv").exists():
        records, cells = [], []
        for i in range(12):
            centre = centre_named(OTHER_SITES[i % 6])
            if i >= 6:
                strength = np.array(centre.strength) * np.random.default_rng(i).lognormal(-0.2, 0.4, 5)
                centre = replace(centre, strength=tuple(strength.tolist()), gamma=(0.8, 1.3)[i % 2], haze=0.03)
                centre = replace(centre, blur_um=(0.5, 0.15)[i % 2], noise=0.025, jpeg_quality=35, crowding=0.7)
            path = folder / "slides" / f"held-out-{i}.tiff"
            truth = render_slide(path, LABELS[1:6][i % 5], seed=900 + i, centre=centre, overwrite=True, **SMALL)
            geojson = folder / "truth" / f"held-out-{i}.geojson"
            write_truth_geojson(geojson, truth)
            cells += [cell for cell in truth_cells(geojson) if cell.positive]
            records.append(SlideRecord(path.stem, path, None, path.stem, centre.name, None, "test"))
        write_cells(folder / "cells.csv", cells)
        write_manifest(folder / "manifest.csv", records)
    return folder


def judged(cohort: Path, weights: Path) -> tuple[float, float]:
    """Average precision of the boxes of all slides ranked together, and recall of lesions in each slide's top 64."""
    truth, ranked, hits, lesions = read_cells(cohort / "cells.csv"), [], [], 0
    for record in read_manifest(cohort / "manifest.csv"):
        boxes, scores = detections(record.path, weights, min_score=1e-5)
        mine = np.array([(c.x0, c.y0, c.x1, c.y1) for c in truth if c.slide_id == record.slide_id])
        lesions += len(mine)
        hits += found(mine, boxes[:TOP]).tolist()
        free = np.ones(len(mine), bool)
        for box, score in zip(boxes, scores, strict=True):
            hit = np.flatnonzero(free & found(mine, box[None]))
            free[hit[:1]] = False
            ranked.append((-score, not len(hit)))
    right = np.array([not wrong for _, wrong in sorted(ranked)], float)
    precision = right.cumsum() / np.arange(1, len(right) + 1)
    return float((precision * right).sum() / lesions), float(np.mean(hits))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--name", required=True, help="of the row")
    parser.add_argument("--checkout", type=Path, default=ROOT, help="whose generator renders the training slides")
    parser.add_argument("--cohort", type=Path, help="train on slides that are there")
    parser.add_argument("--weights", type=Path, help="judge these instead of training")
    parser.add_argument("--centre", action="append", help="only this centre; may be given again")
    parser.add_argument("--augmentation", default="weak")
    parser.add_argument("--negatives", type=float, default=0.5, help="negative tiles for each positive one")
    parser.add_argument("--slides", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--work", type=Path, default=Path("benchmarks/work/transfer"))
    arguments = parser.parse_args()
    weights = arguments.weights or trained(arguments, (arguments.work / arguments.name).resolve())
    precision, top = judged(held_out((arguments.work / "held-out").resolve()), weights)
    result = recall(arguments.data, weights)
    shares = [result.share(group, k) for group in ("lesion nuclei", "all nuclei") for k in (64, 256)]
    cells = [f"{inside:.3f} / {near:.3f}" for inside, near in shares]
    print("| training data | lesions, top 64 | top 256 | all nuclei, top 64 | top 256 | boxes per field | held out |")
    print("|---|---|---|---|---|---|---|")
    boxes = sum(result.boxes) / len(result.boxes)
    print(f"| {arguments.name} | {' | '.join(cells)} | {boxes:.0f} | {precision:.3f} / {top:.3f} |")


if __name__ == "__main__":
    main()
