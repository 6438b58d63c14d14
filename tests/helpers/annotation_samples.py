"""Small reviewed slides for tests: pictures, findings of them, and a store of what readers said."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from findings_samples import make_findings
from PIL import Image

from stride_monai.annotations import Action, AnnotationStore, Kind, added_cell_id, new_uuid
from stride_monai.data import SlideRecord
from stride_monai.errors import OutputError
from stride_monai.files import fingerprint
from stride_monai.findings import Findings
from stride_monai.units import Box

SIZE = (400, 300)
MPP = 0.5
ADDED = [300.0, 200.0, 340.0, 240.0]
REGION = [0.0, 0.0, 400.0, 300.0]


def picture(path: Path) -> Path:
    """A pale field with dark nuclei in the middle of the cells of :func:`findings_of`."""
    pixels = np.full((SIZE[1], SIZE[0], 3), 230, np.uint8)
    for number in range(5):
        x, y = 50 + 60 * number, 80
        pixels[y - 6 : y + 6, x - 6 : x + 6] = (60, 40, 120)
    Image.fromarray(pixels).save(path)
    return path


def findings_of(path: Path, cells: int = 5) -> Findings:
    """Findings of a picture, its cells in a row."""
    made = make_findings(cells, path.stem, path.name)
    placed = tuple(
        dataclasses.replace(cell, box=Box.around(50 + 60 * number, 80, 40)) for number, cell in enumerate(made.cells)
    )
    facts = dataclasses.replace(
        made.slide, width=SIZE[0], height=SIZE[1], mpp=MPP, fingerprint=fingerprint(path), levels=()
    )
    return dataclasses.replace(made, slide=facts, cells=placed)


@contextmanager
def full_disk(store: AnnotationStore, slide_id: str, cell_id: str) -> Iterator[None]:
    """SQLite finds no room for another action, as on a disk that is full; what room was left, ``x`` has filled."""
    connection = store._opened.connection
    connection.execute(f"PRAGMA max_page_count = {connection.execute('PRAGMA page_count').fetchone()[0]}")
    try:
        words, call = None, None
        with suppress(OutputError):
            while True:
                said = {"chosen": [], "typed": ("y" if words else "x") * (1500 + len(str(words)) % 2)}
                words = store.append(Action("x", slide_id, Kind.DESCRIPTIONS, cell_id, words, said)).after
        with suppress(OutputError):
            while True:
                call = store.append(
                    Action("x", slide_id, Kind.CALL, None, call, "AGC" if call == "SCC" else "SCC")
                ).after
        yield
    finally:
        connection.execute("PRAGMA max_page_count = 1000000")


def label(store: AnnotationStore, who: str, slide_id: str, cell_id: str, after: str, seconds: float = 2.0) -> Action:
    """A reader's label of a cell, whatever it was before."""
    read = store.state(slide_id).cells[cell_id].reads.get(who)
    before = read.label if read else None
    return store.append(Action(who, slide_id, Kind.LABEL, cell_id, before, after, seconds=seconds))


def reviewed(folder: Path) -> tuple[AnnotationStore, list[SlideRecord], list[str]]:
    """Two slides: ``切片 1`` with five proposed cells, all kinds of reads, a drawn cell, a region; ``plain`` is NILM.

    Returns:
        The store, where the slides are, and the ids of the proposed cells of the first slide.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [picture(folder / name) for name in ("切片 1.png", "plain.png")]
    store = AnnotationStore(folder)
    ids = [cell.cell_id for cell in store.propose(findings_of(paths[0]))]
    store.propose(findings_of(paths[1], 2))
    first, second = (path.stem for path in paths)
    for who, cell, what in (
        *(("ana", ids[0], "HSIL"), ("bo", ids[0], "ASC-H"), ("ana", ids[1], "not_a_lesion")),
        *(("ana", ids[2], "LSIL"), ("bo", ids[2], "ASC-US"), ("ana", ids[3], "cannot_tell")),
    ):
        label(store, who, first, cell, what)
    words = {"chosen": ["high nuclear-cytoplasmic ratio"], "typed": "核大 | dark"}
    store.append(Action("ana", first, Kind.DESCRIPTIONS, ids[0], None, words, seconds=4.0))
    uuid = new_uuid()
    store.append(Action("bo", first, Kind.BOX_ADDED, added_cell_id(uuid), None, ADDED, uuid))
    label(store, "bo", first, added_cell_id(uuid), "AGC")
    store.append(Action("ana", first, Kind.REGION, "r1", None, REGION))
    store.append(Action("ana", second, Kind.CALL, after="NILM"))
    slides = [
        SlideRecord(first, paths[0], MPP, patient="p1", split="train"),
        SlideRecord(second, paths[1], MPP, patient="p2", split="train"),
    ]
    return store, slides, ids
