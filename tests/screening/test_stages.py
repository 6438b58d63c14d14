"""Shares of the stages: they add up to all of the time, whatever stages there are."""

from __future__ import annotations

import pytest

from stride_monai.cli.summary import say_stages
from stride_monai.findings import SlideStatus
from stride_monai.run_index import Outcome
from stride_monai.screening.stages import STAGES_OF, shares_of


def test_every_stage_is_counted_once() -> None:
    one = {stage: 1.0 for stages in STAGES_OF.values() for stage in stages}
    shares = shares_of([one, {"detect": 9.0}, {"a stage of tomorrow": 5.0}])
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["detection"] == pytest.approx(11 / (len(one) + 14))
    assert shares["a stage of tomorrow"] == pytest.approx(5 / (len(one) + 14))
    assert [*shares][: len(STAGES_OF)] == [*STAGES_OF]


def test_without_times_there_are_no_shares(capsys: pytest.CaptureFixture[str]) -> None:
    assert shares_of([]) == shares_of([{}]) == {}
    earlier = Outcome("a", "a.svs", SlideStatus.OK, resumed=True)
    say_stages([earlier])
    said = capsys.readouterr()
    assert "no slide was screened now" in said.out + said.err


def test_they_are_said_as_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    say_stages([Outcome("a", "a.svs", SlideStatus.OK, stages={"read": 1.0, "detect": 2.0, "rank": 1.0})])
    said = capsys.readouterr().out
    assert [line.split()[-2:] for line in said.splitlines() if line.startswith(("reading", "detection"))] == [
        ["25.0", "%"],
        ["75.0", "%"],
    ]
