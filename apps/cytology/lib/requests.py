"""What a request asks for: of which image, and with which parameters."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stride_monai.annotations import SlideFolder
from stride_monai.errors import ConfigError
from stride_monai.units import Box

if TYPE_CHECKING:
    from lib.workbench import Workbench

UPLOADED: ContextVar[bool] = ContextVar("uploaded", default=False)
"""Whether a picture came with the request; the server alone sets it (:mod:`lib.server.endpoints`)."""


@dataclass(frozen=True)
class Image:
    """What is looked at.

    Attributes:
        image_id: of a slide of the studies; None for a picture that came with the request and is not kept.
    """

    path: Path
    image_id: str | None

    @property
    def name(self) -> str:
        return self.image_id or "the picture"


def image_of(request: Mapping[str, Any], bench: Workbench) -> Image:
    """The image of a request. A text is an id and nothing else, whatever file there may be of that name.

    Raises:
        AccessError: there is no slide of this id.
    """
    if UPLOADED.get():
        return Image(Path(request["image"]), None)
    image_id = str(request.get("image") or "")
    return Image(SlideFolder(bench.place.studies).path_of(image_id), image_id)


@dataclass(frozen=True)
class Params:
    """Parameters of a request.

    Attributes:
        region: level-0 px; None for the whole slide.
        cells: centers of given cells, level-0 px.
        mpp: um/px of a picture that does not say.
        limit: at most so many cells are sent; None for all.
        refresh: screen again what is screened already.
    """

    region: Box | None = None
    cells: tuple[Box, ...] = ()
    mpp: float | None = None
    limit: int | None = None
    refresh: bool = False


def params_of(request: Mapping[str, Any]) -> Params:
    """Raises:
    ConfigError: a parameter is of another kind than it should be.
    """
    try:
        mpp, limit = request.get("mpp"), request.get("limit")
        return Params(
            _region(request),
            tuple(_cell(cell) for cell in request.get("cells") or ()),
            None if mpp is None else float(mpp),
            None if limit is None else max(int(limit), 1),
            bool(request.get("refresh", False)),
        )
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise ConfigError(f"the parameters cannot be understood ({error})", "see apps/cytology/README.md") from error


def _region(request: Mapping[str, Any]) -> Box | None:
    """As MONAI Label says it: ``location`` and ``size``; all zero, or none, is the whole slide."""
    x, y = (float(value) for value in request.get("location") or (0, 0))
    width, height = (float(value) for value in request.get("size") or (0, 0))
    if width <= 0 or height <= 0:
        return None
    return Box(x, y, x + width, y + height)


def _cell(given: Any) -> Box:
    """``[x, y]`` or ``[x0, y0, x1, y1]``; a point is a box without extent."""
    numbers = [float(value) for value in given]
    if len(numbers) == 2:
        return Box(*numbers, *numbers)
    return Box(*numbers)
