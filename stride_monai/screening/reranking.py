"""The cell classifier that re-ranks, from a bundle ``cell_cls`` or from weights for its network."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from stride_monai.inferers.rerank import CELL_BUNDLE, CellReranker
from stride_monai.workflows.load import LoadedBundle, load_bundle_network
from stride_monai.workflows.locate import bundle_root

__all__ = ["load_reranker", "reranker_of"]

_log = logging.getLogger(__name__)


def load_reranker(
    top_k: int,
    candidates: int | None = None,
    source: Path | str = CELL_BUNDLE,
    profile: str = "paper",
    device: torch.device | str = "cpu",
    bundles: Path | str | None = None,
) -> CellReranker:
    """The re-ranker of a bundle ``cell_cls`` or of weights for its network.

    Args:
        top_k, candidates: see :class:`CellReranker`.
        source: ``cell_cls``; or the folder of another bundle of that kind; or a weights file for the network of
            ``cell_cls``.
        profile: ``paper`` or ``tiny``.
        bundles: folder in which ``cell_cls`` lies; None for those that came with the package.

    Raises:
        BundleError: the bundle or the weights are missing or do not fit together.
        ConfigError: fewer candidates than ``top_k``.
    """
    home = bundle_root(CELL_BUNDLE) if bundles is None else Path(bundles) / CELL_BUNDLE
    if not home.is_dir():
        home = bundle_root(CELL_BUNDLE)
        _log.warning("%s holds no %s: the package's own is used, %s", bundles, CELL_BUNDLE, home)
    weights = None
    if str(source) != CELL_BUNDLE:
        home, weights = (Path(source), None) if Path(source).is_dir() else (home, Path(source))
    loaded = load_bundle_network(home, profile, device, weights)
    return reranker_of(loaded, top_k, candidates, CELL_BUNDLE if str(source) == CELL_BUNDLE else Path(source).name)


def reranker_of(
    loaded: LoadedBundle, top_k: int, candidates: int | None = None, name: str = CELL_BUNDLE
) -> CellReranker:
    """The re-ranker of a loaded bundle of the kind of ``cell_cls``; arguments as for :class:`CellReranker`.

    Raises:
        ConfigError: fewer candidates than ``top_k``.
    """
    return CellReranker(
        loaded.network.eval().requires_grad_(False),
        loaded.weights_sha256,
        top_k,
        candidates,
        crop_px=int(loaded.numbers["crop_px"]),
        crop_mpp=float(loaded.numbers["crop_mpp"]),
        name=name,
        note=loaded.metadata.get("note", ""),
    )
