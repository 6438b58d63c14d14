"""DeLong's interval and paired test against published figures, whose data stand here in full.

Subarachnoid haemorrhage: three markers of 41 patients with a poor outcome and 72 with a good one, the data set aSAH
that the R package pROC is tested with (Robin et al., BMC Bioinformatics 2011;12:77; https://github.com/xrobin/pROC).
Only their order counts here. What pROC finds stands in its tests/testthat/test-ci.auc.R and test-roc.test.R.
"""

from __future__ import annotations

import re

import pytest

from stride_monai.evaluation.statistics import auc_interval, compare_auc

# NDKA of patients with a poor outcome (+) and a good one (-) by rising value, equal values in brackets.
NDKA = (
    "-+--+++---------+------++--+-(--)-+(-+)----+--+------+++-+--+-----+-(-+)--+--++-++--(-+)++---+----++++--+---"
    "++++--+-+-+-+"
)

# Of every patient, those with a poor outcome first: the WFNS grade, and the place of S100B (equal: equal places). Read
# back from the placements in pROC's tests/testthat/helper-deLongPlacementsCpp-expected.R.
WFNS = (
    "32455552521254425552525245441442255225555111151221221112121134141551124112212122111121211324214115422111312244111"
)
S100B = """
13 9 19 12 36 42 40 3 29 7 3 34 32 39 42 24 42 42 42 3 42 26 0 7 22 42 24 42 5 24 13 9 11 22 42 15 42 27 42 42 36
13 15 9 1 37 21 9 9 1 5 1 7 11 3 21 3 11 13 21 1 19 15 31 7 41 37 19 3 35 37 11 5 7 5 1 13 9 15 17 1 1 7 1 7 5 19 7 5
29 11 25 3 9 27 3 1 23 33 9 17 5 15 9 3 1 21 17 37 21 17 41 39
"""


def test_the_interval_that_proc_is_tested_with() -> None:
    groups = re.findall(r"\(([-+]+)\)|([-+])", NDKA)
    slides = [(place, kind == "+") for place, group in enumerate(groups) for kind in "".join(group)]
    scores, positive = zip(*slides, strict=True)
    assert (sum(positive), len(positive)) == (41, 113)
    found = auc_interval(scores, positive, scale="plain")
    published = (0.501244999271703, 0.611957994579946, 0.722670989888189)
    assert (found.low, found.estimate, found.high) == pytest.approx(published, abs=1e-12)


def test_the_paired_test_that_proc_is_tested_with() -> None:
    grades, places = [int(grade) for grade in WFNS], [int(place) for place in S100B.split()]
    positive = [patient < 41 for patient in range(113)]
    assert len(grades) == len(places) == 113
    found = compare_auc(grades, places, positive)
    assert (found.first.estimate, found.second.estimate) == pytest.approx((0.823678861788618, 0.731368563685637))
    assert (found.z, found.p) == pytest.approx((2.20898359144091, 0.0271757822291882), abs=1e-12)
    bounds = (found.difference.low, found.difference.high)
    assert bounds == pytest.approx((0.0104061769564846, 0.174214419249478), abs=1e-12)
    turned = compare_auc(places, grades, positive)
    assert (turned.z, turned.p) == pytest.approx((-found.z, found.p))
