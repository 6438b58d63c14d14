"""``screen``."""

from __future__ import annotations

from lib.configs.base import CytologyTask
from lib.infers.screen import Screen


class ScreenTask(CytologyTask):
    def infer(self) -> dict[str, Screen]:
        return {"screen": Screen(self.bench)}
