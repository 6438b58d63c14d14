"""Whether a stored threshold holds for a bag's cells."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from stride_monai.data.bags.bag import chosen_by
from stride_monai.errors import BundleError
from stride_monai.inferers.threshold import ChosenCells, GivenPoint, threshold_at, threshold_for
from stride_monai.networks.encoders.cell_encoder import CellClassifier
from stride_monai.networks.factories import create_slide_head
from stride_monai.networks.mil.slide_classifier import SlideClassifier
from stride_monai.operating_point import ChosenOn, HoldsFor, OperatingPointFile, Share

ONE, ANOTHER, AGAIN = "1f" * 32, "a0" * 32, "cc" * 32


def classifier(detector: str) -> SlideClassifier:
    network = SlideClassifier(CellClassifier("test_convnext"), create_slide_head("mean", 64), top_k=4)
    network.set_operating_point(0.5, detector=detector)
    return network


@pytest.mark.parametrize(
    ("stored", "cells", "holds"),
    [
        (ONE, ChosenCells(ONE), True),
        (ONE, ChosenCells(ANOTHER), False),
        (ONE, ChosenCells(ONE, AGAIN, 16), False),
        (chosen_by(ONE, AGAIN, 16), ChosenCells(ONE, AGAIN, 16), True),
        (chosen_by(ONE, AGAIN, 16), ChosenCells(ONE, AGAIN, 17), False),
        (chosen_by(ONE, AGAIN, 16), ChosenCells(ONE), False),
        (chosen_by(ONE, AGAIN, 16), ChosenCells(ONE, AGAIN, 16, "a rule"), False),
        (chosen_by(ONE, AGAIN, 16, "a rule"), ChosenCells(ONE, AGAIN, 16, "a rule"), True),
        ("", ChosenCells(ONE), True),
        (ONE, ChosenCells(""), True),
    ],
)
def test_it_holds_for_cells_that_were_chosen_as_those_that_it_was_set_on(
    stored: str, cells: ChosenCells, holds: bool
) -> None:
    network = classifier(stored)
    point, why = threshold_for(network, 4, cells, "a test")
    assert point.holds == holds
    assert point.source.startswith("a test")
    known = stored != "" and cells.sha256 != ""
    assert ("not known" in why) == (not known)
    assert bool(why) == (not holds or not known), "what a reader has to know is said"
    forced, why = threshold_for(network, 4, cells, "a test", force=True)
    assert forced.holds
    assert ("forced" in forced.source) == ("forced" in why) == (not holds)


def test_another_k_is_refused_unless_forced() -> None:
    with pytest.raises(BundleError, match=r"4 cells, the configuration asks for 3: set top_k to 4, or evaluate x"):
        threshold_for(classifier(ONE), 3, ChosenCells(ONE), name="x")
    point, _ = threshold_for(classifier(ONE), 3, ChosenCells(ONE), "a test", force=True)
    assert point.holds
    assert point.source == "a test; forced on bags of 3 cells"


def test_one_set_of_bundles_must_not_contradict_itself() -> None:
    with pytest.raises(BundleError, match="does not hold for the detector fcos"):
        threshold_for(classifier(ONE), 4, ChosenCells(ANOTHER, name="fcos"), mixed=False)
    point, _ = threshold_for(classifier(ONE), 4, ChosenCells(ONE, AGAIN, 16), mixed=False)
    assert not point.holds, "the same detector re-ranked is scored, but not called"


def test_the_stored_threshold_was_set_in_float32() -> None:
    now = HoldsFor("swift_mil", precision="bfloat16")
    point, why = threshold_for(classifier(ONE), 4, ChosenCells(ONE), "a test", now=now)
    assert (point.holds, point.call(0.9), point.source) == (False, None, "a test; set in float32")
    assert "does not hold for bfloat16: no call is made" in why
    forced, _ = threshold_for(classifier(ONE), 4, ChosenCells(ONE), "a test", force=True, now=now)
    assert (forced.holds, forced.source) == (True, "a test; forced on bfloat16")
    mixed, why = threshold_for(classifier(ONE), 4, ChosenCells(ANOTHER), "a test", now=now)
    assert "set on the cells of another detector" in mixed.source


MINE = "dd" * 32
HELD = HoldsFor("swift_mil", {"swift_mil": MINE}, ONE, 4, 1.0, 0.5, (0.25, 0.5))


def given_point(**changes: Any) -> GivenPoint:
    share = Share(0.95, 0.9, 0.98, 95, 100)
    held = replace(HELD, **changes)
    file = OperatingPointFile(0.31, "plain", 0.95, None, share, share, ChosenOn(9, 4, 5, "c0"), held, "2026-01-01")
    return GivenPoint(file, "op.json", "ee" * 32)


def judged_by(given: GivenPoint, force: bool = False, top_k: int = 4, cells: str = ONE, **now: Any) -> Any:
    facts = replace(HELD, bag_size=None, cells_chosen_by="", **now)
    return threshold_for(classifier(AGAIN), top_k, ChosenCells(cells), force=force, given=given, now=facts)


def test_a_given_operating_point_decides_alone() -> None:
    point, why = judged_by(given_point())
    assert (point.threshold, point.bag_size, point.holds, why) == (0.31, 4, True, "")
    assert (
        point.source
        == f"operating point op.json ({'ee' * 6}): plain rule, sensitivity at least 0.95, 9 validation slides"
    )
    never_set = classifier(ONE)
    never_set.threshold.fill_(math.nan)
    assert threshold_for(never_set, 4, ChosenCells(ONE), given=given_point(), now=HELD)[0].threshold == 0.31


@pytest.mark.parametrize(
    ("changes", "says", "forcible"),
    [
        ({"top_k": 8}, "K 8, it holds for 4", True),
        ({"cells": ANOTHER}, f"cells chosen by {ANOTHER[:12]}, it holds for those of {ONE[:12]}", True),
        ({"crop_mpp": 0.25}, r"um/px of crops 0.25, it holds for 0.5", True),
        ({"tile_mpp": 0.5}, r"um/px of tiles 0.5, it holds for 1", True),
        ({"precision": "int8"}, "precision int8, it holds for float32", True),
        ({"int8": {"cells": ONE}}, "other int8 networks than those it was chosen with", True),
        ({"weights": {"swift_mil": AGAIN}}, f"weights {AGAIN[:12]} of swift_mil, it holds for {MINE[:12]}", False),
    ],
)
def test_a_mismatch_of_what_screens_is_refused(changes: dict[str, Any], says: str, forcible: bool) -> None:
    with pytest.raises(BundleError, match=says):
        judged_by(given_point(), **changes)
    if forcible:
        point, _ = judged_by(given_point(), force=True, **changes)
        assert point.holds
        assert "forced on" in point.source
    else:
        with pytest.raises(BundleError, match=says):
            judged_by(given_point(), force=True, **changes)


@pytest.mark.parametrize("lacking", [{"weights": {}}, {"bag_size": None}])
def test_a_file_that_names_no_weights_or_no_k_decides_nothing(lacking: dict[str, Any]) -> None:
    with pytest.raises(BundleError, match=r"op.json does not say for which weights and which K"):
        judged_by(given_point(**lacking))


def test_what_is_not_known_of_the_cells_is_said() -> None:
    assert "not known" in judged_by(given_point(cells_chosen_by=""))[1]
    assert "not known" in judged_by(given_point(), cells="")[1]


def test_a_slide_of_another_magnification_is_not_called() -> None:
    given = given_point()
    point, _ = judged_by(given)
    for mpp in (0.23, 0.25, 0.5, 0.54):
        assert threshold_at(point, given, mpp) == (point, "")
    for mpp in (0.2, 1.0):
        other, why = threshold_at(point, given, mpp)
        assert (other.holds, other.call(0.9)) == (False, None)
        assert f"0.25 to 0.5 um/px and does not hold for this one of {mpp:g}" in why
        assert threshold_at(point, given, mpp, force=True)[0].call(0.9) == "positive"
    assert threshold_at(point, None, 1.0) == (point, "")
