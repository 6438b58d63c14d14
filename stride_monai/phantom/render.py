"""Render slides, fields and single cells with their truth."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stride_monai.bethesda import LABELS, NEGATIVE, parse_label
from stride_monai.errors import ConfigError, OutputError, check_name
from stride_monai.phantom.cells.hard_negatives import HARD_NEGATIVES, RARE
from stride_monai.phantom.cells.kinds import NO_CELLS, NORMAL
from stride_monai.phantom.cells.lesions import LESIONS
from stride_monai.phantom.cells.measures import measures
from stride_monai.phantom.cells.organisms import ORGANISMS
from stride_monai.phantom.cells.sprites import turned
from stride_monai.phantom.centres import centre_named
from stride_monai.phantom.files.dicom_writer import write_dicom
from stride_monai.phantom.files.products import is_slide
from stride_monai.phantom.files.slide_files import LEICA_STEP
from stride_monai.phantom.files.slide_writer import write_slide
from stride_monai.phantom.painting.focus import LEVELS_UM, defocus_levels
from stride_monai.phantom.painting.painter import Scene
from stride_monai.phantom.scenes.artefacts import make_artefacts
from stride_monai.phantom.scenes.composition import lesion_counts
from stride_monai.phantom.scenes.layout import Region
from stride_monai.phantom.scenes.planning import make_plan
from stride_monai.phantom.scenes.slide_plan import Plan
from stride_monai.phantom.scenes.streams import Draw, stream
from stride_monai.phantom.scenes.truth import SlideTruth, TruthCell
from stride_monai.phantom.stain import Centre
from stride_monai.units import Box

__all__ = [
    "DENSITY_13_MM",
    "DENSITY_20_MM",
    "default_density",
    "draw_cell",
    "plan_slide",
    "render_field",
    "render_slide",
    "truth_of",
]

DENSITY_20_MM = 255.0
"""Epithelial cells per mm2 of a 20 mm deposit."""
DENSITY_13_MM = 603.0
"""Epithelial cells per mm2 of a 13 mm deposit."""

_SAMPLED_NEGATIVES = 200
_BENIGN = {**NORMAL, **HARD_NEGATIVES, **ORGANISMS, **RARE}
_WRITERS = {"tiff": write_slide, "dicom": write_dicom}


def render_slide(
    path: Path | str,
    label: str = NEGATIVE,
    *,
    seed: int = 0,
    diameter_mm: float | None = None,
    density_per_mm2: float | None = None,
    mpp: float | None = None,
    centre: str | Centre = "north",
    lesions: Mapping[str, int] | None = None,
    margin_mm: float = 0.4,
    artefacts: Sequence[str] = (),
    crowd_per_mm2: Mapping[str, float] | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
    z_planes: Sequence[float] = (0.0,),
    patient_label: bool = True,
    file_format: str = "tiff",
) -> SlideTruth:
    """Render one slide to a pyramidal TIFF (or DICOM files) and return its truth.

    The same arguments give the same bytes. Nothing stands at ``path`` before the slide is complete.

    Args:
        path: file to write; its stem is the slide id.
        label: Bethesda label of the slide; the most severe of its cells.
        diameter_mm: of the deposit, by default the centre's; the slide is a little larger (``margin_mm`` of glass on
            every side).
        density_per_mm2: epithelial cells, leucocytes and debris come on top; by default the centre's, or that of a
            deposit of this diameter, see :func:`default_density`.
        mpp: um/px of level 0, 0.1-1.1; by default the centre's.
        centre: one of :data:`stride_monai.phantom.CENTRES`, ``any`` for one drawn by the seed
            (:func:`stride_monai.phantom.centres.any_centre`), or a centre of your own.
        lesions: label -> number of lesion cells; by default drawn from METHOD's ranges for the label.
        artefacts: any of :data:`stride_monai.phantom.scenes.artefacts.ARTEFACTS`.
        crowd_per_mm2: kind of normal cell, hard negative or organism -> number per mm2 instead of the patient's own.
        progress: called with (rows of tiles done, rows in all), per plane.
        z_planes: heights of the stage in um above the best focus. Plane 0 is written at ``path``, every other one
            beside it with its height in the name: ``slide.tiff``, ``slide_z+3.0.tiff``, ``slide_z-3.0.tiff``. Plane 0
            must be among them and comes last: where it stands, the stack is complete. The truth is that of plane 0.
        patient_label: plant a patient's name in the metadata and on a label and a macro picture; see
            :mod:`stride_monai.phantom.files.slide_files`.
        file_format: ``tiff``, or ``dicom``: ``path`` is then a folder of DICOM files, see
            :mod:`stride_monai.phantom.files.dicom_writer`.

    Raises:
        ConfigError: an argument makes no slide.
        MissingExtraError: DICOM is asked for, and pydicom is not installed.
        OutputError: a file exists and ``overwrite`` is False, or it is no synthetic slide, or it cannot be written,
            or the disk is too small.
    """
    path = Path(path)
    check_name("slide format", file_format, _WRITERS)
    planes = _plane_files(path, z_planes)
    for file in planes.values():
        if file.exists() and not overwrite:
            raise OutputError(f"{file.name} exists already", "choose another name or ask to overwrite it")
        if os.path.lexists(file) and not is_slide(file):
            holds = " holds more than DICOM files of a synthetic slide" if file.is_dir() else " is no synthetic slide"
            raise OutputError(f"{file}{holds}, and is not replaced", "choose another name, or move it elsewhere")
    plan, parameters = plan_slide(
        label,
        seed=seed,
        diameter_mm=diameter_mm,
        density_per_mm2=density_per_mm2,
        mpp=mpp,
        centre=centre,
        lesions=lesions,
        margin_mm=margin_mm,
        artefacts=artefacts,
        crowd_per_mm2=crowd_per_mm2,
    )
    for z, file in planes.items():
        _WRITERS[file_format](file, Scene(plan, z), progress, patient_label=patient_label)
    return _truth(plan, path.name.split(".")[0], parameters)


def _plane_files(path: Path, z_planes: Sequence[float]) -> dict[float, Path]:
    """The file of every plane of a z-stack; plane 0 last."""
    heights = [float(z) for z in z_planes]
    apart = len({round(z, 1) for z in heights if abs(z) <= 50}) == len(heights)
    if 0.0 not in heights or not apart:
        raise ConfigError(
            f"invalid planes of a z-stack {heights}", "give heights up to 50 um, 0.1 um apart and 0 among them"
        )
    stem, dot, suffix = path.name.partition(".")
    files = {z: path.with_name(f"{stem}_z{z:+.1f}{dot}{suffix}") for z in sorted(heights) if z != 0}
    return {**files, 0.0: path}


def default_density(diameter_mm: float) -> float:
    """Epithelial cells per mm2: deposits up to 13 mm are dense, larger ones thin; a smaller disc keeps the density."""
    return DENSITY_13_MM if diameter_mm <= 13 else DENSITY_20_MM


def plan_slide(
    label: str,
    *,
    seed: int,
    diameter_mm: float | None = None,
    density_per_mm2: float | None = None,
    mpp: float | None = None,
    centre: str | Centre = "north",
    lesions: Mapping[str, int] | None = None,
    margin_mm: float = 0.4,
    artefacts: Sequence[str] = (),
    crowd_per_mm2: Mapping[str, float] | None = None,
) -> tuple[Plan, dict[str, Any]]:
    """The plan of a slide and the parameters that made it; arguments as in :func:`render_slide`."""
    label, chosen = parse_label(label), _centre(centre, seed)
    mpp = chosen.mpp if mpp is None else mpp
    diameter_mm = chosen.deposit_mm if diameter_mm is None else diameter_mm
    density = chosen.density_per_mm2 if density_per_mm2 is None else density_per_mm2
    density = default_density(diameter_mm) if density is None else density
    _check_scale(mpp, density, seed)
    region = _deposit(chosen, diameter_mm, margin_mm, mpp)
    cells = region.area_mm2(mpp) * density
    counts = lesion_counts(label, cells, stream(seed, Draw.LESION_COUNTS)) if lesions is None else _checked(lesions)
    crowd, draws = _crowd(crowd_per_mm2), stream(seed, Draw.ARTEFACTS)
    plan = make_plan(
        region,
        lesions=counts,
        seed=seed,
        mpp=mpp,
        density_per_mm2=density,
        centre=chosen,
        artefacts=make_artefacts(tuple(artefacts), draws, region.width, region.height, mpp),
        crowd_per_mm2=crowd,
    )
    parameters = {
        "label": label,
        "seed": seed,
        "diameter_mm": diameter_mm,
        "density_per_mm2": density,
        "mpp": mpp,
        "centre": chosen.name,
        "lesions": counts,
        "margin_mm": margin_mm,
        "artefacts": list(artefacts),
        "crowd_per_mm2": crowd,
    }
    return plan, parameters


def _deposit(centre: Centre, diameter_mm: float, margin_mm: float, mpp: float) -> Region:
    """A disc on glass, off the middle as the centre's machine leaves it."""
    if not 0 < diameter_mm <= 40:
        raise ConfigError(f"a deposit of {diameter_mm:g} mm is impossible", "give a diameter over 0 and up to 40 mm")
    if not 0 <= margin_mm <= 40:
        raise ConfigError(f"a margin of {margin_mm:g} mm is impossible", "give 0 to 40 mm")
    # On a small deposit the offset shrinks with it.
    shift = [mm * min(1.0, diameter_mm / 10) for mm in centre.offset_mm]
    width, height = (round((diameter_mm + 2 * margin_mm + 2 * abs(mm)) * 1000 / mpp) for mm in shift)
    if centre.scanner == "leica":  # its levels are placed in nm: whole blocks keep them in register
        width, height = (-(-side // LEICA_STEP) * LEICA_STEP for side in (width, height))
    return Region(width, height, diameter_mm * 500 / mpp, (shift[0] * 1000 / mpp, shift[1] * 1000 / mpp))


def render_field(
    width_um: float = 314.0,
    height_um: float = 233.0,
    *,
    mpp: float = 0.25,
    label: str = NEGATIVE,
    lesions: Mapping[str, int] | None = None,
    seed: int = 0,
    density_per_mm2: float = DENSITY_13_MM,
    centre: str | Centre = "north",
) -> tuple[NDArray[np.uint8], SlideTruth]:
    """Render one field of view: ``[H, W, 3]`` uint8 RGB and its truth (boxes clipped to the field).

    Args:
        label: what lesions the field shows when ``lesions`` is None: a handful of that label.
        lesions: label -> number of lesion cells (AGC: groups).

    Raises:
        ConfigError: an argument makes no field.
    """
    chosen = _centre(centre, seed)
    _check_scale(mpp, density_per_mm2, seed)
    if not (0 < width_um <= 5000 and 0 < height_um <= 5000):
        raise ConfigError(f"a field of {width_um:g} x {height_um:g} um is impossible", "give sides up to 5000 um")
    counts = _field_lesions(parse_label(label), seed) if lesions is None else _checked(lesions)
    region = Region(max(round(width_um / mpp), 1), max(round(height_um / mpp), 1))
    plan = make_plan(region, lesions=counts, seed=seed, mpp=mpp, density_per_mm2=density_per_mm2, centre=chosen)
    pixels = Scene(plan).paint(0, 0, region.width, region.height)
    parameters = {"label": label, "seed": seed, "mpp": mpp, "centre": chosen.name, "lesions": counts}
    return pixels, _truth(plan, f"field-{seed}", parameters)


def draw_cell(
    what: str,
    *,
    seed: int = 0,
    mpp: float = 0.5,
    size_px: int = 224,
    centre: str | Centre = "north",
    density_per_mm2: float = DENSITY_20_MM,
) -> tuple[NDArray[np.uint8], TruthCell]:
    """One cell in the middle of a crop ``[size_px, size_px, 3]`` uint8 RGB, among the neighbours it would have.

    Args:
        what: a Bethesda label other than NILM, or a kind of normal cell, hard negative or organism.

    Raises:
        ConfigError: there is no such cell.
    """
    makers = {**_BENIGN, **LESIONS}
    if what not in makers:
        raise ConfigError(f"the phantom draws no '{what}'", f"use one of {', '.join(makers)}")
    if size_px < 8:
        raise ConfigError(f"a crop of {size_px} px is too small", "give at least 8 px")
    chosen = _centre(centre, seed)
    _check_scale(mpp, density_per_mm2, seed)
    figure = makers[what](stream(seed, Draw.PINNED), chosen.eosinophilic)
    plan = make_plan(
        Region(size_px, size_px),
        lesions={},
        seed=seed,
        mpp=mpp,
        density_per_mm2=density_per_mm2,
        centre=chosen,
        pinned=figure,
    )
    pixels = Scene(plan).paint(0, 0, size_px, size_px)
    return pixels, truth_of(plan, 0)


def _centre(centre: str | Centre, seed: int) -> Centre:
    return centre if isinstance(centre, Centre) else centre_named(centre, max(seed, 0))


def _check_scale(mpp: float, density: float, seed: int) -> None:
    if not 0.1 <= mpp <= 1.1:
        raise ConfigError(f"{mpp:g} um/px is outside 0.1-1.1", "give a um/px that a scanner has, e.g. 0.25")
    if not 0 < density <= 5000:
        raise ConfigError(f"{density:g} cells/mm2 is impossible", "give a density over 0 and up to 5000")
    if seed < 0:
        raise ConfigError(f"seed {seed} is negative", "give 0 or more")


def _checked(lesions: Mapping[str, int]) -> dict[str, int]:
    counts = {}
    for name, count in lesions.items():
        label = parse_label(name)
        if label == NEGATIVE or count < 0:
            raise ConfigError(f"{count} lesions of {name} cannot be drawn", f"use counts of {', '.join(LABELS[1:])}")
        counts[label] = int(count)
    return counts


def _crowd(crowd_per_mm2: Mapping[str, float] | None) -> dict[str, float]:
    for kind, number in (crowd_per_mm2 or {}).items():
        if kind not in _BENIGN or not 0 <= number <= 100_000:
            raise ConfigError(
                f"{number} cells/mm2 of '{kind}' cannot be drawn", f"use up to 1e5 of {', '.join(_BENIGN)}"
            )
    return dict(crowd_per_mm2 or {})


def _field_lesions(label: str, seed: int) -> dict[str, int]:
    if label == NEGATIVE:
        return {}
    most = 3 if label == "AGC" else 12
    return {label: int(stream(seed, Draw.FIELD_LESIONS).integers(1, most + 1))}


def _truth(plan: Plan, slide_id: str, parameters: Mapping[str, Any]) -> SlideTruth:
    region = plan.region
    cells = [truth_of(plan, int(i)) for i in (*range(len(plan.unique)), *_sampled(plan))]
    visible = tuple(cell for cell in cells if cell.box.width > 1 and cell.box.height > 1)
    return SlideTruth(
        slide_id, region.width, region.height, plan.mpp, plan.centre.name, visible, plan.cells_drawn, parameters
    )


def _sampled(plan: Plan) -> NDArray[np.int64]:
    """A sample of the common cells, without what is none, as indices for :func:`truth_of`."""
    eligible = np.array([figure.kind not in NO_CELLS for figure in plan.bank])[plan.common.member]
    chosen = stream(plan.seed, Draw.SAMPLED_TRUTH).permutation(np.flatnonzero(eligible))[:_SAMPLED_NEGATIVES]
    return np.asarray(np.sort(chosen) + len(plan.unique))


def truth_of(plan: Plan, index: int) -> TruthCell:
    """What is known of one cell of a plan: first come the lesions and hard negatives, then the common cells."""
    unique = index < len(plan.unique)
    if unique:
        number, cell = index, plan.unique[index]
        figure, x, y, turn, hard = cell.figure, cell.x, cell.y, 0, cell.hard
    else:
        number, common = index - len(plan.unique), plan.common
        figure, turn, hard = plan.bank[common.member[number]], int(common.orientation[number]), False
        x, y = int(common.x[number]), int(common.y[number])

    def placed(points: NDArray[np.float64]) -> NDArray[np.float64]:
        return turned(points, turn) / plan.mpp + (x, y)

    outlines = tuple(placed(outline.polygon()) for outline in figure.outlines())
    corners, size = np.concatenate(outlines), (plan.region.width, plan.region.height)
    box = np.clip((corners.min(axis=0), corners.max(axis=0)), 0, size).ravel().tolist()
    level = defocus_levels(plan, unique=unique, only=np.array([number]))[0]
    return TruthCell(
        cell_id=f"{'u' if unique else 'c'}{number}",
        kind=figure.kind,
        label=figure.label,
        descriptions=figure.descriptions,
        x=float(x),
        y=float(y),
        box=Box(*box),
        outlines=outlines,
        nuclei=tuple(placed(nucleus.outline.polygon()) for nucleus in figure.nuclei()),
        hard=hard,
        defocus_um=float(np.hypot(figure.defocus_um, LEVELS_UM[level])),
        measures=measures(figure),
        observed=figure.observed or figure.descriptions,
    )
