"""How far a run is, and how long it will take."""

from __future__ import annotations

from stride_monai.runs.progress import Progress, duration


def test_progress_counts_what_others_make() -> None:
    now, there = [0.0], {"old"}
    progress = Progress(["old", "a", "b", "c", "d", "e"], lambda: set(there), clock=lambda: now[0])
    assert progress.step("old", made=False) == "1 of 6 slides"
    now[0] = 50.0
    assert progress.step("a", made=True) == "2 of 6 slides, about 3 min left"  # four more at 50 s
    there |= {"a", "b", "c"}
    now[0] = 90.0
    assert progress.step("d", made=True) == "5 of 6 slides, about 22 s left"  # four in 90 s
    assert progress.step("e", made=False) == "6 of 6 slides"
    assert (progress.made, progress.took()) == (2, duration(90))


def test_durations() -> None:
    assert [duration(s) for s in (3, 89, 90, 3600, 7321)] == ["3 s", "89 s", "2 min", "60 min", "2 h 2 min"]
