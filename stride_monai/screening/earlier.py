"""The run before, as its index has it: what of it stands, and what is left to do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from stride_monai.errors import ConfigError
from stride_monai.findings import SlideStatus
from stride_monai.names import printable
from stride_monai.ownership import read_json
from stride_monai.run_index import RUN_NAME, Outcome
from stride_monai.runs.ledger import read_log
from stride_monai.screening.inputs import SlideInput
from stride_monai.screening.results import FINDINGS_FILE

__all__ = ["Earlier", "read_earlier"]

_WHAT_SCREENS = ("detector", "classifier", "descriptions", "operating_point", "weights", "weights_from")
_DONE = frozenset({SlideStatus.OK, SlideStatus.UNSATISFACTORY})
_ADVICE = "screen without --retry-failed, which looks at every slide"


@dataclass(frozen=True, slots=True)
class Earlier:
    """A run before.

    Attributes:
        out: its folder.
        info: ``run`` of its ``run.json``.
        outcomes: by slide id.
    """

    out: Path
    info: Mapping[str, Any] = field(default_factory=dict)
    outcomes: Mapping[str, Outcome] = field(default_factory=dict)

    @property
    def what_screened(self) -> dict[str, Any]:
        """What is known of the networks, for the index of a run that keeps its slides."""
        return {name: self.info[name] for name in _WHAT_SCREENS if name in self.info}

    def done(self, items: Iterable[SlideInput], settings: str) -> dict[str, Outcome]:
        """By slide id how those slides ended that were done with these settings. Their files are not looked at, but for
        whether there are findings."""
        if self.info.get("settings") != settings:
            return {}
        known = ((item, self.outcomes.get(item.slide_id)) for item in items if not item.problem)
        return {
            item.slide_id: replace(outcome, resumed=True, seconds=0.0, stages={})
            for item, outcome in known
            if outcome is not None and self._stands(item, outcome)
        }

    def _stands(self, item: SlideInput, outcome: Outcome) -> bool:
        same = outcome.path == printable(str(item.path)) and item.mpp in {None, outcome.mpp}
        return same and outcome.status in _DONE and (self.out / item.slide_id / FINDINGS_FILE).is_file()

    def refuse_other_settings(self, settings: str, advice: str = _ADVICE) -> None:
        """Raises:
        ConfigError: there is no run before, or it was asked for something else.
        """
        if not self.outcomes:
            raise ConfigError(f"{self.out} holds no run that could be retried", "screen without --retry-failed")
        if self.info.get("settings") != settings:
            raise ConfigError(f"the run in {self.out} had other settings", advice)

    def refuse_other_weights(self, info: Mapping[str, object], advice: str = _ADVICE) -> None:
        """Raises:
        ConfigError: what screens now is not what screened then.
        """
        before = self.info.get("weights")
        if before and info.get("weights") and dict(before) != info["weights"]:
            raise ConfigError(f"the run in {self.out} had other weights", advice)


def read_earlier(out: Path) -> Earlier:
    """The run whose index a folder holds, also one that was cut off; nothing where there is none."""
    with contextlib.suppress(OSError):
        info, slides = read_log(out)
        return Earlier(out, info, _by_id(slides))
    raw = read_json(out / RUN_NAME)
    with contextlib.suppress(TypeError, KeyError, ValueError, AttributeError):
        return Earlier(out, dict(raw["run"]), _by_id([Outcome.from_dict(one) for one in raw["slides"]]))
    return Earlier(out)


def _by_id(outcomes: Sequence[Outcome]) -> dict[str, Outcome]:
    return {outcome.slide_id: outcome for outcome in outcomes}
