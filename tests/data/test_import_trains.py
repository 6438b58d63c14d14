"""An imported data set is an ordinary cohort: both bundles train and validate on it as it stands."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import dataset_samples as samples
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow

from stride_monai.bethesda import CELL_CLASSES
from stride_monai.data.datalists import cell_crops, detection_tiles
from stride_monai.data.importers import ImportOptions, import_dataset, load_format
from stride_monai.transforms.loading import LoadCellCropd, LoadSlideRegiond
from stride_monai.workflows.locate import bundle_root

MPP = 0.5


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("riva")
    import_dataset(samples.riva(folder / "source"), folder / "cohort", load_format("riva"), ImportOptions(mpp=MPP))
    return folder / "cohort"


def test_tiles_and_crops_show_the_cells(cohort: Path) -> None:
    tiles = detection_tiles(cohort, "train", tile_px=64, tile_mpp=1.0, negatives_per_positive=2.0)
    assert sum(len(tile["boxes"]) for tile in tiles) >= 2  # LSIL and ASC-US
    # RIVA's fields are annotated completely: their empty places are negatives.
    assert any(not tile["boxes"] for tile in tiles)
    for tile in tiles:
        assert LoadSlideRegiond("image", mpp=1.0)(tile)["image"].shape == (3, 64, 64)

    crops = {item["cell_id"] + item["slide_id"]: item for item in cell_crops(cohort, "train")}
    assert [CELL_CLASSES[crops[key]["label"]] for key in ("1LSIL_45_3", "2LSIL_45_3", "1ENDO_1_1")] == [
        "LSIL",
        "ASC-US",
        "NILM",
    ]
    crop = LoadCellCropd("image", crop_px=65, crop_mpp=MPP)(crops["1LSIL_45_3"])["image"].numpy()
    nucleus = crop[:, 42, 32]  # the nucleus is at (100, 100), the centre of the box at (100.5, 90.25)
    assert np.abs(nucleus.astype(int) - samples.NUCLEUS).max() <= 12


def _workflow(bundle: str, cohort: Path, out: Path, overlays: Sequence[str] = (), **settings: Any) -> ConfigWorkflow:
    root = bundle_root(bundle)
    files = [str(root / "configs" / f"{name}.json") for name in ("train", "tiny", *overlays)]
    common = {"bundle_root": str(root), "dataset_dir": str(cohort), "output_dir": str(out), "max_epochs": 1}
    made = ConfigWorkflow(files, logging_file=False, **common, val_interval=1, **settings)
    made.initialize()
    return made


@pytest.mark.slow
def test_the_cell_classifier_trains_on_it(cohort: Path, tmp_path: Path) -> None:
    small = {"encoder_name": "test_convnext", "crop_px": 64, "batch_size": 2, "cells_per_epoch": 4}
    _workflow("cell_cls", cohort, tmp_path, **small).run()
    assert all(bool(value.isfinite().all()) for value in torch.load(tmp_path / "model.pt", weights_only=True).values())


@pytest.mark.slow
@pytest.mark.skipif(find_spec("ultralytics") is None, reason="needs the extra yolo")
def test_the_detector_trains_on_it(cohort: Path, tmp_path: Path) -> None:
    _workflow("detection", cohort, tmp_path, tile_px=64, batch_size=2, warmup_iterations=1).run()
    assert (tmp_path / "model.pt").is_file()


@pytest.mark.slow
@pytest.mark.filterwarnings("error:The given NumPy array is not writable")
@pytest.mark.parametrize("mpp", [0.25, 0.5, 0.3])
def test_the_detector_trains_on_pictures_smaller_than_a_tile(tmp_path: Path, mpp: float) -> None:
    """At whole and other factors of the tile's um/px; what lies beyond a picture is painted white. What is kept in the
    cache stays as it was loaded, whatever augmentation and network do with it."""
    source = samples.yolo(tmp_path / "source")
    samples.text(source / "labels" / "val" / "b.txt", "0 0.25 0.6 0.18 0.36\n")
    import_dataset(source, tmp_path / "cohort", load_format("yolo"), ImportOptions(mpp=mpp))
    assert all(tile["limits"] for tile in detection_tiles(tmp_path / "cohort", "train", tile_px=64, tile_mpp=1.0))

    small = {"tile_px": 64, "batch_size": 2, "warmup_iterations": 1, "backbone": "test_resnet", "pyramid_width": 8}
    overlays = ("fcos", "tiny_fcos")
    workflow = _workflow("detection", tmp_path / "cohort", tmp_path / "out", overlays, augmentation="strong", **small)
    cached = [workflow.parser.get_parsed_content(f"{part}#dataset")._cache for part in ("train", "validate")]
    before = copy.deepcopy(cached)
    workflow.run()
    assert (tmp_path / "out" / "model.pt").is_file()
    for items, originals in zip(cached, before, strict=True):
        assert items
        for item, original in zip(items, originals, strict=True):
            assert torch.equal(item["image"], original["image"])
            assert torch.equal(item["boxes"], original["boxes"])
