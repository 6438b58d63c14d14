"""The learners and statistics of the two-sample benchmark."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from stride_monai.phantom import render_field


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "two_sample.py"
    spec = importlib.util.spec_from_file_location("two_sample", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["two_sample"] = module
    spec.loader.exec_module(module)
    return module


def test_auc_is_the_share_of_pairs_in_order(bench: ModuleType) -> None:
    rng = np.random.default_rng(0)
    scores, real = rng.integers(0, 6, 40).astype(float), rng.random(40) < 0.4
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[real] for b in scores[~real]]
    assert bench.auc(scores, real) == pytest.approx(np.mean(pairs))


@pytest.mark.parametrize("learner", ["logistic", "stumps"])
def test_a_learner_finds_a_shift_and_nothing_in_noise(bench: ModuleType, learner: str) -> None:
    rng = np.random.default_rng(1)
    real, fold = np.arange(400) % 3 == 0, np.arange(400) // 80
    noise = rng.normal(size=(400, 12))
    shifted = noise + 1.2 * real[:, None] * (np.arange(12) == 4)
    assert 0.35 < bench.fold_aucs(bench.validated(noise, real, fold)[learner], real, fold).mean() < 0.65
    assert bench.fold_aucs(bench.validated(shifted, real, fold)[learner], real, fold).mean() > 0.7


def test_stumps_find_a_range_that_no_line_separates(bench: ModuleType) -> None:
    rng = np.random.default_rng(2)
    real = np.arange(600) % 2 == 0
    value = np.where(real, rng.normal(0, 0.3, 600), rng.normal(0, 2, 600))[:, None]
    scores = bench.validated(value, real, np.arange(600) // 120)
    assert bench.auc(scores["stumps"], real) > 0.75
    assert bench.auc(scores["logistic"], real) < 0.65


def test_a_field_is_never_learned_from_when_it_is_judged(bench: ModuleType) -> None:
    """A number that tells fields apart, and nothing else, must not help."""
    rng = np.random.default_rng(3)
    field = np.repeat(np.arange(40), 10)
    real = field % 2 == 0
    signature = rng.normal(size=(40, 8))[field]
    scores = bench.validated(signature, real, field // 2 % 5)
    assert bench.fold_aucs(scores["stumps"], real, field // 2 % 5).mean() < 0.8


def test_statistics_are_finite_named_once_and_reproducible(bench: ModuleType) -> None:
    pixels, truth = render_field(160, 140, mpp=bench.MPP, lesions={"LSIL": 1}, seed=2)
    x, y = truth.cells[0].nuclei[0].mean(axis=0)
    first, second = (bench.statistics(*bench.cut(pixels, x, y, 112.0, 0.5), 0.5) for _ in range(2))
    assert first == second
    assert np.isfinite(list(first.values())).all()
    assert {family for family, _ in first} == {"color", "gradient", "lbp", "glcm", "spectrum", "nucleus", "cover"}
    blank = bench.statistics(np.full((224, 224, 3), 240, np.uint8), (112.0, 112.0), 0.5)
    assert blank.keys() == first.keys()
    assert np.isfinite(list(blank.values())).all()


def test_a_crop_at_the_border_is_moved_inside(bench: ModuleType) -> None:
    image = np.zeros((600, 700, 3), np.uint8)
    image[10:20, 690:700] = 255
    crop, (x, y) = bench.cut(image, 695.0, 15.0, 112.0, 0.5)
    assert crop.shape == (224, 224, 3)
    assert crop[int(y), int(x)].min() > 200
