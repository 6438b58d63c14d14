"""Overlays of swift_mil: where the encoder starts, and where labelled cells come from."""

from __future__ import annotations

from pathlib import Path

import torch
from bundle_cohort import make_cohort
from monai.bundle import ConfigParser

from stride_monai.data.bags.labeled import write_labeled_bags
from stride_monai.data.datalists import cell_crops
from stride_monai.networks.encoders.cell_encoder import CellClassifier

ROOT = Path(__file__).resolve().parents[2] / "bundles" / "swift_mil"


def test_it_starts_from_a_self_supervised_encoder_and_from_crops_that_were_cut(tmp_path: Path) -> None:
    cohort = make_cohort(tmp_path / "cohort")
    parser = ConfigParser()
    parser.read_config(
        [str(ROOT / "configs" / f"{name}.json") for name in ("train", "tiny", "from_crops", "init_encoder")]
    )
    encoder = CellClassifier("test_convnext").encoder
    torch.save(encoder.state_dict(), tmp_path / "encoder.pt")  # as the overlays of cell_cls leave it
    write_labeled_bags(cohort, tmp_path / "crops", 64, 0.5)
    small = {"encoder_name": "test_convnext", "crop_px": 64, "cell_batch_size": 8}
    folders = {"bundle_root": str(ROOT), "dataset_dir": str(cohort), "crop_dir": str(tmp_path / "crops")}
    parser.update({**small, **folders, "init_weights": str(tmp_path / "encoder.pt")})
    parser.get_parsed_content("load_init")
    found = parser.get_parsed_content("encoder").encoder.state_dict()
    assert all(torch.equal(found[name], value) for name, value in encoder.state_dict().items())
    cells = parser.get_parsed_content("labeled#stream")(0)
    assert cells["image"].shape == (8, 3, 64, 64)
    assert len(parser.get_parsed_content("labeled#dataset")) == len(cell_crops(cohort, "train"))
