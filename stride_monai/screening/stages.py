"""What part of the time each stage of screening takes, for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

__all__ = ["STAGES_OF", "shares_of"]

STAGES_OF: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "reading": ("open", "foreground", "read"),
        "quality": ("quality",),
        "detection": ("detect", "rank"),
        "crops": ("crop",),
        "classifying": ("rerank", "classify"),
        "head": ("decide", "describe"),
        "writing": ("write",),
    }
)
"""By what people call a stage the stages of ``run.json`` that belong to it; others are called as they are there."""
_CALLED = {stage: name for name, stages in STAGES_OF.items() for stage in stages}


def shares_of(slides: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Share of the time of all slides that each stage took, in the order in which they come; empty without times.

    Args:
        slides: of each its seconds by stage, as in ``run.json``.
    """
    seconds = dict.fromkeys(STAGES_OF, 0.0)
    for slide in slides:
        for stage, spent in slide.items():
            name = _CALLED.get(stage, stage)
            seconds[name] = seconds.get(name, 0.0) + spent
    total = sum(seconds.values())
    return {name: spent / total for name, spent in seconds.items()} if total else {}
