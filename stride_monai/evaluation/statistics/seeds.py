"""Several trainings that differ by their seed: mean and standard deviation of each figure (METHOD section 8)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import t

from stride_monai.evaluation.reports import plain
from stride_monai.evaluation.statistics.intervals import LEVEL, Interval

__all__ = ["SeedSummary", "seed_summary"]


class SeedSummary(NamedTuple):
    """One figure over seeds.

    Attributes:
        number: of seeds.
        mean: with Student's interval over seeds; it tells of the chance in training alone, not of that in the slides.
        sd: sample standard deviation (n - 1), NaN for one seed. lowest, highest: of the values.
    """

    number: int
    mean: Interval
    sd: float
    lowest: float
    highest: float

    def text(self, digits: int = 3) -> str:
        """``0.950 +- 0.003 (n = 3)``."""
        spread = f" +- {self.sd:.{digits}f}" if math.isfinite(self.sd) else ""
        return f"{self.mean.estimate:.{digits}f}{spread} (n = {self.number})"

    def as_json(self) -> dict[str, Any]:
        """For a report; what is not defined is None."""
        spread = {name: plain(getattr(self, name)) for name in ("sd", "lowest", "highest")}
        return {"number": self.number, "mean": self.mean.as_json(), **spread}


def seed_summary(runs: Sequence[Mapping[str, float]], level: float = LEVEL) -> dict[str, SeedSummary]:
    """Mean and standard deviation over runs of every figure that all runs have, in the order of the first.

    Args:
        runs: figures by name, one mapping a seed. A figure that is NaN in one run is NaN in the summary.

    Raises:
        ValueError: there is no run, or the runs have other figures.
    """
    if not runs or any(set(run) != set(runs[0]) for run in runs):
        raise ValueError("expected one or more runs with the same figures")
    found = {}
    for name in runs[0]:
        values = np.array([run[name] for run in runs], np.float64)
        n, sd = len(values), float(values.std(ddof=1)) if len(values) > 1 else math.nan
        half = float(t.ppf((1 + level) / 2, n - 1)) * sd / math.sqrt(n) if n > 1 else math.nan
        middle = float(values.mean())
        interval = Interval(middle, middle - half, middle + half, level, f"t with {n - 1} degrees, over seeds")
        found[name] = SeedSummary(n, interval, sd, float(values.min()), float(values.max()))
    return found
