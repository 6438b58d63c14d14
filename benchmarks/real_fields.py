"""Field-level classification of real liquid-based fields, and how much of it is the laboratory.

    python benchmarks/real_fields.py [--data ../shared/data/lbc] [--cric ../shared/data/cric] [--seeds 0 1 2]

Mendeley LBC: 480 fields of 256 um, each with a class (NILM, LSIL, HSIL, SCC) and a group (slide or patient). Fields are
imported, and their cells found and cut, as a user does it; a bag is the 8 best cells of the shipped detector, 64 um
each. Two folds: the groups of each class, dealt to two halves at random by the seed (LSIL and SCC have two each), so
that no group is in training and test. In this data set class goes with laboratory, so every row says beside its figures

- `empty`: the AUC that the same trained network reaches on the four emptiest windows of the same test fields, 32 um
  each. What looks at lesions is near chance there (a crowded field has few empty places, so not quite).
- `CRIC`: its AUC for lesion against NILM of single labelled nuclei of conventional smears, another laboratory, whose
  fields no row trains on. What has learned the laboratory alone is at chance there.

Guards change the pictures or the weights of training: `matched` brings the optical density of each field, glass and
all, to one mean and deviation, `grey` drops the colours, `jitter` trains on jittered dyes, `balanced` weighs training
fields so that colour statistics do not tell NILM from the rest. Frozen rows are logistic regression on the mean
feature, or a head. Settings were fixed before a row was run. Each row, seed and fold is kept under `--work`: what is
done is not repeated, and rows end to end, some minutes of a core each, can be run when there is time (`--rows end`).
"""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import monai.bundle
import numpy as np
import torch
from monai.handlers import LrScheduleHandler
from PIL import Image
from record import Record, make_parser
from torch import Tensor, nn
from torch.nn import functional

from stride_monai.bethesda import CELL_CLASSES, SLIDE_CLASSES, cell_class_of, slide_class_of
from stride_monai.data.bags.bag import BagFile, decode_crop
from stride_monai.data.importers.cohort import import_dataset
from stride_monai.data.importers.records import ImportOptions, load_format
from stride_monai.data.manifest import SlideRecord, read_manifest
from stride_monai.engines.coloradv import ColorAdvTrainer
from stride_monai.engines.swift import SwiftTrainer
from stride_monai.files import write_bytes
from stride_monai.handlers.steps import EmaUpdater
from stride_monai.metrics.slide import auc
from stride_monai.networks.ema import EmaModel
from stride_monai.networks.encoders.cell_encoder import CellClassifier
from stride_monai.networks.factories import create_slide_head
from stride_monai.networks.mil.slide_classifier import SlideClassifier
from stride_monai.networks.mil.swift import SwiftStudent
from stride_monai.phantom.render import render_field
from stride_monai.slides import open_slide
from stride_monai.transforms.stain import stain_jitter
from stride_monai.units import Box
from stride_monai.workflows.load import load_bundle_network
from stride_monai.workflows.locate import bundle_root

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
CLASSES = ("NILM", "LSIL", "HSIL", "SCC")
FOLDERS = {"NL": "NILM"}
MPP, CRIC_MPP, PX, K, WINDOW = 0.5, 0.228, 128, 8, 64
LUMA = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
# Of the densities of red, green and blue (natural logarithm): the means over the 480 fields.
COMMON = torch.tensor([[0.639, 0.595, 0.406], [0.331, 0.425, 0.186]]).view(2, 3, 1, 1)
STRENGTH = 0.01  # of logistic regression, as the inverse of its penalty; 1 for the few numbers of colours
STEPS, CELLS, RATE = 60, 12, 3e-4  # end to end
FIGURES = ("auc", "macro_auc", "macro_f1", "empty", "cric")


class Row(NamedTuple):
    """What is trained on what, under which guard."""

    features: str
    head: str
    guard: str = "none"

    @property
    def name(self) -> str:
        return f"{self.features}, {self.head}, {self.guard}"


