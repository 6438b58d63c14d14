"""Equation 5 against a slow literal formula, and what moves it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from stride_monai.errors import ConfigError
from stride_monai.losses.alignment import AlignmentLoss
from stride_monai.networks.alignment.aligner import DescriptionAligner

CELLS, TEXTS, DIM = 5, 4, 3


@pytest.fixture
def pairs() -> tuple[Tensor, Tensor, Tensor]:
    """Image features V, text features T and multi-hot targets Y."""
    random = torch.Generator().manual_seed(1)
    v, t = (torch.randn(n, DIM, generator=random, dtype=torch.float64) for n in (CELLS, TEXTS))
    return v, t, (torch.rand(CELLS, TEXTS, generator=random) > 0.6).long()


def cosine(a: Tensor, b: Tensor) -> float:
    dot = sum(float(x) * float(y) for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(float(x) ** 2 for x in a)) / math.sqrt(sum(float(y) ** 2 for y in b))


def entropy(logit: float, wanted: int) -> float:
    sigma = 1 / (1 + math.exp(-logit))
    return -math.log(sigma) if wanted else -math.log(1 - sigma)


def literal(v: Tensor, t: Tensor, y: Tensor) -> tuple[float, float]:
    """The two terms of equation 5, each a mean over its own pairs: of V and T, and of T and V."""
    first = [entropy(cosine(v[i], t[j]), int(y[i, j])) for i in range(len(v)) for j in range(len(t))]
    second = [entropy(cosine(t[j], v[i]), int(y.T[j, i])) for j in range(len(t)) for i in range(len(v))]
    return sum(first) / len(first), sum(second) / len(second)


def cosines(v: Tensor, t: Tensor) -> Tensor:
    """As the network makes them, with an identity for its image projection."""
    aligner = DescriptionAligner(DIM, DIM).double()
    torch.nn.init.eye_(aligner.image_projection.weight)
    torch.nn.init.zeros_(aligner.image_projection.bias)
    return aligner.logits(aligner.cosines(v, t)).detach()


def test_equation_5_literally(pairs: tuple[Tensor, Tensor, Tensor]) -> None:
    v, t, y = pairs
    first, second = literal(v, t, y)
    assert float(AlignmentLoss()(cosines(v, t), y)) == pytest.approx(first + second, abs=1e-10)


def test_its_two_terms_are_equal_under_the_mean(pairs: tuple[Tensor, Tensor, Tensor]) -> None:
    v, t, y = pairs
    first, second = literal(v, t, y)
    assert first == pytest.approx(second, abs=1e-12)
    assert float(AlignmentLoss()(cosines(v, t), y)) == pytest.approx(2 * first, abs=1e-10)


def test_pairs_that_do_not_count_add_nothing(pairs: tuple[Tensor, Tensor, Tensor]) -> None:
    v, t, y = pairs
    y[0, 1] = y[3, 2] = -1
    counted = sum(entropy(cosine(v[i], t[j]), int(y[i, j])) for i in range(CELLS) for j in range(TEXTS) if y[i, j] >= 0)
    logits = cosines(v, t).requires_grad_()
    loss = AlignmentLoss()(logits, y)
    assert float(loss.detach()) == pytest.approx(2 * counted / (CELLS * TEXTS), abs=1e-10)
    loss.backward()
    assert logits.grad is not None
    assert ((logits.grad == 0) == (y == -1)).all()


def test_moves_with_cells_texts_and_targets(pairs: tuple[Tensor, Tensor, Tensor]) -> None:
    v, t, y = pairs
    loss = AlignmentLoss()
    start = float(loss(cosines(v, t), y))
    assert float(loss(cosines(v * torch.tensor([1.0, 1.1, 1.0]).double(), t), y)) != start
    assert float(loss(cosines(v, t * torch.tensor([1.0, 1.1, 1.0]).double()), y)) != start
    assert float(loss(cosines(v, t), 1 - y)) != start
    assert float(loss(cosines(3 * v, t / 2), y)) == pytest.approx(start, abs=1e-12), "lengths do not count"


def test_the_mean_over_shares_is_the_loss_of_the_batch(pairs: tuple[Tensor, Tensor, Tensor]) -> None:
    """With pairs that do not count as well: so data parallelism may average."""
    v, t, y = pairs
    y[0, 0] = -1
    whole = AlignmentLoss()(cosines(v[:4], t), y[:4])
    shares = [AlignmentLoss()(cosines(v[k:4:2], t), y[k:4:2]) for k in (0, 1)]
    torch.testing.assert_close(sum(shares) / 2, whole, rtol=0, atol=1e-12)


def test_refuses_other_texts_than_it_has_targets_for() -> None:
    with pytest.raises(ConfigError, match="a column for each text"):
        AlignmentLoss()(torch.zeros(2, 3), torch.zeros(2, 4))
