"""SWIFT against its baselines on a synthetic cohort: every slide head, every way to make features, every variant.

    python benchmarks/swift_ablation.py [--row NAME ...] [--seed N ...] [--work benchmarks/work/swift_ablation]

640 bags of slides that are never drawn, half of them positive with four lesions each among 24 cells, from eight
centres, two of which are in the test split only. Of the lesions of the training slides less than 3.5 % are labelled,
three of each class or more, and two NILM cells for each; they are drawn anew for each seed. Every row is a run of the
bundles ``cell_cls`` and ``swift_mil`` with one small ConvNeXt; validation slides, whose cells are all known, choose the
epoch, then the test split is looked at once. A run that has been done is not repeated, and an interrupted one goes on
after its last epoch. Without options it does everything, seed by seed, the rows in their order, and prints two tables
of what is there: slides, and the cells of test slides as the cell classifiers call them.

Settings were fixed before a test slide was looked at. Numbers of steps were raised once, after a look at the validation
of the classifier with few labels (seed 0); nothing else was chosen by results.
"""

from __future__ import annotations

import csv
import json
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import monai.bundle
import numpy as np
import torch
from record import Record, make_parser

from stride_monai.bethesda import CELL_CLASSES, NEGATIVE
from stride_monai.data.bags.bag import BagCell, BagFile, write_bag
from stride_monai.data.manifest import SlideRecord, read_manifest, write_manifest
from stride_monai.files import write_bytes
from stride_monai.metrics.slide import auc, f1_macro, specificity_at_sensitivity
from stride_monai.phantom.cohorts.bags import BagSettings
from stride_monai.phantom.cohorts.cohort import make_bags
from stride_monai.phantom.cohorts.design import CohortDesign
from stride_monai.units import Box
from stride_monai.workflows.locate import bundle_root

HELD_OUT = ("valley", "lake")
DESIGN = CohortDesign(
    classes=640,
    prevalence=0.5,
    diameter_mm=0.8,
    density_per_mm2=255.0,
    mpp=1.0,
    lesions=4,
    centres=("north", "south", "east", "west", "coast", "island", *HELD_OUT),
    held_out_centres=HELD_OUT,
    test_fraction=0.25,
    validation_fraction=0.2,
    seed=505,
)
BAGS = BagSettings(top_k=24, crop_px=48, crop_mpp=1.0)
LABELED, LEAST_PER_CLASS, NEGATIVES_PER_POSITIVE = 0.034, 3, 2

# A ConvNeXt of 0.27 M parameters. Layer scale starts at 0.1: at timm's 1e-6, made for long schedules, a short one
# hardly leaves the start.
NETWORK: dict[str, Any] = {"depths": [1, 1, 2, 1], "dims": [16, 32, 64, 128], "ls_init_value": 0.1}
COMMON: dict[str, Any] = {
    "encoder_name": "convnext_atto",
    "crop_px": BAGS.crop_px,
    "crop_mpp": BAGS.crop_mpp,
    "num_workers": 0,
    "weight_decay": 1e-05,
    "resume": "auto",
}
STEPS, CELL_BATCH, BAG_CELLS = 400, 32, 64
CELL_CLS: dict[str, Any] = {
    "random_negatives": 0,
    "batch_size": CELL_BATCH,
    "val_batch_size": 256,
    "balance": 0.5,
    "cells_per_epoch": CELL_BATCH * STEPS // 4,
    "max_epochs": 4,
    "learning_rate": 0.001,
}
# Averages of runs of some hundred steps, not of hundreds of thousands.
UNLABELED: dict[str, Any] = {"unlabeled_batch_size": BAG_CELLS, "ema_decay": 0.99}
VIEWS: dict[str, Any] = {
    "batch_size": BAG_CELLS,
    "cells_per_epoch": BAG_CELLS * STEPS // 4,
    "val_interval": 4,
    "learning_rate": 0.001,
    "weight_decay": 0.05,
    "network_def#hidden_dim": 256,
}
SWIFT: dict[str, Any] = {
    "top_k": BAGS.top_k,
    "random_negatives": 0,
    "cell_batch_size": CELL_BATCH,
    "cell_workers": 0,
    "batch_size": 4,
    "val_batch_size": 16,
    "max_epochs": 8,
    "learning_rate": 0.001,
    "ema_decay": 0.99,
}
FROZEN: dict[str, Any] = {"batch_size": 16, "max_epochs": 40, "val_interval": 2, "learning_rate": 0.001}