FROZEN = ("none", "jitter", "balanced", "grey", "matched", "matched, grey")
BOTH = ("none", "matched, grey")
ROWS = [
    Row("colours", "mean and SD"),
    Row("colours", "mean and SD", "grey"),
    *(Row("ImageNet", "mean", guard) for guard in FROZEN),
    *(Row("ImageNet", head, guard) for head in ("abmil", "transmil") for guard in BOTH),
    *(Row("shipped", head, guard) for head in ("mean", "abmil") for guard in BOTH),
    *(Row("end to end", how, "matched, grey") for how in ("WSI-FT", "SWIFT", "SWIFT, ColorAdv")),
    Row("end to end", "SWIFT"),
]


class Fields(NamedTuple):
    """All fields.

    Attributes:
        label: index into CLASSES. group: of each. colors: mean and deviation ``[N, 6]`` of the field's pixels.
        densities: likewise of their densities.
        cells: uint8 ``[N, K, 3, PX, PX]``; a field of fewer cells shows its last one again.
        empty: uint8 ``[N, 4, 3, WINDOW, WINDOW]``.
    """

    label: np.ndarray
    group: np.ndarray
    colors: np.ndarray
    densities: Tensor
    cells: Tensor
    empty: Tensor


class Cells(NamedTuple):
    """Labelled cells: uint8 ``[n, 3, PX, PX]``, index into CELL_CLASSES, the field that each lies in, its densities."""

    images: Tensor
    label: np.ndarray
    field: np.ndarray
    densities: Tensor


class Data(NamedTuple):
    fields: Fields
    cric: Cells
    judged: np.ndarray  # which cells of CRIC judge; the others may train
    work: Path


# Pictures.


def field_bags(data: Path, work: Path) -> list[SlideRecord]:
    """The cohort as a user imports it, and a bag file for each field by the bundle detection."""
    cohort = work / "cohort"
    if not (cohort / "manifest.csv").exists():
        import_dataset(data, cohort, load_format("mendeley_lbc"), ImportOptions(mpp=MPP))
    records = read_manifest(cohort / "manifest.csv")
    if not all((work / "bags" / f"{record.slide_id}.bag.arrow").exists() for record in records):
        root = bundle_root("detection")
        files = [str(root / "configs" / f"{name}.json") for name in ("inference", "tiny", "fcos", "tiny_fcos")]
        folders = {"dataset_dir": str(cohort), "output_dir": str(work / "bags"), "bundle_root": str(root)}
        small = {"top_k": 32, "crop_px": PX, "crop_mpp": MPP, "overwrite": False}
        monai.bundle.run(config_file=files, logging_file=False, **folders, **small)
    return records


def read_fields(data: Path, work: Path) -> Fields:
    rows = []
    valid = np.array(Image.open(data / "valid.png")) > 0 if (data / "valid.png").exists() else None
    for record in field_bags(data, work):
        pixels = np.array(Image.open(record.path).convert("RGB"))
        known = np.ones(pixels.shape[:2], bool) if valid is None else valid
        color = pixels[known] / 255
        bag = BagFile(work / "bags" / f"{record.slide_id}.bag.arrow")
        crops = [decode_crop(bag.jpeg(min(k, len(bag) - 1))) for k in range(K)]
        kind = CLASSES.index(FOLDERS.get(record.path.parent.name, record.path.parent.name))
        statistics = np.concatenate([color.mean(0), color.std(0)])
        pictures = channels_first(np.stack(crops)), channels_first(emptiest(pixels, known))
        rows.append((kind, record.specimen, statistics, densities(color), *pictures))
    label, group, colors, stains, cells, empty = zip(*rows, strict=True)
    return Fields(*map(np.array, (label, group, colors)), *map(torch.stack, (stains, cells, empty)))


def densities(color: np.ndarray) -> Tensor:
    """Mean and deviation ``[2, 3, 1, 1]`` of the optical densities of colours ``[n, 3]``."""
    density = -np.log(color.clip(1 / 255))
    return torch.tensor(np.array([density.mean(0), density.std(0)])).float().view(2, 3, 1, 1)


