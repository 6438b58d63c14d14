"""Batches: the index, resuming, and what happens when things break. The networks are stood in for."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from filelock import FileLock
from test_findings import make_findings

from stride_monai.errors import OutputError, SlideError
from stride_monai.files import fingerprint
from stride_monai.findings import Described, Findings, Pictures, SlideStatus
from stride_monai.screening.batch import Batch, screen_batch
from stride_monai.screening.choices import Choice
from stride_monai.screening.explain import Explainer
from stride_monai.screening.inputs import SlideInput
from stride_monai.screening.screener import Screened


@dataclass
class FakeScreener:
    """Findings without pixels: files named bad* are unreadable, files named crash* meet a defect."""

    settings: str = "settings"
    screened: list[str] = field(default_factory=list)
    models: SimpleNamespace = field(
        default_factory=lambda: SimpleNamespace(
            weights={"detection": "ff"},
            detector_choice=Choice("fcos", "asked for"),
            classifier_choice=Choice("coloradv", "default"),
            explainer=Explainer(Described(False, "no weights")),
        )
    )

    def config_hash(self, item: SlideInput) -> str:
        return self.settings

    def screen(self, item: SlideInput, progress: Callable[[int, int], None] | None = None) -> Screened:
        self.screened.append(item.slide_id)
        if item.slide_id.startswith("bad"):
            raise SlideError(f"{item.path.name} is damaged", "scan it again")
        if item.slide_id.startswith("crash"):
            raise ZeroDivisionError("division\nby zero")
        if item.slide_id.startswith("stop"):
            raise KeyboardInterrupt
        if progress is not None:
            progress(1, 1)
        base = make_findings()
        slide = replace(base.slide, slide_id=item.slide_id, fingerprint=fingerprint(item.path))
        provenance = replace(base.provenance, config_hash=self.settings)
        findings = replace(base, slide=slide, provenance=provenance)
        return Screened(findings, Pictures(b"", 1.0, 0.5), {"detect": 0.1})


def write_json(findings: Findings, pictures: Pictures, folder: Path) -> Path:
    path = folder / "findings.json"
    path.write_text(findings.to_json())
    return path


def broken_writer(findings: Findings, pictures: Pictures, folder: Path) -> Path:
    (folder / "half").write_text("half")
    raise OSError(28, "No space left on device")


def slides_in(folder: Path, *names: str) -> list[SlideInput]:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / f"{name}.svs").write_bytes(name.encode())
    return [SlideInput(folder / f"{name}.svs", name) for name in names]


def run(tmp_path: Path, screener: FakeScreener, names: tuple[str, ...], **options: object) -> list[SlideStatus]:
    batch = Batch(screener, tmp_path / "out", options.pop("writers", {"findings": write_json}), **options)  # type: ignore[arg-type]
    return [outcome.status for outcome in screen_batch(batch, slides_in(tmp_path / "in", *names))]


def summary(tmp_path: Path) -> list[dict[str, str]]:
    with (tmp_path / "out" / "summary.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_bad_slide_and_a_defect_leave_the_others_unharmed(tmp_path: Path) -> None:
    statuses = run(tmp_path, FakeScreener(), ("a", "bad", "crash", "b"))
    assert statuses == ["ok", "failed", "failed", "ok"]
    rows = summary(tmp_path)
    assert [row["slide_id"] for row in rows] == ["a", "bad", "crash", "b"]
    assert rows[1]["reason"] == "bad.svs is damaged: scan it again"
    assert "unexpected ZeroDivisionError: division by zero" in rows[2]["reason"]
    assert "Traceback" in (tmp_path / "out" / "errors" / "crash.txt").read_text()
    index = json.loads((tmp_path / "out" / "run.json").read_text())
    assert index["run"]["finished"] is True
    assert index["run"]["detector"] == {"name": "fcos", "why": "asked for"}
    assert index["run"]["classifier"] == {"name": "coloradv", "why": "default"}
    assert index["run"]["descriptions"] == {"made": False, "why": "no weights", "threshold": None}
    assert index["counts"]["failed"] == 2
    assert Findings.from_json((tmp_path / "out" / "b" / "findings.json").read_text()).slide.slide_id == "b"


def test_a_killed_run_leaves_a_true_index_and_is_taken_up(tmp_path: Path) -> None:
    first = FakeScreener()
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, first, ("a", "b", "stop", "c"))
    assert [row["slide_id"] for row in summary(tmp_path)] == ["a", "b"]
    assert json.loads((tmp_path / "out" / "run.json").read_text())["run"]["finished"] is False
    second = FakeScreener()
    assert run(tmp_path, second, ("a", "b", "c")) == ["ok", "ok", "ok"]
    assert second.screened == ["c"]
    assert [row["resumed"] for row in summary(tmp_path)] == ["True", "True", "False"]


def test_other_settings_another_file_or_overwrite_screen_again(tmp_path: Path) -> None:
    run(tmp_path, FakeScreener(), ("a",))
    for screener, options in (
        (FakeScreener("other"), {}),
        (FakeScreener("other"), {"overwrite": True}),
    ):
        run(tmp_path, screener, ("a",), **options)
        assert screener.screened == ["a"]
    (tmp_path / "in" / "a.svs").write_bytes(b"another slide of this name")
    third = FakeScreener("other")
    batch = Batch(third, tmp_path / "out", {"findings": write_json})  # type: ignore[arg-type]
    screen_batch(batch, [SlideInput(tmp_path / "in" / "a.svs", "a")])
    assert third.screened == ["a"]


def test_a_slide_is_complete_or_absent(tmp_path: Path) -> None:
    statuses = run(tmp_path, FakeScreener(), ("a",), writers={"findings": write_json, "broken": broken_writer})
    assert statuses == ["failed"]
    assert "No space left" in summary(tmp_path)[0]["reason"]
    assert not (tmp_path / "out" / "a").exists()
    assert not list((tmp_path / "out").glob("*.part"))


def test_a_half_written_findings_file_is_not_done(tmp_path: Path) -> None:
    run(tmp_path, FakeScreener(), ("a",))
    path = tmp_path / "out" / "a" / "findings.json"
    path.write_text(path.read_text()[:200])
    screener = FakeScreener()
    assert run(tmp_path, screener, ("a",)) == ["ok"]
    assert screener.screened == ["a"]


def test_what_a_killed_run_left_half_written_is_removed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / ".b.x1.part").mkdir(parents=True)
    (out / ".b.x1.part" / "findings.json").write_text("{")
    (out / ".run.json.x2.part").write_text("{")
    run(tmp_path, FakeScreener(), ("a",))
    assert not list(out.glob(".*.part"))


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with FileLock(tmp_path / "out" / ".lock"), pytest.raises(OutputError, match="another run"):
        run(tmp_path, FakeScreener(), ("a",))


def test_an_unwritable_output_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"a file")
    with pytest.raises(OutputError, match="choose another --out"):
        run(tmp_path, FakeScreener(), ("a",))
