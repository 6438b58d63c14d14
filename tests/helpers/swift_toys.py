"""A small slide classifier, its batches and trainer, and Algorithm 1 of SWIFT written out, one cell at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from stride_monai.bethesda import CELL_CLASSES, SLIDE_CLASSES, SLIDE_TO_CELL
from stride_monai.engines.cell_training import StepAugmentation
from stride_monai.engines.swift import SwiftTrainer
from stride_monai.handlers.steps import EmaUpdater
from stride_monai.networks.ema import EmaModel
from stride_monai.networks.mil.slide_classifier import SlideClassifier
from stride_monai.networks.mil.slide_head import AttentionSlideHead
from stride_monai.networks.mil.swift import SwiftStudent

N, B, K, SIDE, SEED = 3, 2, 4, 32, 7
MASK = torch.tensor([[True] * 4, [True, True, True, False]])


class SmallEncoder(nn.Module):
    """Stands for the cell classifier: features of a coarse picture, so that float64 is quick."""

    feature_dim = 12

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 12), nn.GELU())
        self.head = nn.Linear(12, len(CELL_CLASSES))

    def encode(self, image: Tensor) -> Tensor:
        features: Tensor = self.encoder((image - 0.5).double() * 6)
        return features

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.head(self.encode(image))
        return logits


def classifier() -> SlideClassifier:
    torch.manual_seed(0)
    encoder: Any = SmallEncoder()
    head = AttentionSlideHead(encoder.feature_dim, hidden=8, layers=2, dropout=0.0)
    network = SlideClassifier(encoder, head, top_k=K, freeze_encoder=False).double()
    for module in (network.slide_head, network.encoder.head):
        for parameter in module.parameters():
            nn.init.normal_(parameter, std=0.4)
    return network


def crops(*shape: int, seed: int) -> Tensor:
    return torch.randint(0, 256, (*shape, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(seed)).byte()


def cells(step: int) -> dict[str, Tensor]:
    return {"image": crops(N, seed=100 + step), "label": (torch.arange(N) + step) % len(CELL_CLASSES)}


def bag_batches(count: int, labels: tuple[int, int] = (3, 2)) -> list[dict[str, Any]]:
    return [
        {"image": crops(B, K, seed=step), "mask": MASK, "label": torch.tensor(labels), "slide_id": ["a", "b"]}
        for step in range(count)
    ]


def trainer(
    network: SlideClassifier,
    batches: list[dict[str, Any]],
    part: int | None = None,
    kind: type[SwiftTrainer] = SwiftTrainer,
    **kwargs: Any,
) -> Any:
    student = SwiftStudent(network, part)
    teacher = kwargs.pop("teacher", None) or EmaModel(network.encoder, 0.999)
    return kind(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=batches,
        network=student,
        optimizer=kwargs.pop("optimizer", None) or torch.optim.SGD(network.parameters(), lr=1e-3),
        train_handlers=[EmaUpdater(teacher, network.encoder)],
        cells=cells,
        teacher=teacher,
        teacher_part=part,
        seed=SEED,
        **kwargs,
    )


def slow_softmax(row: list[float]) -> list[float]:
    powers = [math.exp(value - max(row)) for value in row]
    return [power / sum(powers) for power in powers]


def slow_ce(row: Tensor, label: int) -> Tensor:
    return -torch.log(torch.exp(row)[label] / torch.exp(row).sum())


def literal(
    student: SlideClassifier,
    teacher: nn.Module,
    batch: Mapping[str, Any],
    activation: str = "grad_x_feature",
    negative_bags: str = "all_nilm",
    tau: tuple[float, float] = (0.5, 0.9),
) -> dict[str, Any]:
    """Algorithm 1, one cell at a time. The augmented pictures are its input: line 5 and 6."""
    labeled = cells(0)
    strong_cells = StepAugmentation("strong", SEED, 0)(labeled["image"], 0)
    strong = StepAugmentation("strong", SEED, 1)(batch["image"].flatten(0, 1), 0).unflatten(0, (B, K))
    weak = StepAugmentation("weak", SEED, 2)(batch["image"].flatten(0, 1), 0).unflatten(0, (B, K))
    cell_losses = [
        slow_ce(student.encoder(x[None])[0], int(y)) for x, y in zip(strong_cells, labeled["label"], strict=True)
    ]
    slide_losses, semi_losses, labels, masks = [], [], {}, {}
    for j in range(B):
        places = [k for k in range(K) if MASK[j, k]]
        z = torch.stack([student.encoder.encode(strong[j, k][None])[0] for k in places])
        logits, attention = student.slide_head(z[None])
        c = int(batch["label"][j])
        slide_losses.append(slow_ce(logits[0], c))
        (slope,) = torch.autograd.grad(logits[0, c], z, retain_graph=True)
        beta = {
            "eq4": [float(s.mean()) for s in slope],
            "grad_x_feature": [float((s * v.detach()).mean()) for s, v in zip(slope, z, strict=True)],
            "attention": attention[0].tolist(),
        }[activation]
        beta = [max(value, 0.0) for value in beta]
        for i, k in enumerate(places):
            with torch.no_grad():
                pseudo = slow_softmax(teacher(weak[j, k][None])[0].tolist())
            if negative_bags == "all_nilm" and SLIDE_CLASSES[c] == "NILM":
                m, y = 1, CELL_CLASSES.index("NILM")
            elif max(beta) > 0 and beta[i] / max(beta) > tau[0]:
                m, y = 1, CELL_CLASSES.index(SLIDE_TO_CELL[SLIDE_CLASSES[c]])
            elif max(pseudo) > tau[1]:
                m, y = 1, pseudo.index(max(pseudo))
            else:
                m, y = 0, 0
            labels[j, k], masks[j, k] = y, m
            semi_losses.append(m * slow_ce(student.encoder.head(z[i]), y))
    parts = {
        "cell_loss": sum(cell_losses) / N,
        "slide_loss": sum(slide_losses) / B,
        "semi_loss": sum(semi_losses) / len(semi_losses),
    }
    return {**parts, "loss": sum(parts.values()), "labels": labels, "masks": masks}
