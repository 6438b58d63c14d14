"""What a run would do, and how long it should take, without doing it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from stride_monai.errors import StrideError
from stride_monai.run_index import area_mm2
from stride_monai.screening.config import ScreeningConfig, settings_of
from stride_monai.screening.earlier import Earlier
from stride_monai.screening.inputs import SlideInput, is_bag_path, open_input
from stride_monai.screening.pace import Pace
from stride_monai.screening.results import ResultFolder

__all__ = ["Plan", "plan_of"]

_LOOKED_AT = 200


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run would do.

    Attributes:
        screen: slides that would be screened, as far as is known.
        done: slides that a run before has done with these settings; their files would be checked.
        refused: inputs that would fail or be skipped at once, with why.
        opened: how many of ``screen`` were opened to know their size, evenly from all of them.
        mm2: estimate of the area of all of ``screen``.
    """

    screen: tuple[SlideInput, ...]
    done: tuple[SlideInput, ...]
    refused: tuple[SlideInput, ...]
    opened: int
    mm2: float

    def seconds(self, pace: Pace, workers: int) -> float:
        """That the run should take, where slides took ``pace`` with as many at once."""
        return self.mm2 * pace.seconds / pace.mm2 / max(1, min(workers, len(self.screen)))


def plan_of(
    items: Sequence[SlideInput],
    config: ScreeningConfig,
    earlier: Earlier,
    on_opened: Callable[[], None] = lambda: None,
    looked_at: int = _LOOKED_AT,
) -> Plan:
    """What would be done with slides; nothing is written, no network is loaded.

    Args:
        earlier: the run before in the folder of the results.
        on_opened: told of each slide that was opened.
        looked_at: slides that are opened at most.
    """
    items = [_checked(earlier.out, item) for item in items]
    known = earlier.done(items, settings_of(config))
    refused = [item for item in items if item.problem]
    done = [item for item in items if item.slide_id in known and not item.problem]
    left = [item for item in items if item.slide_id not in known and not item.problem]
    areas: list[float] = []
    opened = 0
    bad: dict[str, SlideInput] = {}
    for item in _spread([one for one in left if not is_bag_path(one.path)], looked_at):
        on_opened()
        opened += 1
        try:
            with open_input(item, config) as slide:
                area = area_mm2(slide.facts.width, slide.facts.height, slide.facts.mpp)
                areas += [] if area is None else [area]
        except StrideError as error:
            bad[item.slide_id] = replace(item, problem=str(error))
    left = [item for item in left if item.slide_id not in bad]
    mean = sum(areas) / len(areas) if areas else 0.0
    return Plan(tuple(left), tuple(done), (*refused, *bad.values()), opened, mean * len(left))


def _checked(out: Path, item: SlideInput) -> SlideInput:
    why = "" if item.problem or not out.is_dir() else ResultFolder(out, item.slide_id).why_not()
    return replace(item, problem=f"{item.path.name}: {why}") if why else item


def _spread(items: Sequence[SlideInput], count: int) -> list[SlideInput]:
    """So many of the items, evenly; all where there are no more."""
    if len(items) <= count:
        return list(items)
    return [items[number * len(items) // count] for number in range(count)]
