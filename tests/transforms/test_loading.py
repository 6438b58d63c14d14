"""Loading of tiles, crops and bags, alone and in worker processes."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor
from monai.transforms import Compose
from slide_files import textured, write_pyramid

from stride_monai.bethesda import CELL_CLASSES
from stride_monai.data import BagCell, BagFile, BagHeader, encode_crop, write_bag
from stride_monai.data.datasets.tensors import detection_collate
from stride_monai.errors import BagError
from stride_monai.slides import open_slide
from stride_monai.transforms import (
    CellAugmentationd,
    DetectionAugmentationd,
    LoadBagd,
    LoadCellCropd,
    LoadSlideRegiond,
    ScaleUint8d,
)
from stride_monai.units import Box


@pytest.fixture(scope="module")
def slide_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("slides") / "s.tif"
    return write_pyramid(path, textured(320, 400), 0.5, (1, 2), compression=None)


def test_a_region_is_what_the_slide_reads(slide_path: Path) -> None:
    item = {"image": str(slide_path), "box": (20, 10, 148, 74), "boxes": [[1, 2, 3, 4]], "mpp": None}
    sample = LoadSlideRegiond("image", mpp=1.0)(item)
    with open_slide(slide_path) as slide:
        expected = slide.read(Box(20, 10, 148, 74), mpp=1.0)
    assert type(sample["image"]) is torch.Tensor
    assert sample["image"].dtype == torch.uint8
    np.testing.assert_array_equal(sample["image"], expected.transpose(2, 0, 1))
    assert sample["image"].shape == (3, 32, 64)
    assert sample["mpp"] == pytest.approx(0.5)
    assert sample["boxes"].tolist() == [[1, 2, 3, 4]]
    assert sample["boxes"].dtype == torch.float32
    assert item["image"] == str(slide_path)


def test_no_boxes_are_an_empty_tensor(slide_path: Path) -> None:
    sample = LoadSlideRegiond()({"image": slide_path, "box": (0, 0, 64, 64), "boxes": []})
    assert sample["boxes"].shape == (0, 4)


def test_the_boxes_of_the_dataset_stay_as_they_are(slide_path: Path) -> None:
    boxes = np.array([[1, 2, 3, 4]], np.float32)
    sample = LoadSlideRegiond()({"image": slide_path, "box": (0, 0, 64, 64), "boxes": boxes})
    sample["boxes"] += 1
    assert boxes.tolist() == [[1, 2, 3, 4]]


def test_a_cell_crop_is_a_fixed_field_of_view_around_its_centre(slide_path: Path) -> None:
    sample = LoadCellCropd(crop_px=32, crop_mpp=0.5)({"image": slide_path, "centre": (100, 60), "mpp": None})
    np.testing.assert_array_equal(sample["image"], textured(320, 400)[44:76, 84:116].transpose(2, 0, 1))
    sample = LoadCellCropd(crop_px=32, crop_mpp=1.0)({"image": slide_path, "centre": (5, 60)})
    assert sample["image"].shape == (3, 32, 32)
    assert (sample["image"][:, :, :13] == 255).all()
    # A given um/px wins over the file's: at 0.25 um/px the same crop is twice as many level-0 px.
    sample = LoadCellCropd(crop_px=32, crop_mpp=0.25)({"image": slide_path, "centre": (100, 60), "mpp": 0.25})
    np.testing.assert_array_equal(sample["image"], textured(320, 400)[44:76, 84:116].transpose(2, 0, 1))
    assert sample["mpp"] == 0.25


@pytest.mark.parametrize("workers", [0, 2])
def test_tiles_load_through_monai_in_any_number_of_workers(slide_path: Path, workers: int) -> None:
    items = [
        {"image": str(slide_path), "mpp": None, "box": (8 * k, 0, 8 * k + 64, 64), "boxes": [[1, 1, 5, 5]] * k}
        for k in range(4)
    ]
    transform = Compose([LoadSlideRegiond(mpp=1.0), DetectionAugmentationd(strength="weak")])
    pickle.loads(pickle.dumps(transform))
    torch.manual_seed(0)
    loader = DataLoader(Dataset(items, transform), batch_size=4, num_workers=workers, collate_fn=detection_collate)
    (batch,) = list(loader)
    assert batch["image"].shape == (4, 3, 32, 32)
    assert batch["image"].dtype == torch.float32
    assert [len(boxes) for boxes in batch["boxes"]] == [0, 1, 2, 3]
    assert batch["mpp"] == pytest.approx([0.5] * 4)


def test_cell_crops_collate_by_monais_own_rules(slide_path: Path) -> None:
    items = [
        {
            "image": str(slide_path),
            "mpp": None,
            "centre": (50.0 + k, 60.0),
            "label": k,
            "slide_id": "s",
            "cell_id": str(k),
        }
        for k in range(3)
    ]
    transform = Compose([LoadCellCropd(crop_px=16), CellAugmentationd("image", "strong")])
    (batch,) = list(DataLoader(Dataset(items, transform), batch_size=3))
    assert batch["image"].shape == (3, 3, 16, 16)
    assert not isinstance(batch["image"], MetaTensor)
    assert batch["label"].tolist() == [0, 1, 2]
    assert batch["cell_id"] == ["0", "1", "2"]


def _bag(folder: Path, cells: int) -> Path:
    path = folder / "s1.bag.arrow"
    rows = [
        BagCell(1 - k / 8, Box(k, k, k + 9, k + 9), encode_crop(np.full((16, 16, 3), 40 * k + 20, np.uint8)), known)
        for k, known in zip(range(cells), ("AGC", None, "NILM", None, None), strict=False)
    ]
    write_bag(path, BagHeader("s1", 0.25, 0.5, 16, 8), rows)
    return path


def test_a_bag_gives_its_best_cells(tmp_path: Path) -> None:
    path = _bag(tmp_path, 5)
    sample = LoadBagd(top_k=3)({"bag": str(path), "label": 4})
    assert sample["image"].dtype == torch.uint8
    np.testing.assert_array_equal(sample["image"], BagFile(path).images(range(3)).transpose(0, 3, 1, 2))
    assert sample["mask"].tolist() == [True] * 3
    assert sample["scores"].tolist() == [1, 0.875, 0.75]
    assert sample["truth"].tolist() == [CELL_CLASSES.index("AGC"), -1, CELL_CLASSES.index("NILM")]
    assert sample["boxes"][2].tolist() == [2, 2, 11, 11]
    assert (sample["bag"], sample["label"]) == (str(path), 4)


def test_a_small_bag_is_padded_and_masked_and_collates(tmp_path: Path) -> None:
    small, large = _bag(tmp_path, 2), _bag(tmp_path / "x", 5)
    transform = Compose([LoadBagd(top_k=4), ScaleUint8d("image")])
    items = [{"bag": str(small), "label": 0}, {"bag": str(large), "label": 1}]
    (batch,) = list(DataLoader(Dataset(items, transform), batch_size=2))
    assert batch["image"].shape == (2, 4, 3, 16, 16)
    assert batch["mask"].tolist() == [[True, True, False, False], [True] * 4]
    assert batch["image"][0, 2:].abs().sum() == 0
    assert batch["image"][1, 1].mean() == pytest.approx(60 / 255, abs=0.01)
    assert batch["scores"][0, 2:].tolist() == [0, 0]
    assert batch["truth"][0].tolist() == [CELL_CLASSES.index("AGC"), -1, -1, -1]


def test_all_cells_or_smaller_crops_on_request(tmp_path: Path) -> None:
    path = _bag(tmp_path, 5)
    assert LoadBagd(top_k=None)({"bag": path})["image"].shape == (5, 3, 16, 16)
    cut = LoadBagd(top_k=None, crop_px=10, crop_mpp=0.5)({"bag": path})["image"]
    whole = LoadBagd(top_k=None)({"bag": path})["image"]
    assert torch.equal(cut, whole[:, :, 3:13, 3:13])


@pytest.mark.parametrize("options", [{"crop_px": 17}, {"crop_mpp": 0.25}])
def test_crops_that_do_not_fit_the_network_are_refused(tmp_path: Path, options: dict[str, float]) -> None:
    with pytest.raises(BagError, match=r"'s1' has crops of 16 px at 0\.5 um/px"):
        LoadBagd(**options)({"bag": _bag(tmp_path, 2)})  # type: ignore[arg-type]


def test_an_empty_bag_is_refused_naming_the_slide(tmp_path: Path) -> None:
    with pytest.raises(BagError, match="'s1' holds no cell"):
        LoadBagd()({"bag": _bag(tmp_path, 0)})
    with pytest.raises(BagError, match="positive top_k"):
        LoadBagd(top_k=0)
