"""Cells whose class is their brightness, a network of one layer, and a semi-supervised trainer of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.data import DataLoader
from torch import Tensor, nn

from stride_monai.bethesda import CELL_CLASSES
from stride_monai.data.datasets.sampling import CellSampler
from stride_monai.engines.cell_training import StepAugmentation
from stride_monai.engines.semi_supervised import SemiSupervisedTrainer
from stride_monai.handlers.metrics import MacroF1
from stride_monai.handlers.steps import EmaUpdater
from stride_monai.losses.semi_supervised import SemiSupervisedLoss
from stride_monai.networks.ema import EmaModel

C, SIDE, BATCH, UNLABELED = len(CELL_CLASSES), 8, 4, 6


class Cells(torch.utils.data.Dataset[dict[str, Any]]):
    """Noise whose brightness is its class."""

    def __init__(self, size: int, seed: int, labeled: bool) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.label = torch.randint(0, C, (size,), generator=generator)
        noise = torch.randint(0, 40, (size, 3, SIDE, SIDE), generator=generator)
        self.image = (noise + 40 * self.label.view(-1, 1, 1, 1)).to(torch.uint8)
        self.labeled = labeled
        self.data = [{"label": int(c)} for c in self.label]

    def __len__(self) -> int:
        return len(self.image)

    def __getitem__(self, index: int) -> dict[str, Any]:
        known = {"label": int(self.label[index])} if self.labeled else {"rank": index}
        return {"image": self.image[index], **known}

    def known_labels(self) -> Tensor:
        return torch.where(torch.arange(len(self)) % 3 == 0, -1, self.label)


class Network(nn.Module):
    """Counts its forward passes."""

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        self.linear = nn.Linear(3 * SIDE * SIDE, C)
        self.gain = gain
        self.seen: list[tuple[int, bool]] = []

    def forward(self, image: Tensor) -> Tensor:
        self.seen.append((len(image), torch.is_grad_enabled()))
        logits: Tensor = self.gain * self.linear(image.flatten(1))
        return logits


def make(
    method: SemiSupervisedLoss,
    epochs: int = 1,
    handlers: Callable[..., list[Any]] = lambda **parts: [],
    gain: float = 30,
) -> tuple[SemiSupervisedTrainer, dict[str, Any]]:
    """A trainer of two steps per epoch."""
    torch.manual_seed(0)
    labeled, unlabeled, network = Cells(11, 1, True), Cells(20, 2, False), Network(gain)
    sampler = CellSampler(labeled.data, 0.0, 2 * BATCH, seed=5)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    parts: dict[str, Any] = {
        "network": network,
        "optimizer": optimizer,
        "ema": EmaModel(network, 0.9),
        "lr_scheduler": torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, 4),
        "unlabeled": unlabeled,
        "labeled": labeled,
        "method": method,
    }
    trainer = SemiSupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=epochs,
        train_data_loader=DataLoader(labeled, num_workers=0, batch_size=BATCH, sampler=sampler),
        network=network,
        optimizer=optimizer,
        loss_function=nn.CrossEntropyLoss(),
        augmentation=StepAugmentation("strong", seed=5),
        key_train_metric={"f1": MacroF1()},
        train_handlers=[EmaUpdater(parts["ema"], network), *handlers(**parts)],
        method=method,
        ema=parts["ema"],
        unlabeled=unlabeled,
        unlabeled_batch_size=UNLABELED,
        seed=5,
    )
    return trainer, parts
