"""Class activation: how much each cell of a bag speaks for a slide class (STRIDE, eq. 4).

Paper: https://arxiv.org/abs/2407.19512.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stride_monai.errors import ConfigError

__all__ = ["ACTIVATIONS", "class_activation"]

ACTIVATIONS = ("grad_x_feature", "eq4", "attention")


def class_activation(
    logits: Tensor,
    features: Tensor,
    attention: Tensor,
    slide_label: Tensor,
    mask: Tensor,
    kind: str = "grad_x_feature",
) -> Tensor:
    """How much each cell speaks for the true class c of its slide: the activation beta of eq. 4, made comparable.

    - ``eq4``, literally: ``beta_k = mean_d dY^c / dz_kd``. It is the derivative along the vector of ones, which is zero
      through a LayerNorm, whose output does not change when all inputs grow alike.
    - ``grad_x_feature``: ``beta_k = mean_d z_kd * dY^c / dz_kd``, the first-order share of the cell in the logit.
    - ``attention``: ``beta_k = a_k``, the weight of the cell in the pooling.

    Then negative values become 0 and each bag is divided by its maximum. No second-order graph is built.

    Args:
        logits: slide logits ``[B, C]``, computed from ``features``.
        features: ``[B, K, D]``, in the graph of the logits.
        attention: ``[B, K]``.
        slide_label: ``[B]``, true slide class.
        mask: ``[B, K]`` bool, true where there is a cell.
        kind: one of :data:`ACTIVATIONS`.

    Returns:
        float32 ``[B, K]`` in 0..1, without a graph; 0 where masked, and in a bag where no cell speaks for the class.

    Raises:
        ConfigError: an unknown kind.
    """
    if kind not in ACTIVATIONS:
        raise ConfigError(f"unknown activation '{kind}'", f"use one of {', '.join(ACTIVATIONS)}")
    if kind == "attention":
        beta = attention.detach()
    else:
        true_logits = logits.gather(1, slide_label.unsqueeze(1)).sum()
        (gradient,) = torch.autograd.grad(true_logits, features, retain_graph=True)
        beta = (gradient if kind == "eq4" else gradient * features.detach()).mean(dim=2)
    beta = torch.where(mask, beta, 0).clamp_min(0)
    largest = beta.amax(dim=1, keepdim=True)
    # eq. 4 through a LayerNorm is rounding noise about zero; a bag without any activation stays at zero.
    beta = torch.where(largest > 0, beta / largest, 0)
    return beta if beta.dtype == torch.float64 else beta.float()
