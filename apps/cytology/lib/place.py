"""Where the app reads and writes, and what was set by ``--conf NAME VALUE``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stride_monai.errors import ConfigError, check_name
from stride_monai.findings import GALLERY_SIZE

_TRUE, _FALSE = frozenset({"true", "yes", "1"}), frozenset({"false", "no", "0"})
_SETTINGS = frozenset(
    {"work", "results", "users", "reader", "double_read", "blind", "profile", "detector", "device", "mpp", "cells"}
    | {"max_upload_mb", "max_epochs"}
)
_OF_MONAI_LABEL = frozenset({"server_mode", "sam2", "models"})  # what its own documents tell people to set


@dataclass(frozen=True)
class Place:
    """Folders and settings of one server.

    Attributes:
        studies: folder of the slides; nothing is written there but slides that are uploaded.
        work: labels, versions of the networks, trainings.
        results: of screening, as ``stride-monai screen`` writes them; the annotations lie there too.
        users: file of who may come in (``stride-monai annotations users``); None: this machine alone, everybody is
            ``reader``.
        double_read: two readers read each cell.
        blind: the review page hides what the model says.
        mpp: um/px of slides that do not say.
        cells: of each slide so many are proposed.
        max_upload_mb: of a request.
        max_epochs: of a training; None for that of the bundle.
    """

    studies: Path
    work: Path
    results: Path
    users: Path | None = None
    reader: str = "reader"
    double_read: bool = False
    blind: bool = False
    profile: str = "tiny"
    detector: str = "auto"
    device: str = "auto"
    mpp: float | None = None
    cells: int = GALLERY_SIZE
    max_upload_mb: int = 4096
    max_epochs: int | None = None

    @classmethod
    def of(cls, studies: str, conf: Mapping[str, str]) -> Place:
        """From the command line.

        Raises:
            ConfigError: a name or value that nobody knows; studies that are no folder.
        """
        for name in conf:
            if name not in _OF_MONAI_LABEL:
                check_name("--conf", name, sorted(_SETTINGS))
        folder = Path(studies).absolute()
        if not folder.is_dir():
            raise ConfigError(f"--studies {studies} is no folder", "name the folder of the slides")
        given: dict[str, Any] = {name: value for name, value in conf.items() if name in _SETTINGS}
        for name in ("cells", "max_upload_mb", "max_epochs"):
            _converted(given, name, int, "a whole number from 1", lambda number: number > 0)
        _converted(given, "mpp", float, "um/px, e.g. 0.25", lambda number: 0 < number < 100)
        for name in ("double_read", "blind"):
            _converted(given, name, _truth, "true or false", lambda _: True)
        work = Path(given.pop("work", folder.with_name(f"{folder.name}-labels"))).absolute()
        results = Path(given.pop("results", work / "results")).absolute()
        users = Path(given.pop("users")).absolute() if "users" in given else None
        if work == folder or work.is_relative_to(folder):
            raise ConfigError(f"--conf work {work} lies among the slides", "choose a folder beside them")
        for made in (work, results):
            made.mkdir(parents=True, exist_ok=True)
        return cls(studies=folder, work=work, results=results, users=users, **given)


def _converted(given: dict[str, Any], name: str, kind: Any, wanted: str, holds: Any) -> None:
    if name not in given:
        return
    try:
        value = kind(given[name])
        if not holds(value):
            raise ValueError
    except ValueError:
        raise ConfigError(f"invalid --conf {name} '{given[name]}'", f"give {wanted}") from None
    given[name] = value


def _truth(text: str) -> bool:
    if text.lower() not in _TRUE | _FALSE:
        raise ValueError
    return text.lower() in _TRUE
