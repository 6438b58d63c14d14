"""A slide's bag as a file: made from the slide, and read back as what it was made of."""

from __future__ import annotations

from pathlib import Path

import torch

from stride_monai.data.bags.bag import BagCell, BagFile, BagHeader, encode_crop, write_bag
from stride_monai.data.datasets.tensors import crops_of
from stride_monai.inferers.clock import Clock
from stride_monai.inferers.find import CellFinder
from stride_monai.inferers.rerank import RULE
from stride_monai.slides import open_slide
from stride_monai.slides.parts import slide_fingerprint
from stride_monai.transforms.topk_patches import CellBag
from stride_monai.units import Box

__all__ = ["cells_of", "make_bag", "read_bag"]


def make_bag(
    path: Path,
    image: Path,
    finder: CellFinder,
    slide_id: str,
    mpp: float | None = None,
    slide_class: str | None = None,
    detector_sha256: str = "",
    config_hash: str = "",
    clock: Clock | None = None,
) -> CellBag:
    """Find the cells of a slide's file and write them to a bag file.

    Args:
        path: of the bag.
        mpp: um/px that wins over the file's own.
        slide_class, detector_sha256, config_hash: as in :class:`~stride_monai.data.BagHeader`.
        clock: gets the seconds of each stage.

    Raises:
        SlideError: the slide cannot be opened, its um/px is not known, or more of it cannot be decoded than can.
        OutputError: the bag cannot be written.
    """
    with open_slide(image, mpp=mpp) as slide:
        bag = finder.find(slide, clock=clock, slide_id=slide_id)
    reranker = finder.reranker
    header = BagHeader(
        slide_id=slide_id,
        slide_mpp=slide.mpp,
        crop_mpp=finder.crop_mpp,
        crop_px=finder.crop_px,
        top_k=len(bag.mask),
        detector_sha256=detector_sha256,
        slide_class=slide_class,
        config_hash=config_hash,
        slide_fingerprint=slide_fingerprint(image),
        reranker_sha256=reranker.weights if reranker else "",
        rerank_rule=RULE if reranker else "",
        candidates=reranker.candidates if reranker else 0,
        quality=bag.quality,
        unsatisfactory=bag.unsatisfactory,
    )
    write_bag(path, header, cells_of(bag))
    return bag


def cells_of(bag: CellBag) -> list[BagCell]:
    """The rows of a bag file."""
    count = int(bag.mask.sum())
    reranked = [None] * count if bag.rerank_scores is None else bag.rerank_scores[:count].tolist()
    return [
        BagCell(score, Box(*box), encode_crop(crop), rerank_score=rerank_score)
        for score, box, crop, rerank_score in zip(
            bag.scores[:count].tolist(),
            bag.boxes[:count].tolist(),
            bag.images[:count].permute(0, 2, 3, 1).numpy(),
            reranked,
            strict=True,
        )
    ]


def read_bag(file: BagFile, crop_px: int | None = None, crop_mpp: float | None = None) -> CellBag:
    """The cells of a bag file, all of them, as :class:`~stride_monai.inferers.CellFinder` finds them on a slide.

    Args:
        crop_px, crop_mpp: crops that the network expects, see :meth:`~stride_monai.data.BagFile.window`.

    Raises:
        BagError: crops are damaged, smaller or of another um/px; or a cell's class is unknown.
    """
    file.class_indices()
    scores = file.rerank_scores
    return CellBag(
        images=crops_of(file, len(file), len(file), crop_px, crop_mpp),
        boxes=torch.tensor(file.boxes),
        scores=torch.tensor(file.scores),
        mask=torch.ones(len(file), dtype=torch.bool),
        indices=torch.arange(len(file)),
        unreadable=0,
        rerank_scores=None if scores is None else torch.tensor(scores),
        quality=file.header.quality,
        unsatisfactory=file.header.unsatisfactory,
    )
