"""Single cells as data sets: of many bag files, decoded by threads straight into the batch; with the texts that
describe them; with pseudo-labels."""

from __future__ import annotations

import math
import os
import weakref
from collections import deque
from collections.abc import Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from stride_monai.data.bags.bag import BagFile
from stride_monai.data.bags.folder import BAG_SUFFIX
from stride_monai.data.descriptions import IMPLIED, DescriptionRules
from stride_monai.errors import BagError

__all__ = [
    "BagCells",
    "BlockPool",
    "CellBatch",
    "DescribedBagCells",
    "GrownCells",
    "JoinedCells",
    "collate_cells",
    "decode_threads",
    "samples_of",
    "with_pairs",
]

_KEPT_BLOCKS = 2  # a loop still holds its batch while the next is made


class BlockPool:
    """Memory for batches, used again once nobody has it any more.

    Memory that is new to the process is made page by page while it is written, which costs a tenth of decoding. Who
    takes a block holds an array of its own on it; the block comes back when that array is gone, and with it every
    tensor on it or on a part of it. So a block in use is never handed out, whatever the interpreter: where arrays live
    longer than they are needed, more blocks are made.
    """

    def __init__(self) -> None:
        self._free: deque[NDArray[np.uint8]] = deque(maxlen=_KEPT_BLOCKS)

    def take(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """An array of this shape, with any content. Pass it on as a tensor, which keeps it; numpy's views do not."""
        size = math.prod(shape)
        try:
            block = self._free.pop()  # one step, so that threads cannot get the same one
        except IndexError:
            block = np.empty(0, np.uint8)
        if block.size < size:
            block = np.empty(size, np.uint8)
        array = block[:size].reshape(shape)
        weakref.finalize(array, self._free.append, block).atexit = False
        return array

    def __reduce__(self) -> tuple[type[BlockPool], tuple[()]]:
        return BlockPool, ()


class CellBatch(Sequence[dict[str, Any]]):
    """Samples of cells, whose pictures are parts of one tensor.

    Attributes:
        images: uint8 ``[N, 3, S, S]``, in memory pixel by pixel as JPEG decoders write them (``channels_last``).
        known: what else is known of each sample.
    """

    def __init__(self, images: Tensor, known: list[dict[str, Any]]) -> None:
        self.images, self.known = images, known

    def __len__(self) -> int:
        return len(self.known)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return CellBatch(self.images[place], self.known[place])
        return {"image": self.images[place], **self.known[place]}


def decode_threads(num_workers: int) -> int | None:
    """Threads that decode a batch in each process that loads; None (one a core) where the training process loads."""
    return 1 if num_workers else None


class BagCells(Dataset[dict[str, Any]]):
    """The cells of bag files, one sample each: a stream of unlabelled cells, or a training set of labelled ones.

    A sample is ``image`` (uint8 ``[3, S, S]``, S = ``crop_px``), ``slide_id``, ``rank`` (from 1) and, where asked for,
    ``label``. Of larger crops the middle is taken, at the same um/px; none is resized. A loader that asks for a whole
    batch gets it decoded by threads into one block of memory, which :func:`collate_cells` passes on without a copy.

    Args:
        bags: paths of bag files, or dictionaries with one under ``bag``, and with the ``source`` of a joined cohort.
        top_k: the K best cells of each bag; None for all.
        crop_px: side of the samples in px; None for that of the bags, which then has to be one.
        crop_mpp: their um/px; None likewise.
        labelled: only the rows that have a cell label, whose index into CELL_CLASSES becomes ``label``.
        workers: threads that decode a batch; None for the number of cores.

    Attributes:
        data: what is known of each sample without its picture: ``slide_id``, ``rank``, ``source`` where it is known,
            and ``label`` where asked for.

    Raises:
        BagError: a bag is damaged or has crops that are smaller or of another um/px; or there is no cell at all.

    Example::

        cells = BagCells(["a.bag.arrow", "b.bag.arrow"], top_k=256, crop_px=224, crop_mpp=0.5)
        cells[0]["image"].shape  # torch.Size([3, 224, 224])
    """

    def __init__(
        self,
        bags: Sequence[str | Path | Mapping[str, Any]],
        top_k: int | None = None,
        crop_px: int | None = None,
        crop_mpp: float | None = None,
        labeled: bool = False,
        workers: int | None = None,
    ) -> None:
        self.workers = workers or os.cpu_count() or 1
        self._threads: tuple[int, ThreadPoolExecutor] | None = None
        self._blocks = BlockPool()
        self._bags: list[BagFile] = []
        self._windows: list[slice] = []
        self._rows: list[tuple[int, int]] = []
        self.data: list[dict[str, Any]] = []
        for bag in bags:
            source = {"source": bag["source"]} if isinstance(bag, Mapping) and "source" in bag else {}
            file = BagFile(bag["bag"] if isinstance(bag, Mapping) else bag)
            self._add(file, source, top_k, crop_px, crop_mpp, labeled)
        if not self._rows:
            what = "labelled cell" if labeled else "cell"
            raise BagError(f"there is no {what} in {len(self._bags)} bags", "check the folder of the bags")

    def _add(
        self,
        bag: BagFile,
        source: Mapping[str, str],
        top_k: int | None,
        crop_px: int | None,
        crop_mpp: float | None,
        labeled: bool,
    ) -> None:
        first = self._bags[0].header if self._bags else bag.header
        window = bag.window(crop_px or first.crop_px, crop_mpp or first.crop_mpp)
        place = len(self._bags)
        self._bags.append(bag)
        self._windows.append(window)
        labels = bag.class_indices().tolist() if labeled else []
        for row in range(min(len(bag), top_k) if top_k is not None else len(bag)):
            known: dict[str, Any] = {"slide_id": bag.header.slide_id, "rank": row + 1, **source}
            if labeled:
                if labels[row] < 0:
                    continue
                known["label"] = labels[row]
            self._rows.append((place, row))
            self.data.append(known)

    def known_labels(self) -> Tensor:
        """int64 ``[len(self)]``: the cells' indices into CELL_CLASSES, -1 where the bag has no label for a cell."""
        labels = [bag.class_indices() for bag in self._bags]
        return torch.tensor([labels[place][row] for place, row in self._rows], dtype=torch.int64)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        sample: dict[str, Any] = self.__getitems__([index])[0]
        return sample

    def __getitems__(self, indices: Sequence[int]) -> CellBatch:
        """The samples of a batch, decoded into one block of memory."""
        side = self._windows[0].stop - self._windows[0].start
        pictures = self._blocks.take((len(indices), side, side, 3))
        step = -(-len(indices) // self.workers)

        def decode(start: int) -> None:  # holds the whole array: where one thread fails, the others still write
            self._decode(indices[start : start + step], pictures[start : start + step])

        list(self._pool().map(decode, range(0, len(indices), step)))
        return CellBatch(torch.from_numpy(pictures).permute(0, 3, 1, 2), [self.data[index] for index in indices])

    def _pool(self) -> ThreadPoolExecutor:
        """Threads of this process: those of a parent do not survive a fork."""
        if self._threads is None or self._threads[0] != os.getpid():
            self._threads = (os.getpid(), ThreadPoolExecutor(self.workers))
        return self._threads[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_threads": None}

    def _decode(self, indices: Sequence[int], pictures: NDArray[np.uint8]) -> None:
        for index, out in zip(indices, pictures, strict=True):
            place, row = self._rows[index]
            bag, cut = self._bags[place], self._windows[place]
            if bag.header.crop_px == len(out):
                bag.image(row, out)
            else:
                out[:] = bag.image(row)[cut, cut]


class DescribedBagCells(BagCells):
    """The labelled cells of bag files with the texts that describe them.

    A sample is that of :class:`~stride_monai.data.BagCells` with ``target``: a number for each text
    (:class:`~stride_monai.data.descriptions.Target`).

    Args:
        bags, crop_px, crop_mpp, workers: as there.
        undescribed, class_mask: see :class:`~stride_monai.data.DescriptionRules`.

    Raises:
        BagError: as there. ManifestError: no cell is described.
    """

    def __init__(
        self,
        bags: Sequence[Any],
        crop_px: int | None = None,
        crop_mpp: float | None = None,
        undescribed: str = IMPLIED,
        class_mask: bool = False,
        workers: int | None = None,
    ) -> None:
        super().__init__(bags, crop_px=crop_px, crop_mpp=crop_mpp, labeled=True, workers=workers)
        found = DescriptionRules(undescribed, class_mask).targets(
            [known["label"] for known in self.data],
            [self._bags[place].descriptions(row) for place, row in self._rows],
            f"{len(self._bags)} bags",
        )
        kept = [k for k, target in enumerate(found) if target.row is not None]
        self._rows = [self._rows[k] for k in kept]
        self.data = [{**self.data[k], "target": found[k].row} for k in kept]


class GrownCells(Dataset[dict[str, Any]]):
    """Labelled cells, and unlabelled ones with pseudo-labels; samples have ``image`` and ``label``.

    Args:
        labelled: data set with ``image`` and ``label``, and with its items under ``data``.
        unlabelled: data set with ``image``.
        chosen: indices into it ``[n]``.
        label: their pseudo-labels ``[n]``.

    Attributes:
        data: the labels, as :class:`~stride_monai.data.CellSampler` takes them.
    """

    def __init__(self, labeled: Any, unlabeled: Any, chosen: Tensor, label: Tensor) -> None:
        self.labeled, self.unlabeled, self.chosen = labeled, unlabeled, chosen.tolist()
        self.data = [{"label": int(item["label"])} for item in labeled.data] + [{"label": c} for c in label.tolist()]

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """A batch; the cells of either set are loaded together."""
        first = len(self.labeled)
        old = [index for index in indices if index < first]
        new = [index for index in indices if index >= first]
        samples = samples_of(self.labeled, old) + samples_of(self.unlabeled, [self.chosen[i - first] for i in new])
        image = {index: sample["image"] for index, sample in zip(old + new, samples, strict=True)}
        return [{"image": image[index], "label": self.data[index]["label"]} for index in indices]


class JoinedCells(Dataset[dict[str, Any]]):
    """The cells of several data sets one after the other; a sample has what all of them know.

    Args:
        parts: data sets with their items under ``data``.

    Attributes:
        data: their items, all with a ``source``, if an empty one.
    """

    def __init__(self, parts: Sequence[Any]) -> None:
        self.parts = list(parts)
        self.data = [{"source": "", **item} for part in self.parts for item in part.data]
        self._first = np.cumsum([0, *(len(part.data) for part in self.parts)]).tolist()

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """A batch; the cells of each part are loaded together."""
        found: dict[int, dict[str, Any]] = {}
        for part, first in zip(self.parts, self._first, strict=False):
            mine = [index for index in indices if first <= index < first + len(part.data)]
            found |= dict(zip(mine, samples_of(part, [index - first for index in mine]), strict=True))
        shared = set.intersection(*(set(sample) for sample in found.values()))
        return [_alike(found[index], shared) for index in indices]


def _alike(sample: Mapping[str, Any], keys: Set[str]) -> dict[str, Any]:
    """Of a sample the keys that all have, its texts as a tensor: one data set keeps them as numbers, another not."""
    kept = {key: sample[key] for key in sample if key in keys}
    return {**kept, "target": torch.as_tensor(kept["target"])} if "target" in kept else kept


def with_pairs(
    cells: Any,
    pair_dir: Path | str,
    crop_px: int | None = None,
    crop_mpp: float | None = None,
    workers: int | None = None,
) -> Any:
    """Described cells, and those of the bags of a folder besides, whose ``source`` is ``pairs``.

    Args:
        cells: a data set of described cells.
        pair_dir: folder of bags (:func:`stride_monai.phantom.make_pairs`); empty for none.
        crop_px, crop_mpp: as of :class:`DescribedBagCells`.

    Raises:
        BagError: there is no bag, or one does not fit.
    """
    if not pair_dir:
        return cells
    paths = sorted(Path(pair_dir).glob(f"*{BAG_SUFFIX}"))
    if not paths:
        raise BagError(f"there is no bag in {Path(pair_dir).absolute()}", "write pairs with phantom.make_pairs")
    bags = [{"bag": path, "source": "pairs"} for path in paths]
    return JoinedCells([cells, DescribedBagCells(bags, crop_px, crop_mpp)])


def samples_of(dataset: Any, indices: Sequence[int]) -> list[Any]:
    """Some samples of a data set, loaded together where it can."""
    together = hasattr(dataset, "__getitems__") and indices
    return list(dataset.__getitems__(indices) if together else (dataset[index] for index in indices))


def collate_cells(samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A batch of samples: tensors and numbers stacked, texts as lists. The pictures of a CellBatch are not copied."""
    if not isinstance(samples, CellBatch):
        return dict(default_collate(list(samples)))
    columns = {key: [known[key] for known in samples.known] for key in samples.known[0]}
    numbers = {key: torch.tensor(values) for key, values in columns.items() if not isinstance(values[0], str)}
    return {"image": samples.images, **columns, **numbers}
