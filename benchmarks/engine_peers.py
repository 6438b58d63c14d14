"""Peers of the slide engine as they are called: plain OpenSlide, the JPEG decoder, fastslide, MONAI, ultralytics, SAHI,
TIAToolbox. What is optional is imported where it is called."""

from __future__ import annotations

import copy
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import openslide
import torch

from stride_monai.slides import Slide, Tile
from stride_monai.slides.tiff.directory import FileBytes
from stride_monai.slides.tiff.layout import open_layout
from stride_monai.units import Box

CORES = torch.get_num_threads()
TILE, STEP, MPP = 512, 448, 1.0
MIN_SCORE, MAX_PER_TILE, IOU = 0.001, 500, 0.5
BATCH = 16
_MASK_PX = 64  # of level 0, one of the mask
Side = Callable[[], object]


def plain_loop(path: Path, tiles: Sequence[Tile], workers: int) -> list[Any]:
    """OpenSlide as its examples use it: a handle for each thread, a region, RGB, the size that is wanted."""
    local = threading.local()

    def read(tile: Tile) -> Any:
        if not hasattr(local, "handle"):
            local.handle = openslide.OpenSlide(path)
        handle = local.handle
        level = handle.get_best_level_for_downsample(tile.box.width / TILE + 0.01)
        side = round(tile.box.width / handle.level_downsamples[level])
        image = handle.read_region((round(tile.box.x0), round(tile.box.y0)), level, (side, side)).convert("RGB")
        return np.asarray(image if side == TILE else image.resize((TILE, TILE)))

    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(read, tiles))


