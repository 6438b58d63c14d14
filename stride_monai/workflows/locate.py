"""Where bundles lie: those that came with the package, their neighbours, and copies of them to train."""

from __future__ import annotations

import json
import logging
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import stride_monai
from stride_monai.errors import BundleError, OutputError
from stride_monai.files import moved_folder, temporary_folder, write_bytes

__all__ = ["PROFILES", "BundleFacts", "bundle_root", "copy_bundle", "copy_place", "list_bundles", "neighbor"]

PROFILES = ("tiny", "paper")
"""The settings of a bundle: of a laptop, of which weights ship, and of the paper."""
_log = logging.getLogger(__name__)
_LEFT_BEHIND = ("__pycache__", "*.part", ".gitkeep", "events.out.tfevents*")


class BundleFacts(NamedTuple):
    """What a bundle that came with the package is.

    Attributes:
        weights: names of the weights files that it has.
        title: what it does, one line.
    """

    name: str
    version: str
    title: str
    weights: tuple[str, ...]
    root: Path


def bundle_root(name: str) -> Path:
    """Folder of a bundle that came with the package: in an installed wheel or in a checkout.

    Raises:
        BundleError: there is no bundle of that name.
    """
    found = _shipped()
    if name not in found:
        raise BundleError(f"unknown bundle '{name}'", f"choose one of {', '.join(found)}" if found else "")
    return found[name]


def list_bundles() -> list[BundleFacts]:
    """The bundles that came with the package, by name."""
    return [_facts(name, root) for name, root in _shipped().items()]


def _shipped() -> dict[str, Path]:
    package = Path(stride_monai.__file__).parent
    homes = (package.parent / "bundles", package / "bundles")  # a wheel's own come last and win
    found = {
        file.parent.parent.name: file.parent.parent for home in homes for file in home.glob("*/configs/metadata.json")
    }
    return dict(sorted(found.items()))


def _facts(name: str, root: Path) -> BundleFacts:
    meta = json.loads((root / "configs" / "metadata.json").read_text(encoding="utf-8"))
    models = (root / "models").glob("*")
    weights = sorted(path.name for path in models if path.suffix in {".pt", ".ts", ".safetensors"})
    return BundleFacts(name, str(meta["version"]), str(meta["name"]), tuple(weights), root)


def neighbor(root: Path | str, name: str, weights: str) -> str:
    """Path of a weights file of another bundle: in the folder beside this one, else as it came with the package.

    A bundle that is shared alone has no neighbours; where the package has the file, that is used, and said in the log.

    Args:
        root: folder of the bundle that asks.
        name: the other bundle.
        weights: name of the file in its ``models`` folder.

    Returns:
        The path; where the file is nowhere, that beside this bundle, so that whoever reads it says what is missing.
    """
    beside = Path(root).resolve().parent / name / "models" / weights
    shipped = _shipped().get(name, beside.parent.parent) / "models" / weights
    if beside.is_file() or not shipped.is_file():
        return str(beside)
    _log.warning("%s has no neighbour with %s/models/%s: the package's own is used, %s", root, name, weights, shipped)
    return str(shipped)


def copy_place(name: str, folder: Path) -> Path:
    """Where a copy of a bundle would be.

    Raises:
        BundleError: there is no bundle of that name.
        OutputError: something stands there.
    """
    bundle_root(name)
    target = (folder / name).absolute()
    if target.exists() or target.is_symlink():
        raise OutputError(f"{target} exists already", "choose another folder, or move it away")
    return target


def copy_bundle(name: str, folder: Path) -> Path:
    """Copy a bundle that came with the package, weights and all, to ``folder/name``, to be changed or trained there.

    Raises:
        BundleError: there is no bundle of that name.
        OutputError: something stands at ``folder/name``, or it cannot be written.
    """
    root, target = bundle_root(name), copy_place(name, folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with temporary_folder(folder) as made:
            for path in sorted(root.rglob("*")):
                place = path.relative_to(root)
                if any(fnmatch(part, left) for part in place.parts for left in _LEFT_BEHIND):
                    continue
                if path.is_dir():
                    (made / place).mkdir(exist_ok=True)
                else:
                    write_bytes(made / place, path.read_bytes())
            moved_folder(made, target)
    except OSError as error:
        raise OutputError(f"cannot write {target} ({error.strerror or error})", "choose another folder") from error
    return target
