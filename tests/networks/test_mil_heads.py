"""The slide heads of the baselines against the published formulas, written slowly for one bag at a time in float64."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from stride_monai.bethesda import CELL_CLASSES, SLIDE_CLASSES, SLIDE_TO_CELL
from stride_monai.errors import BagError, ConfigError
from stride_monai.losses.dtfd import DTFDLoss, slide_loss
from stride_monai.networks.mil.dtfd import DTFDHead
from stride_monai.networks.mil.pooling_heads import ABMILHead, BestCellsHead, MaxHead, MeanHead
from stride_monai.networks.mil.slide_head import AttentionSlideHead
from stride_monai.networks.mil.transmil import TransMILHead

D, C = 6, 3
HEADS: dict[str, Callable[[], nn.Module]] = {
    "mean": lambda: MeanHead(D, C),
    "max": lambda: MaxHead(D, C),
    "abmil": lambda: ABMILHead(D, C, embed=8, hidden=5),
    "gated_abmil": lambda: ABMILHead(D, C, embed=8, hidden=5, gated=True),
    "transmil": lambda: TransMILHead(D, C, embed=8, heads=2),
    "dtfd": lambda: DTFDHead(D, C, pseudo_bags=3, embed=8, hidden=5),
    "stride": lambda: AttentionSlideHead(D, C, hidden=8, layers=2),
    "best_cells": lambda: BestCellsHead(D, C, best=2),
}
INVARIANT = ("mean", "max", "abmil", "gated_abmil", "stride", "best_cells")
MASK = torch.tensor([[1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0, 0], [0, 1, 0, 1, 0, 0, 1], [0, 0, 0, 0, 1, 0, 0]]).bool()


def made(name: str) -> nn.Module:
    torch.manual_seed(0)
    head = HEADS[name]().double().eval()
    for parameter in head.parameters():
        nn.init.normal_(parameter, std=0.6)
    return head


def bags() -> Tensor:
    return torch.randn(*MASK.shape, D, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def arrays(head: nn.Module) -> dict[str, np.ndarray]:
    return {name: value.detach().numpy() for name, value in head.state_dict().items()}


def softmax(values: list[float]) -> np.ndarray:
    powers = np.array([math.exp(value - max(values)) for value in values])
    return powers / powers.sum()


def gated(state: dict[str, np.ndarray], name: str, h: np.ndarray, gate: bool = True) -> np.ndarray:
    scores = []
    for cell in h:
        hidden = np.tanh(state[f"{name}.project.weight"] @ cell + state[f"{name}.project.bias"])
        if gate:
            u = state[f"{name}.gate.weight"] @ cell + state[f"{name}.gate.bias"]
            hidden = hidden * np.array([1 / (1 + math.exp(-v)) for v in u])
        scores.append(float(state[f"{name}.score.weight"][0] @ hidden))
    return softmax(scores)


def slow_mean(state: dict[str, np.ndarray], z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    pooled = sum(z) / len(z)
    return state["classifier.weight"] @ pooled + state["classifier.bias"], np.full(len(z), 1 / len(z))


def slow_max(state: dict[str, np.ndarray], z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    pooled = np.array([max(cell[d] for cell in z) for d in range(D)])
    shares = [sum(cell[d] == pooled[d] for d in range(D)) / D for cell in z]
    return state["classifier.weight"] @ pooled + state["classifier.bias"], np.array(shares)


def slow_abmil(state: dict[str, np.ndarray], z: np.ndarray, gate: bool = False) -> tuple[np.ndarray, np.ndarray]:
    h = np.array([np.maximum(0, state["embed.0.weight"] @ cell + state["embed.0.bias"]) for cell in z])
    attention = gated(state, "pooling", h, gate)
    pooled = sum(a * cell for a, cell in zip(attention, h, strict=True))
    return state["classifier.weight"] @ pooled + state["classifier.bias"], attention


def slow_dtfd(state: dict[str, np.ndarray], z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cells dealt out in turn, as in evaluation."""
    h = np.array([np.maximum(0, state["tier1.reduce.0.weight"] @ cell) for cell in z])
    members = [[k for k in range(len(z)) if k % 3 == p] for p in range(3)]
    within = [(m, gated(state, "tier1.pooling", h[m])) for m in members if m]
    parts = np.array([sum(a * h[k] for k, a in zip(m, att, strict=True)) for m, att in within])
    between = gated(state, "tier2", parts)
    attention = np.zeros(len(z))
    for b, (m, att) in zip(between, within, strict=True):
        attention[m] = b * att
    pooled = sum(b * part for b, part in zip(between, parts, strict=True))
    return state["classifier.weight"] @ pooled + state["classifier.bias"], attention


def slow_norm(x: np.ndarray, state: dict[str, np.ndarray], name: str) -> np.ndarray:
    scaled = (x - x.mean()) / math.sqrt(((x - x.mean()) ** 2).mean() + 1e-5)
    return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]


