"""What an importer reads from a data set, in the data set's own words, and what it says of the data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from stride_monai.data.cells import Polygon
from stride_monai.data.importers.labels import MappedLabel
from stride_monai.data.importers.problems import Place, ProblemLog
from stride_monai.errors import ManifestError
from stride_monai.plugins import Plugins
from stride_monai.units import Box

__all__ = [
    *("IMPORTERS", "Format", "ImportOptions", "Listed", "Source", "SourceCell", "SourceImage", "SourceRegion", "Unit"),
    "load_format",
]

Unit = Literal["slide", "field", "cell"]
"""What one image is: a whole slide, a field of view with many cells, or the crop of one cell."""


@dataclass(frozen=True, slots=True)
class SourceImage:
    """One image of a data set.

    Attributes:
        slide_id: unique in the data set; becomes the slide id.
        path: the file, which need not exist.
        place: where the data set names it.
        mpp: um/px that the data set states for this image.
        patient, specimen, centre, split: as in :class:`~stride_monai.data.SlideRecord`.
        label: of the whole image, as the data set writes it; empty where there is none.
        size: width and height in px that the data set states; a file of another size is a problem.
        complete: every lesion of the image was marked, so that a place without a mark is negative; None where the
            format or the user says it for all images. False wins over both.
    """

    slide_id: str
    path: Path
    place: Place
    mpp: float | None = None
    patient: str | None = None
    specimen: str | None = None
    centre: str | None = None
    split: str | None = None
    label: str = ""
    size: tuple[float, float] | None = None
    complete: bool | None = None


@dataclass(frozen=True, slots=True)
class SourceCell:
    """One marked cell of a data set.

    Attributes:
        slide_id: of its image.
        label: as the data set writes it.
        place: where it stands.
        box: level-0 px; None for a point, or where the cell is the whole image.
        point: x, y in level-0 px; a box of physical size is laid around it.
        cell_id: unique in its image; empty to number it.
        fixed: the box has a fixed size about a centre, so it may reach over the image's border.
        outline, nucleus: borders in level-0 px.
    """

    slide_id: str
    label: str
    place: Place
    box: Box | None = None
    point: tuple[float, float] | None = None
    cell_id: str = ""
    fixed: bool = False
    outline: Polygon = ()
    nucleus: Polygon = ()


class Listed(NamedTuple):
    """An entry of a list of images: a name, a path, or a path of another machine; and where it stands."""

    name: str
    place: Place


class SourceRegion(NamedTuple):
    """A rectangle of an image in which every lesion was marked, level-0 px."""

    slide_id: str
    box: Box
    place: Place


@dataclass(slots=True)
class Source:
    """Everything that was read of a data set.

    Attributes:
        notes: sentences that the user must read.
        tally: what was changed or left out of a cell, as the end of a sentence -> for how many.
        unit: what one image is, where it is not what the format says.
        lists: lists of images by split, each with the folder that the images lie next to, if any.
    """

    images: list[SourceImage] = field(default_factory=list)
    cells: list[SourceCell] = field(default_factory=list)
    regions: list[SourceRegion] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    tally: Counter[str] = field(default_factory=Counter)
    lists: list[tuple[str, Sequence[Listed], Path | None]] = field(default_factory=list)
    unit: Unit | None = None
    _from_file: dict[str, SourceImage] = field(default_factory=dict, repr=False)

    def add_image(self, image: SourceImage) -> None:
        """Add an image whose annotations are one file.

        Raises:
            ManifestError: another file has it already; which of the two means it, nobody knows.
        """
        first = self._from_file.setdefault(image.slide_id, image)
        if first is not image:
            raise ManifestError(f"image '{image.slide_id}' is that of {first.place} too", "keep one of the two files")
        self.images.append(image)


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """What the user says of a data set; None or empty leaves it to the format.

    Attributes:
        mpp: um/px of every image.
        point_um: side of the box that is laid around a point, um.
        images: folder with the images, where they are not with the annotations.
        centre: hospital or scanner site of the whole data set.
        complete: whether every lesion of the images was marked.
        patient_from, slide_from: regular expressions whose first group, found in an image's path (from the data set's
            folder, with ``/``), is its patient or its slide.
        encoding: of text files that do not show or declare their own.
        values: further options by name, those that the format knows.
        labels_on: ``upright`` or ``stored``: on which of the two the labels of pictures with an orientation tag were
            drawn; empty to take it from the stated sizes, else upright.
    """

    mpp: float | None = None
    point_um: float | None = None
    images: Path | None = None
    centre: str | None = None
    complete: bool | None = None
    patient_from: str | None = None
    slide_from: str | None = None
    encoding: str = "utf-8-sig"
    values: Mapping[str, str] = field(default_factory=dict)
    labels_on: str = ""


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of data set, and how it is read.

    Attributes:
        name: as on the command line.
        title: of the data set or format.
        layout: one line on the files that are expected.
        unit: what one image is.
        labels: default map from labels, as the data set writes them, into the Bethesda vocabulary.
        read: reads it. Called with the folder or file, the options, and the log for what is broken.
        licence: notice that the user must see.
        citation: what to cite.
        preparation: ``conventional``, ``liquid-based`` or empty.
        mpp: um/px where the data set states one.
        point_um: side of the box around a point, um; None where cells are not points.
        complete: whether every lesion of the images was marked, unless the user says otherwise.
        options: further options, name -> what it does.
        bethesda: labels that are written in the Bethesda vocabulary need no entry in the map.
    """

    name: str
    title: str
    layout: str
    unit: Unit
    labels: Mapping[str, MappedLabel]
    read: Callable[[Path, ImportOptions, ProblemLog], Source]
    license: str = "not stated by this format: follow the licence of your data set"
    citation: str = ""
    preparation: str = ""
    mpp: float | None = None
    point_um: float | None = None
    complete: bool = False
    options: Mapping[str, str] = field(default_factory=dict)
    bethesda: bool = True


IMPORTERS: Plugins[Format] = Plugins(
    "importer",
    "stride_monai.importers",
    {
        name: f"stride_monai.data.importers.{name}:FORMAT"
        for name in (
            *("cric", "riva", "herlev", "sipakmed", "mendeley_lbc", "cervix93", "tianchi"),
            *("coco", "yolo", "voc", "geojson", "folder"),
        )
    },
    fits=lambda loaded: isinstance(loaded, Format),
)
"""An entry point names a :class:`Format`."""

load_format = IMPORTERS.load
