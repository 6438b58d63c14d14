"""The same cell twice: as the generator draws it, and with one property changed and everything else alike.

Neighbours, background, stain, scanner, focus and noise are those of one plan, of which only the figure in the middle is
exchanged; what is kept of that figure is drawn with the same random numbers. So whoever reads the two crops differently
reads the property, or what the property entails.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stride_monai.bethesda import NEGATIVE, PAPER_DESCRIPTIONS
from stride_monai.errors import ConfigError
from stride_monai.phantom.cells.figures import Figure, Nucleus, Part
from stride_monai.phantom.cells.hard_negatives import HARD_NEGATIVES
from stride_monai.phantom.cells.lesions import LESIONS
from stride_monai.phantom.cells.measures import A0, measures, moments
from stride_monai.phantom.cells.outlines import SAMPLES, Outline
from stride_monai.phantom.cells.words import described
from stride_monai.phantom.centres import centre_named
from stride_monai.phantom.cohorts.bags import check_crops, cut_crops
from stride_monai.phantom.painting.painter import Scene
from stride_monai.phantom.render import DENSITY_20_MM, truth_of
from stride_monai.phantom.scenes.layout import Region
from stride_monai.phantom.scenes.planning import make_plan
from stride_monai.phantom.scenes.slide_plan import Unique
from stride_monai.phantom.scenes.streams import Draw, stream
from stride_monai.phantom.scenes.truth import TruthCell
from stride_monai.phantom.stain import Centre

__all__ = ["PROPERTIES", "Counterfactual", "Property", "counterfactual", "edited"]

Pixels = NDArray[np.uint8]
Edit = Callable[[Figure], Figure | None]

_ENLARGED, _MEMBRANE, _MILD, _CHROMATIN = PAPER_DESCRIPTIONS["ASC-US"]
_LARGE, _BINUCLEATE, _, _, _RAISIN, _HALO, _DARK = PAPER_DESCRIPTIONS["LSIL"]
_HIGH_RATIO, _, _, _, _, _NUCLEOLI = PAPER_DESCRIPTIONS["ASC-H/HSIL"]

_NORMAL_RATIO = 0.35
"""N:C diameter ratio of a small normal cell; parabasal and metaplastic cells have 0.3-0.5."""
_NORMAL_DENSITY = 0.5
"""Haematoxylin of a nucleus that no one would call dark: the middle of the reactive ones."""
_FINE_CONTRAST = 0.15
_NO_RIM = sys.float_info.min
"""Of the smallest rim the texture is drawn, so that the same random numbers follow, and nothing is added."""
_MARGIN_UM = 40.0
"""Around a crop, so that cells beyond its edges reach into it."""
_TRIALS = 400


@dataclass(frozen=True, slots=True)
class Property:
    """What is changed.

    Attributes:
        labels: Bethesda labels (or kinds of hard negatives) whose cells may bear it.
        edit: the changed figure of one that shows all texts to be lost, or None where the change would entail others.
        lost, gained: training texts that go and come with the change.
        nuclear: only the nuclei change; else the whole cell may.
    """

    labels: tuple[str, ...]
    edit: Edit
    lost: frozenset[str]
    gained: frozenset[str] = frozenset()
    nuclear: bool = True


@dataclass(frozen=True, slots=True)
class Counterfactual:
    """A pair of crops ``[crop_px, crop_px, 3]`` uint8 RGB that differ by one property.

    Attributes:
        original, changed: the crops; both have the original's box in the middle.
        truths: of the cell in the middle of either, in px of the field that the crops are cut from.
        lost, gained: texts by which the descriptions of the truths differ.
    """

    name: str
    original: Pixels
    changed: Pixels
    truths: tuple[TruthCell, TruthCell]
    lost: frozenset[str]
    gained: frozenset[str]


def _only_part(figure: Figure) -> Part:
    (part,) = figure.parts
    return part


def _with(figure: Figure, part: Part) -> Figure:
    return replace(figure, parts=(part,))


def _each_nucleus(figure: Figure, change: Callable[[Nucleus], Nucleus]) -> Figure:
    part = _only_part(figure)
    return _with(figure, replace(part, nuclei=tuple(change(nucleus) for nucleus in part.nuclei)))


def _with_nuclei(**changes: Any) -> Edit:
    return lambda figure: _each_nucleus(figure, lambda nucleus: replace(nucleus, **changes))


def _without_halo(figure: Figure) -> Figure:
    """The cytoplasm fills the cleared zone."""
    part = _only_part(figure)
    filled = tuple(
        replace(halo, clearing=0.0, rim=min(halo.rim, _NO_RIM), distinct=False) if halo.distinct else halo
        for halo in part.vacuoles
    )
    return replace(_with(figure, replace(part, vacuoles=filled)), kind="lsil" if figure.label == "LSIL" else "halo_off")


def _with_more_cytoplasm(figure: Figure) -> Figure | None:
    """The cell grows about the very same nucleus, of a size for which the lesser lesions have no text."""
    part = _only_part(figure)
    if part.cell is None or part.nuclei[0].outline.area > 2.45 * A0:
        return None
    ratio = measures(figure)["nc_ratio"]
    cell = replace(part.cell, radii=part.cell.radii * (ratio / _NORMAL_RATIO))
    return _with(figure, replace(part, cell=cell))


def _with_one_nucleus(figure: Figure) -> Figure | None:
    part = _only_part(figure)
    return _with(figure, replace(part, nuclei=part.nuclei[:1]))


def _smoother(figure: Figure) -> Figure | None:
    """Every nucleus becomes the ellipse of its area and second moments."""
    if _RAISIN in figure.descriptions:
        return None
    smooth = _each_nucleus(figure, lambda nucleus: replace(nucleus, outline=_ellipse_like(nucleus.outline)))
    return smooth if _holds_its_nuclei(smooth) else None


def _ellipse_like(outline: Outline) -> Outline:
    middle, spread = moments(outline.polygon())
    angles = np.arange(SAMPLES) * (2 * np.pi / SAMPLES)
    towards = np.stack([np.cos(angles), np.sin(angles)])
    radii = 1 / np.sqrt((towards * (np.linalg.inv(spread) @ towards)).sum(axis=0))
    whole = Outline(float(middle[0]), float(middle[1]), radii)
    return replace(whole, radii=radii * math.sqrt(outline.area / whole.area))


def _holds_its_nuclei(figure: Figure) -> bool:
    part = _only_part(figure)
    assert part.cell is not None
    points = np.concatenate([nucleus.outline.polygon() for nucleus in part.nuclei]).astype(np.float32)
    return bool((part.cell.depth(points[:, 0], points[:, 1]) > 0).all())


def _unwrinkled(figure: Figure) -> Figure | None:
    """Without the creases, and as a wrinkled nucleus has a wrinkled contour, with a smooth one."""
    if len(figure.nuclei()) > 1:
        return None
    smooth = _each_nucleus(figure, lambda nucleus: replace(nucleus, creases=(), outline=_ellipse_like(nucleus.outline)))
    return smooth if _holds_its_nuclei(smooth) else None


def _larger(figure: Figure) -> Figure | None:
    """The nucleus of an ASC-US cell at 3.4 A0: by definition it is LSIL now."""
    nucleus = figure.nuclei()[0]
    factor = math.sqrt(3.4 * A0 / nucleus.outline.area)
    outline = replace(nucleus.outline, radii=nucleus.outline.radii * factor)
    grown = _each_nucleus(figure, lambda one: replace(one, outline=outline))
    return replace(grown, kind="lsil", label="LSIL") if _holds_its_nuclei(grown) else None


_SQUAMOUS = ("ASC-US", "LSIL", "ASC-H", "HSIL")
_PALER = _with_nuclei(density=_NORMAL_DENSITY)
_FINER = _with_nuclei(coarse=False, chromatin=_FINE_CONTRAST)

PROPERTIES: Mapping[str, Property] = {
    "halo": Property(("LSIL",), _without_halo, frozenset({_HALO}), nuclear=False),
    "nc_ratio": Property(("ASC-H", "HSIL"), _with_more_cytoplasm, frozenset({_HIGH_RATIO}), nuclear=False),
    "binucleation": Property(("LSIL",), _with_one_nucleus, frozenset({_BINUCLEATE})),
    "hyperchromasia": Property(("LSIL", "ASC-H", "HSIL"), _PALER, frozenset({_DARK})),
    "mild_hyperchromasia": Property(("ASC-US",), _PALER, frozenset({_MILD})),
    "nuclear_size": Property(("ASC-US",), _larger, frozenset({_ENLARGED}), frozenset({_LARGE})),
    "chromatin": Property(_SQUAMOUS, _FINER, frozenset({_CHROMATIN})),
    "membrane": Property(_SQUAMOUS, _smoother, frozenset({_MEMBRANE})),
    "raisinoid": Property(("LSIL",), _unwrinkled, frozenset({_RAISIN, _MEMBRANE})),
    "nucleoli": Property(("HSIL",), _with_nuclei(nucleoli=()), frozenset({_NUCLEOLI})),
    "benign_halo": Property(("halo_only",), _without_halo, frozenset(), nuclear=False),
}
"""What can be changed; of the last, a halo around a normal nucleus, no text must speak with or without it."""


def edited(name: str, seed: int, pinkness: float) -> tuple[Figure, Figure]:
    """A figure as the generator draws it, of the first that bears the property, and the same one changed.

    Args:
        name: of :data:`PROPERTIES`.
        seed: of the figure.
        pinkness: share of pink cells, 0-1, as for the makers of figures.

    Raises:
        ConfigError: there is no such property.
    """
    if name not in PROPERTIES:
        raise ConfigError(f"no property '{name}' can be changed", f"use one of {', '.join(PROPERTIES)}")
    what = PROPERTIES[name]
    makers = {**HARD_NEGATIVES, **LESIONS}
    for trial in range(_TRIALS):
        rng = stream(seed, Draw.COUNTERFACTUAL, trial)
        original = makers[what.labels[int(rng.integers(len(what.labels)))]](rng, pinkness)
        changed = what.edit(original) if what.lost <= set(original.descriptions) else None
        if changed is None:
            continue
        if original.label != NEGATIVE:
            changed = replace(changed, descriptions=described(changed))
        before, after = frozenset(original.descriptions), frozenset(changed.descriptions)
        if (before - after, after - before) == (what.lost, what.gained):
            return original, changed
    raise ConfigError(f"none of {_TRIALS} cells showed '{name}'", "take another seed")


def counterfactual(
    name: str,
    *,
    seed: int = 0,
    centre: str | Centre = "north",
    crop_px: int = 224,
    crop_mpp: float = 0.5,
    density_per_mm2: float = DENSITY_20_MM,
    compressed: bool = False,
) -> Counterfactual:
    """Two crops of a slide around the same cell, with and without a property; the same arguments give the same pixels.

    Args:
        name: of :data:`PROPERTIES`.
        seed: of the cell and of all around it.
        centre: laboratory and scanner, as for :func:`stride_monai.phantom.render_slide`.
        crop_px, crop_mpp: side in px and um/px of the crops.
        density_per_mm2: epithelial cells around it.
        compressed: crops from pixels that went through the centre's JPEG, as those of a slide file did. What surrounds
            the change then differs too, as far as the blocks of 16 px reach that hold a part of it.

    Raises:
        ConfigError: there is no such property or centre, or the crops have no size.
    """
    check_crops(1, crop_px, crop_mpp)
    chosen = centre if isinstance(centre, Centre) else centre_named(centre, seed)
    figures = edited(name, seed, chosen.eosinophilic)
    side = math.ceil((crop_px * crop_mpp + 2 * _MARGIN_UM) / chosen.mpp)
    plan = make_plan(
        Region(side, side),
        lesions={},
        seed=seed,
        mpp=chosen.mpp,
        density_per_mm2=density_per_mm2,
        centre=chosen,
        pinned=max(figures, key=lambda figure: figure.reach_um),
    )
    middle, *others = plan.unique
    exchanged = [Unique.of(figure, middle.x, middle.y, middle.centre) for figure in figures]
    plans = [replace(plan, unique=(unique, *others)) for unique in exchanged]
    truths = truth_of(plans[0], 0), truth_of(plans[1], 0)
    crops = [cut_crops(Scene(one), [truths[0].box], crop_px, crop_mpp, compressed)[0] for one in plans]
    what = PROPERTIES[name]
    return Counterfactual(name, crops[0], crops[1], truths, what.lost, what.gained)
