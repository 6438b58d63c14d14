"""Slides in, bag files out: one slide after the other, on as many processes as there are.

Processes need not know each other: who works on a slide has claimed it (:mod:`stride_monai.runs.claims`). Nothing but
bags that are complete is ever found in the folder, and each bag says what it was made from; so a run that was stopped
is taken up by the same command. The bags themselves are its ledger.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ignite.engine import Events
from monai.engines import SupervisedEvaluator

from stride_monai.data.bags.bag import BagFile, is_bag
from stride_monai.data.bags.folder import BAG_SUFFIX
from stride_monai.errors import BagError, OutputError, SlideError
from stride_monai.files import config_hash, remove_leftovers, sha256_of
from stride_monai.inferers.bag_files import make_bag
from stride_monai.inferers.clock import Clock
from stride_monai.inferers.find import CellFinder
from stride_monai.inferers.rerank import CellReranker
from stride_monai.inferers.slide_detection import SlideDetectionInferer
from stride_monai.networks.detection.detector import TileDetector
from stride_monai.ownership import refuse_foreign, refuse_inputs, refuse_within
from stride_monai.runs.claims import JobClaims
from stride_monai.runs.jobs import Ended, Job, never
from stride_monai.runs.notes import Notes
from stride_monai.runs.progress import Progress
from stride_monai.runs.runners import Shared
from stride_monai.slides.parts import own_folders, slide_fingerprint
from stride_monai.slides.rehearsal import rehearse

__all__ = ["FAILED_FOLDER", "SlideBagMaker"]

_log = logging.getLogger(__name__)
FAILED_FOLDER = "failed"
_NOTE_HEAD = "stride-monai: no bag was made of the slide "
_ELSEWHERE = "choose another output_dir, or move it elsewhere"
Item = Mapping[str, Any]


class SlideBagMaker(SupervisedEvaluator):
    """Detects on each slide, crops the best cells, writes ``<slide_id>.bag.arrow``.

    A slide that fails is logged, noted in ``failed/<slide_id>.txt``, and the next one begins; when all are done the
    engine raises if any failed. A slide that another process works on is looked at again at the end: it is done then,
    or that process is gone and it is made here. Batches are lists of dictionaries with ``image`` (path), ``slide_id``
    and optionally ``mpp`` and ``slide_class``. Output of an iteration: a list with, for each slide, ``slide_id``,
    ``cells`` (how many; None if not made here), ``error`` (None or text).

    Args:
        output_dir: where the bags go.
        crop_px, crop_mpp: side of the crops in their px, and um/px.
        weights: the detector's weights file, whose hash goes into every bag; None for none.
        reranker: chooses the best of ``reranker.candidates`` cells that the detector proposes; None for those that the
            detector itself ranks highest (``inferer.top_k``).
        overwrite: make every bag again. Else a bag stays if it is of the same slide file, weights and settings; one
            that is not, or is damaged, is made again and the log says why.
        inferer: a :class:`~stride_monai.inferers.SlideDetectionInferer`; with a re-ranker its
            ``top_k`` is the number of candidates.
        otherwise as :class:`monai.engines.SupervisedEvaluator`.

    Raises:
        SlideError: at the end of the run, if slides failed.
        OutputError: the folder cannot be written to, or a slide or something that is no bag stands where a bag goes.
        ConfigError: the re-ranker does not take such crops, or as many candidates.
    """

    def __init__(
        self,
        *args: Any,
        output_dir: Path | str,
        inferer: SlideDetectionInferer,
        crop_px: int = 224,
        crop_mpp: float = 0.5,
        weights: Path | str | None = None,
        overwrite: bool = True,
        reranker: CellReranker | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, inferer=inferer, decollate=False, **kwargs)
        self.output_dir, self.overwrite = Path(output_dir), overwrite
        self._claims = JobClaims(self.output_dir)
        self._runner: Shared[int] = Shared(self._claims)
        self._notes = Notes(self.output_dir / FAILED_FOLDER, _NOTE_HEAD)
        self.weights = None if weights is None else Path(weights)
        detector: TileDetector = self.network.eval()
        self._finder = CellFinder(detector, inferer, crop_px, crop_mpp, reranker)
        self.add_event_handler(Events.STARTED, self._start)
        self.add_event_handler(Events.COMPLETED, self._end)

    def _start(self) -> None:
        self._failed: list[str] = []
        self._sha256 = sha256_of(self.weights) if self.weights else ""
        self._config_hash = config_hash(self._finder.settings())
        self._refuse()
        self._progress = Progress([str(item["slide_id"]) for item in self.data_loader.dataset.data], self._bags)

    def _refuse(self) -> None:
        """Refuse, before anything is done, to write where a slide is, or over what is no bag of ours."""
        items = self.data_loader.dataset.data
        images = [Path(item["image"]) for item in items]
        folders = {place for item in items for place in own_folders(Path(item["image"]), str(item["slide_id"]))}
        refuse_within(self.output_dir, folders, _ELSEWHERE)
        refuse_inputs([self._bag(str(item["slide_id"])) for item in items], [*images, *folders], _ELSEWHERE)
        names = {f"{item['slide_id']}{BAG_SUFFIX}": str(item["slide_id"]) for item in items}
        refuse_foreign(self.output_dir, names, lambda name: self._own(names[name]), _ELSEWHERE)
        try:
            self.output_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot write to {self.output_dir} ({error.strerror})", _ELSEWHERE) from error
        remove_leftovers(self.output_dir)

    def _bag(self, slide_id: str) -> Path:
        return self.output_dir / f"{slide_id}{BAG_SUFFIX}"

    def _bags(self) -> set[str]:
        """Slides that have a bag, whoever made it."""
        return {path.name.removesuffix(BAG_SUFFIX) for path in self.output_dir.glob(f"*{BAG_SUFFIX}")}

    def _own(self, slide_id: str) -> bool:
        """Whether what stands in the place of a bag is one, or was: its slide was claimed here before."""
        path = self._bag(slide_id)
        if path.is_symlink() or not path.is_file():
            return False
        return is_bag(path) or self._claims.known(slide_id)

    def _end(self) -> None:
        for ended in self._runner.rest():
            self._note(ended)
        made, there = self._progress.made, len(self._bags())
        _log.info("%d bags made here in %s; %s has %d bags", made, self._progress.took(), self.output_dir.name, there)
        if self._failed:
            raise SlideError(
                f"{len(self._failed)} of {self._progress.total} slides failed here ({', '.join(self._failed)})",
                f"{FAILED_FOLDER} says why; the bags of the others are complete, and the same command tries again",
            )

    def _iteration(self, engine: Any, batchdata: list[Item]) -> list[dict[str, Any]]:
        return [self._one(slide) for slide in batchdata]

    def _one(self, item: Item) -> dict[str, Any]:
        slide_id = str(item["slide_id"])
        path = self._bag(slide_id)
        if not self.output_dir.is_dir():
            raise OutputError(f"the output folder {self.output_dir} has vanished", "bring it back, and run it again")
        done = never if self.overwrite else partial(self._there, item, path)
        ended = self._runner.attempt(Job(slide_id, done, lambda _: self._marked(item, path)))
        if ended is None:
            return {"slide_id": slide_id, "cells": None, "error": None}
        self._note(ended)
        return {"slide_id": slide_id, "cells": ended.value if ended.made else None, "error": ended.reason or None}

    def _note(self, ended: Ended[int]) -> None:
        if isinstance(ended.error, OutputError):
            raise ended.error  # no other slide could be written either
        if ended.error is None:
            self._notes.forget(ended.id)
        else:
            problem = "\n".join(filter(None, (ended.reason, ended.trace)))
            _log.error("%s failed: %s", ended.id, problem)
            self._failed.append(ended.id)
            self._notes.write(ended.id, f"{problem}\n")
        _log.info("%s", self._progress.step(ended.id, ended.made))

    def _marked(self, item: Item, path: Path) -> int:
        """Make a bag. A slide in which a process has ended is read in a process of its own first.

        So a file that aborts a library ends no second one; the mark that tells stays as long as that goes wrong.
        """
        slide_id = str(item["slide_id"])
        if self._claims.ended_in(slide_id):
            _log.warning("%s: a process ended at this slide, so it is tried apart from this one first", slide_id)
            rehearse(Path(item["image"]), item.get("mpp"), (self.inferer.tile_mpp, self._finder.crop_mpp))
        with self._claims.begun(slide_id):
            return self._make(item, path)

    def _there(self, item: Item, path: Path) -> int | None:
        """How many cells the slide's bag has, if it is there and is what this run would make."""
        if not path.exists():
            return None
        slide_id = str(item["slide_id"])
        try:
            bag = BagFile(path)
            header = bag.header
        except BagError as error:
            _log.warning("%s: its bag is made again (%s)", slide_id, error)
            return None
        mine = {
            "weights": (header.detector_sha256, self._sha256),
            "settings": (header.config_hash, self._config_hash),
            "slide file": (header.slide_fingerprint, slide_fingerprint(Path(item["image"]))),
            "um/px": (header.slide_mpp, item.get("mpp") or header.slide_mpp),
        }
        others = [name for name, (there, here) in mine.items() if there != here]
        if others:
            _log.warning("%s: its bag is of other %s and is made again", slide_id, " and ".join(others))
        return None if others else len(bag)

    def _make(self, item: Item, path: Path) -> int:
        clock, start = Clock(), time.perf_counter()
        bag = make_bag(
            path,
            Path(item["image"]),
            self._finder,
            str(item["slide_id"]),
            item.get("mpp"),
            item.get("slide_class"),
            self._sha256,
            self._config_hash,
            clock,
        )
        cells, quality = int(bag.mask.sum()), bag.quality
        assert quality is not None
        _log.info(
            "%s: %d cells from %d tiles, %d unreadable regions, %.1f s (%s)",
            item["slide_id"],
            cells,
            quality.tiles_read,
            quality.unreadable_regions,
            time.perf_counter() - start,
            ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in clock.seconds.items()),
        )
        return cells
