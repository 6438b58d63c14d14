"""Trainings through the MONAI Label app, over HTTP: three stages, their log, cancelling, versions, and the teacher.

Both slides were reviewed by somebody who knows the truth: one teaches, one judges.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from extras import needs

needs("httpx", "dev")
import httpx  # noqa: E402
from label_server import NEEDED, WAIT, serving  # noqa: E402

from stride_monai.annotations import Action, AnnotationStore, Kind, Proposal  # noqa: E402
from stride_monai.bethesda import CELL_CLASSES, DESCRIPTIONS_BY_CLASS, cell_class_of  # noqa: E402
from stride_monai.data import read_cells  # noqa: E402
from stride_monai.screening import CellInput, ClassifyConfig, load_cells_classifier  # noqa: E402

pytestmark = NEEDED
STAGES = ("detection", "cell_cls", "text_align")
CELLS = 16


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Slides, and annotations of some of their cells."""
    from stride_monai.phantom import CohortDesign, make_slides

    folder = tmp_path_factory.mktemp("a home 家")
    make_slides(folder / "made", CohortDesign(classes=("HSIL", "LSIL"), diameter_mm=0.4, seed=1))
    (folder / "made" / "slides").rename(folder / "slides 片")
    (folder / "results").mkdir()
    return folder