def channels_first(pictures: np.ndarray) -> Tensor:
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous()


def emptiest(pixels: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The four windows ``[4, WINDOW, WINDOW, 3]`` of a grid of 16 px that let most light through; they may overlap."""
    dark = np.where(known, -np.log((pixels @ LUMA.numpy().ravel() / 255).clip(1 / 255)), 9.0)
    total = np.pad(dark, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    total = total[WINDOW:, WINDOW:] - total[:-WINDOW, WINDOW:] - total[WINDOW:, :-WINDOW] + total[:-WINDOW, :-WINDOW]
    total = total[::16, ::16]
    places = zip(*np.unravel_index(total.ravel().argsort()[:4], total.shape), strict=True)
    return np.stack([pixels[16 * y : 16 * y + WINDOW, 16 * x : 16 * x + WINDOW] for y, x in places])


def read_cric(data: Path) -> Cells:
    points = defaultdict(list)
    with (data / "points.csv").open(newline="") as stream:
        for row in csv.DictReader(stream):
            points[row["image"]].append((float(row["nucleus_x"]), float(row["nucleus_y"]), row["bethesda_system"]))
    crops, labels, fields, stains = [], [], [], []
    for number, (image, nuclei) in enumerate(sorted(points.items())):
        with open_slide(data / image, mpp=CRIC_MPP) as slide:
            stain = densities(slide.read(slide.box, mpp=MPP).reshape(-1, 3) / 255)
            for x, y, label in nuclei:
                crops.append(slide.read(Box.around(x, y, PX * MPP / CRIC_MPP), mpp=MPP))
                labels.append(CELL_CLASSES.index(cell_class_of(label)))
                fields.append(number)
                stains.append(stain)
    return Cells(channels_first(np.stack(crops)), np.array(labels), np.array(fields), torch.stack(stains))


def phantom_cells(seed: int, fields: int = 20, each: int = 6) -> Cells:
    """Cells of synthetic fields, each from a laboratory of its own."""
    crops, labels, places, stains = [], [], [], []
    kinds = ("LSIL", "HSIL", "ASC-US", "NILM", "ASC-H", "AGC")
    for number in range(fields):
        kind = kinds[number % len(kinds)]
        pixels, truth = render_field(200, 200, mpp=MPP, label=kind, centre="any", seed=1000 * seed + number)
        padded = np.pad(pixels, ((PX // 2,) * 2, (PX // 2,) * 2, (0, 0)), mode="reflect")
        lesions = [cell for cell in truth.cells if cell.label != "NILM"]
        others = [cell for cell in truth.cells if cell.label == "NILM"]
        for cell in (lesions[:each] + others[: each // 2]) or others:
            x, y = (round(value) for value in Box(*cell.box).center)
            x, y = min(max(x, 0), pixels.shape[1] - 1), min(max(y, 0), pixels.shape[0] - 1)
            crops.append(padded[y : y + PX, x : x + PX])
            labels.append(CELL_CLASSES.index(cell_class_of(cell.label)))
            places.append(number)
            stains.append(densities(pixels.reshape(-1, 3) / 255))
    return Cells(channels_first(np.stack(crops)), np.array(labels), np.array(places), torch.stack(stains))


def guarded(pictures: Tensor, stains: Tensor, guard: str) -> Tensor:
    """uint8 pictures ``[n, ..., 3, S, S]`` from places of the densities ``[n, 2, 3, 1, 1]`` as a guard shows them, in
    0..1."""
    image = pictures.float() / 255
    if "matched" in guard:
        mean, spread = stains.view(len(stains), 2, *(1,) * (image.ndim - 4), 3, 1, 1).unbind(1)
        density = (-torch.log(image.clamp(min=1 / 255)) - mean) / spread * COMMON[1] + COMMON[0]
        image = torch.exp(-density.clamp(min=0))
    if "grey" in guard:
        image = (image * LUMA).sum(-3, keepdim=True).expand_as(image)
    return image


def stored(image: Tensor) -> Tensor:
    return (image * 255).round().to(torch.uint8)


def shown(pictures: Tensor, stains: Tensor, guard: str) -> Tensor:
    """As :func:`guarded`, as bytes, a part at a time."""
    pairs = zip(pictures.split(16), stains.split(16), strict=True)
    return torch.cat([stored(guarded(some, stain, guard)) for some, stain in pairs])


# Features and what is trained on them.


def make_encoder(name: str) -> tuple[CellClassifier, int]:
    """A frozen encoder, and the side of its crops in px."""
    if name == "ImageNet":
        return CellClassifier("tf_efficientnet_lite0", pretrained="imagenet").eval(), PX
    loaded = load_bundle_network(bundle_root("cell_cls"), "tiny")
    return loaded.network.eval(), int(loaded.numbers["crop_px"])


@torch.inference_mode()
def encode(encoder: CellClassifier, pictures: Tensor, stains: Tensor, guard: str, side: int = PX) -> np.ndarray:
    """Features ``[n, ..., D]`` of pictures ``[n, ..., 3, S, S]`` under a guard; of crops the middle of ``side`` px."""
    edge = max(pictures.shape[-1] - side, 0) // 2
    seen = slice(edge, pictures.shape[-1] - edge)
    parts = [
        encoder.encode(guarded(some, stain, guard)[..., seen, seen].flatten(0, -4)).view(*some.shape[:-3], -1)
        for some, stain in zip(pictures.split(8), stains.split(8), strict=True)
    ]
    found: np.ndarray = torch.cat(parts).float().numpy()
    return found


def features_of(name: str, guard: str, data: Data) -> dict[str, np.ndarray]:
    """Of cells, empty windows and CRIC; made once for an encoder and a guard."""
    path = data.work / "features" / f"{name} {guard}.npz".replace(",", "").replace(" ", "_")
    if not path.exists():
        encoder, side = make_encoder(name)
        fields, cric = data.fields, data.cric
        cells = jittered(fields.cells) if guard == "jitter" else fields.cells
        found = {
            "cells": encode(encoder, cells, fields.densities, guard, side),
            "empty": encode(encoder, fields.empty, fields.densities, guard, side),
            "cric": encode(encoder, cric.images, cric.densities, guard, side),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **found)
    with np.load(path) as file:
        return dict(file)


def jittered(cells: Tensor) -> Tensor:
    """Every field's cells in dyes of another strength, one draw a field."""
    draw = torch.Generator().manual_seed(0)
    found = torch.empty_like(cells)
    for place, crops in enumerate(cells):
        factor, offset = (2 * torch.rand(2, 1, 3, generator=draw) - 1).unbind(0)
        image = stain_jitter(crops.float() / 255, (1 + 0.5 * factor).expand(K, 3), (0.05 * offset).expand(K, 3))
        found[place] = stored(image.clamp(0, 1))
    return found


class Regression:
    """Logistic regression of standardised numbers, each class weighing as much as another."""

    def __init__(
        self, numbers: np.ndarray, label: np.ndarray, strength: float, weight: np.ndarray | None = None
    ) -> None:
        self.mean, self.spread, self.kinds = numbers.mean(0), numbers.std(0) + 1e-9, np.unique(label)
        x = torch.from_numpy((numbers - self.mean) / self.spread).double()
        y = torch.from_numpy(np.searchsorted(self.kinds, label))
        each = (len(y) / len(self.kinds) / torch.bincount(y))[y].double()
        each = each if weight is None else torch.from_numpy(weight).double()
        self.w = torch.zeros(x.shape[1], len(self.kinds), dtype=torch.float64, requires_grad=True)
        self.b = torch.zeros(len(self.kinds), dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.LBFGS([self.w, self.b], max_iter=100, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = (each * functional.cross_entropy(x @ self.w + self.b, y, reduction="none")).sum() * strength
            loss = loss + self.w.square().sum() / 2
            loss.backward()
            return loss

        optimizer.step(closure)

    @torch.no_grad()
    def __call__(self, numbers: np.ndarray) -> np.ndarray:
        x = torch.from_numpy((numbers - self.mean) / self.spread).double()
        return (x @ self.w + self.b).softmax(1).numpy()


def balancing(colors: np.ndarray, lesion: np.ndarray) -> np.ndarray:
    """Weights that make fields of either kind alike in colour: the inverse probability of the kind, given colours."""
    likely = Regression(colors, lesion, 1.0)(colors)[np.arange(len(lesion)), lesion.astype(int)]
    weight = 1 / likely.clip(0.05)
    for kind in (False, True):
        weight[lesion == kind] *= len(lesion) / 2 / weight[lesion == kind].sum()
    return weight


Judge = Callable[[np.ndarray], np.ndarray]
"""From bags of features ``[n, k, D]`` to probabilities of what was trained on."""


def mean_judge(features: np.ndarray, label: np.ndarray, weight: np.ndarray | None = None) -> Judge:
    fitted = Regression(features.mean(1), label, STRENGTH, weight)
    return lambda bags: fitted(bags.mean(1))


def head_judge(name: str, seed: int, features: np.ndarray, label: np.ndarray) -> Judge:
    """A slide head, 10 epochs on frozen features."""
    torch.manual_seed(seed)
    kinds = np.unique(label)
    x, y = torch.from_numpy(features), torch.from_numpy(np.searchsorted(kinds, label))
    scale = x.mean((0, 1)), x.std((0, 1)) + 1e-6
    head = create_slide_head(name, x.shape[2], num_classes=len(kinds), embed=128)
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3, weight_decay=0.05)
    weight = len(y) / len(kinds) / torch.bincount(y)
    for _ in range(10):
        for chosen in torch.randperm(len(y)).split(16):
            loss = functional.cross_entropy(head((x[chosen] - scale[0]) / scale[1])[0], y[chosen], weight)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    head.eval()

    @torch.no_grad()
    def judge(bags: np.ndarray) -> np.ndarray:
        return head((torch.from_numpy(bags) - scale[0]) / scale[1])[0].softmax(1).numpy()

    return judge


# Figures.


def folds(fields: Fields, seed: int) -> list[np.ndarray]:
    """Which fields are test fields, for each of two folds."""
    draw, half = np.random.default_rng(seed), {}
    for kind in range(len(CLASSES)):
        for place, group in enumerate(draw.permutation(np.unique(fields.group[fields.label == kind]))):
            half[group] = place % 2
    there = np.array([half[group] for group in fields.group])
    return [there == fold for fold in (0, 1)]


def within(probabilities: np.ndarray, label: np.ndarray) -> dict[str, float]:
    """Macro AUC, each class against the other two, and macro-F1 among abnormal fields."""
    called, kinds = probabilities.argmax(1) + 1, range(1, len(CLASSES))
    f1 = [2 * np.sum((called == k) & (label == k)) / (np.sum(called == k) + np.sum(label == k)) for k in kinds]
    areas = [auc(probabilities[:, k - 1], label == k) for k in kinds]
    return {"macro_auc": float(np.mean(areas)), "macro_f1": float(np.mean(f1))}


def frozen_figures(row: Row, data: Data, seed: int, test: np.ndarray) -> dict[str, float]:
    fields, train = data.fields, ~test
    if row.features == "colours":
        numbers = fields.colors
        if row.guard == "grey":
            numbers = np.stack([numbers[:, :3] @ LUMA.numpy().ravel(), numbers[:, 3:] @ LUMA.numpy().ravel()], 1)
        make: Any = partial(Regression, strength=1.0)
        known, other = {"cells": numbers}, {}
    else:
        guard = "none" if row.guard in {"balanced", "jitter"} else row.guard
        other = features_of(row.features, guard, data)
        known = features_of(row.features, "jitter", data) if row.guard == "jitter" else other
        make = mean_judge if row.head == "mean" else partial(head_judge, row.head, seed)
    weight = {}
    if row.guard == "balanced":
        weight = {"weight": balancing(fields.colors[train], fields.label[train] > 0)}
    judge = make(known["cells"][train], np.minimum(fields.label, 1)[train], **weight)
    asked = other.get("cells", known["cells"])
    ill = fields.label > 0
    found = {"auc": auc(judge(asked[test])[:, 1], ill[test])}
    if other:
        found["empty"] = auc(judge(other["empty"][test])[:, 1], ill[test])
        nuclei = judge(other["cric"][data.judged][:, None])[:, 1]
        found["cric"] = auc(nuclei, data.cric.label[data.judged] > 0)
    judge = make(known["cells"][train & ill], fields.label[train & ill])
    return found | within(judge(asked[test & ill]), fields.label[test & ill])


# End to end.


def trained(row: Row, data: Data, seed: int, train: np.ndarray, cells: Tensor) -> SlideClassifier:
    """WSI-FT, SWIFT or SWIFT with ColorAdv; labelled cells are synthetic ones and those of half of CRIC's fields."""
    torch.manual_seed(seed)
    phantom, learned = phantom_cells(seed), ~data.judged
    drawn, real = (shown(part.images, part.densities, row.guard) for part in (phantom, data.cric))
    pool = torch.cat([drawn, real[torch.from_numpy(learned)]])
    labels = np.concatenate([phantom.label, data.cric.label[learned]])
    encoder = CellClassifier("tf_efficientnet_lite0", pretrained="imagenet")
    network = SlideClassifier(encoder, create_slide_head("stride", encoder.feature_dim), K, freeze_encoder=False)
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=0.01)
    teacher = EmaModel(encoder, 0.98)

    def labeled(step: int) -> dict[str, Tensor]:
        draw = np.random.default_rng((seed, step))
        kinds = draw.choice(np.unique(labels), CELLS)
        chosen = [int(draw.choice(np.flatnonzero(labels == kind))) for kind in kinds]
        return {"image": pool[chosen], "label": torch.from_numpy(labels[chosen])}

    schedule = LrScheduleHandler(
        torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, STEPS), print_lr=False, epoch_level=False
    )
    kind = ColorAdvTrainer if "ColorAdv" in row.head else SwiftTrainer
    kind(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=list(batches(data.fields, seed, train, cells)),
        network=SwiftStudent(network),
        optimizer=optimizer,
        train_handlers=[EmaUpdater(teacher, encoder), schedule],
        cells=labeled,
        teacher=teacher,
        semi_weight=0.0 if row.head == "WSI-FT" else 1.0,
        seed=seed,
    ).run()
    return network.eval()


