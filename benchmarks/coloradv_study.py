"""ColorAdv where it is meant to help: slides of centres with another stain, another scanner, or both.

    python benchmarks/coloradv_study.py [--row NAME ...] [--seed N ...] [--table] [--picture JPEG]

Cohort, few labels, network and settings are those of swift_ablation.py; two of its runs are rows here. What was done
there is read, what was not is done there first. A run that has been done is not repeated.

Rows. The SWIFT rows are trained alike but for the augmentation of the strong view. The rows that go on from a converged
SWIFT network do so for three epochs at a tenth of its learning rate, with the adversarial colours of the bundle
``coloradv`` at its own settings; or without, since more training alone might be the gain. The last row is the paper's
recipe, colour adversarial training and stain augmentation, as far as the paper tells it.

Test slides. The 120 test slides of the six seen centres, and the same 120 slides (same seeds, labels and lesions) made
again in three kinds of unseen centres, which nobody trains or validates on (:func:`unseen_centre`): each seen centre is
paired with an unseen one (:data:`PAIRS`) and takes from it

- ``stain``: the dyes' densities, their strength, and how eosinophilic cells are;
- ``scanner``: glass, gamma, white balance, glare, blur, sharpening, noise, shading, focus, aperture, the quality of the
  slide's JPEG (crops of training are cut from uncompressed pixels) and the um/px of level 0, 0.23-0.5 where that of
  training is 1.0; crops are read at 1.0 um/px from all;
- ``both``.

The threshold is that of the training run: sensitivity 0.95 on the validation slides, which are of seen centres. All of
this was fixed before a result was looked at.
"""

from __future__ import annotations

import csv
import io
import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import swift_ablation as ablation
import torch
from numpy.typing import NDArray
from PIL import Image
from record import Record, make_parser
from torch import Tensor

from stride_monai.bethesda import NEGATIVE, SLIDE_CLASSES
from stride_monai.data.bags.folder import BAG_SUFFIX
from stride_monai.data.manifest import SlideRecord, read_manifest, write_manifest
from stride_monai.files import replacing, write_bytes
from stride_monai.metrics.slide import auc, specificity_at_sensitivity
from stride_monai.networks.encoders.cell_encoder import CellClassifier
from stride_monai.networks.factories import create_slide_head
from stride_monai.networks.mil.slide_classifier import SlideClassifier
from stride_monai.networks.weights import load_into
from stride_monai.phantom.centres import CENTRES
from stride_monai.phantom.cohorts.bags import write_phantom_bag
from stride_monai.phantom.render import plan_slide
from stride_monai.phantom.stain import Centre
from stride_monai.transforms.loading import LoadBagd

PAIRS = {
    "north": "valley",
    "south": "lake",
    "east": "mountain",
    "west": "harbour",
    "coast": "desert",
    "island": "forest",
}
"""Seen centre -> the unseen one whose stain or scanner it takes. Training knows none of the latter."""

STAIN = ("dye_od", "strength", "eosinophilic")
SCANNER = (
    "background",
    "gamma",
    "white_balance",
    "glare",
    "blur_um",
    "sharpen",
    "noise",
    "noise_color",
    "shading",
    "jpeg_quality",
    "mpp",
    "aperture",
    "focus_um",
)
KINDS = {"stain": STAIN, "scanner": SCANNER, "both": (*STAIN, *SCANNER)}

FROM_CROPS = "../../swift_mil/configs/from_crops"
JITTER = {"strong": {"_target_": "stride_monai.transforms.stain.StainAugmentation"}}
FURTHER = {"max_epochs": 3, "learning_rate": ablation.SWIFT["learning_rate"] / 10}


class Row(NamedTuple):
    """How a row is made.

    Attributes:
        options: of the bundle, beside those of every run.
        start: the row whose network it goes on from, with ``coloradv``; empty for a run of ``swift_mil``.
        shared: the run of swift_ablation.py that is this row; the others are of this script.
    """

    options: dict[str, Any] = {}  # noqa: RUF012
    start: str = ""
    shared: str = ""


