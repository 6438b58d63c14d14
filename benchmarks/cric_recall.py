"""Recall of the labelled cells of real CRIC fields among the top-ranked cells of each field.

    python benchmarks/cric_recall.py [--data ../shared/data/cric] [--detector fcos] [--weights detector.pt]

A labelled nucleus counts as found in the top K when its point lies inside one of the K best boxes (`in box`), and, more
strictly, when one of the K best box centres is within 16 um of it (`near`), each box serving one nucleus only. The
fields are read as they are, at 0.228 um/px, by the detection stage of screening. A box of more than 80 um takes its
rank but finds nothing. A crowded field is covered by boxes, and some lie on a nucleus by chance: the same boxes, turned
by half a turn, say how many.

The shipped `fcos` has been trained on these fields, so what it finds there says little: `cric_left_out.py` judges it by
fields that it has not seen. The YOLO has seen none of them.
"""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Callable, Container
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from record import Record, make_parser
from scipy.optimize import linear_sum_assignment
from weights_settings import DETECTORS

from stride_monai.data.ranking import rank_boxes
from stride_monai.inferers.rerank import CANDIDATES_PER_CELL, CellReranker
from stride_monai.inferers.slide_detection import Detections, SlideDetectionInferer
from stride_monai.slides import Slide, open_slide
from stride_monai.transforms import TopKCellPatches
from stride_monai.workflows.load import load_bundle_network
from stride_monai.workflows.locate import bundle_root

MPP = 0.228
NEAR_UM = 16.0
LARGEST_UM = 80.0  # no cell is larger; a box that is holds many points and shows nothing
TOPS = (16, 64, 256)
DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "cric"
NEGATIVE = {"NILM", "Negative for intraepithelial lesion"}
Choice = Callable[[Slide, Detections, int], np.ndarray]
"""The best K boxes of a field, best first."""


@dataclass
class Recall:
    """What one detector finds.

    Attributes:
        hits: name of a group of nuclei and K -> (in box, near) of each nucleus.
        boxes: boxes of each field.
        sides: um of every box.
    """

    hits: dict[tuple[str, int], list[tuple[bool, bool]]]
    boxes: list[int]
    sides: list[float]

    def share(self, group: str, top: int) -> tuple[float, float]:
        """Recall in box and near; NaN where the data has no such nucleus."""
        hits = np.array(self.hits[group, top], float).reshape(-1, 2)
        if not len(hits):
            return math.nan, math.nan
        inside, near = hits.mean(axis=0)
        return float(inside), float(near)


