"""Which cells are given next: each strategy against a slow formula, and the rules that hold for all."""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from findings_samples import make_findings
from hypothesis import given
from hypothesis import strategies as st

from stride_monai.active_learning import (
    STRATEGIES,
    Candidates,
    Read,
    disagreement,
    entropy,
    farthest_first,
    propose,
    reads_of,
)
from stride_monai.annotations import Action, AnnotationStore, Kind, cells_from_findings, proposed_cell_id
from stride_monai.errors import ConfigError
from stride_monai.workflows.locate import bundle_root

CLASSES = 5


def table(slides: list[str], seed: int = 0, **columns: Any) -> Candidates:
    """Cells in the order of rank within each slide, with numbers by lot."""
    draw = np.random.default_rng(seed)
    count = len(slides)
    ranks = [slides[:k].count(slide) + 1 for k, slide in enumerate(slides)]
    drawn = {
        "ranks": np.array(ranks, dtype=int),
        "scores": draw.random(count),
        "boxes": draw.random((count, 4)),
        "probabilities": draw.dirichlet(np.ones(CLASSES), count),
        "teacher": draw.dirichlet(np.ones(CLASSES), count),
        "features": draw.normal(size=(count, 3)),
    }
    return Candidates(slides, [str(rank) for rank in ranks], **{**drawn, **columns})


runs = st.builds(
    table,
    st.lists(st.sampled_from("abcd"), max_size=12),
    st.integers(0, 99),
)
reads_of_a_run = st.lists(
    st.builds(Read, st.sampled_from("abcd"), st.integers(1, 6).map(str), st.sampled_from(["Ann", "Bo"])), max_size=12
)


@given(runs, st.sampled_from(sorted(STRATEGIES)), st.integers(0, 14), reads_of_a_run, st.booleans(), st.integers(0, 9))
def test_the_rules_hold_for_every_strategy(
    run: Candidates, strategy: str, count: int, reads: list[Read], double: bool, seed: int
) -> None:
    asked: dict[str, Any] = {"reader": "Ann", "reads": reads, "double_read": double}
    chosen = propose(strategy, run, count, seed, **asked)
    readers = {key: {read.reader for read in reads if (read.slide_id, read.cell_id) == key} for key in run.keys}
    may = [key for key in run.keys if "Ann" not in readers[key] and len(readers[key]) < (2 if double else 1)]
    keys = [run.keys[k] for k in chosen]
    assert len(set(keys)) == len(keys) == min(count, len(may))
    assert set(keys) <= set(may)
    looked_at = {read.slide_id for read in reads}
    seen = [slide_id in looked_at for slide_id, _ in keys]
    assert seen == sorted(seen), "a slide that nobody has looked at comes first"
    fresh = [key for key in may if key[0] not in looked_at]
    assert not any(seen) or set(fresh) <= set(keys)
    assert propose(strategy, run, count, seed, **asked).tolist() == chosen.tolist()


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_a_cell_that_another_reader_holds_is_given_only_for_a_double_read(strategy: str) -> None:
    run = table(["a", "a"])
    held = [Read("a", "1", "Bo")]
    assert propose(strategy, run, 2, reader="Ann", reads=held).tolist() == [1]
    assert sorted(propose(strategy, run, 2, reader="Ann", reads=held, double_read=True)) == [0, 1]
    assert propose(strategy, run, 2, reader="Bo", reads=held, double_read=True).tolist() == [1]
    both = [*held, Read("a", "1", "Cy")]
    assert propose(strategy, run, 2, reader="Ann", reads=both, double_read=True).tolist() == [1]


def test_top_k_review_takes_the_first_cell_of_every_slide_then_the_second() -> None:
    run = table(["a", "a", "b", "b", "c"], scores=np.array([0.9, 0.8, 0.7, 0.6, 0.95]))
    assert propose("top_k_review", run, 4).tolist() == [4, 0, 2, 1]
    assert propose("top_k_review", run, 4, reads=[Read("c", "9", "Bo")]).tolist() == [0, 2, 1, 3]