ROWS: dict[str, Row] = {
    "two-stage": Row(shared="frozen, STRIDE head"),
    "SWIFT": Row(shared="SWIFT, gradient x feature"),
    "SWIFT, no augmentation": Row(ablation.NO_AUGMENTATION),
    "SWIFT, stain jitter": Row(JITTER),
    "SWIFT, further epochs": Row({"adversarial_weight": 0.0}, start="SWIFT"),
    "ColorAdv RGB": Row({"spaces": ["rgb"]}, start="SWIFT"),
    "ColorAdv HSV": Row({"spaces": ["hsv"]}, start="SWIFT"),
    "ColorAdv both": Row(start="SWIFT"),
    "stain jitter, ColorAdv both": Row(JITTER, start="SWIFT, stain jitter"),
}


class Study(NamedTuple):
    """Where things are: the folder of swift_ablation.py, and that of this script."""

    shared: Path
    work: Path

    def run(self, name: str, seed: int) -> Path:
        """The folder of a row's ``model.pt`` and ``result.json``."""
        row = ROWS[name]
        folder, title = (self.shared, row.shared) if row.shared else (self.work, name)
        return folder / "runs" / f"{title}-{seed}".replace(" ", "_").replace(",", "")

    def scores(self, name: str, seed: int) -> Path:
        return self.work / "scores" / f"{name}-{seed}.csv".replace(" ", "_").replace(",", "")


def train(study: Study, name: str, seed: int) -> Path:
    """Train a row unless that is done, and return its weights."""
    row, out = ROWS[name], study.run(name, seed)
    cohort = ablation.make_cohort(study.shared)
    if row.shared:
        ablation.slide_run(row.shared, study.shared, cohort, seed)
        return out / "model.pt"
    options: dict[str, Any] = {
        "dataset_dir": str(cohort),
        "bag_dir": str(cohort / "bags"),
        "cell_dir": str(ablation.few_labels(study.shared, cohort, seed)),
        "output_dir": str(out),
        "seed": seed,
    }

    def job() -> dict[str, Any]:
        if row.start:
            coloradv(**{**options, **row.options, "init_weights": str(train(study, row.start, seed))})
        else:
            weights = ablation.encoder_weights("few labels", study.shared, cohort, seed)
            ablation.swift_mil(["from_crops"], **{**options, **row.options, "init_weights": str(weights)})
        return {"row": name, "seed": seed}

    ablation.once(out, job)
    return out / "model.pt"


def coloradv(**options: Any) -> None:
    network = {f"encoder#{key}": value for key, value in ablation.NETWORK.items()}
    settings = {**ablation.COMMON, **ablation.SWIFT, **network, **FURTHER, **options}
    ablation.bundle("coloradv", ("train", FROM_CROPS), **settings)


def unseen_centre(name: str, kind: str) -> Centre:
    """A seen centre with the stain, the scanner or both of the unseen one that it is paired with."""
    other = CENTRES[PAIRS[name]]
    return replace(CENTRES[name], **{part: getattr(other, part) for part in KINDS[kind]})


def make_unseen(study: Study, kind: str) -> list[SlideRecord]:
    """The test slides of seen centres in an unseen kind; ``path`` of each record is its bag."""
    folder = study.work / kind
    if not (folder / "manifest.csv").exists():
        seen = {record.slide_id for record in seen_slides(study)}
        records = []
        for case in (case for case in ablation.DESIGN.cases() if case.slide_id in seen):
            centre = unseen_centre(case.centre, kind)
            path = folder / "bags" / f"{case.slide_id}{BAG_SUFFIX}"
            plan, _ = plan_slide(case.label, **{**case.arguments, "centre": centre, "mpp": level_0(centre, kind)})
            compressed = "jpeg_quality" in KINDS[kind]
            write_phantom_bag(path, plan, ablation.BAGS, slide_class=case.reported, compressed=compressed)
            records.append(SlideRecord(case.slide_id, path, None, case.patient, case.centre, case.reported, "test"))
        write_manifest(folder / "manifest.csv", records)  # last: where it stands the folder is complete
    return read_manifest(folder / "manifest.csv")


