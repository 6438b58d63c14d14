"""Sampling, augmentation by step, and the trainer of cell classifiers."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ignite import distributed as idist
from ignite.engine import Events
from torch import Tensor, nn

from stride_monai.engines.cell_training import CellTrainer, StepAugmentation
from stride_monai.engines.sampling import CellSampler
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


IMAGES = torch.randint(0, 255, (6, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_augmentation_is_a_function_of_seed_stream_and_step() -> None:
    first = StepAugmentation("strong", seed=1)(IMAGES, 7)
    again = StepAugmentation("strong", seed=1)
    again(IMAGES, 6)  # what was drawn before does not matter
    torch.testing.assert_close(again(IMAGES, 7), first, rtol=0, atol=0)
    for other in (StepAugmentation("strong", seed=2), StepAugmentation("strong", seed=1, stream=1)):
        assert float((other(IMAGES, 7) - first).abs().max()) > 0.1
    assert float((again(IMAGES, 8) - first).abs().max()) > 0.1
    assert first.dtype == torch.float32
    # Each cell has parameters of its own.
    same = StepAugmentation("strong", seed=1)(IMAGES[:1].expand(6, -1, -1, -1), 7)
    assert min(float((same[i] - same[j]).abs().max()) for i in range(6) for j in range(i)) > 0.02


def test_processes_augment_their_share_as_one_process_would(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = StepAugmentation("strong", seed=3)(IMAGES, 11)
    monkeypatch.setattr(idist, "get_world_size", lambda: 2)
    for rank in (0, 1):
        monkeypatch.setattr(idist, "get_rank", lambda rank=rank: rank)
        share = StepAugmentation("strong", seed=3)(IMAGES[rank::2], 11)
        torch.testing.assert_close(share, whole[rank::2])


class Pixels(nn.Module):
    """Logits of the mean colour; remembers what it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 5)
        self.seen: list[Tensor] = []

    def forward(self, image: Tensor) -> Tensor:
        self.seen.append(image.detach().clone())
        logits: Tensor = self.head(image.mean((2, 3)))
        return logits


def train(
    augmentation: StepAugmentation | None, images: Tensor = IMAGES, epochs: int = 2
) -> tuple[Pixels, list[float]]:
    torch.manual_seed(0)
    network = Pixels()
    batches = [{"image": part, "label": torch.tensor([0, 1, 4])} for part in images.split(3)]
    trainer = CellTrainer(
        device="cpu",
        max_epochs=epochs,
        train_data_loader=batches,
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.5),
        loss_function=nn.CrossEntropyLoss(),
        augmentation=augmentation,
    )
    losses: list[float] = []
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda engine: losses.append(float(engine.state.output["loss"]))
    )
    trainer.run()
    return network, losses


def test_trainer_augments_uint8_batches_by_the_number_of_the_iteration() -> None:
    augmentation = StepAugmentation("strong", seed=9)
    network, losses = train(augmentation)
    assert len(losses) == 4
    for iteration, seen in enumerate(network.seen, 1):
        part = IMAGES.split(3)[(iteration - 1) % 2]
        torch.testing.assert_close(seen, augmentation(part, iteration), rtol=0, atol=0)


def test_trainer_follows_plain_torch_and_its_loss_moves_with_the_input() -> None:
    network, losses = train(None, epochs=5)
    torch.manual_seed(0)
    plain = Pixels()
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.5)
    expected = []
    for _ in range(5):
        for part in IMAGES.split(3):
            loss = nn.functional.cross_entropy(plain(part.float() / 255), torch.tensor([0, 1, 4]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            expected.append(float(loss.detach()))
    assert losses == pytest.approx(expected, rel=1e-6)
    torch.testing.assert_close(network.head.weight, plain.head.weight)
    moved = IMAGES.clone()
    moved[0] = 255 - moved[0]
    assert train(None, moved, epochs=1)[1][0] != pytest.approx(losses[0], rel=1e-3)


def test_a_batch_is_augmented_as_its_parts_are() -> None:
    """On a CPU a batch is worked off in parts; where it is cut makes no difference."""
    images = IMAGES.repeat(2, 1, 1, 1)
    views = StepAugmentation("strong", seed=4).drawn(1, len(images))
    one_by_one = torch.cat([views(images[k : k + 1], slice(k, k + 1)) for k in range(len(images))])
    torch.testing.assert_close(views(images), one_by_one, rtol=0, atol=0)
