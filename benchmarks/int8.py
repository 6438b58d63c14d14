"""Screening in int8: does it find and decide as well as in float32?

    python benchmarks/int8.py [--work benchmarks/work/int8] [--detector fcos yolo] [--fields ../shared/data/cric]

Judged as a user does, by `stride-monai quantize` on synthetic slides: quantized on a few of them, judged on the others.
What is lost on real fields of CRIC is for information alone: the shipped `fcos` has trained on some of them. How the
settings were chosen, on other slides: int8_variants.py.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cric_recall
from record import Record, make_parser

from stride_monai.data.manifest import read_manifest
from stride_monai.phantom.cohorts.cohort import make_slides
from stride_monai.phantom.cohorts.design import CohortDesign
from stride_monai.screening.config import ScreeningConfig
from stride_monai.screening.screener import Screener

DETECTORS = ["fcos", "yolo"]
LESIONS = ("ASC-US", "LSIL", "ASC-H", "HSIL", "AGC", "HSIL", "LSIL", "ASC-US")
JUDGED = ("NILM",) * 20 + LESIONS * 2 + LESIONS[:4]
DIAMETER_MM = 1.6
SEED = 1802
GROUP = "lesion nuclei"
MIN_CELLS = 100.0  # of a deposit so small


def cohort(work: Path, name: str, labels: Sequence[str], seed: int) -> Path:
    folder = work / name
    if not (folder / "manifest.csv").exists():
        design = CohortDesign(
            classes=tuple(labels),
            diameter_mm=DIAMETER_MM,
            seed=seed,
            test_fraction=0.0,
            validation_fraction=0.5,
            name=name,
        )
        make_slides(folder, design, workers=2)
    return folder


def judged(figures: Record, work: Path, detectors: Sequence[str]) -> None:
    folder = cohort(work, "judged", JUDGED, SEED)
    truth = folder / "validation.csv"  # nothing has been trained on those that the phantom calls train
    rows = [f"{record.slide_id},{record.slide_class}" for record in read_manifest(folder / "manifest.csv")]
    truth.write_text("\n".join(["slide_id,label", *rows]) + "\n", encoding="utf-8")
    columns = ("detector", "slides", "lesion cells", "recall, float32", "recall, int8", "AUC, float32", "AUC, int8")
    table = figures.table(*columns, "score changes by", "int8 is", caption="By the command, on slides not quantized on")
    for detector in detectors:
        out = work / f"int8-{detector}"
        words = [folder / "slides", "--truth", truth, "--cells", folder / "cells.csv", "--split", "validation"]
        words += ["--detector", detector, "--out", out, "--quality", f"min_cells={MIN_CELLS:g}"]
        if not (out / "judgement.json").exists():
            subprocess.run([sys.executable, "-m", "stride_monai", "quantize", *map(str, words)], check=False)
        said = json.loads((out / "judgement.json").read_text(encoding="utf-8"))
        before, after = said["float32"], said["other"]
        mean, largest = said["score_change"]
        table.row(
            detector,
            f"{said['slides']}, {said['positives']} positive",
            said["lesions"],
            *(f"{one['recall']:.4f}" for one in (before, after)),
            *(f"{one['auc']:.4f}" for one in (before, after)),
            f"{mean:.4f}, at most {largest:.4f}",
            "refused: " + "; ".join(said["lost"]) if said["lost"] else "as good",
        )


def fields(figures: Record, work: Path, detectors: Sequence[str], data: Path) -> None:
    """Recall on real fields; nothing is chosen by it."""
    table = figures.table(
        "detector", GROUP, "in the top", "float32", "int8", caption="Real fields of CRIC, nuclei in a box"
    )
    for detector in detectors:
        config = ScreeningConfig(runtime="openvino", device="cpu", detector=detector)
        fast = replace(config, precision="int8", int8_networks=work / f"int8-{detector}")
        found = [
            cric_recall.recall(data, detector=detector, network=Screener(one).models.detector) for one in (config, fast)
        ]
        for top in cric_recall.TOPS:
            row = [f"{one.share(GROUP, top)[0]:.3f}" for one in found]
            table.row(detector, len(found[0].hits[GROUP, top]), top, *row)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--work", type=Path, default=Path("benchmarks/work/int8"))
    parser.add_argument("--detector", nargs="+", choices=DETECTORS, default=DETECTORS)
    parser.add_argument("--fields", type=Path, default=cric_recall.DATA, help="real fields, where they are")
    arguments = parser.parse_args()
    work: Path = arguments.work.absolute()
    figures = Record("int8", "Screening in int8")
    judged(figures, work, arguments.detector)
    if (arguments.fields / "points.csv").exists():
        fields(figures, work, arguments.detector, arguments.fields)
    figures.write([SEED])


if __name__ == "__main__":
    main()