def level_0(centre: Centre, kind: str) -> float:
    """um/px: the scanner's own where it is another than that of training."""
    return centre.mpp if "mpp" in KINDS[kind] else float(ablation.DESIGN.mpp or centre.mpp)


def seen_slides(study: Study) -> list[SlideRecord]:
    cohort = ablation.make_cohort(study.shared)
    found = read_manifest(study.shared / "seen" / "manifest.csv")
    return [replace(record, path=cohort / "bags" / f"{record.slide_id}{BAG_SUFFIX}") for record in found]


@cache
def test_slides(study: Study) -> dict[str, list[SlideRecord]]:
    return {"seen": seen_slides(study), **{kind: make_unseen(study, kind) for kind in KINDS}}


def load_bags(records: Sequence[SlideRecord]) -> tuple[Tensor, Tensor]:
    """uint8 crops ``[N, K, 3, S, S]`` and their mask ``[N, K]``."""
    load = LoadBagd(top_k=ablation.BAGS.top_k)
    items = [load({"bag": str(record.path)}) for record in records]
    return torch.stack([item["image"] for item in items]), torch.stack([item["mask"] for item in items])


def load_network(weights: Path) -> SlideClassifier:
    encoder = CellClassifier(ablation.COMMON["encoder_name"], **ablation.NETWORK)
    network = SlideClassifier(encoder, create_slide_head("stride", encoder.feature_dim), ablation.BAGS.top_k)
    load_into(network, weights)
    return network.eval()


@torch.inference_mode()
def slide_scores(network: SlideClassifier, images: Tensor, mask: Tensor) -> NDArray[np.float64]:
    """Sum of the probabilities of the positive classes, ``[N]``."""
    parts = zip(images.split(16), mask.split(16), strict=True)
    probabilities = torch.cat([torch.softmax(network(*part).double(), dim=1) for part in parts])
    return np.asarray(1 - probabilities[:, SLIDE_CLASSES.index(NEGATIVE)].numpy())


def judge(study: Study, name: str, seed: int) -> None:
    """Score every test slide of every kind, unless that is done."""
    path, weights = study.scores(name, seed), train(study, name, seed)
    if path.exists():
        return
    network = load_network(weights)
    threshold = network.operating_point().threshold
    stream = io.StringIO(newline="")
    table = csv.writer(stream, lineterminator="\n")
    table.writerow(("kind", "slide_id", "centre", "label", "score", "call"))
    for kind, records in test_slides(study).items():
        for record, score in zip(records, slide_scores(network, *load_bags(records)).tolist(), strict=True):
            call = "positive" if score >= threshold else "negative"
            table.writerow((kind, record.slide_id, record.centre, record.slide_class, f"{score:.9f}", call))
    write_bytes(path, stream.getvalue().encode())


class Judged(NamedTuple):
    """Scores, truth and calls at the stored threshold of some slides."""

    score: NDArray[np.float64]
    positive: NDArray[np.bool_]
    called: NDArray[np.bool_]

    def auc(self) -> float:
        return auc(self.score, self.positive)

    def specificity_at_95(self) -> float:
        return specificity_at_sensitivity(self.score, self.positive, 0.95).specificity

    def sensitivity(self) -> float:
        return float(self.called[self.positive].mean())

    def specificity(self) -> float:
        return float(1 - self.called[~self.positive].mean())


def judged(path: Path, kinds: Sequence[str]) -> Judged:
    with path.open() as stream:
        rows = [row for row in csv.DictReader(stream) if row["kind"] in kinds]
    return Judged(
        np.array([float(row["score"]) for row in rows]),
        np.array([row["label"] != NEGATIVE for row in rows]),
        np.array([row["call"] == "positive" for row in rows]),
    )


