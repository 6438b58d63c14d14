"""Training of a slide head that is no network: one pass over the bags, one fit, one validation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite import distributed as idist
from ignite.engine import Events
from monai.engines import PrepareBatchExtraInput, Trainer
from torch import Tensor

from stride_monai.errors import BagError, ConfigError
from stride_monai.files import write_bytes
from stride_monai.networks.mil.slide_classifier import SlideClassifier
from stride_monai.networks.mil.zhu2021 import ZhuHead

__all__ = ["BoostedTreesTrainer"]


class BoostedTreesTrainer(Trainer):
    """Fits the trees of a :class:`~stride_monai.networks.ZhuHead`, the encoder being as it is.

    The handlers hear of the one epoch when the trees are there: a ``ValidationHandler`` judges them, sets the operating
    point and keeps the weights as for every other head.

    Args:
        device: runs the encoder.
        max_epochs: rounds of boosting, each of which makes one tree for each slide class.
        train_data_loader: batches with ``image`` (crops ``[B, K, 3, H, W]`` or features ``[B, K, D]``), ``mask``
            ``[B, K]``, ``label`` ``[B]`` and ``slide_id``.
        network: whose slide head is to be fitted.
        path: gets the trees as XGBoost's JSON, for XGBoost's own tools; the weights of the network hold the same.
        settings: of XGBoost, beside or instead of its defaults.
        seed: see :meth:`~stride_monai.networks.ZhuHead.fit`.
        prepare_batch, train_handlers, amp, amp_kwargs: as for :class:`monai.engines.SupervisedTrainer`.

    Raises:
        ConfigError: the slide head has no trees; or there are several processes, each of which would see a part.
        BagError: when it runs, a slide has non-finite features.
    """

    def __init__(
        self,
        device: torch.device | str,
        max_epochs: int,
        train_data_loader: Iterable[Any],
        network: SlideClassifier,
        path: Path | str,
        settings: Mapping[str, Any] | None = None,
        seed: int = 0,
        prepare_batch: Callable[..., Any] | None = None,
        train_handlers: Sequence[Any] | None = None,
        amp: bool = False,
        amp_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(network.slide_head, ZhuHead):
            name = type(network.slide_head).__name__
            raise ConfigError(f"a {name} is not made of trees", "train it by gradients, with train.json")
        if idist.get_world_size() > 1:
            raise ConfigError("trees are fitted by one process", "run it without torchrun and multi_gpu_train.json")
        self.network, self.head = network, network.slide_head
        self.rounds, self.path, self.settings, self.seed = max_epochs, Path(path), settings, seed
        self._rows: list[tuple[Tensor, Tensor]] = []
        super().__init__(
            device=device,
            max_epochs=1,
            data_loader=train_data_loader,
            prepare_batch=prepare_batch or PrepareBatchExtraInput(extra_keys=["mask"]),
            decollate=False,
            amp=amp,
            amp_kwargs=dict(amp_kwargs or {}),
        )
        self.add_event_handler(Events.EPOCH_COMPLETED, self._fit)
        self._register_handlers(train_handlers or ())  # last, so that they find the trees

    @torch.no_grad()
    def _iteration(self, engine: Any, batchdata: dict[str, Any]) -> dict[str, Any]:
        image, label, (mask, *_), _ = self.prepare_batch(batchdata, self.state.device, self.non_blocking)
        network = self.network.to(self.state.device).eval()
        # As MONAI's evaluator does, so that the trees learn from the numbers that they will be asked with.
        with torch.autocast(self.state.device.type, enabled=self.amp, **self.amp_kwargs):
            numbers = self.head.numbers(network.encode(image) if image.ndim == 5 else image, mask)
        for slide_id, row in zip(batchdata["slide_id"], numbers, strict=True):
            if not bool(row.isfinite().all()):
                raise BagError(f"slide '{slide_id}' has non-finite features", "check the encoder's weights")
        self._rows.append((numbers.cpu(), label.cpu()))
        return {"label": label}

    def _fit(self, engine: Any) -> None:
        numbers, labels = (torch.cat(parts) for parts in zip(*self._rows, strict=True))
        loss = self.head.fit(numbers, labels, self.rounds, self.settings, self.seed)
        write_bytes(self.path, self.head.trees_json())
        self._rows.clear()
        self.logger.info(
            "%d rounds of boosting on %d numbers of each of %d slides: cross-entropy on them %.4f",
            *(self.rounds, numbers.shape[1], len(labels), loss),
        )
