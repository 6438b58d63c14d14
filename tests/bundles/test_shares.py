"""Each source of a joined cohort gets its share of a training: of cells, of bags, and of tiles."""

from __future__ import annotations

import csv
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from bundle_cohort import make_cohort
from monai.bundle import ConfigWorkflow

from stride_monai.data.joining import join_cohorts
from stride_monai.workflows.locate import bundle_root


def _renamed(folder: Path, name: str) -> Path:
    """A cohort of slides that are called ``<name>-...``, bags included."""
    make_cohort(folder)
    for table in (folder / "manifest.csv", folder / "cells.csv"):
        rows = list(csv.reader(table.open()))
        with table.open("w", newline="") as stream:
            csv.writer(stream).writerows([rows[0], *([f"{name}-{row[0]}", *row[1:]] for row in rows[1:])])
    for bag in (folder / "bags").iterdir():
        shutil.move(bag, bag.with_name(f"{name}-{bag.name}"))
    return folder


@pytest.fixture(scope="module")
def joined(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("joined")
    join_cohorts([_renamed(home / "near", "n"), _renamed(home / "far", "f")], home / "both")
    return home


def _workflow(joined: Path, bundle: str, **settings: Any) -> ConfigWorkflow:
    root = bundle_root(bundle)
    files = [str(root / "configs" / f"{name}.json") for name in ("train", "tiny")]
    common = {"bundle_root": str(root), "dataset_dir": str(joined / "both"), "output_dir": str(joined / "out")}
    if bundle != "detection":
        common["encoder_name"] = "test_convnext"
    made = ConfigWorkflow(files, logging_file=False, **common, **settings)
    made.parser.parse(reset=True)
    return made


def test_cells_of_a_source_have_their_share(joined: Path) -> None:
    parser = _workflow(joined, "cell_cls", shares={"far": 0.9}, cells_per_epoch=2000).parser
    items = parser.get_parsed_content("train#dataset").data
    assert set(Counter(item["source"] for item in items).values()) == {len(items) // 2}
    drawn = Counter(items[k]["source"] for k in parser.get_parsed_content("train#sampler"))
    assert drawn["far"] / 2000 == pytest.approx(0.9, abs=0.03)
    plain = Counter(
        _workflow(joined, "cell_cls", balance=0.0, cells_per_epoch=len(items)).parser.get_parsed_content(
            "train#sampler"
        )
    )
    assert set(plain.values()) == {1}, "without shares every cell once"


def test_bags_and_labelled_cells_have_theirs(joined: Path) -> None:
    settings = {"init_weights": "", "shares": {"near": 1.0}, "cell_shares": {"far": 0.75}, "cell_batch_size": 400}
    folders = [str(joined / "near" / "bags"), str(joined / "far" / "bags")]
    parser = _workflow(joined, "swift_mil", bag_dir=folders, crop_px=32, **settings).parser
    bags = parser.get_parsed_content("train#dataset").data
    assert len(bags) == 6, "of both folders"
    assert {bags[k]["source"] for k in parser.get_parsed_content("train#sampler")} == {"near"}
    cells = parser.get_parsed_content("labeled#dataset").data
    drawn = [cells[k]["source"] for k in parser.get_parsed_content("labeled#stream")(0)["index"].tolist()]
    assert drawn.count("far") / 400 == pytest.approx(0.75, abs=0.08)


def test_tiles_of_the_detector_have_theirs(joined: Path) -> None:
    parser = _workflow(joined, "detection", shares={"near": 1.0}, tile_px=64, box_um=20.0, tiles_per_epoch=5).parser
    tiles = parser.get_parsed_content("train#dataset").data
    assert set(Counter(tile["source"] for tile in tiles)) == {"near", "far"}
    drawn = list(parser.get_parsed_content("train#sampler"))
    assert len(drawn) == 5
    assert {tiles[k]["source"] for k in drawn} == {"near"}
    whole = [box for tile in tiles for box, seen in zip(tile["boxes"], tile["visible"], strict=True) if seen == 1.0]
    assert whole
    assert all(x1 - x0 == pytest.approx(20) and y1 - y0 == pytest.approx(20) for x0, y0, x1, y1 in whole)
