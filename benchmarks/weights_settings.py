"""What the steps of `train_weights.py` are done with: settings of the trainings, seeds, and sizes of the cohorts."""

from __future__ import annotations

from typing import NamedTuple

from stride_monai.phantom.centres import ANY, SITES

EARLY = ["conv_stem", "bn1", "blocks.0", "blocks.1", "blocks.2"]
"""What sees edges and colors stays ImageNet's; a step costs half."""
# What fits into an hour on 2 cores: tiles of 256 px show every lesion of these small deposits at a quarter of the cost.
SETTINGS: dict[str, dict[str, object]] = {
    "tiles": {
        "pretrained": "imagenet",
        "tile_px": 192,
        "batch_size": 8,
        "val_batch_size": 16,
        "max_epochs": 8,
        "val_interval": 4,
        "learning_rate": 1e-3,
        "augmentation": "domain",
    },
    "real_tiles": {
        "tile_px": 192,
        "layouts": 6,
        "tiles_per_epoch": 1120,
        "cache_rate": 0.0,
        "negatives_per_positive": 0.2,
        "shares": {"cric": 0.35, "stripped": 0.12},
        "batch_size": 8,
        "max_epochs": 4,
        "val_interval": 4,
        "learning_rate": 8e-4,
        "augmentation": "domain",
    },
    "detection": {
        "tile_px": 256,
        "batch_size": 16,
        "val_batch_size": 16,
        "max_epochs": 15,
        "val_interval": 5,
        "augmentation": "domain",
    },
    "cells": {
        "pretrained": "imagenet",
        "frozen_parts": EARLY,
        "anchor_weight": 2.0,
        "augmentation": "domain",
        "balance": 0.7,
        "shares": {"cric": 0.25, "lbc": 0.2, "infected": 0.12},
        "batch_size": 64,
        "cells_per_epoch": 12800,
        "max_epochs": 1,
        "learning_rate": 6e-4,
        "weight_decay": 0.01,
        "optimizer": {
            "_target_": "torch.optim.AdamW",
            "params": "$networks.trainable(@network_def)",
            "lr": "@learning_rate",
            "weight_decay": "@weight_decay",
        },
        "lr_scheduler": {
            "_target_": "torch.optim.lr_scheduler.OneCycleLR",
            "optimizer": "@optimizer",
            "max_lr": "@learning_rate",
            "total_steps": "@total_steps",
            "pct_start": 0.2,
        },
    },
    "slide_head": {
        "max_epochs": 20,
        "batch_size": 8,
        "learning_rate": 3e-5,
        "optimizer": {
            "_target_": "torch.optim.Adam",
            "params": "$[{'params': [@slide_head.scale, @slide_head.shift], 'lr': 0.05}, "
            "{'params': list(@slide_head.cells.parameters())}]",
            "lr": "@learning_rate",
        },
    },
    "swift": {
        "iterations": 300,
        "epoch_length": 100,
        "batch_size": 2,
        "shares": {"lbc": 0.35},
        "cells_only": ["lbc"],
        "cell_shares": {"cric": 0.3, "lbc": 0.1},
        "frozen_parts": EARLY,
        "anchor_weight": 2.0,
        "strong": "domain",
        "learning_rate": 1e-4,
    },
    "text_align": {
        "undescribed": "by_class",
        "max_epochs": 30,
        "balance": 0.7,
        "cells_per_epoch": 6400,
        "shares": {"pairs": 0.3, "words_lesions": 0.05, "known": 0.4, "cric": 0.1},
    },
}
SEEDS, DETECTOR_SEEDS = (0, 1, 2), (0, 1)  # of the trainings of the cell classifier and of the detector
KEPT = 0.15  # of what the detector was before it saw CRIC: with less it forgets synthetic lesions, with more real ones
ORGANISMS = {"herpes": 80.0, "trichomonas": 60.0, "clue_cell": 40.0, "actinomyces": 20.0, "candida": 30.0}
"""Per mm2 of `infected`."""
NAKED = {"swollen_nucleus": 80.0, "naked_nucleus": 40.0}
"""Per mm2 of `stripped`."""
LESIONS = ["ASC-US", "LSIL", "ASC-H", "HSIL", "AGC"]
EVERY_LABORATORY = tuple(name for site in SITES for name in (ANY, site))
DETECTORS: dict[str, tuple[str, ...]] = {"fcos": ("fcos", "tiny_fcos"), "yolo": ()}
"""Overlays of the detection bundle that make each detector, after tiny.json."""
DEFAULT = "fcos"  # whose bags the slide head is trained on
MINER = "yolo"


class Size(NamedTuple):
    """Of the cohorts: how often the list of labels is taken for small deposits, slides and large ones, and that of
    lesions for the deposits of the descriptions; lesions on each of the latter; diameters; pairs of each property."""

    deposits: int = 12
    slides: int = 16
    large: int = 3
    word_deposits: int = 16
    word_lesions: int = 150
    deposit_mm: float = 1.2
    slide_mm: float = 2.0
    large_mm: float = 4.0
    pairs: int = 24


REHEARSAL = Size(
    deposits=1,
    slides=2,
    large=1,
    word_deposits=1,
    word_lesions=8,
    deposit_mm=0.3,
    slide_mm=0.3,
    large_mm=0.4,
    pairs=1,
)
REHEARSED: dict[str, dict[str, object]] = {
    "tiles": {"max_epochs": 1, "val_interval": 1, "tile_px": 128},
    "real_tiles": {"tiles_per_epoch": 16, "tile_px": 128, "layouts": 1, "max_epochs": 1, "val_interval": 1},
    "detection": {"max_epochs": 1, "val_interval": 1, "tile_px": 128},
    "cells": {"cells_per_epoch": 64, "batch_size": 16},
    "slide_head": {"max_epochs": 2},
    "text_align": {"max_epochs": 1, "cells_per_epoch": 64},
}
