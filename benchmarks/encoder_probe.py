"""What an encoder knows of real cells: a linear probe of its frozen features, and its own head where it has one.

    python benchmarks/encoder_probe.py --weights FILE --encoder NAME [--crop-px 128]
    python benchmarks/encoder_probe.py                                # the table: random, ImageNet and what ships

Judged on crops of liquid-based preparations (6 classes of lesions, 5 of organisms and reactions) and on the labelled
nuclei of real CRIC fields. Every cell is shown at 0.5 um/px in a fixed field of view, small pictures padded with their
own background, so that the size of a picture tells nothing. A file may hold an encoder, a cell classifier or a slide
classifier; several are a base and what differs from it.

The probe is a logistic regression (standardised features, L2 with C = 0.01, nothing chosen by the data). Crops: five
folds, each a run of consecutive file numbers of every class, since no slide is stated and neighbours may share one.
CRIC: every field is judged by a probe that has not seen it. The head's score is 1 - P(NILM) for a lesion, and
P(ASC-H/HSIL) against P(ASC-US) + P(LSIL) for the grade. SCC counts as high grade, AGC as neither.
"""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from record import Record, make_parser
from torch import nn

from stride_monai.bethesda import CELL_CLASSES, NEGATIVE
from stride_monai.errors import StrideError
from stride_monai.metrics.cell import class_scores, confusion_matrix
from stride_monai.metrics.slide import auc
from stride_monai.networks.encoders.cell_encoder import CellClassifier
from stride_monai.networks.weights import UnfitWeightsError, load_into
from stride_monai.slides import crop_around, middle_of, open_slide
from stride_monai.workflows.locate import bundle_root

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
MPP = 0.5
CRIC_MPP = 0.228
CLASSES = {
    "ascus": "low",
    "lsil": "low",
    "asch": "high",
    "hsil": "high",
    "scc": "high",
    "agc": "other lesion",
    "trichomonas": "organism",
    "candida": "organism",
    "flora_clue": "organism",
    "herpes": "organism",
    "actinomyces": "organism",
}
FOLDS = 5
STRENGTH = 0.01  # C of the probe
COLUMNS = ("macro-F1 of 11", "lesion/organism", "low/high", "CRIC lesion")


@dataclass
class Cells:
    """Crops ``[N, 3, S, S]`` uint8, what each shows, and the part of the data that is left out together with it."""

    images: torch.Tensor
    labels: np.ndarray
    folds: np.ndarray

    def only(self, chosen: np.ndarray, labels: np.ndarray) -> Cells:
        return Cells(self.images[torch.from_numpy(chosen)], labels[chosen], self.folds[chosen])


