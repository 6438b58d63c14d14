"""Train the tiny profile of the bundles on synthetic slides, from scratch, and write what the repository ships.

    make weights        (or: python benchmarks/train_weights.py [--work weights-work] [--judge-only])

Every step is a command that a user could type, and is skipped when its result is there:

1. Render three cohorts. `tiles`: small deposits of the presets and of laboratories drawn at random, for the detectors.
   `dense`: small deposits with many lesions on each, for the cell classifier. `slides`: larger deposits, for the slide
   head; a third of them is held out.
2. Train the two detectors on `tiles`: the YOLO of the paper (which needs the extra yolo), and the one that needs none.
   What the YOLO ranks highest on the negative slides of `dense` is negative by definition and is what the classifier
   will meet in bags, so these boxes join the labelled cells.
3. Train the cell classifier on them.
4. Extract bags from `slides` with the YOLO, and train the slide head on them. With the other detector extract those of
   the validation slides, set the threshold anew on them, and ship what that changes beside the head.
5. Align the features of the slide classifier swift_mil with the descriptions of the cells of step 3 (text_align).
6. Judge each detector on the held-out slides, which no step before has trained on: share of the positive cells that are
   found in the top K, and AUC of the slide score.
"""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from record import Record, make_parser

from stride_monai.data.cells import CellRecord, read_cells, write_cells
from stride_monai.data.manifest import read_manifest, write_manifest
from stride_monai.findings import Findings
from stride_monai.inferers.slide_detection import SlideDetectionInferer
from stride_monai.networks.weights import load_weights, save_weights
from stride_monai.phantom.centres import ANY, SITES
from stride_monai.phantom.cohorts.cohort import make_slides
from stride_monai.phantom.cohorts.design import CohortDesign
from stride_monai.slides import open_slide
from stride_monai.workflows.load import load_bundle_network
from stride_monai.workflows.locate import bundle_root

NOTE = "The shipped weights were trained on synthetic slides only; nothing they say is evidence about real cells."
# What fits into half an hour on 2 cores: tiles of 256 px show every lesion of these small deposits at a quarter of the
# cost. Layer scale starts at 0.1: at timm's 1e-6, made for long schedules, a short one hardly leaves the start.
SETTINGS: dict[str, dict[str, object]] = {
    "detection": {
        "tile_px": 256,
        "batch_size": 16,
        "val_batch_size": 16,
        "max_epochs": 15,
        "val_interval": 5,
        "augmentation": "domain",
    },
    "cell_cls": {
        "network_def#ls_init_value": 0.1,
        "balance": 0.5,
        "cells_per_epoch": 4000,
        "val_interval": 7,
    },
    "swift_mil": {"max_epochs": 60, "batch_size": 8},
    "text_align": {},
}
DETECTORS: dict[str, tuple[str, ...]] = {"fcos": ("fcos", "tiny_fcos"), "yolo": ()}
"""Overlays of the detection bundle that make each detector, after tiny.json."""
DEFAULT = "yolo"  # whose bags the slide head is trained on
MINED = 64  # boxes of each negative slide
HIT_IOS = 0.5  # a truth box counts as found when a top-K box covers at least half of the smaller of the two


def bundle(name: str, *configs: str, **overrides: object) -> None:
    """``python -m monai.bundle run`` with these configurations, in a process of its own."""
    root = bundle_root(name)
    files = [str(root / "configs" / f"{config}.json") for config in configs]
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(files), "--bundle_root", str(root)]
    for key, value in overrides.items():
        command += [f"--{key}", str(value)]
    print("$", " ".join(command), flush=True)
    subprocess.run(command, check=True)


def ship(name: str, checkpoint: Path, file: str = "tiny", base: str = "") -> None:
    """A training checkpoint as half-precision safetensors in the bundle; of a ``base`` only what differs from it."""
    models = bundle_root(name) / "models"
    state, _ = load_weights(checkpoint)
    metadata = {"profile": "tiny", "note": NOTE, "made_by": "benchmarks/train_weights.py"}
    if base:
        known, _ = load_weights(models / f"{base}.safetensors")
        state = {key: value for key, value in state.items() if not torch.equal(value.to(known[key].dtype), known[key])}
    save_weights(models / f"{file}.safetensors", state, metadata, half=True)


