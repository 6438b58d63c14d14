"""Small DICOM whole slide images (VL Whole Slide Microscopy, TILED_FULL) in transfer syntaxes that scanners use."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.encoders.native import _encode_frame  # RLE's frames have a header of their own
from pydicom.uid import UID, generate_uid
from slide_files import Image, shrink

__all__ = ["CODECS", "frame_places", "nested_dicom", "write_dicom_series"]

_CLASS = "1.2.840.10008.5.1.4.1.1.77.1.6"

CODECS: dict[str, tuple[str, str, Callable[[Image], bytes]]] = {
    "uncompressed": ("1.2.840.10008.1.2.1", "RGB", lambda tile: tile.tobytes()),
    "jpeg": (
        "1.2.840.10008.1.2.4.50",
        "YBR_FULL_422",
        lambda tile: imagecodecs.jpeg8_encode(tile, level=95, subsampling="422"),
    ),
    "jpeg 2000": (
        "1.2.840.10008.1.2.4.90",
        "YBR_RCT",
        lambda tile: imagecodecs.jpeg2k_encode(tile, level=0, codecformat="j2k", reversible=True, mct=True),
    ),
    "jpeg-ls": ("1.2.840.10008.1.2.4.80", "RGB", lambda tile: imagecodecs.jpegls_encode(tile)),
    "jpeg xl": ("1.2.840.10008.1.2.4.110", "RGB", lambda tile: imagecodecs.jpegxl_encode(tile, lossless=True)),
    "rle": ("1.2.840.10008.1.2.5", "RGB", lambda tile: _rle(tile)),
}
"""Transfer syntax, photometric interpretation and encoder by name."""


def _rle(tile: Image) -> bytes:
    from pydicom.pixels.encoders.base import EncodeRunner

    runner = EncodeRunner(UID("1.2.840.10008.1.2.5"))
    height, width = tile.shape[:2]
    options = {"rows": height, "columns": width, "samples_per_pixel": 3, "photometric_interpretation": "RGB"}
    runner.set_options(
        **options, bits_allocated=8, bits_stored=8, pixel_representation=0, planar_configuration=0, number_of_frames=1
    )
    return bytes(_encode_frame(tile.tobytes(), runner))


def write_dicom_series(
    folder: Path,
    planes: Sequence[Image],
    codec: str = "jpeg-ls",
    mpp: float = 0.25,
    downsamples: Sequence[int] = (1, 2),
    side: int = 256,
    label: bool = True,
    leave_out: str = "",
    identity: str = "",
) -> Path:
    """Write uint8 ``[h, w, 3]`` pictures of one slide, its focal planes from the deepest, as one file per level.

    Args:
        label: a label image too, black.
        leave_out: keyword of an attribute that is not stated.
        identity: what the UIDs are made of, so that they are the same each time; empty for new ones.

    Returns:
        The file of the finest level.
    """
    folder.mkdir(parents=True, exist_ok=True)
    keys = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
    uids = {key: _uid(identity, key) for key in keys}
    for number, downsample in enumerate(downsamples):
        one = {**uids, "SOPInstanceUID": _uid(identity, str(number))}
        arrays = [plane if downsample == 1 else shrink(plane, downsample) for plane in planes]
        _write(folder / f"level-{number}.dcm", arrays, codec, mpp * downsample, side, "VOLUME", one, leave_out)
    if label:
        black = [np.zeros((64, 64, 3), np.uint8)]
        one = {**uids, "SOPInstanceUID": _uid(identity, "label")}
        _write(folder / "label.dcm", black, codec, 60.0, 64, "LABEL", one, leave_out)
    return folder / "level-0.dcm"


def _uid(identity: str, part: str) -> str:
    return str(generate_uid(entropy_srcs=[identity, part] if identity else None))


def _write(
    path: Path, planes: list[Image], codec: str, mpp: float, side: int, kind: str, uids: dict[str, Any], leave_out: str
) -> None:
    syntax, photometric, encode = CODECS[codec]
    height, width = planes[0].shape[:2]
    frames = [encode(tile) for plane in planes for tile in _tiles(plane, side)]
    made = Dataset()
    values = {
        **uids,
        "SOPClassUID": _CLASS,
        "Modality": "SM",
        "ImageType": ["ORIGINAL", "PRIMARY", kind, "NONE"],
        "DimensionOrganizationType": "TILED_FULL",
        "SamplesPerPixel": 3,
        "PhotometricInterpretation": photometric,
        "PlanarConfiguration": 0,
        "NumberOfFrames": len(frames),
        "Rows": side,
        "Columns": side,
        "BitsAllocated": 8,
        "BitsStored": 8,
        "HighBit": 7,
        "PixelRepresentation": 0,
        "BurnedInAnnotation": "NO",
        "LossyImageCompression": "00",
        "ImagedVolumeWidth": width * mpp / 1000,
        "ImagedVolumeHeight": height * mpp / 1000,
        "ImagedVolumeDepth": 1.0,
        "TotalPixelMatrixColumns": width,
        "TotalPixelMatrixRows": height,
        "SpecimenLabelInImage": "NO",
        "FocusMethod": "AUTO",
        "ExtendedDepthOfField": "NO",
        "TotalPixelMatrixFocalPlanes": len(planes),
        "NumberOfOpticalPaths": 1,
        "ContainerIdentifier": "1",
    }
    for keyword, value in values.items():
        if keyword != leave_out:
            setattr(made, keyword, value)
    optical = Dataset()
    optical.OpticalPathIdentifier = "1"
    made.OpticalPathSequence = [optical]
    measures, shared = Dataset(), Dataset()
    measures.PixelSpacing = [f"{mpp / 1000:.9g}"] * 2
    measures.SliceThickness = measures.SpacingBetweenSlices = "0.001"
    shared.PixelMeasuresSequence = [measures]
    made.SharedFunctionalGroupsSequence = [shared]
    compressed = codec != "uncompressed"
    made.PixelData = encapsulate(frames) if compressed else b"".join(frames)
    made["PixelData"].VR = "OB"
    made["PixelData"].is_undefined_length = compressed
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = _CLASS, made.SOPInstanceUID
    meta.TransferSyntaxUID = UID(syntax)
    made.file_meta = meta
    made.save_as(path, enforce_file_format=True)


def _tiles(array: Image, side: int) -> list[Image]:
    """Whole tiles, rows first; those of the border are filled up with white."""
    height, width = array.shape[:2]
    filled = np.full((height + -height % side, width + -width % side, 3), 255, np.uint8)
    filled[:height, :width] = array
    return [
        np.ascontiguousarray(filled[y : y + side, x : x + side])
        for y in range(0, height, side)
        for x in range(0, width, side)
    ]


def frame_places(path: Path) -> list[tuple[int, int]]:
    """(offset, size) of every encapsulated frame in a file."""
    content = path.read_bytes()
    at = content.rindex(b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff") + 12
    places = []
    while content[at : at + 4] == b"\xfe\xff\x00\xe0":
        size = int.from_bytes(content[at + 4 : at + 8], "little")
        places.append((at + 8, size))
        at += 8 + size
    return places[1:]  # the first item is the table of offsets


def nested_dicom(content: bytes, depth: int) -> bytes:
    """Sequences in sequences, of no stated length, before the elements that name the slide."""
    at = content.index(struct.pack("<HH", 8, 8))  # ImageType
    begin = struct.pack("<HH2sHI", 8, 6, b"SQ", 0, 0xFFFFFFFF) + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    end = struct.pack("<HHI", 0xFFFE, 0xE00D, 0) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    return content[:at] + begin * depth + end * depth + content[at:]
