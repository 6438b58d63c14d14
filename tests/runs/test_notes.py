"""Notes of failures: ours go when they are no longer true, others' stay."""

from __future__ import annotations

from pathlib import Path

from stride_monai.runs import Notes


def test_a_note_is_replaced_and_forgotten_unless_it_is_somebody_elses(tmp_path: Path) -> None:
    notes = Notes(tmp_path / "failed", "ours: ")
    path = notes.write("a", "first\udcff")
    assert notes.write("a", "second") == path
    assert path.read_text() == "ours: a\n\nsecond"
    notes.forget("a")
    assert not path.exists()
    path.write_text("mine")
    assert notes.write("a", "third").name == "a (2).txt"
    notes.forget("a")
    notes.forget("b")
    assert path.read_text() == "mine"
    path.unlink()
    path.symlink_to(tmp_path / "failed" / "a (2).txt")
    notes.forget("a")
    assert path.is_symlink()
