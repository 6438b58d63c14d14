"""Recall of the labelled cells of CRIC fields by detectors that have not seen them.

    python benchmarks/cric_left_out.py weights-work [--data ../shared/data/cric]

The detector that ships learns from CRIC in the second of its two steps (`train_weights.py`). Here that step is taken
again without two of the ten fields at a time, from the same first step, which has seen synthetic slides only, and with
the same settings; the two fields are judged as `cric_recall.py` does it, and the folds are pooled. In the same table
stand the first step itself and the shipped YOLO, neither of which has seen a field; and, where `train_weights.py` has
left its classifiers of left-out fields in the work folder, the same detectors with their cells re-ranked, by the
classifier that has not seen these two fields either, together with the detector and alone.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
from cric_recall import DATA, Recall, by_classifier, recall
from record import Record, make_parser
from train_weights import train_real_detector

from stride_monai.data import read_cells, read_manifest, write_cells, write_manifest
from stride_monai.data.cells import read_regions, write_regions

FOLDS = 5


def left_out(data: Path, work: Path) -> dict[str, Recall]:
    """What detectors find on the fields that they were not trained on, by who ranks it."""
    joined = work / "tiles_and_cric"
    records = read_manifest(joined / "manifest.csv")
    fields = [record.slide_id for record in records if record.source == "cric"]
    pooled: dict[str, Recall] = defaultdict(lambda: Recall(defaultdict(list), [], []))
    for fold in range(FOLDS):
        held = set(fields[fold::FOLDS])
        cohort = work / f"without_fields-{fold}"
        write_manifest(cohort / "manifest.csv", [r for r in records if r.slide_id not in held])
        write_cells(cohort / "cells.csv", [c for c in read_cells(joined / "cells.csv") if c.slide_id not in held])
        regions = read_regions(joined)
        write_regions(cohort, [(name, box) for name, of in regions.items() for box in of if name not in held])
        weights = train_real_detector(work, cohort, work / f"detector_without_fields-{fold}")
        found = {"fcos, trained on the other fields": recall(data, weights, detector="fcos", only=held)}
        classifier = work / f"left_out-{fold}" / "fitted.pt"
        if classifier.exists():
            taught = {record.slide_id for record in read_manifest(classifier.parent / "cells" / "manifest.csv")}
            assert not taught & held, f"{classifier} has seen fields of this fold"
            for name, alone in (("the same, re-ranked", False), ("by the classifier alone", True)):
                choose = by_classifier(classifier, alone)
                found[name] = recall(data, weights, detector="fcos", only=held, choose=choose)
        for name, of in found.items():
            for key, hits in of.hits.items():
                pooled[name].hits[key] += hits
            pooled[name].boxes += of.boxes
            pooled[name].sides += of.sides
    return pooled


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("work", type=Path, help="work folder of train_weights.py")
    parser.add_argument("--data", type=Path, default=DATA)
    arguments = parser.parse_args()
    work = arguments.work.absolute()
    results = {
        **left_out(arguments.data, work),
        "fcos before its second step": recall(arguments.data, work / "detection-fcos" / "model.pt", detector="fcos"),
        "yolo": recall(arguments.data, detector="yolo"),
    }
    figures = Record("cric_left_out", "Real CRIC fields, found by detectors that have not seen them")
    table = figures.table("in box / near", "n", *results)
    groups = [(name, top) for name, top in results["yolo"].hits if top != 256]
    for name, top in groups:
        shares = [result.share(name, top) for result in results.values()]
        cells = [f"{inside:.3f} / {near:.3f}" for inside, near in shares]
        table.row(f"{name}, top {top}", len(results["yolo"].hits[name, top]), *cells)
    table.row("boxes per field, mean", "", *(f"{np.mean(result.boxes):.0f}" for result in results.values()))
    figures.write([0])


if __name__ == "__main__":
    main()
