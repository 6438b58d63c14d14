"""Small data sets of the layouts of public ones, drawn here, with the quirks that these have."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from stride_monai.slides.orientation import orientation_of
from stride_monai.units import Box

SIDE = 200
NUCLEUS, CYTOPLASM, GLASS = (70, 50, 110), (150, 190, 200), (238, 236, 240)


def field(
    path: Path, centres: Sequence[tuple[float, float]] = (), size: tuple[int, int] = (SIDE, SIDE), seed: int = 0
) -> Path:
    """A picture of ``size`` (width, height) with a cell about each of the centres."""
    width, height = size
    image = np.full((height, width, 3), GLASS, np.float32)
    image += np.random.default_rng(seed).normal(0, 2, image.shape)
    y, x = np.mgrid[:height, :width] + 0.5
    for radius, color in ((18, CYTOPLASM), (7, NUCLEUS)):
        for cx, cy in centres:
            image[np.hypot(x - cx, y - cy) < radius] = color
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(path)
    return path


def text(path: Path, content: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode(encoding))
    return path


def as_json(path: Path, content: Any) -> Path:
    return text(path, json.dumps(content))


def cric_csv(folder: Path) -> Path:
    """As published: with a byte-order mark, Windows line ends, coordinates counted from 1."""
    field(folder / "images" / "aa.png", [(50, 60), (150, 100)])
    field(folder / "images" / "bb.png", [(30, 40)], seed=1)
    rows = [
        "image_id,image_filename,image_doi,cell_id,bethesda_system,nucleus_x,nucleus_y",
        "1,aa.png,10.6084/x,11,Negative for intraepithelial lesion,50,60",
        "1,aa.png,10.6084/x,12,ASC-US,150,100",
        "2,bb.png,10.6084/y,13,HSIL,1,200",
    ]
    text(folder / "classifications.csv", "\r\n".join(rows) + "\r\n", "utf-8-sig")
    return folder


def cric_json(folder: Path) -> Path:
    field(folder / "aa.png", [(50, 60)])
    field(folder / "bb.png")
    cell = {"cell_id": 11, "bethesda_system": "SCC", "nucleus_x": 50, "nucleus_y": 60}
    entries = [
        {"image_id": 1, "image_name": "aa.png", "image_doi": "x", "classifications": [cell]},
        {"image_id": 2, "image_name": "bb.png", "image_doi": "y", "classifications": []},
    ]
    as_json(folder / "classifications.json", entries)
    return folder


def riva(folder: Path) -> Path:
    """Boxes of 100 px by their centres, some over the border; a sample and a submission beside the splits."""
    names = {"train": ("LSIL_45_3.png", "ENDO_1_1.png"), "val": ("HSIL_2_1.png",)}
    header = "image_filename,x,y,width,height,class_name,class\n"
    for split, files in names.items():
        for seed, name in enumerate(files):
            field(folder / "images" / split / name, [(100, 100)], seed=seed)
    rows = "LSIL_45_3.png,100.5,90.25,100,100,LSIL,4\nLSIL_45_3.png,5,195,100,100,ASCUS,3\n"
    text(folder / "annotations" / "train.csv", header + rows + "ENDO_1_1.png,60,60,100,100,ENDO,1\n")
    text(folder / "annotations" / "val.csv", header + "HSIL_2_1.png,100,100,100,100,HSIL,5\n")
    text(folder / "annotations" / "train_sample.csv", header + rows)
    text(folder / "annotations" / "sample_submission.csv", "id,conf\n")
    return folder


def herlev(folder: Path) -> Path:
    """Upper-case names, masks in palette colours, one picture of the same name in two classes, one without a mask."""
    for name, label, mask in (
        ("153-001", "normal_columnar", True),
        ("153-001", "light_dysplastic", True),
        ("9", "severe_dysplastic", False),
    ):
        field(folder / label / f"{name}.BMP", [(40, 30)], size=(80, 60))
        if mask:
            picture = np.full((60, 80, 3), (255, 0, 0), np.uint8)
            picture[10:50, 20:70] = (0, 0, 128)
            picture[20:36, 30:50] = (0, 0, 255)
            picture[52:58, 2:10] = (128, 128, 128)  # unknown
            Image.fromarray(picture).convert("P", palette=Image.Palette.ADAPTIVE).save(folder / label / f"{name}-d.bmp")
    return folder


def sipakmed(folder: Path) -> Path:
    """The same numbers in two classes, polygons with fractions, cut-out cells beside the fields."""
    outline = "10.5,20\n60,20.25\n60,70\n10.5,70\n"
    nucleus = "30,40\n40,40\n40,50\n30,50\n"
    for label in ("Koilocytotic", "Dyskeratotic"):
        inner = folder / f"im_{label}" / f"im_{label}"
        field(inner / "001.bmp", [(35, 45)], size=(120, 90))
        text(inner / "001_cyt01.dat", outline)
        text(inner / "001_nuc01.dat", nucleus)
        field(inner / "CROPPED" / "001_01.bmp", [(25, 25)], size=(50, 50))
        text(inner / "CROPPED" / "001_01_cyt.dat", "1,1\n49,1\n49,49\n1,49\n")
        text(inner / "CROPPED" / "001_01_nuc.dat", "20,20\n30,20\n30,30\n")
    return folder


def mendeley_lbc(folder: Path) -> Path:
    """Fields of two groups of each class; one name without a group, and a picture that is no field."""
    names = [("NL", f"nl_{group}_{k:03}.jpg") for group in (1, 11, 3) for k in range(2)]
    names += [
        (label, f"{label.lower()}_{group}_00{k}.jpg")
        for label in ("HSIL", "SCC")
        for group in (1, 2, 3)
        for k in (1, 2)
    ]
    for seed, (label, name) in enumerate([*names, ("LSIL", "LSIL_2 (1).jpg"), ("LSIL", "7.jpg")]):
        field(folder / label / name, [(60, 60), (140, 120)], seed=seed)
    field(folder / "valid.png")
    text(folder / "fields.csv", "file,bethesda,group\n")
    return folder


def comparison_detector(folder: Path) -> Path:
    """As it is passed on in COCO's layout: a file for each of two splits, the class names of the original."""
    names = ("ascus", "asch", "lsil", "hsil", "scc", "agc", "trichomonas", "candida", "flora", "herps", "actinomyces")
    categories = [{"id": k, "name": name} for k, name in enumerate(names, start=1)]
    for split, count in (("train", 6), ("test", 2)):
        images, cells = [], []
        for k in range(count):
            name = f"{split}-{k}.jpg"
            field(folder / split / name, [(70, 70), (140, 130)], seed=k)
            images.append({"id": k, "file_name": name, "width": SIDE, "height": SIDE})
            for place, (x, y) in enumerate(((50, 50), (120, 110))):
                label = 1 + (2 * k + place) % len(names)
                cells.append({"id": 2 * k + place, "image_id": k, "category_id": label, "bbox": [x, y, 40, 40]})
        content = {"images": images, "annotations": cells, "categories": categories}
        as_json(folder / "annotations" / f"instances_{split}.json", content)
    return folder