def found(truth: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Which truth boxes [n, 4] are covered by a detected box [k, 4]."""
    if not len(truth) or not len(boxes):
        return np.zeros(len(truth), bool)
    low = np.maximum(truth[:, None, :2], boxes[None, :, :2])
    high = np.minimum(truth[:, None, 2:], boxes[None, :, 2:])
    common = np.prod(np.clip(high - low, 0, None), axis=2)
    areas = [np.prod(b[:, 2:] - b[:, :2], axis=1) for b in (truth, boxes)]
    return (common >= HIT_IOS * np.minimum(areas[0][:, None], areas[1][None])).any(axis=1)


def auc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Area under the ROC curve as the share of rightly ordered pairs."""
    pairs = scores[positive][:, None] - scores[~positive][None]
    return float(((pairs > 0) + 0.5 * (pairs == 0)).mean())


def judge(cohort: Path, work: Path, detector: str) -> dict[str, str]:
    """Screen the test slides with the shipped weights, as a user would, and compare with the truth."""
    test = [record for record in read_manifest(cohort / "manifest.csv") if record.split == "test"]
    manifest = work / "test.csv"
    with manifest.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["slide_id", "path"])
        writer.writerows([record.slide_id, record.path] for record in test)
    out = work / f"judged-{detector}"
    command = [sys.executable, "-m", "stride_monai", "screen", manifest, "--out", out, "--detector", detector]
    subprocess.run(command, check=True)
    cells = [cell for cell in read_cells(cohort / "cells.csv") if cell.cell_class != "NILM"]
    hits: dict[str, list[bool]] = {}
    scores, positive, calls = [], [], []
    for record in test:
        findings = Findings.from_json((out / record.slide_id / "findings.json").read_text())
        boxes = np.array([cell.box for cell in findings.cells]).reshape(-1, 4)
        mine = [cell for cell in cells if cell.slide_id == record.slide_id]
        truth = np.array([(c.x0, c.y0, c.x1, c.y1) for c in mine]).reshape(-1, 4)
        for cell, hit in zip(mine, found(truth, boxes), strict=True):
            hits.setdefault(cell.cell_class, []).append(bool(hit))
        scores.append(findings.score or 0.0)
        positive.append(record.slide_class != "NILM")
        calls.append(findings.call == "positive")
    return {
        "test slides, positive": f"{len(test)}, {np.sum(positive)}",
        "recall of positive cells in the top K": f"{np.mean([h for v in hits.values() for h in v]):.3f}",
        **{f"of {name}": f"{np.mean(v):.3f} of {len(v)}" for name, v in sorted(hits.items())},
        "AUC of the slide score": f"{auc(np.array(scores), np.array(positive)):.3f}",
        "sensitivity": f"{np.mean(np.array(calls)[np.array(positive)]):.3f}",
        "specificity": f"{1 - np.mean(np.array(calls)[~np.array(positive)]):.3f}",
    }


def mine_negatives(cells: Path, mined: Path) -> None:
    """`cells` again, with the best boxes of the detector on its negative slides as further NILM cells."""
    loaded = load_bundle_network(bundle_root("detection"), "tiny", overlays=DETECTORS[DEFAULT])
    detect = SlideDetectionInferer(overlap_px=loaded.numbers["overlap_px"], top_k=MINED)
    records = read_manifest(cells / "manifest.csv")
    found: list[CellRecord] = []
    for record in records:
        if record.slide_class == "NILM":
            with open_slide(record.path) as slide:
                boxes = detect(slide, loaded.network).boxes
            found += [CellRecord(record.slide_id, f"mined-{i}", *box, "NILM") for i, box in enumerate(boxes)]
    write_cells(mined / "cells.csv", [*read_cells(cells / "cells.csv"), *found])
    write_manifest(mined / "manifest.csv", records)


