"""Trained and tested on real CRIC fields, by image: the cell classifier, and the detector.

    python benchmarks/cric_cells.py [--data ../shared/data/cric] [--left-out] [--tune-detector]

The folder is imported as `stride-monai data import cric` does it. The classifier of `tiny.json` is trained from random
weights and from the shipped encoder, for a fixed number of epochs, with nothing chosen by the images that judge: on
seven images, judged on three, with three seeds. The shipped classifier itself, untrained on real cells, is a third row;
it is judged on all ten images as well. `--left-out` trains on nine images, ten times, and pools the predictions of the
images left out; `--tune-detector` tunes the detector on the seven images. A run whose result is there is not repeated.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cric_recall import DATA, MPP, found
from monai.bundle import ConfigWorkflow
from record import Record, make_parser

from stride_monai.bethesda import CELL_CLASSES, NEGATIVE
from stride_monai.data import read_cells, read_manifest, split_by_patient, write_cells, write_manifest
from stride_monai.data.importers import ImportOptions, import_dataset, load_format
from stride_monai.data.splits import labels_by_slide
from stride_monai.inferers.slide_detection import SlideDetectionInferer
from stride_monai.metrics.cell import class_scores, confusion_matrix
from stride_monai.metrics.slide import auc
from stride_monai.networks.weights import load_into
from stride_monai.slides import open_slide
from stride_monai.workflows.load import load_bundle_network
from stride_monai.workflows.locate import bundle_root

SEEDS = (0, 1, 2)
EPOCHS = 10
DETECTOR_EPOCHS = 20
TOPS = (64, 256)
Result = dict[str, Any]


def kept(path: Path, make: Callable[[], Result]) -> Result:
    """The result of a file, made and written where there is none."""
    if not path.exists():
        result = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result))
    return dict(json.loads(path.read_text()))


def cohort_with(cohort: Path, folder: Path, test: Iterable[str], name: str = "test") -> Path:
    """The cohort with some images for testing and all others for training.

    Args:
        name: of the split of the images for testing.
    """
    test = set(test)
    records = read_manifest(cohort / "manifest.csv")
    folder.mkdir(parents=True, exist_ok=True)
    write_cells(folder / "cells.csv", read_cells(cohort / "cells.csv"))
    write_manifest(
        folder / "manifest.csv", [replace(r, split=name if r.slide_id in test else "train") for r in records]
    )
    return folder


def workflow(bundle: str, cohort: Path, out: Path, **settings: Any) -> ConfigWorkflow:
    root = bundle_root(bundle)
    files = [str(root / "configs" / f"{name}.json") for name in ("train", "tiny")]
    places = {"bundle_root": str(root), "dataset_dir": str(cohort), "output_dir": str(out)}
    made = ConfigWorkflow(files, logging_file=False, **places, **settings)
    made.initialize()
    return made


def judged(made: ConfigWorkflow) -> Result:
    """Probabilities and labels of the cells that the workflow validates on."""
    evaluator = made.parser.get_parsed_content("validate#evaluator")
    network = made.parser.get_parsed_content("judged").eval()
    probabilities, labels = [], []
    with torch.no_grad():
        for batch in evaluator.data_loader:
            probabilities.append(torch.softmax(network(torch.as_tensor(batch["image"])), dim=1))
            labels.append(torch.as_tensor(batch["label"]))
    return {"probabilities": torch.cat(probabilities).tolist(), "labels": torch.cat(labels).tolist()}


def classify(cohort: Path, out: Path, start: str, seed: int) -> Result:
    """Train from a start (`random`, `shipped`) and judge the last epoch; `untrained` judges the shipped weights."""
    weights = bundle_root("cell_cls") / "models" / "tiny.safetensors"
    shipped = {"init_weights": str(weights), "init_part": "encoder"} if start == "shipped" else {}
    # Validated once, after the last epoch, so that the test images choose nothing.
    settings = {"val_split": "test", "max_epochs": EPOCHS, "val_interval": EPOCHS, "seed": seed, **shipped}
    made = workflow("cell_cls", cohort, out, cells_per_epoch="$len(@train#dataset)", **settings)
    if start == "untrained":
        load_into(made.parser.get_parsed_content("network_def"), weights)
    else:
        made.run()
    return judged(made)


def scores(results: Sequence[Result]) -> list[str]:
    """Macro-F1 over the classes that occur, F1 by class, AUC of any lesion; of pooled predictions."""
    probabilities = np.concatenate([np.array(result["probabilities"]) for result in results])
    labels = np.concatenate([np.array(result["labels"]) for result in results])
    by_class = class_scores(confusion_matrix(probabilities.argmax(axis=1), labels, len(CELL_CLASSES)))
    there = by_class.support > 0
    f1 = np.nan_to_num(by_class.f1)
    negative = CELL_CLASSES.index(NEGATIVE)
    area = auc(1 - probabilities[:, negative], labels != negative)
    return [
        f"{f1[there].mean():.3f}",
        *(f"{f1[k]:.3f}" for k in range(len(CELL_CLASSES)) if there[k]),
        f"{area:.3f}",
    ]


def spread(rows: Sequence[Sequence[str]]) -> list[str]:
    """Mean and standard deviation, column by column."""
    values = np.array([[float(cell) for cell in row] for row in rows])
    return [f"{m:.3f} ± {s:.3f}" for m, s in zip(values.mean(axis=0), values.std(axis=0, ddof=1), strict=True)]


def recall(cohort: Path, network: torch.nn.Module) -> Result:
    """Share of the test images' nuclei that lie in one of the best boxes, and within 16 um of the centre of one."""
    numbers = json.loads((bundle_root("detection") / "configs" / "train.json").read_text())
    detect = SlideDetectionInferer(tile_px=numbers["tile_px"], top_k=max(TOPS), min_score=numbers["min_score"])
    cells = read_cells(cohort / "cells.csv")
    hits: dict[str, list[list[bool]]] = {
        f"{group}, top {top}": [] for top in TOPS for group in ("lesions", "all nuclei")
    }
    boxes_per_field = []
    for record in read_manifest(cohort / "manifest.csv"):
        if record.split != "test":
            continue
        with open_slide(record.path, mpp=MPP) as slide:
            boxes = detect(slide, network).boxes
        boxes_per_field.append(len(boxes))
        mine = [cell for cell in cells if cell.slide_id == record.slide_id]
        points = np.array([cell.box.center for cell in mine])
        lesion = np.array([cell.positive for cell in mine])
        for top in TOPS:
            both = np.stack(found(points, boxes[:top]), axis=1)
            hits[f"all nuclei, top {top}"] += both.tolist()
            hits[f"lesions, top {top}"] += both[lesion].tolist()
    shares = {name: [len(of), *np.mean(of, axis=0).tolist()] for name, of in hits.items() if of}
    return {"recall": shares, "boxes": boxes_per_field}