def cervix93(folder: Path, order: str = "yx") -> Path:
    """Frames wider than high; two numbers a line, sorted by the first, in the order (y, x) as in the original."""
    rng = np.random.default_rng(3)
    rows = ["frame,label,set"]
    for number, (label, part) in enumerate((("H", 0), ("L", 1), ("N", 0))):
        centres = [
            (float(x), float(y)) for x, y in zip(rng.integers(20, 280, 6), rng.integers(20, 180, 6), strict=True)
        ]
        name = f"frame{number:03}"
        field(folder / "dataset" / "EDF" / f"{name}.png", centres, size=(300, 200), seed=number)
        pairs = sorted((int(y), int(x)) if order == "yx" else (int(x), int(y)) for x, y in centres)
        text(folder / "dataset" / "EDF" / f"{name}.csv", "".join(f"{a},{b}\n" for a, b in pairs))
        rows.append(f"{name},{label},{part}")
    text(folder / "dataset" / "labels.csv", "\n".join(rows) + "\n")
    return folder


def tianchi(folder: Path) -> Path:
    """A converted slide with two regions, a negative one, and one that is there as a damaged KFB file only."""
    field(folder / "pos" / "T1.png", [(60, 60), (150, 150)], size=(400, 300))
    field(folder / "neg" / "N1.png", [(50, 50)], size=(400, 300), seed=4)
    (folder / "pos" / "T2.kfb").write_bytes(b"KFB")
    entries = [
        {"x": 20, "y": 20, "w": 160, "h": 150, "class": "roi"},
        {"x": 220, "y": 100, "w": 150, "h": 150, "class": "roi"},
        {"x": 45, "y": 45, "w": 30, "h": 30, "class": "HSIL"},
        {"x": 135, "y": 135, "w": 30, "h": 30, "class": "Candida"},
        {"x": 300, "y": 10, "w": 30, "h": 30, "class": "pos"},
    ]
    as_json(folder / "labels" / "T1.json", entries)
    as_json(folder / "labels" / "T2.json", entries[:1])
    return folder


