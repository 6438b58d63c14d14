"""Makes RESULTS.md of benchmarks/results/*.json.

    python benchmarks/report.py [--check]

``--check`` writes nothing; the exit status is 1 if the page is not what the results say.
"""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path
from typing import Any

import record

PAGE = record.REPOSITORY / "benchmarks" / "RESULTS.md"
FIRST = ("train_weights", "detectors", "cric_recall", "slide_speed")  # what ships; then by name
HEAD = """# Measured

Made by `python benchmarks/report.py` of `benchmarks/results/*.json`, which the scripts of this folder write: the latest
figures of each; earlier ones are in the history of those files. Synthetic slides test software; they are no evidence
about patients.
"""


def page(folder: Path) -> str:
    """The whole page."""
    names = sorted(path.stem for path in folder.glob("*.json"))
    names.sort(key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))
    results = [json.loads((folder / f"{name}.json").read_text(encoding="utf-8")) for name in names]
    return "\n".join([HEAD, *(section(result) for result in results)])


def section(result: dict[str, Any]) -> str:
    lines = [f"## {result['title']}", "", *(f"    {command}" for command in result["commands"]), "", origin(result), ""]
    for table in result["tables"]:
        lines += [line for key in ("caption", "command") if key in table for line in (shown(key, table[key]), "")]
        lines += [record.cells(table["columns"]), "|---" * len(table["columns"]) + "|"]
        lines += [*map(record.cells, table["rows"]), ""]
    return "\n".join([*lines, *(line for note in result["notes"] for line in (wrapped(note), ""))])


def wrapped(text: str) -> str:
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)


def shown(key: str, text: str) -> str:
    return f"    {text}" if key == "command" else wrapped(text)


def origin(result: dict[str, Any]) -> str:
    """Date, commit, seeds and machine in one line."""
    machine = result["machine"]
    seeds = result["seeds"]
    parts = [
        result["date"],
        f"commit {result['commit']}" if result["commit"] else "",
        f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}" if seeds else "",
        f"{machine['cores']} cores of {machine['processor']}, {machine['memory_gib']} GiB",
        machine.get("gpu", "no GPU"),
        f"Python {machine['python']}",
        machine.get("state", ""),
    ]
    return "; ".join(part for part in parts if part) + "."


def main() -> None:
    parser = record.make_parser(__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, say whether the page is up to date")
    asked = parser.parse_args()
    made = page(record.RESULTS)
    if asked.check:
        sys.exit(0 if PAGE.read_text(encoding="utf-8") == made else f"{PAGE.name} is old: python benchmarks/report.py")
    PAGE.write_text(made, encoding="utf-8")


if __name__ == "__main__":
    main()
