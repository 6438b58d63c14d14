"""A cohort of nine tiny slides, drawn here in a second, on which every bundle can train a few iterations."""

from __future__ import annotations

import csv
import shutil
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from stride_monai.bethesda import DESCRIPTIONS_BY_CLASS, cell_class_of
from stride_monai.data.bags.bag import BagCell, BagHeader, encode_crop, write_bag
from stride_monai.data.cells import CellRecord, write_cells
from stride_monai.slides import open_slide
from stride_monai.units import Box

SIDE, MPP = 1024, 0.5
CROP_PX, CROP_MPP = 128, 0.5
NUCLEUS_UM = {"NILM": 4.0, "LSIL": 9.0, "HSIL": 7.0}


@dataclass
class _Drawn:
    slide_id: str
    split: str
    label: str
    cells: list[tuple[Box, str]] = field(default_factory=list)


def _draw(path: Path, slide: _Drawn, rng: np.random.Generator) -> None:
    image = np.full((SIDE, SIDE, 3), (238, 236, 240), np.float32) + rng.normal(0, 2, (SIDE, SIDE, 3))
    for row in range(4):
        for column in range(4):
            cx, cy = (np.array([column, row]) + 0.5) * SIDE / 4 + rng.uniform(-50, 50, 2)
            label = slide.label if (row + column) % 2 else "NILM"
            top, left = (max(int(at) - 40, 0) for at in (cy, cx))
            around = image[top : top + 80, left : left + 80]
            y, x = np.ogrid[top : top + around.shape[0], left : left + around.shape[1]]
            distance = np.hypot(x - cx, y - cy) * MPP
            around[distance < 18] = (150, 190, 200)
            around[distance < NUCLEUS_UM[label]] = (70, 50, 110)
            slide.cells.append((Box.around(cx, cy, 2 * 18 / MPP), label))
    Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(path, compress_level=1)


def described(label: str) -> tuple[str, ...]:
    """The texts of a cell: the first two of its class."""
    return DESCRIPTIONS_BY_CLASS[cell_class_of(label)][:2]


def _bag(folder: Path, image: Path, slide: _Drawn) -> None:
    header = BagHeader(slide.slide_id, MPP, CROP_MPP, CROP_PX, 64, slide_class=slide.label)
    with open_slide(image, mpp=MPP) as opened:
        cells = [
            BagCell(
                score=1 - 0.01 * k,
                box=box,
                jpeg=encode_crop(opened.read(Box.around(*box.center, CROP_PX * CROP_MPP / MPP), mpp=CROP_MPP)),
                cell_class=cell_class_of(label),
                descriptions=described(label),
            )
            for k, (box, label) in enumerate(slide.cells)
        ]
    write_bag(folder / f"{slide.slide_id}.bag.arrow", header, cells)


def make_cohort(folder: Path) -> Path:
    """A cohort folder with manifest, cells, slides and, in ``bags``, a bag per slide of its true cells."""
    shutil.copytree(_drawn_once().name, folder, dirs_exist_ok=True)
    return folder


@cache
def _drawn_once() -> TemporaryDirectory[str]:
    """The cohort that every test of this process copies."""
    home = TemporaryDirectory()
    folder = Path(home.name)
    rng = np.random.default_rng(0)
    (folder / "slides").mkdir()
    (folder / "bags").mkdir()
    slides = [
        _Drawn(f"{split}-{label}", split, label)
        for split in ("train", "validation", "test")
        for label in ("NILM", "LSIL", "HSIL")
    ]
    for slide in slides:
        path = folder / "slides" / f"{slide.slide_id}.png"
        _draw(path, slide, rng)
        _bag(folder / "bags", path, slide)
    with (folder / "manifest.csv").open("w", newline="") as stream:
        out = csv.writer(stream)
        out.writerow(["slide_id", "path", "mpp", "patient", "centre", "slide_class", "split"])
        out.writerows([s.slide_id, f"slides/{s.slide_id}.png", MPP, s.slide_id, "A", s.label, s.split] for s in slides)
    _write_cells(folder, slides)
    return home


def _write_cells(folder: Path, slides: list[_Drawn]) -> None:
    records = [
        CellRecord(slide.slide_id, f"{slide.slide_id}-{k}", *box, label=label, descriptions=described(label))
        for slide in slides
        for k, (box, label) in enumerate(slide.cells)
    ]
    write_cells(folder / "cells.csv", records)
