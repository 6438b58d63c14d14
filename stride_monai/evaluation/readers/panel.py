"""What can be said of the panel that gave the labels: how often it agreed, and what the arbitration did."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from stride_monai.bethesda import LABELS
from stride_monai.evaluation.readers.by_reader import kappa_interval
from stride_monai.evaluation.readers.reads import PanelCase
from stride_monai.evaluation.statistics.intervals import LEVEL

__all__ = ["panel_summary"]


def panel_summary(cases: Sequence[PanelCase], level: float = LEVEL) -> dict[str, Any]:
    """Counts of the panel's cases, and the agreement of its members.

    ``kappa`` is the mean over pairs of experts of the weighted kappa (quadratic) of their labels; with one pair, which
    is the usual panel, it has an interval.
    """
    by_label = Counter(str(case.label) for case in cases)
    read = [case for case in cases if sum(expert is not None for expert in case.experts) >= 2]
    apart = [case for case in read if len({e for e in case.experts if e is not None}) > 1]
    pairs = [
        kappa for pair in itertools.combinations(range(_members(cases)), 2) if (kappa := _kappa(cases, *pair, level))
    ]
    known = [pair.estimate for pair in pairs if math.isfinite(pair.estimate)]
    arbitrated = [case for case in cases if case.arbitration is not None]
    return {
        "cases": len(cases),
        "labels": dict(by_label.most_common()),
        "composite": sum(len(case.label.labels) > 1 for case in cases),
        "experts": _members(cases),
        "read_by_two_or_more": len(read),
        "experts_disagree": len(apart),
        "arbitrated": len(arbitrated),
        "disagree_without_arbitration": sum(case.arbitration is None for case in apart),
        "arbitrated_though_agreed": sum(case.arbitration is not None for case in read if case not in apart),
        "label_is_no_experts": sum(case.label not in case.experts for case in read),
        "label_is_not_the_arbitration": sum(case.label != case.arbitration for case in arbitrated),
        "kappa": {
            "estimate": float(np.mean(known)) if known else math.nan,
            "interval": pairs[0] if len(pairs) == 1 else None,
        },
    }


def _members(cases: Sequence[PanelCase]) -> int:
    return max((len(case.experts) for case in cases), default=0)


def _kappa(cases: Sequence[PanelCase], first: int, second: int, level: float) -> Any:
    """Of two experts; None where they have not both given classes to a case."""
    ranks = []
    for case in cases:
        one, other = (case.experts[k] if k < len(case.experts) else None for k in (first, second))
        if one is not None and other is not None and one.severity is not None and other.severity is not None:
            ranks.append((one.severity, other.severity))
    if not ranks:
        return None
    said, held = np.array(ranks, np.int64).T
    return kappa_interval(said, held, len(LABELS), "quadratic", level)
