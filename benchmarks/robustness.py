"""How far a slide may drift before a fixed threshold no longer holds: sensitivity and specificity against the shift.

    python benchmarks/robustness.py [--work benchmarks/work/coloradv_study] [--figure docs/figures/robustness.png]

The test slides of seen centres of coloradv_study.py, shifted by one amount, judged by its networks (every seed that is
there) at the threshold that each took from its own validation slides, which are not shifted. Hue is turned, saturation
and brightness (the V of HSV) are multiplied, the crops blurred or compressed once more as JPEG (4:2:0). For um/px the
same cells of the same slides are cut again at another scale, while the network is told 1.0: a slide that states a wrong
um/px. Sizes were fixed before a result was looked at; what has been computed is not computed again. Writes the figure,
and ``robustness.csv`` into the work folder.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import coloradv_study as study_of
import imagecodecs
import matplotlib as mpl
import numpy as np
import swift_ablation as ablation
import torch
from coloradv_study import Judged, Study
from record import Record, make_parser
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from stride_monai.bethesda import NEGATIVE
from stride_monai.data.bags.bag import BagCell, BagFile, encode_crop, write_bag
from stride_monai.files import replacing, write_bytes
from stride_monai.phantom.cohorts.bags import cut_crops
from stride_monai.phantom.painting.painter import Scene
from stride_monai.phantom.render import plan_slide
from stride_monai.transforms.color import jitter_hsv
from stride_monai.units import Box

ROWS = {"SWIFT": "C7", "SWIFT, stain jitter": "C0", "ColorAdv both": "C3"}

FIGURES = {
    "specificity": ("specificity, fixed threshold", (0.0, 1.0)),
    "sensitivity": ("sensitivity, fixed threshold", (0.5, 1.0)),
    "auc": ("AUC", (0.5, 1.0)),
}
"""Rows of the figure: title, and from where to where."""


def recolored(images: Tensor, hue: float = 0.0, saturation: float = 1.0, value: float = 1.0) -> Tensor:
    """All crops ``[n, 3, S, S]`` uint8 with one change of colour."""
    change = (torch.full((len(images),), number) for number in (hue, saturation, value))
    return (jitter_hsv(images.float() / 255, *change) * 255).round().clamp(0, 255).to(torch.uint8)


def blurred(images: Tensor, sigma_um: float) -> Tensor:
    sigma = sigma_um / ablation.BAGS.crop_mpp
    return gaussian_blur(images, [2 * int(np.ceil(3 * sigma)) + 1] * 2, [sigma, sigma])


def compressed(images: Tensor, quality: float) -> Tensor:
    pictures = np.ascontiguousarray(images.permute(0, 2, 3, 1).numpy())
    again = [
        imagecodecs.jpeg8_decode(imagecodecs.jpeg8_encode(picture, level=int(quality), subsampling="420"))
        for picture in pictures
    ]
    return torch.from_numpy(np.stack(again)).permute(0, 3, 1, 2)


class Axis(NamedTuple):
    """One kind of shift.

    Attributes:
        title: of the figure's axis.
        sizes: in order; the plain one among them.
        plain: where nothing is shifted.
        change: of crops ``[n, 3, S, S]`` uint8 by a size; None where the crops are cut anew.
        trained: from and to what size the ordinary augmentation of training goes.
    """

    title: str
    sizes: tuple[float, ...]
    plain: float
    change: Callable[[Tensor, float], Tensor] | None
    trained: tuple[float, float] | None = None


AXES: dict[str, Axis] = {
    "hue": Axis("hue, turns", (-0.1, -0.05, 0, 0.05, 0.1), 0, recolored, (-0.04, 0.04)),
    "saturation": Axis(
        "saturation, factor", (0.4, 0.7, 1, 1.3, 1.6), 1, lambda x, size: recolored(x, saturation=size), (0.6, 1.4)
    ),
    "brightness": Axis(
        "brightness, factor", (0.7, 0.85, 1, 1.15, 1.3), 1, lambda x, size: recolored(x, value=size), (0.8, 1.2)
    ),
    "blur": Axis("blur, sigma in um", (0, 0.5, 1, 1.5, 2), 0, blurred),
    "jpeg": Axis("JPEG quality (100: as it was)", (100, 70, 50, 30, 10), 100, compressed),
    "mpp": Axis("true um/px, 1.0 being stated", (0.7, 0.85, 1, 1.18, 1.4), 1, None),
}


def misstated(study: Study, mpp: float) -> list[Path]:
    """Bags of the same cells, cut at so many um/px and said to be at that of training."""
    paths = []
    cases = {case.slide_id: case for case in ablation.DESIGN.cases()}
    sizes = [size for size in AXES["mpp"].sizes if size != AXES["mpp"].plain]
    for record in study_of.seen_slides(study):
        files = {size: study.work / f"mpp-{size:g}" / record.path.name for size in sizes}
        paths.append(files[mpp])
        if all(path.exists() for path in files.values()):
            continue
        bag, case = BagFile(record.path), cases[record.slide_id]
        scene = Scene(plan_slide(case.label, **case.arguments)[0])
        boxes = [Box(*box) for box in bag.boxes]
        for size, path in files.items():
            crops = cut_crops(scene, boxes, ablation.BAGS.crop_px, size)
            cells = zip(bag.scores.tolist(), boxes, crops, strict=True)
            write_bag(path, bag.header, [BagCell(score, box, encode_crop(crop)) for score, box, crop in cells])
    return paths


def shifted(study: Study, kind: str, size: float) -> tuple[Tensor, Tensor]:
    """The test slides of seen centres: crops ``[N, K, 3, S, S]`` uint8 and mask ``[N, K]``."""
    axis, records = AXES[kind], study_of.seen_slides(study)
    if axis.change is None and size != axis.plain:
        moved = zip(records, misstated(study, size), strict=True)
        return study_of.load_bags([replace(record, path=path) for record, path in moved])
    images, mask = study_of.load_bags(records)
    if axis.change is None or size == axis.plain:
        return images, mask
    return torch.stack([axis.change(bag, size) for bag in images]), mask


Found = dict[str, dict[str, float]]


def measure(study: Study, kind: str, size: float, runs: list[tuple[str, int]]) -> Found:
    """AUC, sensitivity and specificity of each run ("row-seed"), computed where they are not there yet."""
    plain = size == AXES[kind].plain
    path = study.work / "robustness" / ("plain.json" if plain else f"{kind}-{size:g}.json")
    found: Found = json.loads(path.read_text()) if path.exists() else {}
    if missing := [run for run in runs if f"{run[0]}-{run[1]}" not in found]:
        bags = shifted(study, kind, size)
        positive = np.array([record.slide_class != NEGATIVE for record in study_of.seen_slides(study)])
        for row, seed in missing:
            network = study_of.load_network(study.run(row, seed) / "model.pt")
            score = study_of.slide_scores(network, *bags)
            judged = Judged(score, positive, score >= network.operating_point().threshold)
            facts = {"auc": judged.auc(), "sensitivity": judged.sensitivity(), "specificity": judged.specificity()}
            found[f"{row}-{seed}"] = facts
        write_bytes(path, json.dumps(found).encode())
        print(path.name, flush=True)
    return found


def results(study: Study) -> Iterator[dict[str, Any]]:
    """One row of the CSV after the other."""
    runs = [(row, seed) for row in ROWS for seed in range(10) if study.scores(row, seed).exists()]
    for kind, axis in AXES.items():
        for size in axis.sizes:
            found = measure(study, kind, size, runs)
            for row, seed in runs:
                yield {"kind": kind, "size": size, "row": row, "seed": seed, **found[f"{row}-{seed}"]}


def draw(table: list[dict[str, Any]], path: Path) -> None:
    """Specificity, sensitivity and AUC from top to bottom; mean over the seeds, and a band of one SD."""
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(len(FIGURES), len(AXES), figsize=(15, 8), sharey="row", layout="constrained")
    for (kind, axis), column in zip(AXES.items(), panels.T, strict=True):
        for panel, what in zip(column, FIGURES, strict=True):
            if axis.trained:
                panel.axvspan(*axis.trained, color="0.93", lw=0)
            panel.axvline(axis.plain, color="0.6", lw=0.8)
            for row, color in ROWS.items():
                band(panel, [r for r in table if r["kind"] == kind and r["row"] == row], axis, what, color, row)
            panel.set(ylim=FIGURES[what][1], xlim=(min(axis.sizes), max(axis.sizes)))
            panel.grid(alpha=0.3)
        column[-1].set_xlabel(axis.title)
        if axis.sizes[0] > axis.sizes[-1]:
            for panel in column:
                panel.invert_xaxis()
    for panel, (title, _) in zip(panels[:, 0], FIGURES.values(), strict=True):
        panel.set_ylabel(title)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(ROWS), frameon=False)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
    plt.close(figure)


def band(panel: Any, rows: list[dict[str, Any]], axis: Axis, what: str, color: str, label: str) -> None:
    if not rows:  # nothing of it has been trained
        return
    values = [np.array([r[what] for r in rows if r["size"] == size]) for size in axis.sizes]
    mean = np.array([v.mean() for v in values])
    deviation = np.array([v.std(ddof=1) if len(v) > 1 else 0.0 for v in values])
    panel.plot(axis.sizes, mean, color=color, marker="o", ms=3, label=label)
    panel.fill_between(axis.sizes, mean - deviation, mean + deviation, color=color, alpha=0.15, lw=0)


def summary(table: list[dict[str, Any]], figures: Record) -> None:
    """Specificity, sensitivity and AUC, mean and SD over the seeds, of each row at each shift."""
    names = [name for row in ROWS for name in (f"{row}: spec.", "sens.", "AUC")]
    shown = figures.table("shift", "size", *names)
    for kind, axis in AXES.items():
        for size in axis.sizes:
            here = [r for r in table if (r["kind"], r["size"]) == (kind, size)]
            cells = [ablation.spread([r[what] for r in here if r["row"] == row]) for row in ROWS for what in FIGURES]
            shown.row(kind, f"{size:g}", *cells)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--work", type=Path, default=Path("benchmarks/work/coloradv_study"))
    parser.add_argument("--ablation", type=Path, default=Path("benchmarks/work/swift_ablation"))
    parser.add_argument("--figure", type=Path, default=Path("docs/figures/robustness.png"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    study = Study(arguments.ablation.absolute(), arguments.work.absolute())
    table = list(results(study))
    if not table:
        parser.error("nothing has been trained there: run coloradv_study.py first")
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, list(table[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    write_bytes(study.work / "robustness.csv", stream.getvalue().encode())
    draw(table, arguments.figure)
    figures = Record("robustness", "Robustness: one shift at a time")
    summary(table, figures)
    figures.write(sorted({row["seed"] for row in table}))


if __name__ == "__main__":
    main()
