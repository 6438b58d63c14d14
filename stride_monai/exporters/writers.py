"""Which writers there are: the built-in ones and those that other packages add by entry point."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from stride_monai.findings import Screened
from stride_monai.plugins import Plugins

__all__ = ["WRITERS", "Writer", "load_writers"]


class Writer(Protocol):
    """Writes one file about one slide into its folder, complete or not at all, and returns the file's path."""

    def __call__(self, screened: Screened, folder: Path, settings: Mapping[str, Any]) -> Path:
        """Write the file.

        Args:
            settings: what was asked of this writer, by name; empty for its own defaults.

        Raises:
            OutputError: the folder cannot be written to, or a value is not a finite number.
        """


WRITERS: Plugins[Writer] = Plugins(
    "writer",
    "stride_monai.writers",
    {
        "findings": "stride_monai.exporters.findings_json:write",
        "cells": "stride_monai.exporters.cells_parquet:write",
        "overlay": "stride_monai.exporters.geojson:write",
        "report": "stride_monai.exporters.html:write",
    },
)
_ALWAYS = "findings"  # a run is taken up by them


def load_writers(names: Iterable[str] | None = None) -> dict[str, Writer]:
    """Writers by name, in their order (:class:`~stride_monai.plugins.Plugins`).

    Args:
        names: those that are asked for; None for all. ``findings`` always is one of them, as a run is taken up by it.

    Raises:
        ConfigError: there is no writer of a name, two have one name, or one cannot be imported.
    """
    wanted = None if names is None else {_ALWAYS, *names}
    WRITERS.check(*sorted(wanted or ()))
    return {name: WRITERS.load(name) for name in WRITERS.values() if wanted is None or name in wanted}
