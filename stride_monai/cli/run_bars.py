"""How far a run of slides is, on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.progress import Progress, TaskID

from stride_monai.cli.terminal import plain, say

if TYPE_CHECKING:
    from stride_monai.run_index import Outcome
    from stride_monai.screening.inputs import SlideInput

__all__ = ["RunBars"]

_ROOM = 30
"""Characters of a slide's name that are shown."""


class RunBars:
    """A bar of slides, and one of the tiles of each slide in hand. May be told things by several threads.

    Attributes:
        outcomes: of the slides so far.
    """

    def __init__(self, bars: Progress, total: int) -> None:
        self.outcomes: list[Outcome] = []
        self._bars, self._total = bars, total
        self._slides = bars.add_task("slides", total=total)
        self._loading = bars.add_task("loading the networks", total=None, visible=False)
        self._tiles: dict[str, TaskID] = {}
        self._nodes: dict[str, TaskID] = {}

    def load(self, begins: bool) -> None:
        self._bars.update(self._loading, visible=begins)

    def progress(self, item: SlideInput, done: int, total: int) -> None:
        name = item.slide_id
        if name not in self._tiles:
            self._tiles[name] = self._bars.add_task(plain(name[:_ROOM]), total=total)
        self._bars.update(self._tiles[name], completed=done, total=total)

    def done(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self._bars.update(self._slides, advance=1)
        if (task := self._tiles.pop(outcome.slide_id, None)) is not None:
            self._bars.remove_task(task)
        if outcome.status == "failed":
            say(f"[red]failed[/red] {plain(outcome.reason)}", self._bars.console)

    def node(self, name: str, done: int) -> None:
        """A machine of a cluster has ended so many slides."""
        if name not in self._nodes:
            self._nodes[name] = self._bars.add_task(plain(f"on {name}"), total=None)
        self._bars.update(self._nodes[name], completed=done)

    def note(self, text: str) -> None:
        say(f"[yellow]note[/yellow] {plain(text)}", self._bars.console)

    def so_far(self) -> str:
        done = sum(outcome.status in {"ok", "unsatisfactory"} for outcome in self.outcomes)
        return f"{done} of {self._total} slides are done; the same command goes on"
