"""The output folder of a bundle: a run replaces what runs before it wrote there, and nothing else."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from monai.bundle import ConfigWorkflow

from stride_monai.data.bags.bag import is_bag
from stride_monai.data.bags.folder import BAG_SUFFIX
from stride_monai.errors import OutputError
from stride_monai.files import TEMPORARY, watched
from stride_monai.ownership import LIST_NAME, FileList, named, read_list, written
from stride_monai.run_index import ERRORS_NAME, INDEX_NAMES
from stride_monai.runs.claims import JobClaims
from stride_monai.workflows.values import at

__all__ = ["OutputFolder", "guard_outputs"]

_MONAI_WRITES = ("metrics.csv", "*_raw.csv", "*_summary.csv", "calibrated.pt")
"""What handlers of MONAI write themselves, by name."""
_TRAINING = ("model.pt", "last.pt", "encoder.pt", "text_branch.pt", "xgboost.json", "*.png")
_BY_TARGET = {
    "TrainingState": ("last.pt",),
    "MetricsSaver": ("metrics.csv",),
    "SlideReport": ("slide_report.json", "slides.csv"),
    "CellReport": ("cell_report.json",),
    "DescriptionReport": ("description_report.json",),
    "TileCurves": ("tile_curves.json",),
}
_IN_OUTPUT = re.compile(r"\$?@output_dir \+ '/([\w.-]+)'")
_REFERENCE = re.compile(r"[@%](\w+(?:(?:#|::)\w+)*)")
_ADVICE = "move it elsewhere, or give another --output_dir"


class OutputFolder:
    """What of a folder is ours: what its list says, bags, and all of a training before there were lists.

    Args:
        default: it is the bundle's own folder for what it writes, where nothing else belongs.
    """

    def __init__(self, folder: Path, default: bool = False) -> None:
        self.folder, self._default = folder, default
        self._list = read_list(folder)

    def own(self, name: str) -> bool:
        """Whether a file, by its path in the folder, may be replaced."""
        path = self.folder / name
        if path.is_symlink() or not path.is_file():
            return False
        if path.name.endswith(BAG_SUFFIX):
            return is_bag(path) or JobClaims(path.parent).known(path.name.removesuffix(BAG_SUFFIX))
        if self._list is not None:
            by_monai = any(fnmatch(path.name, pattern) for pattern in _MONAI_WRITES)
            return (by_monai and "metrics.csv" in self._list.files) or self._list.as_written(self.folder, name)
        trained = _is_training(self.folder / "last.pt") and any(fnmatch(path.name, name) for name in _TRAINING)
        return self._default or trained

    def refuse(self, names: list[str]) -> None:
        """Refuse to begin where something that is not ours would be replaced.

        Raises:
            OutputError: naming it. Or the folder cannot be one.
        """
        there = next((place for place in (self.folder, *self.folder.parents) if os.path.lexists(place)), None)
        if there is not None and not there.is_dir():
            raise OutputError(f"{there.absolute()} is no folder", "give another --output_dir")
        foreign = [name for name in dict.fromkeys(names) if os.path.lexists(self.folder / name) and not self.own(name)]
        if os.path.lexists(self.folder / LIST_NAME) and self._list is None:
            foreign.append(LIST_NAME)
        if foreign:
            raise OutputError(
                f"{self.folder} holds {named(foreign)}, not written by a run there or changed since, which would be"
                " replaced",
                _ADVICE,
            )

    def before(self, path: Path) -> None:
        """Refuse a file that is not ours.

        Raises:
            OutputError: something that no run wrote there would be replaced.
        """
        name = self._name(path)
        if name and os.path.lexists(path) and not self.own(name):
            raise OutputError(f"{path} was not written by a run there, or was changed since, and stays", _ADVICE)

    def after(self, path: Path) -> None:
        """Note a file as ours."""
        name = self._name(path)
        if name and not name.endswith(BAG_SUFFIX):
            self._note([name])

    def begin(self, names: list[str]) -> None:
        """Take the folder over: what is ours in it from before there were lists is noted."""
        if self._list is None:
            self._note([name for name in names if self.own(name)])

    def end(self) -> None:
        """Note what handlers of MONAI have written."""
        with suppress(OSError):
            places = [path for path in self.folder.iterdir() if any(fnmatch(path.name, p) for p in _MONAI_WRITES)]
            self._note([path.name for path in places if path.is_file() and not path.is_symlink()])

    def _name(self, path: Path) -> str:
        """A file's path in the folder; empty for one elsewhere, and for one that says itself whose it is."""
        try:
            place = Path(os.path.realpath(path.parent), path.name).relative_to(os.path.realpath(self.folder))
        except ValueError:
            return ""
        known = place.name in {LIST_NAME, *INDEX_NAMES} or place.parts[0] in {"failed", ERRORS_NAME}
        return "" if known or place.parts[0].startswith(TEMPORARY) else place.as_posix()

    def _note(self, names: list[str]) -> None:
        with suppress(FileNotFoundError):
            new = {name: written(self.folder / name) for name in names}
            files = {} if self._list is None else self._list.files
            if new and {**files, **new} != files:
                self._list = FileList({**files, **new}, "a bundle")
                self._list.write(self.folder)


