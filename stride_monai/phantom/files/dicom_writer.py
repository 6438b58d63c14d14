"""DICOM whole-slide images (VL Whole Slide Microscopy, TILED_FULL, JPEG baseline): one file per level in a folder.

DICOM PS3.3 A.32.8 and PS3.5. pydicom writes the data set; the frames are ours: they follow in a stream, as a slide does
not fit into memory, and their table of offsets, for which room was kept, is filled in at the end. Attributes that
readers need are there; those that only describe the specimen's preparation are not.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from stride_monai.errors import MissingExtraError, OutputError
from stride_monai.files import moved, moved_folder, temporary_folder
from stride_monai.phantom.files.products import SIGNATURE, is_dicom, is_slide
from stride_monai.phantom.files.slide_files import CANARY, label_picture, macro_picture, objective_of
from stride_monai.phantom.files.slide_writer import TILE, Progress, Pyramid, check_disk, encode_jpeg, estimated_bytes
from stride_monai.phantom.painting.painter import Scene

__all__ = ["write_dicom"]

_WSI_STORAGE = "1.2.840.10008.5.1.4.1.1.77.1.6"
_JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
_LARGEST_TABLE = 0xFFFFFFFF


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


def _of(**values: Any) -> Any:
    """A pydicom data set of attributes by keyword; a list of data sets is a sequence."""
    from pydicom.dataset import Dataset

    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def _data_set(image: _Image, scene: Scene, slide_id: str, patient: bool) -> Any:
    key = (slide_id, scene.plan.seed, scene.plan.centre.name, scene.width, scene.height, scene.z_um)
    made = _of(
        SOPClassUID=_WSI_STORAGE,
        SOPInstanceUID=_uid(*key, image.number),
        AcquisitionDateTime="20000101000000",
        AccessionNumber="",
        Modality="SM",
        Manufacturer=SIGNATURE,
        ReferringPhysicianName="",
        ManufacturerModelName="synthetic",
        PatientName=CANARY[: CANARY.index(" 1970")].replace(", ", "^") if patient else "SYNTHETIC",
        PatientID="4711" if patient else "synthetic",
        PatientBirthDate="19700101" if patient else "",
        PatientSex="O",
        PatientComments=CANARY if patient else "",
        StudyInstanceUID=_uid(*key, "study"),
        SeriesInstanceUID=_uid(*key, "series"),
        StudyID=slide_id[:16],
        SeriesNumber=1,
        InstanceNumber=image.number,
        FrameOfReferenceUID=_uid(*key, "frame"),
        ContainerIdentifier=slide_id,
        **_picture(image, scene.plan.mpp),
    )
    for name in ("Study", "Content"):
        setattr(made, f"{name}Date", "20000101")
        setattr(made, f"{name}Time", "000000")
    return made


def _picture(image: _Image, mpp: float) -> dict[str, Any]:
    """What is said of the pixels, by keyword."""
    reduced = image.kind == "VOLUME" and image.number > 1
    label = "NO" if image.kind == "VOLUME" else "YES"
    light = _of(CodeValue="111744", CodingSchemeDesignator="DCM", CodeMeaning="Brightfield illumination")
    power = str(objective_of(mpp))
    path = _of(IlluminationTypeCodeSequence=[light], OpticalPathIdentifier="1", ObjectiveLensPower=power)
    spacing = [f"{value:.9g}" for value in (image.mm[1], image.mm[0])]
    measures = _of(PixelMeasuresSequence=[_of(SliceThickness="0.001", PixelSpacing=spacing)])
    return {
        "ImageType": ["DERIVED" if reduced else "ORIGINAL", "PRIMARY", image.kind, "RESAMPLED" if reduced else "NONE"],
        "DimensionOrganizationType": "TILED_FULL",
        "SamplesPerPixel": 3,
        "PhotometricInterpretation": "YBR_FULL_422",
        "PlanarConfiguration": 0,
        "NumberOfFrames": image.frames,
        "Rows": image.tile[1],
        "Columns": image.tile[0],
        "BitsAllocated": 8,
        "BitsStored": 8,
        "HighBit": 7,
        "PixelRepresentation": 0,
        "BurnedInAnnotation": label,
        "LossyImageCompression": "01",
        "LossyImageCompressionRatio": "10",
        "LossyImageCompressionMethod": "ISO_10918_1",
        "ImagedVolumeWidth": image.width * image.mm[0],
        "ImagedVolumeHeight": image.height * image.mm[1],
        "TotalPixelMatrixColumns": image.width,
        "TotalPixelMatrixRows": image.height,
        "SpecimenLabelInImage": label,
        "FocusMethod": "AUTO",
        "ExtendedDepthOfField": "NO",
        "OpticalPathSequence": [path],
        "TotalPixelMatrixFocalPlanes": 1,
        "NumberOfOpticalPaths": 1,
        "SharedFunctionalGroupsSequence": [measures],
    }


def _write_frames(stream: BinaryIO, data_set: Any, frames: Iterable[bytes], number: int, table: bool) -> None:
    """A DICOM file of a data set and so many frames.

    Args:
        table: say where the frames begin, in 32 bits each.
    """
    from pydicom.dataset import FileMetaDataset
    from pydicom.filewriter import dcmwrite

    data_set.preamble, meta = b"\0" * 128, FileMetaDataset()
    meta.FileMetaInformationGroupLength, meta.FileMetaInformationVersion = 0, b"\0\1"
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = _WSI_STORAGE, data_set.SOPInstanceUID
    meta.TransferSyntaxUID, meta.ImplementationClassUID = _JPEG_BASELINE, _uid(SIGNATURE)
    data_set.file_meta = meta
    dcmwrite(stream, data_set)
    stream.write(struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF))
    room = 4 * number if table else 0
    stream.write(struct.pack("<HHI", 0xFFFE, 0xE000, room) + b"\0" * room)
    first, offsets = stream.tell(), []
    for frame in frames:
        offsets.append(stream.tell() - first)
        even = frame + b"\0" * (len(frame) % 2)
        stream.write(struct.pack("<HHI", 0xFFFE, 0xE000, len(even)) + even)
    stream.write(struct.pack("<HHI", 0xFFFE, 0xE0DD, 0))
    assert len(offsets) == number
    if table:
        stream.seek(first - room)
        stream.write(struct.pack(f"<{number}I", *offsets))


def write_dicom(folder: Path, scene: Scene, progress: Progress | None = None, *, patient_label: bool = True) -> None:
    """Render a scene into a folder of DICOM files, ``level-0.dcm`` and so on; complete or absent.

    Any of the files opens the whole slide in readers that gather a series from its folder, as OpenSlide does.

    Args:
        folder: a synthetic slide that stands there is replaced.
        progress: called with (rows of tiles done, rows in all).
        patient_label: plant a patient, and write ``label.dcm`` and ``overview.dcm`` that name it.

    Raises:
        MissingExtraError: pydicom is not installed.
        OutputError: the folder cannot be written to, holds anything but such a slide, or the disk is full.
    """
    if find_spec("pydicom") is None:
        raise MissingExtraError("pydicom", "dicom", "a slide as DICOM")
    check_disk(folder, scene)
    pyramid = Pyramid(scene, progress, subsampling="422")
    slide_id, mpp = folder.name.split(".")[0], scene.plan.mpp / 1000
    table = estimated_bytes(scene) < _LARGEST_TABLE
    with _replacing_folder(folder) as temporary:

        def write(name: str, image: _Image, frames: Iterable[bytes]) -> None:
            with (temporary / f"{name}.dcm").open("wb") as stream:
                data_set = _data_set(image, scene, slide_id, patient_label)
                _write_frames(stream, data_set, frames, image.frames, table)

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
