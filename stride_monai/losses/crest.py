"""CReST: self-training in generations that trusts pseudo-labels of rare classes more than those of common ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from ignite import distributed as idist
from torch import Tensor

from stride_monai.errors import ConfigError
from stride_monai.losses.fixmatch import FixMatch
from stride_monai.losses.semi_supervised import check_share

__all__ = ["CReST", "keep_rates", "most_confident"]


class CReST(FixMatch):
    """Loss and choice of CReST+ (Wei et al. 2021, https://arxiv.org/abs/2102.09559).

    Within a generation this is :class:`~stride_monai.losses.FixMatch`, as in the paper, on probabilities q
    that are aligned with the labelled cells' class distribution p (progressive distribution alignment, section 3.4):

        q' = normalise(q * p^t / mean q),    t = 1 - (1 - lowest_temperature) * g / (generations - 1)

    for generation g from 0, p^t normalised; ``mean q`` is that of the last ``window`` batches, this one included. After
    a generation every unlabelled cell gets the class that the network holds for most probable, and the most confident
    of them join the labelled cells of the next generation, which starts from the first weights again
    (:class:`stride_monai.handlers.CrestGenerations`): of class c the share :func:`keep_rates`.

    Args:
        counts: labelled cells of each class, in class order (or by class in that order), before any was added. A class
            without one is never a pseudo-label.
        generations: how many networks are trained one after another.
        alpha: exponent of the share that is kept, 0-1; 0 keeps all.
        lowest_temperature: t of the last generation, 0-1; 1 for plain distribution alignment.
        threshold, weight: of FixMatch.
        window: batches over which the predictions are averaged.

    The generation and the predictions of the window are part of the state dict.

    Raises:
        ConfigError: a number out of range, or no labelled cell.

    Example::

        loss = CReST(counts=[1000, 200, 50])
        found = loss(student(strong_view), student(weak_view).detach(), index, step)
        loss.start(generation=1)
        chosen, label = loss.choose(probabilities)
    """

    generation: Tensor
    recent: Tensor
    batches: Tensor

    def __init__(
        self,
        counts: Sequence[int] | Mapping[str, int],
        generations: int = 6,
        alpha: float = 1 / 3,
        lowest_temperature: float = 0.5,
        threshold: float = 0.95,
        weight: float = 1.0,
        window: int = 128,
    ) -> None:
        super().__init__(threshold, weight)
        counts = tuple(counts.values() if isinstance(counts, Mapping) else counts)
        if generations < 1 or window < 1 or sum(counts) < 1:
            raise ConfigError(
                f"CReST of {generations} generations, {sum(counts)} labelled cells and a window of {window}",
                "use 1 or more of each",
            )
        self.counts, self.generations = tuple(int(count) for count in counts), generations
        self.alpha = check_share("alpha of CReST", alpha)
        self.lowest_temperature = check_share("the lowest temperature of CReST", lowest_temperature)
        self.register_buffer("generation", torch.zeros((), dtype=torch.int64))
        self.register_buffer("recent", torch.zeros(window, len(self.counts)))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    def start(self, generation: int) -> None:
        """Begin a generation, from 0: its temperature holds, and what was predicted before is forgotten."""
        self.generation.fill_(generation)
        self.batches.zero_()

    @property
    def temperature(self) -> float:
        """t of the generation, 1 in the first."""
        share = int(self.generation) / max(self.generations - 1, 1)
        return 1 - (1 - self.lowest_temperature) * share

    def target(self) -> Tensor:
        """The class distribution that predictions are aligned with, float32 ``[C]``."""
        labeled = torch.tensor(self.counts, dtype=torch.float64)
        tempered = torch.where(labeled > 0, (labeled / labeled.sum()) ** self.temperature, 0.0)
        return (tempered / tempered.sum()).float()

    def probabilities(self, teacher: Tensor) -> Tensor:
        """As of the base, aligned; the batch joins the window."""
        plain = super().probabilities(teacher)
        mean: Tensor = plain.mean(0)
        if idist.get_world_size() > 1:
            mean = idist.all_reduce(mean) / idist.get_world_size()
        self.recent[int(self.batches) % len(self.recent)] = mean
        self.batches += 1
        usual = self.recent[: int(self.batches)].mean(0)
        aligned = plain * self.target().to(plain.device) / usual.clamp(min=1e-6)
        return aligned / aligned.sum(1, keepdim=True).clamp(min=1e-12)

    def choose(self, probabilities: Tensor) -> tuple[Tensor, Tensor]:
        """The unlabelled cells that join the labelled ones.

        Args:
            probabilities: of the network, unaligned, for every unlabelled cell ``[N, C]``.

        Returns:
            Which cells, int64 ``[n]``, rising, and their pseudo-labels ``[n]``.
        """
        confidence, label = probabilities.max(1)
        chosen = most_confident(confidence, label, keep_rates(self.counts, self.alpha))
        return chosen, label[chosen]


def keep_rates(counts: Sequence[int], alpha: float = 1 / 3) -> list[float]:
    """Share of the pseudo-labels of each class that CReST keeps, in the order of ``counts`` (equation 2).

    With the classes that occur ranked by count, N_1 >= ... >= N_L, the class of rank l keeps (N_{L+1-l} / N_1)^alpha:
    the rarest all, the commonest least. Classes of equal count are ranked in class order; one without a cell keeps
    nothing.

    Example::

        keep_rates([50, 1000, 200])  # [1.0, 0.368, 0.585]
    """
    ranked = sorted((c for c, count in enumerate(counts) if count > 0), key=lambda c: -counts[c])
    rates = [0.0] * len(counts)
    for here, opposite in zip(ranked, reversed(ranked), strict=True):
        rates[here] = (counts[opposite] / counts[ranked[0]]) ** alpha
    return rates


def most_confident(confidence: Tensor, label: Tensor, rates: Sequence[float]) -> Tensor:
    """Of n cells of class c the ``floor(rates[c] * n)`` with the highest confidence; of equal ones the first.

    Args:
        confidence: ``[N]``.
        label: class indices ``[N]``.
        rates: share to keep of each class, 0-1.

    Returns:
        int64 indices, rising.
    """
    kept = []
    for c, rate in enumerate(rates):
        members = torch.nonzero(label == c).flatten()
        order = torch.argsort(confidence[members], descending=True, stable=True)
        kept.append(members[order[: math.floor(rate * len(members) + 1e-9)]])
    return torch.cat(kept).sort().values