GROUPS = {"seen": ("seen",), **{kind: (kind,) for kind in KINDS}, "all unseen": tuple(KINDS)}
FIGURES: dict[str, Callable[[Judged], float]] = {
    "AUC": Judged.auc,
    "spec. at sens. 95 %": Judged.specificity_at_95,
    "sens. at the fixed threshold": Judged.sensitivity,
    "spec. at the fixed threshold": Judged.specificity,
}


def core_seconds(study: Study, name: str, seed: int) -> float:
    """What a run took, with the runs that it goes on from; the encoder of few labels is common to all."""
    result = json.loads((study.run(name, seed) / "result.json").read_text())
    start = ROWS[name].start
    return float(result["cpu_seconds"]) + (core_seconds(study, start, seed) if start else 0.0)


def tables(study: Study) -> None:
    """Each figure for the seeds that are there, mean and SD; and what rows gain over others of the same seed."""
    seeds = {name: [seed for seed in range(10) if study.scores(name, seed).exists()] for name in ROWS}
    figures = Record("coloradv_study", "ColorAdv on unseen stains and scanners")
    for title, figure in FIGURES.items():
        table = figures.table(title, "seeds", *GROUPS, *(["core-s"] if title == "AUC" else []))
        for name in (name for name in ROWS if seeds[name]):
            found = [[figure(judged(study.scores(name, s), kinds)) for s in seeds[name]] for kinds in GROUPS.values()]
            cost = f"{statistics.mean(core_seconds(study, name, s) for s in seeds[name]):.0f}"
            table.row(name, len(seeds[name]), *map(ablation.spread, found), *([cost] if title == "AUC" else []))
    for base in ("SWIFT", "SWIFT, further epochs"):
        gains(study, base, seeds, figures)
    figures.write(sorted({seed for known in seeds.values() for seed in known}))


def gains(study: Study, base: str, seeds: dict[str, list[int]], figures: Record) -> None:
    """What each row has more than another on all unseen slides, seed by seed."""
    table = figures.table(f"more than {base}, all unseen", "seeds", *FIGURES)
    for name in (name for name in ROWS if name != base):
        if both := [seed for seed in seeds[name] if seed in seeds[base]]:
            pairs = [[judged(study.scores(row, s), GROUPS["all unseen"]) for row in (name, base)] for s in both]
            cells = (ablation.spread([figure(a) - figure(b) for a, b in pairs]) for figure in FIGURES.values())
            table.row(name, len(both), *cells)


def draw(study: Study, path: Path, cells: int = 3) -> None:
    """The first cells of a positive slide of each centre; one row for the seen centres and for each unseen kind."""
    slides = test_slides(study)
    first = {r.centre: k for k, r in reversed([*enumerate(slides["seen"])]) if r.slide_class != NEGATIVE}
    bags = [load_bags([records[first[centre]] for centre in PAIRS])[0][:, :cells] for records in slides.values()]
    side, (rows, columns) = ablation.BAGS.crop_px, (len(bags), len(PAIRS) * cells)
    pixels = torch.stack(bags).view(rows, columns, 3, side, side).permute(0, 3, 1, 4, 2)
    picture = Image.fromarray(pixels.reshape(rows * side, columns * side, 3).numpy())
    with replacing(path) as temporary:
        picture.resize((2 * picture.width, 2 * picture.height)).save(temporary, format="JPEG", quality=85)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--work", type=Path, default=Path("benchmarks/work/coloradv_study"))
    parser.add_argument("--ablation", type=Path, default=Path("benchmarks/work/swift_ablation"))
    parser.add_argument("--row", action="append", choices=list(ROWS))
    parser.add_argument("--seed", action="append", type=int)
    parser.add_argument("--table", action="store_true", help="only print what is there")
    parser.add_argument("--picture", type=Path, help="draw cells of every kind of centre into this JPEG file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    study = Study(arguments.ablation.absolute(), arguments.work.absolute())
    if arguments.picture:
        draw(study, arguments.picture)
        return
    for seed in () if arguments.table else arguments.seed or (0, 1, 2):
        for name in arguments.row or ROWS:
            judge(study, name, seed)
    tables(study)


if __name__ == "__main__":
    main()
