"""Endless batches: the same by step whatever came before, every sample once per pass, shared out over processes."""

from __future__ import annotations

from itertools import chain
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stride_monai.data.datasets.streams import EndlessBatches, EndlessStream
from stride_monai.errors import ConfigError


def first(batches: EndlessBatches, count: int) -> list[list[int]]:
    return [batch for batch, _ in zip(batches, range(count), strict=False)]


@given(size=st.integers(1, 40), batch_size=st.integers(1, 12), seed=st.integers(0, 99), step=st.integers(0, 30))
def test_the_batch_of_a_step_depends_on_seed_and_step_alone(size: int, batch_size: int, seed: int, step: int) -> None:
    whole = first(EndlessBatches(size, batch_size, seed), step + 3)
    assert first(EndlessBatches(size, batch_size, seed, first=step), 3) == whole[step:]
    assert all(len(batch) == batch_size and set(batch) <= set(range(size)) for batch in whole)
    if size >= batch_size:
        assert all(len(set(batch)) == batch_size for batch in whole)


def test_a_pass_holds_every_sample_once_and_passes_differ() -> None:
    batches = first(EndlessBatches(12, 4, seed=1), 6)
    assert sorted(chain(*batches[:3])) == sorted(chain(*batches[3:])) == list(range(12))
    assert batches[:3] != batches[3:]
    assert first(EndlessBatches(12, 4, seed=2), 3) != batches[:3]


def test_processes_share_each_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = first(EndlessBatches(20, 6), 5)
    monkeypatch.setattr("ignite.distributed.get_world_size", lambda: 2)
    shares = []
    for rank in (0, 1):
        monkeypatch.setattr("ignite.distributed.get_rank", lambda rank=rank: rank)
        shares.append(first(EndlessBatches(20, 6), 5))
    for batch, even, odd in zip(whole, *shares, strict=True):
        assert (even, odd) == (batch[::2], batch[1::2])
    with pytest.raises(ConfigError, match="cannot be shared"):
        EndlessStream([{"x": 0}], 3)


def test_weights_draw_in_proportion() -> None:
    batches = EndlessBatches(3, 1000, weights=torch.tensor([0.0, 1.0, 3.0]))
    drawn = torch.bincount(torch.tensor([*chain(*first(batches, 10))]), minlength=3) / 10_000
    assert drawn[0] == 0
    assert float(drawn[2]) == pytest.approx(0.75, abs=0.02)
    assert batches.batch(7) == EndlessBatches(3, 1000, first=5, weights=torch.tensor([0.0, 1.0, 3.0])).batch(7)


@pytest.mark.parametrize("weights", [torch.ones(2), torch.tensor([1.0, -1.0, 1.0]), torch.zeros(3)])
def test_refuses_weights_that_are_none(weights: torch.Tensor) -> None:
    with pytest.raises(ConfigError, match="weights"):
        EndlessBatches(3, 1, weights=weights)


def test_refuses_nothing_to_draw() -> None:
    with pytest.raises(ConfigError, match="0 samples"):
        EndlessBatches(0, 4)


class Squares:
    """Loads whole batches."""

    def __len__(self) -> int:
        return 10

    def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
        return [{"square": index**2, "name": str(index)} for index in indices]


@pytest.mark.parametrize("workers", [0, 2])
def test_stream_gives_the_batch_of_the_step_it_is_asked_for(workers: int) -> None:
    stream, order = EndlessStream(Squares(), 4, seed=3, num_workers=workers), EndlessBatches(10, 4, seed=3)
    for step in (0, 1, 2, 7, 8, 0):
        batch = stream(step)
        assert batch["index"].tolist() == order.batch(step)
        assert batch["square"].tolist() == [index**2 for index in order.batch(step)]
        assert batch["name"] == [str(index) for index in order.batch(step)]
    stream.close()
    assert stream(1)["index"].tolist() == order.batch(1)
