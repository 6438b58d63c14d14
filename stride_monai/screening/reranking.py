"""The cell classifier that re-ranks, from a bundle ``cell_cls`` or from weights for its network."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from stride_monai.inferers.rerank import CELL_BUNDLE, CellReranker
from stride_monai.screening.store import BundleStore, Source
from stride_monai.workflows.load import LoadedBundle

__all__ = ["load_reranker", "reranker_from", "reranker_of"]

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
    store = BundleStore(None if bundles is None else Path(bundles), profile, device=device)
    home = store[CELL_BUNDLE].home
    if bundles is not None and home.parent.resolve() != Path(bundles).resolve():
        _log.warning("%s holds no %s: the package's own is used, %s", bundles, CELL_BUNDLE, home)
    return reranker_from(store, top_k, candidates, source)[0]


def reranker_from(
    store: BundleStore, top_k: int, candidates: int | None = None, named: Path | str = CELL_BUNDLE
) -> tuple[CellReranker, Source]:
    """The re-ranker and where it comes from: the store, unless something else is named.

    Arguments and errors as for :func:`load_reranker`.
    """
    source, path = store[CELL_BUNDLE], Path(named)
    if str(named) != CELL_BUNDLE:
        other = Source(CELL_BUNDLE, path, store.profile, own=True)
        source = other if path.is_dir() else source._replace(given=(path,))
    return reranker_of(store.load(source), top_k, candidates, path.name), source


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
