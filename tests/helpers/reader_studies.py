"""Small reader studies, and a trial's record with the faults of text that a machine has read; all of it made up."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from stride_monai.bethesda import LABELS

READS = ("reader", "case", "arm", "stage", "diagnosis", "seconds")
HEADING = (
    "sample\t\tFirst-stage\tSecond-\tALonly\tGold standard expert panel\t\t\t\n"
    "number\tGroup\treview\tstage review\tresult\tGold standard\tPathologist 1\tPathologist 2\tarbitration\n"
)
# Cyrillic and Greek letters stand where they do in such texts: in the column of the group.
FAULTY = (
    "text before the table\n\n"
    + HEADING
    + "07001\tВ\tASC-US\tNILM\tpositive\tNILM\tNILM\tASC-US\tNILM\n"  # a Cyrillic letter
    + "07002\tA\tLSIL\tLSIL\tpositive\tASC-H+LSIL\tASC-H\tASC-H+LSIL\tASC-H+LSIL\n"  # composite
    + "07003\tĀ\tNILM\tHSIL\tpositive\tHSIL\tASC-US\tLSIL\tHSIL\n"  # an accent; the arbitration is neither expert's
    + "07004\tв\tNILM\tNILM\tNILM\tASC-US\tASC-US\tASC-US\tLOIL\n"  # a small one; an arbitration that nobody needs
    + "07005 07006\tВ A\tLSIL ASC-US\tLSIL LSIL\tpositive\tLSIL\tLSIL\tLSIL\t\n"  # two rows in one
    + "07007\tA A\tLSIL\tLSIL\tpositivo\tLSIL\tNILM\tLSIL\tLSIL\n"
    + "07/08\tB\tHSIL\tASC-H\tpositive\tHSIL\tHSII\tASC-H\tHSIL\n"  # misread letters
    + "07009\tД\tHSIL\tHSIL\tpositive\tHSIL\tHSIL\tHSIL\t\n"  # a letter that looks like no other
    + "07010\tA\tLSIL\tLSIL\tpositive\tLSIL\tLSIL\t\n"  # a cell less
    + "07011\tA\t\tLSIL\tpositive\tLSIL\tLSIL\tLSIL\t\n"  # nothing where something must be
    + "07001\tA\tLSIL\tLSIL\tpositive\tLSIL\tLSIL\tLSIL\t\n"  # a sample twice
    + "07012\tА\tNILM\tNILM\tpositive\tLSIL\tLSIL\tASC-US\t\n"  # no arbitration of a disagreement
    + "07013\tΑ\tNILM\tNILM\tNILM\tNILM\tNILM\tASC-US\tNILM\n"
    + "\nA line after the table.\n"
)


def table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        writer.writerows(rows)
    return path


def crossed(folder: Path, readers: int = 4, cases: int = 40, seed: int = 1) -> tuple[Path, Path]:
    """``reads.csv`` and ``truth.csv``: every reader reads every case without help, then with help and better."""
    rng = np.random.default_rng(seed)
    truth = [int(rank) for rank in rng.choice([0, 1, 2, 3, 5], cases, p=[0.5, 0.2, 0.1, 0.1, 0.1])]
    rows = []
    for reader in range(readers):
        for stage, (arm, wrong) in enumerate((("unaided", 0.35), ("aided", 0.15)), start=1):
            for case, rank in enumerate(truth):
                said = int(np.clip(rank + rng.integers(-2, 3), 0, 6)) if rng.random() < wrong else rank
                seconds = round(float(np.exp(rng.normal(4.2 - 0.4 * stage, 0.4))), 1)
                rows.append([f"Dr {reader + 1}", f"c{case}", arm, stage, LABELS[said], seconds])
    labels = [
        [f"c{case}", LABELS[rank], LABELS[rank], LABELS[max(rank - case % 2, 0)]] for case, rank in enumerate(truth)
    ]
    return (
        table(folder / "reads.csv", READS, rows),
        table(folder / "truth.csv", ("case", "label", "Expert 1", "pathologist_2"), labels),
    )
