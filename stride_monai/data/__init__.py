"""Data: manifests, cell records, bag files, splits and the lists that bundles train on. Importable without torch.

The names are looked up when they are used: who reads a manifest does not wait for Arrow.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stride_monai.data.bag import BAG_SUFFIX, BagCell, BagFile, BagHeader, encode_crop, write_bag
    from stride_monai.data.cells import CellRecord, read_cells, write_cells
    from stride_monai.data.manifest import SPLITS, SlideRecord, read_manifest, write_manifest
    from stride_monai.data.ranking import rank_boxes
    from stride_monai.data.splits import split_by_patient

__all__ = [
    "BAG_SUFFIX",
    "SPLITS",
    "BagCell",
    "BagFile",
    "BagHeader",
    "CellRecord",
    "SlideRecord",
    "encode_crop",
    "rank_boxes",
    "read_cells",
    "read_manifest",
    "split_by_patient",
    "write_bag",
    "write_cells",
    "write_manifest",
]

_HOMES = ("manifest", "cells", "ranking", "splits", "bag")


def __getattr__(name: str) -> Any:
    if name in __all__:
        for home in _HOMES:
            module = import_module(f"{__name__}.{home}")
            if name in module.__all__:
                return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
