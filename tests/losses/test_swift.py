"""Pseudo-labels of SWIFT against equation 4 and lines 11 to 18 of Algorithm 1, written out cell by cell."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from stride_monai.bethesda import CELL_CLASSES, SLIDE_CLASSES, SLIDE_TO_CELL
from stride_monai.errors import ConfigError
from stride_monai.losses.swift import SOURCES, masked_cross_entropy, refine_labels
from stride_monai.networks.mil.activation import class_activation
from stride_monai.networks.mil.slide_head import AttentionSlideHead

B, K, D = 2, 5, 6
MASK = torch.tensor([[True] * 5, [True, True, True, False, False]])
LABEL = torch.tensor([2, 4])


def head() -> AttentionSlideHead:
    torch.manual_seed(0)
    network = AttentionSlideHead(D, hidden=8, layers=2).double().eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.6)
    return network


def bags() -> Tensor:
    return torch.randn(B, K, D, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def slope(network: nn.Module, z: Tensor, j: int, k: int, d: int) -> float:
    """dY^c / dz_kd by central differences."""
    step, logits = torch.zeros_like(z), []
    step[j, k, d] = 1e-6
    with torch.no_grad():
        logits = [float(network(z + sign * step, MASK)[0][j, LABEL[j]]) for sign in (1, -1)]
    return (logits[0] - logits[1]) / 2e-6


@pytest.mark.parametrize("kind", ["eq4", "grad_x_feature"])
def test_activation_equals_the_formula_by_finite_differences(kind: str) -> None:
    network, z = head(), bags().requires_grad_()
    logits, attention = network(z, MASK)
    found = class_activation(logits, z, attention, LABEL, MASK, kind)
    for j in range(B):
        beta = []
        for k in range(K):
            slopes = [slope(network, z.detach(), j, k, d) for d in range(D)]
            weights = [1.0] * D if kind == "eq4" else z[j, k].tolist()
            beta.append(sum(s * w for s, w in zip(slopes, weights, strict=True)) / D if MASK[j, k] else 0.0)
        positive = [max(value, 0.0) for value in beta]
        assert max(positive) > 0
        for k in range(K):
            assert float(found[j, k]) == pytest.approx(positive[k] / max(positive), abs=1e-5)


def test_equation_4_taken_literally_is_nothing_behind_a_layer_norm() -> None:
    network, norm = head(), nn.LayerNorm(D).double()
    z = bags().requires_grad_()
    logits, _ = network(norm(z), MASK)
    (gradient,) = torch.autograd.grad(logits.gather(1, LABEL[:, None]).sum(), z)
    assert float(gradient.abs().max()) > 1e-3
    assert float(gradient.mean(dim=2).abs().max()) < 1e-12


def test_activation_builds_no_second_graph_and_leaves_the_first_for_the_backward_pass() -> None:
    network, z = head(), bags().requires_grad_()
    logits, attention = network(z, MASK)
    for kind in ("eq4", "grad_x_feature", "attention"):
        found = class_activation(logits, z, attention, LABEL, MASK, kind)
        assert not found.requires_grad
        assert torch.all(found[~MASK] == 0)
        torch.testing.assert_close(found.amax(dim=1), torch.ones(B, dtype=torch.float64))
    assert z.grad is None
    logits.sum().backward()
    assert z.grad is not None
    with pytest.raises(ConfigError, match="grad_x_feature"):
        class_activation(logits, z, attention, LABEL, MASK, "gradcam")


def slow_refine(
    beta: list[float], teacher: list[list[float]], slide: int, tau1: float, tau2: float, all_nilm: bool
) -> list[tuple[int, int]]:
    """(label, mask) of each cell of a slide, as in Algorithm 1."""
    rows = []
    for activation, probabilities in zip(beta, teacher, strict=True):
        if all_nilm and SLIDE_CLASSES[slide] == "NILM":
            rows.append((CELL_CLASSES.index("NILM"), 1))
        elif activation > tau1:
            rows.append((CELL_CLASSES.index(SLIDE_TO_CELL[SLIDE_CLASSES[slide]]), 1))
        elif max(probabilities) > tau2:
            rows.append((probabilities.index(max(probabilities)), 1))
        else:
            rows.append((0, 0))
    return rows


@settings(max_examples=60, deadline=None)
@given(
    slide=st.integers(0, len(SLIDE_CLASSES) - 1),
    beta=st.lists(st.floats(0, 1), min_size=4, max_size=4),
    seed=st.integers(0, 1000),
    all_nilm=st.booleans(),
)
def test_refinement_equals_algorithm_1(slide: int, beta: list[float], seed: int, all_nilm: bool) -> None:
    logits = torch.randn(1, 4, len(CELL_CLASSES), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    teacher = torch.softmax(4 * logits, dim=2)
    mask = torch.ones(1, 4, dtype=torch.bool)
    treatment = "all_nilm" if all_nilm else "paper"
    found = refine_labels(torch.tensor([beta]), teacher, torch.tensor([slide]), mask, 0.5, 0.9, treatment)
    expected = slow_refine(beta, teacher[0].tolist(), slide, 0.5, 0.9, all_nilm)
    assert [(int(y), int(m)) for y, m in zip(found.label[0], found.chosen[0], strict=True)] == expected


def test_thresholds_are_exceeded_not_met_and_padding_has_no_label() -> None:
    teacher = torch.zeros(1, 4, len(CELL_CLASSES))
    teacher[0, :, 3] = torch.tensor([0.2, 0.9, 0.95, 0.99])
    mask = torch.tensor([[True, True, True, False]])
    found = refine_labels(torch.tensor([[0.5, 0.5, 0.6, 1.0]]), teacher, torch.tensor([2]), mask)
    assert [SOURCES[s] for s in found.source[0]] == ["masked", "masked", "activation", "masked"]
    sure = refine_labels(torch.tensor([[0.5, 0.5, 0.6, 1.0]]), teacher, torch.tensor([2]), mask, teacher_threshold=0.89)
    assert [SOURCES[s] for s in sure.source[0]] == ["masked", "teacher", "activation", "masked"]
    assert sure.label[0].tolist()[1:3] == [3, CELL_CLASSES.index("LSIL")]
    negative = refine_labels(torch.zeros(1, 4), teacher, torch.tensor([0]), mask)
    assert [SOURCES[s] for s in negative.source[0]] == ["negative_slide"] * 3 + ["masked"]
    with pytest.raises(ConfigError, match="all_nilm"):
        refine_labels(torch.zeros(1, 4), teacher, torch.tensor([0]), mask, negative_bags="none")


def test_masked_cross_entropy_is_a_mean_over_all_cells_and_moves_with_its_input() -> None:
    logits = torch.randn(B, K, 5, dtype=torch.float64, requires_grad=True)
    label = torch.randint(5, (B, K))
    chosen = torch.tensor([[True, False, True, False, False], [False, True, False, False, False]])
    loss = masked_cross_entropy(logits, label, chosen, MASK)
    total = 0.0
    for j in range(B):
        for k in range(K):
            if chosen[j, k]:
                row = logits[j, k].tolist()
                total -= row[label[j, k]] - math.log(sum(math.exp(v) for v in row))
    assert float(loss) == pytest.approx(total / 8)
    loss.backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad.abs().sum(dim=2) > 0, chosen)
    nothing = masked_cross_entropy(logits, label, torch.zeros_like(chosen), MASK)
    assert float(nothing) == 0
    assert torch.all(torch.autograd.grad(nothing, logits)[0] == 0)
