"""Numbers that cohorts are made from: prevalence, centres, reporting noise, inadequate slides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stride_monai.phantom.centres import SITES

__all__ = [
    "ADEQUACY_FLOOR_CELLS",
    "CROWDS",
    "EXTERNAL",
    "INADEQUACIES",
    "INTERNAL",
    "MISREPORTED",
    "POSITIVE_MIX",
    "PRESETS",
]

POSITIVE_MIX: Mapping[str, float] = {"ASC-US": 0.27, "LSIL": 0.22, "HSIL": 0.21, "ASC-H": 0.17, "AGC": 0.13}
"""Shares of the positive classes among positive slides: the paper's order, evened out so that none is too rare."""

EXTERNAL: tuple[str, ...] = SITES[8:]
"""Centres that no internal cohort holds."""
INTERNAL: tuple[str, ...] = SITES[:8]
"""Centres to develop on."""

ADEQUACY_FLOOR_CELLS = 5000
"""Squamous cells of a whole deposit below which a slide cannot be judged."""

CROWDS: Mapping[str, Mapping[str, float]] = {
    "blood": {"red_cell": 9000.0},
    "inflammation": {"neutrophil": 6000.0},
}
"""What hides the cells of an obscured slide: kind -> number per mm2."""

INADEQUACIES: tuple[str, ...] = ("scant", *CROWDS)
"""Ways in which a slide fails: too few cells, or cells that cannot be seen."""

MISREPORTED: Mapping[str, Mapping[str, float]] = {
    "NILM": {"ASC-US": 0.8, "LSIL": 0.05, "ASC-H": 0.08, "AGC": 0.07},
    "ASC-US": {"NILM": 0.65, "LSIL": 0.25, "ASC-H": 0.1},
    "LSIL": {"ASC-US": 0.65, "NILM": 0.15, "ASC-H": 0.1, "HSIL": 0.1},
    "ASC-H": {"HSIL": 0.4, "ASC-US": 0.35, "NILM": 0.25},
    "HSIL": {"ASC-H": 0.6, "LSIL": 0.25, "NILM": 0.1, "AGC": 0.05},
    "AGC": {"NILM": 0.45, "HSIL": 0.25, "ASC-H": 0.15, "ASC-US": 0.15},
}
"""True slide class -> what a wrong report says instead: mostly a neighbouring class, or a missed positive.

The shape of inter-observer tables of cervical cytology, rounded; no table of one study.
"""

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "internal": {"classes": 100, "prevalence": 0.21, "centres": INTERNAL, "all_test": False},
    "external": {"classes": 250, "prevalence": 0.044, "centres": EXTERNAL, "all_test": True},
}
"""Development data at 21 % positive slides, and unseen centres at the 4.4 % of screening, all of it in the test split:
attributes of a design."""
