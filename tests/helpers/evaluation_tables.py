"""Made-up predictions and truth tables for tests of evaluation."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stride_monai.bethesda import SLIDE_CLASSES

Rows = list[dict[str, Any]]


def made_up(slides: int = 120, seed: int = 0, first: int = 0) -> tuple[Rows, Rows]:
    """Rows of predictions and of a truth table; every fourth slide is positive, two slides a patient, four centres.

    The system is good at its work and calls slides positive from a score of 0.5 on.
    """
    draw = np.random.default_rng(seed)
    said, true = [], []
    for k in range(first, first + slides):
        label = 0 if k % 4 else 1 + (k // 4) % 5
        logit = draw.normal(0, 0.8, len(SLIDE_CLASSES))
        logit[0] += 1
        logit[label] += 2.5
        p = np.exp(logit) / np.exp(logit).sum()
        score = float(p[1:].sum())
        slide_id, call = f"s{k:03d}", "positive" if score >= 0.5 else "negative"
        by_class = {f"p_{name}": round(float(value), 6) for name, value in zip(SLIDE_CLASSES, p, strict=True)}
        said.append({"slide_id": slide_id, "score": round(score, 6), "call": call, **by_class})
        known = {
            "patient": f"p{k // 2}",
            "centre": "ABCD"[k % 4 if k % 3 else 0],
            "HPV": "+-"[k % 2],
            "age": 20 + k % 50,
        }
        true.append({"slide_id": slide_id, "label": SLIDE_CLASSES[label], **known})
    return said, true


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]], columns: Sequence[str] = ()) -> Path:
    """Rows as CSV; ``columns`` of them, or all."""
    rows = list(rows)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(columns or rows[0]), extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return path
