"""How fast this machine screens: seconds per mm2 of slide, remembered from the runs that it has done.

One small file in the user's cache folder, ``stride_monai/pace.json``. It holds sums of seconds and areas by what
screened, and nothing about any slide; whoever removes it loses an estimate.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from stride_monai.errors import OutputError
from stride_monai.files import write_bytes
from stride_monai.findings import SlideStatus
from stride_monai.ownership import read_json
from stride_monai.run_index import Outcome
from stride_monai.screening.config import ScreeningConfig

__all__ = ["Pace", "pace_of", "remember"]

_MEMORY = 1000
"""Slides of which the sums are; older ones count less and less."""


@dataclass(frozen=True, slots=True)
class Pace:
    """What slides took in one process.

    Attributes:
        slides: how many were measured.
        seconds, mm2: sums over them.
    """

    slides: float = 0.0
    seconds: float = 0.0
    mm2: float = 0.0

    def __add__(self, other: Pace) -> Pace:
        share = min(1.0, _MEMORY / self.slides) if self.slides else 1.0
        mine = (share * value for value in (self.slides, self.seconds, self.mm2))
        return Pace(*(a + b for a, b in zip(mine, (other.slides, other.seconds, other.mm2), strict=True)))

    @classmethod
    def of(cls, outcomes: Iterable[Outcome]) -> Pace:
        """Of the slides that were screened now."""
        measured = [one for one in outcomes if one.status is SlideStatus.OK and not one.resumed and one.area_mm2]
        return cls(len(measured), sum(one.seconds for one in measured), sum(one.area_mm2 or 0.0 for one in measured))


def pace_of(config: ScreeningConfig, workers: int = 1) -> Pace | None:
    """What this machine remembers of slides screened like this; None for nothing."""
    found = _read().get(_key(config, workers))
    return found if found is not None and found.mm2 > 0 else None


def remember(config: ScreeningConfig, workers: int, outcomes: Iterable[Outcome]) -> None:
    """Add the slides of a run. A cache that cannot be written is left as it is: estimates are all that it is for."""
    new = Pace.of(outcomes)
    if not new.slides:
        return
    known, key = _read(), _key(config, workers)
    known[key] = known.get(key, Pace()) + new
    content = {name: {"slides": one.slides, "seconds": one.seconds, "mm2": one.mm2} for name, one in known.items()}
    with suppress(OutputError):
        write_bytes(_file(), f"{json.dumps(content, indent=1, sort_keys=True)}\n".encode())


def _key(config: ScreeningConfig, workers: int) -> str:
    parts = (
        config.profile,
        config.detector,
        config.device,
        {None: "", True: "rerank", False: "no rerank"}[config.reranks],
        f"{workers} at once",
    )
    return ", ".join(part for part in parts if part)


def _file() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stride_monai" / "pace.json"


def _read() -> dict[str, Pace]:
    with suppress(
        OSError, RuntimeError, TypeError, ValueError, AttributeError
    ):  # damaged, or no home: nothing is known
        raw = read_json(_file())
        if isinstance(raw, Mapping):
            return {str(key): Pace(**{name: float(value) for name, value in one.items()}) for key, one in raw.items()}
    return {}
