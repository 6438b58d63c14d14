"""Seconds and memory of `stride-monai evaluate` on the slides of a screening programme, bootstrap included.

    python benchmarks/evaluation_speed.py --work benchmarks/work [--slides 300000] [--replicates 1000]

The predictions are drawn: 105 centres, some patients with several slides, shares of the classes as in the paper. The
command runs in a process of its own, whose peak memory and time on the processors the system tells; 300,000 slides are
meant to take under 60 s and 2 GiB. Then each statistic alone, median of `--rounds`. All of it takes three to four
minutes of an idle core; the load stands in the record.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from record import Record, make_parser
from scipy.special import softmax

from stride_monai.bethesda import NEGATIVE, SLIDE_CLASSES
from stride_monai.data.tables import table_text
from stride_monai.evaluation.statistics import (
    CallStatistics,
    RankStatistics,
    at_sensitivities,
    auc_interval,
    bootstrap,
    calibration_of,
    compare_auc,
    exclusion_curve,
    forest,
    joined,
    rates_by,
    roc_band,
)

SHARES = (0.7875, 0.1107, 0.0486, 0.0251, 0.0199, 0.0082)  # METHOD: of the slides of the paper, by class
CENTRES = 105
SECONDS, GIB = 60, 2


def cohort(slides: int) -> tuple[np.ndarray, np.ndarray, list[str], list[str]]:
    """Class indices ``[N]``, probabilities ``[N, C]``, centres and patients."""
    random = np.random.default_rng(0)
    label = random.choice(len(SLIDE_CLASSES), slides, p=np.array(SHARES) / sum(SHARES))
    logits = random.normal(size=(slides, len(SLIDE_CLASSES))) + 2.0 * np.eye(len(SLIDE_CLASSES))[label]
    centres = [f"centre {k:03d}" for k in random.integers(0, CENTRES, slides)]
    patients = [f"P{k:07d}" for k in random.integers(0, slides * 2, slides)]
    return label, softmax(logits, axis=1), centres, patients


def written(folder: Path, label: np.ndarray, probabilities: np.ndarray, *columns: list[str]) -> tuple[Path, Path]:
    """The predictions and the truth as tables."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"S{k:07d}" for k in range(len(label))]
    rounded = probabilities.round(9).tolist()
    scores = probabilities[:, 1:].sum(axis=1).round(9).tolist()
    said = [[name, score, *row] for name, score, row in zip(names, scores, rounded, strict=True)]
    truth = [[name, SLIDE_CLASSES[k], *rest] for name, k, *rest in zip(names, label, *columns, strict=True)]
    files = folder / "predictions.csv", folder / "truth.csv"
    files[0].write_bytes(table_text(["slide_id", "score", *(f"p_{name}" for name in SLIDE_CLASSES)], said))
    files[1].write_bytes(table_text(["slide_id", "label", "centre", "patient"], truth))
    return files


def run(words: list[str]) -> tuple[float, float, float]:
    """Seconds, seconds on processors, and peak memory, GiB, of a command."""
    start = time.perf_counter()
    child = os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, "-m", "stride_monai", *words])
    _, status, used = os.wait4(child, 0)
    if status:
        raise SystemExit(f"stride-monai {' '.join(words)} ended with {os.waitstatus_to_exitcode(status)}")
    scale = 2**30 if sys.platform == "darwin" else 2**20  # bytes there, KiB elsewhere
    return time.perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss / scale


def statistics(
    label: np.ndarray, probabilities: np.ndarray, centres: list[str], patients: list[str], replicates: int
) -> dict[str, Callable[[], object]]:
    scores, positive = probabilities[:, 1:].sum(axis=1), label != SLIDE_CLASSES.index(NEGATIVE)
    called, labels = scores >= 0.5, [SLIDE_CLASSES[k] for k in label]
    other = probabilities[:, 2:].sum(axis=1)
    figures = joined(RankStatistics(scores, positive, (0.9, 0.95, 0.98)), CallStatistics(called, positive))

    def centres_apart() -> object:
        counts = rates_by(centres, called, positive)
        return forest({name: (one.tp, one.tp + one.fn) for name, one in counts.items()})

    return {
        "AUC, DeLong": lambda: auc_interval(scores, positive),
        "two systems, paired DeLong": lambda: compare_auc(scores, other, positive),
        "ROC with band": lambda: roc_band(scores, positive),
        "specificity at three sensitivities": lambda: at_sensitivities(scores, positive),
        "calibration": lambda: calibration_of(scores, positive),
        "safe exclusion curve": lambda: exclusion_curve(scores, labels),
        f"rates and forest of {CENTRES} centres": centres_apart,
        f"bootstrap by patient, {replicates} resamples": lambda: bootstrap(figures, len(label), patients, replicates),
        f"bootstrap by centre, {replicates} resamples": lambda: bootstrap(figures, len(label), centres, replicates),
    }


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--work", type=Path, default=Path("benchmarks/work"))
    parser.add_argument("--slides", type=int, default=300_000)
    parser.add_argument("--replicates", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    made = cohort(asked.slides)
    folder = asked.work / "evaluation_speed"
    predictions, truth = written(folder, *made)
    figures = Record("evaluation_speed", "Evaluating a screening programme")
    table = figures.table(
        "", "seconds", "CPU seconds", "peak GiB", caption=f"{asked.slides:,} slides, {CENTRES} centres."
    )
    words = ["evaluate", str(predictions), "--truth", str(truth), "--out", str(folder / "out")]
    seconds, busy, memory = run([*words, "--threshold", "0.5", "--replicates", str(asked.replicates)])
    table.row("stride-monai evaluate, all of it", f"{seconds:.1f}", f"{busy:.1f}", f"{memory:.2f}")
    if asked.slides >= 300_000:
        kept = seconds < SECONDS and memory < GIB
        figures.say(f"Meant to be under {SECONDS} s and {GIB} GiB: {'it is' if kept else 'it is NOT'}.")
    caption = "The same slides, in one process."
    alone = figures.table("statistic alone", f"seconds (median of {asked.rounds})", caption=caption)
    for name, call in statistics(*made, asked.replicates).items():
        times = []
        for _ in range(asked.rounds):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
        alone.row(name, f"{np.median(times):.2f}")
    figures.write([0])


if __name__ == "__main__":
    main()
