"""The detectors side by side: how well each finds lesions on held-out synthetic slides, and tiles per second.

    python benchmarks/detectors.py [--cohort benchmarks/work/detection/test] [--tiles 40]

Each is evaluated with the shipped weights by the bundle's own `evaluate.json` on the `test` split of a cohort, which is
rendered if it is not there. Speed is measured in this process on one thread, the detectors taking turns tile by tile,
so that whatever else the machine does falls on both; the ratio is the figure.
"""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path

import numpy as np
import torch
from record import Record, make_parser
from train_weights import bundle
from weights_settings import DETECTORS

from stride_monai.data.datalists import detection_tiles
from stride_monai.phantom.cohorts.cohort import make_slides
from stride_monai.phantom.cohorts.design import CohortDesign
from stride_monai.transforms.loading import LoadSlideRegiond
from stride_monai.workflows.load import load_bundle_network
from stride_monai.workflows.locate import bundle_root

LABELS = ("NILM", "ASC-US", "LSIL", "ASC-H", "HSIL", "AGC")
TILE_PX, TOP_K, SEED = 512, 256, 4242


def weights_of(detector: str) -> Path:
    name = "tiny" if detector == "yolo" else f"tiny_{detector}"
    return bundle_root("detection") / "models" / f"{name}.safetensors"


def quality(detector: str, cohort: Path, out: Path) -> dict[str, float]:
    """Figures of ``evaluate.json``: over tiles of 512 px, and the share of positive cells in the best of a slide."""
    if not (out / "slides" / "slide_curves.json").exists():
        configs = ("train", "tiny", *DETECTORS[detector], "evaluate")
        bundle("detection", *configs, dataset_dir=cohort, output_dir=out, weights=weights_of(detector))
    values = {name: float(value) for name, value in csv.reader((out / "metrics.csv").open())}
    curve = json.loads((out / "slides" / "slide_curves.json").read_text())["top_k_recall"]
    place = curve["k"].index(TOP_K) if TOP_K in curve["k"] else -1
    for name, row in curve.items():
        if name != "k":
            values[f"top {curve['k'][place]}, {name}"] = row[place]
    return values


def seconds_per_tile(cohort: Path, count: int) -> dict[str, np.ndarray]:
    """Of each detector, for the same tiles in turn."""
    torch.set_num_threads(1)
    networks = {
        name: load_bundle_network(bundle_root("detection"), "tiny", overlays=overlays).network
        for name, overlays in DETECTORS.items()
    }
    load = LoadSlideRegiond(keys="image", mpp=1.0)
    tiles = [load(item)["image"] for item in detection_tiles(cohort, "test", TILE_PX)[: count + 2]]
    spent: dict[str, list[float]] = {name: [] for name in networks}
    for tile in tiles:
        for name, network in networks.items():
            start = time.perf_counter()
            network.detect(torch.as_tensor(np.asarray(tile))[None])  # type: ignore[operator]
            spent[name].append(time.perf_counter() - start)
    return {name: np.array(seconds[2:]) for name, seconds in spent.items()}  # the first tiles warm up


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--cohort", type=Path, default=Path("benchmarks/work/detection/test"))
    parser.add_argument("--work", type=Path, default=Path("benchmarks/work/detectors"))
    parser.add_argument("--tiles", type=int, default=40)
    arguments = parser.parse_args()
    cohort, work = arguments.cohort.absolute(), arguments.work.absolute()
    if not (cohort / "manifest.csv").exists():
        design = CohortDesign(classes=LABELS * 3, diameter_mm=1.6, seed=SEED, all_test=True, name="test")
        make_slides(cohort, design)
    figures = {detector: quality(detector, cohort, work / detector) for detector in DETECTORS}
    seconds = seconds_per_tile(cohort, arguments.tiles)
    for detector in DETECTORS:
        figures[detector] |= {
            "tiles/s, median, one thread": 1 / float(np.median(seconds[detector])),
            "speed against yolo": float(np.median(seconds["yolo"] / seconds[detector])),
            "weights, MB": weights_of(detector).stat().st_size / 1e6,
        }
    shown = Record("detectors", "The detectors that ship, on held-out synthetic slides")
    table = shown.table("figure", *DETECTORS)
    for name in figures["yolo"]:
        table.row(name, *(f"{of.get(name, float('nan')):.4f}" for of in figures.values()))
    shown.write([SEED])


if __name__ == "__main__":
    main()
