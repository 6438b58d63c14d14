"""Cell F1-macro of every way to train the cell classifier, few labels against all, on a synthetic cohort.

    python benchmarks/cell_methods.py [--work benchmarks/work/cell_methods] [--method NAME ...] [--seed N ...]

The cohort is rendered once. Few labels are a share of the labelled training cells, drawn anew for each seed, at least
three of each class; the bags of the same training slides are the unlabelled cells. Every method is a run of the bundle
``cell_cls`` with a small encoder and 160 steps (CReST: 40 in each of its six generations; self-supervision: 160 without
labels, then 160 with). The validation split chooses the epoch, then the test split is looked at once. A run that has
been done is not repeated; an interrupted one goes on after its last epoch.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import statistics
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import monai.bundle
import numpy as np
import torch

from stride_monai.artifacts import write_bytes
from stride_monai.bethesda import CELL_CLASSES
from stride_monai.bundle_workflow import bundle_root
from stride_monai.data.cells import CellRecord, read_cells, write_cells
from stride_monai.data.labelled_bags import write_labelled_bags
from stride_monai.data.manifest import read_manifest, write_manifest
from stride_monai.phantom.cohort import BagSettings, CohortDesign, make_bags, make_slides

LABELS = ("NILM", "ASC-US", "LSIL", "ASC-H", "HSIL", "AGC", "NILM")
COHORT_SEED = 404
FEW = 0.08
LEAST_PER_CLASS = 3
STEPS_PER_EPOCH, EPOCHS, BATCH, RATIO = 40, 4, 32, 2
ROOT = bundle_root("cell_cls")
# ConvNeXt-atto at about a fifth of its cost; a field of 48 um, as in the tiny profile. Layer scale starts at 0.1: at
# timm's 1e-6, made for long schedules, a short one hardly leaves the start.
ENCODER: dict[str, Any] = {"depths": [1, 1, 3, 1], "dims": [24, 48, 96, 192], "ls_init_value": 0.1}
SMALL: dict[str, Any] = {
    "encoder_name": "convnext_atto",
    "crop_size": 64,
    "crop_mpp": 0.75,
    "random_negatives": 0,
    "batch_size": BATCH,
    "val_batch_size": 128,
    "num_workers": 0,
    "cache_rate": 1.0,
    "balance": 0.5,
    "cells_per_epoch": BATCH * STEPS_PER_EPOCH,
    "max_epochs": EPOCHS,
    "val_interval": 1,
    "weight_decay": 1e-05,
}
# Averages of runs of 160 steps, not of the references' hundreds of thousands.
UNLABELLED: dict[str, Any] = {"unlabelled_batch_size": RATIO * BATCH, "ema_decay": 0.99}
VIEWS: dict[str, Any] = {
    "batch_size": RATIO * BATCH,
    "cells_per_epoch": RATIO * BATCH * STEPS_PER_EPOCH,
    "val_interval": EPOCHS,
    "learning_rate": 0.001,
    "weight_decay": 0.05,
    "network_def#hidden_dim": 256,
}
SELF_SUPERVISED: dict[str, dict[str, Any]] = {
    "simclr": VIEWS,
    "moco": {**VIEWS, "teacher_momentum": 0.99},
    "dino": {**VIEWS, "teacher_momentum": 0.99, "prototypes": 1024, "local_views": 2},
}


class Method(NamedTuple):
    """How a row of the table is made: a run of train.json with an overlay.

    Attributes:
        overlay: name of the configuration that lies over train.json, empty for none.
        options: of the run, beside those of every run.
        few: whether the labels are few.
        start: name of the self-supervised overlay whose encoder it starts from, empty for a random one.
    """

    overlay: str = ""
    options: dict[str, Any] = {}  # noqa: RUF012
    few: bool = True
    start: str = ""


NAMES = {"SimCLR": "simclr", "MoCo v2": "moco", "DINO": "dino"}
METHODS: dict[str, Method] = {
    "supervised, few labels": Method(),
    "Mean Teacher": Method("mean_teacher", UNLABELLED),
    "FixMatch": Method("fixmatch", UNLABELLED),
    "FlexMatch": Method("flexmatch", UNLABELLED),
    "CReST": Method("crest", {**UNLABELLED, "max_epochs": 1}),
    **{f"{name}, fine-tuned": Method(start=overlay) for name, overlay in NAMES.items()},
    **{
        f"{name}, linear probe": Method(start=overlay, options={"freeze_encoder": True})
        for name, overlay in NAMES.items()
    },
    "supervised, all labels": Method(few=False),
}


def make_cohort(work: Path) -> tuple[Path, Path]:
    """Slides with labelled cells, and the bags of the same slides."""
    design = CohortDesign(
        classes=LABELS * 12,
        diameter_mm=1.0,
        lesions=20,
        centres=("north", "east", "harbour", "valley"),
        seed=COHORT_SEED,
        test_fraction=0.3,
        validation_fraction=0.2,
    )
    slides, bags = work / "slides", work / "unlabelled"
    # Where the manifest stands the cohort is complete; it is not made again when the generator changes.
    if not (slides / "manifest.csv").exists():
        make_slides(slides, design, max_negatives=30)
    if not (bags / "manifest.csv").exists():
        make_bags(bags, design, BagSettings(top_k=96, crop_px=SMALL["crop_size"], crop_mpp=SMALL["crop_mpp"]))
    return slides, bags / "bags"


def few_labels(cohort: Path, folder: Path, seed: int) -> Path:
    """The cohort with a share of its labelled training cells; validation and test cells stay."""
    records = read_manifest(cohort / "manifest.csv")
    training = {record.slide_id for record in records if record.split == "train"}
    cells = read_cells(cohort / "cells.csv")
    by_class: dict[str, list[CellRecord]] = defaultdict(list)
    for cell in cells:
        if cell.slide_id in training:
            by_class[cell.cell_class].append(cell)
    rng = np.random.default_rng(seed)
    kept = [cell for cell in cells if cell.slide_id not in training]
    for name in CELL_CLASSES:
        members = by_class[name]
        count = min(max(round(FEW * len(members)), LEAST_PER_CLASS), len(members))
        kept += [members[i] for i in sorted(rng.permutation(len(members))[:count].tolist())]
    write_cells(folder / "cells.csv", kept)
    write_manifest(folder / "manifest.csv", records)
    return folder


def cut_crops(cohort: Path) -> Path:
    """The cohort with its labelled crops as bag files: each crop is cut once, not once per run."""
    write_labelled_bags(cohort, cohort / "crops", SMALL["crop_size"], SMALL["crop_mpp"])
    return cohort


def bundle(*overlays: str, **overrides: Any) -> None:
    """``python -m monai.bundle run`` of train.json and overlays, in this process."""
    files = ("train", "from_crops", *overlays)
    configs = [str(ROOT / "configs" / f"{name}.json") for name in files]
    part = "classifier" if set(files) & set(SELF_SUPERVISED) else "network_def"
    encoder = {f"{part}#{key}": value for key, value in ENCODER.items()}
    monai.bundle.run(
        config_file=configs, logging_file=False, bundle_root=str(ROOT), **{**SMALL, **encoder, **overrides}
    )


def train(method: Method, data: Path, bags: Path, out: Path, seed: int) -> None:
    options = {"dataset_dir": str(data), "seed": seed, "resume": "auto", **method.options}
    if method.start:
        encoder = out.parent / f"{method.start}-{seed}"
        pretrain(method.start, data, bags, encoder, seed)
        options["init_weights"] = str(encoder / "encoder.pt")
    if method.overlay:
        options["bag_dir"] = str(bags)
    bundle(*([method.overlay] if method.overlay else []), output_dir=str(out), **options)


def pretrain(overlay: str, data: Path, bags: Path, out: Path, seed: int) -> None:
    """Self-supervised training of an encoder, unless it is done: fine-tuning and probe start from the same one."""
    done = out / "done"
    if not done.exists():
        options = SELF_SUPERVISED[overlay]
        bundle(
            overlay,
            **{**options, "dataset_dir": str(data), "bag_dir": str(bags), "output_dir": str(out)},
            seed=seed,
            resume="auto",
        )
        write_bytes(done, b"")


def test(data: Path, out: Path) -> float:
    """F1-macro of the chosen weights on the test split."""
    weights = str(out / "model.pt")
    bundle("evaluate", dataset_dir=str(data), output_dir=str(out / "test"), weights=weights)
    with (out / "test" / "metrics.csv").open() as stream:
        return float(dict(csv.reader(stream))["val_f1_macro"])


def run(name: str, seed: int, work: Path, cohort: Path, bags: Path) -> None:
    """Train and test one row for one seed, unless that is done."""
    method, out = METHODS[name], work / "runs" / f"{name}-{seed}".replace(" ", "_").replace(",", "")
    result = out / "result.json"
    if result.exists():
        return
    data = cut_crops(few_labels(cohort, work / f"few-{seed}", seed) if method.few else cohort)
    start = time.process_time()
    train(method, data, bags, out, seed)
    trained = time.process_time() - start
    found = {"method": name, "seed": seed, "test_f1_macro": test(data, out), "cpu_seconds": round(trained, 1)}
    write_bytes(result, json.dumps(found).encode())
    print(found, flush=True)


def table(work: Path) -> None:
    """One line per method: mean and SD over the seeds that are there."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for path in sorted((work / "runs").glob("*/result.json")):
        result = json.loads(path.read_text())
        found[result["method"]].append(result)
    print(
        "\n| method | seeds | cell F1-macro on the test split, mean | SD | CPU seconds per run |\n|---|---|---|---|---|"
    )
    for name in METHODS:
        scores = [result["test_f1_macro"] for result in found[name]]
        if scores:
            spread = statistics.stdev(scores) if len(scores) > 1 else math.nan
            seconds = statistics.mean(result["cpu_seconds"] for result in found[name])
            print(f"| {name} | {len(scores)} | {statistics.mean(scores):.3f} | {spread:.3f} | {seconds:.0f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("benchmarks/work/cell_methods"))
    parser.add_argument("--method", action="append", choices=list(METHODS))
    parser.add_argument("--seed", action="append", type=int)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    work: Path = arguments.work.absolute()
    cohort, bags = make_cohort(work)
    for seed in arguments.seed or (0, 1, 2):
        for name in arguments.method or METHODS:
            run(name, seed, work, cohort, bags)
    table(work)


if __name__ == "__main__":
    main()
