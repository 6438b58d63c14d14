"""Which writers there are: the built-in ones and those that other packages add by entry point."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import MappingProxyType
from typing import Protocol, cast

from stride_monai.errors import ConfigError
from stride_monai.findings import Findings, Pictures

__all__ = ["BUILT_IN", "GROUP", "Writer", "load_writers"]

GROUP = "stride_monai.writers"
"""Entry-point group of writers."""

BUILT_IN: Mapping[str, str] = MappingProxyType(
    {
        "findings": "stride_monai.exporters.findings_json:write",
        "cells": "stride_monai.exporters.cells_parquet:write",
        "overlay": "stride_monai.exporters.geojson:write",
        "report": "stride_monai.exporters.html:write",
    }
)
"""The package's own writers; known here as well, so that a source tree that was never installed can write."""


class Writer(Protocol):
    """Writes one file about one slide into its folder, complete or not at all, and returns the file's path."""

    def __call__(self, findings: Findings, pictures: Pictures, folder: Path) -> Path: ...


def load_writers() -> dict[str, Writer]:
    """Every writer by name: the built-in ones first, then those of other packages in order of name.

    Raises:
        ConfigError: two packages give the same name to different writers, or a package's writer cannot be imported;
            a report that someone relies on is never left out in silence.
    """
    found = dict(BUILT_IN)
    for point in sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value)):
        if found.setdefault(point.name, point.value) != point.value:
            raise ConfigError(
                f"two writers are named '{point.name}' ({found[point.name]} and {point.value})",
                "uninstall one of the two packages or rename its entry point",
            )
    return {name: _load(name, value) for name, value in found.items()}


def _load(name: str, value: str) -> Writer:
    if value == BUILT_IN.get(name):
        module, _, function = value.partition(":")
        return cast(Writer, getattr(import_module(module), function))
    try:
        return cast(Writer, EntryPoint(name, value, GROUP).load())
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"the writer '{name}' ({value}) cannot be loaded ({error})", "repair or uninstall the package that adds it"
        ) from error