@given(st.lists(st.lists(st.floats(0, 1), min_size=CLASSES, max_size=CLASSES).filter(any), min_size=1, max_size=6))
def test_entropy_is_the_sum_written_out(rows: list[list[float]]) -> None:
    p = np.array([[value / sum(row) for value in row] for row in rows])
    by_hand = [-sum(value * math.log(value) for value in row if value > 0) for row in p.tolist()]
    assert np.allclose(entropy(p), by_hand)
    assert (entropy(p) <= math.log(CLASSES) + 1e-12).all()


@given(st.integers(0, 999))
def test_disagreement_is_the_mean_divergence_from_the_middle(seed: int) -> None:
    p, q = np.random.default_rng(seed).dirichlet(np.full(CLASSES, 0.3), (2, 4))
    for row in range(4):
        middle = [(a + b) / 2 for a, b in zip(p[row], q[row], strict=True)]
        by_hand = sum(
            a * math.log(a / m) / 2 for side in (p[row], q[row]) for a, m in zip(side, middle, strict=True) if a > 0
        )
        assert math.isclose(disagreement(p, q)[row], by_hand, abs_tol=1e-12)
    assert np.allclose(entropy((p + q) / 2), (entropy(p) + entropy(q)) / 2 + disagreement(p, q))


def test_uncertainty_takes_what_is_open_and_where_the_teacher_says_another_class() -> None:
    sure, other, half = np.eye(CLASSES)[0], np.eye(CLASSES)[2], np.array([0.6, 0.4, 0, 0, 0])
    run = table(["a"] * 3, probabilities=np.stack([sure, sure, half]), teacher=None)
    assert propose("uncertainty", run, 1).tolist() == [2]
    told = run.seen_by(teacher=np.stack([sure, other, half]))
    assert propose("uncertainty", told, 3).tolist() == [1, 2, 0]
    assert disagreement(told.probabilities, np.stack([sure, other, half])).tolist() == [0, math.log(2), 0]


@given(st.integers(0, 999), st.integers(1, 9), st.integers(0, 3), st.integers(0, 9))
def test_the_core_set_is_that_of_the_slow_formula(seed: int, count: int, centers: int, asked: int) -> None:
    draw = np.random.default_rng(seed)
    points, known = draw.normal(size=(count, 2)), draw.normal(size=(centers, 2))
    first = int(draw.integers(count))
    there = [tuple(center) for center in known]
    by_hand: list[int] = []
    while len(by_hand) < min(asked, count):
        left = [k for k in range(count) if k not in by_hand]
        far = {k: min((math.dist(points[k], center) for center in there), default=0.0) for k in left}
        best = first if not there else max(left, key=lambda k: far[k])
        by_hand.append(best)
        there.append(tuple(points[best]))
    assert farthest_first(points, asked, known, first).tolist() == by_hand


@given(st.integers(0, 999), st.integers(1, 8), st.integers(1, 4))
def test_the_core_set_is_at_most_twice_as_wide_as_the_best(seed: int, count: int, asked: int) -> None:
    points = np.random.default_rng(seed).normal(size=(count, 2))

    def widest(chosen: Any) -> float:
        return max(min(math.dist(point, points[k]) for k in chosen) for point in points)

    best = min(widest(some) for some in itertools.combinations(range(count), min(asked, count)))
    assert widest(farthest_first(points, asked)) <= 2 * best + 1e-9


def test_the_core_set_of_equal_points_still_gives_each_once() -> None:
    assert sorted(farthest_first(np.zeros((4, 2)), 4)) == [0, 1, 2, 3]


def test_diversity_keeps_away_from_what_was_read_and_asks_for_features() -> None:
    directions = np.array([[1.0, 0.0], [0.99, 0.1], [0.0, 1.0]])
    run = table(["a"] * 3, features=directions)
    assert propose("diversity", run, 1, reads=[Read("a", "1", "Bo")]).tolist() == [2]
    longer = table(["a"] * 3, features=directions * [[1.0], [50.0], [1.0]])
    assert propose("diversity", longer, 1, reads=[Read("a", "1", "Bo")]).tolist() == [2]
    with pytest.raises(ConfigError, match="needs the features of the cells"):
        propose("diversity", table(["a"], features=None), 1)


