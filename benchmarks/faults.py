"""Faults: damaged slides, runs that are killed, disks that are full, and many slides one after the other.

    python benchmarks/faults.py --work FOLDER [--mutants 1000] [--kills 100] [--disk-full] [--soak 500] [--seed 0]

Each part runs the command `stride-monai screen` on small slides that tests/helpers can write, and leaves what it found
in FOLDER/*.json: one that was stopped goes on where it was, and the result has all parts that are there. Damaged slides
and many slides are screened by the command as it is installed, with the networks that ship; runs that are killed or
troubled have networks that cost little and are forked from a process with PyTorch, to spare its start.
`--write-only` runs nothing.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections import Counter, defaultdict
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from record import REPOSITORY, Record, make_parser

from stride_monai.guard.memory import family, memory_in_use

sys.path.insert(0, str(REPOSITORY / "tests" / "helpers"))

from mutated_slides import write_mutants
from toy_bundles import screening_home
from troubled_runs import TROUBLES, Trouble, killed_run
from watched_runs import ENDS, Watched, contents, end_of, index, small_slides, watched

AT_ONCE = 200
"""Mutants of one command: its networks are loaded once for all of them."""
SECONDS, GIB = 60, 2.0
"""What a slide may take; the networks hold about 0.6 GiB of it."""
KILLED_SLIDES = 8
_MIB = 2**20


# Damaged slides.


def mutants(work: Path, count: int, seed: int) -> None:
    """Screen damaged slides, so many at a time; what each came to lies in ``mutants-*.json``."""
    for first in range(0, count, AT_ONCE):
        file = work / f"mutants-{seed}-{first:05d}.json"
        if file.exists():
            continue
        place = work / "mutants"
        shutil.rmtree(place, ignore_errors=True)
        (place / "in").mkdir(parents=True)
        known = write_mutants(place / "in", range(first, min(first + AT_ONCE, count)), seed)
        listed = place / "in" / "mpp.csv"
        lists = [listed] if len(listed.read_text().splitlines()) > 1 else []
        limits = ["--slide-timeout", SECONDS, "--slide-memory", GIB, "--device", "cpu", "--writers", "findings"]
        ran = watched([place / "in", *lists, "--out", place / "out", *limits])
        file.write_text(json.dumps(judged(place / "out", known, ran), indent=1), encoding="utf-8")
        kept = work / "kept" / f"{first:05d}"
        if Counter(one["end"] for one in json.loads(file.read_text())["slides"]).keys() - {"ok", "failed"}:
            shutil.copytree(place, kept, dirs_exist_ok=True)
        print(file.name, ran.status, f"{ran.seconds:.0f} s, {ran.peak / 2**30:.2f} GiB", ran.left, flush=True)


def judged(out: Path, known: dict[str, tuple[str, str]], ran: Watched) -> dict[str, Any]:
    """What each mutant came to."""
    run = index(out) if (out / "run.json").exists() else {"run": {"finished": False}, "slides": []}
    ends = {one["slide_id"]: one for one in run["slides"]}
    slides = []
    for name, (kind, damage) in known.items():
        one = ends.get(name, {"status": "lost", "reason": "", "seconds": 0.0})
        facts = {"reason": one["reason"].replace(str(out.parent), "..."), "seconds": one["seconds"]}
        slides.append({"id": name, "format": kind, "damage": damage, "end": end_of(one), **facts})
    known_lines = ("failed ", "note ")
    odd = [line for line in ran.wrong.splitlines() if not line.startswith(known_lines)]
    facts = {"status": ran.status, "peak": ran.peak, "left": ran.left, "seconds": ran.seconds, "odd": odd[-20:]}
    return {"finished": run["run"]["finished"], **facts, "slides": slides}


def tell_mutants(figures: Record, work: Path) -> None:
    files = [json.loads(file.read_text()) for file in sorted(work.glob("mutants-*.json"))]
    if not files:
        return
    slides = [one for file in files for one in file["slides"]]
    ends = ("ok", "failed", *dict.fromkeys(ENDS.values()), "lost")
    names = ("screened", "failed with a reason", *("the process crashed", "over time", "over memory", "defect"), "lost")
    for kind in ("format", "damage"):
        caption = f"Damaged slides by {kind}, {SECONDS} s and {GIB:g} GiB each, networks included"
        table = figures.table(kind, "slides", *names, "longest, s", caption=caption)
        by: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for one in slides:
            by[one[kind]].append(one)
        for name, those in [*by.items(), ("all", slides)]:
            counted = Counter(one["end"] for one in those)
            table.row(name, len(those), *(counted[end] for end in ends), f"{max(o['seconds'] for o in those):.1f}")
    peak = max(file["peak"] for file in files) / 2**30
    left, lines = sum(len(file["left"]) for file in files), sum(len(file["odd"]) for file in files)
    unfinished = sum(not file["finished"] for file in files)
    figures.say(
        f"{len(files)} commands: {unfinished} did not finish, {left} of their processes were left, {lines} lines of "
        f"output were no message of ours; command and process together held {peak:.2f} GiB at most."
    )


# Runs that are killed.


def cheap(place: Path) -> list[object]:
    """Words of a command, without its output folder, whose networks cost little."""
    return [place / "in", "--bundles", place / "toys", "--profile", "paper", "--device", "cpu", "--out"]


def undisturbed(place: Path) -> tuple[list[object], dict[str, bytes]]:
    """The words of a command, and what it writes if nobody disturbs it."""
    words = cheap(place)
    if not (place / "whole is whole").exists():
        shutil.rmtree(place, ignore_errors=True)
        small_slides(place / "in", KILLED_SLIDES)
        screening_home(place / "toys")
        ran = watched([*words, place / "whole"], installed=False)
        if ran.status:
            raise SystemExit(f"a whole slide failed: {ran.wrong}")
        (place / "whole is whole").touch()
    return words, contents(place / "whole")


def kills(work: Path, count: int, seed: int) -> None:
    """Kill runs, and go on with the same command until it ends by itself; what came of it is in ``kills.json``."""
    file, place = work / "kills.json", work / "kills"
    state: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {"kills": [], "runs": []}
    words, true = undisturbed(place)
    while len(state["kills"]) < count:
        run = killed_run([*words, place / "out"], place / "out", true, seed + len(state["runs"]))
        state["kills"] += run.pop("kills")
        state["runs"].append(run)
        file.write_text(json.dumps(state, indent=1))
        print(f"{len(state['kills'])} kills", run, flush=True)


def tell_kills(figures: Record, work: Path) -> None:
    file = work / "kills.json"
    if not file.exists():
        return
    state = json.loads(file.read_text())
    caption = f"kill -9 at random moments of a batch of {KILLED_SLIDES} slides, then the same command"
    table = figures.table(
        "killed", "kills", "processes left", "slides lost", "done twice", "wrong files", caption=caption
    )
    for victim in ("command", "process", "both"):
        those = [one for one in state["kills"] if one["victim"] == victim]
        table.row(victim, len(those), *(sum(one[n] for one in those) for n in ("left", "lost", "twice", "halves")))
    runs = state["runs"]
    good = sum(run["identical"] and run["finished"] and run["status"] == 0 and not run["leftovers"] for run in runs)
    figures.say(
        f"{good} of {len(runs)} batches, killed {len(state['kills'])} times in all, ended with the files of a batch "
        "that nobody disturbed, byte by byte."
    )


# Troubles around a run.


def troubles(work: Path) -> None:
    """Trouble runs, and give the same command again; what came of it is in ``troubles.json``."""
    file = work / "troubles.json"
    found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    words, true = undisturbed(work / "kills")
    for name, (happens, statuses) in TROUBLES.items():
        if name in found:
            continue
        place = work / "trouble"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        trouble = Trouble(place, words, true)
        first, again = happens(trouble)
        made = place / "made" if (place / "made").exists() else trouble.out
        found[name] = {
            "status": first.status,
            "as wanted": first.status in statuses,
            "traces": sum("Traceback" in ran.said + ran.wrong for ran in (first, again)),
            "left": len(first.left) + len(again.left),
            "said": last_line(first).replace(str(place), "..."),
            "again": again.status,
            "identical": contents(made) == true,
            "leftovers": sum(path.name.startswith(".stride_monai-") for path in made.rglob("*")),
        }
        file.write_text(json.dumps(found, indent=1))
        print(name, found[name], flush=True)


def last_line(ran: Watched) -> str:
    return ((ran.wrong or ran.said).splitlines() or [""])[-1][:200]


def tell_troubles(figures: Record, work: Path) -> None:
    file = work / "troubles.json"
    if not file.exists():
        return
    caption = f"Troubles around a batch of {KILLED_SLIDES} slides, then the same command"
    names = ("exit status", "said at last", "processes left", "same command", "files as of an undisturbed run")
    table = figures.table("trouble", *names, caption=caption)
    for name, one in json.loads(file.read_text()).items():
        clean = one["identical"] and not one["leftovers"] and not one["traces"] and one["as wanted"]
        table.row(name, one["status"], one["said"], one["left"], one["again"], "yes" if clean else "no")


# Many slides one after the other.


def soak(work: Path, count: int) -> None:
    """Screen so many slides by one command; what its processes hold meanwhile is in ``soak.json``."""
    file, place = work / "soak.json", work / "soak"
    if file.exists():
        return
    shutil.rmtree(place, ignore_errors=True)
    small_slides(place / "in", count)
    samples: list[list[int]] = []

    def look(pid: int) -> None:
        with suppress(OSError, ValueError, IndexError):
            done = (place / "out" / "outcomes.jsonl").read_bytes().count(b"\n") - 1
            other = family(pid)[1]
            both, own = memory_in_use(pid) or 0, memory_in_use(other) or 0
            files = [len(list(Path(f"/proc/{one}/fd").iterdir())) for one in (pid, other)]
            if not samples or done > samples[-1][0]:
                samples.append([done, other, both - own, own, *files])

    ran = watched([place / "in", "--device", "cpu", "--out", place / "out"], look)
    counts = index(place / "out")["counts"]
    facts = {"status": ran.status, "seconds": ran.seconds, "counts": counts, "left": ran.left, "peak": ran.peak}
    file.write_text(json.dumps({**facts, "samples": samples}))
    shutil.rmtree(place)


def tell_soak(figures: Record, work: Path) -> None:
    file = work / "soak.json"
    if not file.exists():
        return
    soaked = json.loads(file.read_text())
    samples = np.array(soaked["samples"], float)
    done, processes = samples[:, 0], len(set(samples[:, 1]))
    settled = done > done[-1] / 5  # what libraries take once is taken by then
    caption = f"{soaked['counts']['ok'] + soaked['counts']['unsatisfactory']} small slides by one command"
    table = figures.table(
        "what", "after a fifth", "at the end", "most", "more for 100 slides (95 % interval)", caption=caption
    )
    names = ("memory of the command, MiB", "memory of its process, MiB", "files of the command", "files of its process")
    for column, name in enumerate(names, start=2):
        values = samples[settled, column] / (_MIB if column < 4 else 1)
        slope, error = line_through(done[settled], values)
        low, high = 100 * (slope - 1.96 * error), 100 * (slope + 1.96 * error)
        first, last = (f"{values[at]:.0f}" for at in (0, -1))
        table.row(name, first, last, f"{values.max():.0f}", f"{100 * slope:.2f} ({low:.2f} to {high:.2f})")
    again = "all by one process" if processes == 1 else f"by {processes} processes, one after the other"
    figures.say(f"{soaked['seconds']:.0f} s in all, {again}; {len(soaked['left'])} processes were left.")


def line_through(x: Any, y: Any) -> tuple[float, float]:
    """Slope of the least squares, and its standard error."""
    (slope, _), covariance = np.polyfit(x, y, 1, cov=True)
    return float(slope), float(np.sqrt(covariance[0, 0]))


PARTS = (tell_mutants, tell_kills, tell_troubles, tell_soak)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--work", type=Path, required=True, help="what was found so far, and the slides")
    parser.add_argument("--mutants", type=int, default=0, metavar="N", help="damaged slides")
    parser.add_argument("--kills", type=int, default=0, metavar="N", help="kill -9, and the same command again")
    parser.add_argument("--disk-full", action="store_true", help="full disks, and other troubles around a run")
    parser.add_argument("--soak", type=int, default=0, metavar="N", help="slides one after the other")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write-only", action="store_true", help="only write the result of what was found")
    words = parser.parse_args()
    words.work.mkdir(parents=True, exist_ok=True)
    if not words.write_only:
        mutants(words.work, words.mutants, words.seed)
        kills(words.work, words.kills, words.seed)
        if words.disk_full:
            troubles(words.work)
        if words.soak:
            soak(words.work, words.soak)
    figures = Record("faults", "Faults: damaged slides, killed runs, full disks, many slides")
    for tell in PARTS:
        tell(figures, words.work)
    figures.write([words.seed])


if __name__ == "__main__":
    main()
