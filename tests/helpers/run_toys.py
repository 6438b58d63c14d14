"""Jobs that other processes can do."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from stride_monai.errors import SlideError
from stride_monai.runs import Job
from stride_monai.runs.jobs import Part


@dataclass(frozen=True)
class Toy:
    """Writes its name into a file, unless the name says what happens instead."""

    folder: Path
    name: str

    @property
    def file(self) -> Path:
        return self.folder / self.name

    def done(self) -> str | None:
        return self.file.read_text() if self.file.exists() else None

    def make(self, on_part: Part) -> str:
        on_part(0.5)
        if self.name.startswith("bad"):
            raise SlideError(f"{self.name} is damaged", "scan it again")
        if self.name.startswith("odd"):
            raise ZeroDivisionError(self.name)
        if self.name.startswith("kill"):
            os.abort()
        if self.name.startswith("slow"):
            while True:
                time.sleep(0.05)
                on_part(0.5)
        self.file.write_text(self.name)
        on_part(1.0)
        return self.name

    def job(self) -> Job[str]:
        return Job(self.name, self.done, self.make)


def toys(folder: Path, *names: str) -> list[Job[str]]:
    folder.mkdir(exist_ok=True)
    return [Toy(folder, name).job() for name in names]
