"""What is drawn: parts (cells) with their outlines, nuclei and stain, grouped into figures.

A figure is the unit of placement and of truth. All its geometry is fixed here, before a pixel is drawn, so that truth
is read from the same numbers as the picture.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from stride_monai.phantom.outlines import Outline

__all__ = ["Figure", "Halo", "Nucleus", "Part"]


@dataclass(frozen=True, slots=True)
class Nucleus:
    """One nucleus (or lobe).

    Attributes:
        density: haematoxylin density of its body; a normal intermediate nucleus has about 0.6.
        chromatin: contrast of the chromatin texture, as a share of the density.
        coarse: whether the chromatin is coarsely granular.
        membrane: extra density of the nuclear membrane.
        clearing: how much paler the middle is than the rim, 0-1.
        nucleoli: (x, y, radius) in um of each nucleolus.
        wrinkled: raisin-like creases.
    """

    outline: Outline
    density: float
    chromatin: float = 0.18
    coarse: bool = False
    membrane: float = 0.2
    clearing: float = 0.15
    nucleoli: tuple[tuple[float, float, float], ...] = ()
    wrinkled: bool = False


@dataclass(frozen=True, slots=True)
class Halo:
    """A cleared zone of the cytoplasm.

    Attributes:
        clearing: share of the cytoplasm's density that is missing inside, 0-1.
        rim: extra density just outside its border.
        sharpness: width of the border in um; a koilocyte's is sharp.
    """

    outline: Outline
    clearing: float
    rim: float
    sharpness: float = 0.8


@dataclass(frozen=True, slots=True)
class Part:
    """One cell of a figure.

    Attributes:
        cell: cytoplasm outline; None for a naked nucleus.
        density: dye density of the cytoplasm.
        texture: contrast of its texture.
        edge: extra density of the cell border.
        bulge: extra density towards the nucleus (thick cells), relative.
        wrinkles: strength of surface creases.
        granules: (x, y, radius) in um of dark granules.
        vacuoles: cleared outlines; a koilocyte's halo among them.
    """

    cell: Outline | None
    nuclei: tuple[Nucleus, ...] = ()
    density: float = 0.3
    texture: float = 0.15
    edge: float = 0.08
    bulge: float = 0.0
    wrinkles: float = 0.0
    granules: tuple[tuple[float, float, float], ...] = ()
    vacuoles: tuple[Halo, ...] = ()


@dataclass(frozen=True, slots=True)
class Figure:
    """A cell, or a group that is judged as one.

    Attributes:
        kind: what it is, e.g. ``intermediate`` or ``agc_strip``; see :mod:`stride_monai.phantom.kinds`.
        label: Bethesda label.
        descriptions: texts of :mod:`stride_monai.bethesda` that were actually drawn.
        cytoplasm, nuclear: amounts of the five dyes per unit of density.
        defocus_um: standard deviation of blur from lying out of the focal plane.
    """

    kind: str
    label: str
    parts: tuple[Part, ...]
    cytoplasm: tuple[float, ...]
    nuclear: tuple[float, ...]
    descriptions: tuple[str, ...] = ()
    defocus_um: float = 0.0
    reach_um: float = field(init=False)

    def __post_init__(self) -> None:
        reach = 1.0
        for outline in self.outlines():
            reach = max(reach, outline.reach + (outline.x**2 + outline.y**2) ** 0.5)
        object.__setattr__(self, "reach_um", reach)

    def outlines(self) -> tuple[Outline, ...]:
        """Every outermost outline: the cells, and the nuclei of parts without cytoplasm."""
        found: list[Outline] = []
        for part in self.parts:
            found += [part.cell] if part.cell is not None else [nucleus.outline for nucleus in part.nuclei]
        return tuple(found)

    def nuclei(self) -> tuple[Nucleus, ...]:
        """The nuclei of all parts."""
        return tuple(nucleus for part in self.parts for nucleus in part.nuclei)
