"""The part of a cytology slide that is worth reading: the deposit and its cells, found at low resolution.

Tissue finders look for one large stained area and lose what matters here: single cells on empty glass. This one goes
the other way round. Everything darker than the glass around it counts as a cell until it proves to be pen or an air
bubble, and what lies between cells that are close to one another counts as deposit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.measure import label, regionprops
from skimage.morphology import disk, isotropic_closing, isotropic_dilation
from skimage.util import view_as_blocks

from stride_monai.ground import Ground
from stride_monai.slides.bright_field import check_background, check_colors
from stride_monai.slides.glass import optical_density, strongest_channel
from stride_monai.slides.slide import Slide
from stride_monai.units import Box

__all__ = ["Foreground", "find_foreground"]

_Mask = npt.NDArray[np.bool_]
_Floats = npt.NDArray[np.float32]

SURVEY_MPP = 8.0
"""um/px of the survey: a lone cell of 15 um still covers four pixels."""

FIELD_SIDE_UM = 1000.0
"""Up to this longest side an image is a single field of view, read whole unless it is blank."""

_FIELD_MPP = 2.0
_MAX_SURVEY_PIXELS, _MAX_SURVEY_SIDE = 16_000_000, 20_000
_MARGIN_UM = 50.0  # read around every cell: more than the radius of the largest squamous cell
_GAP_UM = 300.0  # cells no further apart belong to one deposit
_COARSE = 4  # survey pixels per pixel of the grid on which deposit and pen are found


@dataclass(frozen=True, slots=True)
class Foreground:
    """What is read of a slide.

    Attributes:
        ground: uint8 ``[h, w]``, values of :class:`~stride_monai.ground.Ground`: deposit, which is read, and all else.
        downsample: level-0 px per pixel of it.
        pixel_mm2: area of one.
        notes: sentences on what was left out or could not be judged.
    """

    ground: npt.NDArray[np.uint8]
    downsample: float
    pixel_mm2: float
    notes: tuple[str, ...] = ()

    @property
    def mask(self) -> _Mask:
        """bool ``[h, w]``, True where the slide is read."""
        return _is_deposit(self.ground)

    @property
    def area_mm2(self) -> float:
        """Of the deposit."""
        return float(np.count_nonzero(self.mask)) * self.pixel_mm2

    @property
    def pen_fraction(self) -> float:
        """Share of the slide that is pen (or another opaque smear) and not read."""
        return float((self.ground == Ground.PEN).mean())

    def touches(self, box: Box) -> bool:
        """Whether any of the box (level-0 px) is foreground."""
        return bool(_is_deposit(self.ground[self._window(box)]).any())

    def on(self, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> _Mask:
        """Which points (level-0 px) are foreground."""
        rows, columns = self.ground.shape
        row, column = ((place / self.downsample).astype(np.intp) for place in (y, x))
        return _is_deposit(self.ground[np.clip(row, 0, rows - 1), np.clip(column, 0, columns - 1)])

    def marked(self, places: Iterable[tuple[Box, Ground]]) -> Foreground:
        """The same once it has been read: deposit within the boxes (level-0 px) is what is said of it."""
        ground = self.ground.copy()
        for box, kind in places:
            window = ground[self._window(box)]
            window[_is_deposit(window)] = kind
        return replace(self, ground=ground)

    def within(self, region: Box) -> Foreground:
        """The same with no deposit beyond a region (level-0 px), to whole pixels of the map."""
        ground = self.ground.copy()
        beyond = np.ones(ground.shape, np.bool_)
        beyond[self._window(region)] = False
        ground[beyond & self.mask] = Ground.GLASS
        return replace(self, ground=ground)

    def areas_mm2(self) -> dict[str, float]:
        """Area of every kind of ground, by its name in lower case; together the slide."""
        pixels = np.bincount(self.ground.ravel(), minlength=len(Ground))
        return {kind.name.lower(): float(pixels[kind] * self.pixel_mm2) for kind in Ground}

    def _window(self, box: Box) -> tuple[slice, slice]:
        rows, columns = self.ground.shape
        top, left = max(0, math.floor(box.y0 / self.downsample)), max(0, math.floor(box.x0 / self.downsample))
        bottom, right = math.ceil(box.y1 / self.downsample), math.ceil(box.x1 / self.downsample)
        return slice(top, max(min(bottom, rows), top)), slice(left, max(min(right, columns), left))


def _is_deposit(ground: npt.NDArray[np.uint8]) -> _Mask:
    first, last = Ground.READ, Ground.UNREADABLE
    return np.asarray((ground >= first) & (ground <= last))


class _Survey(NamedTuple):
    """The slide at low resolution: optical density above the glass per channel, and what could be decoded."""

    density: _Floats  # [h, w, 3]
    threshold: float  # density above which a pixel is not glass
    readable: _Mask
    mpp: float
    downsample: float

    def pixels(self, microns: float) -> int:
        return max(1, round(microns / self.mpp))


def find_foreground(slide: Slide) -> Foreground:
    """Find the deposit and its cells; leave out empty glass, pen and air bubbles.

    Works on the slide at about 8 um/px in optical density over a background estimated from the slide itself, so that an
    uneven or yellowish illumination does not matter. A place that cannot be decoded counts as foreground: reading it is
    how it gets reported. A single field of view (longest side up to 1 mm) is foreground as a whole unless blank.

    Raises:
        SlideError: no part of the slide can be decoded, or it is no bright-field slide in colour.
    """
    if max(slide.extent.width, slide.extent.height) <= FIELD_SIDE_UM:
        return _whole_field(slide)
    area_um2 = slide.width * slide.height * slide.mpp**2
    longest = max(slide.extent.width, slide.extent.height)
    coarsest = max(math.sqrt(area_um2 / _MAX_SURVEY_PIXELS), longest / _MAX_SURVEY_SIDE)
    survey = _survey(slide, max(slide.mpp, SURVEY_MPP, coarsest))
    strongest = strongest_channel(survey.density)
    pen = _pen(survey, strongest)
    cells = _cells(strongest, survey.threshold) & ~pen
    bubbles = _bubbles(cells, strongest, survey)
    cells &= ~bubbles
    cells |= ~survey.readable
    mask = _deposit(cells, survey) & ~pen & ~bubbles
    if cells.any():
        mask |= isotropic_dilation(cells, survey.pixels(_MARGIN_UM))
    return _foreground(slide, survey, mask, pen, bubbles)


def _foreground(slide: Slide, survey: _Survey, mask: _Mask, pen: _Mask, bubbles: _Mask) -> Foreground:
    notes: list[str] = []
    if pen.any():
        notes.append(f"Pen or another opaque smear covers {100 * pen.mean():.1f} % of the slide and is not read.")
    if bubbles.any():
        notes.append(f"Air bubbles cover {100 * bubbles.mean():.1f} % of the slide and are not read.")
    if not survey.readable.all():
        notes.append(f"{100 - 100 * survey.readable.mean():.1f} % of the slide cannot be decoded at low resolution.")
    if not mask.any():
        notes.append("No cells were found.")
    ground = np.full(mask.shape, Ground.GLASS, np.uint8)
    for kind, where in ((Ground.PEN, pen), (Ground.BUBBLE, bubbles), (Ground.READ, mask)):
        ground[where] = kind
    return Foreground(ground, survey.downsample, (survey.downsample * slide.mpp / 1000) ** 2, tuple(notes))


def _survey(slide: Slide, mpp: float) -> _Survey:
    pixels, readable, downsample = slide.survey(mpp)
    check_background(slide.facts.file_name or "slide", pixels, readable)
    density, threshold = optical_density(pixels, readable)
    check_colors(slide.facts.file_name or "slide", pixels, strongest_channel(density) > threshold)
    return _Survey(density, threshold, readable, mpp, downsample)


def _whole_field(slide: Slide) -> Foreground:
    survey = _survey(slide, max(slide.mpp, _FIELD_MPP))
    cells = _cells(strongest_channel(survey.density), survey.threshold) | ~survey.readable
    none = np.zeros_like(cells)
    blank = cells.sum() < (6.0 / survey.mpp) ** 2  # less than one small nucleus
    return _foreground(slide, survey, none if blank else ~none, none, none)


def _cells(strongest: _Floats, threshold: float) -> _Mask:
    """Pixels that are not glass. A single pixel must be clearly darker, lest noise be read."""
    cells = strongest > threshold
    labels, _ = ndimage.label(cells, structure=np.ones((3, 3), bool))
    alone = np.bincount(labels.ravel()) == 1
    return np.asarray(cells & ~(alone[labels] & (strongest < 2.5 * threshold)))


def _pen(survey: _Survey, strongest: _Floats) -> _Mask:
    """Felt-tip strokes: dense, smooth, strongly coloured or black, and longer than any group of cells.

    Tissue and dense groups of cells are as dark and as large, but nuclei make them rough at 8-30 um; ink is smooth.
    """
    height, width = strongest.shape
    coarse = _blocks(survey.density, _COARSE).mean(axis=2)
    dark = coarse.max(axis=2)
    rough = _blocks(strongest[..., None], _COARSE).std(axis=2)[..., 0]
    vivid = (dark - coarse.min(axis=2) > 0.3) | (coarse.min(axis=2) > 0.5)
    smooth = ndimage.median_filter((dark > 0.3) & vivid & (rough < 0.1 * dark), 3)
    coarse_px = survey.mpp * _COARSE
    core = ndimage.binary_opening(smooth, disk(max(1, round(100 / coarse_px))))
    core = _large(core, min_side=2000 / coarse_px, min_area=0.4e6 / coarse_px**2)
    if not core.any():
        return np.zeros((height, width), np.bool_)
    # The rest of the stroke: thin ends and rough borders of the same colour near its core.
    hue = coarse / np.maximum(np.linalg.norm(coarse, axis=2, keepdims=True), 1e-6)
    ink = coarse[core].mean(axis=0)
    same = (hue @ (ink / np.linalg.norm(ink)) > 0.97) & (dark > 0.25 * float(dark[core].mean()))
    pen = ndimage.binary_dilation(core, mask=same | core, iterations=max(1, round(300 / coarse_px)))
    return _enlarged(ndimage.binary_dilation(pen), _COARSE, (height, width))


def _bubbles(cells: _Mask, strongest: _Floats, survey: _Survey) -> _Mask:
    """Air bubbles: round, quite empty, within a thin closed dark rim. Rim and inside."""
    found = np.zeros(cells.shape, np.bool_)
    rim = strongest > max(0.2, 2 * survey.threshold)
    holes, count = ndimage.label(~rim)
    if count < 2:
        return found
    areas = np.bincount(holes.ravel(), minlength=count + 1)  # at once: regionprops takes ten times as long
    smallest = math.pi * (125 / survey.mpp) ** 2
    for number, place in enumerate(ndimage.find_objects(holes), start=1):
        if place is None or areas[number] < smallest or _at_border(place, cells.shape):
            continue
        pad = survey.pixels(120)
        window = tuple(slice(max(0, s.start - pad), s.stop + pad) for s in place)
        inside = ndimage.binary_fill_holes(holes[window] == number)
        if _is_bubble(inside, cells[window], rim[window], survey):
            found[window] |= ndimage.binary_dilation(inside, iterations=survey.pixels(40))
    return found


def _is_bubble(inside: _Mask, cells: _Mask, rim: _Mask, survey: _Survey) -> bool:
    if not _is_oval(inside):
        return False
    # Nothing inside, the blurred inner edge of the rim apart: one cell, and it is not an empty bubble.
    if (cells & ndimage.binary_erosion(inside, iterations=survey.pixels(30))).any():
        return False
    near = ndimage.binary_dilation(inside, iterations=survey.pixels(50))
    far = ndimage.binary_dilation(near, iterations=survey.pixels(40)) & ~near
    return bool(rim[far].mean() < 0.3)  # a hole in tissue goes on outside, a rim is thin


def _is_oval(region: _Mask) -> bool:
    """Whether a region is an ellipse not more than twice as long as wide: it fills its ellipse of inertia.

    Our own, since regionprops knows the ellipse but not how much of a region lies in it.
    """
    ys, xs = np.nonzero(region)
    points = np.stack([xs - xs.mean(), ys - ys.mean()]).astype(np.float64)
    covariance = points @ points.T / points.shape[1]
    narrow, broad = np.linalg.eigvalsh(covariance)
    if narrow <= 0 or broad > 4 * narrow:
        return False
    within = np.einsum("in,ij,jn->n", points, np.linalg.inv(covariance), points) <= 4.0
    # Of an ellipse all points are within two standard deviations of its axes, and it is the area they span.
    area = math.pi * 4.0 * math.sqrt(narrow * broad)
    return bool(within.mean() > 0.95 and 0.9 < len(xs) / area < 1.1)


def _at_border(place: tuple[slice, ...], shape: tuple[int, ...]) -> bool:
    return any(s.start == 0 or s.stop == size for s, size in zip(place, shape, strict=True))


def _deposit(cells: _Mask, survey: _Survey) -> _Mask:
    """The area that cells close to one another share (a closing), on the coarse grid."""
    coarse: _Mask = _blocks(cells[..., None], _COARSE).max(axis=2)[..., 0]
    if not coarse.any():
        return np.zeros_like(cells)
    reach = max(1, round(_GAP_UM / 2 / (survey.mpp * _COARSE)))
    body = isotropic_closing(np.pad(coarse, reach), reach)[reach:-reach, reach:-reach] | coarse
    # A closing of two lone specks is the line between them; a deposit has body.
    body = ndimage.binary_opening(body, disk(2)) | coarse
    return _enlarged(body, _COARSE, cells.shape)


def _large(mask: _Mask, min_side: float, min_area: float) -> _Mask:
    """The components whose bounding box is long enough and whose area is large enough."""
    parts = label(mask, connectivity=2)
    long = [p for p in regionprops(parts) if math.hypot(*(s.stop - s.start for s in p.slice)) >= min_side]
    return np.isin(parts, [part.label for part in long if part.area >= min_area])


def _blocks(image: npt.NDArray[Any], side: int) -> npt.NDArray[Any]:
    """``[h, w, c]`` as ``[h/side, w/side, side*side, c]``, edge pixels repeated where it does not divide."""
    height, width, channels = image.shape
    padded = np.pad(image, ((0, -height % side), (0, -width % side), (0, 0)), mode="edge")
    split: npt.NDArray[Any] = view_as_blocks(padded, (side, side, channels))
    return split.reshape(*split.shape[:2], side * side, channels)


def _enlarged(mask: _Mask, side: int, shape: tuple[int, ...]) -> _Mask:
    return mask.repeat(side, axis=0).repeat(side, axis=1)[: shape[0], : shape[1]]
