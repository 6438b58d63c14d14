"""DICOM whole-slide images (VL Whole Slide Microscopy, TILED_FULL, JPEG baseline): one file per level in a folder.

DICOM PS3.3 A.32.8 and PS3.5. The data set is written element by element in explicit VR little endian; frames follow in
a stream, and their table of offsets, for which room was kept, is filled in at the end. Attributes that readers need are
there; those that only describe the specimen's preparation are not.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeAlias

import numpy as np

from stride_monai.errors import OutputError
from stride_monai.files import moved, moved_folder, temporary_folder
from stride_monai.phantom.files.products import is_dicom, is_slide
from stride_monai.phantom.files.slide_files import CANARY, label_picture, macro_picture, objective_of
from stride_monai.phantom.files.slide_writer import TILE, Progress, Pyramid, check_disk, encode_jpeg, estimated_bytes
from stride_monai.phantom.painting.painter import Scene

__all__ = ["write_dicom"]

_WSI_STORAGE = "1.2.840.10008.5.1.4.1.1.77.1.6"
_JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
_LARGEST_TABLE = 0xFFFFFFFF
_LONG = {"OB", "SQ"}
_ZERO_PADDED = {"UI", "OB"}

Element: TypeAlias = tuple[int, str, "str | int | float | bytes | Sequence[int] | list[list[Element]]"]
"""Tag (group and element in one number), value representation, value; a sequence's is a list of items."""


def _encoded(elements: Iterable[Element]) -> bytes:
    """Elements in the order of their tags."""
    return b"".join(_element(*element) for element in sorted(elements, key=lambda element: element[0]))


def _element(tag: int, vr: str, value: object) -> bytes:
    content = _content(vr, value)
    if len(content) % 2:
        content += b"\0" if vr in _ZERO_PADDED else b" "
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr.encode()
    if vr in _LONG:
        return head + struct.pack("<HI", 0, len(content)) + content
    return head + struct.pack("<H", len(content)) + content


def _content(vr: str, value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    if vr == "SQ":
        assert isinstance(value, list)
        items = [_encoded(item) for item in value]
        return b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(item)) + item for item in items)
    if vr in {"US", "UL", "FL"}:
        numbers = value if isinstance(value, Sequence) else (value,)
        return struct.pack(f"<{len(numbers)}{ {'US': 'H', 'UL': 'I', 'FL': 'f'}[vr] }", *numbers)
    return str(value).encode()


