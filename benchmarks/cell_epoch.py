"""A training epoch of the bundle cell_cls against a bare PyTorch loop over the same batches.

    python benchmarks/cell_epoch.py --work benchmarks/work [--encoder test_convnext] [--side 96] [--batch 128]

The bundle is run as its configuration says (train.json and from_crops.json: trainer, handlers, metrics, TensorBoard,
state file), but for validation. The bare loop has the same loader, augmentation, network, optimiser and schedule and
nothing else. Both run in turn, epoch by epoch; reported is the median of the ratio of their times. A small encoder on
small crops makes the overhead show: it is the same number of milliseconds with a large one.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Events
from monai.bundle import ConfigWorkflow
from record import Record, make_parser, quartiles

from stride_monai.phantom.cohorts.bags import BagSettings
from stride_monai.phantom.cohorts.cohort import make_bags
from stride_monai.phantom.cohorts.design import design_of
from stride_monai.workflows.locate import bundle_root


def cohort(work: Path) -> Path:
    """Bags of synthetic slides; every cell has its true class."""
    folder = work / "cell_epoch"
    if not (folder / "manifest.csv").exists():
        design = design_of("internal", classes=6, diameter_mm=0.6, seed=2, prevalence=0.5)
        make_bags(folder, design, BagSettings(top_k=128, crop_px=96))
    return folder


def parsed(folder: Path, out: str, arguments: argparse.Namespace, epochs: int) -> Any:
    """The bundle's objects by name."""
    root = bundle_root("cell_cls")
    made = ConfigWorkflow(
        [str(root / "configs" / f"{name}.json") for name in ("train", "from_crops")],
        logging_file=False,
        bundle_root=str(root),
        dataset_dir=str(folder),
        crop_dir=str(folder / "bags"),
        output_dir=out,
        encoder_name=arguments.encoder,
        crop_px=arguments.side,
        batch_size=arguments.batch,
        cells_per_epoch=arguments.cells,
        max_epochs=epochs,
        val_interval=epochs + 1,
        num_workers=0,
        amp=torch.cuda.is_available(),
    )
    made.initialize()
    return made.parser.get_parsed_content


def bare_epoch(of: Any, epoch: int) -> float:
    network, optimizer, schedule = of("network"), of("optimizer"), of("lr_scheduler")
    augmentation, loss_of, device = of("train#augmentation"), of("loss"), of("device")
    loader = of("train#dataloader")
    loader.sampler.set_epoch(epoch)
    start = time.perf_counter()
    network.train()
    for step, batch in enumerate(loader, 1):
        images = batch["image"].to(device, non_blocking=True)
        label = batch["label"].to(device, non_blocking=True)
        with torch.no_grad():
            images = augmentation(images, step)
        optimizer.zero_grad(set_to_none=True)
        loss_of(network(images), label).backward()
        optimizer.step()
        schedule.step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--work", type=Path, default=Path("benchmarks/work"))
    parser.add_argument("--encoder", default="test_convnext")
    parser.add_argument("--side", type=int, default=96)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--cells", type=int, default=1280)
    parser.add_argument("--epochs", type=int, default=6)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder = cohort(arguments.work)
    bundle_seconds: list[float] = []
    bare_seconds: list[float] = []
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        of_bundle = parsed(folder, one, arguments, arguments.epochs + 1)
        of_bare = parsed(folder, two, arguments, arguments.epochs + 1)
        trainer, started = of_bundle("train#trainer"), [0.0]
        trainer.logger.setLevel(logging.INFO)

        def begin() -> None:
            started[0] = time.perf_counter()

        def end() -> None:
            bundle_seconds.append(time.perf_counter() - started[0])
            bare_seconds.append(bare_epoch(of_bare, len(bare_seconds) + 1))

        # The bundle's clock runs from before its first handler of an epoch to after its last one.
        trainer._event_handlers[Events.EPOCH_STARTED].insert(0, (lambda _: begin(), (trainer,), {}))
        trainer.add_event_handler(Events.EPOCH_COMPLETED, end)
        of_bundle("run")
    ours, bare = np.array(bundle_seconds)[1:], np.array(bare_seconds)[1:]
    batches = -(-arguments.cells // arguments.batch)
    figures = Record("cell_epoch", "Overhead of a training epoch")
    what = f"{arguments.encoder}, {batches} batches of {arguments.batch} crops of {arguments.side} px"
    table = figures.table("", "seconds", caption=f"{what}, medians of {len(ours)} epochs each; bar 1.05.")
    table.row("bundle", f"{np.median(ours):.2f}")
    table.row("bare loop", f"{np.median(bare):.2f}")
    table.row("bundle / bare loop", quartiles(ours / bare, 3))
    figures.write()


if __name__ == "__main__":
    main()
