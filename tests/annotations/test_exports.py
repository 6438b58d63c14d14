"""What was reviewed trains the bundles, and goes out as COCO."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from annotation_samples import ADDED, MPP, REGION, SIZE, label, reviewed

from stride_monai.annotations import (
    Action,
    AnnotationError,
    AnnotationStore,
    Kind,
    cell_records,
    coco_text,
    export_cohort,
)
from stride_monai.bethesda import CELL_CLASSES
from stride_monai.data import cell_crops, detection_tiles, import_dataset, read_cells, read_manifest
from stride_monai.data.cells import read_regions
from stride_monai.data.importers import ImportOptions, load_format
from stride_monai.data.importers.labels import read_map
from stride_monai.errors import OutputError
from stride_monai.transforms.loading import LoadCellCropd


def states(store: AnnotationStore) -> list[Any]:
    return [store.state(slide_id) for slide_id in store.slide_ids()]


def test_every_kind_of_read_becomes_the_label_that_teaches_it(tmp_path: Path) -> None:
    store, slides, ids = reviewed(tmp_path / "in")
    facts = export_cohort(states(store), slides, tmp_path / "out")
    cells = {cell.cell_id: cell for cell in read_cells(tmp_path / "out" / "cells.csv")}
    assert [cells[one].label for one in ids[:4]] == ["ASC-H/HSIL", "NILM", "abnormal_unspecified", "unlabelled"]
    assert cells[ids[0]].descriptions == ("high nuclear-cytoplasmic ratio", "核大 / dark")
    assert (cells[ids[1]].raw_label, cells[ids[1]].lossy) == ("not_a_lesion", True)
    assert cells[ids[2]].raw_label == "disagreed: ASC-US, LSIL"
    assert ids[4] not in cells  # nobody read it
    (added,) = (cell for cell in cells.values() if cell.label == "AGC")
    assert list(added.box) == ADDED
    assert {one.slide_id: one.slide_class for one in read_manifest(tmp_path / "out" / "manifest.csv")} == {
        "切片 1": None,
        "plain": "NILM",
    }
    assert [list(box) for box in read_regions(tmp_path / "out")["切片 1"]] == [REGION]
    assert facts["counts"]["cells"] == 5


def test_an_arbitrated_label_and_an_undone_one(tmp_path: Path) -> None:
    store, _, ids = reviewed(tmp_path)
    store.append(Action("chief", "切片 1", Kind.ARBITRATION, ids[2], None, "LSIL"))
    again = label(store, "ana", "切片 1", ids[1], "HSIL")
    store.append(Action("ana", "切片 1", Kind.UNDO, after=again.uuid))
    by_id = {cell.cell_id: cell for cell in cell_records(store.state("切片 1"))}
    assert (by_id[ids[2]].label, by_id[ids[1]].raw_label) == ("LSIL", "not_a_lesion")


def test_the_loaders_of_the_bundles_read_it(tmp_path: Path) -> None:
    store, slides, ids = reviewed(tmp_path / "in")
    export_cohort(states(store), slides, tmp_path / "out")
    crops = {item["cell_id"]: item for item in cell_crops(tmp_path / "out", "train")}
    assert CELL_CLASSES[crops[ids[0]]["label"]] == "ASC-H/HSIL"
    assert not {ids[2], ids[3]} & set(crops)  # of no known class: the classifier leaves them out
    crop = LoadCellCropd("image", crop_px=65, crop_mpp=MPP)(crops[ids[0]])["image"].numpy()
    assert np.abs(crop[:, 32, 32].astype(int) - (60, 40, 120)).max() <= 12  # the nucleus is in the middle
    tiles = detection_tiles(tmp_path / "out", "train", tile_px=64, tile_mpp=1.0, negatives_per_positive=2.0)
    assert sum(len(tile["boxes"]) for tile in tiles) >= 3


@pytest.mark.slow
def test_the_cell_classifier_trains_on_it(tmp_path: Path) -> None:
    from monai.bundle import ConfigWorkflow

    from stride_monai.workflows.locate import bundle_root

    store, slides, _ = reviewed(tmp_path / "in")
    validation = [slides[0], slides[1].__class__("plain", slides[1].path, MPP, split="validation")]
    label(store, "ana", "plain", store.state("plain").present[0].cell_id, "NILM")
    export_cohort(states(store), validation, tmp_path / "out")
    root = bundle_root("cell_cls")
    files = [str(root / "configs" / f"{name}.json") for name in ("train", "tiny")]
    common = {"bundle_root": str(root), "dataset_dir": str(tmp_path / "out"), "output_dir": str(tmp_path / "trained")}
    small = {"encoder_name": "test_convnext", "crop_px": 64, "batch_size": 2, "cells_per_epoch": 4, "max_epochs": 1}
    workflow = ConfigWorkflow(files, logging_file=False, **common, val_interval=1, **small)
    workflow.initialize()
    workflow.run()
    weights = torch.load(tmp_path / "trained" / "model.pt", weights_only=True)
    assert all(bool(value.isfinite().all()) for value in weights.values())


def test_what_stands_in_the_way_is_said(tmp_path: Path) -> None:
    store, slides, _ = reviewed(tmp_path / "in")
    with pytest.raises(AnnotationError, match="plain"):
        export_cohort(states(store), slides[:1], tmp_path / "out")
    with pytest.raises(AnnotationError, match="nothing has been reviewed"):
        export_cohort([], slides, tmp_path / "out")
    export_cohort(states(store), slides, tmp_path / "out")
    with pytest.raises(OutputError, match="overwrite"):
        export_cohort(states(store), slides, tmp_path / "out")
    export_cohort(states(store), slides, tmp_path / "out", overwrite=True)


def test_a_negative_slide_with_a_lesion_gets_no_class_and_is_told(tmp_path: Path) -> None:
    store, slides, _ = reviewed(tmp_path / "in")
    label(store, "ana", "plain", store.state("plain").present[0].cell_id, "LSIL")
    facts = export_cohort(states(store), slides, tmp_path / "out")
    assert read_manifest(tmp_path / "out" / "manifest.csv")[1].slide_class is None
    assert any("plain" in warning for warning in facts["warnings"])


def test_coco_comes_back_through_the_importer_of_coco(tmp_path: Path) -> None:
    store, slides, _ = reviewed(tmp_path / "in")
    text = coco_text(states(store), {one.slide_id: one.path for one in slides}, {one.slide_id: SIZE for one in slides})
    (tmp_path / "reviewed.json").write_text(text, encoding="utf-8")
    (tmp_path / "map.json").write_text(
        json.dumps({name: name for name in ("abnormal_unspecified", "unlabelled", "ASC-H/HSIL")})
    )
    import_dataset(
        *(tmp_path / "reviewed.json", tmp_path / "cohort", load_format("coco")),
        ImportOptions(mpp=MPP, images=tmp_path / "in", complete=False),
        own_map=read_map(tmp_path / "map.json"),
    )
    back = {(tuple(cell.box), cell.label) for cell in read_cells(tmp_path / "cohort" / "cells.csv")}
    assert back == {(tuple(cell.box), cell.label) for state in states(store) for cell in cell_records(state)}