def _uid(*parts: object) -> str:
    """A UID under the arc for UUIDs, the same for the same parts."""
    digest = hashlib.sha256("|".join(map(str, parts)).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


@dataclass(frozen=True, slots=True)
class _Image:
    """One file of the series.

    Attributes:
        number: its place in the series.
        kind: last but one word of its image type: VOLUME, LABEL or OVERVIEW.
        tile: (width, height) of a frame, px.
        mm: (x, y) mm per px.
    """

    number: int
    kind: str
    width: int
    height: int
    tile: tuple[int, int]
    mm: tuple[float, float]

    @property
    def frames(self) -> int:
        return -(-self.width // self.tile[0]) * -(-self.height // self.tile[1])


def _data_set(image: _Image, scene: Scene, slide_id: str, patient: bool) -> list[Element]:
    plan = scene.plan
    key = (slide_id, plan.seed, plan.centre.name, scene.width, scene.height, scene.z_um)
    reduced = image.kind == "VOLUME" and image.number > 1
    name = CANARY[: CANARY.index(" 1970")].replace(", ", "^") if patient else "SYNTHETIC"
    spacing = "\\".join(f"{value:.9g}" for value in (image.mm[1], image.mm[0]))
    code: list[Element] = [
        (0x00080100, "SH", "111744"),
        (0x00080102, "SH", "DCM"),
        (0x00080104, "LO", "Brightfield illumination"),
    ]
    optical_path: list[Element] = [
        (0x00220016, "SQ", [code]),
        (0x00480106, "SH", "1"),
        (0x00480112, "DS", objective_of(plan.mpp)),
    ]
    measures: list[Element] = [(0x00180050, "DS", "0.001"), (0x00280030, "DS", spacing)]
    shared: list[Element] = [(0x00289110, "SQ", [measures])]
    return [
        (0x00080008, "CS", f"{'DERIVED' if reduced else 'ORIGINAL'}\\PRIMARY\\{image.kind}\\{_resampled(reduced)}"),
        (0x00080016, "UI", _WSI_STORAGE),
        (0x00080018, "UI", _uid(*key, image.number)),
        (0x00080020, "DA", "20000101"),
        (0x00080023, "DA", "20000101"),
        (0x00080030, "TM", "000000"),
        (0x00080033, "TM", "000000"),
        (0x0008002A, "DT", "20000101000000"),
        (0x00080050, "SH", ""),
        (0x00080060, "CS", "SM"),
        (0x00080070, "LO", "stride-monai phantom"),
        (0x00080090, "PN", ""),
        (0x00081090, "LO", "synthetic"),
        (0x00100010, "PN", name),
        (0x00100020, "LO", "4711" if patient else "synthetic"),
        (0x00100030, "DA", "19700101" if patient else ""),
        (0x00100040, "CS", "O"),
        (0x00104000, "LT", CANARY if patient else ""),
        (0x0020000D, "UI", _uid(*key, "study")),
        (0x0020000E, "UI", _uid(*key, "series")),
        (0x00200010, "SH", slide_id[:16]),
        (0x00200011, "IS", 1),
        (0x00200013, "IS", image.number),
        (0x00200052, "UI", _uid(*key, "frame")),
        (0x00209311, "CS", "TILED_FULL"),
        (0x00280002, "US", 3),
        (0x00280004, "CS", "YBR_FULL_422"),
        (0x00280006, "US", 0),
        (0x00280008, "IS", image.frames),
        (0x00280010, "US", image.tile[1]),
        (0x00280011, "US", image.tile[0]),
        (0x00280100, "US", 8),
        (0x00280101, "US", 8),
        (0x00280102, "US", 7),
        (0x00280103, "US", 0),
        (0x00280301, "CS", "NO" if image.kind == "VOLUME" else "YES"),
        (0x00282110, "CS", "01"),
        (0x00282112, "DS", 10),
        (0x00282114, "CS", "ISO_10918_1"),
        (0x00400512, "LO", slide_id),
        (0x00480001, "FL", image.width * image.mm[0]),
        (0x00480002, "FL", image.height * image.mm[1]),
        (0x00480006, "UL", image.width),
        (0x00480007, "UL", image.height),
        (0x00480010, "CS", "NO" if image.kind == "VOLUME" else "YES"),
        (0x00480011, "CS", "AUTO"),
        (0x00480012, "CS", "NO"),
        (0x00480105, "SQ", [optical_path]),
        (0x00480303, "UL", 1),
        (0x00480302, "UL", 1),
        (0x52009229, "SQ", [shared]),
    ]


def _resampled(reduced: bool) -> str:
    return "RESAMPLED" if reduced else "NONE"


class _FrameFile:
    """A DICOM file that frames are appended to."""

    def __init__(self, stream: BinaryIO, elements: list[Element], frames: int, table: bool) -> None:
        self._stream, self._frames, self._table = stream, frames, table
        uid = next(value for tag, _, value in elements if tag == 0x00080018)
        meta = _encoded(
            [
                (0x00020001, "OB", b"\0\1"),
                (0x00020002, "UI", _WSI_STORAGE),
                (0x00020003, "UI", uid),
                (0x00020010, "UI", _JPEG_BASELINE),
                (0x00020012, "UI", _uid("stride-monai phantom")),
            ]
        )
        stream.write(b"\0" * 128 + b"DICM" + _element(0x00020000, "UL", len(meta)) + meta)
        stream.write(_encoded(elements))
        stream.write(struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF))
        stream.write(struct.pack("<HHI", 0xFFFE, 0xE000, 4 * frames if table else 0))
        self._table_at = stream.tell()
        stream.write(b"\0" * (4 * frames if table else 0))
        self._first = stream.tell()
        self._offsets: list[int] = []

    def append(self, frame: bytes) -> None:
        self._offsets.append(self._stream.tell() - self._first)
        frame += b"\0" * (len(frame) % 2)
        self._stream.write(struct.pack("<HHI", 0xFFFE, 0xE000, len(frame)) + frame)

    def finish(self) -> None:
        self._stream.write(struct.pack("<HHI", 0xFFFE, 0xE0DD, 0))
        assert len(self._offsets) == self._frames
        if self._table:
            self._stream.seek(self._table_at)
            self._stream.write(struct.pack(f"<{self._frames}I", *self._offsets))


def write_dicom(folder: Path, scene: Scene, progress: Progress | None = None, *, patient_label: bool = True) -> None:
    """Render a scene into a folder of DICOM files, ``level-0.dcm`` and so on; complete or absent.

    Any of the files opens the whole slide in readers that gather a series from its folder, as OpenSlide does.

    Args:
        folder: a synthetic slide that stands there is replaced.
        progress: called with (rows of tiles done, rows in all).
        patient_label: plant a patient, and write ``label.dcm`` and ``overview.dcm`` that name it.

    Raises:
        OutputError: the folder cannot be written to, holds anything but such a slide, or the disk is full.
    """
    check_disk(folder, scene)
    pyramid = Pyramid(scene, progress, subsampling="422")
    slide_id, mpp = folder.name.split(".")[0], scene.plan.mpp / 1000
    table = estimated_bytes(scene) < _LARGEST_TABLE
    with _replacing_folder(folder) as temporary:

        def write(name: str, image: _Image, frames: Iterable[bytes]) -> None:
            with (temporary / f"{name}.dcm").open("wb") as stream:
                elements = _data_set(image, scene, slide_id, patient_label)
                file = _FrameFile(stream, elements, image.frames, table)
                for frame in frames:
                    file.append(frame)
                file.finish()

        tile = (TILE, TILE)
        write("level-0", _Image(1, "VOLUME", scene.width, scene.height, tile, (mpp, mpp)), pyramid.encoded_tiles())
        for number, level in enumerate(pyramid.levels, 1):
            mm = (mpp * scene.width / level.width, mpp * scene.height / level.height)
            write(f"level-{number}", _Image(number + 1, "VOLUME", level.width, level.height, tile, mm), level.tiles)
        if patient_label:
            macro = macro_picture(slide_id, pyramid.overview(), scene.plan.mpp, scene.width)
            for number, (name, picture) in enumerate((("label", label_picture(slide_id)), ("overview", macro)), 20):
                height, width = picture.shape[:2]
                image = _Image(number, name.upper(), width, height, (width, height), (0.06, 0.06))
                write(name, image, [encode_jpeg(np.ascontiguousarray(picture), 90, "422")])


@contextmanager
def _replacing_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder beside ``folder``, whose files come to be in that when the block ends without an error."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(folder) and not is_slide(folder):
            raise OutputError(f"{folder} holds more than DICOM files of a synthetic slide", "choose another folder")
        with temporary_folder(folder.parent) as temporary:
            yield temporary
            _take_place(temporary, folder)
    except OSError as error:
        raise OutputError(f"cannot write {folder} ({error.strerror or error})", "check the disk space") from error


def _take_place(made: Path, folder: Path) -> None:
    """Files of ours that are there go first, lest levels of two slides be mixed."""
    if not folder.exists():
        moved_folder(made, folder)
        return
    for file in folder.iterdir():
        if is_dicom(file):
            file.unlink()
    for file in sorted(made.iterdir(), reverse=True):
        moved(file, folder / file.name)
