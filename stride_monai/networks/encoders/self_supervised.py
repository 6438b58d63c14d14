"""Self-supervised training of a cell encoder: SimCLR, MoCo v2 and DINO, one module each.

A module takes the views of a batch and returns the loss, so that one call serves bare networks and those inside
DistributedDataParallel; queue, centre and teacher are in its state dict, so a resumed run goes on as it would have.
Losses, heads and the memory bank are those of lightly (extra ``ssl``). Some of lightly's defaults are not the
references' (SimCLR's temperature, BatchNorm in its head, DINO's frozen last layer, the memory bank outside the state
dict); here the references' hold. Losses are computed in float32 whatever the precision of the networks.

With networks without BatchNorm no statistics leak from one view to another: neither MoCo's shuffled BatchNorm nor
synchronised statistics are needed. The two methods with a teacher refuse BatchNorm.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from stride_monai.errors import ConfigError, MissingExtraError
from stride_monai.networks.batch_norm import refuse_batch_norm
from stride_monai.networks.encoders.cell_encoder import CellClassifier

__all__ = ["DINO", "MoCo", "SelfSupervised", "SimCLR", "cosine", "moco_queue_size"]

_log = logging.getLogger(__name__)


def cosine(start: float, end: float, progress: float) -> float:
    """Half a cosine from ``start`` (progress 0) to ``end`` (progress 1)."""
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


def _lightly() -> Any:
    try:
        import lightly.loss
        import lightly.models.modules.heads
        import lightly.models.utils
    except ImportError as error:
        raise MissingExtraError("lightly", "ssl", "self-supervised training") from error
    return lightly


class SelfSupervised(nn.Module):
    """Base of the methods: a student, whose classification head takes no part, and a loss between views.

    Args:
        classifier: its encoder is the student.
    """

    loss: Any

    def __init__(self, classifier: CellClassifier) -> None:
        super().__init__()
        self.student = classifier
        classifier.head.requires_grad_(False)

    @property
    def result(self) -> CellClassifier:
        """The network whose encoder is worth keeping."""
        return self.student

    def forward(self, views: Sequence[Tensor]) -> Tensor:
        """The loss, a scalar, of views: tensors ``[B, 3, S, S]`` in 0..1; row i of each shows the same cell."""
        raise NotImplementedError

    def before_step(self, epoch: int) -> None:
        """Called with the epoch, from 0, when gradients are there and the optimiser has not made its step."""

    def after_step(self, progress: float) -> None:
        """Called after each step of the optimiser with the share of the training that was done before it, 0..1."""


class SimCLR(SelfSupervised):
    """SimCLR (https://arxiv.org/abs/2002.05709, equation 1): a view finds the other view of its cell in the batch.

    For a pair (i, j) of the 2B projections z = W2 relu(W1 h), with cosine similarity s and temperature T::

        l(i, j) = -log( exp(s(i, j) / T) / sum over k != i of exp(s(i, k) / T) )

    and the loss is the mean of l over both directions of all pairs. Negatives come from the batches of all processes.

    Args:
        classifier: its encoder is the student.
        temperature: T; the reference's 0.1.
        hidden_dim: width of the projection's hidden layer. output_dim: of its output.
    """

    def __init__(
        self, classifier: CellClassifier, temperature: float = 0.1, hidden_dim: int = 2048, output_dim: int = 128
    ) -> None:
        super().__init__(classifier)
        heads, losses = _lightly().models.modules.heads, _lightly().loss
        self.head = heads.SimCLRProjectionHead(classifier.feature_dim, hidden_dim, output_dim, batch_norm=False)
        self.loss = losses.NTXentLoss(temperature, gather_distributed=True)

    def forward(self, views: Sequence[Tensor]) -> Tensor:
        """As :meth:`SelfSupervised.forward`, of two views of one size."""
        first, second = _two(views)
        projections = self.head(self.student.encode(torch.cat((first, second)))).chunk(2)
        return _in_float32(self.loss, *projections)


class _WithTeacher(SelfSupervised):
    """A student and a teacher that follows it: ``teacher = m * teacher + (1 - m) * student`` after each step.

    The teacher is in evaluation mode from the start and gets no gradient. (The references' teachers are in training
    mode, which means something to BatchNorm alone, here refused: neither has dropout, and DINO's has no drop path.)
    ``head`` projects the student's features, ``teacher_head`` the teacher's.
    """

    def __init__(self, classifier: CellClassifier, head: nn.Module, teacher_head: nn.Module) -> None:
        super().__init__(classifier)
        refuse_batch_norm(classifier, f"{type(self).__name__}'s teacher")
        self.head, self.teacher_head = head, teacher_head
        self.teacher = copy.deepcopy(classifier).requires_grad_(False)
        self.teacher_head.load_state_dict(head.state_dict())
        self.teacher_head.requires_grad_(False)
        self.train()  # which leaves the teacher in evaluation mode
        self._follow = _lightly().models.utils.update_momentum

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.teacher.eval()
        self.teacher_head.eval()
        return self

    def _taught(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            out: Tensor = self.teacher_head(self.teacher.encode(images))
        return out

    def _update(self, momentum: float) -> None:
        with torch.no_grad():
            self._follow(self.student, self.teacher, momentum)
            self._follow(self.head, self.teacher_head, momentum)


def moco_queue_size(cells: int, batch_size: int, most: int = 65536) -> int:
    """Keys in the queue of :class:`MoCo`: whole batches, at most a quarter of the training cells (but one batch)."""
    return min(most, max(1, cells // (4 * batch_size)) * batch_size)


class MoCo(_WithTeacher):
    """MoCo v2 (https://arxiv.org/abs/1911.05722, equation 1; https://arxiv.org/abs/2003.04297): the negatives queue.

    For the student's query q of one view, the teacher's key k of the other and the K keys n of earlier batches, all of
    length 1, with temperature T::

        l = -log( exp(q.k / T) / ( exp(q.k / T) + sum over n of exp(q.n / T) ) )

    Keys join the queue after the loss, those of all processes, and the oldest leave it. At first the queue is random.

    Args:
        classifier: its encoder is the student.
        queue_size: K; the reference's 65536. More than a good part of the training cells makes no sense: a cell would
            meet older keys of its own among the negatives.
        momentum: m of the teacher.
        temperature: T; 0.2 in v2 (0.07 in v1).
        hidden_dim: width of the projection's hidden layer. output_dim: of its output.

    Raises:
        ConfigError: the encoder has live BatchNorm, or the queue is empty.
    """

    def __init__(
        self,
        classifier: CellClassifier,
        queue_size: int = 65536,
        momentum: float = 0.999,
        temperature: float = 0.2,
        hidden_dim: int = 2048,
        output_dim: int = 128,
    ) -> None:
        if queue_size < 1:
            raise ConfigError(f"MoCo's queue_size is {queue_size}", "use a multiple of the batch size, e.g. 65536")
        make_head = _lightly().models.modules.heads.MoCoProjectionHead
        heads = [make_head(classifier.feature_dim, hidden_dim, output_dim) for _ in range(2)]
        super().__init__(classifier, *heads)
        self.momentum = momentum
        self.loss = _lightly().loss.NTXentLoss(temperature, (queue_size, output_dim), gather_distributed=True)
        bank = self.loss.memory_bank
        for name in ("bank", "bank_ptr"):  # lightly leaves them out of the state, and a resumed run would lose them
            bank.register_buffer(name, getattr(bank, name), persistent=True)
        _log.info("MoCo: a queue of %d keys", queue_size)

    def forward(self, views: Sequence[Tensor]) -> Tensor:
        """As :meth:`SelfSupervised.forward`; the first of two views is the student's, the second the teacher's."""
        first, second = _two(views)
        return _in_float32(self.loss, self.head(self.student.encode(first)), self._taught(second))

    def after_step(self, progress: float) -> None:
        self._update(self.momentum)


class DINO(_WithTeacher):
    """DINO (https://arxiv.org/abs/2104.14294, algorithm 1): a student of any view predicts the teacher of a large one.

    With the teacher's outputs t of the two large views, the student's outputs s of all views, centre c and
    temperatures T::

        loss = mean over pairs of different views (u, v) of -sum softmax((t_u - c) / T_t) . log softmax(s_v / T_s)

    and after it ``c = 0.9 c + 0.1 * mean t``, over the batches of all processes. The teacher is what is kept.

    Args:
        classifier: its encoder is the student. The reference gives it a ``drop_path_rate`` of 0.1.
        prototypes: dimension of the outputs; the reference's 65536.
        student_temperature: T_s. teacher_temperature: T_t; above 0.07 training is unstable.
        center_momentum: share of the old centre that stays.
        momentum: of the teacher at first; rises to 1 along a cosine.
        frozen_epochs: so long the last layer of the student's head stays as it is.
        hidden_dim: width of the head's hidden layers. bottleneck_dim: of the layer before the last.

    Raises:
        ConfigError: the encoder has live BatchNorm.
    """

    def __init__(
        self,
        classifier: CellClassifier,
        prototypes: int = 65536,
        student_temperature: float = 0.1,
        teacher_temperature: float = 0.04,
        center_momentum: float = 0.9,
        momentum: float = 0.996,
        frozen_epochs: int = 1,
        hidden_dim: int = 2048,
        bottleneck_dim: int = 256,
    ) -> None:
        make_head = _lightly().models.modules.heads.DINOProjectionHead
        sizes = (classifier.feature_dim, hidden_dim, bottleneck_dim, prototypes)
        heads = [make_head(*sizes, freeze_last_layer=frozen_epochs) for _ in range(2)]
        super().__init__(classifier, *heads)
        self.momentum = momentum
        self.loss = _lightly().loss.DINOLoss(
            prototypes,
            teacher_temp=teacher_temperature,
            student_temp=student_temperature,
            center_momentum=center_momentum,
        )

    @property
    def result(self) -> CellClassifier:
        return self.teacher

    def forward(self, views: Sequence[Tensor]) -> Tensor:
        """As :meth:`SelfSupervised.forward`; the first two views are the large ones, the others may be smaller."""
        large, small = torch.cat(_two(views[:2])), views[2:]
        taught = self._taught(large).chunk(2)
        learnt = [*self.head(self.student.encode(large)).chunk(2)]
        if small:
            learnt += self.head(self.student.encode(torch.cat(tuple(small)))).chunk(len(small))
        return _in_float32(lambda *out: self.loss(list(out[:2]), list(out[2:])), *taught, *learnt)

    def before_step(self, epoch: int) -> None:
        head: Any = self.head
        head.cancel_last_layer_gradients(epoch)

    def after_step(self, progress: float) -> None:
        self._update(cosine(self.momentum, 1.0, progress))


def _two(views: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    if len(views) != 2 or views[0].shape != views[1].shape:
        raise ConfigError(f"got {len(views)} large views", "give two of one size (global_views of the views)")
    return views[0], views[1]


def _in_float32(loss: Any, *outputs: Tensor) -> Tensor:
    """A loss outside of mixed precision: exponentials of similarities over a temperature overflow half precision."""
    with torch.autocast(outputs[0].device.type, enabled=False):
        value: Tensor = loss(*(output.float() for output in outputs))
    return value