def test_random_is_another_order_with_another_seed_and_favours_no_cell() -> None:
    run = table(["a"] * 6)
    counts = np.bincount([propose("random", run, 1, seed)[0] for seed in range(3000)], minlength=6)
    assert (abs(counts - 500) < 5 * math.sqrt(500)).all()
    assert propose("random", run, 6, 1).tolist() != propose("random", run, 6, 2).tolist()


def test_the_cells_of_findings_are_candidates() -> None:
    found = make_findings(5)
    run = Candidates.of_findings([found])
    assert run.keys == [(found.slide.slide_id, proposed_cell_id(cell.box)) for cell in found.cells]
    assert run.ranks.tolist() == [cell.rank for cell in found.cells]
    assert run.boxes.tolist() == [list(cell.box) for cell in found.cells]
    one = run.take([len(run) - 1])
    assert one.probabilities[0].tolist() == list(found.cells[-1].probabilities)
    assert len(Candidates.of_findings([])) == 0
    assert propose("random", Candidates.of_findings([]), 3).tolist() == []
    plain = replace(cells_from_findings(found)[0], probabilities=())
    with pytest.raises(ConfigError, match="1 proposed cells were not classified"):
        Candidates.of_proposals({"a": [plain]})


def test_the_example_of_the_docs_gives_each_reader_cells_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = bundle_root("cell_cls").parent.parent / "docs" / "active-learning.md"
    (example,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    for name in ("a", "b"):
        (tmp_path / "results" / name).mkdir(parents=True)
        text = make_findings(20, slide_id=name, file_name=f"{name}.svs").to_json()
        (tmp_path / "results" / name / "findings.json").write_text(text)
    monkeypatch.chdir(tmp_path)
    first: dict[str, Any] = {}
    second: dict[str, Any] = {}
    exec(example, first)
    exec(example.replace('"Ann"', '"Bo"'), second)
    assert (len(first["cells"]), len(second["cells"])) == (16, 16)
    assert not {*first["cells"]} & {*second["cells"]}


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"scores": np.array([0.5])}, r"scores of the candidates have shape \(1,\)"),
        ({"probabilities": np.full((2, CLASSES), np.nan)}, "probabilities of the candidates are not all finite"),
        ({"teacher": np.full((2, CLASSES), 2.0)}, "teacher of the candidates are not all between 0 and 1"),
        ({"features": np.zeros((3, 4))}, "features of the candidates have shape"),
    ],
)
def test_a_table_that_cannot_be_is_refused(columns: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        table(["a", "a"], **columns)


def test_a_cell_twice_a_wrong_name_and_a_negative_count_are_refused() -> None:
    run = table(["a", "a"])
    with pytest.raises(ConfigError, match="cell '1' of slide 'a' is a candidate twice"):
        run.take([0, 0])
    with pytest.raises(ConfigError, match="did you mean uncertainty"):
        propose("uncertain", run, 1)
    with pytest.raises(ConfigError, match="-1 cells were asked for"):
        propose("random", run, -1)


def test_reads_are_those_of_the_store(tmp_path: Path) -> None:
    """A cell that was only described is not read yet; the ids are those that the store gives."""
    found = make_findings(4, slide_id="a")
    run = Candidates.of_findings([found])
    with AnnotationStore(tmp_path / "annotations.sqlite") as store:
        proposals = store.propose(found)
        assert run.keys == [("a", cell.cell_id) for cell in proposals]
        first, second = run.cell_ids[:2]
        store.append(Action("Bo", "a", Kind.LABEL, first, None, "LSIL"))
        store.append(Action("Bo", "a", Kind.DESCRIPTIONS, second, None, {"chosen": [], "typed": "dark"}))
        reads = reads_of([store.state("a")])
    assert reads == [Read("a", first, "Bo")]
    assert sorted(propose("random", run, 9, reader="Ann", reads=reads)) == [1, 2, 3]
