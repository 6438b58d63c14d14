"""Public data sets at a few pictures each, enough to be split and trained on, in the folders that docs/public-data.md
names."""

from __future__ import annotations

from pathlib import Path

import dataset_samples as samples
import numpy as np
from PIL import Image

GLASS = samples.GLASS
FIELDS = 10
CENTRES = [(60, 60), (140, 60), (60, 140), (140, 140)]
CRIC_LABELS = ("Negative for intraepithelial lesion", "LSIL", "HSIL", "ASC-US", "ASC-H", "SCC")


def cric(folder: Path) -> Path:
    """``classifications.json`` as published, with the images one folder below."""
    entries = []
    for number in range(FIELDS):
        samples.field(folder / "base" / f"{number:032x}.png", CENTRES, seed=number)
        cells = [
            {
                "cell_id": 10 * number + k,
                "bethesda_system": CRIC_LABELS[0 if k < 2 else 1 + (number + k) % 5],
                "nucleus_x": x,
                "nucleus_y": y,
            }
            for k, (x, y) in enumerate(CENTRES)
        ]
        name = f"{number:032x}.png"
        entries.append({"image_id": number, "image_name": name, "image_doi": "x", "classifications": cells})
    samples.as_json(folder / "classifications.json", entries)
    return folder


def sipakmed(folder: Path) -> Path:
    """Fields with two cells each, and the same cells cut out, of the size of their polygons."""
    for label in ("Koilocytotic", "Superficial-Intermediate", "Metaplastic", "Dyskeratotic"):
        inner = folder / f"im_{label}" / f"im_{label}"
        for number in range(1, 6):
            samples.field(inner / f"{number:03}.bmp", CENTRES[:2], seed=number)
            for cell, (x, y) in enumerate(CENTRES[:2], start=1):
                for part, radius in (("cyt", 18), ("nuc", 7)):
                    corners = [(x - radius, y - radius), (x + radius, y - radius), (x, y + radius)]
                    lines = "".join(f"{a},{b}\n" for a, b in corners)
                    samples.text(inner / f"{number:03}_{part}{cell:02}.dat", lines)
                    moved = "".join(f"{a - x + 20},{b - y + 20}\n" for a, b in corners)
                    samples.text(inner / "CROPPED" / f"{number:03}_{cell:02}_{part}.dat", moved)
                samples.field(inner / "CROPPED" / f"{number:03}_{cell:02}.bmp", [(20, 20)], size=(40, 40 + 3 * cell))
    return folder


def herlev(folder: Path) -> Path:
    """Single cells in pictures of many sizes with their masks."""
    for label in ("normal_superficiel", "normal_columnar", "light_dysplastic", "carcinoma_in_situ"):
        for number in range(1, 7):
            width, height = 50 + 9 * number, 45 + 5 * number
            name = f"149{number:06}-{number:03}"
            samples.field(folder / label / f"{name}.BMP", [(25, 22)], size=(width, height), seed=number)
            mask = np.full((height, width, 3), (255, 0, 0), np.uint8)
            mask[5:40, 8:43] = (0, 0, 128)
            mask[16:29, 19:32] = (0, 0, 255)
            Image.fromarray(mask).save(folder / label / f"{name}-d.bmp")
    return folder


def riva(folder: Path) -> Path:
    """Boxes of 100 px about nuclei by their centres; a table for each split."""
    labels = ("NILM", "ENDO", "INFL", "ASCUS", "LSIL", "ASCH", "HSIL", "SCC")
    for split, count in (("train", 4), ("val", 2), ("test", 2)):
        rows = []
        for number in range(count):
            name = f"{labels[number]}_{number}_{split}.png"
            samples.field(folder / "images" / split / name, CENTRES, seed=number)
            for k, (x, y) in enumerate(CENTRES):
                kind = (2 * number + k + (split == "val")) % len(labels)
                rows.append(f"{name},{x},{y},100,100,{labels[kind]},{kind}\n")
        header = "image_filename,x,y,width,height,class_name,class\n"
        samples.text(folder / "annotations" / f"{split}.csv", header + "".join(rows))
    return folder


def lbc(folder: Path) -> Path:
    """Fields in a folder per class, several of a group."""
    classes = {
        "Negative for Intraepithelial malignancy": "NL",
        "Low squamous intra-epithelial lesion": "LSIL",
        "High squamous intra-epithelial lesion": "HSIL",
        "Squamous cell carcinoma": "scc",
    }
    for name, short in classes.items():
        for group in range(1, 5):
            for number in (1, 2):
                path = folder / name / f"{short}_{group} ({number}).jpg"
                samples.field(path, CENTRES, size=(256, 256), seed=10 * group + number)
    return folder


def make_all(home: Path) -> Path:
    """All six, in the folders of the page."""
    cric(home / "CRIC")
    sipakmed(home / "SIPaKMeD")
    herlev(home / "New database pictures")
    riva(home / "RIVA")
    lbc(home / "LBC")
    samples.comparison_detector(home / "ComparisonDetector")
    return home
