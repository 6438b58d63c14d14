"""Batches without networks: what stands in for them, and what writes."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from findings_samples import make_findings

from stride_monai.errors import SlideError
from stride_monai.files import fingerprint
from stride_monai.findings import Described, Pictures, Screened, SlideSource, SlideStatus
from stride_monai.screening.batch import Batch, screen_batch
from stride_monai.screening.inputs import SlideInput
from stride_monai.screening.store import About, Choice


@dataclass
class FakeScreener:
    """Findings without pixels: files named bad* are unreadable, files named crash* meet a defect."""

    settings: str = "settings"
    screened: list[str] = field(default_factory=list)
    models: SimpleNamespace = field(
        default_factory=lambda: SimpleNamespace(
            about=About(
                detector=Choice("fcos", "asked for"),
                classifier=Choice("coloradv", "default"),
                descriptions=Described(False, "no weights"),
                weights={"detection": "ff"},
                note="",
                holds=True,
            )
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
        base = make_findings(cells=1)
        slide = replace(base.slide, slide_id=item.slide_id, fingerprint=fingerprint(item.path))
        provenance = replace(base.provenance, config_hash=self.settings)
        findings = replace(base, slide=slide, provenance=provenance)
        return Screened(findings, Pictures(b"", 1.0, 0.5), {"detect": 0.1}, SlideSource(item.path))


def write_json(screened: Screened, folder: Path, settings: Mapping[str, Any]) -> Path:
    path = folder / "findings.json"
    path.write_text(screened.findings.to_json())
    return path


def broken_writer(screened: Screened, folder: Path, settings: Mapping[str, Any]) -> Path:
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


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def write_report(screened: Screened, folder: Path, settings: Mapping[str, Any]) -> Path:
    (folder / "report.html").write_text("<p>report</p>")
    return folder / "report.html"


def write_notes(screened: Screened, folder: Path, settings: Mapping[str, Any]) -> Path:
    (folder / "notes.txt").write_text("by a plug-in")
    return folder / "notes.txt"


BOTH = {"findings": write_json, "report": write_report}