def crops(folder: Path, crop_px: int) -> Cells:
    """Pictures of single cells; labels are places in :data:`CLASSES`."""
    images, labels, folds = [], [], []
    for label, name in enumerate(CLASSES):
        files = sorted((folder / name).iterdir(), key=lambda path: int(path.stem))
        for k, path in enumerate(files):
            with open_slide(path, mpp=MPP) as slide:
                images.append(crop_around(slide, *middle_of(slide, crop_px, MPP), crop_px, MPP, own_background=True))
            labels.append(label)
            folds.append(k * FOLDS // len(files))
    return Cells(as_tensor(images), np.array(labels), np.array(folds))


def cric(folder: Path, crop_px: int) -> Cells:
    """The labelled nuclei of the fields; label 1 is a lesion."""
    with (folder / "points.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    fields = sorted({row["image"] for row in rows})
    images, labels, folds = [], [], []
    for fold, field in enumerate(fields):
        with open_slide(folder / field, mpp=CRIC_MPP) as slide:
            for row in (row for row in rows if row["image"] == field):
                x, y = float(row["nucleus_x"]), float(row["nucleus_y"])
                images.append(crop_around(slide, x, y, crop_px, MPP, own_background=True))
                labels.append(row["bethesda_system"] not in (NEGATIVE, "Negative for intraepithelial lesion"))
                folds.append(fold)
    return Cells(as_tensor(images), np.array(labels, int), np.array(folds))


def as_tensor(images: Sequence[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()


@torch.no_grad()
def encoded(network: CellClassifier, images: torch.Tensor) -> np.ndarray:
    parts = [network.encode(part) for part in images.split(64)]
    return torch.cat(parts).double().numpy()


def left_out(features: np.ndarray, cells: Cells) -> np.ndarray:
    """Probabilities ``[N, classes]`` of each cell by a logistic regression that has not seen its fold."""
    found = np.zeros((len(features), int(cells.labels.max()) + 1))
    for fold in np.unique(cells.folds):
        test = cells.folds == fold
        mean, deviation = features[~test].mean(0), features[~test].std(0) + 1e-6
        normalized = torch.from_numpy((features - mean) / deviation).float()
        layer = regression(normalized[~test], torch.from_numpy(cells.labels[~test]), found.shape[1])
        found[test] = layer(normalized[test]).softmax(1).detach().numpy()
    return found


def regression(features: torch.Tensor, labels: torch.Tensor, classes: int) -> nn.Linear:
    """The layer with the least ``sum of cross-entropies + |W|^2 / (2 C)``, a convex problem."""
    layer = nn.Linear(features.shape[1], classes)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    options: dict[str, Any] = {"max_iter": 100, "line_search_fn": "strong_wolfe", "tolerance_grad": 1e-3}
    optimizer = torch.optim.LBFGS(layer.parameters(), **options)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(layer(features), labels, reduction="sum")
        loss = loss + (layer.weight**2).sum() / (2 * STRENGTH)
        loss.backward()
        return loss

    optimizer.step(closure)
    return layer


def macro_f1(probabilities: np.ndarray, labels: np.ndarray) -> float:
    count = probabilities.shape[1]
    return float(np.nan_to_num(class_scores(confusion_matrix(probabilities.argmax(1), labels, count)).f1).mean())


def questions(labels: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Lesion against organism, and high against low grade: which crops are asked about, and the answer."""
    groups = np.array(list(CLASSES.values()))[labels]
    return (np.ones(len(groups), bool), groups != "organism"), (np.isin(groups, ("low", "high")), groups == "high")


def probed(network: CellClassifier, single: Cells, nuclei: Cells) -> tuple[list[float], list[float]]:
    """The figures of :data:`COLUMNS` by the probe, and by the network's own head (which knows no 11 classes)."""
    features, of_nuclei = encoded(network, single.images), encoded(network, nuclei.images)
    by_probe = [macro_f1(left_out(features, single), single.labels)]
    for asked, answer in questions(single.labels):
        cells = single.only(asked, answer.astype(int))
        by_probe.append(auc(left_out(features[asked], cells)[:, 1], answer[asked]))
    by_probe.append(auc(left_out(of_nuclei, nuclei)[:, 1], nuclei.labels == 1))

    head = network.head.double()
    with torch.no_grad():
        own, own_nuclei = (head(torch.from_numpy(each)).softmax(1).numpy() for each in (features, of_nuclei))
    negative, low, other, high = (CELL_CLASSES.index(name) for name in (NEGATIVE, "ASC-US", "LSIL", "ASC-H/HSIL"))
    grade = own[:, high] / (own[:, high] + own[:, low] + own[:, other])
    by_head = [
        auc(score[asked], answer[asked])
        for score, (asked, answer) in zip((1 - own[:, negative], grade), questions(single.labels), strict=True)
    ]
    return by_probe, [*by_head, auc(1 - own_nuclei[:, negative], nuclei.labels == 1)]


def network_of(name: str, weights: Sequence[Path], pretrained: str = "", **options: Any) -> tuple[CellClassifier, bool]:
    """A network in evaluation mode, and whether its head was trained."""
    torch.manual_seed(0)
    network = CellClassifier(name, pretrained=pretrained, **options).eval()
    if not weights:
        return network, False
    for part, source in ((network, ""), (network, "encoder"), (network.encoder, "")):
        try:
            load_into(part, weights, source)
            return network, part is network
        except UnfitWeightsError as error:
            unfit = error
    raise unfit


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--weights", type=Path, nargs="+", default=[], help="of an encoder or a classifier")
    parser.add_argument("--encoder", default="", help="a timm model")
    parser.add_argument("--pretrained", default="", help="imagenet or timm, in place of weights")
    parser.add_argument("--crop-px", type=int, default=128, help="side of the field of view at 0.5 um/px")
    parser.add_argument("--data", type=Path, default=DATA)
    arguments = parser.parse_args()
    figures = Record("encoder_probe", "What the encoders know of real cells")
    probe = figures.table("encoder", "crop px", *COLUMNS, caption="Linear probe of the frozen features.")
    of_heads: list[tuple[Any, ...]] = []
    loaded: dict[int, tuple[Cells, Cells]] = {}

    def judge(title: str, crop_px: int, *of: Any, **options: Any) -> None:
        began = time.process_time()
        if crop_px not in loaded:
            loaded[crop_px] = crops(arguments.data / "crops", crop_px), cric(arguments.data / "cric", crop_px)
        network, has_head = network_of(*of, **options)
        by_probe, by_head = probed(network, *loaded[crop_px])
        probe.row(title, crop_px, *by_probe)
        print(f"{title}: {time.process_time() - began:.0f} s of CPU", file=sys.stderr, flush=True)
        if has_head:
            of_heads.append((title, crop_px, *by_head))

    if arguments.encoder:
        title = "+".join(path.name for path in arguments.weights) or arguments.pretrained or "random"
        title = f"{arguments.encoder}, {title}"
        judge(title, arguments.crop_px, arguments.encoder, arguments.weights, arguments.pretrained)
    else:
        rows(judge)
    if of_heads:
        head = figures.table("encoder", "crop px", *COLUMNS[1:], caption="AUC by the network's own head.")
        for row in of_heads:
            head.row(*row)
    if not arguments.encoder:
        figures.say(
            "AUC but for the first column. No probe of CRIC has seen the colors and focus of the field that it judges."
        )
        figures.write([0])


def rows(judge: Any) -> None:
    """The table: at both sizes random, ImageNet and what ships."""
    lite0 = "tf_efficientnet_lite0"
    shipped = bundle_root("cell_cls") / "models" / "tiny.safetensors"
    for crop_px in (96, 128):
        judge("ConvNeXt-atto, random", crop_px, "convnext_atto", [], ls_init_value=0.1)
        judge("EfficientNet-Lite0, random", crop_px, lite0, [])
        judge("EfficientNet-Lite0, ImageNet", crop_px, lite0, [], "imagenet")
        for name in (lite0, "convnext_atto"):
            try:
                judge(f"cell_cls that ships ({name})", crop_px, name, [shipped])
            except StrideError:  # the weights are of the other
                continue


if __name__ == "__main__":
    main()