class Encoder(NamedTuple):
    """How cell features are made: a run of cell_cls with an overlay.

    Attributes:
        overlays: over train.json.
        options: beside those of every run.
        few: whether the labels are few; all of them are an upper bound that no row of slides uses.
        part: where the overrides of the encoder belong in the configuration.
        weights: the file that the run leaves; ``encoder.pt`` has no cell head, which a linear probe then adds.
    """

    overlays: tuple[str, ...] = ()
    options: dict[str, Any] = {}  # noqa: RUF012
    few: bool = True
    part: str = "network_def"
    weights: str = "model.pt"


SEMI, SELF = "semi_supervised", "self_supervised"
ENCODERS: dict[str, Encoder] = {
    "few labels": Encoder(options={"max_epochs": 8}),  # without bags a step is cheap
    "all labels": Encoder(options={"max_epochs": 8}, few=False),
    "Mean Teacher": Encoder((SEMI, "mean_teacher"), UNLABELED),
    "FixMatch": Encoder((SEMI, "fixmatch"), UNLABELED),
    "FlexMatch": Encoder((SEMI, "flexmatch"), UNLABELED),
    "CReST": Encoder((SEMI, "crest"), {**UNLABELED, "max_epochs": 1, "cells_per_epoch": CELL_BATCH * STEPS // 6}),
    "SimCLR": Encoder((SELF, "simclr"), VIEWS, part="classifier", weights="encoder.pt"),
    "MoCo": Encoder((SELF, "moco"), {**VIEWS, "teacher_momentum": 0.99}, part="classifier", weights="encoder.pt"),
    "DINO": Encoder(
        (SELF, "dino"),
        # The encoder halves a picture five times: a view of 16 px, as the overlay would take, leaves nothing.
        {**VIEWS, "teacher_momentum": 0.99, "prototypes": 1024, "local_views": 2, "local_px": 32, "global_px": 48},
        part="classifier",
        weights="encoder.pt",
    ),
}


class Row(NamedTuple):
    """How a row of the table of slides is made: a run of swift_mil.

    Attributes:
        encoder: name of the encoder that it starts from.
        overlays: over train.json.
        options: beside those of every run.
    """

    encoder: str = "few labels"
    overlays: tuple[str, ...] = ()
    options: dict[str, Any] = {}  # noqa: RUF012


def frozen(encoder: str = "few labels", *overlays: str, **options: Any) -> Row:
    return Row(encoder, ("two_stage", *overlays), {**FROZEN, **options})


NO_AUGMENTATION = {"strong": "none", "weak": "none"}
# In the order of importance: a table that is not complete is worth something.
ROWS: dict[str, Row] = {
    "frozen, STRIDE head": frozen(),
    "WSI-FT": Row(overlays=("from_crops", "wsi_ft")),
    "SWIFT, gradient x feature": Row(overlays=("from_crops",)),
    "frozen, mean": frozen(head="mean"),
    "frozen, max": frozen(head="max"),
    "frozen, ABMIL": frozen(head="abmil"),
    "frozen, gated ABMIL": frozen(head="gated_abmil"),
    "frozen, TransMIL": frozen(head="transmil"),
    "frozen, DTFD": frozen(head="dtfd"),
    "Cheng 2021": frozen("few labels", "cheng2021"),
    "Zhu 2021": frozen("few labels", "zhu2021", max_epochs=100),
    "WSI-FT, no augmentation": Row(overlays=("from_crops", "wsi_ft"), options=NO_AUGMENTATION),
    "SWIFT, eq. 4": Row(overlays=("from_crops",), options={"activation": "eq4"}),
    "SWIFT, attention": Row(overlays=("from_crops",), options={"activation": "attention"}),
    **{f"{name} features, STRIDE head": frozen(name) for name in list(ENCODERS)[2:]},
}


def make_cohort(work: Path) -> Path:
    """The bags, and two folders that name the test slides of seen and of held-out centres."""
    folder = work / "cohort"
    # Where the manifest stands the cohort is complete; it is not made again when the generator changes.
    if not (folder / "manifest.csv").exists():
        make_bags(folder, DESIGN, BAGS)
    records = read_manifest(folder / "manifest.csv")
    for name, held_out in (("seen", False), ("held_out", True)):
        write_manifest(
            work / name / "manifest.csv",
            [r for r in records if r.split == "test" and (r.centre in HELD_OUT) == held_out],
        )
    return folder


def write_crops(folder: Path, cohort: Path, records: Iterable[SlideRecord], keep: Callable[[str, int], bool]) -> None:
    """Labelled cells as cell_cls reads them: bags that hold those rows only."""
    write_manifest(folder / "manifest.csv", records)
    for record in records:
        bag = BagFile(cohort / "bags" / f"{record.slide_id}.bag.arrow")
        rows = [
            BagCell(float(bag.scores[k]), Box(*bag.boxes[k]), bag.jpeg(k), bag.cell_class(k), bag.descriptions(k))
            for k in range(len(bag))
            if keep(record.slide_id, k)
        ]
        if rows:
            header = replace(bag.header, top_k=len(rows))
            write_bag(folder / "crops" / f"{record.slide_id}.bag.arrow", header, rows)


def few_labels(work: Path, cohort: Path, seed: int) -> Path:
    """The cohort with a share of the training cells labelled; the cells of validation slides are all known."""
    folder = work / f"few-{seed}"
    if (folder / "done").exists():
        return folder
    records = [r for r in read_manifest(cohort / "manifest.csv") if r.split in {"train", "validation"}]
    by_class: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for record in (r for r in records if r.split == "train"):
        for k, name in enumerate(BagFile(cohort / "bags" / f"{record.slide_id}.bag.arrow").cell_classes()):
            by_class[name or NEGATIVE].append((record.slide_id, k))
    rng = np.random.default_rng(seed)
    kept: set[tuple[str, int]] = set()
    counts = Counter({name: max(int(LABELED * len(by_class[name])), LEAST_PER_CLASS) for name in CELL_CLASSES[1:]})
    counts[NEGATIVE] = NEGATIVES_PER_POSITIVE * counts.total()
    for name in CELL_CLASSES:
        kept |= {by_class[name][i] for i in rng.permutation(len(by_class[name]))[: counts[name]].tolist()}
    validation = {record.slide_id for record in records if record.split == "validation"}
    write_crops(folder, cohort, records, lambda slide, k: slide in validation or (slide, k) in kept)
    positives = {name: len(by_class[name]) for name in CELL_CLASSES}
    write_bytes(folder / "done", json.dumps({"labeled": dict(counts), "of": positives}).encode())
    return folder


def all_labels(work: Path, cohort: Path) -> Path:
    folder = work / "all"
    if not (folder / "done").exists():
        records = [r for r in read_manifest(cohort / "manifest.csv") if r.split in {"train", "validation"}]
        write_crops(folder, cohort, records, lambda slide, k: True)
        for name in ("seen", "held_out"):
            test = read_manifest(work / name / "manifest.csv")
            write_crops(work / name, cohort, test, lambda slide, k: True)
        write_bytes(folder / "done", b"")
    return folder


def bundle(name: str, files: Iterable[str], **options: Any) -> None:
    """``python -m monai.bundle run`` of some configurations of a bundle, in this process."""
    root = bundle_root(name)
    configs = [str(root / "configs" / f"{file}.json") for file in files]
    monai.bundle.run(config_file=configs, logging_file=False, bundle_root=str(root), **options)


def cell_cls(files: Iterable[str], part: str, **options: Any) -> None:
    network = {f"{part}#{key}": value for key, value in NETWORK.items()}
    bundle("cell_cls", ("train", "from_crops", *files), **{**COMMON, **CELL_CLS, **network, **options})


def swift_mil(files: Iterable[str], **options: Any) -> None:
    network = {f"encoder#{key}": value for key, value in NETWORK.items()}
    bundle("swift_mil", ("train", *files), **{**COMMON, **SWIFT, **network, **options})


def once(folder: Path, job: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What ``result.json`` of a folder says, after doing what makes it if that is not done."""
    path = folder / "result.json"
    if not path.exists():
        start = time.process_time()
        found = job()
        write_bytes(path, json.dumps({**found, "cpu_seconds": round(time.process_time() - start, 1)}).encode())
        print(folder.name, path.read_text(), flush=True)
    result: dict[str, Any] = json.loads(path.read_text())
    return result


def encoder_weights(name: str, work: Path, cohort: Path, seed: int) -> Path:
    """Train an encoder and judge its cell classifier on the cells of test slides, unless that is done."""
    encoder, out = ENCODERS[name], work / "encoders" / f"{name}-{seed}".replace(" ", "_")
    weights = out / encoder.weights
    data = few_labels(work, cohort, seed) if encoder.few else all_labels(work, cohort)

    def job() -> dict[str, Any]:
        options = {"dataset_dir": str(data), "output_dir": str(out), "seed": seed, **encoder.options}
        if encoder.overlays:  # the unlabelled cells are those of the training slides' bags
            options["bag_dir"] = str(cohort / "bags")
        cell_cls(encoder.overlays, encoder.part, **options)
        judged = weights
        if encoder.weights != "model.pt":
            probe = {"init_weights": str(weights), "output_dir": str(out / "probe"), "seed": seed}
            cell_cls(["linear_probe"], "network_def", dataset_dir=str(data), **probe)
            judged = out / "probe" / "model.pt"
        return {"encoder": name, "seed": seed, **cell_scores(work, cohort, judged, out / "test")}

    once(out, job)
    return weights


def cell_scores(work: Path, cohort: Path, weights: Path, out: Path) -> dict[str, float]:
    all_labels(work, cohort)
    scores = {}
    for name in ("seen", "held_out"):
        options = {"dataset_dir": str(work / name), "output_dir": str(out / name), "weights": str(weights)}
        # Without cells.csv there is nothing to count.
        counts = {"report#training_counts": {}, "train#dataset": None}
        cell_cls(["evaluate"], "network_def", **{**options, **counts})
        scores[name] = json.loads((out / name / "cell_report.json").read_text())["f1_macro"]
    return scores


def cached(split: str, folder: Path) -> dict[str, Any]:
    """The features of a split, made once for an encoder: the runs of all heads read them."""
    bags = f"$data.slide_bags(@bag_dir, @dataset_dir, '{split}', @allow_missing)"
    part = "train" if split == "train" else "validate"
    made = {"_target_": "monai.data.PersistentDataset", "data": bags, "transform": f"@{part}#preprocessing"}
    return {
        "_target_": "monai.data.CacheDataset",
        "data": {**made, "cache_dir": str(folder)},
        "transform": [],
        "num_workers": None,
        "progress": False,
    }


def slide_run(name: str, work: Path, cohort: Path, seed: int) -> None:
    """Train and test one row for one seed, unless that is done."""
    row, out = ROWS[name], work / "runs" / f"{name}-{seed}".replace(" ", "_").replace(",", "")
    weights = encoder_weights(row.encoder, work, cohort, seed)
    files = [*(["init_encoder"] if weights.name == "encoder.pt" else []), *row.overlays]
    options = {
        "dataset_dir": str(cohort),
        "bag_dir": str(cohort / "bags"),
        "cell_dir": str(few_labels(work, cohort, seed)),
    }
    options |= {"seed": seed, "init_weights": str(weights), **row.options}

    def job() -> dict[str, Any]:
        features = {}
        if "two_stage" in row.overlays:
            cache = weights.parent / "features"
            features = {"train#dataset": cached("train", cache), "validate#dataset": cached("validation", cache)}
        swift_mil(files, output_dir=str(out), **{**options, **features})
        swift_mil(
            [*files, "evaluate"],
            **{**options, "resume": "", "output_dir": str(out / "test"), "weights": str(out / "model.pt")},
        )
        return {"row": name, "seed": seed, **slide_scores(out / "test" / "slides.csv")}

    once(out, job)


def slide_scores(table: Path) -> dict[str, dict[str, float]]:
    """AUC, specificity at sensitivity 95 % and F1-macro on the test slides of seen and of held-out centres."""
    with table.open() as stream:
        rows = list(csv.DictReader(stream))
    found = {}
    for name, held_out in (("seen", False), ("held_out", True)):
        of = [row for row in rows if (row["centre"] in HELD_OUT) == held_out]
        scores = np.array([float(row["score"]) for row in of])
        positive = np.array([row["label"] != NEGATIVE for row in of])
        names = sorted({row[key] for row in of for key in ("label", "class")})
        said, truth = (np.array([names.index(row[key]) for row in of]) for key in ("class", "label"))
        found[name] = {
            "auc": auc(scores, positive),
            "specificity": specificity_at_sensitivity(scores, positive, 0.95).specificity,
            "f1_macro": f1_macro(said, truth),
        }
    return found


def spread(values: list[float]) -> str:
    """Mean and SD; of one seed its value alone; of none a dash."""
    if not values:
        return "-"
    sd = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{sd}"


def results(folder: Path, key: str) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for path in sorted(folder.glob("*/result.json")):
        result = json.loads(path.read_text())
        found[result[key]].append(result)
    return found


def tables(work: Path) -> None:
    """Mean and SD over the seeds that are there."""
    columns = ("auc", "specificity", "f1_macro")
    names = [
        f"{what}, {where}" for where in ("seen", "held out") for what in ("AUC", "spec. at sens. 95 %", "F1-macro")
    ]
    figures = Record("swift_ablation", "SWIFT against its baselines")
    caption = "Mean ± SD over the seeds."
    table = figures.table("slides", "seeds", *names, "core-s", caption=caption)
    rows = results(work / "runs", "row")
    for name in (name for name in ROWS if rows[name]):
        cells = [spread([r[where][c] for r in rows[name]]) for where in ("seen", "held_out") for c in columns]
        seconds = statistics.mean(r["cpu_seconds"] for r in rows[name])
        table.row(name, len(rows[name]), *cells, f"{seconds:.0f}")
    table = figures.table("cells", "seeds", "F1-macro, seen", "F1-macro, held out", "core-s")
    encoders = results(work / "encoders", "encoder")
    for name in (name for name in ENCODERS if encoders[name]):
        cells = [spread([r[where] for r in encoders[name]]) for where in ("seen", "held_out")]
        seconds = statistics.mean(r["cpu_seconds"] for r in encoders[name])
        table.row(name, len(encoders[name]), *cells, f"{seconds:.0f}")
    for path in sorted(work.glob("few-*/done")):
        figures.say(f"{path.parent.name}: {path.read_text()}")
    figures.write(sorted({result["seed"] for found in rows.values() for result in found}))


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--work", type=Path, default=Path("benchmarks/work/swift_ablation"))
    parser.add_argument("--row", action="append", choices=list(ROWS))
    parser.add_argument("--seed", action="append", type=int)
    parser.add_argument("--table", action="store_true", help="only print what is there")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    work: Path = arguments.work.absolute()
    if not arguments.table:
        cohort = make_cohort(work)
        for seed in arguments.seed or (0, 1, 2):
            for name in arguments.row or ROWS:
                slide_run(name, work, cohort, seed)
            if not arguments.row:
                encoder_weights("all labels", work, cohort, seed)
    tables(work)


if __name__ == "__main__":
    main()
