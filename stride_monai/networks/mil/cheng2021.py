"""The slide head of Cheng et al. 2021: a recurrent network over the features of the ten most suspicious cells."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from stride_monai.bethesda import SLIDE_CLASSES
from stride_monai.networks.exporting import is_scripting, recording
from stride_monai.networks.mil.lesion_ranking import LESIONS, LesionRanking, by_lesion, lesion_probability, shares
from stride_monai.networks.mil.slide_head import SlideHead

__all__ = ["ChengHead"]


class ChengHead(SlideHead):
    """An RNN over the features of the cells with the highest lesion probability, in that order (baseline).

    S. Cheng et al.: Robust whole slide image analysis for cervical cancer screening using deep learning. Nature
    Communications 12, 5639 (2021), https://doi.org/10.1038/s41467-021-25296-x. With z_1 ... z_n the features of the
    n <= 10 best cells, best first, and h_0 = 0::

        h_t = relu(W z_t + b + R h_(t-1) + c),    logits = V h_n + d

    Theirs: ten cells, ranked by the lesion probability of the ResNet-50 that gives the features; a plain recurrent
    layer, of which the last state is classified. From the program that they published, not from the paper: 512 units
    with ReLU, W by Glorot, R orthogonal, biases 0; in training half of the bags show ten cells drawn from the 20
    best, in any order, so that no place in the sequence comes to stand for a class.

    Ours: six slide classes by cross-entropy where they have one output, positive or not; one network where they average
    networks over the best 10, 20 and 30 cells; the cells are those that this project's detector found; the mean of
    the ResNet's last feature map where they take the maximum; bags of fewer cells are shorter sequences.

    The detector's score is no input: theirs has none, and a baseline stays as it was published.

    The attention is 1/n for the n cells of the sequence, 0 for all others. The result depends on the order of the cells
    in the bag only where lesion probabilities tie.

    Args:
        feature_dim: D, width of the cell features.
        cell_head: ranks the cells (see :class:`~stride_monai.networks.LesionRanking`).
        num_classes: C, number of slide classes.
        cells: number of cells in the sequence.
        hidden: width of the recurrent layer.
        shuffle: probability that training shows ``cells`` of the ``pool`` best in any order, 0..1.
        pool: number of cells from which these are drawn.
    """

    def __init__(
        self,
        feature_dim: int,
        cell_head: nn.Module,
        num_classes: int = len(SLIDE_CLASSES),
        cells: int = 10,
        hidden: int = 512,
        shuffle: float = 0.5,
        pool: int = 20,
    ) -> None:
        super().__init__(feature_dim, num_classes)
        if not 1 <= cells <= pool:
            raise ValueError(f"cells ({cells}) must be at least 1 and at most pool ({pool})")
        self.cells, self.shuffle, self.pool, self.hidden = cells, shuffle, pool, hidden
        self.ranking = LesionRanking(cell_head)
        # Cell by cell: cuDNN's layer has no gradient in eval mode, where class activations need one.
        self.rnn = nn.RNNCell(feature_dim, hidden, nonlinearity="relu")
        self.classifier = nn.Linear(hidden, num_classes)
        nn.init.xavier_uniform_(self.rnn.weight_ih)
        nn.init.orthogonal_(self.rnn.weight_hh)
        nn.init.zeros_(self.rnn.bias_ih)
        nn.init.zeros_(self.rnn.bias_hh)

    def judge(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        order = self._order(features, mask)
        if self.training and self.shuffle > 0:
            order = self._shuffled(order, mask)
        order = order[:, : self.cells]
        there = mask.gather(1, order)
        sequence = features.gather(1, order.unsqueeze(-1).expand(-1, -1, features.shape[-1]))
        state = features.new_zeros(features.shape[0], self.hidden)
        steps, present = order.shape[1], there
        if not is_scripting() and recording():  # for bags of any size: places that no cell has leave the state
            steps = self.cells
            sequence = functional.pad(sequence, (0, 0, 0, steps))
            present = torch.cat([there, torch.zeros_like(there[:, :1]).expand(-1, steps)], dim=1)
        for t in range(steps):  # a bag of fewer cells stays at the state after its last
            state = torch.where(present[:, t : t + 1], self.rnn(sequence[:, t], state), state)
        return self.classifier(state), shares(order, there, mask)

    def _order(self, features: Tensor, mask: Tensor) -> Tensor:
        return self.ranking(features, mask).order

    def __prepare_scriptable__(self) -> nn.Module:
        """What ``torch.jit.script`` compiles: the same, with the cell head among its modules."""
        script: Any = copy.copy(self)
        script._modules = {**self._modules, "cell_head": self.ranking.cell_head}
        script.__class__ = _Compiled
        script.lesions = LESIONS
        compiled: nn.Module = script
        return compiled

    def _shuffled(self, order: Tensor, mask: Tensor) -> Tensor:
        """The ``pool`` best cells, in some bags in any order; places without a cell stay last."""
        order = order[:, : self.pool]
        keys = torch.rand(order.shape, device=order.device)
        chosen = torch.rand(order.shape[0], 1, device=order.device) < self.shuffle
        ranks = torch.arange(order.shape[1], device=order.device).expand_as(order)
        keys = torch.where(chosen, keys, ranks.float()).masked_fill(~mask.gather(1, order), float("inf"))
        return order.gather(1, keys.argsort(dim=1, stable=True))


class _Compiled(ChengHead):
    lesions: list[int]

    def _order(self, features: Tensor, mask: Tensor) -> Tensor:
        probabilities = self.cell_head(features.float()).softmax(dim=-1)  # type: ignore[operator]
        return by_lesion(lesion_probability(probabilities, mask, self.lesions))
