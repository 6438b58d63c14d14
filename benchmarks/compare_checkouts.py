"""Do two checkouts find the same? Slides screened and bags made by each, compared field by field.

    python benchmarks/compare_checkouts.py BEFORE AFTER [--slides DIR] [--ignore provenance.requested] [--render]

``BEFORE`` and ``AFTER`` are folders of checkouts, or revisions of this repository, which get a worktree for the time.
The slides are synthetic ones of several kinds, rendered by BEFORE (``--render``: by AFTER too, and every byte of the
files is compared), and what ``--slides`` holds, as it is and once more at 0.5 um/px. Each checkout works in processes
of its own, with its own entry points and bundles, the tiny profile and the CPU.

Compared are findings.json, cells.parquet, overlay.geojson.gz and summary.csv (but for the seconds) of every slide, and
every bag with its metadata; report.html shows the same findings and is not. ``--ignore`` names a field and all below
it, ``*`` stands for any part of a name: ``provenance.used``, ``cells.*.cam``. The exit status is 1 if anything else
differs. ``--screen="--detector fcos"`` screens once more with these options. Times are of one run each. ``--record``
writes the table to benchmarks/results.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import fnmatch
import gzip
import hashlib
import json
import os
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from record import Record

REPOSITORY = Path(__file__).resolve().parent.parent
PHANTOMS: dict[str, dict[str, Any]] = {
    "aperio": {"label": "HSIL", "diameter_mm": 3.4, "centre": "north", "seed": 11},
    "leica": {"label": "LSIL", "diameter_mm": 1.2, "centre": "harbour", "seed": 12},
    "dicom": {"label": "AGC", "diameter_mm": 1.2, "centre": "north", "seed": 13, "file_format": "dicom"},
    "scanty": {"label": "NILM", "diameter_mm": 0.4, "centre": "coast", "seed": 14, "artefacts": ["pen", "bubbles"]},
}
RENDER = """
import json, sys
from pathlib import Path
from stride_monai.phantom import render_slide
out, phantoms = Path(sys.argv[1]), json.loads(sys.argv[2])
for name, settings in phantoms.items():
    render_slide(out / (name if settings.get("file_format") == "dicom" else name + ".tiff"), **settings)
