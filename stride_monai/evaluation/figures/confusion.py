"""Confusion matrices, of slides and of cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from stride_monai.evaluation.figures.style import SINGLE, new_figure, paper_style

__all__ = ["confusion_figure"]


@paper_style
def confusion_figure(confusion: NDArray[np.integer[Any]], names: Sequence[str]) -> Figure:
    """A confusion matrix: color is the share of the true class, the text that share and the number.

    Args:
        confusion: ``[C, C]``, rows are the true class. names: of the classes.
    """
    slides = confusion.sum(axis=1, keepdims=True)
    share = np.divide(confusion, slides, out=np.zeros(confusion.shape), where=slides > 0)
    figure, axes = new_figure(SINGLE * 1.25, SINGLE * 1.15)
    picture = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for (row, column), number in np.ndenumerate(confusion):
        color = "white" if share[row, column] > 0.55 else "black"
        text = f"{100 * share[row, column]:.0f} %\n{number:,}" if number else "0"
        axes.text(column, row, text, ha="center", va="center", color=color, fontsize=7)
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), [f"{name} ({n:,})" for name, n in zip(names, slides[:, 0], strict=True)])
    axes.set(xlabel="Predicted", ylabel="True")
    axes.spines[:].set_visible(True)
    figure.colorbar(picture, ax=axes, label="Share of the true class", shrink=0.75)
    return figure
