"""What a benchmark measured, printed as it comes and written to ``benchmarks/results/<name>.json`` at the end.

    figures = record.Record("detectors", "The detectors that ship")
    table = figures.table("figure", "fcos", "yolo", caption="18 test slides.")
    table.row("mAP", 0.115, 0.210)
    figures.say("Judged once.")
    figures.write(seeds=[0])

`benchmarks/report.py` makes RESULTS.md of all results.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

REPOSITORY = Path(__file__).resolve().parent.parent
RESULTS = REPOSITORY / "benchmarks" / "results"


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser whose help begins with the first line of a script's docstring."""
    return argparse.ArgumentParser(description=(description or "").partition("\n")[0])


def quartiles(values: Any, digits: int) -> str:
    """Median and quartiles: ``1.02 (0.98-1.07)``."""
    low, middle, high = (f"{value:.{digits}f}" for value in np.quantile(values, (0.25, 0.5, 0.75)))
    return f"{middle} ({low}-{high})"


def cells(values: Sequence[Any]) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(map(str, values))} |"


class Table:
    """A table that grows by rows, each printed as it comes."""

    def __init__(self, columns: Sequence[str], caption: str = "", command: str = "") -> None:
        self.columns, self.caption, self.command = list(columns), caption, command
        self.rows: list[list[str]] = []

    def row(self, *values: Any) -> None:
        if len(values) != len(self.columns):
            raise ValueError(f"{len(values)} values for {len(self.columns)} columns: {values}")
        self.rows.append([f"{value:.4g}" if isinstance(value, float) else str(value) for value in values])
        print(cells(self.rows[-1]), flush=True)

    def as_json(self) -> dict[str, Any]:
        known = {"caption": self.caption, "command": self.command}
        return {name: text for name, text in known.items() if text} | {"columns": self.columns, "rows": self.rows}


class Record:
    """The figures of one run of a script.

    Args:
        name: of the file of results.
        script: that ran, where its name is another.
    """

    def __init__(self, name: str, title: str, script: str = "") -> None:
        self.name, self.title, self.script = name, title, script or name
        self.tables: list[Table] = []
        self.said: list[str] = []

    def table(self, *columns: str, caption: str = "") -> Table:
        """Begin a table; its head is printed."""
        self.tables.append(Table(columns, caption))
        print(f"\n{caption}\n" if caption else "")
        print(f"{cells(columns)}\n{'|---' * len(columns)}|", flush=True)
        return self.tables[-1]

    def say(self, text: str) -> None:
        """A sentence beside the tables."""
        self.said.append(text)
        print(f"\n{text}", flush=True)

    def write(self, seeds: Sequence[int] = (), folder: Path | None = None) -> Path:
        """Replace the result of this name. Notes on earlier figures go with them: write new ones by hand."""
        file = (folder or RESULTS) / f"{self.name}.json"
        result = {
            "title": self.title,
            "commands": [" ".join(["python", f"benchmarks/{self.script}.py", *map(shlex.quote, sys.argv[1:])])],
            "date": datetime.now(UTC).date().isoformat(),
            "commit": commit(),
            "machine": machine(),
            "seeds": list(seeds),
            "tables": [table.as_json() for table in self.tables if table.rows],
            "notes": self.said,
        }
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print(f"\n{file} (python benchmarks/report.py puts it into RESULTS.md)", file=sys.stderr)
        return file


def commit() -> str | None:
    """The commit that ran, with ``-dirty`` where files were changed; None outside of git."""
    command = ["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def machine() -> dict[str, Any]:
    """Cores, memory, processor, accelerator if any, load and Python: nothing that names the machine."""
    info = Path("/proc/cpuinfo")
    models = [line.partition(":")[2].strip() for line in _lines(info) if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    found = {
        "cores": os.cpu_count(),
        "memory_gib": round(memory),
        "processor": models[0] if models else platform.machine(),
        "python": platform.python_version(),
        "state": f"load average {os.getloadavg()[0]:.1f} at the end",
    }
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return found


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
