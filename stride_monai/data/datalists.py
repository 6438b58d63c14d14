"""The lists that bundles train on: plain dictionaries, made from a cohort folder by one function per task.

A cohort folder holds ``manifest.csv``, ``cells.csv``, the slides, and ``regions.csv`` where only parts of them were
annotated. Every function can stand in a bundle's JSON, e.g.
``"$stride_monai.data.cell_crops(@dataset_dir, 'train')"``. The same folder and seed give the same list on
every machine. ``dataset_dir`` is a cohort folder; ``split`` is ``train``, ``validation``, ``test`` or, where it has a
default, None for all.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from stride_monai.bethesda import CELL_CLASSES, NEGATIVE, SLIDE_CLASSES
from stride_monai.data.bags.bag import BagFile
from stride_monai.data.bags.folder import BAG_SUFFIX, bag_files, bag_paths, by_slide
from stride_monai.data.cells import CellRecord, read_cells, read_regions
from stride_monai.data.manifest import SlideRecord, parse_split, read_manifest
from stride_monai.data.splits import refuse_straddling
from stride_monai.data.tiles import SlideTiles, of_one_size
from stride_monai.errors import BagError, ManifestError
from stride_monai.files import paths_of
from stride_monai.slides import open_slide

__all__ = [
    "bags_with_cells",
    "cell_counts",
    "cell_crops",
    "class_counts",
    "detection_tiles",
    "labeled_bags",
    "lesion_slides",
    "slide_bags",
    "slide_centres",
    "slides",
]

_log = logging.getLogger(__name__)


def slides(dataset_dir: Path | str, split: str | None = None) -> list[dict[str, Any]]:
    """The slides of a split, or all of them.

    Returns:
        Dictionaries with ``image`` (path), ``mpp`` (um/px that the manifest states, or None), ``slide_id``.

    Raises:
        ManifestError: no manifest, a broken one, or no slide in the split.
    """
    return [_slide_item(record) for record in _records(Path(dataset_dir), split)]


def lesion_slides(dataset_dir: Path | str, split: str | None = None, box_um: float = 0.0) -> list[dict[str, Any]]:
    """The slides of a split with their positive cells, all positive classes merged into one.

    Args:
        box_um: see :func:`detection_tiles`.

    Returns:
        Dictionaries with ``image`` (path), ``mpp`` (um/px that the manifest states, or None), ``slide_id``,
        ``slide_class`` and ``boxes``, a list of (x0, y0, x1, y1) in level-0 px.

    Raises:
        ManifestError: broken tables, no slide in the split, or a slide without a class.
        SlideError: a slide cannot be opened, which is tried with ``box_um`` only.
    """
    records = _records(Path(dataset_dir), split)
    cells: dict[str, list[CellRecord]] = {record.slide_id: [] for record in records}
    for cell in read_cells(Path(dataset_dir) / "cells.csv"):
        if cell.positive and cell.slide_id in cells:
            cells[cell.slide_id].append(cell)
    items = []
    for record in records:
        if record.slide_class is None:
            raise ManifestError(f"slide '{record.slide_id}' has no slide_class", "label every slide that evaluates")
        own = cells[record.slide_id]
        if box_um and own:
            with open_slide(record.path, mpp=record.mpp) as slide:
                own = of_one_size(own, box_um / slide.mpp)
        boxes = [tuple(cell.box) for cell in own]
        items.append({**_slide_item(record), "slide_class": record.slide_class, "boxes": boxes})
    return items


def _slide_item(record: SlideRecord) -> dict[str, Any]:
    return {"image": str(record.path), "mpp": record.mpp, "slide_id": record.slide_id}


def _source(record: SlideRecord) -> dict[str, str]:
    """Where several cohorts were joined, the one that the slide came from, for a sampler of shares."""
    return {} if record.source is None else {"source": record.source}


def detection_tiles(
    dataset_dir: Path | str,
    split: str,
    tile_px: int = 512,
    tile_mpp: float = 1.0,
    negatives_per_positive: float = 0.5,
    seed: int = 0,
    min_visible: float = 0.3,
    box_um: float = 0.0,
    layouts: int = 1,
) -> list[dict[str, Any]]:
    """Tiles for the lesion-cell detector, all positive classes merged into one.

    Tiles are laid around the positive cells, each shifted at random, until every positive cell of the split lies wholly
    in one. To them come random tiles without a lesion: on the deposit of slides labelled NILM, and in the annotated
    regions of other slides; never elsewhere on these, where lesions may only not be marked. On a slide with annotated
    regions every tile, positive or negative, stays inside one of them, and cells outside are not used.

    Args:
        tile_px: side of a tile in its own px.
        tile_mpp: um/px of the tiles.
        negatives_per_positive: number of tiles without a lesion for each tile with positive cells.
        seed: moves the tiles.
        min_visible: a cell of which the tile shows a smaller share is left out, 0-1. Training leaves out slivers; an
            evaluation takes 0, so that no detection of a sliver counts as a mistake.
        box_um: give every cell a square of this side, um, about its nucleus, where its outline is known, or else about
            the middle of its box. So cells that were boxed and cells that were pointed at are one thing to learn, and
            neighbours in a crowd stay apart. 0 for the boxes as they are.
        layouts: how many times the tiles are laid, each time elsewhere: a few annotated fields seen from more places.

    Returns:
        Dictionaries with ``image`` (slide path), ``mpp`` (um/px of the slide), ``box`` (tile in level-0 px), ``boxes``
        (positive cells in tile px, clipped to the tile), ``visible`` (the share of each of them that the tile shows,
        1 for one that no border cuts), ``limits`` (level-0 px; None, or the annotated region where it is smaller than
        the tile: the loader paints white what lies beyond), ``slide_id``; of a joined cohort also ``source``.

    Raises:
        ManifestError: broken tables, no slide in the split, or no positive cell on them.
        SlideError: a slide cannot be opened.
    """
    if layouts > 1:
        given = (dataset_dir, split, tile_px, tile_mpp, negatives_per_positive)
        return [t for k in range(layouts) for t in detection_tiles(*given, seed + k, min_visible, box_um)]
    records, cells = _cohort(Path(dataset_dir), split)
    regions = read_regions(dataset_dir)
    tiles: list[dict[str, Any]] = []
    for record in records:
        if any(cell.positive for cell in cells[record.slide_id]):
            with open_slide(record.path, mpp=record.mpp) as slide:
                own = of_one_size(cells[record.slide_id], box_um / slide.mpp) if box_um else cells[record.slide_id]
                layout = SlideTiles(record, slide, own, regions.get(record.slide_id, ()), seed)
                tiles += layout.positive(tile_px, tile_mpp, min_visible)
    if not tiles:
        raise ManifestError(f"split '{split}' has no positive cell", "the detector learns from labelled positive cells")
    wanted = round(negatives_per_positive * len(tiles))
    sources = [record for record in records if record.slide_class == NEGATIVE or record.slide_id in regions]
    for record, count in _shared_out(sources, wanted, split):
        with open_slide(record.path, mpp=record.mpp) as slide:
            layout = SlideTiles(record, slide, cells[record.slide_id], regions.get(record.slide_id, ()), seed)
            tiles += layout.negative(count, tile_px, tile_mpp)
    return tiles


def cell_crops(dataset_dir: Path | str, split: str, random_negatives: int = 0, seed: int = 0) -> list[dict[str, Any]]:
    """Labelled cells for the cell classifier: every annotation, and optionally random crops of negative slides.

    Marked cells without a class (``abnormal_unspecified``, ``unlabelled``) are left out, and their number is logged.

    Args:
        random_negatives: number of NILM crops at random on the deposit of slides labelled NILM, over the whole split.
        seed: moves the random crops.

    Returns:
        Dictionaries with ``image`` (slide path), ``mpp`` (um/px that the manifest states, or None), ``centre`` (x, y in
        level-0 px), ``label`` (index into CELL_CLASSES), ``slide_id``, ``cell_id``; of a joined cohort also ``source``.

    Raises:
        ManifestError: broken tables, no slide in the split, or no cell on them.
        SlideError: a slide cannot be opened.
    """
    records, cells = _cohort(Path(dataset_dir), split)
    items: list[dict[str, Any]] = []
    for record in records:
        for cell in cells[record.slide_id]:
            if cell.cell_class is not None:
                items.append(_crop_item(record, cell.box.center, CELL_CLASSES.index(cell.cell_class), cell.cell_id))
    without = sum(len(cells[record.slide_id]) for record in records) - len(items)
    if without:
        _log.warning("split %s: %d marked cells have no class and are left out", split, without)
    regions = read_regions(dataset_dir) if random_negatives else {}
    negatives = [record for record in records if record.slide_class == NEGATIVE]
    for record, count in _shared_out(negatives, random_negatives, split):
        with open_slide(record.path, mpp=record.mpp) as slide:
            layout = SlideTiles(record, slide, cells[record.slide_id], regions.get(record.slide_id, ()), seed)
            points = layout.deposit_points(count)
        negative = CELL_CLASSES.index(NEGATIVE)
        items += [_crop_item(record, point, negative, f"random-{place}") for place, point in enumerate(points)]
    if not items:
        raise ManifestError(f"split '{split}' has no labelled cell", "fill cells.csv, or choose another split")
    _log.info("cells of split %s: %s", split, class_counts(items))
    return items


def class_counts(items: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """How many items there are of each cell class, in class order."""
    counts = Counter(int(item["label"]) for item in items)
    return {name: counts[index] for index, name in enumerate(CELL_CLASSES)}


def cell_counts(dataset_dir: Path | str, split: str) -> dict[str, int]:
    """How many annotated cells of each class there are in a split, in class order; all 0 where no slide is in it."""
    folder = Path(dataset_dir)
    chosen = {record.slide_id for record in _records(folder, None) if record.split == parse_split(split)}
    counts = Counter(cell.cell_class for cell in read_cells(folder / "cells.csv") if cell.slide_id in chosen)
    return {name: counts[name] for name in CELL_CLASSES}


def slide_centres(dataset_dir: Path | str) -> dict[str, str]:
    """The centre (hospital or scanner site) of each slide of a cohort that has one, by slide id."""
    return {record.slide_id: record.centre for record in _records(Path(dataset_dir), None) if record.centre}


def labeled_bags(bag_dir: Path | str, dataset_dir: Path | str, split: str) -> list[dict[str, Any]]:
    """The bags with labelled cells of a split's slides (:func:`stride_monai.data.write_labeled_bags`).

    Args:
        bag_dir: folder with ``<slide_id>.bag.arrow``.
        dataset_dir: cohort folder, which says what split a slide is in. Where it has a ``cells.csv``, every slide with
            labelled cells must have a bag.
        split: ``train``, ``validation`` or ``test``.

    Returns:
        Dictionaries with ``bag`` (path), ``slide_id`` and, of a joined cohort, ``source``, for
        :class:`stride_monai.data.BagCells`.

    Raises:
        ManifestError: broken tables, or no slide in the split.
        BagError: a slide with labelled cells has no bag, or no slide of the split has one.
    """
    folder = Path(dataset_dir)
    records, cells = _cohort(folder, split) if (folder / "cells.csv").exists() else (_records(folder, split), {})
    paths = {record.slide_id: Path(bag_dir) / f"{record.slide_id}{BAG_SUFFIX}" for record in records}
    with_cells = {key for key, of in cells.items() if any(cell.cell_class is not None for cell in of)}
    there = {key for key, path in paths.items() if path.is_file()}
    missing = sorted(with_cells - there) or ([] if there else sorted(paths))
    if missing:
        raise BagError(
            f"{len(missing)} slides of split '{split}' have no bag in {Path(bag_dir).absolute()}, e.g. '{missing[0]}'",
            "write the labelled crops of this cohort first (bundle cell_cls, configs/crops.json)",
        )
    return [
        {"bag": str(paths[r.slide_id]), "slide_id": r.slide_id, **_source(r)} for r in records if r.slide_id in there
    ]


def slide_bags(
    bag_dir: Path | str | Sequence[Path | str],
    manifest: Path | str,
    split: str | None = None,
    allow_missing: bool = False,
    labeled: bool = True,
) -> list[dict[str, Any]]:
    """The bags of a split with the labels of their slides.

    Args:
        bag_dir: folder, or several, that hold, at any depth, one ``<slide_id>.bag.arrow`` per slide.
        manifest: manifest file, or the cohort folder it is in.
        allow_missing: leave out slides whose bag is absent or holds no cell, with a warning, instead of refusing.
        labelled: refuse slides without a class. Without, for training on unlabelled cells, their label is -1.

    Returns:
        Dictionaries with ``bag`` (path), ``label`` (index into SLIDE_CLASSES), ``slide_id``; of a joined cohort also
        ``source``.

    Raises:
        ManifestError: a slide of the split has no label, or there is no slide in the split.
        BagError: a bag is damaged; or absent or empty and that is not allowed; or no slide has one.
    """
    records = _records(Path(manifest), split)
    unlabeled = [record.slide_id for record in records if record.slide_class is None]
    if unlabeled and labeled:
        raise ManifestError(f"slide '{unlabeled[0]}' has no slide_class", "label every slide that trains or evaluates")
    folders = paths_of(bag_dir)
    paths = by_slide(path for folder in folders for path in bag_paths(folder))
    bags = {record.slide_id: paths.get(record.slide_id) for record in records}
    unusable = [slide_id for slide_id, path in bags.items() if path is None or not len(BagFile(path))]
    if unusable and not allow_missing:
        raise BagError(
            f"{len(unusable)} of {len(records)} slides have no bag with cells, e.g. '{unusable[0]}'",
            "make the bags of these slides, or pass allow_missing=True to leave them out",
        )
    if len(unusable) == len(records):
        named = ", ".join(str(folder.absolute()) for folder in folders)
        raise BagError(
            f"none of the {len(records)} slides has a bag with cells in '{named}'",
            "make the bags with the bundle detection (extract.json) and name their folder with --bag_dir",
        )
    if unusable:
        _log.warning("%d slides without a bag or with an empty one are left out: %s", len(unusable), unusable)
    return [
        {
            "bag": str(paths[record.slide_id]),
            "label": -1 if record.slide_class is None else SLIDE_CLASSES.index(record.slide_class),
            "slide_id": record.slide_id,
            **_source(record),
        }
        for record in records
        if record.slide_id not in set(unusable)
    ]


def bags_with_cells(folder: Path | str | Sequence[Path | str]) -> list[dict[str, Any]]:
    """All bags in a folder as :func:`bag_files`, but those that hold no cell, which are left out with a warning.

    Raises:
        BagError: there is none, or two of one slide, or one is damaged, or none holds a cell.
    """
    found = bag_files(folder)
    empty = {bag["slide_id"] for bag in found if not len(BagFile(Path(bag["bag"])))}
    if len(empty) == len(found):
        raise BagError(
            f"none of the {len(found)} bags holds a cell, e.g. that of slide '{found[0]['slide_id']}'",
            "make them with another detector, or with a lower min_score",
        )
    if empty:
        _log.warning("%d slides whose bags hold no cell are left out: %s", len(empty), sorted(empty))
    return [bag for bag in found if bag["slide_id"] not in empty]


def _records(manifest: Path, split: str | None) -> list[SlideRecord]:
    is_file = manifest.is_file() or manifest.suffix in {".csv", ".json"}
    path = manifest if is_file else manifest / "manifest.csv"
    if not path.exists():
        folder = path.parent.absolute()
        none = "" if folder.is_dir() else ", since there is no such folder"
        raise ManifestError(
            f"there is no {path.name} in {folder}{none}",
            "a cohort folder holds manifest.csv, cells.csv and the slides; render one, or write them for your slides",
        )
    records = read_manifest(path)
    refuse_straddling(records, str(path.absolute()))
    chosen = [record for record in records if split is None or record.split == parse_split(split)]
    if not chosen:
        where = f" in split '{split}'" if split else ""
        raise ManifestError(f"{path.absolute()} has no slide{where}", "check its column 'split'")
    return chosen


def _cohort(folder: Path, split: str) -> tuple[list[SlideRecord], dict[str, list[CellRecord]]]:
    """Slides of a split, and their cells by slide id."""
    everything = {record.slide_id: record for record in _records(folder, None)}
    chosen = _records(folder, split)
    cells: dict[str, list[CellRecord]] = {record.slide_id: [] for record in chosen}
    for cell in read_cells(folder / "cells.csv"):
        record = everything.get(cell.slide_id)
        if record is None:
            raise ManifestError(
                f"cells.csv names slide '{cell.slide_id}', manifest.csv does not", "correct one of them"
            )
        if cell.positive and record.slide_class == NEGATIVE:
            raise ManifestError(
                f"slide '{cell.slide_id}' is labelled {NEGATIVE}, its cell '{cell.cell_id}' is {cell.label}",
                "correct the slide's class or the cell's label",
            )
        if cell.slide_id in cells:
            cells[cell.slide_id].append(cell)
    return chosen, cells


def _shared_out(sources: Sequence[SlideRecord], count: int, split: str) -> Iterator[tuple[SlideRecord, int]]:
    """The slides that can give negatives with their share of a number, as even as can be."""
    if count and not sources:
        _log.warning("split %s has no slide labelled %s: the list has no random negatives", split, NEGATIVE)
    for place, record in enumerate(sources):
        share = (place + 1) * count // len(sources) - place * count // len(sources)
        if share:
            yield record, share


def _crop_item(record: SlideRecord, centre: tuple[float, float], label: int, cell_id: str) -> dict[str, Any]:
    return {**_slide_item(record), **_source(record), "centre": centre, "label": label, "cell_id": cell_id}
