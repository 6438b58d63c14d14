"""Pictures of single cells, and small networks that classify them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from toy_bundles import CELLS, SLIDES, TEXTS, make_aligner, make_classifier, toy_bundle

from stride_monai.networks.encoders.cell_encoder import CellClassifier


def cell_picture(seed: int = 0, height: int = 30, width: int = 26) -> NDArray[np.uint8]:
    """A dark nucleus of a size and colour of its own on a light background, uint8 ``[height, width, 3]``."""
    rng = np.random.default_rng(seed)
    pixels = np.full((height, width, 3), (232, 216, 226), np.uint8)
    y, x = np.ogrid[:height, :width]
    near = (y - height / 2) ** 2 + (x - width / 2) ** 2 < rng.uniform(3, min(height, width) / 2 - 1) ** 2
    pixels[near] = rng.integers(20, 160, 3)
    return pixels


def save(path: Path, pixels: NDArray[np.uint8], **options: Any) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


def cell_network(seed: int = 7) -> CellClassifier:
    """Its head is strong, so that small differences of crops are seen in probabilities."""
    torch.manual_seed(seed)
    network = CellClassifier("test_convnext").eval()
    with torch.no_grad():
        network.head.weight.mul_(50)
    return network


def cell_bundles(folder: Path, aligned_with: str = "cell_cls") -> Path:
    """Toy bundles that classify cells, and a text aligner trained on the encoder of one of them, or on another one."""
    network, slides = cell_network(), make_classifier()
    encoders = {"cell_cls": network, "swift_mil": slides.encoder, "": cell_network(8)}
    toy_bundle(folder / "cell_cls", CELLS, network)
    toy_bundle(folder / "swift_mil", SLIDES, slides)
    toy_bundle(folder / "text_align", TEXTS, make_aligner(encoders[aligned_with], threshold=-0.05))
    return folder


def table_of(out: Path) -> list[dict[str, str]]:
    """The rows of ``cells.csv``."""
    with (out / "cells.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))
