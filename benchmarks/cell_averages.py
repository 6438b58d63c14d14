"""Recipes of the cell classifier on real cells, and whether averages of weights steady it: in a training, over several.

    python benchmarks/cell_averages.py weights-work [--recipe "with organisms" --seed 0 --seed 1] [--data DATA]

Step 3 of `train_weights.py` (whose work folder this is, with the cells of `mined`) for each seed of a recipe, all from
the same weights (ImageNet's, and one new last layer). A seed chooses the cells that are drawn and how they are stained.
Each training is judged as it ends (`last weights`), by the moving average of its weights, and with its row of NILM
fitted anew on frozen features with organisms among the cells (`cell_recipe.py`); each kind again as the mean of the
weights of n trainings (every choice of n among the seeds, so rows of one recipe are not independent), and as the mean
of the probabilities of all, which costs as many networks and says what a mean of weights could reach. The mean of the
probabilities of the eight views of a crop (quarter turns, mirrors) says how much a network still depends on how a cell
lies; it costs eight times as much. A second table says which organisms are taken for lesions.

Judged on crops, which teach nothing, by the network's own head: `encoder_probe.py` says how. What is chosen by this
table was chosen on the crops.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from cell_recipe import ENCODER, cell_start, fit, mean_weights
from encoder_probe import CLASSES, crops, questions
from record import Record, make_parser
from torch import Tensor
from train_weights import train

from stride_monai.bethesda import CELL_CLASSES, NEGATIVE
from stride_monai.metrics.slide import auc
from stride_monai.networks.encoders.cell_encoder import CellClassifier
from stride_monai.networks.weights import load_into, load_weights

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
CROP_PX = 128
FROZEN = 3  # blocks, of EARLY in train_weights.py
AVERAGED = 50  # steps over which the moving average looks back, about


class Recipe(NamedTuple):
    """What differs from step 3 of train_weights.py."""

    says: str
    options: dict[str, Any] = {}  # noqa: RUF012


RECIPES = {
    "with organisms": Recipe("step 3 as it stands"),
    "without organisms": Recipe(
        "no slides with organisms, as the weights of 0.3.0 were trained",
        {"shares": {"cric": 0.25, "lbc": 0.25, "infected": 0.0}},
    ),
}
Row = tuple[str, list[tuple[float, float]]]
KINDS = {"last weights": "model.pt", "moving average": "teacher.pt", "row of NILM fitted": "fitted.pt"}


def members(work: Path, name: str, seeds: Sequence[int]) -> list[Path]:
    """A folder with every kind of weights for each seed."""
    recipe, found = RECIPES[name], []
    for seed in seeds:
        out = work / "averages" / f"{name.replace(' ', '_')}-{seed}"
        data = {"dataset_dir": work / "mined", "start_from": cell_start(work / "averages" / "start.pt"), "seed": seed}
        options = {"ema_decay": 1 - 1 / AVERAGED, **data, **recipe.options}
        trained = train("cell_cls", "cells", out, ("teacher",), **options)
        found.append(fit(work / "joined", trained, out / "fitted.pt").parent)
    return found


@torch.inference_mode()
def early(start: Path, images: Tensor) -> Tensor:
    """What the parts that no training moves say of uint8 crops ``[N, 3, S, S]``: most of the work, and once for all."""
    network = CellClassifier(ENCODER).eval()
    load_into(network, start)
    of = network.encoder
    return torch.cat([of.blocks[:FROZEN](of.bn1(of.conv_stem(network.normalized(part)))) for part in images.split(64)])


@torch.inference_mode()
def probabilities(state: dict[str, Tensor], seen: Tensor) -> np.ndarray:
    """Of the five classes ``[N, 5]``, from what :func:`early` gave."""
    network = CellClassifier(ENCODER).eval()
    network.load_state_dict(state)
    of, head = network.encoder, network.head.double()
    parts = [of.forward_head(of.bn2(of.conv_head(of.blocks[FROZEN:](part)))) for part in seen.split(64)]
    return torch.cat([head(part.double()).softmax(1) for part in parts]).numpy()


def dihedral(images: Tensor) -> list[Tensor]:
    """The eight views of square pictures by quarter turns and mirrors, as they are first."""
    turned = [torch.rot90(images, k, (2, 3)) for k in range(4)]
    return [view for each in turned for view in (each, each.flip(3))]


def judged(found: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """AUC of lesion against organism, and of high against low grade."""
    negative, ascus, lsil, high = (CELL_CLASSES.index(name) for name in (NEGATIVE, "ASC-US", "LSIL", "ASC-H/HSIL"))
    grade = found[:, high] / (found[:, high] + found[:, ascus] + found[:, lsil])
    scores = (1 - found[:, negative], grade)
    first, second = (
        auc(score[asked], answer[asked]) for score, (asked, answer) in zip(scores, questions(labels), strict=True)
    )
    return first, second


def by_organism(found: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """AUC of all lesions against each organism."""
    groups, score = np.array(list(CLASSES.values()))[labels], 1 - found[:, CELL_CLASSES.index(NEGATIVE)]
    lesion = groups != "organism"
    names = [name for name, group in CLASSES.items() if group == "organism"]
    asked = {name: lesion | (labels == list(CLASSES).index(name)) for name in names}
    return {name: auc(score[those], lesion[those]) for name, those in asked.items()}


def spread(values: Sequence[float]) -> str:
    """Mean, and least and largest of several."""
    mean = f"{np.mean(values):.3f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.3f}-{max(values):.3f})"


def rows(folders: Sequence[Path], file: str, seen: Sequence[Tensor], labels: np.ndarray) -> list[Row]:
    """What is averaged, how many choices there are, and the figures of each. ``seen``: :func:`early` of each view."""
    states = [load_weights(folder / file)[0] for folder in folders]
    each = [probabilities(state, seen[0]) for state in states]
    found = [("nothing", [judged(one, labels) for one in each])]
    means = [states]
    for count in range(2, len(states) + 1):
        means.append([mean_weights(some) for some in itertools.combinations(states, count)])
        figures = [judged(probabilities(state, seen[0]), labels) for state in means[-1]]
        found.append((f"weights of {count}", figures))
    if len(each) > 1:
        found.append((f"probabilities of {len(each)}", [judged(np.mean(each, axis=0), labels)]))
    if len(seen) == 1:
        return found
    for what, some in zip(("", f"weights of {len(states)}, "), (means[0], means[-1])[: len(means)], strict=False):
        views = [np.mean([probabilities(state, view) for view in seen], axis=0) for state in some]
        found.append((f"{what}probabilities of {len(seen)} views", [judged(view, labels) for view in views]))
    return found


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("work", type=Path, help="work folder of train_weights.py")
    parser.add_argument("--recipe", choices=list(RECIPES), action="append", help="several; by default all")
    parser.add_argument("--seed", type=int, action="append", help="several; by default 0 to 3")
    parser.add_argument("--views", type=int, default=8, choices=(1, 8), help="1 leaves out the views of a crop")
    parser.add_argument("--data", type=Path, default=DATA)
    arguments = parser.parse_args()
    seeds, work = arguments.seed or [0, 1, 2, 3], arguments.work.absolute()
    cells = crops(arguments.data / "crops", CROP_PX)
    seen = [
        early(cell_start(work / "averages" / "start.pt"), view) for view in dihedral(cells.images)[: arguments.views]
    ]
    figures = Record("cell_averages", "Averages of weights of the cell classifier, on real cells")
    caption = "By the network's own head: mean over the choices, least and largest."
    table = figures.table(
        "recipe", "of each training", "mean of", "choices", "lesion/organism", "low/high", caption=caption
    )
    organisms = [name for name, group in CLASSES.items() if group == "organism"]
    caption = "AUC of all lesions against each organism, of one training: mean over the seeds, least and largest."
    single = figures.table("recipe", "of each training", *organisms, caption=caption)
    for name in arguments.recipe or list(RECIPES):
        folders = members(work, name, seeds)
        for kind, file in KINDS.items():
            for what, values in rows(folders, file, seen, cells.labels):
                table.row(name, kind, what, len(values), *map(spread, zip(*values, strict=True)))
            each = [probabilities(load_weights(folder / file)[0], seen[0]) for folder in folders]
            apart = [by_organism(one, cells.labels) for one in each]
            single.row(name, kind, *(spread([one[organism] for one in apart]) for organism in organisms))
    figures.say("; ".join(f"{name}: {RECIPES[name].says}" for name in arguments.recipe or list(RECIPES)) + ".")
    figures.write(seeds)


if __name__ == "__main__":
    main()
