"""Training of a stage by its bundle's ``train.json``, on what was reviewed, in a process that MONAI Label starts.

A new version is put to use only where it does at least as well as the present one on reviewed slides that are held out
of all trainings. Otherwise it is kept, and can be chosen.
"""

from __future__ import annotations

import math
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.train import TrainTask

from lib.trainers.held_out import VALIDATION, holds_up, split_of
from lib.workbench import Workbench
from stride_monai.annotations import export_cohort, is_reviewed
from stride_monai.data.manifest import SlideRecord
from stride_monai.errors import BundleError, ConfigError, StrideError
from stride_monai.workflows import bundle_root

_METRIC = {"detection": "val_map", "cell_cls": "val_f1_macro", "text_align": "val_micro_f1"}
_START_FROM = "start_from"
_JUDGING = {"detection": {"whole_slides": "False"}}
"""What was reviewed are a slide's top cells: on it as a whole, cells that nobody was shown would count as wrong."""
LOG_NAME = "log.txt"
"""In the folder of a training: all that it says."""
_BEGUN = "%Y%m%d-%H%M%S"
_SHOWN = 20  # last lines of a process that failed


class BundleTraining(TrainTask):
    """Trains one stage.

    Args:
        stage: name of its bundle.
    """

    def __init__(self, stage: str, bench: Workbench) -> None:
        super().__init__(f"Train {stage} on what was reviewed")
        self.stage, self.bench, self.metric = stage, bench, _METRIC[stage]

    def config(self) -> dict[str, Any]:
        return {"max_epochs": self.bench.place.max_epochs or 0}

    def stats(self) -> dict[str, Any]:
        return dict(self.bench.versions.to_dict()[self.stage])

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Export, train, judge, keep; what it says goes to the task's log.

        Raises:
            ConfigError: too little was reviewed.
            BundleError: the training failed.
        """
        work = self.bench.place.work / "trainings" / f"{self.stage}-{time.strftime(_BEGUN)}-{time.time_ns() % 1000}"
        work.mkdir(parents=True)
        log = work / LOG_NAME
        try:
            return self._made(request, work, log)
        except StrideError as error:
            say(f"error: {error}", log)
            raise

    def _made(self, request: Mapping[str, Any], work: Path, log: Path) -> dict[str, Any]:
        cohort, splits = self._cohort(work / "cohort")
        say(f"{sum(s != VALIDATION for s in splits.values())} slides teach, {_judging(splits)} judge", log)
        before, start = self.bench.versions.current(self.stage), self._present()
        epochs = int(request.get("max_epochs") or self.bench.place.max_epochs or 0)
        more = {"max_epochs": str(epochs)} if epochs else {}
        run_bundle(self._training_files(), work / "model", cohort, self.stage, {_START_FROM: str(start), **more}, log)
        made = work / "model" / "model.pt"
        both = {"present": start, "new": made}
        scores = {name: self._judged(weights, cohort, work / f"judged-{name}", log) for name, weights in both.items()}
        present, new = scores["present"], scores["new"]
        say(f"{self.metric} on held-out slides: present ({before}) {_shown(present)}, new {_shown(new)}", log)
        better = holds_up(present, new)
        facts = {
            "metric": self.metric,
            **scores,
            "judged_on": _judging(splits),
            "slides": splits,
            "epochs": epochs or None,
        }
        teacher = work / "model" / "teacher.pt"
        version = self.bench.versions.add(self.stage, made, facts, better, teacher if teacher.is_file() else None)
        say(f"version {version} of {self.stage} is {'in use' if better else 'kept, and not in use'}", log)
        return {"version": version, "in_use": better, **facts}

    def _cohort(self, out: Path) -> tuple[Path, dict[str, str]]:
        store, slides = self.bench.store, self.bench.slides
        known = set(slides.ids())
        states = [store.state(slide_id) for slide_id in store.slide_ids() if slide_id in known]
        reviewed = [state for state in states if is_reviewed(state)]
        splits = split_of((state.slide_id for state in reviewed), self.bench.place.work / "held_out.json")
        records = [
            replace(SlideRecord(slide_id, slides.path_of(slide_id), self.bench.place.mpp), split=split)
            for slide_id, split in splits.items()
        ]
        export_cohort(reviewed, records, out)
        return out, splits

    def _present(self) -> Path:
        weights = self.bench.versions.current_weights(self.stage)
        if weights is not None:
            return weights
        if self.bench.place.profile != "tiny":
            raise ConfigError(f"no weights of {self.stage} ship for this profile", "train the bundle by hand first")
        name = "tiny_fcos" if self.stage == "detection" and self._detector() == "fcos" else "tiny"
        return bundle_root(self.stage) / "models" / f"{name}.safetensors"

    def _detector(self) -> str:
        named = self.bench.place.detector
        return named if named != "auto" else "fcos" if self.bench.place.profile == "tiny" else "yolo"

    def _files(self, *more: str) -> list[Path]:
        names = ["train", *(["tiny"] if self.bench.place.profile == "tiny" else [])]
        if self.stage == "detection" and self._detector() == "fcos":
            names += ["fcos", *(["tiny_fcos"] if self.bench.place.profile == "tiny" else [])]
        root = bundle_root(self.stage) / "configs"
        return [root / f"{name}.json" for name in (*names, *more)]

    def _training_files(self) -> list[Path]:
        """Of the tiny cell classifier the head alone is trained: a few hundred cells would spoil the features. Its
        moving average is kept too, since where both disagree a reader is asked (``uncertainty``)."""
        if self.stage != "cell_cls":
            return self._files()
        return self._files(*(["head"] if self.bench.place.profile == "tiny" else []), "teacher")

    def _judged(self, weights: Path, cohort: Path, out: Path, log: Path) -> float | None:
        """The metric on held-out slides; None where it is no number, as without a lesion among them."""
        options = {"weights": str(weights), "split": VALIDATION, **_JUDGING.get(self.stage, {})}
        run_bundle(self._files("evaluate"), out, cohort, self.stage, options, log)
        rows = (line.partition(",") for line in (out / "metrics.csv").read_text(encoding="utf-8").splitlines())
        found = {name.strip(): value for name, _, value in rows}
        try:
            score = float(found[self.metric])
        except (KeyError, ValueError) as error:
            raise BundleError(f"the evaluation of {self.stage} gives no {self.metric}", "see the log") from error
        return score if math.isfinite(score) else None


def _shown(score: float | None) -> str:
    return "no figure" if score is None else f"{score:.4f}"


def begun(log: Path) -> datetime:
    """When the training of a log began, local time."""
    _stage, *when, _number = log.parent.name.split("-")
    return datetime.strptime("-".join(when), _BEGUN)


def _judging(splits: Mapping[str, str]) -> int:
    return sum(split == VALIDATION for split in splits.values())


def say(line: str, log: Path | None = None) -> None:
    """To the task's last lines, which MONAI Label shows, and to the log."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
    if log is not None:
        with log.open("a", encoding="utf-8") as stream:
            stream.write(f"{line}\n")


def run_bundle(
    files: Sequence[Path], out: Path, cohort: Path, stage: str, options: Mapping[str, str], log: Path
) -> None:
    """Run a bundle's configuration in a process, line by line into the log; ending this process ends that one.

    Raises:
        BundleError: it ended with an error; with its last line.
    """
    out.mkdir(parents=True, exist_ok=True)
    names = "[" + ",".join(repr(str(file)) for file in files) + "]"
    places = {"bundle_root": str(bundle_root(stage)), "dataset_dir": str(cohort), "output_dir": str(out)}
    command = [sys.executable, "-m", "monai.bundle", "run_workflow", "--config_file", names]
    command += ["--workflow_name", "stride_monai.workflows.StrideWorkflow"]
    command += [part for name, value in {**places, **options}.items() for part in (f"--{name}", value)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    assert process.stdout is not None
    last: list[str] = []
    try:
        for line in process.stdout:
            if line.strip():
                say(line.rstrip(), log)
                last = [*last, line.strip()][-_SHOWN:]
        code = process.wait()
    finally:
        process.kill()
    if code:
        said = next((line for line in reversed(last) if line.startswith("error:")), last[-1] if last else "no word")
        raise BundleError(f"{stage} could not be run: {said}", "see the log of the task")
