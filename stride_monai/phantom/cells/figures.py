"""What is drawn: parts (cells) with their outlines, nuclei and stain, grouped into figures.

A figure is the unit of placement and of truth. All its geometry is fixed here, before a pixel is drawn, so that truth
is read from the same numbers as the picture.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from stride_monai.phantom.cells.outlines import Outline
from stride_monai.phantom.cells.strands import Strand

__all__ = ["Crease", "Figure", "Halo", "Nucleus", "Part"]


@dataclass(frozen=True, slots=True)
class Crease:
    """A line of a surface: a thin wrinkle, or a pleat where a cell lies double.

    Attributes:
        x, y: middle, um.
        angle: direction, radians.
        length: half length, um.
        bend: curvature, 1/um.
        width: um; of a pleat how far it reaches from its crisp edge.
        strength: extra density, as a share of what it crosses; a furrow, which is paler, has a negative one.
        pleat: crisp on one side and fading on the other.
    """

    x: float
    y: float
    angle: float
    length: float
    bend: float
    width: float
    strength: float
    pleat: bool = False


@dataclass(frozen=True, slots=True)
class Nucleus:
    """One nucleus (or lobe).

    Attributes:
        density: mean haematoxylin density of its body; a normal intermediate nucleus has about 0.6.
        chromatin: contrast of the chromatin texture, as a share of the density.
        coarse: whether the chromatin is coarsely granular.
        membrane: extra density of the nuclear membrane.
        clearing: how much paler the middle is than the rim, 0-1.
        nucleoli: (x, y, radius) in um of each nucleolus; the chromatin around it is cleared.
        creases: ridges and furrows of a raisinoid nucleus.
        softness: width of its border in um; a smudged nucleus has a wide one.
    """

    outline: Outline
    density: float
    chromatin: float = 0.18
    coarse: bool = False
    membrane: float = 0.2
    clearing: float = 0.15
    nucleoli: tuple[tuple[float, float, float], ...] = ()
    creases: tuple[Crease, ...] = ()
    softness: float = 0.5


@dataclass(frozen=True, slots=True)
class Halo:
    """A cleared zone of the cytoplasm.

    Attributes:
        clearing: share of the cytoplasm's density that is missing inside, 0-1.
        rim: extra density just outside its border.
        sharpness: width of the border in um; a koilocyte's is sharp.
        distinct: whether an observer would call it a halo or vacuole; a faint pale zone is not.
    """

    outline: Outline
    clearing: float
    rim: float
    sharpness: float = 0.8
    distinct: bool = True


@dataclass(frozen=True, slots=True)
class Part:
    """One cell of a figure.

    Attributes:
        cell: cytoplasm outline; None for a naked nucleus.
        density: dye density of the cytoplasm.
        texture: contrast of its texture.
        edge: extra density of the cell border.
        bulge: how much thinner the periphery is than the middle, 0-1.
        grain: contrast of its fine granules.
        wrinkles: strength of surface creases.
        softness: width of the cell border in um.
        fray: standard deviation in um by which the drawn border wanders off the outline.
        accent: share of the figure's accent stain in the middle, 0-1; none at the periphery.
        accent_from: how far in from the border the accent begins, as a share of the way to the middle.
        granules: (x, y, radius) in um of dark granules.
        vacuoles: cleared outlines; a koilocyte's halo among them.
        creases: wrinkles and pleats.
        strands: threads that belong to it.
    """

    cell: Outline | None
    nuclei: tuple[Nucleus, ...] = ()
    density: float = 0.3
    texture: float = 0.15
    edge: float = 0.08
    bulge: float = 0.0
    grain: float = 0.0
    wrinkles: float = 0.0
    softness: float = 0.45
    fray: float = 0.12
    accent: float = 0.0
    accent_from: float = 0.4
    granules: tuple[tuple[float, float, float], ...] = ()
    vacuoles: tuple[Halo, ...] = ()
    creases: tuple[Crease, ...] = ()
    strands: tuple[Strand, ...] = ()


@dataclass(frozen=True, slots=True)
class Figure:
    """A cell, or a group that is judged as one.

    Attributes:
        kind: what it is, e.g. ``intermediate`` or ``agc_strip``; see :mod:`stride_monai.phantom.cells.kinds`.
        label: Bethesda label.
        descriptions: training texts of :mod:`stride_monai.bethesda` that were actually drawn.
        cytoplasm, nuclear: amounts of the five dyes per unit of density.
        accent: dyes of the second tint of the cytoplasm (two-tone cells); the cytoplasm's own when None.
        observed: the paper's texts that were drawn, where they differ from ``descriptions`` (glandular groups, whose
            texts are merged for training).
        defocus_um: standard deviation of blur from lying out of the focal plane.
    """

    kind: str
    label: str
    parts: tuple[Part, ...]
    cytoplasm: tuple[float, ...]
    nuclear: tuple[float, ...]
    descriptions: tuple[str, ...] = ()
    accent: tuple[float, ...] | None = None
    observed: tuple[str, ...] = ()
    defocus_um: float = 0.0
    reach_um: float = field(init=False)

    def __post_init__(self) -> None:
        reach = 1.0
        for shape in self.outlines():
            reach = max(reach, shape.reach + (shape.x**2 + shape.y**2) ** 0.5)
        object.__setattr__(self, "reach_um", reach)

    def outlines(self) -> tuple[Outline | Strand, ...]:
        """Every outermost outline: the cells, their strands, and the nuclei of parts without cytoplasm."""
        found: list[Outline | Strand] = []
        for part in self.parts:
            if part.cell is not None:
                found.append(part.cell)
            elif not part.strands:
                found += [nucleus.outline for nucleus in part.nuclei]
            found += part.strands
        return tuple(found)

    def nuclei(self) -> tuple[Nucleus, ...]:
        """The nuclei of all parts."""
        return tuple(nucleus for part in self.parts for nucleus in part.nuclei)

    def dyes(self) -> tuple[tuple[float, ...], ...]:
        """Dye amounts of the three planes of its sprite: cytoplasm, nuclear, accent."""
        return self.cytoplasm, self.nuclear, self.cytoplasm if self.accent is None else self.accent
