"""``stride-monai phantom``: what it says of what it made."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from stride_monai.cli.main import app


@pytest.mark.parametrize(
    ("diameter", "bags", "told"), [("0.2", (), True), ("5", ("--bags-only", "--top-k", "2"), False)]
)
def test_slides_too_small_to_be_judged_are_told_of(
    tmp_path: Path, diameter: str, bags: tuple[str, ...], told: bool
) -> None:
    words = ["phantom", "--slide-class", "NILM", "--diameter", diameter, *bags, "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert ("unsatisfactory" in done.output) == told
