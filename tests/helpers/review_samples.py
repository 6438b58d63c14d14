"""Slides, findings and servers for tests of the review page."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from findings_samples import make_findings
from slide_files import Scene, write_pyramid

from stride_monai.bethesda import CELL_CLASSES, DESCRIPTIONS_BY_CLASS
from stride_monai.findings import Cell, Description, Findings, LevelFacts, SlideFacts
from stride_monai.run_index import RUN_NAME, Outcome
from stride_monai.slides.parts import slide_fingerprint
from stride_monai.units import Box

SIDE_UM = 1400.0


def write_slide(path: Path, seed: int = 1, cells: int = 12) -> list[Box]:
    """A small painted slide at 0.5 um/px with suspicious cells; their boxes."""
    scene = Scene(SIDE_UM, SIDE_UM, mpp=1.0, seed=seed)
    scene.deposit(SIDE_UM / 2, SIDE_UM / 2, SIDE_UM * 0.46, 240)
    rng = np.random.default_rng(seed)
    boxes = []
    for number in range(cells):
        angle, radius = 2 * np.pi * number / cells, 180 + 300 * rng.uniform()
        x, y = SIDE_UM / 2 + radius * np.cos(angle), SIDE_UM / 2 + radius * np.sin(angle)
        scene.small_dark_cell(x, y)
        boxes.append(Box(*(round(v) for v in (x - 14, y - 14, x + 14, y + 14))))
    scene.write(path, downsamples=(1, 4))
    return boxes


def findings_of(path: Path, boxes: list[Box], side: int = int(SIDE_UM), mpp: float = 1.0) -> Findings:
    """What a model might say of these boxes: classes in turn, scores that fall."""
    facts = SlideFacts(
        slide_id=path.stem,
        file_name=path.name,
        width=side,
        height=side,
        mpp=mpp,
        mpp_source="metadata",
        mpp_in_file=mpp,
        objective=20.0,
        reader="openslide",
        format="generic-tiff",
        levels=(LevelFacts(side, side, 1.0),),
        fingerprint=slide_fingerprint(path),
    )
    cells = tuple(_cell(rank, box, len(boxes)) for rank, box in enumerate(boxes, 1))
    made = make_findings(cells=0, slide=facts)
    shares = (0.06, 0.04, 0.08, 0.11, 0.69, 0.02)
    return replace(made, cells=cells, slide_probabilities=shares, slide_class="HSIL", score=0.94, call="positive")


def _cell(rank: int, box: Box, count: int) -> Cell:
    index = (rank + 2) % len(CELL_CLASSES)
    name = CELL_CLASSES[index]
    shares = tuple(0.8 if k == index else 0.05 for k in range(len(CELL_CLASSES)))
    words = tuple(Description.of(name, text, 0.7) for text in DESCRIPTIONS_BY_CLASS[name][: rank % 3])
    return Cell(rank, 1 - rank / (2 * count), box, name, shares, 1 / count, words)


def write_study(folder: Path, names: tuple[str, ...] = ("slide one", "切片 二"), cells: int = 12) -> tuple[Path, Path]:
    """``results`` and ``slides`` of a few screened slides."""
    results, slides = folder / "results", folder / "slides"
    slides.mkdir(parents=True)
    done = []
    for seed, name in enumerate(names, 1):
        path = slides / f"{name}.tiff"
        findings = findings_of(path, write_slide(path, seed, cells))
        write_findings(results, findings)
        done.append(asdict(Outcome.of(findings, path=path)))
    (results / RUN_NAME).write_text(json.dumps({"slides": done}), encoding="utf-8")
    return results, slides


def write_phantom_study(folder: Path, slide_id: str) -> tuple[Path, Path]:
    """``results`` and ``slides`` of a field of a phantom, 520 x 420 um, with twelve lesion cells as the model's."""
    from stride_monai.phantom import render_field

    pixels, truth = render_field(520, 420, mpp=0.25, lesions={"HSIL": 6, "LSIL": 4, "ASC-US": 2}, seed=3)
    results, slides = folder / "results", folder / "slides"
    slides.mkdir(parents=True)
    path = write_pyramid(slides / f"{slide_id}.tiff", pixels)
    boxes = [cell.box for cell in truth.cells if cell.label != "NILM"]
    findings = findings_of(path, boxes, mpp=0.25)
    size = {"height": pixels.shape[0], "width": pixels.shape[1]}
    write_findings(results, replace(findings, slide=replace(findings.slide, **size)))
    return results, slides


def write_findings(results: Path, findings: Findings) -> None:
    """As `stride-monai screen` leaves them."""
    folder = results / findings.slide.slide_id
    folder.mkdir(parents=True)
    (folder / "findings.json").write_text(findings.to_json(), encoding="utf-8")


@contextlib.contextmanager
def running(app: Any) -> Iterator[str]:
    """The app on a real port of this machine; the address."""
    import uvicorn

    from stride_monai.review.serve import free_socket

    listening = free_socket("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="on"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        until = time.monotonic() + 30
        while not server.started:
            assert thread.is_alive(), "the server ended"
            assert time.monotonic() < until, "the server did not start"
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