"""
KINDS = ("findings.json", "cells.parquet", ".geojson.gz", "summary.csv", ".bag.arrow", ".tiff", ".dcm")
ABSENT = "(absent)"


class Difference(NamedTuple):
    """A field of a file, and what stands there in each."""

    field: str
    before: Any
    after: Any


def differences(before: Any, after: Any, field: str = "") -> Iterator[Difference]:
    """What differs between two trees of dictionaries and lists; 1 and 1.0 do, and so does the order of keys."""
    if isinstance(before, dict) and isinstance(after, dict):
        both = [key for key in before if key in after]
        for key in [*before, *(key for key in after if key not in before)]:
            inner = f"{field}.{key}" if field else str(key)
            yield from differences(before.get(key, ABSENT), after.get(key, ABSENT), inner)
        if both != [key for key in after if key in before]:
            yield Difference(field, "keys in one order", "keys in another order")
    elif isinstance(before, list) and isinstance(after, list):
        if len(before) != len(after):
            yield Difference(f"{field}.length", len(before), len(after))
        for number, (one, other) in enumerate(zip(before, after, strict=False)):
            yield from differences(one, other, f"{field}.{number}")
    elif type(before) is not type(after) or repr(before) != repr(after):
        yield Difference(field, before, after)


def ignored(field: str, patterns: Iterable[str]) -> bool:
    """Whether a pattern names the field or one that it lies in."""
    return any(fnmatch.fnmatchcase(field, each) for pattern in patterns for each in (pattern, f"{pattern}.*"))


def content(path: Path) -> Any:
    """What a file holds, as dictionaries and lists."""
    if path.name.endswith(".json"):
        return json.loads(path.read_bytes())
    if path.name.endswith(".json.gz") or path.name.endswith(".geojson.gz"):
        return json.loads(gzip.decompress(path.read_bytes()))
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        return {row["slide_id"]: {name: row[name] for name in row if name != "seconds"} for row in rows}
    table = pq.read_table(path) if path.suffix == ".parquet" else pa.ipc.open_file(path).read_all()
    facts = {key.decode(): value.decode(errors="replace") for key, value in (table.schema.metadata or {}).items()}
    return {
        "metadata": facts,
        "types": {column.name: str(column.type) for column in table.schema},
        **table.to_pydict(),
    }


def compare_files(before: Path, after: Path) -> list[Difference]:
    if not before.is_file() or not after.is_file():
        return [Difference("", *("present" if path.is_file() else ABSENT for path in (before, after)))]
    if before.read_bytes() == after.read_bytes():
        return []
    found = list(differences(content(before), content(after)))
    return found if found or before.suffix == ".csv" else [Difference("bytes", digest(before), digest(after))]


def compare_folders(before: Path, after: Path, patterns: Iterable[str]) -> dict[str, list[Difference]]:
    """Path below the folders -> what differs there."""
    names = {path.relative_to(folder) for folder in (before, after) for path in folder.rglob("*") if compared(path)}
    found = {str(name): compare_files(before / name, after / name) for name in sorted(names)}
    return {name: [each for each in said if not ignored(each.field, patterns)] for name, said in found.items()}


def compared(path: Path) -> bool:
    return path.is_file() and path.name.endswith(KINDS)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def summary(found: dict[str, list[Difference]]) -> list[str]:
    """One line for each field that differs, with the number of places and the first of them."""
    places: dict[tuple[str, str], list[tuple[str, Difference]]] = {}
    for name, said in found.items():
        for each in said:
            field = ".".join("*" if part.isdigit() else part for part in each.field.split("."))
            kind = next(kind for kind in KINDS if name.endswith(kind))
            places.setdefault((kind, field), []).append((name, each))
    return [
        f"{kind} {field}: {len(where)} places, e.g. {where[0][0]} {where[0][1].field}: "
        f"{shown(where[0][1].before)} -> {shown(where[0][1].after)}"
        for (kind, field), where in places.items()
    ]


def shown(value: Any) -> str:
    text = hashlib.sha256(value).hexdigest()[:12] if isinstance(value, bytes) else repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."


class Took(NamedTuple):
    """How a process ended, and its seconds by the clock and of the processor."""

    status: int
    seconds: float
    processor: float


class Checkout(NamedTuple):
    """A tree of the repository, and where its results go."""

    folder: Path
    out: Path

    def run(self, *words: str | Path, may_fail: bool = False) -> Took:
        """Run ``python WORDS``."""
        environment = {**os.environ, "PYTHONPATH": str(self.folder)}
        used, began = processor_seconds(), time.perf_counter()
        log = self.out / "log.txt"
        with log.open("ab") as stream:
            command = [sys.executable, *map(str, words)]
            status = subprocess.run(command, cwd=self.out, env=environment, stdout=stream, stderr=stream).returncode
        if status and not may_fail:
            raise SystemExit(f"{shlex.join(command)} failed, see {log}:\n{log.read_text()[-2000:]}")
        return Took(status, time.perf_counter() - began, processor_seconds() - used)

    def render(self, out: Path) -> Took:
        out.mkdir(parents=True, exist_ok=True)
        return self.run("-c", RENDER, out, json.dumps(PHANTOMS))

    def screen(self, out: str, slides: Path, *options: str) -> Took:
        """Some slides of a folder fail on purpose."""
        words = ("screen", slides, "--out", self.out / out, "--device", "cpu", "--overwrite")
        return self.run("-m", "stride_monai", *words, *options, may_fail=True)

    def bags(self, out: str, slides: Path) -> Took:
        root = self.folder / "bundles" / "detection"
        configs = [str(root / "configs" / f"{name}.json") for name in ("inference", "tiny")]
        words = ("--bundle_root", root, "--dataset_dir", slides, "--output_dir", self.out / out)
        return self.run("-m", "monai.bundle", "run", *words, "--config_file", repr(configs))


def processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@contextlib.contextmanager
def checkout(named: str, out: Path) -> Iterator[Checkout]:
    """A folder as it stands, or a worktree of a revision, with entry points of its own."""
    out.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        folder = Path(named).resolve()
        if not (folder / "stride_monai").is_dir():
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "checkout"
            git = ["git", "-C", str(REPOSITORY), "worktree"]
            subprocess.run([*git, "add", "--quiet", "--detach", str(folder), named], check=True)
            stack.callback(subprocess.run, [*git, "remove", "--force", str(folder)], check=True)
        subprocess.run([sys.executable, "setup.py", "-q", "egg_info"], cwd=folder, check=True, capture_output=True)
        yield Checkout(folder, out)


def write_manifest(folder: Path) -> None:
    rows = ["slide_id,path,slide_class"]
    for name, settings in PHANTOMS.items():
        file = f"{name}/level-0.dcm" if settings.get("file_format") == "dicom" else f"{name}.tiff"
        rows.append(f"{name},{file},{settings['label']}")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


def compare(one: Checkout, other: Checkout, asked: argparse.Namespace) -> Iterator[tuple[str, Took, Took]]:
    """Name of a pass, and what each checkout took; the results lie in a folder of that name."""
    phantoms = one.out.parent / "slides"
    one.render(phantoms)
    write_manifest(phantoms)
    if asked.render:
        yield "render", one.render(one.out / "render"), other.render(other.out / "render")
    passes: dict[str, tuple[Path, list[str]]] = {"screen": (phantoms / "manifest.csv", [])}
    for number, words in enumerate(asked.screen, 1):
        passes[f"screen {number}"] = (phantoms / "manifest.csv", shlex.split(words))
    if asked.slides is not None:
        passes["real"] = (asked.slides.resolve(), [])
        passes["real at 0.5 um per px"] = (asked.slides.resolve(), ["--mpp", "0.5"])
    for name, (slides, options) in passes.items():
        yield name, one.screen(name, slides, *options), other.screen(name, slides, *options)
    yield "bags", one.bags("bags", phantoms), other.bags("bags", phantoms)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before")
    parser.add_argument("after")
    parser.add_argument("--slides", type=Path, help="a folder of slides of your own")
    parser.add_argument("--ignore", action="append", default=[], metavar="FIELD", help="may be given several times")
    parser.add_argument("--screen", action="append", default=[], metavar="OPTIONS", help="one more pass with these")
    parser.add_argument("--render", action="store_true", help="compare the files of synthetic slides as well")
    parser.add_argument("--work", type=Path, help="keep the results here; a new folder")
    parser.add_argument("--record", action="store_true", help="write the table to benchmarks/results")
    asked = parser.parse_args()
    with contextlib.ExitStack() as stack:
        work = asked.work or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        work = work.resolve()
        one = stack.enter_context(checkout(asked.before, work / "before"))
        other = stack.enter_context(checkout(asked.after, work / "after"))
        differ = False
        figures = Record("compare_checkouts", "What two checkouts find")
        columns = ("pass", "files", "the same", "seconds before", "after", "ratio", "of processor time")
        table = figures.table(*columns)
        for name, took, took_after in compare(one, other, asked):
            found = compare_folders(one.out / name, other.out / name, asked.ignore)
            lines = summary(found) if found else ["neither wrote anything that is compared"]
            if took.status != took_after.status:
                lines.append(f"exit status: {took.status} -> {took_after.status}")
            differ |= bool(lines)
            same = sum(not said for said in found.values())
            table.row(name, len(found), same, *timed(took, took_after))
            print("".join(f"    {line}\n" for line in lines), end="", flush=True)
            figures.said += [f"{name}: {line}" for line in lines]
    if asked.record:
        figures.write()
    sys.exit(1 if differ else 0)


def timed(before: Took, after: Took) -> list[str]:
    """Seconds of both and their ratio, and the ratio of what the processor spent."""
    ratios = (after.seconds / before.seconds, after.processor / before.processor)
    return [f"{before.seconds:.1f}", f"{after.seconds:.1f}", *(f"{ratio:.2f}" for ratio in ratios)]


if __name__ == "__main__":
    main()
