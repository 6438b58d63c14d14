"""Which slide heads read the order of the cells: AUC with the cells by rank, and shuffled.

    python benchmarks/cell_order.py [--work benchmarks/work/swift_ablation]

Takes the frozen-feature runs of swift_ablation.py that are there, seen centres, the test slides; trains nothing. Bags
are ranked by the detector's score, so a head that knows a cell's place knows its rank. One that is invariant to the
order has the same AUC both times.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import swift_ablation as ablation
import torch
from coloradv_study import Study, load_bags, seen_slides, slide_scores
from record import Record, make_parser
from torch import Tensor

from stride_monai.bethesda import NEGATIVE
from stride_monai.metrics.slide import auc
from stride_monai.networks.encoders.cell_encoder import CellClassifier
from stride_monai.networks.factories import create_slide_head
from stride_monai.networks.mil.slide_classifier import SlideClassifier
from stride_monai.networks.weights import load_into

HEADS = {"STRIDE head": "stride", "gated ABMIL": "gated_abmil", "DTFD": "dtfd", "TransMIL": "transmil"}
SHUFFLES = 5


def shuffled(features: Tensor, mask: Tensor, seed: int) -> Tensor:
    """The cells of each bag in a random order; what is masked stays at the end."""
    generator, mixed = torch.Generator().manual_seed(seed), features.clone()
    for row, known in zip(mixed, mask, strict=True):
        count = int(known.sum())
        row[:count] = row[torch.randperm(count, generator=generator)]
    return mixed


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--work", type=Path, default=Path("benchmarks/work/swift_ablation"))
    work: Path = parser.parse_args().work.absolute()
    torch.set_num_threads(1)
    records = seen_slides(Study(work, work))
    images, mask = load_bags(records)
    positive = np.array([record.slide_class != NEGATIVE for record in records])
    figures = Record("cell_order", "What TransMIL has of the order of the cells")
    caption = f"Test slides of seen centres of the ablation, cells by rank and in {SHUFFLES} random orders."
    table = figures.table("head", "seed", "AUC, by rank", "AUC, shuffled", caption=caption)
    seeds = set()
    for name, head in HEADS.items():
        for weights in sorted((work / "runs").glob(f"frozen_{name.replace(' ', '_')}-*/model.pt")):
            encoder = CellClassifier(ablation.COMMON["encoder_name"], **ablation.NETWORK)
            network = SlideClassifier(encoder, create_slide_head(head, encoder.feature_dim), ablation.BAGS.top_k)
            load_into(network, weights)
            network.eval()
            with torch.inference_mode():
                features = torch.cat([network.encode(part) for part in images.split(16)])
            ranked = auc(slide_scores(network, features, mask), positive)
            mixed = [auc(slide_scores(network, shuffled(features, mask, k), mask), positive) for k in range(SHUFFLES)]
            seeds.add(int(weights.parent.name[-1]))
            table.row(name, weights.parent.name[-1], f"{ranked:.3f}", ablation.spread(mixed))
    figures.write(sorted(seeds))


if __name__ == "__main__":
    main()
