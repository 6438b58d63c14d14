"""What trainers print and plot of a step."""

from __future__ import annotations

import torch
from ignite.engine import Engine
from torch import nn

from stride_monai.handlers.generations import epochs_per_generation
from stride_monai.handlers.tracking import LossScalars, first_of_every, loss_of


def test_the_first_of_every_ten_steps_is_shown() -> None:
    engine = Engine(lambda engine, batch: None)
    assert [step for step in range(1, 25) if first_of_every(10)(engine, step)] == [1, 11, 21]
    assert all(first_of_every(1)(engine, step) for step in range(1, 5))


def test_scalars_are_the_losses_that_a_step_has_and_the_rate() -> None:
    output = {"loss": torch.tensor(2.0), "cell_loss": torch.tensor(0.5), "pred": None}
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.25)
    assert loss_of(output) == 2.0
    assert LossScalars()(output) == {"train_loss": 2.0}
    found = LossScalars(["cell_loss", "adversarial_loss"], optimizer)(output)
    assert found == {"train_loss": 2.0, "cell_loss": 0.5, "adversarial_loss": 0.0, "learning_rate": 0.25}
    optimizer.param_groups[0]["lr"] = 0.125
    assert LossScalars(optimizer=optimizer)(output)["learning_rate"] == 0.125


def test_generations_share_the_epochs() -> None:
    assert [epochs_per_generation(epochs, 6) for epochs in (600, 7, 1)] == [100, 2, 1]
