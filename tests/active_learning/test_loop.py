"""The whole circle on phantoms: screen, correct with the truth, export, train, screen again."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

import stride_monai as sm
from stride_monai.annotations import AnnotationStore, meaning
from stride_monai.bethesda import CELL_CLASSES
from stride_monai.data import read_cells, read_manifest
from stride_monai.phantom.cohorts.design import CohortDesign
from stride_monai.units import Box
from stride_monai.workflows.locate import bundle_root

ROUNDS, COUNT = 2, 6
SMALL = CohortDesign(
    classes=("NILM", "NILM", "HSIL", "HSIL"), diameter_mm=0.2, lesions=4, mpp=0.5, seed=5, all_test=True, name="loop"
)


@pytest.fixture(scope="module")
def loop() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(bundle_root("detection").parent.parent / "benchmarks"))
        module = importlib.import_module("annotation_loop")
        patch.setattr(module, "PHANTOMS", SMALL)
        patch.setattr(module, "SETTINGS", {"max_epochs": 2, "cells_per_epoch": 64, "learning_rate": 1e-3})
        patch.setitem(module.SOURCES, "phantoms", module.SOURCES["phantoms"]._replace(top_k=12))
        threads = torch.get_num_threads()
        yield module
        torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def material(loop: ModuleType, work: Path) -> Any:
    return loop.prepare("phantoms", work, work)


def play(loop: ModuleType, material: Any, folder: Path, strategy: str = "uncertainty", rounds: int = ROUNDS) -> Any:
    return loop.play(material, strategy, 0, folder, rounds, COUNT)


@pytest.fixture(scope="module")
def played(loop: ModuleType, material: Any, work: Path) -> tuple[Path, list[dict[str, Any]]]:
    folder = work / "units" / "uncertainty"
    return folder, play(loop, material, folder)


def timeless(figures: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in one.items() if key != "seconds"} for one in figures]


@pytest.mark.slow
def test_every_answer_is_the_truth_of_a_slide_to_annotate(
    loop: ModuleType, material: Any, work: Path, played: tuple[Path, list[dict[str, Any]]]
) -> None:
    folder, figures = played
    pool, held_out = loop.halves(material, 0)
    assert sorted([*pool, *held_out]) == list(range(4))
    truth = read_cells(work / "cohorts" / "phantoms" / "cells.csv")
    names = {material.records[place].slide_id for place in pool}
    with AnnotationStore(folder / "annotations.sqlite", create=False) as store:
        actions = store.actions()
        states = {slide_id: store.state(slide_id) for slide_id in store.slide_ids()}
    assert {*states} == names
    assert [one["clicks"] for one in figures] == [0, COUNT, 2 * COUNT] == [0, COUNT, len(actions)]
    assert len({(action.slide_id, action.cell_id) for action in actions}) == len(actions), "a cell was read twice"
    for action in actions:
        box = states[action.slide_id].cells[str(action.cell_id)].box
        assert box is not None
        lesions = [cell for cell in truth if cell.slide_id == action.slide_id and cell.positive]
        inside = any(box.holds(Box.around(*cell.box.center, 0)) for cell in lesions)
        assert inside or meaning(action.after) == "NILM"
    for number in range(1, ROUNDS + 1):
        cohort = folder / f"round-{number}" / "cohort"
        cells = read_cells(cohort / "cells.csv")
        assert [len(cells), {cell.slide_id for cell in cells} <= names] == [COUNT * number, True]
        assert {record.split for record in read_manifest(cohort / "manifest.csv")} == {"train"}


@pytest.mark.slow
def test_figures_are_those_of_the_slow_formula(loop: ModuleType, material: Any) -> None:
    _, held_out = loop.halves(material, 0)
    head = loop.first_head(material.start)
    figures = loop.judge(material, held_out, head)
    called = [
        (CELL_CLASSES[int(torch.softmax(torch.tensor(features @ head.weight.T + head.bias), 0).argmax())], label)
        for features, label, slide in zip(
            material.marked.features, map(meaning, material.marked.truth.tolist()), material.marked.slide, strict=True
        )
        if slide in held_out
    ]
    f1 = []
    for name in {label for _, label in called}:
        hits = sum(said == label == name for said, label in called)
        f1.append(2 * hits / (sum(said == name for said, _ in called) + sum(label == name for _, label in called)))
    assert figures["f1"] == pytest.approx(np.mean(f1))
    shares = []
    for place in held_out:
        rows = [k for k in range(len(material.found.slide)) if material.found.slide[k] == place]
        ill = {k for k in rows if meaning(str(material.found.truth[k])) != "NILM"}
        suspicion = {k: loop.lesion(head.probabilities(material.found.features[[k]]))[0] for k in rows}
        first = sorted(rows, key=lambda k: -suspicion[k])[:32]
        shares += [len(ill & {*first}) / len(first)] if ill else []
    assert shares
    assert figures["precision"] == pytest.approx(np.mean(shares))


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on(
    loop: ModuleType, material: Any, work: Path, played: tuple[Path, list[dict[str, Any]]], monkeypatch: Any
) -> None:
    """In the second round after three answers, and then before the training has ended."""
    _, whole = played
    folder = work / "units" / "stopped"
    first = play(loop, material, folder, rounds=1)
    assert timeless(first) == timeless(whole[:2])
    append, left = AnnotationStore.append, [3]

    def fails(store: AnnotationStore, action: Any) -> Any:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return append(store, action)

    with monkeypatch.context() as patch:
        patch.setattr(AnnotationStore, "append", fails)
        with pytest.raises(KeyboardInterrupt):
            play(loop, material, folder)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "head_of", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            play(loop, material, folder)
    trained: list[Path] = []
    retrain = loop.retrain
    monkeypatch.setattr(loop, "retrain", lambda *args: trained.append(args[0]) or retrain(*args))
    assert timeless(play(loop, material, folder)) == timeless(whole)
    assert trained == [folder / "round-2" / "cohort"], "only what was missing is done"
    assert play(loop, material, folder)[1:] != [], "what is there is read"
    assert len(trained) == 1


@pytest.mark.slow
def test_screening_with_the_trained_weights_ranks_as_the_loop_says(
    loop: ModuleType, material: Any, work: Path, played: tuple[Path, list[dict[str, Any]]]
) -> None:
    """The features that are kept stand for what a user gets from `screen --rerank` with the new weights."""
    start = {"start_from": str(material.start.weights)}
    weights = loop.retrain(played[0] / "round-2" / "cohort", work / "again", start, 0)
    head = loop.head_of(weights, material.start)
    assert not np.array_equal(head.weight, loop.first_head(material.start).weight), "nothing was learnt"
    place = loop.halves(material, 0)[1][-1]
    record = material.records[place]
    found = sm.screen(
        record.path,
        rerank=True,
        candidates=256,
        weights={"cell_cls": weights},
        descriptions=False,
        classifier="swift_mil",
    )
    mine = material.found.of(material.found.slide == place)
    expected = loop.lesion(head.probabilities(mine.features))
    assert len(mine.slide) == 12
    boxes = np.array([cell.box for cell in found.cells])
    for box, score in zip(mine.boxes, expected, strict=True):
        away = np.abs(boxes - box).max(axis=1)
        assert away.min() < 0.01, "findings state boxes to a hundredth of a pixel"
        cell = found.cells[away.argmin()]
        assert cell.rerank_score == pytest.approx(cell.score * score, abs=1e-4)


@pytest.mark.slow
def test_an_encoder_that_moved_is_refused(loop: ModuleType, material: Any, tmp_path: Path) -> None:
    state = {f"encoder.{name}": value.clone() for name, value in material.start.network.encoder.state_dict().items()}
    state |= {f"head.{name}": value for name, value in material.start.network.head.state_dict().items()}
    torch.save(state, tmp_path / "model.pt")
    assert np.array_equal(
        loop.head_of(tmp_path / "model.pt", material.start).bias, loop.first_head(material.start).bias
    )
    state["encoder.conv_stem.weight"] += 1e-3
    torch.save(state, tmp_path / "model.pt")
    with pytest.raises(RuntimeError, match="the encoder was to be held and is another"):
        loop.head_of(tmp_path / "model.pt", material.start)


@pytest.mark.slow
def test_the_tables_say_what_each_strategy_gains_over_random(
    loop: ModuleType, material: Any, work: Path, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.setattr(importlib.import_module("record"), "RESULTS", work / "results")
    words = [
        "--work",
        work,
        "--data",
        work,
        "--only",
        "phantoms",
        "--strategies",
        "random",
        "uncertainty",
        "--seeds",
        0,
    ]
    monkeypatch.setattr(sys, "argv", ["annotation_loop.py", *map(str, [*words, "--rounds", 1, "--count", 3])])
    loop.main()
    result = json.loads((work / "results" / "annotation_loop.json").read_text(encoding="utf-8"))
    by_round, gain = result["tables"]
    rows = {(row[0], row[1]): row[2:] for row in by_round["rows"]}
    assert rows["random", "clicks"] == rows["uncertainty", "clicks"] == ["0", "3"]
    assert rows["all cells", "clicks"][1] == "24"
    f1 = {name: [float(value) for value in rows[name, "cell F1"]] for name in ("random", "uncertainty")}
    assert f1["random"][0] == f1["uncertainty"][0]
    ((name, gained, *_),) = gain["rows"]
    assert name == "uncertainty"
    assert float(gained) == pytest.approx(f1["uncertainty"][1] - f1["random"][1], abs=2e-3)
