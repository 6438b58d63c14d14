"""Bag files: the ranked cells of one slide with their crops, as one memory-mapped Arrow IPC file.

One row per cell, best first: ``rank`` (from 1), ``score``, ``x0 y0 x1 y1`` (level-0 px), ``crop_x crop_y`` (centre of
the crop, level-0 px), ``jpeg``, ``cell_label``, ``descriptions``; and ``rerank_score`` where a classifier re-ranked
what the detector proposed. The header stands in the schema's metadata, one JSON value per key. A file is complete or
absent; a row is read without touching the others.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stride_monai import __version__
from stride_monai.bethesda import CELL_CLASSES, SLIDE_CLASSES
from stride_monai.data.bags.folder import BAG_SUFFIX
from stride_monai.errors import BagError
from stride_monai.files import replacing
from stride_monai.findings import Quality
from stride_monai.units import Box

__all__ = [
    "JPEG_QUALITY",
    "SCHEMA_VERSION",
    "BagCell",
    "BagFile",
    "BagHeader",
    "chosen_by",
    "decode_crop",
    "encode_crop",
    "is_bag",
    "write_bag",
]

SCHEMA_VERSION = "1.4"
JPEG_QUALITY = 90

_REMEDY = "screen the slide again to make a new bag"
_SCHEMA = pa.schema(
    [
        pa.field("rank", pa.int32(), nullable=False),
        pa.field("score", pa.float64(), nullable=False),
        *(pa.field(name, pa.float64(), nullable=False) for name in ("x0", "y0", "x1", "y1", "crop_x", "crop_y")),
        pa.field("jpeg", pa.binary(), nullable=False),
        pa.field("cell_label", pa.string()),
        pa.field("descriptions", pa.list_(pa.string()), nullable=False),
    ]
)
_RERANKED = _SCHEMA.append(pa.field("rerank_score", pa.float64(), nullable=False))


def chosen_by(detector: str, reranker: str = "", candidates: int = 0, rule: str = "") -> str:
    """Names what chose the cells of a bag: equal where it was the same detector with the same re-ranking, or none.

    A threshold on the slide score holds for the cells of one such choice.

    Args:
        detector: SHA-256 of the detector's weights; empty where no detector chose.
        reranker: SHA-256 of the weights of the cell classifier that re-ranked; empty for none.
        candidates: the most cells that the detector proposed to it.
        rule: what it ranked them by; empty for the lesion probability alone, the rule before there was a name for it.

    Returns:
        ``detector`` itself without re-ranking, else the SHA-256 of all.
    """
    parts = [detector, reranker, str(candidates), *([rule] if rule else [])]
    return hashlib.sha256(" ".join(parts).encode()).hexdigest() if reranker else detector


@dataclass(frozen=True, slots=True)
class BagHeader:
    """What a bag was made from.

    Attributes:
        slide_id: as in the findings.
        slide_mpp: um/px of the slide's level 0 that was used.
        crop_mpp: um/px of the crops.
        crop_px: side of the square crops in px.
        top_k: K, the most cells that the detector was asked to keep; a bag may hold fewer.
        detector_sha256: of the detector's weights file; empty where cells were not detected.
        slide_class: one of :data:`~stride_monai.bethesda.SLIDE_CLASSES`, None if not labelled.
        config_hash: of the configuration that made the bag.
        package_version: of stride_monai that wrote the bag.
        slide_fingerprint: of the slide's file (:func:`stride_monai.files.fingerprint`); empty where not known.
        reranker_sha256: of the weights of the cell classifier that re-ranked the detector's cells; empty for none.
        candidates: the most cells that the detector was asked to propose to it; 0 for none.
        rerank_rule: what the cells were re-ranked by, see :func:`chosen_by`.
        quality: of the slide, as in the findings; None where it is not known.
        unsatisfactory: why the slide is unsatisfactory, so that its bag is called negative as little as the slide
            itself; empty where it is not, or where that is not known.
    """

    slide_id: str
    slide_mpp: float
    crop_mpp: float
    crop_px: int
    top_k: int
    detector_sha256: str = ""
    slide_class: str | None = None
    config_hash: str = ""
    package_version: str = __version__
    slide_fingerprint: str = ""
    reranker_sha256: str = ""
    candidates: int = 0
    rerank_rule: str = ""
    quality: Quality | None = None
    unsatisfactory: str = ""

    def __post_init__(self) -> None:
        sizes = (self.slide_mpp, self.crop_mpp, self.crop_px, self.top_k)
        if not all(0 < size < float("inf") for size in sizes):
            raise BagError(f"bag of {self.slide_id}: um/px, crop size and top K must be positive", _REMEDY)
        if self.slide_class is not None and self.slide_class not in SLIDE_CLASSES:
            raise BagError(f"bag of {self.slide_id}: unknown slide class '{self.slide_class}'", _REMEDY)
        if bool(self.reranker_sha256) != (self.candidates >= self.top_k):
            raise BagError(
                f"bag of {self.slide_id}: {self.candidates} candidates for {self.top_k} cells",
                "a re-ranked bag names its classifier and at least K candidates, any other neither",
            )

    @property
    def chosen_by(self) -> str:
        """See :func:`chosen_by`."""
        return chosen_by(self.detector_sha256, self.reranker_sha256, self.candidates, self.rerank_rule)

    @property
    def fov_um(self) -> float:
        """Side of the field of view of a crop in um."""
        return self.crop_px * self.crop_mpp


@dataclass(frozen=True, slots=True)
class BagCell:
    """One row of a bag.

    Attributes:
        score: detector probability, 0-1.
        box: level-0 px.
        jpeg: the crop, ``crop_px`` square, as JPEG bytes (:func:`encode_crop`).
        cell_class: one of :data:`~stride_monai.bethesda.CELL_CLASSES` where a person or the truth says so.
        descriptions: diagnostic descriptions, likewise.
        crop_center: centre of the crop in level-0 px; None for the centre of the box.
        rerank_score: by which the cells were re-ranked, 0-1; None without.
    """

    score: float
    box: Box
    jpeg: bytes
    cell_class: str | None = None
    descriptions: tuple[str, ...] = ()
    crop_center: tuple[float, float] | None = None
    rerank_score: float | None = None

    def __post_init__(self) -> None:
        numbers = (self.score, *self.box, self.rerank_score or 0.0)
        if not np.all(np.isfinite(numbers)):
            raise BagError(f"score {self.score}, {self.rerank_score} or box {tuple(self.box)} is non-finite", _REMEDY)
        if self.cell_class is not None and self.cell_class not in CELL_CLASSES:
            raise BagError(f"unknown cell class '{self.cell_class}'", f"use one of {', '.join(CELL_CLASSES)}")


def encode_crop(crop: NDArray[np.uint8]) -> bytes:
    """JPEG (quality 90, 4:4:4: the chromatin's colour is kept at full resolution) of a uint8 RGB ``[H, W, 3]`` crop."""
    if crop.dtype != np.uint8 or crop.ndim != 3 or crop.shape[2] != 3:
        raise BagError(f"a crop is {crop.dtype} {crop.shape}", "give uint8 [H, W, 3]")
    return bytes(imagecodecs.jpeg8_encode(np.ascontiguousarray(crop), level=JPEG_QUALITY, subsampling="444"))


def decode_crop(jpeg: Any, out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
    """uint8 RGB ``[H, W, 3]`` of a JPEG in any object with a buffer.

    Args:
        jpeg: the bytes.
        out: contiguous uint8 ``[H, W, 3]`` to decode into, without another copy.

    Raises:
        BagError: the bytes are no JPEG or are damaged, or the picture is not of ``out``'s size.
    """
    try:
        image: NDArray[np.uint8] = imagecodecs.jpeg8_decode(jpeg, out=out)
    except (RuntimeError, ValueError) as error:  # imagecodecs' Jpeg8Error is a RuntimeError
        raise BagError("a crop is no JPEG or is damaged", _REMEDY) from error
    if image.ndim != 3 or image.shape[2] != 3:
        raise BagError(f"a crop has shape {image.shape} instead of RGB", _REMEDY)
    return image


def write_bag(path: Path | str, header: BagHeader, cells: Sequence[BagCell]) -> None:
    """Write a bag; what stood at ``path`` before is replaced only when the new bag is complete.

    Args:
        path: ends in :data:`~stride_monai.data.BAG_SUFFIX`.
        cells: best first. The rank of a cell is its place here; none is re-ordered, so that ranks agree with those of
            the findings. With ``reranker_sha256`` in the header every cell has a rerank score, else none has.

    Raises:
        BagError: the suffix is another, cells are not ranked or some lack a score, or there are more of them than K.
        OutputError: the file cannot be written.
    """
    path = Path(path)
    if not path.name.endswith(BAG_SUFFIX):
        raise BagError(f"{path.absolute()} is no name for a bag", f"end it in {BAG_SUFFIX}")
    reranked = bool(header.reranker_sha256)
    if any((cell.rerank_score is not None) != reranked for cell in cells):
        raise BagError(f"{path.absolute()}: rerank scores and the header do not fit", "score all cells or none")
    scores = [(cell.rerank_score or 0.0, cell.score) for cell in cells]
    if any(later > earlier for earlier, later in pairwise(scores)):
        raise BagError(f"{path.absolute()}: cells are not ranked", "give them by falling score")
    if len(cells) > header.top_k:
        raise BagError(f"{path.absolute()}: {len(cells)} cells, but K is {header.top_k}", "keep the K best")
    facts = {**dataclasses.asdict(header), "fov_um": header.fov_um, "schema_version": SCHEMA_VERSION}
    columns = _columns(cells) | ({"rerank_score": [cell.rerank_score for cell in cells]} if reranked else {})
    metadata = {key: json.dumps(value) for key, value in sorted(facts.items())}
    schema = (_RERANKED if reranked else _SCHEMA).with_metadata(metadata)
    batch = pa.record_batch(columns, schema=schema)
    with replacing(path) as temporary, pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, schema) as out:
        out.write_batch(batch)


def is_bag(path: Path) -> bool:
    """Whether a file is, or was before it was cut short, a bag: by its beginning alone."""
    try:
        with path.open("rb") as stream:
            head = stream.read(1 << 16)
    except OSError:
        return False
    return head.startswith(b"ARROW1") and b"slide_fingerprint" in head and b"detector_sha256" in head


def _columns(cells: Sequence[BagCell]) -> dict[str, list[Any]]:
    centres = [cell.crop_center or cell.box.center for cell in cells]
    return {
        "rank": list(range(1, len(cells) + 1)),
        "score": [float(cell.score) for cell in cells],
        **{name: [float(cell.box[k]) for cell in cells] for k, name in enumerate(("x0", "y0", "x1", "y1"))},
        "crop_x": [float(x) for x, _ in centres],
        "crop_y": [float(y) for _, y in centres],
        "jpeg": [cell.jpeg for cell in cells],
        "cell_label": [cell.cell_class for cell in cells],
        "descriptions": [list(cell.descriptions) for cell in cells],
    }


class BagFile:
    """A bag, memory-mapped. Can be pickled (it is opened again) and read from several threads.

    Args:
        path: a file that :func:`write_bag` wrote.

    Attributes:
        header: what the bag was made from.
        boxes: float64 ``[n, 4]`` in level-0 px, best first.
        centres: float64 ``[n, 2]``, crop centres (x, y) in level-0 px.
        scores: float64 ``[n]``, the detector's, 0-1; falling unless the bag was re-ranked.
        rerank_scores: float64 ``[n]``, 0-1, falling; None where the bag was not re-ranked.

    Raises:
        BagError: the file is missing, damaged, or of another schema version.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        try:
            # The mapping outlives the file's handle: thousands of bags can be open at once.
            with pa.memory_map(str(self.path), "r") as source:
                table = pa.ipc.open_file(source).get_batch(0)  # a view of the mapped file
            table.validate(full=True)
        except FileNotFoundError as error:
            raise BagError(f"{self.path.absolute()} does not exist", _REMEDY) from error
        except (pa.ArrowException, OSError, ValueError) as error:
            raise BagError(f"{self.path.absolute()} is no bag or is damaged", _REMEDY) from error
        self.header = self._header(table.schema)
        reranked = bool(self.header.reranker_sha256)
        if not table.schema.remove_metadata().equals(_RERANKED if reranked else _SCHEMA):
            raise BagError(f"{self.path.absolute()} has other columns than a bag", _REMEDY)
        self._table = table
        _, offsets, content = table["jpeg"].buffers()
        self._offsets = np.frombuffer(offsets, dtype=np.int32)[: len(self) + 1] if len(self) else np.zeros(1, np.int32)
        self._content = memoryview(content if content is not None else b"").cast("B")
        self.scores: NDArray[np.float64] = table["score"].to_numpy()
        self.boxes: NDArray[np.float64] = self._stack("x0", "y0", "x1", "y1")
        self.centres: NDArray[np.float64] = self._stack("crop_x", "crop_y")
        self.rerank_scores: NDArray[np.float64] | None = table["rerank_score"].to_numpy() if reranked else None
        ranks = np.arange(1, len(self) + 1)
        ranking = self.scores if self.rerank_scores is None else self.rerank_scores
        if not np.array_equal(table["rank"].to_numpy(), ranks) or np.any(np.diff(ranking) > 0):
            raise BagError(f"{self.path.absolute()} is not ranked", _REMEDY)
        if not all(np.all(np.isfinite(values)) for values in (self.scores, ranking, self.boxes)):
            raise BagError(f"{self.path.absolute()} holds non-finite scores or boxes", _REMEDY)

    def _header(self, schema: pa.Schema) -> BagHeader:
        try:
            facts = {key.decode(): json.loads(value) for key, value in (schema.metadata or {}).items()}
            version = str(facts.pop("schema_version"))
        except (ValueError, KeyError) as error:
            raise BagError(f"{self.path.absolute()} is an Arrow file, but no bag", _REMEDY) from error
        if version.split(".")[0] != SCHEMA_VERSION.split(".")[0]:
            raise BagError(f"{self.path.absolute()} is a bag of version {version}, not {SCHEMA_VERSION}", _REMEDY)
        facts.pop("fov_um", None)
        try:
            if facts.get("quality") is not None:
                facts["quality"] = Quality.from_dict(facts["quality"])
            return BagHeader(**facts)
        except (TypeError, KeyError) as error:
            raise BagError(f"{self.path.absolute()} has a header with missing or unknown fields", _REMEDY) from error

    def _stack(self, *names: str) -> NDArray[np.float64]:
        return np.stack([self._table[name].to_numpy() for name in names], axis=1)

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __reduce__(self) -> tuple[type[BagFile], tuple[Path]]:
        return BagFile, (self.path,)

    def jpeg(self, index: int) -> bytes:
        """The crop of a row as it stands in the file."""
        return bytes(self._buffer(index))

    def window(self, crop_px: int | None = None, crop_mpp: float | None = None) -> slice:
        """The middle ``crop_px`` of a crop, as rows and as columns; the whole crop for None.

        Args:
            crop_px: side in px that is wanted; None for what there is.
            crop_mpp: um/px that is wanted; None for what there is.

        Raises:
            BagError: the crops are smaller or of another um/px. They are never resized.
        """
        header = self.header
        side, mpp = crop_px or header.crop_px, crop_mpp or header.crop_mpp
        if abs(header.crop_mpp - mpp) > 1e-6 or header.crop_px < side:
            raise BagError(
                f"the bag of slide '{header.slide_id}' has crops of {header.crop_px} px at {header.crop_mpp} um/px, "
                f"not {side} px at {mpp} um/px",
                "make the bags again with the crop size of the network",
            )
        margin = (header.crop_px - side) // 2
        return slice(margin, margin + side)

    def image(self, index: int, out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        """The crop of a row: uint8 RGB ``[crop_px, crop_px, 3]``.

        Args:
            index: row, rank - 1.
            out: contiguous uint8 ``[crop_px, crop_px, 3]`` to decode into.

        Raises:
            BagError: the crop is damaged or of another size than the header says.
        """
        try:
            image = decode_crop(self._buffer(index), out)
        except BagError as error:
            raise BagError(f"{self.path.absolute()}: the crop of rank {index + 1} is damaged", _REMEDY) from error
        side = self.header.crop_px
        if image.shape != (side, side, 3):
            raise BagError(
                f"{self.path.absolute()}: the crop of rank {index + 1} is {image.shape}, not {side} px", _REMEDY
            )
        return image

    def images(self, indices: Sequence[int] | NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
        """The crops of some rows: uint8 RGB ``[len(indices), crop_px, crop_px, 3]``."""
        side = self.header.crop_px
        stack = np.empty((len(indices), side, side, 3), dtype=np.uint8)
        for place, index in enumerate(indices):
            stack[place] = self.image(int(index))
        return stack

    def cell_classes(self) -> list[str | None]:
        """The known class of every row's cell, as :meth:`cell_class`."""
        labels: list[str | None] = self._table["cell_label"].to_pylist()
        return labels

    def class_indices(self) -> NDArray[np.int64]:
        """Index into CELL_CLASSES of what is known of each row's cell ``[n]``, -1 where nothing is.

        Raises:
            BagError: a class is unknown.
        """
        names = self.cell_classes()
        if unknown := sorted({*names} - {None, *CELL_CLASSES}, key=str):
            raise BagError(
                f"the bag of slide '{self.header.slide_id}' has a cell of unknown class '{unknown[0]}'",
                f"use one of {', '.join(CELL_CLASSES)}",
            )
        return np.array([-1 if name is None else CELL_CLASSES.index(name) for name in names], np.int64)

    def refuse_cut(self, top_k: int | None) -> None:
        """Refuse a bag that was cut to fewer cells than K, which is another K; one of a slide with fewer cells is none.

        Raises:
            BagError: it was.
        """
        kept = self.header.top_k
        if top_k is not None and len(self) == kept < top_k:
            raise BagError(
                f"the bag of slide '{self.header.slide_id}' was cut to its {kept} best cells, not {top_k}",
                f"make bags with top_k {top_k} or more, use top_k {kept} throughout, or force it",
            )

    def cell_class(self, index: int) -> str | None:
        """The known class of a row's cell, one of :data:`~stride_monai.bethesda.CELL_CLASSES`, or None."""
        label: str | None = self._table["cell_label"][self._row(index)].as_py()
        return label

    def descriptions(self, index: int) -> tuple[str, ...]:
        """The known descriptions of a row's cell."""
        return tuple(self._table["descriptions"][self._row(index)].as_py())

    def _buffer(self, index: int) -> memoryview:
        start, end = self._offsets[self._row(index) : index + 2]
        return self._content[start:end]

    def _row(self, index: int) -> int:
        if not 0 <= index < len(self):
            raise IndexError(f"row {index} of a bag of {len(self)}")
        return index
