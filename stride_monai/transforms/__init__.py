"""MONAI transforms: top-K cell patching, loading of tiles, crops and bags, augmentation, colour.

Names are loaded when they are asked for, so that importing this room imports neither torch nor MONAI.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "CellAugmentation": "augmentation",
    "CellAugmentationd": "augmentation",
    "CellBag": "topk_patches",
    "DetectionAugmentation": "tile_augmentation",
    "DetectionAugmentationd": "tile_augmentation",
    "LoadBagd": "loading",
    "LoadCellCropd": "loading",
    "LoadSlideRegiond": "loading",
    "Look": "tile_augmentation",
    "ScaleUint8": "augmentation",
    "ScaleUint8d": "augmentation",
    "Strength": "augmentation",
    "TopKCellPatches": "topk_patches",
    "TopKCellPatchesd": "topk_patches",
    "cached_slide": "loading",
    "hsv_to_rgb": "colour",
    "rgb_to_hsv": "colour",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
