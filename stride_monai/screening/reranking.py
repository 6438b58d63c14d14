"""What re-ranks in screening, and whether anything does.

Unless it is said, the slide classifier says it: its threshold holds for cells that were chosen in one way, which is
how they are chosen then. So weights that were trained on re-ranked bags screen re-ranked cells, and others do not.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import torch

from stride_monai.inferers.rerank import CELL_BUNDLE, CellReranker
from stride_monai.networks.alignment.views import CellViews
from stride_monai.networks.encoders.cell_encoder import CellClassifier
from stride_monai.screening.config import ScreeningConfig
from stride_monai.screening.models import Models, cells_of
from stride_monai.screening.source import Source
from stride_monai.screening.store import BundleStore, Chosen, Origin

__all__ = ["Reranking", "load_reranker", "share_encoder"]

_log = logging.getLogger(__name__)


class Reranking:
    """Re-ranking as a configuration asks for it, of the cells of one detector.

    Args:
        store: where ``cell_cls`` is found, unless the configuration names something else.
        config: asks for re-ranking, or for none, or leaves it to the threshold.
        detection: the detector; the bundle's ``candidates`` are taken where the configuration has none.
    """

    def __init__(self, store: BundleStore, config: ScreeningConfig, detection: Chosen) -> None:
        self._store, self._config, self._detection = store, config, detection
        self._loaded: tuple[CellReranker, Source] | None = None

    def fitting(self, held: str) -> CellReranker | None:
        """What re-ranks for a slide classifier; None for the detector's own order.

        Args:
            held: what chose the cells for which its threshold holds
                (:func:`stride_monai.data.bags.bag.chosen_by`); empty where that is not known.

        Raises:
            BundleError: its weights are missing or do not fit; where re-ranking was not asked for, they are not needed.
        """
        asked = self._config.reranks
        if asked is not None:
            return self._load() if asked else None
        by_detector = held in {"", self._detection.bundle.weights_sha256}
        if by_detector or self._store[CELL_BUNDLE].lacks():
            return None
        reranker = self._load()
        return reranker if cells_of(self._detection, reranker).sha256 == held else None

    @property
    def origin(self) -> Origin:
        """Where the weights of what re-ranks were taken from."""
        assert self._loaded is not None
        source = self._loaded[1]
        return Origin(source.how, tuple(source.files()))

    def _load(self) -> CellReranker:
        if self._loaded is None:
            numbers, config = self._detection.bundle.numbers, self._config
            top_k, usual = numbers["top_k"], numbers.get("candidates")
            candidates = config.candidates or (usual and max(usual, top_k))  # of a bundle that keeps more than it says
            self._loaded = _load(self._store, top_k, candidates, config.reranker)
        return self._loaded[0]


def share_encoder(models: Models) -> Models:
    """A re-ranker with the slide classifier's encoder computes the features of its cells, once for both."""
    reranker, encoder, levels = models.reranker, models.classifier.encoder, models.explainer.levels
    if reranker is None or not _same_encoder(reranker, encoder, models):
        return models
    views = CellViews(encoder, levels)
    return replace(models, reranker=reranker.sharing(models.features or views.encode, views.feature_dim))


def _same_encoder(reranker: CellReranker, encoder: CellClassifier, models: Models) -> bool:
    """Whether both make the same features of the same crops."""
    network, numbers = reranker.network, models.numbers[models.classifier_choice.name]
    if not isinstance(network, CellClassifier) or reranker.crop_px not in {None, numbers["crop_px"]}:
        return False
    mine, theirs = ({**part.encoder.state_dict(), "mean": part.mean, "std": part.std} for part in (network, encoder))
    return mine.keys() == theirs.keys() and all(
        tensor.shape == theirs[name].shape and torch.equal(tensor, theirs[name].to(tensor.device))
        for name, tensor in mine.items()
    )


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
    return _load(store, top_k, candidates, source)[0]


def _load(store: BundleStore, top_k: int, candidates: int | None, named: Path | str) -> tuple[CellReranker, Source]:
    """The re-ranker and where it comes from: the store, unless something else is named."""
    source, path = store[CELL_BUNDLE], Path(named)
    if str(named) != CELL_BUNDLE:
        other = Source(CELL_BUNDLE, path, store.profile, own=True)
        source = other if path.is_dir() else source._replace(given=(path,))
    loaded = store.load(source)
    reranker = CellReranker(
        loaded.network.eval().requires_grad_(False),
        loaded.weights_sha256,
        top_k,
        candidates,
        crop_px=int(loaded.numbers["crop_px"]),
        crop_mpp=float(loaded.numbers["crop_mpp"]),
        name=path.name,
        note=loaded.metadata.get("note", ""),
    )
    return reranker, source