def coco(folder: Path) -> Path:
    """A crowd, a polygon without a box, a file name with a folder, organisms, a 0 as category id."""
    field(folder / "train" / "a.jpg", [(50, 60)])
    field(folder / "train" / "b.jpg", [(50, 60)], seed=1)
    content = {
        "images": [
            {"id": 7, "file_name": "train/a.jpg", "width": SIDE, "height": SIDE},
            {"id": 9, "file_name": "b.jpg", "width": SIDE, "height": SIDE},
        ],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 0, "bbox": [32, 42, 36, 36], "iscrowd": 0},
            {"id": 2, "image_id": 7, "category_id": 1, "segmentation": [[10, 10, 30, 10.5, 30, 40]], "iscrowd": 0},
            {"id": 3, "image_id": 9, "category_id": 0, "bbox": [0, 0, 200, 200], "iscrowd": 1, "segmentation": {}},
            {"id": 4, "image_id": 9, "category_id": 0, "bbox": [40, 50, 20.5, 20], "iscrowd": 0},
        ],
        "categories": [{"id": 0, "name": "ascus"}, {"id": 1, "name": "herps"}],
    }
    as_json(folder / "annotations" / "instances_train2017.json", content)
    return folder


def yolo(folder: Path) -> Path:
    """Images and labels in folders by split; names in the YAML; a polygon; an image without a label file."""
    for split, name in (("train", "a"), ("train", "empty"), ("val", "b")):
        field(folder / "images" / split / f"{name}.png", [(50, 60)], size=(200, 100))
    text(folder / "labels" / "train" / "a.txt", "0 0.25 0.6 0.18 0.36\n1 0.1 0.1 0.2 0.1 0.2 0.3\n")
    text(folder / "labels" / "val" / "b.txt", "1 0.5 0.5 1.0 1.0\n")
    text(folder / "data.yaml", "train: images/train\nval: images/val\nnc: 2\nnames: [LSIL, NILM]\n")
    text(folder / "README.txt", "made by hand\n")
    return folder


def voc(folder: Path) -> Path:
    """The first pixel is number 1; the file name lacks its suffix, as some tools write it."""
    field(folder / "JPEGImages" / "a.jpg", [(50, 60)])
    text(
        folder / "Annotations" / "a.xml",
        f"""<?xml version="1.0" encoding="utf-8"?>
<annotation>
  <filename>a</filename>
  <size><width>{SIDE}</width><height>{SIDE}</height><depth>3</depth></size>
  <object>
    <name>hsil</name><difficult>1</difficult>
    <bndbox><xmin>1</xmin><ymin>43</ymin><xmax>68</xmax><ymax>{SIDE}</ymax></bndbox>
  </object>
</annotation>
""",
    )
    text(folder / "ImageSets" / "Main" / "val.txt", "a\n")
    return folder


def folder_per_class(folder: Path) -> Path:
    for place in ("train/NILM", "train/HSIL", "test/HSIL"):
        for name in ("1.png", "2.png"):
            field(folder / place / name, [(20, 20)], size=(40, 40), seed=len(place))
    return folder


def geojson(folder: Path) -> Path:
    """A cell with its nucleus, points, a region by QuPath's rectangle tool, and what is to be ignored."""
    field(folder / "slide 1.png", [(60, 60), (120, 130)])

    def feature(kind: str, coordinates: Any, name: str, **more: Any) -> dict[str, Any]:
        geometry = {"type": kind, "coordinates": coordinates}
        properties = {"objectType": "annotation", "classification": {"name": name, "color": [1, 2, 3]}}
        return {"type": "Feature", "geometry": geometry, "properties": properties, **more}

    square = [[40, 40], [80, 40], [80, 80], [40, 80], [40, 40]]
    small = {"type": "Polygon", "coordinates": [[[55, 55], [65, 55], [65, 65], [55, 55]]]}
    region = [[20, 20], [180, 20], [180, 180], [20, 180], [20, 20]]
    features = [
        feature("Polygon", [region], "Region*"),
        feature("Polygon", [square], "LSIL", id="u-1", nucleusGeometry=small),
        feature("MultiPoint", [[120, 130], [150, 60]], "NILM", id="u-2"),
        feature("Point", [100, 100], "Ignore*", id="u-3"),
    ]
    as_json(folder / "slide 1.png.geojson", {"type": "FeatureCollection", "features": features})
    return folder


