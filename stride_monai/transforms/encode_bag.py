"""The bags of a folder, and their features from a frozen encoder (two-stage training)."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from monai.transforms import Transform

from stride_monai.data.bags.bag import BAG_SUFFIX
from stride_monai.errors import BagError
from stride_monai.networks.encoders.cell_encoder import CellClassifier

__all__ = ["EncodeBagd", "bag_files", "holds_bags"]


def holds_bags(path: Any) -> bool:
    """Whether a path, or each of several, is that of a bag file or of a folder with some, at any depth; false for
    anything else."""
    paths = path if isinstance(path, list | tuple) else [path]
    return bool(paths) and all(isinstance(one, str | Path) and bool(_bag_paths(Path(one))) for one in paths)


def _bag_paths(path: Path) -> list[Path]:
    return list(path.rglob(f"*{BAG_SUFFIX}")) if path.is_dir() else [path] if path.name.endswith(BAG_SUFFIX) else []


def bag_files(folder: Path | str | Sequence[Path | str]) -> list[dict[str, Any]]:
    """All bags in a folder, at any depth, by slide id: dictionaries with ``bag`` (path) and ``slide_id``.

    Args:
        folder: or the path of a single bag file, or several of both.

    Raises:
        BagError: there is none, or two of one slide.
    """
    places = [Path(one).absolute() for one in ([folder] if isinstance(folder, str | Path) else folder)]
    paths: list[Path] = []
    for place in places:
        if not place.exists():
            raise BagError(f"there is no {place}", "check the path, or run detection's inference first")
        paths += _bag_paths(place)
    if not paths:
        raise BagError(
            f"there is no bag file (*{BAG_SUFFIX}) in {', '.join(map(str, places))}", "run detection's inference first"
        )
    paths.sort(key=lambda path: path.name)
    items = [{"bag": str(path), "slide_id": path.name.removesuffix(BAG_SUFFIX)} for path in paths]
    for first, second in pairwise(items):
        if first["slide_id"] == second["slide_id"]:
            raise BagError(f"there are two bags of '{first['slide_id']}'", "keep one")
    return items


class EncodeBagd(Transform):
    """Replaces the crops of a bag by their features, once, from a frozen encoder in eval mode (two-stage training).

    Stands after :class:`~stride_monai.transforms.LoadBagd`. ``image`` changes from ``[K, 3, H, W]`` to float32
    ``[K, D]`` on the CPU, zero where ``mask`` is false. Cache the result, e.g. with ``monai.data.CacheDataset``, in the
    main process: the encoder may sit on a GPU.

    Args:
        encoder: the cell classifier. device: where to run it. chunk: number of cells encoded at once.
    """

    def __init__(self, encoder: CellClassifier, device: torch.device | str = "cpu", chunk: int = 256) -> None:
        self.encoder = encoder
        self.device = torch.device(device)
        self.chunk = chunk

    @torch.no_grad()
    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        image, mask = data["image"], data["mask"]
        encoder = self.encoder.to(self.device).eval()
        features = torch.zeros(len(image), encoder.feature_dim)
        parts = [encoder.encode(part.to(self.device)).float().cpu() for part in torch.split(image[mask], self.chunk)]
        features[mask] = torch.cat(parts)
        return {**data, "image": features}
