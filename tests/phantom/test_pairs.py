"""Bags of pairs: cells that differ by one property, for training descriptions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stride_monai.data.bags.bag import BagFile
from stride_monai.data.datasets.cells import DescribedBagCells, with_pairs
from stride_monai.errors import BagError, ConfigError
from stride_monai.phantom.counterfactual import PROPERTIES
from stride_monai.phantom.pairs import make_pairs

SMALL = {"names": ("hyperchromasia", "benign_halo"), "crop_px": 48, "centres": ("north", "any")}


@pytest.fixture(scope="module")
def bags(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    written = make_pairs(folder, 2, **SMALL)
    assert [path.name for path in written] == ["hyperchromasia.bag.arrow", "benign_halo.bag.arrow"]
    return folder


def test_the_two_cells_of_a_pair_follow_each_other_with_their_texts(bags: Path) -> None:
    for name in SMALL["names"]:
        bag = BagFile(bags / f"{name}.bag.arrow")
        assert (bag.header.crop_px, bag.header.crop_mpp) == (48, 0.5)
        said = [set(bag.descriptions(row)) for row in range(4)]
        for before, after in ((said[0], said[1]), (said[2], said[3])):
            assert before - after == PROPERTIES[name].lost
            assert after - before == PROPERTIES[name].gained


def test_what_is_there_is_kept_and_what_was_made_otherwise_is_made_anew(bags: Path, tmp_path: Path) -> None:
    path = bags / "benign_halo.bag.arrow"
    before = path.read_bytes(), path.stat().st_mtime_ns
    make_pairs(bags, 2, **SMALL)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    one = {**SMALL, "names": ("benign_halo",)}
    again = make_pairs(tmp_path, 2, **one)[0]
    assert again.read_bytes() == before[0]
    make_pairs(tmp_path, 2, seed=5, **one)
    assert again.read_bytes() != before[0]


def test_pairs_join_described_cells_and_say_where_they_are_from(bags: Path) -> None:
    cells = DescribedBagCells([bags / "hyperchromasia.bag.arrow"], 48, 0.5)
    joined = with_pairs(cells, bags, 48, 0.5)
    assert len(joined) == len(joined.data) == len(cells) + 8
    assert [item["source"] for item in joined.data] == [""] * len(cells) + ["pairs"] * 8
    order = [9, 0, len(joined) - 1, 3]
    for index, sample in zip(order, joined.__getitems__(order), strict=True):
        assert np.array_equal(sample["image"], joined[index]["image"])
        assert sample["target"].tolist() == list(joined.data[index]["target"])
    # The first cells are those of the bag of the same name, which comes last.
    assert np.array_equal(joined[0]["image"], joined[len(cells) + 4]["image"])
    assert with_pairs(cells, "") is cells


def test_what_cannot_be_made_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="0 pairs"):
        make_pairs(tmp_path, 0)
    with pytest.raises(ConfigError, match="no property 'color'"):
        make_pairs(tmp_path, 1, names=("color",))
    with pytest.raises(BagError, match="no bag in"):
        with_pairs([], tmp_path)
