"""Slide heads on the features of the held encoder: synthetic slides out of fold, and real fields that taught no head.

    python benchmarks/slide_heads.py weights-work

The work folder is that of `train_weights.py`, with its bags of training and validation slides. Each head is trained on
four fifths of these slides and judges the last fifth, five times over; each of the five also judges every fourth field
of Mendeley LBC, whose bags are made here. `best_cells` is the head of the tiny profile, trained as `train_weights.py`
trains it; the same without any training is what the cell classifier alone says. The others are trained at the learning
rate of the tiny profile for 60 epochs. Chosen on: these slides and fields; the test slides had no say.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from record import Record, make_parser
from torch import Tensor, nn
from train_weights import bag_size, cohort_of, extract_bags
from weights_settings import DEFAULT, SETTINGS

from stride_monai.bethesda import NEGATIVE, SLIDE_CLASSES, slide_class_of
from stride_monai.data.bags.bag import BagFile
from stride_monai.data.bags.folder import bag_paths
from stride_monai.data.manifest import read_manifest
from stride_monai.inferers.cpu import over_crops
from stride_monai.metrics.slide import auc
from stride_monai.networks import CellClassifier, create_slide_head
from stride_monai.networks.mil.pooling_heads import BestCellsHead
from stride_monai.workflows.load import load_bundle_network
from stride_monai.workflows.locate import bundle_root

FOLDS, EVERY = 5, 4
OTHERS = ("stride", "mean", "max", "abmil")
RATE, EPOCHS = 3e-4, 60


class Bags(NamedTuple):
    """Features ``[N, K, D]`` under ``[N, K]``, slide classes and whether positive ``[N]``."""

    features: Tensor
    mask: Tensor
    labels: Tensor
    positive: np.ndarray


def encoded(encoder: CellClassifier, folder: Path, cohort: Path) -> Bags:
    """The bags of a folder that hold a cell."""
    classes = {record.slide_id: record.slide_class for record in read_manifest(cohort / "manifest.csv")}
    top_k, cpu = bag_size(), torch.device("cpu")
    features, mask, labels = [], [], []
    for path in sorted(bag_paths(folder)):
        bag = BagFile(path)
        count = min(len(bag), top_k)
        if not count:
            continue
        crops = torch.from_numpy(bag.images(np.arange(count))).permute(0, 3, 1, 2)
        seen = torch.zeros((top_k, encoder.feature_dim))
        seen[:count] = over_crops(encoder.encode, crops, cpu, encoder.feature_dim)
        features.append(seen)
        mask.append(torch.arange(top_k) < count)
        labels.append(SLIDE_CLASSES.index(slide_class_of(str(classes[bag.header.slide_id]))))
    known = torch.tensor(labels)
    negative = SLIDE_CLASSES.index(NEGATIVE)
    return Bags(torch.stack(features), torch.stack(mask), known, (known != negative).numpy())


def made(name: str, last: nn.Linear) -> nn.Module:
    head = create_slide_head(name, last.in_features)
    if isinstance(head, BestCellsHead):
        head.start_from(last)
    return head


def taught(head: nn.Module, bags: Bags, rows: np.ndarray, epochs: int) -> nn.Module:
    """The head after some epochs of these slides, in batches of eight, with a rate that falls to 0."""
    if not epochs:
        return head.eval()
    step: dict[str, Any] = SETTINGS["slide_head"]
    groups: list[dict[str, Any]] = [{"params": list(head.parameters()), "lr": RATE}]
    if isinstance(head, BestCellsHead):
        groups = [{"params": [head.scale, head.shift], "lr": 0.05}]
        groups += [{"params": list(head.cells.parameters()), "lr": step["learning_rate"]}]
    optimizer = torch.optim.Adam(groups)
    batches = -(-len(rows) // step["batch_size"])
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, epochs * batches)
    for _ in range(epochs):
        for part in torch.from_numpy(rows)[torch.randperm(len(rows))].split(step["batch_size"]):
            logits, _ = head.train()(bags.features[part], bags.mask[part])
            loss = nn.functional.cross_entropy(logits, bags.labels[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return head.eval()


@torch.inference_mode()
def scores(head: nn.Module, bags: Bags, rows: np.ndarray) -> np.ndarray:
    """Log odds of any lesion."""
    logits, _ = head(bags.features[rows], bags.mask[rows])
    odds: np.ndarray = (torch.logsumexp(logits[:, 1:], 1) - logits[:, 0]).numpy()
    return odds


def judged(name: str, last: nn.Linear, slides: Bags, fields: Bags, epochs: int, seed: int) -> tuple[float, float]:
    """AUC of the slides out of fold, and of the fields, the mean of the folds."""
    order = np.random.default_rng(seed).permutation(len(slides.labels))
    found, real = np.zeros(len(order)), []
    for fold in range(FOLDS):
        held = order[fold::FOLDS]
        torch.manual_seed(seed * FOLDS + fold)
        head = taught(made(name, last), slides, np.setdiff1d(order, held), epochs)
        found[held] = scores(head, slides, held)
        real.append(auc(scores(head, fields, np.arange(len(fields.labels))), fields.positive))
    return auc(found, slides.positive), float(np.mean(real))


def quarter(work: Path) -> Path:
    """Every fourth field, as a cohort."""
    records = sorted(read_manifest(work / "lbc" / "manifest.csv"), key=lambda record: record.slide_id)
    return cohort_of(work / "lbc_quarter", records[::EVERY], [])


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("work", type=Path, help="work folder of train_weights.py")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    work: Path = arguments.work.absolute()
    classifier = load_bundle_network(bundle_root("cell_cls"), "tiny").network
    assert isinstance(classifier, CellClassifier)
    cohort = quarter(work)
    fields = encoded(classifier, extract_bags(work, cohort, DEFAULT, ("train",), "fields"), cohort)
    slides = encoded(classifier, work / f"bags-{DEFAULT}", work / "slides")
    last = classifier.head.requires_grad_(False)
    ways = {"best_cells, not trained": ("best_cells", 0)}
    ways |= {"best_cells": ("best_cells", int(str(SETTINGS["slide_head"]["max_epochs"])))}
    ways |= {name: (name, EPOCHS) for name in OTHERS}
    figures = Record("slide_heads", "Slide heads on features of the held encoder")
    table = figures.table("head", "AUC, slides out of fold", "AUC, real fields")
    for title, (name, epochs) in ways.items():
        of = np.array([judged(name, last, slides, fields, epochs, seed) for seed in arguments.seeds])
        table.row(title, *(f"{column.mean():.3f} ({column.min():.3f}-{column.max():.3f})" for column in of.T))
    figures.say(
        f"{len(slides.labels)} synthetic slides, {int(slides.positive.sum())} positive; {len(fields.labels)} fields of "
        f"Mendeley LBC, {int(fields.positive.sum())} positive; mean, least and greatest of {len(arguments.seeds)} "
        "seeds. The classifier has learnt from boxes on negative fields of that set that they are NILM, so the AUC of "
        "the fields flatters every head alike; no head has seen them."
    )
    figures.write(arguments.seeds)


if __name__ == "__main__":
    main()
