"""A process that screens without networks: a slide's file says what happens to whoever screens it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import toy_reader
from findings_samples import make_findings

from stride_monai.errors import BundleError, SlideError
from stride_monai.files import fingerprint
from stride_monai.findings import Described, Pictures, Screened
from stride_monai.run_index import Outcome
from stride_monai.runs import Ended
from stride_monai.screening.batch import Batch, Writer, failed_by
from stride_monai.screening.config import ScreeningConfig
from stride_monai.screening.inputs import SlideInput
from stride_monai.screening.store import About, Choice
from stride_monai.screening.worker import Load, Look, Screen

WEIGHTS = {"detection": "aa", "coloradv": "bb"}
ABOUT = About(Choice("fcos", "asked for"), Choice("coloradv", "default"), Described(False, "none"), WEIGHTS, "", True)


def write_json(screened: Screened, folder: Path, settings: Mapping[str, Any]) -> Path:
    path = folder / "findings.json"
    path.write_text(screened.findings.to_json())
    return path


def writers() -> Mapping[str, Writer]:
    return {"findings": write_json}


class ToyScreener:
    """``look:``, ``screen:``, ``done:`` (results are written) or ``after:`` (harm that shows with the next slide), and
    what happens."""

    models = SimpleNamespace()

    def __init__(self, notes: Path) -> None:
        self.notes, self.harmed = notes, False

    def config_hash(self, item: SlideInput) -> str:
        return "settings"

    def screen(self, item: SlideInput, progress: Callable[[int, int], None] | None = None) -> Any:
        when, _, what = item.path.read_text().partition(":")
        if self.harmed:
            os.abort()
        if when == "screen":
            toy_reader.happen(what)
        if when == "slow":
            time.sleep(float(what))
        self.harmed = when == "after"
        if progress is not None:
            progress(1, 1000)
        base = make_findings(cells=1)
        slide = replace(base.slide, slide_id=item.slide_id, fingerprint=fingerprint(item.path))
        findings = replace(base, slide=slide, provenance=replace(base.provenance, config_hash="settings"))
        note(self.notes, item.slide_id)
        return Screened(findings, Pictures(b"", 1.0, 0.5), {"detect": 0.1})


def note(file: Path, what: str) -> None:
    with file.open("a") as stream:
        stream.write(f"{json.dumps(what)}\n")


def noted(file: Path) -> list[str]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def worker(
    config: ScreeningConfig, out: Path, overwrite: bool, load_writers: Callable[[], Mapping[str, Writer]]
) -> Callable[[Any, Callable[..., None]], Any]:
    """As of ``stride_monai.screening.worker``; what it did is noted in ``out/../notes``, a line each."""
    notes = out.parent / "notes"
    batches: list[Batch] = []

    def handle(request: Any, report: Callable[..., None]) -> Outcome | About | None:
        match request:
            case Look(item):
                when, _, what = item.path.read_text().partition(":")
                try:
                    if when == "look":
                        toy_reader.happen(what)
                    if when == "bad":
                        raise SlideError(f"{item.path.name} is damaged", "scan it again")
                except Exception as error:
                    return failed_by(out, item, Ended(item.slide_id, error=error))
            case Load():
                loads = noted(notes).count("load")
                note(notes, "load")
                if config.detector == "broken":
                    raise BundleError("the bundle has no weights", "train it")
                if config.detector == "odd":
                    raise ArithmeticError("odd")
                if config.detector == "dies" or (config.detector == "dies once" and loads == 0):
                    os.abort()
                batches.append(Batch(ToyScreener(notes), out, load_writers(), overwrite=overwrite))  # type: ignore[arg-type]
                return ABOUT
            case Screen(item):
                outcome = batches[-1](item, lambda _, done, total: report(done, total))
                when, _, what = item.path.read_text().partition(":")
                if when == "done" and not outcome.resumed:
                    toy_reader.happen(what)
                return outcome
        return None

    return handle
