"""The curve of safe exclusion."""

from __future__ import annotations

from matplotlib.figure import Figure

from stride_monai.evaluation.figures.style import COLORS, GRAY, SINGLE, new_figure, paper_style
from stride_monai.evaluation.statistics import ExclusionCurve

__all__ = ["exclusion_figure"]

_STYLES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)))


@paper_style
def exclusion_figure(curve: ExclusionCurve, threshold: float | None) -> Figure:
    """Share of slides excluded against the share of the lesions of each grade that is lost."""
    figure, axes = new_figure(SINGLE, SINGLE)
    for k, (label, lost) in enumerate(curve.lost.items()):
        axes.step(curve.excluded, lost, where="post", label=label, color=COLORS[k % 7], linestyle=_STYLES[k % 6])
    if threshold is not None:
        below = curve.threshold <= threshold
        share = float(curve.excluded[below][-1]) if below.any() else 0.0
        axes.axvline(share, color=GRAY, linewidth=0.9)
        axes.annotate("operating point", (share, 0.985), rotation=90, ha="right", va="top", fontsize=7, color=GRAY)
    axes.set(xlim=(0, 1), ylim=(-0.01, 1.01), xlabel="Share of all slides excluded", ylabel="Share of lesions lost")
    axes.grid(True)
    axes.legend(loc="upper left")
    return figure
