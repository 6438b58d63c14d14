"""Which slides count as called positive: by a threshold that is given, or as the system called them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stride_monai.errors import ConfigError
from stride_monai.evaluation.inputs.joining import JudgedCohort
from stride_monai.evaluation.reports import counted
from stride_monai.evaluation.statistics import Rates, rates
from stride_monai.evaluation.study.part import Settings

__all__ = ["Calls", "calls_of"]

Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Calls:
    """The operating point, applied.

    Attributes:
        call: ``[N]``, 1 positive, 0 negative, -1 none. positive: ``[N]``, the truth (not NILM).
        threshold: on the score; None where the system's own calls are taken.
        source: where the calls come from, in words.
        notes: what the reader must know of them.
    """

    call: NDArray[np.int8]
    positive: Bools
    threshold: float | None
    source: str
    notes: tuple[str, ...] = ()

    @property
    def known(self) -> Bools:
        """``[N]``, the slides that were called."""
        found: Bools = self.call >= 0
        return found

    def rates(self, positive: Bools | None = None, of: Bools | None = None) -> Rates:
        """Rates of the slides that were called.

        Args:
            positive: ``[N]``, another truth. of: ``[N]``, these slides alone.
        """
        used = self.known if of is None else self.known & of
        truth = self.positive if positive is None else positive
        return rates(self.call[used] == 1, truth[used])


def calls_of(cohort: JudgedCohort, settings: Settings) -> Calls | None:
    """The calls of a cohort; None where there are none, and no threshold is given.

    Raises:
        ConfigError: a threshold is given for a system without scores.
    """
    if settings.threshold is not None:
        if not cohort.scored:
            raise ConfigError("a threshold is given, but the predictions hold no scores", "leave it out")
        call = (cohort.score >= settings.threshold).astype(np.int8)
        other = int(((cohort.call >= 0) & (cohort.call != call)).sum())
        notes = (f"The system's own call differs for {counted(other, 'slide')}.",) if other else ()
        source = settings.threshold_from or "given"
        return Calls(call, cohort.positive, settings.threshold, source, notes)
    without = int((cohort.call < 0).sum())
    if without == len(cohort):
        return None
    notes = (
        (f"{counted(without, 'slide')} without a call: left out of all rates at the operating point",)
        if without
        else ()
    )
    return Calls(cohort.call, cohort.positive, None, "as the system called the slides", notes)
