"""Which detector and which slide classifier screen, and in words why; the findings and the index of the run say both.

``yolo`` is the detector of the paper, which the configurations of the bundle ``detection`` name. Any other is an
overlay of that bundle with a ``network_def`` of its own, and its file name is its name. With a profile goes the overlay
``<profile>_<detector>.json`` where a bundle has one: its weights and small numbers.

Slide classifiers are bundles: ``coloradv`` is ``swift_mil`` trained on against colours, and the default once trained.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from stride_monai.errors import BundleError, check_name
from stride_monai.workflows.locate import bundle_root

if TYPE_CHECKING:
    from stride_monai.workflows.load import LoadedBundle

__all__ = [
    "Choice",
    "Chosen",
    "choose_detector",
    "detectors_in",
    "find_bundle",
    "overlays_in",
]

_PAPER, _FREE = "yolo", "fcos"
_NO_OVERLAYS = {"train", "inference"}


class Choice(NamedTuple):
    """What was chosen, by name, and in words why."""

    name: str
    why: str


class Chosen(NamedTuple):
    """A choice and its network.

    Attributes:
        how: where its weights were taken from, see :class:`~stride_monai.screening.sources.Origin`.
    """

    choice: Choice
    bundle: LoadedBundle
    how: str = "own bundle"


def detectors_in(detection: Path) -> list[str]:
    """The detectors that a ``detection`` bundle has, that of the paper first.

    Args:
        detection: folder of the bundle.
    """
    overlays = [path for path in sorted((detection / "configs").glob("*.json")) if path.stem not in _NO_OVERLAYS]
    return [_PAPER, *(path.stem for path in overlays if "network_def" in json.loads(path.read_text(encoding="utf-8")))]


def choose_detector(name: str, profile: str, detection: Path) -> Choice:
    """The detector of that name.

    ``auto`` is that of the paper. Of the shipped weights it is the more sensitive one, but its extra may not be there
    on purpose; then, in the tiny profile, it is the one that needs none.

    Raises:
        ConfigError: the bundle has none of that name.
    """
    if name == "auto":
        if profile != "tiny":
            return Choice(_PAPER, f"default of the {profile} profile")
        if _installed("ultralytics"):
            return Choice(_PAPER, "default where the extra yolo is installed")
        return Choice(_FREE, "default where the extra yolo is not installed")
    check_name("detector", name, ("auto", *detectors_in(detection)))
    return Choice(name, "as asked for")


def _installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ImportError:
        return False


def overlays_in(root: Path, profile: str, detector: str) -> list[str]:
    """Overlays that a bundle has for a detector, to be laid over the profile in this order."""
    names = (detector, f"{profile}_{detector}")
    return [name for name in names if (root / "configs" / f"{name}.json").is_file()]


def find_bundle(name: str, bundles: Path | None) -> Path | None:
    """Folder of a bundle that need not be there; None where it is not.

    Args:
        bundles: folder that holds the bundles; None for those that came with the package.
    """
    try:
        home = bundle_root(name) if bundles is None else bundles / name
    except BundleError:
        return None
    return home if (home / "configs" / "inference.json").is_file() else None
