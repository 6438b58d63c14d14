"""Augmentation by step, and the trainer of cell classifiers."""

from __future__ import annotations

import pytest
import torch
from ignite import distributed as idist
from ignite.engine import Events
from torch import Tensor, nn

from stride_monai.engines.cell_training import CellTrainer, StepAugmentation

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