TURNED_SIZE = (80, 60)
TURNED_CELL = (8, 6, 16, 12)  # of the upright picture


def turned(path: Path, tag: int) -> tuple[tuple[int, int], tuple[float, float, float, float]]:
    """A picture with one dark cell that is stored as its orientation tag says.

    Returns:
        Width and height as stored, and the cell's box in the stored picture.
    """
    inverse = orientation_of({6: 8, 8: 6}.get(tag, tag))
    width, height = TURNED_SIZE
    x0, y0, x1, y1 = TURNED_CELL
    upright = np.full((height, width, 3), GLASS, np.uint8)
    upright[y0:y1, x0:x1] = NUCLEUS
    stored = Image.fromarray(np.ascontiguousarray(inverse.upright(upright)))
    exif = Image.Exif()
    exif[0x112] = tag
    path.parent.mkdir(parents=True, exist_ok=True)
    stored.save(path, exif=exif, quality=95)
    return stored.size, orientation_of(tag).box_stored(Box(x0, y0, x1, y1), *stored.size)


def cell_in(form: str, folder: Path, picture: Path, size: tuple[int, int], box: Sequence[float]) -> None:
    """Write the labels of one picture with one cell of HSIL, as a format has them; only COCO and VOC state ``size``."""
    (width, height), (x0, y0, x1, y1) = size, box
    ring = [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]
    name = picture.name
    if form == "yolo":
        text(picture.with_suffix(".txt"), f"0 {' '.join(f'{x / width} {y / height}' for x, y in ring)}\n")
        text(folder / "classes.txt", "HSIL\n")
    elif form == "coco":
        cell = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [x0, y0, x1 - x0, y1 - y0]}
        cell["segmentation"] = [[side for corner in ring for side in corner]]
        image = {"id": 1, "file_name": name, "width": width, "height": height}
        content = {"images": [image], "annotations": [cell], "categories": [{"id": 1, "name": "HSIL"}]}
        as_json(folder / "labels.json", content)
    elif form == "voc":
        sides = f"<size><width>{width}</width><height>{height}</height></size>"
        corners = f"<xmin>{x0 + 1}</xmin><ymin>{y0 + 1}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax>"
        cell_text = f"<object><name>HSIL</name><bndbox>{corners}</bndbox></object>"
        text(folder / "a.xml", f"<annotation><filename>{name}</filename>{sides}{cell_text}</annotation>")
    elif form == "geojson":
        geometry = {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}
        properties = {"classification": {"name": "HSIL"}}
        as_json(folder / f"{name}.geojson", [{"type": "Feature", "geometry": geometry, "properties": properties}])
    elif form == "riva":
        row = f"{name},{(x0 + x1) / 2},{(y0 + y1) / 2},{x1 - x0},{y1 - y0},HSIL\n"
        text(folder / "train.csv", "image_filename,x,y,width,height,class_name\n" + row)
    elif form == "tianchi":
        as_json(folder / f"{picture.stem}.json", [{"x": x0, "y": y0, "w": x1 - x0, "h": y1 - y0, "class": "HSIL"}])
    elif form == "cric":
        row = f"{name},HSIL,{(x0 + x1) / 2 + 0.5},{(y0 + y1) / 2 + 0.5}\n"
        text(folder / "points.csv", "image,bethesda_system,nucleus_x,nucleus_y\n" + row)
    elif form == "sipakmed":
        text(picture.with_name(f"{picture.stem}_cyt01.dat"), "".join(f"{x},{y}\n" for x, y in ring))
    else:
        mask = np.full((height, width, 3), (255, 0, 0), np.uint8)
        mask[round(y0) : round(y1), round(x0) : round(x1)] = (0, 0, 255)
        Image.fromarray(mask).save(picture.with_name(f"{picture.stem}-d.bmp"))
