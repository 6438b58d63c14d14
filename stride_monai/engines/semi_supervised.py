"""Training of cell classifiers with labelled cells and a stream of unlabelled ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any

import torch
from ignite.engine import Events
from ignite.metrics import Average
from monai.utils.enums import CommonKeys
from torch import Tensor

from stride_monai.data.datasets.streams import EndlessStream
from stride_monai.engines.cell_training import CellTrainer, StepAugmentation
from stride_monai.handlers.pseudo_labels import PSEUDO_LABELS, PseudoLabelShares
from stride_monai.losses.semi_supervised import SemiSupervisedLoss
from stride_monai.networks.ema import EmaModel

__all__ = ["SemiSupervisedTrainer"]

_STUDENT, _TEACHER = 1, 2  # streams of the random numbers; the labelled cells have 0


class SemiSupervisedTrainer(CellTrainer):
    """Trains a cell classifier on the labelled cells of its loader and, each step, on a batch of unlabelled ones.

    Two views of the unlabelled cells are augmented on the device, each with draws of its own. The student sees the
    labelled cells and its view in ONE forward pass; the teacher sees the other view without gradient. The loss is that
    of the labelled cells plus the method's. Mixed precision, accumulation and distribution are MONAI's; the average is
    updated by :class:`stride_monai.handlers.EmaUpdater`, and its state and the method's belong into the training
    state.

    ``engine.state.output`` holds of the labelled cells ``image``, ``label`` and ``pred``; ``loss`` and its parts
    ``supervised_loss`` and ``unlabeled_loss``; and ``pseudo_labels``. Metrics of an epoch are the means of the two
    parts and those of :class:`stride_monai.handlers.PseudoLabelShares`, if there is a key metric: MONAI takes
    no others without one.

    Args:
        method: what is learnt from unlabelled cells.
        ema: moving average of the network, the teacher where the method says so.
        unlabelled: data set with ``image`` (uint8 ``[3, S, S]``, S that of the labelled cells), such as
            :class:`stride_monai.data.BagCells`. If it has ``known_labels()`` (class indices ``[N]``, -1
            where unknown), they serve to log how many pseudo-labels are right.
        unlabeled_batch_size: cells per step, of all processes together.
        seed: of the run.
        num_workers: processes that load unlabelled cells.
        otherwise as :class:`~stride_monai.engines.CellTrainer`.

    Raises:
        ConfigError: the unlabelled batch cannot be shared by the processes.
    """

    def __init__(
        self,
        *args: Any,
        method: SemiSupervisedLoss,
        ema: EmaModel,
        unlabeled: Any,
        unlabeled_batch_size: int,
        loss_function: Callable[..., Tensor],
        seed: int = 0,
        num_workers: int = 0,
        additional_metrics: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self.ema, self.supervised_loss = ema, loss_function
        self._views = (
            StepAugmentation(method.student_view, seed, _STUDENT),
            StepAugmentation(method.teacher_view, seed, _TEACHER),
        )
        metrics = {
            **{part: Average(itemgetter(part)) for part in ("supervised_loss", "unlabeled_loss")},
            PSEUDO_LABELS: PseudoLabelShares(),
            **(additional_metrics or {}),
        }
        super().__init__(*args, loss_function=self._loss, additional_metrics=metrics, **kwargs)
        self.method = method.to(self.state.device)
        on_gpu = torch.device(self.state.device).type == "cuda"
        self._stream = EndlessStream(unlabeled, unlabeled_batch_size, seed, num_workers, pin_memory=on_gpu)
        known = unlabeled.known_labels() if hasattr(unlabeled, "known_labels") else torch.full((len(unlabeled),), -1)
        self._truth = known.to(self.state.device)
        self.add_event_handler(Events.COMPLETED, self._stream.close)

    @property
    def step(self) -> int:
        """Iterations before this one."""
        return int(self.state.iteration) - 1

    def _prepare(self, batch: Mapping[str, Any], *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        labeled, *rest = super()._prepare(batch, *args, **kwargs)
        unlabeled = self._stream(self.step)
        pictures = unlabeled["image"].to(self.state.device, non_blocking=True)
        self._index = unlabeled["index"].to(self.state.device, non_blocking=True)
        with torch.no_grad():
            student, self._teacher_view = (view(pictures, self.step) for view in self._views)
        return (torch.cat((labeled, student.to(labeled))), *rest)

    def _taught(self) -> Tensor:
        """Logits of the teacher."""
        teacher: Any = self.ema if self.method.teacher == "ema" else self.network
        teacher = getattr(teacher, "module", teacher)  # not through the data-parallel wrapper
        with torch.no_grad():
            logits: Tensor = teacher(self._teacher_view)
        return logits

    def _loss(self, logits: Tensor, label: Tensor) -> Tensor:
        """Called by MONAI's iteration, under its autocast, with the logits of labelled and unlabelled cells."""
        count = len(label)
        supervised = self.supervised_loss(logits[:count], label).mean()
        found = self.method(logits[count:], self._taught(), self._index, self.step)
        output = self.state.output
        output[CommonKeys.IMAGE], output[CommonKeys.PRED] = output[CommonKeys.IMAGE][:count], logits[:count]
        output["supervised_loss"], output["unlabeled_loss"] = supervised.detach(), found.loss.detach()
        output[PSEUDO_LABELS] = (found.label, found.accepted, self._truth[self._index])
        total: Tensor = supervised + found.loss
        return total
