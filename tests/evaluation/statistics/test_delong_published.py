"""DeLong's areas, errors and paired test against two published worked examples, whose data stand here in full."""

from __future__ import annotations

import re

import numpy as np
import pytest
from scipy.stats import chi2

from stride_monai.evaluation.statistics import auc_interval, compare_auc, delong

# Ovarian cancer: albumin, total protein, K-G score, and whether surgery helped. The example of DeLong, DeLong and
# Clarke-Pearson (Biometrics 1988;44:837-45) as SAS/STAT's User's Guide has it, "Comparing Receiver Operating
# Characteristic Curves" of PROC LOGISTIC. The data were read there; what it prints was written down from memory and
# has still to be held against the page:
# https://support.sas.com/documentation/cdl/en/statug/68162/HTML/default/statug_logistic_examples08.htm
OVARIAN = """
3.0 5.8 10 0   3.2 6.3  5 1   3.9 6.8  3 1   2.8 4.8  6 0   3.2 5.8  3 1   0.9 4.0  5 0   2.5 5.7  8 0   1.6 5.6  5 1
3.8 5.7  5 1   3.7 6.7  6 1   3.2 5.4  4 1   3.8 6.6  6 1   4.1 6.6  5 1   3.6 5.7  5 1   4.3 7.0  4 1   3.6 6.7  4 0
2.3 4.4  6 1   4.2 7.6  4 0   4.0 6.6  6 0   3.5 5.8  6 1   3.8 6.8  7 1   3.0 4.7  8 0   4.5 7.4  5 1   3.7 7.4  5 1
3.1 6.6  6 1   4.1 8.2  6 1   4.3 7.0  5 1   4.3 6.5  4 1   3.2 5.1  5 1   2.6 4.7  6 1   3.3 6.8  6 0   1.7 4.0  7 0
3.7 6.1  5 1   3.3 6.3  7 1   4.2 7.7  6 1   3.5 6.2  5 1   2.9 5.7  9 0   2.1 4.8  7 1   2.8 6.2  8 0   4.0 7.0  7 1
3.3 5.7  6 1   3.7 6.9  5 1   3.6 6.6  5 1
"""

# Subarachnoid haemorrhage, NDKA of 41 patients with a poor outcome (+) and 72 with a good one (-) by rising value,
# equal values in brackets: the ROC curve of the data set aSAH that the R package pROC (Robin et al., BMC
# Bioinformatics 2011;12:77) is tested with (tests/testthat/helper-roc-expected.R, test-ci.auc.R).
NDKA = (
    "-+--+++---------+------++--+-(--)-+(-+)----+--+------+++-+--+-----+-(-+)--+--++-++--(-+)++---+----++++--+---"
    "++++--+-+-+-+"
)


def ovarian() -> tuple[np.ndarray, np.ndarray]:
    """Scores ``[3, 43]`` (albumin, total protein, K-G score turned round as SAS does), and the truth."""
    rows = np.array(OVARIAN.split(), float).reshape(-1, 4)
    return np.stack([rows[:, 0], rows[:, 1], 10 - rows[:, 2]]), rows[:, 3] == 1


@pytest.mark.parametrize(
    ("test", "area", "error", "low", "high"),
    [(0, 0.7366, 0.0927, 0.5549, 0.9182), (1, 0.6478, 0.1000, 0.4518, 0.8439), (2, 0.7258, 0.1028, 0.5243, 0.9273)],
)
def test_areas_of_the_paper_s_own_data(test: int, area: float, error: float, low: float, high: float) -> None:
    scores, positive = ovarian()
    found = auc_interval(scores[test], positive, scale="plain")
    assert (found.estimate, found.low, found.high) == pytest.approx((area, low, high), abs=5.1e-5)
    assert float(delong(scores, positive).covariance[test, test]) ** 0.5 == pytest.approx(error, abs=5.1e-5)


def test_the_three_areas_of_the_paper_s_own_data_together() -> None:
    """The chi-squared test of both differences, from the areas' covariance."""
    found = delong(*ovarian())
    contrast = np.array([[1, 0, -1], [0, 1, -1]])
    apart = contrast @ found.auc
    spread = contrast @ found.covariance @ contrast.T
    statistic = float(apart @ np.linalg.solve(spread, apart))
    assert (statistic, chi2.sf(statistic, 2)) == pytest.approx((2.5340, 0.2817), abs=5.1e-5)
    scores, positive = ovarian()
    for k in (0, 1):  # each difference alone is of the same covariance
        one = compare_auc(scores[k], scores[2], positive)
        assert (one.difference.estimate, one.z) == pytest.approx((apart[k], apart[k] / spread[k, k] ** 0.5))


def test_the_interval_that_proc_is_tested_with() -> None:
    groups = re.findall(r"\(([-+]+)\)|([-+])", NDKA)
    slides = [(place, kind == "+") for place, group in enumerate(groups) for kind in "".join(group)]
    scores, positive = zip(*slides, strict=True)
    assert (sum(positive), len(positive)) == (41, 113)
    found = auc_interval(scores, positive, scale="plain")
    published = (0.501244999271703, 0.611957994579946, 0.722670989888189)
    assert (found.low, found.estimate, found.high) == pytest.approx(published, abs=1e-12)