def review(home: Path) -> None:
    """Every second cell is the model's, with a class that may be wrong; all are read, with reasons."""
    draw = np.random.default_rng(0)
    with AnnotationStore(home / "results") as store:
        for slide_id in ("phantom-0001", "phantom-0002"):
            here = [cell for cell in read_cells(home / "made" / "cells.csv") if cell.slide_id == slide_id]
            lesions, others = ([one for one in here if one.positive == wanted] for wanted in (True, False))
            chosen = [*lesions[: CELLS // 2], *others[: CELLS // 2]]
            proposed = [
                Proposal("", rank, cell.box, str(draw.choice(CELL_CLASSES)), (0.2,) * len(CELL_CLASSES), 1 - rank / 99)
                for rank, cell in enumerate(chosen, 1)
            ]
            for cell, known in zip(chosen, store.propose_cells(slide_id, proposed, "a model"), strict=True):
                store.append(Action("Ann", slide_id, Kind.LABEL, known.cell_id, None, cell.label))
                words = {"chosen": list(DESCRIPTIONS_BY_CLASS[cell_class_of(cell.label)][:2]), "typed": ""}
                store.append(Action("Ann", slide_id, Kind.DESCRIPTIONS, known.cell_id, None, words))


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[httpx.Client]:
    conf = ("work", str(home / "work 工"), "results", str(home / "results"))
    with serving(home / "slides 片", home / "server.log", *conf) as client:
        yield client


def until(server: httpx.Client, *wanted: str) -> dict[str, Any]:
    """The task once it is in one of these states; what it says grows meanwhile."""
    deadline = time.monotonic() + 3 * WAIT
    while time.monotonic() < deadline:
        task: dict[str, Any] = server.get("/train/").json()
        if task["status"] in wanted:
            return task
        time.sleep(0.2)
    pytest.fail(f"the training is not {wanted}: {task}")


ENDED = ("DONE", "ERROR", "STOPPED")


def test_without_reviewed_slides_nothing_is_trained_and_the_log_says_why(server: httpx.Client) -> None:
    assert server.get("/train/log").status_code == 404
    assert server.post("/train/cell_cls", json={}).status_code == 200
    assert until(server, *ENDED)["status"] == "ERROR"
    assert "0 slides are reviewed: review two or more" in server.get("/train/log").text
    assert server.get("/versions/").json()["cell_cls"] == {"current": "shipped", "versions": {}}


@pytest.mark.parametrize("stage", STAGES)
def test_a_training_is_judged_before_it_is_used(server: httpx.Client, home: Path, stage: str) -> None:
    if not readers(home):
        review(home)
    assert server.post(f"/train/{stage}", json={"max_epochs": 1}).status_code == 200
    seen = []
    while (task := server.get("/train/").json())["status"] in {"SUBMITTED", "RUNNING"}:
        seen.append(server.get("/train/log").text)
        time.sleep(0.5)
    log = server.get("/train/log").text
    assert task["status"] == "DONE", log
    assert "Epoch: 1/1" in log
    seen = [text for text in seen if "slides teach" in text]  # before, what it said as it started
    assert all(log.startswith(text) for text in seen), "another training's log was shown"
    assert any(text != log for text in seen), "the log is not seen while it grows"
    known = server.get("/versions/").json()[stage]
    made = known["versions"]["1"]
    assert sorted(made["slides"].values()) == ["train", "validation"]
    assert made["judged_on"] == 1
    assert made["follows"] == "shipped"
    assert known["current"] == ("1" if made["new"] >= made["present"] else "shipped")
    assert f"present (shipped) {made['present']:.4f}, new {made['new']:.4f}" in log
    assert any(f"version 1 of {stage}" in line for line in task["details"])
    for version in ("1", "shipped"):
        assert server.put(f"/versions/{stage}/{version}").json()[stage]["current"] == version
    assert server.put(f"/versions/{stage}/9").status_code == 404


def readers(home: Path) -> set[str]:
    with AnnotationStore(home / "results", create=False) as store:
        return {action.who for action in store.actions()}


def test_earlier_versions_can_be_chosen_and_work(server: httpx.Client) -> None:
    """The networks of one's own screen a slide, and then the shipped ones do."""
    trained = [stage for stage, known in server.get("/versions/").json().items() if known["versions"]]
    weights = []
    for version in ("1", "shipped"):
        for stage in trained:
            server.put(f"/versions/{stage}/{version}").raise_for_status()
        body = {"params": json.dumps({"refresh": True, "limit": 4})}
        answer = server.post("/infer/screen?image=phantom-0001&output=json", data=body)
        assert answer.status_code == 200, answer.text
        cells = {"params": json.dumps({"cells": [[300, 300]]})}
        given = server.post("/infer/classify?image=phantom-0001&output=json", data=cells).json()["cells"]
        weights.append((answer.json()["cells"], given[0]["probabilities"]))
    assert weights[0] != weights[1]
    assert weights[0][1] != weights[1][1]


def test_uncertainty_asks_where_network_and_teacher_disagree(server: httpx.Client, home: Path) -> None:
    """Against an oracle: both networks look at each cell here, and the entropy of their mean orders the cells."""
    server.put("/versions/cell_cls/1").raise_for_status()
    body = {"annotator": "somebody new", "count": 1024, "double_read": True}
    for slide_id in ("phantom-0001", "phantom-0002"):  # what was not screened would come first
        server.post(f"/infer/screen?image={slide_id}&output=json").raise_for_status()
    answer = server.post("/activelearning/uncertainty", json=body)
    assert answer.status_code == 200, answer.text
    given = [(cell["slide_id"], cell["cell_id"], cell["box"]) for cell in answer.json()["cells"]]
    assert len(given) > CELLS
    folder = home / "work 工" / "versions" / "tiny" / "cell_cls"
    said = []
    for name in ("1.pt", "1.teacher.pt"):
        classify = load_cells_classifier(ClassifyConfig(classifier="cell_cls", weights={"cell_cls": [folder / name]}))
        inputs = [
            CellInput(home / "slides 片" / f"{slide_id}.tiff", slide_id, ((x0 + x1) / 2, (y0 + y1) / 2))
            for slide_id, _, (x0, y0, x1, y1) in given
        ]
        said.append(np.array([one.probabilities for one in classify(inputs)], dtype=np.float64))
    assert np.abs(said[0] - said[1]).max() > 1e-4, "the teacher is the network itself"
    mean = (said[0] + said[1]) / 2
    doubt = -(mean * np.log(np.maximum(mean, 1e-300))).sum(axis=1)
    assert (np.diff(doubt) < 1e-4).all()
    server.put("/versions/cell_cls/shipped").raise_for_status()


def test_a_training_can_be_cancelled(server: httpx.Client, home: Path) -> None:
    before = server.get("/versions/").json()
    assert server.post("/train/text_align", json={"max_epochs": 1000}).status_code == 200
    until(server, "RUNNING")
    assert server.post("/train/cell_cls", json={}).status_code == 429  # one at a time
    while not server.get("/train/log").text.partition("slides teach, 1 judge\n")[2]:  # the bundle's process speaks
        assert server.get("/train/").json()["status"] == "RUNNING"
        time.sleep(0.2)
    assert server.delete("/train/").json()["status"] == "STOPPED"
    assert until(server, *ENDED)["status"] == "STOPPED"
    assert server.get("/versions/").json() == before
    still = server.get("/train/log").text
    assert server.get("/info/").status_code == 200
    assert server.get("/train/log").text == still
