"""What has to stay float32 for screening in int8 to find and decide as well: recall and AUC of each way to quantize.

    python benchmarks/int8_variants.py [--work benchmarks/work/int8] [--detector fcos yolo] [--only "plain" "last 1"]

Which layers of the detector stay float32, how ranges are found, and on how many tiles. The package's own settings,
`last 1`, were chosen by this, on slides that int8.py does not judge by. That the cell encoder stays float32 was decided
by it as well, while it could be quantized, too: RESULTS has those rows.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from int8 import DETECTORS, LESIONS, MIN_CELLS, cohort
from record import Record, make_parser

from stride_monai.bethesda import slide_class_of
from stride_monai.data.cells import CellRecord, read_cells
from stride_monai.data.manifest import SlideRecord, read_manifest
from stride_monai.evaluation.found_cells import FoundCells
from stride_monai.evaluation.precision import lesions_found
from stride_monai.findings import Findings
from stride_monai.metrics.slide import auc
from stride_monai.runtimes import int8, last_operations
from stride_monai.screening import calibration
from stride_monai.screening.config import ScreeningConfig
from stride_monai.screening.inputs import SlideInput
from stride_monai.screening.screener import Screener

TRIED = ("NILM",) * 10 + LESIONS + ("ASC-H", "AGC")
SEED = 1801

Settings = Mapping[str, Any]


def variants() -> dict[str, Settings]:
    """By name: ``last``, convolutions before the output that stay float32; ``first``, that of the input too;
    ``tiles``, how many; the rest goes to ``nncf.quantize``."""
    nncf = int8.imported_nncf()
    from nncf.quantization.advanced_parameters import AdvancedSmoothQuantParameters
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    more = nncf.AdvancedQuantizationParameters
    smooth = AdvancedSmoothQuantParameters(matmul=0.5, convolution=0.5)
    wide = RangeEstimatorParametersSet.MINMAX
    return {
        "plain": {"last": None},
        "last 0": {"last": 0},
        "last 1": {},
        "last 2": {"last": 2},
        "last 1 and the first": {"first": True},
        "last 1, asymmetric": {"preset": nncf.QuantizationPreset.MIXED},
        "last 1, SmoothQuant": {"advanced_parameters": more(smooth_quant_alphas=smooth)},
        "last 1, channels aligned": {"advanced_parameters": more(disable_channel_alignment=False)},
        "last 1, largest range": {"advanced_parameters": more(activations_range_estimator_params=wide)},
        "last 1, no bias correction": {"advanced_parameters": more(disable_bias_correction=True)},
        "last 1, slow bias correction": {"fast_bias_correction": False},
        "last 1, 24 tiles": {"tiles": 24},
        "last 1, 96 tiles": {"tiles": 96},
    }


@contextmanager
def patched(settings: Settings) -> Iterator[None]:
    """The package quantizes so within the block."""
    nncf = int8.imported_nncf()

    last, tiles = (settings.get(name, default) for name, default in (("last", 1), ("tiles", 0)))
    named = {name: value for name, value in settings.items() if name not in {"last", "first", "tiles"}}

    def kept(model: Any, _: int) -> list[str]:
        found = [] if last is None else last_operations(model, last)
        if settings.get("first"):
            names = (one.get_friendly_name() for one in model.get_ordered_ops() if one.get_type_name() == "Convolution")
            found.append(next(names))
        return found

    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(int8, "last_operations", kept))
        stack.enter_context(mock.patch.object(nncf, "quantize", partial(nncf.quantize, **named)))
        if tiles:
            stack.enter_context(mock.patch.object(calibration, "TILES", tiles))
        yield


def screened(config: ScreeningConfig, slides: Sequence[SlideRecord]) -> tuple[list[Findings], float]:
    """Findings, and seconds of the networks: detection and features of cells."""
    screener, found, seconds = Screener(config), [], 0.0
    for record in slides:
        one = screener.screen(SlideInput(record.path, record.slide_id, record.mpp))
        found.append(one.findings)
        seconds += one.seconds["detect"] + one.seconds["classify"]
    return found, seconds


def against_truth(
    found: Sequence[Findings], slides: Sequence[SlideRecord], cells: Sequence[CellRecord]
) -> tuple[float, float, np.ndarray]:
    """Recall of lesion cells, AUC, and the scores."""
    pairs = [
        FoundCells(
            record.slide_id,
            slide_class_of(record.slide_class),
            findings,
            [cell for cell in cells if cell.slide_id == record.slide_id],
        )
        for record, findings in zip(slides, found, strict=True)
    ]
    lesions = sum(len(pair.lesions) for pair in pairs)
    scores = np.array([findings.score or 0.0 for findings in found])
    positive = np.array([record.slide_class != "NILM" for record in slides])
    return len(lesions_found(pairs)) / lesions, auc(scores, positive), scores


def tried(figures: Record, work: Path, detector: str, only: Sequence[str]) -> None:
    folder = cohort(work, "lab", TRIED, SEED)
    records = read_manifest(folder / "manifest.csv")
    learning, judging = calibration.apart([SlideInput(one.path, one.slide_id, one.mpp) for one in records])
    ids = {item.slide_id for item in judging}
    slides, cells = [one for one in records if one.slide_id in ids], read_cells(folder / "cells.csv")
    config = ScreeningConfig(runtime="openvino", device="cpu", detector=detector, quality={"min_cells": MIN_CELLS})
    plain, seconds = screened(config, slides)
    recall, area, scores = against_truth(plain, slides, cells)
    columns = ("in int8", "recall of lesion cells", "AUC", "score changes by", "networks, times float32's speed")
    table = figures.table(*columns, "seconds to quantize", caption=f"{detector}, {len(slides)} slides, chosen on these")
    table.row("nothing", f"{recall:.4f}", f"{area:.4f}", "", "1", "")
    for name, settings in variants().items():
        if only and name not in only:
            continue
        home = work / f"variants-{detector}" / name.replace(" ", "-").replace(",", "")
        start = time.perf_counter()
        with patched(settings):
            calibration.quantize(replace(config, runtime="torch"), learning, home / "networks")
        spent = time.perf_counter() - start
        fast = replace(config, precision="int8", int8_networks=home)
        found, networks = screened(fast, slides)
        recall, area, others = against_truth(found, slides, cells)
        change = np.abs(others - scores)
        table.row(
            name,
            f"{recall:.4f}",
            f"{area:.4f}",
            f"{change.mean():.4f}, at most {change.max():.4f}",
            f"{seconds / networks:.2f}",
            f"{spent:.0f}",
        )


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--work", type=Path, default=Path("benchmarks/work/int8"))
    parser.add_argument("--detector", nargs="+", choices=DETECTORS, default=DETECTORS)
    parser.add_argument("--only", nargs="+", default=[], help="these ways")
    arguments = parser.parse_args()
    figures = Record("int8_variants", "Ways to int8: what stays float32")
    for detector in arguments.detector:
        tried(figures, arguments.work.absolute(), detector, arguments.only)
    figures.write([SEED])


if __name__ == "__main__":
    main()
