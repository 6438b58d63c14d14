"""um/px and objective power as a TIFF states them: in Aperio's text, OME-XML, ImageJ's text, or the resolution tags."""

from __future__ import annotations

import re

from stride_monai.slides.protocol import StatedFacts
from stride_monai.slides.spacing import stated_number
from stride_monai.slides.tiff.ome import OmeImage
from stride_monai.slides.tiff.page import Page

__all__ = [
    "imagej_values",
    "positive_number",
    "stated_by_aperio",
    "stated_by_imagej",
    "stated_by_ome",
    "stated_by_tags",
]

_UNIT_IN_UM = {2: 25_400.0, 3: 10_000.0}  # ResolutionUnit: inch, centimetre
_MICRON = ("um", "µm", "μm", "micron", "microns", "micrometer", "micrometers", "micrometre", "micrometres")
_IMAGEJ_UNITS = dict.fromkeys(_MICRON, 1.0) | dict.fromkeys(("nm", "nanometer", "nanometre"), 1e-3)
_IMAGEJ_UNITS |= dict.fromkeys(("mm", "millimeter", "millimetre"), 1e3) | dict.fromkeys(("cm", "centimeter"), 1e4)
_IMAGEJ_UNITS |= dict.fromkeys(("in", "inch", "inches"), 25_400.0) | {"m": 1e6, "meter": 1e6, "metre": 1e6}


def positive_number(text: object) -> float | None:
    """A number, with a decimal point or comma; None for none, and for one that states nothing (``MPP = 0``)."""
    value = stated_number(text)
    return value if value is not None and value > 0 else None


def stated_by_aperio(page: Page) -> StatedFacts:
    """``MPP`` and ``AppMag`` of an Aperio description."""
    mpp = _after("MPP", page.description)
    return StatedFacts(mpp, mpp, _after("AppMag", page.description))


def stated_by_ome(image: OmeImage, page: Page) -> StatedFacts:
    """PhysicalSize of OME-XML; the resolution tags where it has none at all, not where its unit is no length."""
    return StatedFacts(*image.stated_mpp) if image.states_size else stated_by_tags(page)


def stated_by_imagej(page: Page) -> StatedFacts:
    """Resolution tags in the unit that ImageJ's text names; as they are where it names none."""
    unit = imagej_values(page.description).get("unit", "").lower()
    unit = re.sub(r"\\u00b5|\\u03bc", "u", unit)  # its own way to write a micro sign
    return _per_pixel(page, _IMAGEJ_UNITS.get(unit)) if unit else stated_by_tags(page)


def stated_by_tags(page: Page) -> StatedFacts:
    """XResolution and YResolution in ResolutionUnit."""
    return _per_pixel(page, _UNIT_IN_UM.get(page.directory.number(296, 2)))


def imagej_values(description: str) -> dict[str, str]:
    """The lines ``key=value`` of ImageJ's text."""
    pairs = (line.partition("=") for line in description[: 1 << 16].splitlines())
    return {key.strip(): value.strip() for key, found, value in pairs if found}


def _per_pixel(page: Page, unit: float | None) -> StatedFacts:
    if unit is None:
        return StatedFacts()
    ratios = [page.directory.ratio(tag) for tag in (282, 283)]
    return StatedFacts(*(None if ratio is None else unit * ratio[1] / ratio[0] for ratio in ratios))


def _after(key: str, text: str) -> float | None:
    found = re.search(rf"\b{key}\s*=\s*([0-9.,eE+-]+)", text)
    return positive_number(found.group(1).rstrip(".,")) if found else None