def slow_layer(
    state: dict[str, np.ndarray], name: str, x: list[np.ndarray], keys: list[int]
) -> tuple[list[np.ndarray], np.ndarray]:
    """One attention layer of TransMIL: the tokens, and the attention of token 0 to the other keys."""
    heads, width = 2, len(x[0]) // 2
    qkv = [state[f"{name}.qkv.weight"] @ slow_norm(token, state, f"{name}.norm") for token in x]
    q, k, v = ([token[i * 2 * width : (i + 1) * 2 * width] for token in qkv] for i in range(3))
    kernel = state[f"{name}.along.weight"]  # heads, 1, 33, 1
    out, attention = [], np.zeros(len(keys) - 1)
    for i in range(len(x)):
        mixed = []
        for head in range(heads):
            part = slice(head * width, (head + 1) * width)
            scores = [float(q[i][part] @ k[j][part]) / math.sqrt(width) for j in keys]
            value = sum(a * v[j][part] for a, j in zip(softmax(scores), keys, strict=True))
            for offset in range(-16, 17):
                if 0 <= i + offset < len(x):
                    value = value + kernel[head, 0, offset + 16, 0] * v[i + offset][part]
            mixed.append(value)
            if i == 0:
                attention += softmax(scores[1:]) / heads
        projected = state[f"{name}.out.0.weight"] @ np.concatenate(mixed) + state[f"{name}.out.0.bias"]
        out.append(x[i] + projected)
    return out, attention


