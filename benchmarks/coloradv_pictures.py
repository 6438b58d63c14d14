"""What an adversarial shift of colour looks like, and how far it moves a laboratory's stain: two figures for the docs.

    python benchmarks/coloradv_pictures.py [--weights MODEL] [--out docs/figures]

Test slides of the cohort of swift_ablation.py, two of whose centres no training has seen, and its network SWIFT,
gradient x feature, seed 0: both must be there. The pictures are those that the bundle coloradv puts into TensorBoard
(stride_monai/handlers/color_pictures.py), with more slides in the distributions.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import swift_ablation as ablation
import torch
from coloradv_study import load_network
from matplotlib.figure import Figure
from record import Record, make_parser

from stride_monai.data import datalists
from stride_monai.evaluation.colors import ORIGINAL, stain_figure, triplets_figure
from stride_monai.files import replacing
from stride_monai.handlers.color_pictures import attacked, chosen_slides
from stride_monai.transforms.loading import LoadBagd

WORK = Path("benchmarks/work/swift_ablation")
SHOWN = ("north", "coast", *ablation.HELD_OUT)  # of the triplets: two that training has seen, two that it has not
OF_EACH = 8  # slides of a centre in the distributions


def save(figure: Figure, path: Path) -> None:
    with replacing(path) as temporary:
        figure.savefig(temporary, format="jpeg", dpi=140, pil_kwargs={"quality": 88})


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--cohort", type=Path, default=WORK / "cohort")
    parser.add_argument("--weights", type=Path, default=WORK / "runs" / "SWIFT_gradient_x_feature-0" / "model.pt")
    parser.add_argument("--out", type=Path, default=Path("docs/figures"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # small pictures: more threads wait for each other
    network, load = load_network(arguments.weights), LoadBagd(top_k=ablation.BAGS.top_k)
    items = datalists.slide_bags(arguments.cohort / "bags", arguments.cohort, "test")
    centres = datalists.slide_centres(arguments.cohort)
    chosen = chosen_slides(items, centres, len(ablation.DESIGN.centres), OF_EACH)
    chosen.sort(key=lambda pair: ablation.DESIGN.centres.index(pair[1]))
    slides = [attacked(network, load(items[place]), centre) for place, centre in chosen]
    first = {slide.centre: slide for slide in reversed(slides)}
    save(triplets_figure([first[centre] for centre in SHOWN]), arguments.out / "coloradv.jpg")
    save(stain_figure(slides), arguments.out / "coloradv_stains.jpg")
    figures = Record("coloradv_pictures", "What ColorAdv's shifts look like")
    caption = f"{len(slides)} test slides of {len(first)} centres of the cohort of `swift_ablation.py`."
    table = figures.table("colors", "mean loss of a slide", "slides on which it rises", caption=caption)
    for name in slides[0].loss:
        values = np.array([[slide.loss[ORIGINAL], slide.loss[name]] for slide in slides])
        table.row(name, f"{values[:, 1].mean():.3f}", f"{(values[:, 1] > values[:, 0]).mean():.0%}")
    figures.write([0])


if __name__ == "__main__":
    main()