def render(folder: Path, labels: list[str], max_negatives: int = 200, **design: Any) -> None:
    if not (folder / "manifest.csv").exists():
        make_slides(folder, CohortDesign(classes=tuple(labels), **design), workers=2, max_negatives=max_negatives)


def train(name: str, folder: Path, overlays: tuple[str, ...] = (), file: str = "tiny", **data: Path) -> None:
    """Train a bundle, unless its checkpoint is there, and ship it."""
    checkpoint = folder / "model.pt"
    if not checkpoint.exists():
        bundle(name, "train", "tiny", *overlays, output_dir=folder, **data, **SETTINGS[name])
    ship(name, checkpoint, file)


def train_detectors(work: Path, tiles: Path) -> None:
    for detector, overlays in DETECTORS.items():
        file = "tiny" if detector == "yolo" else f"tiny_{detector}"
        train("detection", work / f"detection-{detector}", overlays, file, dataset_dir=tiles)


def extract_bags(work: Path, slides: Path) -> dict[str, Path]:
    """By detector the folder of its bags: of one those for training, of the other those that set a threshold."""
    bags = {detector: work / f"bags-{detector}" for detector in DETECTORS}
    for detector, overlays in DETECTORS.items():
        for split in ("train", "validation") if detector == DEFAULT else ("validation",):
            run = {"dataset_dir": slides, "split": split, "output_dir": bags[detector], "overwrite": False}
            bundle("detection", "inference", "tiny", *overlays, **run)
    return bags


def train_slide_head(work: Path, slides: Path, bags: dict[str, Path]) -> None:
    """The head on bags of one detector; its threshold anew for each other."""
    train("swift_mil", work / "swift_mil", ("two_stage",), dataset_dir=slides, bag_dir=bags[DEFAULT])
    shipped = bundle_root("swift_mil") / "models" / "tiny.safetensors"
    for detector in DETECTORS:
        if detector != DEFAULT:
            folder = work / f"swift_mil-{detector}"
            run = {"dataset_dir": slides, "bag_dir": bags[detector], "output_dir": folder, "weights": shipped}
            bundle("swift_mil", "train", "tiny", "evaluate", "calibrate", **run)
            ship("swift_mil", folder / "calibrated.pt", f"tiny_{detector}", base="tiny")


def make(work: Path, seed: int) -> None:
    """Every step whose result is not there yet."""
    tiles, dense, mined, slides = (work / name for name in ("tiles", "dense", "mined", "slides"))
    small: dict[str, Any] = {"diameter_mm": 1.2, "seed": seed, "test_fraction": 0.0, "max_negatives": 40}
    labels = ["NILM", "ASC-US", "LSIL", "ASC-H", "HSIL", "AGC", "NILM"]
    every_laboratory = tuple(name for site in SITES for name in (ANY, site))
    render(tiles, labels * 12, lesions=12, mpp=0.5, centres=every_laboratory, **small)
    render(dense, labels * 20, lesions=30, **small)
    labels = ["NILM"] * 5 + ["ASC-US", "LSIL", "ASC-H", "HSIL", "AGC"]
    render(slides, labels * 16, diameter_mm=2.0, seed=seed + 1, test_fraction=0.3)
    train_detectors(work, tiles)
    if not (mined / "manifest.csv").exists():
        mine_negatives(dense, mined)
    train("cell_cls", work / "cell_cls", dataset_dir=mined)
    train_slide_head(work, slides, extract_bags(work, slides))
    train("text_align", work / "text_align", dataset_dir=mined)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--work", type=Path, default=Path("weights-work"))
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--judge-only", action="store_true", help="measure the weights that are there")
    arguments = parser.parse_args()
    work: Path = arguments.work.absolute()
    if not arguments.judge_only:
        make(work, arguments.seed)
    judged = {detector: judge(work / "slides", work, detector) for detector in DETECTORS}
    figures = Record("train_weights", "Shipped weights on held-out synthetic slides")
    table = figures.table("", *judged)
    for name in judged[DEFAULT]:
        table.row(name, *(found[name] for found in judged.values()))
    figures.write([arguments.seed])


if __name__ == "__main__":
    main()