def detect(cohort: Path, test: Sequence[str], out: Path, tuned: bool) -> Result:
    """Recall of the shipped detector, or of the shipped detector tuned on the training images."""
    if not tuned:
        return recall(cohort, load_bundle_network(bundle_root("detection"), "tiny").network)
    settings = {"tile_px": 256, "max_epochs": DETECTOR_EPOCHS, "val_interval": DETECTOR_EPOCHS, "seed": 0}
    # The bundle validates on 'validation': the test images stand in, once, after the last epoch, and choose nothing.
    made = workflow("detection", cohort_with(cohort, out / "cohort", test, "validation"), out, **settings)
    network, ema = (made.parser.get_parsed_content(name) for name in ("network_def", "ema"))
    for part in (network, ema.module):
        load_into(part, bundle_root("detection") / "models" / "tiny.safetensors")
    made.run()
    return recall(cohort, ema.module.eval())


def three_seeds(seven: Path, work: Path, figures: Record) -> None:
    """Seven images train, three test."""
    rows = {}
    for start in ("random", "shipped"):
        rows[start] = [
            kept(
                work / f"three-{start}-{seed}.json",
                partial(classify, seven, work / f"three-{start}-{seed}", start, seed),
            )
            for seed in SEEDS
        ]
    untrained = kept(work / "three-untrained.json", partial(classify, seven, work / "three-untrained", "untrained", 0))
    caption = f"7 images train, 3 test; mean and SD of {len(SEEDS)} seeds."
    table = figures.table(*columns(untrained["labels"]), caption=caption)
    for start, results in rows.items():
        table.row(start, *spread([scores([result]) for result in results]))
    table.row("shipped, not trained on real cells", *scores([untrained]))


def one_left_out(cohort: Path, work: Path, starts: Sequence[str], figures: Record) -> None:
    """Every image is left out once; the predictions are pooled."""
    rows: dict[str, list[str]] = {}
    for start in starts:
        results = []
        for record in read_manifest(cohort / "manifest.csv"):
            fold = cohort_with(cohort, work / "folds" / record.slide_id, [record.slide_id])
            out = work / f"left-{start}-{record.slide_id}"
            results.append(kept(out.with_suffix(".json"), partial(classify, fold, out, start, 0)))
        rows[start] = scores(results)
        labels = {label for result in results for label in result["labels"]}
    caption = "All images, each judged by what has not seen it, predictions pooled."
    table = figures.table(*columns(labels), caption=caption)
    for start, row in rows.items():
        table.row(start, *row)


def columns(labels: Iterable[int]) -> list[str]:
    return ["start", "macro-F1", *(f"F1 {CELL_CLASSES[label]}" for label in sorted({*labels})), "AUC any lesion"]


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--work", type=Path, default=Path("benchmarks/work/cric_cells"))
    parser.add_argument("--left-out", action="store_true", help="train ten times on nine images, too")
    parser.add_argument("--tune-detector", action="store_true", help="tune the detector on the seven images, too")
    arguments = parser.parse_args()
    work: Path = arguments.work.absolute()
    cohort = work / "cohort"
    if not (cohort / "manifest.csv").exists():
        import_dataset(arguments.data, cohort, load_format("cric"), ImportOptions(mpp=MPP))
    labels = labels_by_slide(read_cells(cohort / "cells.csv"))
    records = split_by_patient(read_manifest(cohort / "manifest.csv"), 0.3, 0.0, labels=labels)
    test = [record.slide_id for record in records if record.split == "test"]
    seven = cohort_with(cohort, work / "seven", test)
    figures = Record("cric_cells", "Trained and tested on real CRIC fields")
    three_seeds(seven, work, figures)
    one_left_out(cohort, work, ("random", "shipped", "untrained") if arguments.left_out else ("untrained",), figures)
    names = ("detector", "nuclei", "n", "in box", "near", "boxes per field")
    table = figures.table(*names, caption="The detector on the 3 test images.")
    for name in ("shipped", "tuned on 7 images") if arguments.tune_detector else ("shipped",):
        made = partial(detect, seven, test, work / "detector", name != "shipped")
        result = kept(work / f"detector-{name.partition(' ')[0]}.json", made)
        for group, (n, inside, near) in result["recall"].items():
            table.row(name, group, n, f"{inside:.3f}", f"{near:.3f}", result["boxes"])
    figures.write(SEEDS)


if __name__ == "__main__":
    main()
