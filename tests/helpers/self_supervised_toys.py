"""Noise as cells, small MoCo and DINO, and a self-supervised trainer of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from monai.data import DataLoader
from monai.handlers import LrScheduleHandler
from monai.optimizers import WarmupCosineSchedule

from stride_monai.data.datasets.sampling import CellSampler
from stride_monai.engines.cell_training import StepAugmentation
from stride_monai.engines.self_supervised import SelfSupervisedTrainer
from stride_monai.handlers.resume import TrainingState
from stride_monai.handlers.seeding import EpochSeeds
from stride_monai.networks.encoders.cell_encoder import CellClassifier
from stride_monai.networks.encoders.self_supervised import DINO, MoCo, SelfSupervised
from stride_monai.transforms.views import CellViews

EPOCHS, CELLS, BATCH = 3, 10, 4


def cells(count: int = CELLS) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    return [
        {
            "image": torch.randint(0, 256, (3, 48, 48), generator=generator, dtype=torch.uint8),
            "slide_id": f"slide-{k % 3}",
            "label": k % 2,
        }
        for k in range(count)
    ]


def moco() -> MoCo:
    return MoCo(CellClassifier("test_convnext"), queue_size=8, hidden_dim=16, output_dim=8)


def dino() -> DINO:
    vit = CellClassifier("test_vit", dynamic_img_size=True, drop_path_rate=0.2)
    return DINO(vit, prototypes=16, hidden_dim=16, bottleneck_dim=8)


def trainer(method: SelfSupervised, folder: Path | None = None, resume: str = "", **kwargs: Any) -> Any:
    data = cells()
    sampler = CellSampler(data, seed=0)
    loader = DataLoader(data, batch_size=BATCH, sampler=sampler, drop_last=True, num_workers=0)
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in method.parameters() if p.requires_grad and p.ndim > 1], "weight_decay": 0.04},
            {"params": [p for p in method.parameters() if p.requires_grad and p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=1e-3,
    )
    schedule = WarmupCosineSchedule(optimizer, 1, EPOCHS * len(loader))
    handlers: list[Any] = [EpochSeeds(0), LrScheduleHandler(schedule, print_lr=False, epoch_level=False)]
    if folder is not None:
        state = {"network": method, "optimizer": optimizer, "lr_scheduler": schedule}
        handlers.append(TrainingState(folder, state, resume))
    return SelfSupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=EPOCHS,
        train_data_loader=loader,
        network=method,
        optimizer=optimizer,
        loss_function=lambda loss, nothing: loss,
        augmentation=StepAugmentation(CellViews(48, 32, 16, local_views=2 if isinstance(method, DINO) else 0), seed=0),
        train_handlers=handlers,
        **kwargs,
    )
