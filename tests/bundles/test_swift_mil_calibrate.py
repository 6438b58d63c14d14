"""calibrate.json of swift_mil: sets the threshold for the bags it is given and leaves everything else alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import monai.bundle
import pytest
import torch
from bundle_cohort import make_cohort

from stride_monai.data.bags.bag import BagCell, BagFile, write_bag
from stride_monai.files import sha256_of
from stride_monai.networks.weights import load_weights
from stride_monai.operating_point import read_operating_point
from stride_monai.units import Box
from stride_monai.workflows.locate import bundle_root

ROOT = bundle_root("swift_mil")
DETECTOR = "ab" * 32


def detected(folder: Path) -> None:
    """The bags again, as if the detector had chosen their cells."""
    for path in folder.glob("*.bag.arrow"):
        bag = BagFile(path)
        cells = [
            BagCell(float(bag.scores[row]), Box(*bag.boxes[row].tolist()), bag.jpeg(row)) for row in range(len(bag))
        ]
        write_bag(path, replace(bag.header, detector_sha256=DETECTOR), cells)


@pytest.mark.slow
def test_calibration_changes_the_threshold_and_its_detector_only(tmp_path: Path) -> None:
    cohort = make_cohort(tmp_path / "cohort")
    detected(cohort / "bags")
    weights = ROOT / "models" / "tiny.safetensors"
    monai.bundle.run(
        config_file=[str(ROOT / "configs" / f"{name}.json") for name in ("train", "tiny", "evaluate", "calibrate")],
        logging_file=False,
        bundle_root=str(ROOT),
        dataset_dir=str(cohort),
        bag_dir=str(cohort / "bags"),
        output_dir=str(tmp_path / "out"),
        weights=str(weights),
    )
    before, after = load_weights(weights)[0], load_weights(tmp_path / "out" / "calibrated.pt")[0]
    changed = {key for key in before if not torch.equal(after[key].to(before[key].dtype), before[key])}
    assert changed == {"threshold", "detector"}
    assert bytes(after["detector"].tolist()).hex() == DETECTOR
    assert (tmp_path / "out" / "metrics.csv").is_file()
    point = read_operating_point(tmp_path / "out" / "calibrated.operating_point.json")
    assert point.threshold == float(after["threshold"])
    assert point.holds_for.classifier_sha256 == sha256_of(tmp_path / "out" / "calibrated.pt")
    assert point.holds_for.cells_chosen_by == DETECTOR
