"""By what to re-rank cells: the detector's score, the classifier's lesion probability, or the product of both.

    python benchmarks/rerank_rules.py weights-work

On the positive slides of the cohort `slides` of `train_weights.py` that are for training or validation: neither the
detector nor the cell classifier has learned from them, and its test slides stay untouched. A marked lesion cell counts
as found in the top K when one of the K boxes covers half of the smaller of box and cell; each rule chooses among the
4 K cells that the detector ranks highest. On real fields `cric_left_out.py` compares the same rules.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from record import Record, make_parser
from train_weights import found
from weights_settings import DEFAULT, DETECTORS

from stride_monai.bethesda import NEGATIVE
from stride_monai.data.cells import read_cells
from stride_monai.data.manifest import SlideRecord, read_manifest
from stride_monai.inferers.rerank import CANDIDATES_PER_CELL, CellReranker
from stride_monai.inferers.slide_detection import SlideDetectionInferer
from stride_monai.slides import open_slide
from stride_monai.transforms import TopKCellPatches
from stride_monai.workflows.load import load_bundle_network
from stride_monai.workflows.locate import bundle_root

Floats = NDArray[np.float64]
TOPS = (4, 8, 16, 32, 64, 256)
POOLS = (256, 384, 512, 768, 1024)
RULES: dict[str, Callable[[Floats, Floats], Floats]] = {
    "detector": lambda detector, lesion: detector,
    "lesion probability": lambda detector, lesion: lesion,
    "product": lambda detector, lesion: detector * lesion,
}


class Candidates:
    """The cells of a slide, with what detector and classifier say of each."""

    def __init__(self, candidates: int) -> None:
        self.detection = load_bundle_network(bundle_root("detection"), "tiny", overlays=DETECTORS[DEFAULT])
        self.cells = load_bundle_network(bundle_root("cell_cls"), "tiny")
        numbers: dict[str, Any] = self.detection.numbers
        sizes = {name: numbers[name] for name in ("tile_px", "tile_mpp", "overlap_px", "min_score")}
        self.detect = SlideDetectionInferer(**sizes, top_k=candidates)
        self.crop = TopKCellPatches(candidates, self.cells.numbers["crop_px"], self.cells.numbers["crop_mpp"])
        self.reranker = CellReranker(self.cells.network, "", candidates)

    def of(self, record: SlideRecord) -> tuple[Floats, Floats, Floats]:
        """Boxes ``[n, 4]``, detector scores and lesion probabilities ``[n]``, by falling detector score."""
        with open_slide(record.path, mpp=record.mpp) as slide:
            seen = self.detect(slide, self.detection.network)
            bag = self.crop(slide, seen.boxes, seen.scores)
        count = int(bag.mask.sum())
        lesion = self.reranker.scores(bag.images[:count]).numpy()
        return bag.boxes[:count].numpy(), bag.scores[:count].double().numpy(), lesion


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("work", type=Path, help="work folder of train_weights.py")
    arguments = parser.parse_args()
    cohort = arguments.work / "slides"
    records = [
        record
        for record in read_manifest(cohort / "manifest.csv")
        if record.split != "test" and record.slide_class != NEGATIVE
    ]
    lesions = [cell for cell in read_cells(cohort / "cells.csv") if cell.cell_class != NEGATIVE]
    candidates = Candidates(CANDIDATES_PER_CELL * max(TOPS))
    hits: dict[tuple[int, str], list[bool]] = {(top, rule): [] for top in TOPS for rule in RULES}
    pools: dict[int, list[bool]] = {pool: [] for pool in POOLS}
    for record in records:
        truth = np.array([cell.box for cell in lesions if cell.slide_id == record.slide_id]).reshape(-1, 4)
        boxes, detector, lesion = candidates.of(record)
        for (top, rule), of in hits.items():
            scores = RULES[rule](detector, lesion)[: CANDIDATES_PER_CELL * top]
            of += found(truth, boxes[np.argsort(-scores, kind="stable")[:top]]).tolist()
        for pool, of in pools.items():
            best = np.argsort(-(detector * lesion)[:pool], kind="stable")[: max(TOPS)]
            of += found(truth, boxes[best]).tolist()
    figures = Record("rerank_rules", "By what to re-rank cells")
    count = len(next(iter(hits.values())))
    table = figures.table("cells kept of a slide", *RULES, caption=f"Share of {count} lesion cells that are kept")
    for top in TOPS:
        table.row(top, *(f"{np.mean(hits[top, rule]):.3f}" if count else "-" for rule in RULES))
    table = figures.table("candidates", "kept", caption=f"Of as many candidates, {max(TOPS)} kept by both")
    for pool, of in pools.items():
        table.row(pool, f"{np.mean(of):.3f}" if of else "-")
    figures.say(f"{len(records)} positive slides of training and validation; the detector {DEFAULT}.")
    figures.write([0])


if __name__ == "__main__":
    main()
