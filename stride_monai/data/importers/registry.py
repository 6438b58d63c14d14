"""Which formats there are: the built-in ones and those that other packages add by entry point."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType

from stride_monai.data.importers.records import Format
from stride_monai.errors import ConfigError

__all__ = ["BUILT_IN", "GROUP", "format_names", "load_format"]

GROUP = "stride_monai.importers"
"""Entry-point group of importers; an entry point names a :class:`Format`."""

BUILT_IN: Mapping[str, str] = MappingProxyType(
    {
        name: f"stride_monai.data.importers.{name.replace('-', '_')}:FORMAT"
        for name in (
            *("cric", "riva", "herlev", "sipakmed", "cervix93", "tianchi"),
            *("coco", "yolo", "voc", "geojson", "folder"),
        )
    }
)
"""The package's own formats; known here as well, so that a source tree that was never installed can import."""


def _found() -> dict[str, str]:
    found = dict(BUILT_IN)
    for point in sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value)):
        if found.setdefault(point.name, point.value) != point.value:
            raise ConfigError(
                f"two importers are named '{point.name}' ({found[point.name]} and {point.value})",
                "uninstall one of the two packages or rename its entry point",
            )
    return found


def format_names() -> tuple[str, ...]:
    """Names of all formats: the built-in ones, then those of other packages."""
    return tuple(_found())


def load_format(name: str) -> Format:
    """The format of a name.

    Raises:
        ConfigError: there is none of that name, or a package's importer cannot be loaded.
    """
    found = _found()
    if name not in found:
        raise ConfigError(f"there is no importer '{name}'", f"choose from {', '.join(found)}")
    value = found[name]
    try:
        if value == BUILT_IN.get(name):
            module, _, attribute = value.partition(":")
            loaded = getattr(import_module(module), attribute)
        else:
            loaded = EntryPoint(name, value, GROUP).load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"the importer '{name}' ({value}) cannot be loaded ({error})",
            "repair or uninstall the package that adds it",
        ) from error
    if not isinstance(loaded, Format):
        raise ConfigError(f"the importer '{name}' ({value}) is no Format", "name a stride_monai...Format")
    return loaded