def found(points: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which of the points [n, 2] the boxes [k, 4] find: inside a box, and one-to-one within NEAR_UM of a centre."""
    if not len(points) or not len(boxes):
        return np.zeros(len(points), bool), np.zeros(len(points), bool)
    x, y = points[:, :1], points[:, 1:]
    fits = (boxes[:, 2:] - boxes[:, :2]).max(axis=1) * MPP <= LARGEST_UM
    inside = fits & (boxes[:, 0] <= x) & (x < boxes[:, 2]) & (boxes[:, 1] <= y) & (y < boxes[:, 3])
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    close = np.linalg.norm(points[:, None] - centres[None], axis=2) * MPP <= NEAR_UM
    close &= fits
    rows, columns = linear_sum_assignment(close, maximize=True)
    near = np.zeros(len(points), bool)
    near[rows] = close[rows, columns]
    return inside.any(axis=1), near


def labeled_nuclei(data: Path) -> dict[str, list[tuple[str, float, float]]]:
    """Image -> (Bethesda label, x, y) of its nuclei."""
    labeled = defaultdict(list)
    with (data / "points.csv").open(newline="") as stream:
        for row in csv.DictReader(stream):
            labeled[row["image"]].append((row["bethesda_system"], float(row["nucleus_x"]), float(row["nucleus_y"])))
    return dict(sorted(labeled.items()))


def by_detector(slide: Slide, found: Detections, top_k: int) -> np.ndarray:
    """As the detector ranks them."""
    return found.boxes[:top_k]


def by_classifier(weights: Path, alone: bool = False) -> Choice:
    """As `screen --rerank` chooses among four times as many: with a tiny cell classifier, or by it alone."""
    loaded = load_bundle_network(bundle_root("cell_cls"), "tiny", weights=weights)
    px, mpp = loaded.numbers["crop_px"], loaded.numbers["crop_mpp"]

    def choose(slide: Slide, found: Detections, top_k: int) -> np.ndarray:
        bag = TopKCellPatches(CANDIDATES_PER_CELL * top_k, px, mpp)(slide, found.boxes, found.scores)
        reranker = CellReranker(loaded.network, "", top_k)
        if alone:
            boxes = bag.boxes[bag.mask].numpy()
            lesion = reranker.scores(bag.images[bag.mask]).numpy()
            return boxes[rank_boxes(boxes, lesion, bag.scores[bag.mask].numpy())[:top_k]]
        best = reranker(bag, slide.facts.slide_id)
        return best.boxes[best.mask].numpy()

    return choose


def recall(
    data: Path,
    weights: Path | None = None,
    min_score: float | None = None,
    network: Any = None,
    detector: str = "yolo",
    only: Container[str] | None = None,
    choose: Choice = by_detector,
) -> Recall:
    """Detect on every field with a tiny detector of the bundle, with other weights of its shape, or with a network.

    Args:
        min_score: least probability of a box; that of the bundle by default.
        only: stems of the images to look at.
        choose: who takes the top K of the boxes.
    """
    loaded = load_bundle_network(bundle_root("detection"), "tiny", weights=weights, overlays=DETECTORS[detector])
    numbers = loaded.numbers
    detect = SlideDetectionInferer(
        tile_px=numbers["tile_px"],
        tile_mpp=numbers["tile_mpp"],
        overlap_px=numbers["overlap_px"],
        top_k=max(TOPS),
        min_score=numbers["min_score"] if min_score is None else min_score,
    )
    result = Recall(defaultdict(list), [], [])
    for image, rows in labeled_nuclei(data).items():
        if only is not None and Path(image).stem not in only:
            continue
        with open_slide(data / image, mpp=MPP) as slide:
            detected = detect(slide, loaded.network if network is None else network)
            best = {top: choose(slide, detected, top) for top in TOPS}
        boxes = detected.boxes
        result.sides += list((boxes[:, 2] - boxes[:, 0]) * MPP)
        result.boxes.append(len(boxes))
        points = np.array([(x, y) for _, x, y in rows])
        labels = np.array([label for label, _, _ in rows])
        groups = {"all nuclei": labels != "", "lesion nuclei": ~np.isin(labels, list(NEGATIVE))}
        groups |= {label: labels == label for label in ("ASC-US", "LSIL", "ASC-H")}
        for top in TOPS:
            hits = np.stack(found(points, best[top]), axis=1)
            for name, mask in groups.items():
                result.hits[name, top] += [(bool(inside), bool(near)) for inside, near in hits[mask]]
            turned = mirrored(best[top], slide.width, slide.height)
            hits = np.stack(found(points, turned), axis=1)[groups["lesion nuclei"]]
            result.hits["lesion nuclei by chance", top] += [(bool(inside), bool(near)) for inside, near in hits]
    return result


def mirrored(boxes: np.ndarray, width: int, height: int) -> np.ndarray:
    """The boxes turned by half a turn about the middle of the field: as many and as large, at other places."""
    turned: np.ndarray = np.array([width, height, width, height]) - boxes[:, [2, 3, 0, 1]]
    return turned


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--detector", default="fcos", choices=list(DETECTORS))
    parser.add_argument("--weights", type=Path, help="of the tiny detector; by default those that ship")
    parser.add_argument("--min-score", type=float, help="least probability of a box; by default the bundle's")
    arguments = parser.parse_args()
    result = recall(arguments.data, arguments.weights, arguments.min_score, detector=arguments.detector)
    figures = Record("cric_recall", "Real CRIC fields")
    table = figures.table("labelled cells", "n", "in box", "near")
    for (name, top), hits in result.hits.items():
        inside, near = result.share(name, top)
        table.row(f"{name}, top {top}", len(hits), f"{inside:.3f}", f"{near:.3f}")
    median = float(np.median(result.sides)) if result.sides else 0.0
    figures.say(f"Boxes per field: {result.boxes}; side of a box: median {median:.1f} um.")
    figures.write()


if __name__ == "__main__":
    main()
