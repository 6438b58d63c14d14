"""The whole way of a group that starts with slides and no labels, from a folder with spaces and Chinese letters.

Phantom slides are screened; two readers and an admin review them over HTTP; what stands is exported, split, and trains
the cell classifier; its weights screen the slides again; the result is judged against the truth of the slides.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import processes
import pytest
import torch
from extras import needs
from typer.testing import CliRunner

needs("fastapi", "review")
import httpx  # noqa: E402

from stride_monai.bethesda import cell_class_of  # noqa: E402
from stride_monai.cli.main import app  # noqa: E402
from stride_monai.data import CellRecord, read_cells, read_manifest  # noqa: E402
from stride_monai.files import sha256_of  # noqa: E402
from stride_monai.units import Box  # noqa: E402
from stride_monai.workflows import bundle_root  # noqa: E402

pytestmark = pytest.mark.slow
PASSWORDS = {name: f"correct horse of {name}" for name in ("Ann", "Bo 博", "Chief")}
ANN, BO, CHIEF = PASSWORDS
CLASSES = ("NILM", "HSIL", "LSIL")


def command(*words: object, says: str | None = None) -> str:
    """A command that needs no network, as it is typed."""
    done = CliRunner().invoke(app, [str(word) for word in words], input=says, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def run(module: str, *words: object) -> str:
    done = processes.run(module, words, cwd=Path.cwd())
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@contextmanager
def reviewing(*words: object) -> Iterator[str]:
    """``stride-monai review``; its address."""
    said = Path("review.log").absolute()
    process = processes.start("stride_monai", ["review", *words, "--port", "0"], cwd=Path.cwd(), stdout=said)
    try:
        while not (found := re.search(r"http://\S+?/", said.read_text() if said.exists() else "")):
            assert process.is_alive(), "the server ended"
            time.sleep(0.05)
        yield found.group()
    finally:
        process.terminate()
        process.join(30)


class Reader:
    """Somebody who signed in on the page."""

    def __init__(self, address: str, name: str) -> None:
        self.name, self.http = name, httpx.Client(base_url=address, timeout=60)
        answer = self.http.post("api/session", json={"name": name, "password": PASSWORDS[name]})
        assert answer.status_code == 200, answer.text
        self.http.headers["x-csrf-token"] = answer.json()["proof"]

    def get(self, path: str) -> Any:
        answer = self.http.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def cells(self, slide_id: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get(f"api/slides/{slide_id}")["cells"]
        return found

    def act(self, slide_id: str, kind: str, after: Any, cell_id: str | None = None, before: Any = None) -> str:
        made = uuid.uuid4()
        if kind == "box_added":
            cell_id = f"a{made.hex}"
        action = {"kind": kind, "cell_id": cell_id, "before": before, "after": after, "seconds": 2.0}
        answer = self.http.post(f"api/slides/{slide_id}/actions", json={"uuid": str(made), **action})
        assert answer.status_code == 200, answer.text
        return cell_id or ""


def truth_of(box: list[float], cells: list[CellRecord]) -> str:
    """What a reader who knows the slide says of a box."""
    x, y = Box(*box).center
    hit = [
        cell.label
        for cell in cells
        if cell.positive and cell.box.x0 <= x <= cell.box.x1 and cell.box.y0 <= y <= cell.box.y1
    ]
    return hit[0] if hit else "not_a_lesion"


def review(address: str, cohort: Path) -> dict[str, Any]:
    """Both read every cell; they differ on one cell and one slide, which the admin settles. What is to stand."""
    ann, bo, chief = (Reader(address, name) for name in PASSWORDS)
    truth, slides = read_cells(cohort / "cells.csv"), read_manifest(cohort / "manifest.csv")
    stands: dict[str, Any] = {"cells": {}, "slides": {}}
    for slide in slides:
        here = [cell for cell in truth if cell.slide_id == slide.slide_id]
        for reader in (ann, bo):
            for cell in reader.cells(slide.slide_id):
                assert not cell["taken"]
                assert not cell["others"], "what the other said is not shown before one has read the cell"
                label = truth_of(cell["box"], here)
                reader.act(slide.slide_id, "label", label, cell["id"])
                stands["cells"][slide.slide_id, cell["id"]] = label
            reader.act(slide.slide_id, "adequacy", "satisfactory")
            reader.act(slide.slide_id, "call", slide.slide_class)
        stands["slides"][slide.slide_id] = slide.slide_class
    ill = next(slide.slide_id for slide in slides if slide.slide_class == "HSIL")
    first = next(cell for cell in ann.cells(ill) if stands["cells"][ill, cell["id"]] != "LSIL")
    # Ann relabels what she has read, says why, and draws a cell that the model missed.
    was = stands["cells"][ill, first["id"]]
    ann.act(ill, "label", "LSIL", first["id"], before=was)
    words = {"chosen": ["perinuclear halo or cytoplasmic vacuolization"], "typed": "核大"}
    ann.act(ill, "descriptions", words, first["id"])
    shown = [Box(*cell["box"]) for cell in ann.cells(ill)]
    missed = next(
        cell
        for cell in truth
        if cell.slide_id == ill and cell.positive and not any(cell.box.intersection(box).area > 0 for box in shown)
    )
    drawn = ann.act(ill, "box_added", [round(side, 1) for side in missed.box])
    ann.act(ill, "label", missed.label, drawn)
    bo.act(ill, "label", missed.label, drawn)
    ann.act(ill, "call", "LSIL", before="HSIL")
    stands["cells"][ill, drawn] = missed.label
    # The admin finds both differences and settles them: the cell as Ann said, the slide as it is.
    differ = chief.get("api/disagreements")
    assert {(one["slide_id"], (one["cell"] or {}).get("id")) for one in differ} == {(ill, first["id"]), (ill, None)}
    assert ann.http.get("api/agreement").status_code == 403
    chief.act(ill, "arbitration", "LSIL", first["id"])
    chief.act(ill, "arbitration", "HSIL")
    assert chief.get("api/disagreements") == []
    stands["cells"][ill, first["id"]] = "LSIL"
    stands["described"] = (ill, first["id"], words)
    return stands


def test_from_slides_without_labels_to_a_model_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "a folder 宫颈 细胞学"
    folder.mkdir()
    monkeypatch.chdir(folder)
    made, results = Path("the slides 片"), Path("results 结果")
    classes = [word for name in CLASSES for word in ("--slide-class", name)]
    run("stride_monai", "phantom", "--out", made, *classes, "--diameter", "0.3", "--seed", "1")
    run("stride_monai", "screen", made / "slides", "--out", results, "--writers", "findings")

    for name, password in PASSWORDS.items():
        admin = ["--admin"] if name == CHIEF else []
        command("annotations", "users", "who reads.json", "--add", name, *admin, says=f"{password}\n")
    options = ["--users", "who reads.json", "--double-read", "--cells", "12"]
    with reviewing(results, "--studies", made / "slides", *options) as address:
        stands = review(address, made)

    cohort = Path("cohort 队列")
    command("annotations", "export", results, "--out", cohort)
    cells = {(cell.slide_id, cell.cell_id): cell for cell in read_cells(cohort / "cells.csv")}
    expected = {key: "NILM" if label == "not_a_lesion" else label for key, label in stands["cells"].items()}
    assert {key: cell_class_of(cell.label) for key, cell in cells.items()} == {
        key: cell_class_of(label) for key, label in expected.items()
    }
    slide_id, cell_id, words = stands["described"]
    assert list(cells[slide_id, cell_id].descriptions) == [*words["chosen"], words["typed"]]
    assert {slide.slide_id: slide.slide_class for slide in read_manifest(cohort / "manifest.csv")} == stands["slides"]
    table = command("annotations", "agreement", results)
    assert "Fleiss" in table

    command("data", "split", cohort, "--test", "0", "--validation", "0.34")
    assert sorted(str(slide.split) for slide in read_manifest(cohort / "manifest.csv")) == [
        "train",
        "train",
        "validation",
    ]
    root, model = bundle_root("cell_cls"), Path("model 模型")
    names = [str(root / "configs" / f"{name}.json") for name in ("train", "tiny", "head")]
    places = ["--bundle_root", root, "--dataset_dir", cohort, "--output_dir", model, "--config_file", str(names)]
    start = ["--start_from", root / "models" / "tiny.safetensors", "--max_epochs", "2", "--cells_per_epoch", "64"]
    run("monai.bundle", "run", *places, *start)
    trained = torch.load(model / "model.pt", weights_only=True)
    assert all(bool(value.isfinite().all()) for value in trained.values())

    again = Path("results 结果 2")
    words = ["--rerank", "--candidates", "300", "--weights", f"cell_cls={model / 'model.pt'}", "--writers", "findings"]
    run("stride_monai", "screen", made / "slides", "--out", again, *words)

    truth = ["--truth", made / "truth.csv", "--cells", made / "cells.csv", "--with-unsatisfactory"]
    command("evaluate", again, *truth, "--out", "judged 评估", "--replicates", "0")
    judged = json.loads(Path("judged 评估/metrics.json").read_text(encoding="utf-8"))
    assert judged["slides"]["labels"] == dict.fromkeys(CLASSES, 1)
    assert (judged["slides"]["analysed"], judged["slides"]["unjudged"]) == (len(CLASSES), {})
    assert judged["sources"]["predictions"]["weights"]["cell_cls"] == sha256_of(model / "model.pt")
