"""Each semi-supervised loss against its formula, written out slowly; and none may ignore what the student says."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from stride_monai.errors import ConfigError
from stride_monai.losses.crest import CReST, keep_rates, most_confident
from stride_monai.losses.fixmatch import FixMatch
from stride_monai.losses.flexmatch import FlexMatch
from stride_monai.losses.mean_teacher import MeanTeacher
from stride_monai.losses.semi_supervised import SemiSupervisedLoss
from stride_monai.networks.ema import EmaModel

M, C, POPULATION = 12, 3, 40
METHODS: dict[str, Callable[[], SemiSupervisedLoss]] = {
    "mean_teacher": lambda: MeanTeacher(rampup_steps=10),
    "fixmatch": FixMatch,
    "flexmatch": lambda: FlexMatch(POPULATION, C),
    "crest": lambda: CReST([50, 1000, 200]),
}


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> SemiSupervisedLoss:
    return METHODS[request.param]()


def logits(seed: int, scale: float = 4.0) -> Tensor:
    return torch.randn(M, C, generator=torch.Generator().manual_seed(seed)) * scale


def softmax(row: list[float]) -> list[float]:
    powers = [math.exp(value - max(row)) for value in row]
    return [power / sum(powers) for power in powers]


def masked_cross_entropy(student: Tensor, label: list[int], accepted: list[bool]) -> float:
    """Mean over ALL cells of the cross-entropy of the accepted ones."""
    total = 0.0
    for row, c, counts in zip(student.tolist(), label, accepted, strict=True):
        total += -math.log(softmax(row)[c]) if counts else 0.0
    return total / len(label)


def first(values: list[float]) -> int:
    return max(range(len(values)), key=values.__getitem__)


# What holds for every method.


def test_the_loss_moves_when_the_student_does(method: SemiSupervisedLoss) -> None:
    """A consistency term between a batch and itself, or through a detached student, would stand still."""
    student, teacher, index = logits(1).requires_grad_(), logits(2, scale=12), torch.arange(M)
    found = method(student, teacher, index, 9)
    found.loss.backward()
    assert found.accepted.any()
    assert student.grad is not None
    assert bool((student.grad[found.accepted].abs().sum(1) > 1e-6).all())
    moved = METHODS_AGAIN(method)(student.detach() + logits(3), teacher, index, 9)
    assert abs(float(moved.loss) - float(found.loss.detach())) > 1e-3


def METHODS_AGAIN(method: SemiSupervisedLoss) -> SemiSupervisedLoss:  # noqa: N802
    """A fresh one of the same kind: FlexMatch and CReST remember."""
    return next(make() for make in METHODS.values() if type(make()) is type(method))


def test_the_loss_moves_with_the_students_picture_through_a_network(method: SemiSupervisedLoss) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, C))
    with torch.no_grad():
        network[1].weight.mul_(20)  # sure enough for pseudo-labels
    ema = EmaModel(network)
    picture, other = torch.rand(2, M, 3, 2, 2)
    with torch.no_grad():
        teacher = ema(picture) if method.teacher == "ema" else network(picture)
    losses = [
        float(METHODS_AGAIN(method)(network(view), teacher, torch.arange(M), 9).loss.detach())
        for view in (picture, other)
    ]
    assert abs(losses[0] - losses[1]) > 1e-3
    assert losses[1] > 1e-3


def test_no_gradient_reaches_the_teacher(method: SemiSupervisedLoss) -> None:
    student, teacher = logits(1).requires_grad_(), logits(2, scale=12).requires_grad_()
    method(student, teacher, torch.arange(M), 9).loss.backward()
    assert teacher.grad is None


def test_half_precision_logits_give_a_float32_loss(method: SemiSupervisedLoss) -> None:
    found = method(logits(1).half(), logits(2).half(), torch.arange(M), 3)
    assert found.loss.dtype == torch.float32
    assert bool(found.loss.isfinite())


@pytest.mark.parametrize("name", ["fixmatch", "crest"])
def test_nothing_sure_gives_zero_and_zero_gradients(name: str) -> None:
    student = (logits(1) * 1000).requires_grad_()
    found = METHODS[name]()(student, torch.zeros(M, C), torch.arange(M), 0)
    found.loss.backward()
    assert not found.accepted.any()
    assert float(found.loss) == 0
    assert student.grad is not None
    assert torch.equal(student.grad, torch.zeros(M, C))


def test_flexmatch_once_learnt_gives_zero_for_nothing_sure() -> None:
    method = FlexMatch(3, C)
    method.latest.copy_(torch.tensor([0, 1, 2]))
    student = logits(1).requires_grad_()
    found = method(student, torch.zeros(M, C), torch.zeros(M, dtype=torch.int64), 0)
    found.loss.backward()
    assert float(found.loss) == 0
    assert student.grad is not None
    assert torch.equal(student.grad, torch.zeros(M, C))


# Mean Teacher


@pytest.mark.parametrize(("step", "ramp"), [(0, math.exp(-5)), (5, math.exp(-1.25)), (10, 1.0), (999, 1.0)])
def test_mean_teacher_is_its_formula(step: int, ramp: float) -> None:
    student, teacher = logits(1), logits(2)
    total = 0.0
    for p_row, q_row in zip(student.tolist(), teacher.tolist(), strict=True):
        total += sum((p - q) ** 2 for p, q in zip(softmax(p_row), softmax(q_row), strict=True))
    found = MeanTeacher(weight=7.0, rampup_steps=10)(student, teacher, torch.arange(M), step)
    assert float(found.loss) == pytest.approx(7.0 * ramp * total / (M * C), rel=1e-5)
    assert found.accepted.all()
    assert torch.equal(found.label, teacher.argmax(1))


def test_mean_teacher_without_a_ramp_and_its_errors() -> None:
    assert MeanTeacher().ramp(0) == 1
    for wrong in ({"weight": -1.0}, {"rampup_steps": -1.0}):
        with pytest.raises(ConfigError, match="0 or more"):
            MeanTeacher(**wrong)


# FixMatch


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**31 - 2), scale=st.floats(0.1, 20), threshold=st.floats(0.4, 0.99))
def test_fixmatch_is_its_formula(seed: int, scale: float, threshold: float) -> None:
    student, teacher = logits(seed), logits(seed + 1, scale)
    q = [softmax(row) for row in teacher.tolist()]
    accepted = [max(row) >= threshold for row in q]
    found = FixMatch(threshold, weight=0.5)(student, teacher, torch.arange(M), 0)
    near = [abs(max(row) - threshold) < 1e-5 for row in q]
    if not any(near):
        assert found.accepted.tolist() == accepted
        expected = 0.5 * masked_cross_entropy(student, [first(row) for row in q], accepted)
        assert float(found.loss) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_the_threshold_itself_is_enough() -> None:
    teacher = torch.zeros(1, 2)  # both classes at exactly one half
    at, above = FixMatch(0.5), FixMatch(math.nextafter(0.5, 1) + 1e-7)
    assert at(torch.zeros(1, 2), teacher, torch.zeros(1, dtype=torch.int64), 0).accepted.tolist() == [True]
    assert above(torch.zeros(1, 2), teacher, torch.zeros(1, dtype=torch.int64), 0).accepted.tolist() == [False]


def test_the_mean_is_over_all_unlabeled_cells() -> None:
    teacher = torch.tensor([[9.0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]])
    found = FixMatch()(torch.zeros(4, 3), teacher, torch.arange(4), 0)
    assert float(found.loss) == pytest.approx(math.log(3) / 4)


@pytest.mark.parametrize("wrong", [{"threshold": 1.1}, {"threshold": -0.1}, {"weight": -1.0}])
def test_fixmatch_refuses(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="use 0 to"):
        FixMatch(**wrong)


# FlexMatch


def slow_thresholds(latest: list[int], tau: float) -> list[float]:
    sigma = [sum(label == c for label in latest) for c in range(C)]
    unused = sum(label < 0 for label in latest)
    learnt = [s / max(max(sigma), unused) for s in sigma]
    return [tau * b / (2 - b) for b in learnt]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31 - 1), steps=st.integers(1, 6), tau=st.sampled_from([0.6, 0.8, 0.95]))
def test_flexmatch_is_its_formula_over_a_run(seed: int, steps: int, tau: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    method, latest = FlexMatch(POPULATION, C, tau), [-1] * POPULATION
    for step in range(steps):
        student, teacher = torch.randn(2, M, C, generator=generator) * 5
        index = torch.randperm(POPULATION, generator=generator)[:M]
        limits = slow_thresholds(latest, tau)
        torch.testing.assert_close(method.thresholds(), torch.tensor(limits, dtype=torch.float64))
        q = [softmax(row) for row in teacher.tolist()]
        label = [first(row) for row in q]
        if any(abs(max(row) - limit) < 1e-5 for row in q for limit in (*limits, tau)):
            return  # too near for float32
        accepted = [max(row) >= limits[c] for row, c in zip(q, label, strict=True)]
        found = method(student, teacher, index, step)
        assert found.accepted.tolist() == accepted
        assert float(found.loss) == pytest.approx(masked_cross_entropy(student, label, accepted), rel=1e-4, abs=1e-6)
        for cell, row, c in zip(index.tolist(), q, label, strict=True):
            if max(row) >= tau:
                latest[cell] = c
        assert method.latest.tolist() == latest


def test_flexmatch_warms_up() -> None:
    """At first every threshold is 0; while most cells are unused, sigma is divided by their number."""
    method = FlexMatch(10, 2, threshold=0.9)
    assert method.thresholds().tolist() == [0, 0]
    method.latest[:4] = torch.tensor([0, 0, 0, 1])  # 6 unused, more than sigma_0 = 3
    b = [3 / 6, 1 / 6]
    assert method.thresholds().tolist() == pytest.approx([0.9 * x / (2 - x) for x in b])
    method.latest[:] = torch.tensor([0] * 8 + [1] * 2)  # none unused: divided by the largest sigma
    assert method.thresholds().tolist() == pytest.approx([0.9, 0.9 * 0.25 / 1.75])


def test_flexmatch_keeps_the_latest_sure_label() -> None:
    method, index = FlexMatch(2, 2), torch.tensor([1])
    for row, remembered in (([9.0, 0.0], 0), ([0.0, 9.0], 1), ([0.1, 0.0], 1)):
        method(torch.zeros(1, 2), torch.tensor([row]), index, 0)
        assert method.latest.tolist() == [-1, remembered]
    resumed = FlexMatch(2, 2)
    resumed.load_state_dict(method.state_dict())
    assert resumed.latest.tolist() == [-1, 1]


def test_flexmatch_best_learnt_class_has_fixmatch_threshold_to_the_bit() -> None:
    method = FlexMatch(1, 2, threshold=0.95)
    method.latest[0] = 0
    assert float(method.thresholds().float()[0]) == float(torch.tensor(0.95))


def test_flexmatch_refuses() -> None:
    with pytest.raises(ConfigError, match="unlabelled stream"):
        FlexMatch(0, 5)


# CReST


def test_crest_ranks_by_frequency_not_by_class_id() -> None:
    assert keep_rates([50, 1000, 200]) == pytest.approx([1.0, 0.3684, 0.5848], abs=1e-4)
    assert keep_rates([1000, 200, 50]) == pytest.approx([0.3684, 0.5848, 1.0], abs=1e-4)
    assert keep_rates([100, 0, 10]) == pytest.approx([0.1 ** (1 / 3), 0, 1.0])
    assert keep_rates([7]) == [1.0]
    assert keep_rates([5, 9], alpha=0) == [1.0, 1.0]


@given(counts=st.lists(st.integers(1, 10_000), min_size=1, max_size=6), alpha=st.floats(0, 1))
def test_crest_keeps_more_of_rarer_classes(counts: list[int], alpha: float) -> None:
    rates, ranked = keep_rates(counts, alpha), sorted(range(len(counts)), key=lambda c: -counts[c])
    for place, c in enumerate(ranked):  # the formula, with ranks counted from 1
        rank, number = place + 1, len(counts)
        assert rates[c] == pytest.approx((counts[ranked[number + 1 - rank - 1]] / counts[ranked[0]]) ** alpha)
    assert rates[ranked[-1]] == 1
    assert all(rates[a] <= rates[b] + 1e-12 for a, b in itertools.pairwise(ranked))


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**31 - 1), number=st.integers(0, 60))
def test_crest_chooses_the_most_confident_of_each_class(seed: int, number: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    probabilities = torch.softmax(3 * torch.randn(number, C, generator=generator), 1)
    method = CReST([50, 1000, 200])
    chosen, label = method.choose(probabilities)
    expected: list[int] = []
    for c, rate in enumerate((1.0, 0.05 ** (1 / 3), 0.2 ** (1 / 3))):
        members = [i for i in range(number) if first(probabilities[i].tolist()) == c]
        members.sort(key=lambda i: -float(probabilities[i, c]))
        expected += members[: int(rate * len(members) + 1e-9)]
    assert chosen.tolist() == sorted(expected)
    assert torch.equal(label, probabilities.argmax(1)[chosen])


def test_crest_breaks_ties_by_order() -> None:
    assert most_confident(torch.full((4,), 0.5), torch.zeros(4, dtype=torch.int64), [0.5]).tolist() == [0, 1]


def test_crest_temperature_falls_from_one_to_a_half() -> None:
    method, seen = CReST([9, 1], generations=6), []
    for generation in range(6):
        method.start(generation)
        seen.append(method.temperature)
        p = [0.9**method.temperature, 0.1**method.temperature]
        torch.testing.assert_close(method.target(), torch.tensor(p) / sum(p))
    assert seen == pytest.approx([1.0, 0.9, 0.8, 0.7, 0.6, 0.5])
    assert CReST([9, 1], generations=1).temperature == 1


def test_crest_is_fixmatch_on_aligned_probabilities() -> None:
    counts, window = [50, 1000, 200], 2
    method, means = CReST(counts, threshold=0.6, window=window), []
    method.start(3)  # t = 0.7
    target = [(n / 1250) ** 0.7 for n in counts]
    target = [value / sum(target) for value in target]
    for step in range(4):
        student, teacher = logits(10 + step), logits(20 + step)
        q = [softmax(row) for row in teacher.tolist()]
        means = [*means, [sum(row[c] for row in q) / M for c in range(C)]][-window:]
        usual = [sum(mean[c] for mean in means) / len(means) for c in range(C)]
        raw = [[row[c] * target[c] / usual[c] for c in range(C)] for row in q]
        aligned = [[value / sum(row) for value in row] for row in raw]
        accepted = [max(row) >= 0.6 for row in aligned]
        found = method(student, teacher, torch.arange(M), step)
        assert found.label.tolist() == [first(row) for row in aligned]
        assert found.accepted.tolist() == accepted
        expected = masked_cross_entropy(student, found.label.tolist(), accepted)
        assert float(found.loss) == pytest.approx(expected, rel=1e-4)
    again = CReST(counts, window=window)
    again.load_state_dict(method.state_dict())
    assert again.temperature == pytest.approx(0.7)
    assert torch.equal(again.recent, method.recent)
    method.start(4)
    assert int(method.batches) == 0


def test_crest_never_gives_a_class_without_labeled_cells() -> None:
    method = CReST([50, 0, 200])
    found = method(logits(1), logits(2, 20), torch.arange(M), 0)
    assert 1 not in found.label.tolist()
    assert 1 not in method.choose(torch.softmax(logits(2, 20), 1))[1].tolist()


@pytest.mark.parametrize(
    "wrong", [{"counts": [0, 0]}, {"counts": [1, 2], "generations": 0}, {"counts": [1, 2], "alpha": 2.0}]
)
def test_crest_refuses(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        CReST(**wrong)  # type: ignore[arg-type]
