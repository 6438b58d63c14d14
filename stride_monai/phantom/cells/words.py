"""Which of the paper's texts a drawn squamous lesion shows: read off what is drawn, by one rule for all classes."""

from __future__ import annotations

from stride_monai.bethesda import PAPER_DESCRIPTIONS, cell_class_of
from stride_monai.phantom.cells.figures import Figure
from stride_monai.phantom.cells.measures import IRREGULAR_FROM, measures

__all__ = ["DARK_FROM", "HIGH_RATIO_FROM", "MILDLY_DARK_FROM", "described"]

MILDLY_DARK_FROM, DARK_FROM = 1.1, 1.35
"""Stain of a nucleus over that of a normal one from which it is called mildly darker, and dark."""

HIGH_RATIO_FROM = 0.6
"""N:C diameter ratio that is called high: the nucleus takes more than a third of the cell's area."""

_ENLARGED, _MEMBRANE, _MILD, _CHROMATIN = PAPER_DESCRIPTIONS["ASC-US"]
_LARGE, _BINUCLEATE, _, _, _RAISIN, _HALO, _DARK = PAPER_DESCRIPTIONS["LSIL"]
_HIGH_RATIO, _, _, _, _PLEOMORPHIC, _NUCLEOLI = PAPER_DESCRIPTIONS["ASC-H/HSIL"]


def described(figure: Figure, disordered: bool = False) -> tuple[str, ...]:
    """The texts that the paper lists for a lesion's class and that are drawn, in the paper's order.

    Args:
        disordered: the cell has an odd shape or lies in a group of its like, which its own numbers do not tell.
    """
    read = measures(figure)
    size, dark = read["nuclear_area_ratio"], read["nuclear_density_ratio"]
    drawn = {
        _ENLARGED: 2.5 <= size <= 3,
        _LARGE: size > 3,
        _BINUCLEATE: read["nuclei"] > 1,
        _MEMBRANE: read["contour_irregularity"] >= IRREGULAR_FROM,
        _MILD: MILDLY_DARK_FROM <= dark < DARK_FROM,
        _DARK: dark >= DARK_FROM,
        _CHROMATIN: read["coarse_chromatin"] > 0,
        _RAISIN: read["raisinoid"] > 0,
        _HALO: read["halo"] > 0,
        _HIGH_RATIO: read["nc_ratio"] >= HIGH_RATIO_FROM,
        _NUCLEOLI: read["nucleoli"] > 0,
        _PLEOMORPHIC: disordered,
    }
    return tuple(text for text in PAPER_DESCRIPTIONS[cell_class_of(figure.label)] if drawn[text])
