"""Versions of the networks: every training makes one, one is in use, and any can be chosen again."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock

from stride_monai.errors import ConfigError, OutputError, check_name
from stride_monai.files import replacing, sha256_of, write_bytes

SHIPPED = "shipped"
"""The version that came with the package."""
STAGES = ("detection", "cell_cls", "text_align")
_INDEX = "versions.json"


class Versions:
    """``versions.json`` and the weights files beside it.

    Args:
        folder: ``<stage>/<version>.pt`` lie in it.
        profile: networks of another profile are other networks; each has versions of its own.
    """

    def __init__(self, folder: Path, profile: str) -> None:
        self.folder, self.profile = folder / profile, profile
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(self.folder / ".lock")

    def to_dict(self) -> dict[str, Any]:
        """By stage: ``current``, and ``versions`` by name with how each was made and judged."""
        path = self.folder / _INDEX
        empty: dict[str, Any] = {stage: {"current": SHIPPED, "versions": {}} for stage in STAGES}
        try:
            return {**empty, **json.loads(path.read_text(encoding="utf-8"))}
        except FileNotFoundError:
            return empty
        except (OSError, ValueError) as error:
            raise OutputError(f"{path} cannot be read ({error})", "bring back a copy of it") from error

    def current(self, stage: str) -> str:
        return str(self.to_dict()[stage]["current"])

    def current_weights(self, stage: str) -> Path | None:
        """The file in use; None for the shipped weights."""
        name = self.current(stage)
        return None if name == SHIPPED else self.path(stage, name)

    def path(self, stage: str, name: str) -> Path:
        """The weights file of a version.

        Raises:
            ConfigError: there is no such version.
        """
        known = self.to_dict()[stage]["versions"]
        check_name(f"version of {stage}", name, known)
        return self.folder / stage / f"{name}.pt"

    def current_teacher(self, stage: str) -> Path | None:
        """The moving average of the network in use; None where there is none, as of the shipped weights."""
        name = self.current(stage)
        path = self._teacher(stage, name)
        return path if name != SHIPPED and path.is_file() else None

    def _teacher(self, stage: str, name: str) -> Path:
        return self.folder / stage / f"{name}.teacher.pt"

    def add(self, stage: str, weights: Path, facts: dict[str, Any], use: bool, teacher: Path | None = None) -> str:
        """Keep weights as a new version, ``1``, ``2`` and so on.

        Args:
            facts: how it was made and judged.
            teacher: the moving average of the network in training, where one was kept.
            use: whether it is in use from now on.
        """
        with self._lock:
            index = self.to_dict()
            versions = index[stage]["versions"]
            name = str(max(map(int, versions), default=0) + 1)
            target = self.folder / stage / f"{name}.pt"
            target.parent.mkdir(exist_ok=True)
            files = {target: weights} if teacher is None else {self._teacher(stage, name): teacher, target: weights}
            for kept, made_by_training in files.items():
                with replacing(kept) as temporary:
                    shutil.copy(made_by_training, temporary)
            made = datetime.now(UTC).isoformat(timespec="seconds")
            versions[name] = {**facts, "made": made, "sha256": sha256_of(target), "follows": index[stage]["current"]}
            if use:
                index[stage]["current"] = name
            self._write(index)
        return name

    def choose(self, stage: str, name: str) -> None:
        """Put a version to use.

        Raises:
            ConfigError: there is no such version, or its file is not as it was made.
        """
        check_name("stage", stage, STAGES)
        with self._lock:
            index = self.to_dict()
            if name != SHIPPED:
                path = self.path(stage, name)
                if not path.is_file() or sha256_of(path) != index[stage]["versions"][name]["sha256"]:
                    raise ConfigError(f"version {name} of {stage} is gone or was changed", "choose another version")
            index[stage]["current"] = name
            self._write(index)

    def _write(self, index: dict[str, Any]) -> None:
        write_bytes(self.folder / _INDEX, (json.dumps(index, indent=1) + "\n").encode())