def _is_training(path: Path) -> bool:
    """Whether a file is the state of a training of ours; other packages keep a ``last.pt`` too."""
    try:
        with zipfile.ZipFile(path) as archive:
            pickled = next(name for name in archive.namelist() if name.endswith("data.pkl"))
            with archive.open(pickled) as stream:
                head = stream.read(1 << 16)
    except (OSError, zipfile.BadZipFile, StopIteration, KeyError):
        return False
    return all(key in head for key in (b"max_epochs", b"epoch_length", b"stopped"))


def guard_outputs(workflow: ConfigWorkflow) -> None:
    """Refuse what a workflow would wrongly replace, and watch over its ``output_dir`` while it runs.

    Raises:
        OutputError: something that no run wrote there has the name of a file that this one writes.
    """
    config: Any = workflow.parser.config
    if not isinstance(config, dict) or "output_dir" not in config:
        return
    folder = Path(str(workflow.parser.get_parsed_content("output_dir")))
    root = Path(str(workflow.parser.get_parsed_content("bundle_root")))
    outputs = OutputFolder(folder, os.path.realpath(folder) == os.path.realpath(root / "eval"))
    names = [name for part in _reached(config, config.get("run")) for name in _written_by(part)]
    outputs.refuse(names)
    run: Callable[[], Any] = workflow.run

    def guarded() -> Any:
        outputs.begin(names)
        with watched(outputs):
            try:
                return run()
            finally:
                outputs.end()

    workflow.run = guarded


def _reached(config: dict[str, Any], start: Any) -> Iterator[dict[str, Any]]:
    """The components of a configuration that a part of it names, or that those name: what a run does not use, such as
    the handlers of a training in an evaluation, writes nothing."""
    left, seen = [start], set[str]()
    while left:
        value = left.pop()
        if isinstance(value, dict):
            yield value
        if isinstance(value, dict | list):
            left += value.values() if isinstance(value, dict) else value
        new = set(_REFERENCE.findall(value)) - seen if isinstance(value, str) else set()
        seen |= new
        left += [at(config, name) for name in sorted(new)]


def _written_by(part: dict[str, Any]) -> Iterator[str]:
    """Names of files in ``output_dir`` that a component writes."""
    target = str(part.get("_target_", "")).rsplit(".", 1)[-1]
    if "@output_dir" in [str(part.get(key, "")) for key in ("save_dir", "output_dir")]:
        yield from _BY_TARGET.get(target, ())
        if isinstance(part.get("final_filename"), str):
            yield part["final_filename"]
    if target and isinstance(part.get("path"), str) and (found := _IN_OUTPUT.fullmatch(part["path"])):
        yield found.group(1)