def batches(fields: Fields, seed: int, train: np.ndarray, cells: Tensor) -> Any:
    """Of two bags each, one NILM and one not, the three abnormal classes in turn."""
    draw = np.random.default_rng(seed)
    for step in range(STEPS):
        chosen = [int(draw.choice(np.flatnonzero(train & (fields.label == kind)))) for kind in (0, 1 + step % 3)]
        label = [SLIDE_CLASSES.index(slide_class_of(CLASSES[fields.label[place]])) for place in chosen]
        mask = torch.ones(len(chosen), K, dtype=torch.bool)
        yield {"image": cells[chosen], "mask": mask, "label": torch.tensor(label), "slide_id": list(map(str, chosen))}


def end_figures(row: Row, data: Data, seed: int, test: np.ndarray) -> dict[str, float]:
    fields, ill = data.fields, data.fields.label > 0
    network = trained(row, data, seed, ~test, shown(fields.cells, fields.densities, row.guard))

    def encoded(pictures: Tensor, stains: Tensor, wanted: np.ndarray) -> np.ndarray:
        there = torch.from_numpy(wanted)
        return encode(network.encoder, pictures[there], stains[there], row.guard)

    wanted = test | ill
    features = np.zeros((len(test), K, network.encoder.feature_dim), np.float32)
    features[wanted] = encoded(fields.cells, fields.densities, wanted)
    nuclei = encoded(data.cric.images, data.cric.densities, data.judged)
    lesion = data.cric.label[data.judged] > 0

    @torch.no_grad()
    def positive(bags: np.ndarray, judge: nn.Module | Callable[..., Any]) -> np.ndarray:
        return 1 - judge(torch.from_numpy(bags)).softmax(1)[:, 0].numpy()

    there = encoded(fields.empty, fields.densities, test)
    found = {
        "auc": auc(positive(features[test], network), ill[test]),
        "empty": auc(positive(there, network), ill[test]),
        "cric": auc(positive(nuclei[:, None], network), lesion),
        "cric_cells": auc(positive(nuclei, network.encoder.head), lesion),
    }
    judge = mean_judge(features[~test & ill], fields.label[~test & ill])
    return found | within(judge(features[test & ill]), fields.label[test & ill])


