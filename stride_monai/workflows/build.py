"""A bundle that repeats another: its files are made of those of the other and of what it changes in them.

``overlay.json`` in the bundle's folder names the other bundle (``base``), which lies beside it, and under ``files``
each file that comes from it with its changes, in the language of MONAI's overlays (``train#trainer#_target_``,
``+train#handlers``). The bundle stays a whole folder, to be run and shared alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from monai.bundle.utils import merge_kv

from stride_monai.errors import BundleError
from stride_monai.files import write_bytes

__all__ = ["OVERLAY", "build_bundle", "built_files"]

OVERLAY = "overlay.json"


def built_files(root: Path) -> Iterator[tuple[Path, bytes]]:
    """The files of a bundle that come from its base, by their place, as they have to be.

    Raises:
        BundleError: there is no overlay, or no base beside the bundle, or either cannot be read.
    """
    if not (root / OVERLAY).is_file():
        raise BundleError(f"{root.absolute()} has no {OVERLAY}", "only a bundle that repeats another is built")
    try:
        overlay = json.loads((root / OVERLAY).read_text(encoding="utf-8"))
        base = root.resolve().parent / overlay["base"]
        for name, changes in overlay["files"].items():
            content = (base / name).read_bytes()
            yield root / name, _changed(json.loads(content), changes) if changes else content
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(
            f"{(root / OVERLAY).absolute()} cannot be built ({error})", "the bundle that it names has to lie beside it"
        ) from error


def build_bundle(root: Path) -> list[Path]:
    """Make the files of a bundle anew that come from its base; the same bytes wherever it is done.

    Returns:
        Those that were not as they have to be.

    Raises:
        BundleError: see :func:`built_files`.
        OutputError: a file cannot be written.
    """
    made = list(built_files(root))
    stale = [(path, content) for path, content in made if not path.is_file() or path.read_bytes() != content]
    for path, content in stale:
        write_bytes(path, content)
    return [path for path, _ in stale]


def _changed(config: dict[str, Any], changes: Mapping[str, Any]) -> bytes:
    """A configuration with the changes; a new key follows the one that stands before it in the changes."""
    order, last = list(config), ""
    parser = ConfigParser(config)
    for key, value in changes.items():
        merge_kv(parser, key, value)
    merged: dict[str, Any] = parser.get()
    for key in (key.lstrip("+").split("#")[0] for key in changes):
        if key not in order:
            order.insert(order.index(last) + 1 if last else len(order), key)
        last = key
    return (json.dumps({key: merged[key] for key in order}, indent=4, ensure_ascii=False) + "\n").encode()
