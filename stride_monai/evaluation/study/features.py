"""Features of slides laid out by t-SNE: whether slides lie together by diagnosis, or by laboratory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stride_monai.bethesda import ABNORMAL, LABELS
from stride_monai.errors import ManifestError
from stride_monai.evaluation.figures.features import scatter_figure
from stride_monai.evaluation.figures.style import drawn_names
from stride_monai.evaluation.inputs.joining import JudgedCohort
from stride_monai.evaluation.page.page import PageFigure, PageTable, Section
from stride_monai.evaluation.reports import counted
from stride_monai.evaluation.study.part import Part, Settings, names_tables
from stride_monai.evaluation.study.subgroups import values_of

__all__ = ["features_part"]

MOST = 5000
"""Slides that are laid out; of more, so many are drawn."""
_LEAST = 5
_CENTRES = 7  # with a color of their own


def features_part(
    cohort: JudgedCohort, slide_ids: Sequence[str], features: NDArray[np.float64], settings: Settings
) -> Part:
    """Of the judged slides that have features.

    Raises:
        ManifestError: fewer than five have.
    """
    _, here, there = np.intersect1d(cohort.slide_id, np.array(slide_ids, np.str_), return_indices=True)
    if len(here) < _LEAST:
        raise ManifestError(f"{counted(len(here), 'judged slide')} with features: too few for t-SNE", "give more")
    chosen = np.arange(len(here))
    if len(here) > MOST:
        chosen = np.sort(np.random.default_rng(settings.seed).choice(len(here), MOST, replace=False))
    here, there = here[chosen], there[chosen]
    places = _laid_out(features[there], settings.seed)
    labels = cohort.label[here]
    known = [label for label in (*LABELS, ABNORMAL) if (labels == label).any()]
    figures, tables = [_figure("tsne_by_label", places, labels, known, "diagnosis", {})], list[PageTable]()
    if any(cohort.columns.get("centre", ())):
        centres, order = values_of("centre", cohort.columns["centre"][here])
        counts = {name: int((centres == name).sum()) for name in order}
        kept = set(sorted(order, key=lambda name: -counts[name])[:_CENTRES])
        centres = np.array([name if name in kept else "others" for name in centres], np.str_)
        shown = [name for name in order if name in kept] + (["others"] if len(order) > len(kept) else [])
        written = drawn_names(values_of("centre", cohort.columns["centre"])[1], "Centre")
        figures.append(_figure("tsne_by_centre", places, centres, shown, "centre", written))
        tables = names_tables({name: written[name] for name in shown if name in written})
    text = [
        f"t-SNE (van der Maaten and Hinton 2008; scikit-learn, seed {settings.seed}) of the standardized features of "
        f"{counted(len(here), 'slide')}. Distances between groups, and their sizes, mean nothing."
    ]
    heads = ("slide_id", "x", "y", "label")
    rows = [
        (str(s), round(float(x), 4), round(float(y), 4), str(label)) for s, (x, y), label in _zip(cohort, here, places)
    ]
    section = Section("features", "Features", text, figures=figures, tables=tables)
    return Part("features", {"slides": len(here), "dimensions": features.shape[1]}, section, {"tsne": (heads, rows)})


def _zip(cohort: JudgedCohort, here: NDArray[np.intp], places: NDArray[np.float64]) -> Any:
    return zip(cohort.slide_id[here], places, cohort.label[here], strict=True)


def _laid_out(features: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    spread = features.std(axis=0)
    values = (features - features.mean(axis=0)) / np.where(spread > 0, spread, 1)
    most = min(50, *values.shape)
    if values.shape[1] > most:
        values = PCA(most, svd_solver="full").fit_transform(values)
    perplexity = min(30.0, (len(values) - 1) / 3)
    laid = TSNE(2, perplexity=perplexity, init="pca" if values.shape[1] > 1 else "random", random_state=seed)
    found: NDArray[np.float64] = laid.fit_transform(values).astype(np.float64)
    return found


def _figure(
    name: str,
    places: NDArray[np.float64],
    groups: NDArray[np.str_],
    order: Sequence[str],
    by: str,
    written: Mapping[str, str],
) -> PageFigure:
    counts = ", ".join(f"{group} {int((groups == group).sum()):,}" for group in order)
    figure = scatter_figure(places, {group: groups == group for group in order}, by, written)
    return PageFigure(name, figure, f"t-SNE of slides by {by}.", f"t-SNE by {by}: {counts}")