def unit_file(work: Path, row: Row, seed: int, fold: int) -> Path:
    return work / "units" / f"{row.name} {seed} {fold}.json".replace(",", "").replace(" ", "_")


def unit(row: Row, data: Data, seed: int, fold: int) -> dict[str, float]:
    """The figures of one row, seed and fold, unless they are there."""
    path = unit_file(data.work, row, seed, fold)
    if not path.exists():
        make = end_figures if row.features == "end to end" else frozen_figures
        found = make(row, data, seed, folds(data.fields, seed)[fold])
        write_bytes(path, json.dumps(found).encode())
        print(row.name, seed, fold, {name: round(value, 3) for name, value in found.items()}, flush=True)
    figures: dict[str, float] = json.loads(path.read_text())
    return figures


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--data", type=Path, default=SHARED / "lbc")
    parser.add_argument("--cric", type=Path, default=SHARED / "cric")
    parser.add_argument("--work", type=Path, default=Path(__file__).parent / "work" / "real_fields")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", nargs="*", default=[], help="parts of names of rows; all by default")
    parser.add_argument("--done", action="store_true", help="write what is there, run nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    work = options.work.resolve()
    rows = [row for row in ROWS if not options.rows or any(part in row.name for part in options.rows)]
    if not options.done:
        cric = read_cric(options.cric)
        data = Data(read_fields(options.data, work), cric, cric.field % 2 == 1, work)
        frozen, deep = ([row for row in rows if (row.features == "end to end") == end] for end in (False, True))
        for row, seeds in [*((row, options.seeds) for row in frozen)]:
            for seed in seeds:
                for fold in (0, 1):
                    unit(row, data, seed, fold)
        for seed in options.seeds:
            for row in deep:
                for fold in (0, 1):
                    unit(row, data, seed, fold)
    write(rows, work, options.seeds)


def write(rows: list[Row], work: Path, seeds: list[int]) -> None:
    record = Record("real_fields", "Real liquid-based fields, and how much of it is the laboratory")
    names = ("AUC NILM or not", "macro AUC LSIL, HSIL, SCC", "macro-F1", "empty", "CRIC", "CRIC, cell head")
    caption = "Mean ± SD over the seeds, each the mean of two folds."
    table = record.table("features", "head", "guard", "seeds", *names, caption=caption)
    for row in rows:
        found = []
        for seed in seeds:
            paths = [unit_file(work, row, seed, fold) for fold in (0, 1)]
            if all(path.exists() for path in paths):
                found.append([json.loads(path.read_text()) for path in paths])
        if not found:
            continue
        cells = []
        for name in (*FIGURES, "cric_cells"):
            values = [np.mean([figures.get(name, np.nan) for figures in pair]) for pair in found]
            spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
            cells.append("" if np.isnan(values[0]) else f"{np.mean(values):.3f}{spread}")
        table.row(row.features, row.head, row.guard, len(found), *cells)
    record.write(seeds=seeds)


if __name__ == "__main__":
    main()
