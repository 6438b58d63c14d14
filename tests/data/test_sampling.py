"""How often a cell is drawn in an epoch, and which process gets it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stride_monai.data.datasets.sampling import CellSampler, draw_weights
from stride_monai.errors import ConfigError

LABELS = [0] * 60 + [1] * 30 + [4] * 10
ITEMS = [{"label": label} for label in LABELS]


def epoch_of(epoch: int = 1, **settings: Any) -> list[int]:
    sampler = CellSampler(ITEMS, **settings)
    sampler.set_epoch(epoch)
    indices = list(sampler)
    assert len(indices) == len(sampler)
    return indices


def test_plain_sampling_takes_every_cell_once() -> None:
    assert sorted(epoch_of()) == list(range(100))
    assert epoch_of() != list(range(100))
    counts = Counter(epoch_of(num_samples=250))
    assert set(counts.values()) == {2, 3}
    assert sorted(CellSampler([{}] * 5)) == list(range(5)), "without labels too"


def test_balanced_sampling_draws_classes_by_the_power_of_their_number() -> None:
    for balance in (0.5, 1.0):
        drawn = Counter(LABELS[k] for k in epoch_of(balance=balance, num_samples=30_000))
        wanted = {label: n ** (1 - balance) for label, n in Counter(LABELS).items()}
        for label, weight in wanted.items():
            assert drawn[label] / 30_000 == pytest.approx(weight / sum(wanted.values()), abs=0.015)


@given(
    world=st.integers(1, 4),
    balance=st.sampled_from((0.0, 1.0)),
    samples=st.integers(1, 300),
    seed=st.integers(0, 1000),
    epoch=st.integers(0, 50),
)
@settings(max_examples=40, deadline=None)
def test_processes_together_draw_what_one_would(
    world: int, balance: float, samples: int, seed: int, epoch: int
) -> None:
    common = {"balance": balance, "num_samples": samples, "seed": seed}
    parts = [epoch_of(epoch, **common, num_replicas=world, rank=rank) for rank in range(world)]
    assert len({len(part) for part in parts}) == 1
    together = [index for group in zip(*parts, strict=True) for index in group]
    one = epoch_of(epoch, **common)
    assert together[:samples] == one


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    assert epoch_of(3, seed=5) == epoch_of(3, seed=5)
    assert epoch_of(3, seed=5) != epoch_of(4, seed=5)
    assert epoch_of(3, seed=5) != epoch_of(3, seed=6)
    assert epoch_of(4, seed=5) != epoch_of(3, seed=6)
    sampler = CellSampler(ITEMS)
    assert list(sampler) == list(sampler), "only set_epoch changes it"


@pytest.mark.parametrize("wrong", [{"balance": -1.0}, {"num_samples": 0}, {"items": []}])
def test_impossible_sampling_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="cells per epoch"):
        CellSampler(**({"items": ITEMS} | wrong))


SOURCES = st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 4)), min_size=1, max_size=60)


@given(SOURCES, st.data(), st.sampled_from((0.0, 0.5, 1.0)), st.integers(0, 50))
@settings(max_examples=60, deadline=None)
def test_the_shares_of_sources_are_met(
    samples: list[tuple[str, int]], data: st.DataObject, balance: float, epoch: int
) -> None:
    items = [{"source": source, "label": label} for source, label in samples]
    there = sorted({source for source, _ in samples})
    named = there[: data.draw(st.integers(0, len(there) - 1))]
    shares = {source: data.draw(st.sampled_from((0.0, 0.25, 0.5))) / max(len(named), 1) for source in named}
    rest = 1 - sum(shares.values())

    weights = draw_weights(items, balance, shares)
    assert (weights is None) == (not balance and not shares)
    if weights is not None:
        assert weights.sum().item() == pytest.approx(1.0)
        for source in there:
            own = [weights[k].item() for k, item in enumerate(items) if item["source"] == source]
            if source in shares:
                assert sum(own) == pytest.approx(shares[source])
                by_class = Counter(label for name, label in samples if name == source)
                total = sum(n ** (1 - balance) for n in by_class.values())
                for label, n in by_class.items():
                    of_class = [weights[k].item() for k, s in enumerate(samples) if s == (source, label)]
                    assert sum(of_class) == pytest.approx(shares[source] * n ** (1 - balance) / total)
        others = [weights[k].item() for k, item in enumerate(items) if item["source"] not in shares]
        assert sum(others) == pytest.approx(rest)

    sampler = CellSampler(items, balance, 4000, seed=1, shares=shares)
    sampler.set_epoch(epoch)
    drawn = list(sampler)
    assert drawn == list(sampler), "a function of seed and epoch"
    if shares:
        counts = Counter(items[k]["source"] for k in drawn)
        assert all(abs(counts[source] / 4000 - share) < 0.05 for source, share in shares.items())


@pytest.mark.parametrize(
    ("sources", "shares", "says"),
    [
        ("ab", {"c": 0.5}, "no sample is of the source 'c'"),
        ("ab", {"a": 0.5, "b": 0.2}, "the shares of all sources sum to 0.7"),
        ("ab", {"a": 1.2}, "invalid shares"),
        ("ab", {"a": -0.1}, "invalid shares"),
        ("abc", {"a": 0.6, "b": 0.6}, "invalid shares"),
    ],
)
def test_impossible_shares_are_refused(sources: str, shares: dict[str, float], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        draw_weights([{"source": source, "label": 0} for source in sources], 0.0, shares)


def test_samples_of_no_source_are_told_how_to_get_one() -> None:
    with pytest.raises(ConfigError, match="data join"):
        draw_weights(ITEMS, 0.0, {"cric": 0.5})
