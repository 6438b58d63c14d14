"""Whether a stored threshold holds for a bag's cells."""

from __future__ import annotations

import pytest

from stride_monai.data.bags.bag import chosen_by
from stride_monai.errors import BundleError
from stride_monai.inferers.threshold import ChosenCells, threshold_for
from stride_monai.networks.encoders.cell_encoder import CellClassifier
from stride_monai.networks.factories import create_slide_head
from stride_monai.networks.mil.slide_classifier import SlideClassifier

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
