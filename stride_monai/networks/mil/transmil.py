"""TransMIL: a transformer over the cells of a slide (Shao et al. 2021, https://arxiv.org/abs/2106.00908)."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from stride_monai.bethesda import SLIDE_CLASSES
from stride_monai.errors import ConfigError
from stride_monai.networks.exporting import compiled, is_scripting, is_tracing, recording
from stride_monai.networks.mil.slide_head import SlideHead

__all__ = ["TransMILHead"]


class TransMILHead(SlideHead):
    """Embedding, class token, attention layer, positions by convolution (PPEG), attention layer, classifier.

    The cells of a bag, in their order, fill a square grid row by row; the grid is filled up by repeating the first
    cells (as the authors do), but those repeats are no keys of any attention, so that no cell counts twice. Every bag
    of a batch has the grid of its own number of cells: the result for a bag does not depend on how far it is padded.

    Attention is exact. The authors approximate it (Nystroem, 256 landmarks) for bags of 10,000 patches; at the
    256 to 1024 cells of a bag the exact one is cheap. Their convolution of the values along the sequence (33 places)
    is kept. The order of the cells matters: it is the detector's ranking. The attention is that of the class token in
    the last layer, mean over heads.

    Args:
        feature_dim: D, width of the cell features.
        num_classes: C, number of slide classes.
        embed: width of the tokens, a multiple of ``heads``.
        heads: number of attention heads.
        dropout: after each attention layer, 0..1.
        score_input: take the detector's scores as well, not only their order.

    Raises:
        ConfigError: ``embed`` is no multiple of ``heads``.
    """

    def __init__(
        self,
        feature_dim: int,
        num_classes: int = len(SLIDE_CLASSES),
        embed: int = 512,
        heads: int = 8,
        dropout: float = 0.1,
        score_input: bool = False,
    ) -> None:
        super().__init__(feature_dim, num_classes, score_input)
        if embed % heads:
            raise ConfigError(f"TransMIL with tokens of {embed} and {heads} heads", "make the width a multiple of them")
        self.embed = nn.Sequential(nn.Linear(feature_dim, embed), nn.ReLU())
        self.class_token = nn.Parameter(torch.randn(embed) * 1e-6)
        self.first = _AttentionLayer(embed, heads, dropout)
        self.positions = _PPEG(embed)
        self.second = _AttentionLayer(embed, heads, dropout)
        self.norm = nn.LayerNorm(embed)
        self.classifier = nn.Linear(embed, num_classes)

    def judge(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        grid = _grid(mask)
        cells = self.embed(features)
        cells = cells.gather(1, grid.source.unsqueeze(-1).expand(-1, -1, cells.shape[-1]))
        tokens = torch.cat([self.class_token.expand(cells.shape[0], 1, -1), cells], dim=1)
        one = torch.ones_like(mask[:, :1])
        keys, present = torch.cat([one, grid.real], dim=1), torch.cat([one, grid.filled], dim=1)
        tokens = self.first(tokens, keys, present)[0]
        tokens = torch.cat([tokens[:, :1], self.positions(tokens[:, 1:], grid)], dim=1)
        tokens, attention = self.second(tokens, keys, present)
        logits: Tensor = self.classifier(self.norm(tokens[:, 0]))
        return logits, _given_back(grid, attention, mask)


class _Grid(NamedTuple):
    """Where the cells of each bag stand in its square.

    Attributes:
        source: ``[B, L]``, which cell of the bag stands at each place of the sequence; L is the largest square.
        real: ``[B, L]``, the place holds a cell for the first time. filled: ``[B, L]``, a cell or a repeated one.
        canvas: ``[B, L]``, index of each place in an image that holds the largest square.
    """

    source: Tensor
    real: Tensor
    filled: Tensor
    canvas: Tensor


def _grid(mask: Tensor) -> _Grid:
    """The grid of each bag of a batch with the mask ``[B, K]``."""
    if not is_scripting():
        if is_tracing():
            return _Grid(*compiled(_grid_of)(mask, 0))
        if recording():  # a square for every place of the mask: how many hold a cell is not known
            return _Grid(*_grid_of(mask, math.isqrt(mask.shape[1] - 1) + 1))
    source, real, filled, canvas = _grid_of(mask, 0)
    return _Grid(source, real, filled, canvas)


def _grid_of(mask: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As :class:`_Grid`, in an image of ``side * side``; 0 for the side of the largest square."""
    count = mask.sum(dim=1, keepdim=True)
    sides = count.double().sqrt().ceil().long()
    if side == 0:
        side = int(sides.max())
    place = torch.arange(side * side, device=mask.device).expand(mask.shape[0], -1)
    # The cells of each bag first, in their order. Counted and not sorted: ONNX has no stable sort.
    rank = torch.where(mask, mask.long().cumsum(dim=1) - 1, count + (~mask).long().cumsum(dim=1) - 1)
    cells = torch.zeros_like(rank).scatter(1, rank, torch.arange(mask.shape[1], device=mask.device).expand_as(rank))
    # A bag of 2 cells has 4 places: the modulus repeats the first cells as often as it takes.
    source = cells.gather(1, place % count)
    filled = place < sides * sides
    canvas = torch.where(filled, place // sides * side + place % sides, 0)
    return source, place < count, filled, canvas


def _given_back(grid: _Grid, values: Tensor, mask: Tensor) -> Tensor:
    """Values ``[B, L]`` of the places, given back to the cells ``[B, K]``; 0 where there is none."""
    empty = values.new_zeros(mask.shape)
    return empty.scatter_add(1, grid.source, values * grid.real)


def _image(cells: Tensor, canvas: Tensor) -> Tensor:
    """Cells ``[B, L, E]`` at their places ``[B, L]`` of an image ``[B, E, side, side]``."""
    batch, length, width = cells.shape
    side = int(round(math.sqrt(length)))  # noqa: RUF046 (TorchScript's round gives a float)
    index = canvas.unsqueeze(1).expand(-1, width, -1)
    flat = torch.zeros(batch, width, length, dtype=cells.dtype, device=cells.device)
    return flat.scatter_add(2, index, cells.transpose(1, 2)).view(batch, width, side, side)


class _AttentionLayer(nn.Module):
    """``x + attention(norm(x))`` with several heads, and a convolution of the values along the sequence."""

    def __init__(self, width: int, heads: int, dropout: float, kernel: int = 33) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.along = nn.Conv2d(heads, heads, (kernel, 1), padding=(kernel // 2, 0), groups=heads, bias=False)
        self.out = nn.Sequential(nn.Linear(width, width), nn.Dropout(dropout))

    def forward(self, x: Tensor, keys: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens ``[B, 1 + L, E]`` and the class token's attention ``[B, L]``; only ``keys`` are attended to."""
        batch, length, width = x.shape
        shape = (batch, length, 3, self.heads, width // self.heads)
        query, key, value = self.qkv(self.norm(x)).view(shape).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=keys[:, None, None])
        mixed = mixed + self.along(value * present[:, None, :, None])
        with torch.no_grad():
            scores = (query[:, :, :1] @ key.transpose(2, 3)).squeeze(2) / query.shape[-1] ** 0.5
            scores = scores[..., 1:].masked_fill(~keys[:, None, 1:], float("-inf"))
            attention = torch.softmax(scores, dim=-1).mean(dim=1)
        return x + self.out(mixed.transpose(1, 2).flatten(2)), attention


class _PPEG(nn.Module):
    """Pyramid position encoding: the grid plus its depthwise convolutions of 7, 5 and 3."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv2d(width, width, size, padding=size // 2, groups=width) for size in (7, 5, 3)
        )

    def forward(self, cells: Tensor, grid: _Grid) -> Tensor:
        """Cells ``[B, L, E]`` of the same shape; places outside a bag's own square count as border."""
        inside = cells * grid.filled.unsqueeze(-1)
        if not is_scripting() and is_tracing():
            image = compiled(_image)(inside, grid.canvas)
        else:
            image = _image(inside, grid.canvas)
        image = image + torch.stack([convolution(image) for convolution in self.convolutions]).sum(dim=0)
        index = grid.canvas.unsqueeze(1).expand(-1, cells.shape[2], -1)
        moved: Tensor = image.flatten(2).gather(2, index).transpose(1, 2)
        return moved
