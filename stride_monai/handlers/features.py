"""What features of labelled cells are worth while an encoder trains without labels, as Ignite metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from ignite.metrics import Metric
from monai.utils import evenly_divisible_all_gather
from torch import Tensor
from torch.nn.functional import normalize, one_hot

from stride_monai.data.hashing import digest
from stride_monai.errors import ManifestError
from stride_monai.metrics.slide import f1_macro

__all__ = ["FeatureSpread", "NeighborF1", "nearest_neighbors"]

_TEMPERATURE, _BLOCK = 0.07, 1024


def nearest_neighbors(features: Tensor, labels: Tensor, slides: Tensor, k: int = 20) -> Tensor:
    """The class of each cell, ``[N]``, by the vote of its nearest cells on other slides.

    Cells of one slide share stain and focus, so a neighbour on the same slide says little about a new slide. A vote
    counts ``exp(cosine / 0.07)`` (Wu et al., https://arxiv.org/abs/1805.01978).

    Args:
        features: ``[N, D]``. labels: class indices ``[N]``. slides: ``[N]``, any number per slide.
        k: neighbours; fewer where other slides hold fewer cells.

    Raises:
        ManifestError: all cells are of one slide.
    """
    if bool((slides == slides[0]).all()):
        raise ManifestError("the labelled validation cells are all of one slide", "label cells of a second slide")
    units = normalize(features, dim=1)
    classes = one_hot(labels).to(units.dtype)
    out = torch.empty_like(labels)
    for start in range(0, len(units), _BLOCK):
        rows = slice(start, start + _BLOCK)
        similar = units[rows] @ units.T
        similar[slides[rows].unsqueeze(1) == slides] = -torch.inf  # votes exp(-inf) = 0
        best, places = similar.topk(min(k, len(units)), dim=1)
        # Less the best, so that nothing overflows: all votes of a cell shrink alike.
        votes = torch.exp((best - best[:, :1]) / _TEMPERATURE)
        out[rows] = (votes.unsqueeze(2) * classes[places]).sum(1).argmax(1)
    return out


class _Features(Metric):
    """Gathers features ``[N, D]``, labels ``[N]`` and slides ``[N]`` of an epoch, of every process.

    Args:
        output_transform: from the engine's output to a dictionary as ``FeatureEvaluator`` makes it.
    """

    def __init__(self, output_transform: Callable[[Any], Any] = lambda output: (output,), device: str = "cpu") -> None:
        super().__init__(output_transform=output_transform, device=device)

    def reset(self) -> None:
        self._gathered: list[tuple[Tensor, Tensor, Tensor]] = []

    def update(self, output: Sequence[Mapping[str, Any]]) -> None:
        (batch,) = output
        features = batch["pred"].detach().float()
        codes = [int.from_bytes(digest(0, name)[:7], "big") for name in batch["slide_id"]]
        slides = torch.tensor(codes, dtype=torch.int64, device=features.device)
        self._gathered.append((features, batch["label"].detach().long().flatten(), slides))

    def compute(self) -> float:
        columns = (evenly_divisible_all_gather(torch.cat(parts)) for parts in zip(*self._gathered, strict=True))
        return self.value(*columns)

    def value(self, features: Tensor, labels: Tensor, slides: Tensor) -> float:
        raise NotImplementedError


class NeighborF1(_Features):
    """F1-macro of :func:`nearest_neighbors`: how well classes lie apart, from slide to slide.

    Args:
        k: neighbours. Others as :class:`_Features`.
    """

    def __init__(self, k: int = 20, **kwargs: Any) -> None:
        self.k = k
        super().__init__(**kwargs)

    def value(self, features: Tensor, labels: Tensor, slides: Tensor) -> float:
        predicted = nearest_neighbors(features, labels, slides, self.k)
        return f1_macro(predicted.cpu().numpy(), labels.cpu().numpy())


class FeatureSpread(_Features):
    """Standard deviation of the features, each of length 1, times the root of their number; mean over dimensions.

    About 1 where features fill their space evenly, 0 where they have collapsed to one (SimSiam,
    https://arxiv.org/abs/2011.10566, figure 2). Arguments as :class:`_Features`.
    """

    def value(self, features: Tensor, labels: Tensor, slides: Tensor) -> float:
        spread = normalize(features, dim=1).std(0, unbiased=False).mean() * features.shape[1] ** 0.5
        return float(spread)
