"""Recall of the labelled cells of real CRIC fields among the top-ranked cells of each field.

    python benchmarks/cric_recall.py [--data ../shared/data/cric]

A labelled nucleus counts as found in the top K when its point lies inside one of the K best boxes (`in box`), and, more
strictly, when one of the K best box centres is within 16 um of it (`near`), each box serving one nucleus only. The
fields are screened as they are, at 0.228 um/px; nothing is tuned on them.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment

from stride_monai.screening.inputs import SlideInput
from stride_monai.screening.screener import Options, Screener

MPP = 0.228
NEAR_UM = 16.0


def found(points: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which of the points [n, 2] the boxes [k, 4] find: inside a box, and one-to-one within NEAR_UM of a centre."""
    if not len(points) or not len(boxes):
        return np.zeros(len(points), bool), np.zeros(len(points), bool)
    x, y = points[:, :1], points[:, 1:]
    inside = (boxes[:, 0] <= x) & (x < boxes[:, 2]) & (boxes[:, 1] <= y) & (y < boxes[:, 3])
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    close = np.linalg.norm(points[:, None] - centres[None], axis=2) * MPP <= NEAR_UM
    rows, columns = linear_sum_assignment(close, maximize=True)
    near = np.zeros(len(points), bool)
    near[rows] = close[rows, columns]
    return inside.any(axis=1), near


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data" / "cric")
    data = parser.parse_args().data
    labelled = defaultdict(list)
    with (data / "points.csv").open(newline="") as stream:
        for row in csv.DictReader(stream):
            labelled[row["image"]].append((row["bethesda_system"], float(row["nucleus_x"]), float(row["nucleus_y"])))
    screener = Screener(Options(mpp=MPP))
    tallies: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
    sides, counts = [], []
    for image, rows in sorted(labelled.items()):
        path = data / image
        findings = screener.screen(SlideInput(path, path.stem)).findings
        boxes = np.array([cell.box for cell in findings.cells]).reshape(-1, 4)
        sides += list((boxes[:, 2] - boxes[:, 0]) * MPP)
        counts.append(len(boxes))
        lesion = np.array([label not in {"NILM", "Negative for intraepithelial lesion"} for label, _, _ in rows])
        points = np.array([(x, y) for _, x, y in rows])
        for top in (64, 256):
            inside, near = found(points, boxes[:top])
            tallies[f"all nuclei, top-{top}"] += list(zip(inside, near, strict=True))
            tallies[f"lesion nuclei, top-{top}"] += list(zip(inside[lesion], near[lesion], strict=True))
            for label in ("ASC-US", "LSIL", "ASC-H"):
                of_label = np.array([name == label for name, _, _ in rows])
                tallies[f"{label}, top-{top}"] += list(zip(inside[of_label], near[of_label], strict=True))
    print("| labelled cells | n | in box | near |\n|---|---|---|---|")
    for name, hits in tallies.items():
        inside, near = np.array(hits).mean(axis=0)
        print(f"| {name} | {len(hits)} | {inside:.3f} | {near:.3f} |")
    print(f"boxes per field: median {np.median(counts):.0f}; box side: median {np.median(sides):.1f} um")


if __name__ == "__main__":
    main()