def decoder_alone(path: Path, tiles: Sequence[Tile], workers: int) -> Side:
    """The JPEG decoder on every tile of the file that the tiles touch, once, from bytes that are in memory."""
    file = FileBytes(path)
    layout = open_layout(path, file, None)
    full = layout.levels[0].width
    page = max((p for p in layout.levels if full / p.width <= tiles[0].box.width / TILE * 1.02), key=lambda p: -p.width)
    scale, segments = full / page.width, page.segments
    wanted: set[int] = set()
    for tile in tiles:
        x0, y0, x1, y1 = (side / scale for side in tile.box)
        columns = range(max(0, int(x0) // page.segment_width), -(-min(int(x1), page.width) // page.segment_width))
        rows = range(max(0, int(y0) // page.segment_height), -(-min(int(y1), page.height) // page.segment_height))
        wanted |= {row * segments.columns + column for row in rows for column in columns}
    data = [file.read(int(segments.offsets[index]), int(segments.counts[index])) for index in sorted(wanted)]
    tables = page.jpeg_tables
    file.close()

    def decode(one: bytes) -> None:
        imagecodecs.jpeg8_decode(one, tables=tables)

    def all_of_them() -> None:
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(decode, data))

    return all_of_them


def with_fastslide(path: Path, tiles: Sequence[Tile], workers: int) -> list[Any]:
    """As :func:`plain_loop`; no tile is resized, and one that reaches out of the slide is moved into it."""
    from fastslide import FastSlide

    local = threading.local()

    def read(tile: Tile) -> Any:
        if not hasattr(local, "slide"):
            local.slide = FastSlide.from_file_path(str(path))
        level = local.slide.get_best_level_for_downsample(tile.box.width / TILE)
        scale = local.slide.level_downsamples[level]
        place = (int(max(tile.box.x0, 0) / scale), int(max(tile.box.y0, 0) / scale))
        return local.slide.read_region(place, level, (round(tile.box.width / scale),) * 2)

    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(read, tiles))


def peer_weights(network: Any, folder: Path) -> Path:
    """The same weights as a checkpoint of ultralytics."""
    model = copy.deepcopy(network.yolo)
    head = model.model[-1]
    head.xyxy = head.export = head.dynamic = False
    for name, value in (("names", {0: "cell"}), ("args", {}), ("task", "detect")):
        setattr(model, name, value)
    path = folder / "peer.pt"
    torch.save({"model": model.float(), "train_args": {"task": "detect"}}, path)
    return path


def ultralytics_batches(weights: Path, slide: Slide, tiles: Sequence[Tile]) -> Side:
    from ultralytics import YOLO
    from ultralytics.utils import torch_utils

    torch_utils.NUM_THREADS = CORES  # else it leaves one of the cores alone
    model = YOLO(str(weights), task="detect")
    images = [np.ascontiguousarray(slide.read(tile.box, MPP)[..., ::-1]) for tile in tiles]
    settings = {
        "imgsz": TILE,
        "conf": MIN_SCORE,
        "iou": IOU,
        "max_det": MAX_PER_TILE,
        "verbose": False,
        "device": "cpu",
    }

    def run() -> None:
        for start in range(0, len(images), BATCH):
            model.predict(images[start : start + BATCH], **settings)

    return run


def with_sahi(weights: Path, slide: Slide, region: Box) -> Side:
    from sahi import AutoDetectionModel
    from sahi.predict import get_sliced_prediction

    image = slide.read(region, MPP)
    model = AutoDetectionModel.from_pretrained(
        "ultralytics", model_path=str(weights), confidence_threshold=MIN_SCORE, device="cpu", image_size=TILE
    )
    overlap = (TILE - STEP) / TILE

    def run() -> None:
        get_sliced_prediction(
            image, model, slice_height=TILE, slice_width=TILE, overlap_height_ratio=overlap,
            overlap_width_ratio=overlap, verbose=0,
        )  # fmt: skip

    return run


def loop_and_network(path: Path, tiles: Sequence[Tile], network: Any) -> None:
    for start in range(0, len(tiles), BATCH):
        pixels = np.stack(plain_loop(path, tiles[start : start + BATCH], CORES))
        network.detect(torch.from_numpy(pixels).permute(0, 3, 1, 2), MIN_SCORE, MAX_PER_TILE, IOU)


def monai_evaluator(path: Path, tiles: Sequence[Tile], network: Any) -> None:
    from monai.data import DataLoader, PatchWSIDataset, WSIReader
    from monai.engines import SupervisedEvaluator
    from monai.utils import ForwardMode

    with openslide.OpenSlide(path) as handle:
        level = handle.get_best_level_for_downsample(tiles[0].box.width / TILE + 0.01)
        width, height = handle.dimensions
    places = [(t.box.center[1], t.box.center[0]) for t in tiles]
    half = tiles[0].box.width / 2
    inside = [(min(max(row, half), height - half), min(max(column, half), width - half)) for row, column in places]
    data = [{"image": str(path), "location": (round(row), round(column))} for row, column in inside]
    found = PatchWSIDataset(
        data, patch_size=TILE, patch_level=level, center_location=True, include_label=False,
        reader=WSIReader("openslide"),
        additional_meta_keys=[], transform=lambda sample: {"image": sample["image"].as_tensor().float() / 255},
    )  # fmt: skip
    evaluator = SupervisedEvaluator(
        torch.device("cpu"), DataLoader(found, batch_size=BATCH), network, mode=ForwardMode.EVAL,
        prepare_batch=lambda batch, device, non_blocking, **_: (batch["image"].to(device), None),
    )  # fmt: skip
    evaluator.run()


def tiatoolbox_engine(path: Path, tiles: Sequence[Tile], network: Any) -> Side:
    """Its patch engine on a mask that touches each of the tiles, which are of the grid that it makes itself."""
    from tiatoolbox.models.engine.io_config import IOPatchPredictorConfig
    from tiatoolbox.models.engine.patch_predictor import PatchPredictor
    from tiatoolbox.models.models_abc import ModelABC

    class Detector(ModelABC):  # type: ignore[misc]
        def forward(self, images: torch.Tensor) -> Any:
            return network.detect(images, MIN_SCORE, MAX_PER_TILE, IOU)

        @staticmethod
        def infer_batch(model: Any, batch_data: torch.Tensor, *, device: str) -> Any:
            seen.append(len(batch_data))
            found = model(batch_data.permute(0, 3, 1, 2))
            return np.array([[len(one.scores), 0] for one in found], np.float32)  # it wants as many numbers of each

    seen: list[int] = []
    with openslide.OpenSlide(path) as handle:
        mask = np.zeros((handle.dimensions[1] // _MASK_PX, handle.dimensions[0] // _MASK_PX), np.uint8)
    for tile in tiles:
        x, y = (min(int(at) // _MASK_PX, side - 1) for at, side in zip(tile.box.center, mask.shape[::-1], strict=True))
        mask[y, x] = 1
    engine = PatchPredictor(Detector(), BATCH, CORES, device="cpu", verbose=False)
    grid = IOPatchPredictorConfig(
        input_resolutions=[{"units": "mpp", "resolution": MPP}],
        output_resolutions=[],
        patch_input_shape=(TILE, TILE),
        stride_shape=(STEP, STEP),
    )

    def run() -> None:
        seen.clear()
        with tempfile.TemporaryDirectory() as folder:
            engine.run(
                [path], masks=[mask], ioconfig=grid, patch_mode=False, auto_get_mask=False,
                save_dir=Path(folder) / "out", output_type="zarr",
            )  # fmt: skip
        if sum(seen) != len(tiles):
            raise RuntimeError(f"TIAToolbox took {sum(seen)} tiles and not {len(tiles)}")

    return run
