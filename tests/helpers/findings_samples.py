"""Made-up findings and pictures for tests."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

from stride_monai.bethesda import CELL_CLASSES, DESCRIPTION_VOCABULARY, DESCRIPTIONS_BY_CLASS
from stride_monai.findings import (
    Cell,
    Described,
    Description,
    Findings,
    LevelFacts,
    OperatingPoint,
    Pictures,
    Provenance,
    Quality,
    SlideFacts,
    SlideStatus,
)
from stride_monai.units import Box


def make_findings(cells: int = 40, slide_id: str = "sample", file_name: str = "sample.svs", **changes: Any) -> Findings:
    """Findings of an 8,000 x 6,000 px slide; without cells there is nothing to decide from."""
    some = cells > 0
    known: dict[str, Any] = {
        "status": SlideStatus.OK,
        "reason": "",
        "slide": SlideFacts(
            slide_id=slide_id,
            file_name=file_name,
            width=8000,
            height=6000,
            mpp=0.25,
            mpp_source="given",
            mpp_in_file=0.499,
            objective=40.0,
            reader="openslide",
            format="aperio",
            levels=(LevelFacts(8000, 6000, 1.0), LevelFacts(2000, 1500, 4.0)),
        ),
        "quality": Quality(3.1, 6789, 210.5, 0.012, 77, 2, True, ("2 regions were not examined.",)),
        "slide_probabilities": (0.06, 0.04, 0.08, 0.11, 0.69, 0.02) if some else None,
        "slide_class": "HSIL" if some else None,
        "score": 0.94 if some else None,
        "call": "positive" if some else None,
        "operating_point": OperatingPoint(0.412, 64, "specificity at sensitivity 0.95, 40 synthetic validation slides"),
        "cells": tuple(_cell(rank) for rank in range(1, cells + 1)),
        "provenance": Provenance(
            package_version="0.1.0",
            config_hash="9f2c1e0b77aa4410",
            weights={"detection": "a3" * 32, "swift_mil": "0c" * 32},
            requested={"device": "auto", "mpp": 0.25, "profile": None},
            used={"device": "cpu", "mpp": 0.25, "profile": "tiny", "top_k": 256},
            weights_note="trained on synthetic slides",
        ),
        "described": Described(True, "default where text_align has weights", 0.31),
    }
    return Findings(**{**known, **changes})


def _cell(rank: int) -> Cell:
    index = rank % len(CELL_CLASSES)
    probabilities = tuple(0.8 if k == index else 0.05 for k in range(len(CELL_CLASSES)))
    x, y = 37.25 * rank, 19.5 * rank
    name = CELL_CLASSES[index]
    return Cell(
        rank=rank,
        score=1 - rank / 1000,
        box=Box(x, y, x + 80, y + 60),
        cell_class=name,
        probabilities=probabilities,
        attention=1 / (rank + 7),
        descriptions=_words(rank, name),
        cam=1 / rank,
        rerank_score=None if rank % 2 else 1 - rank / 2000,
    )


def _words(rank: int, name: str) -> tuple[Description, ...]:
    """None for every third cell; every seventh has a text that contradicts its class."""
    texts = list(DESCRIPTIONS_BY_CLASS[name][: rank % 3])
    if rank % 7 == 0:
        texts.insert(0, next(text for text in DESCRIPTION_VOCABULARY if text not in DESCRIPTIONS_BY_CLASS[name]))
    return tuple(Description.of(name, text, 0.9 - place / 8) for place, text in enumerate(texts))


def make_jpeg(width: int, height: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((height, width, 3), 200, np.uint8)).save(stream, "JPEG")
    return stream.getvalue()


def make_pictures(findings: Findings) -> Pictures:
    """An overview and crops of 128 px at 0.5 um/px of the first 32 cells."""
    crop = make_jpeg(128, 128)
    return Pictures(make_jpeg(400, 300), 20.0, 0.5, {cell.rank: crop for cell in findings.cells[:32]})