def slow_ppeg(state: dict[str, np.ndarray], grid: np.ndarray) -> np.ndarray:
    side, result = len(grid), grid.copy()
    for number, size in enumerate((7, 5, 3)):
        weight, bias = state[f"positions.convolutions.{number}.weight"], state[f"positions.convolutions.{number}.bias"]
        for r in range(side):
            for c in range(side):
                result[r, c] += bias
                for dr in range(-(size // 2), size // 2 + 1):
                    for dc in range(-(size // 2), size // 2 + 1):
                        if 0 <= r + dr < side and 0 <= c + dc < side:
                            result[r, c] += weight[:, 0, dr + size // 2, dc + size // 2] * grid[r + dr, c + dc]
    return result


def slow_transmil(state: dict[str, np.ndarray], z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    side = math.ceil(math.sqrt(len(z)))
    h = [np.maximum(0, state["embed.0.weight"] @ cell + state["embed.0.bias"]) for cell in z]
    h += [h[i % len(z)] for i in range(side * side - len(z))]
    keys = list(range(len(z) + 1))  # the class token and the cells, not their repeats
    tokens, _ = slow_layer(state, "first", [state["class_token"], *h], keys)
    grid = slow_ppeg(state, np.array(tokens[1:]).reshape(side, side, -1))
    tokens, attention = slow_layer(state, "second", [tokens[0], *grid.reshape(side * side, -1)], keys)
    return state["classifier.weight"] @ slow_norm(tokens[0], state, "norm") + state["classifier.bias"], attention


def slow_best_cells(state: dict[str, np.ndarray], z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    logits = [state["cells.weight"] @ cell + state["cells.bias"] for cell in z]
    odds = [math.log(sum(math.exp(lesion) for lesion in of[1:])) - of[0] for of in logits]
    best = sorted(range(len(z)), key=lambda k: -odds[k])[:2]
    total = state["scale"] * sum(odds[k] for k in best) / len(best) + state["shift"]
    positive = 1 / (1 + math.exp(-total))
    shares = sum(softmax(list(logits[k][1:])) for k in best) / len(best)
    attention = np.array([1 / len(best) if k in best else 0.0 for k in range(len(z))])
    # Logits are probabilities but for a constant: here the one that makes those of the negative and of all others even.
    constant = (math.log(1 - positive) + math.log(positive)) / 2
    return np.log(np.array([1 - positive, *(positive * shares)])) - constant, attention


SLOW = {
    "best_cells": slow_best_cells,
    "mean": slow_mean,
    "max": slow_max,
    "abmil": slow_abmil,
    "gated_abmil": lambda state, z: slow_abmil(state, z, gate=True),
    "transmil": slow_transmil,
    "dtfd": slow_dtfd,
}


@pytest.mark.parametrize("name", SLOW)
def test_equals_the_slow_formula_bag_by_bag(name: str) -> None:
    head, z = made(name), bags()
    logits, attention = head(z, MASK)
    state = arrays(head)
    for j, mask in enumerate(MASK):
        expected, weights = SLOW[name](state, z[j][mask].numpy())
        np.testing.assert_allclose(logits[j].detach(), expected, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(attention[j][mask].detach(), weights, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", HEADS)
def test_masked_places_do_not_matter_and_attention_sums_to_one(name: str) -> None:
    head, z = made(name), bags()
    logits, attention = head(z, MASK)
    spoilt = z.masked_fill(~MASK.unsqueeze(-1), math.nan)
    torch.testing.assert_close(head(spoilt, MASK)[0], logits)
    assert torch.all(attention[~MASK] == 0)
    torch.testing.assert_close(attention.sum(dim=1), torch.ones(len(z), dtype=torch.float64))


@pytest.mark.parametrize("name", HEADS)
def test_mixed_precision_gives_nearly_the_same_and_trains(name: str) -> None:
    """As on a GPU: the encoder's features are half as wide as the head's parameters."""
    head, z = made(name).float(), bags().float()
    with torch.autocast("cpu", torch.bfloat16):
        logits, attention = head(z.bfloat16(), MASK)
    wanted = head(z, MASK)[0]
    torch.testing.assert_close(logits.float(), wanted, rtol=0.1, atol=0.2)
    assert bool(attention.isfinite().all())
    logits.float().sum().backward()


@pytest.mark.parametrize("name", INVARIANT)
def test_order_of_the_cells_does_not_matter(name: str) -> None:
    head, z, order = made(name), bags(), torch.randperm(MASK.shape[1])
    torch.testing.assert_close(head(z[:, order], MASK[:, order])[0], head(z, MASK)[0])


@pytest.mark.parametrize("name", HEADS)
def test_empty_bag_is_an_error(name: str) -> None:
    with pytest.raises(BagError):
        made(name)(bags(), MASK & torch.tensor([True, True, True, False]).unsqueeze(1))


@pytest.mark.parametrize("name", HEADS)
def test_loss_moves_with_the_input_and_every_parameter_learns(name: str) -> None:
    head = made(name).train()
    z = bags()[:3].requires_grad_()
    label = torch.tensor([0, 2, 1])
    judge = slide_loss(head)
    assert isinstance(judge, DTFDLoss if name == "dtfd" else nn.CrossEntropyLoss)
    judge(head(z, MASK[:3])[0], label).backward()
    assert z.grad is not None
    assert float(z.grad[MASK[:3]].abs().sum()) > 0
    assert float(z.grad[~MASK[:3]].abs().sum()) == 0
    for parameter_name, parameter in head.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert bool(parameter.grad.isfinite().all()), parameter_name
        assert float(parameter.grad.abs().sum()) > 0, parameter_name


def test_dtfd_second_tier_does_not_train_the_first_and_the_loss_is_the_sum() -> None:
    head, z, label = made("dtfd").train(), bags(), torch.tensor([0, 2, 1, 1])
    torch.manual_seed(3)
    logits, _ = head(z, MASK)
    second = functional.cross_entropy(logits, label)
    second.backward(retain_graph=True)
    assert all(p.grad is None for p in head.tier1.parameters())
    assert all(p.grad is not None for p in head.tier2.parameters())
    parts = head.tier1_logits
    assert parts is not None
    first = [
        -torch.log_softmax(part, 0)[y]
        for bag, y in zip(parts, label, strict=True)
        for part in bag
        if part[0] == part[0]
    ]
    assert len(first) == 3 + 3 + 3 + 1, "the bag of one cell has one pseudo-bag"
    torch.testing.assert_close(DTFDLoss(head)(logits, label), second + torch.stack(first).mean())


def test_dtfd_deals_at_random_in_training_and_the_same_way_in_evaluation() -> None:
    head, mask = made("dtfd"), torch.ones(1, 7, dtype=torch.bool)
    assert torch.equal(head._groups(mask), head._groups(mask))
    head.train()
    torch.manual_seed(0)
    first, second = head._groups(mask), head._groups(mask)
    assert not torch.equal(first, second)
    for groups in (first, second):
        assert torch.equal(groups.sum(dim=1), torch.ones(1, 7, dtype=torch.long)), "each cell is in one pseudo-bag"
        assert sorted(groups.sum(dim=2)[0].tolist()) == [2, 2, 3]


def test_a_head_of_best_cells_starts_as_the_cell_classifier() -> None:
    """A slide of one cell is what the classifier says of the cell; two slide classes that are one of cells share it."""
    torch.manual_seed(0)
    cells = nn.Linear(D, len(CELL_CLASSES))
    head = BestCellsHead(D)
    head.start_from(cells)
    z = torch.randn(4, 1, D)
    said, slide = cells(z[:, 0]).softmax(1), head(z)[0].softmax(1)
    for column, name in enumerate(SLIDE_CLASSES):
        alike = 2 if SLIDE_TO_CELL[name] == "ASC-H/HSIL" else 1
        torch.testing.assert_close(slide[:, column], said[:, CELL_CLASSES.index(SLIDE_TO_CELL[name])] / alike)
    more = torch.cat([z, cells.weight[0].expand(4, 9, D) * 100], dim=1)
    torch.testing.assert_close(head(more)[1][:, 1:].sum(1), torch.full((4,), 4 / 5))
    assert not torch.equal(head(more)[0], head(z)[0]), "five decide, where there are five"


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="best is 0"):
        BestCellsHead(D, best=0)
    with pytest.raises(ConfigError, match="heads"):
        TransMILHead(D, embed=10, heads=4)
    with pytest.raises(ConfigError, match="pseudo-bags"):
        DTFDHead(D, pseudo_bags=0)
