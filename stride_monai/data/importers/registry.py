"""Which formats there are: the built-in ones and those that other packages add by entry point."""

from __future__ import annotations

from stride_monai.data.importers.records import Format
from stride_monai.plugins import Plugins

__all__ = ["IMPORTERS", "load_format"]

IMPORTERS: Plugins[Format] = Plugins(
    "importer",
    "stride_monai.importers",
    {
        name: f"stride_monai.data.importers.{name}:FORMAT"
        for name in (
            *("cric", "riva", "herlev", "sipakmed", "cervix93", "tianchi"),
            *("coco", "yolo", "voc", "geojson", "folder"),
        )
    },
    fits=lambda loaded: isinstance(loaded, Format),
)
"""An entry point names a :class:`Format`."""

load_format = IMPORTERS.load
