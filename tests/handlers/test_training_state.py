"""Seeds, moving average, early stop, best weights and exact resumption, on a network of a few weights."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from ignite.metrics import Average
from monai.data import DataLoader, DistributedSampler
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import LrScheduleHandler, ValidationHandler
from monai.transforms import Compose, RandGaussianNoised
from torch import Tensor, nn

from stride_monai.data.datasets.sampling import share_of_batch
from stride_monai.data.datasets.seeded import SeededCacheDataset
from stride_monai.engines.precision import amp_arguments, use_amp
from stride_monai.engines.processes import synchronized
from stride_monai.errors import BundleError, ConfigError
from stride_monai.handlers.resume import Attach, TrainingState, wind_on
from stride_monai.handlers.seeding import EpochSeeds, seed_everything
from stride_monai.handlers.steps import EmaUpdater
from stride_monai.handlers.validation import EarlyStop
from stride_monai.handlers.weights import BestWeights
from stride_monai.networks.ema import EmaModel


class Run:
    """A training of a small network with everything that has a state: noise, dropout, momentum, a schedule, an EMA."""

    def __init__(
        self,
        folder: Path,
        resume: str = "",
        max_epochs: int = 5,
        patience: int = 0,
        scores: dict[int, float] | None = None,
    ) -> None:
        seed_everything(3, deterministic=True)
        samples = [{"image": torch.full((4,), i / 12), "label": torch.tensor([i % 3 / 2])} for i in range(12)]
        noise = Compose([RandGaussianNoised("image", prob=0.9, std=0.3)])
        data = SeededCacheDataset(samples, noise, seed=3, cache_rate=1.0, progress=False)
        sampler = DistributedSampler(data, num_replicas=1, rank=0, shuffle=True, seed=3)
        self.network = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 1))
        self.ema = EmaModel(self.network, 0.9)
        optimizer = torch.optim.SGD(self.network.parameters(), 0.1, momentum=0.9)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=max_epochs * 3)
        scored = scores or {}
        self.validator = SupervisedEvaluator(
            device="cpu",
            val_data_loader=DataLoader(samples[:4], batch_size=4),
            network=self.ema,
            key_val_metric={"score": Average(lambda _: scored.get(self.trainer.state.epoch, 0.0))},
            val_handlers=[BestWeights(folder / "model.pt", self.ema.module)],
            decollate=False,
        )
        stop = EarlyStop(patience, self.validator)
        objects = {"network": self.network, "ema": self.ema, "optimizer": optimizer, "schedule": schedule, "stop": stop}
        self.losses: list[float] = []
        self.trainer = SupervisedTrainer(
            device="cpu",
            max_epochs=max_epochs,
            train_data_loader=DataLoader(data, batch_size=4, sampler=sampler),
            network=self.network,
            optimizer=optimizer,
            loss_function=nn.MSELoss(),
            train_handlers=[
                EpochSeeds(3),
                LrScheduleHandler(schedule, print_lr=False, epoch_level=False),
                EmaUpdater(self.ema, self.network),
                ValidationHandler(1, self.validator),
                stop,
                TrainingState(folder, objects, resume, self.validator),
            ],
            decollate=False,
        )
        self.trainer.add_event_handler(
            Events.ITERATION_COMPLETED, lambda: self.losses.append(self.trainer.state.output["loss"].item())
        )

    def stopped_after(self, epoch: int) -> Run:
        """The same training, killed in the middle of the next epoch."""

        class KilledError(Exception):
            pass

        def kill(engine: Engine) -> None:
            if engine.state.epoch == epoch + 1:
                raise KilledError

        self.trainer.add_event_handler(Events.ITERATION_COMPLETED, kill)
        with pytest.raises(KilledError):
            self.trainer.run()
        return self

    def state(self) -> dict[str, Tensor]:
        return {f"{n}.{k}": v for n, m in (("net", self.network), ("ema", self.ema)) for k, v in m.state_dict().items()}


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("epoch", [1, 3])
def test_a_resumed_training_ends_like_one_that_never_stopped(tmp_path: Path, epoch: int) -> None:
    whole = Run(tmp_path / "whole")
    whole.trainer.run()
    Run(tmp_path / "parts").stopped_after(epoch)
    torch.rand(7)  # what happens between the runs does not matter
    rest = Run(tmp_path / "parts", resume="auto")
    rest.trainer.run()
    assert rest.losses == whole.losses[epoch * 3 :]
    assert equal(rest.state(), whole.state())
    assert rest.trainer.state.iteration == whole.trainer.state.iteration == 15
    assert len(set(whole.losses)) == 15


def test_a_path_resumes_and_a_finished_training_is_left_alone(tmp_path: Path) -> None:
    whole = Run(tmp_path / "a")
    whole.trainer.run()
    again = Run(tmp_path / "b", resume=str(tmp_path / "a" / "last.pt"))
    again.trainer.run()
    assert again.losses == []
    assert equal(again.state(), whole.state())


def test_without_resume_training_starts_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = Run(tmp_path)
    first.trainer.logger.propagate = True
    first.trainer.run()
    assert "will replace" not in caplog.text
    second = Run(tmp_path)
    second.trainer.logger.propagate = True
    second.trainer.run()
    assert second.losses == first.losses
    assert f"will replace the one in {tmp_path}" in caplog.text
    with caplog.at_level(logging.INFO):
        third = Run(tmp_path / "empty", resume="auto")
        third.trainer.logger.propagate = True
        third.trainer.run()
    assert third.losses == first.losses
    assert "training starts anew" in caplog.text


def test_the_best_weights_are_those_of_the_average_and_survive_a_resumption(tmp_path: Path) -> None:
    scores = {1: 0.1, 2: 0.9, 3: 0.2, 4: 0.3, 5: 0.4}
    kept: dict[str, Tensor] = {}
    run = Run(tmp_path, scores=scores)

    def keep(engine: Engine) -> None:
        if engine.state.epoch == 2:
            kept.update(copy.deepcopy(run.ema.module.state_dict()))

    run.trainer.add_event_handler(Events.EPOCH_COMPLETED, keep)
    run.stopped_after(3)
    assert not equal(kept, run.network.state_dict())
    assert equal(torch.load(tmp_path / "model.pt", weights_only=True), kept)
    rest = Run(tmp_path, resume="auto", scores=scores)
    rest.trainer.run()
    assert (rest.validator.state.best_metric, rest.validator.state.best_metric_epoch) == (0.9, 2)
    assert equal(torch.load(tmp_path / "model.pt", weights_only=True), kept), "worse weights do not replace better ones"


def test_the_moving_average_validates(tmp_path: Path) -> None:
    run = Run(tmp_path)
    seen: list[Tensor] = []
    run.validator.add_event_handler(Events.ITERATION_COMPLETED, lambda: seen.append(run.validator.state.output["pred"]))
    run.trainer.run()
    batch = torch.stack([torch.full((4,), i / 12) for i in range(4)])
    assert torch.equal(seen[-1], run.ema.module(batch))
    assert not torch.allclose(seen[-1], run.network.eval()(batch))


def test_the_average_follows_steps_not_iterations(tmp_path: Path) -> None:
    run = Run(tmp_path, max_epochs=1)
    run.trainer.accumulation_steps = 2
    run.trainer.run()
    assert int(run.ema.step) == 2  # of three iterations: after the second and at the end of the epoch


def test_early_stop(tmp_path: Path) -> None:
    scores = {1: 0.5, 2: 0.6, 3: 0.6, 4: 0.4, 5: 0.9}
    off = Run(tmp_path / "off", scores=scores)
    off.trainer.run()
    assert off.trainer.state.epoch == 5
    on = Run(tmp_path / "on", scores=scores, patience=2)
    on.trainer.run()
    assert on.trainer.state.epoch == 4  # two validations without an improvement on 0.6
    after = Run(tmp_path / "on", scores=scores, patience=2, resume="auto")
    after.trainer.run()
    assert after.losses == [], "a training that was stopped early is not taken up again"


def test_early_stop_counts_on_after_a_resumption(tmp_path: Path) -> None:
    scores = {1: 0.6, 2: 0.5, 3: 0.5, 4: 0.5, 5: 0.5}
    Run(tmp_path, scores=scores, patience=3).stopped_after(3)
    rest = Run(tmp_path, scores=scores, patience=3, resume="auto")
    rest.trainer.run()
    assert rest.trainer.state.epoch == 4


@pytest.mark.parametrize("stopped", [3, 5])
def test_a_training_is_extended_along_the_longer_schedule(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, stopped: int
) -> None:
    first = Run(tmp_path)
    first.stopped_after(stopped) if stopped < 5 else first.trainer.run()
    longer = Run(tmp_path, resume="auto", max_epochs=8)
    longer.trainer.logger.propagate = True
    rates: list[float] = []
    optimizer = longer.trainer.optimizer
    longer.trainer.add_event_handler(Events.ITERATION_STARTED, lambda: rates.append(optimizer.param_groups[0]["lr"]))
    longer.trainer.run()
    assert rates == pytest.approx([0.1 * (1 - step / 24) for step in range(stopped * 3, 24)])
    assert len(longer.losses) == (8 - stopped) * 3
    assert "extended from 5 to 8 epochs" in caplog.text
    again = Run(tmp_path, resume="auto", max_epochs=8)
    again.trainer.run()
    assert again.losses == [], "what was extended counts as a training of 8 epochs"
    assert equal(again.state(), longer.state())


def test_an_extended_training_that_is_interrupted_ends_like_one_that_was_not(tmp_path: Path) -> None:
    for name in ("whole", "parts"):
        Run(tmp_path / name).trainer.run()
    whole = Run(tmp_path / "whole", resume="auto", max_epochs=8)
    whole.trainer.run()
    Run(tmp_path / "parts", resume="auto", max_epochs=8).stopped_after(6)
    rest = Run(tmp_path / "parts", resume="auto", max_epochs=8)
    rest.trainer.run()
    assert equal(rest.state(), whole.state())


def test_a_chained_schedule_is_wound_on(tmp_path: Path) -> None:
    def chained(total: int) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.ChainedScheduler]:
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.1)
        warm = torch.optim.lr_scheduler.LinearLR(optimizer, 0.01, 1.0, total_iters=4)
        down = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=total)
        return optimizer, torch.optim.lr_scheduler.ChainedScheduler([warm, down], optimizer)

    _, old = chained(10)
    optimizer, new = chained(20)
    expected, whole = chained(20)
    start = [group["lr"] for group in optimizer.param_groups]
    for _ in range(7):
        old.optimizer.step()
        old.step()
        whole.step()
    optimizer.param_groups[0]["lr"] = 0.0  # as the loaded state of a finished training has it
    wind_on(new, start, old.state_dict())
    for _ in range(5):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(expected.param_groups[0]["lr"])
        new.step()
        whole.step()


def test_an_early_stop_is_lifted_by_more_epochs(tmp_path: Path) -> None:
    scores = {1: 0.6, 2: 0.5, 3: 0.5, 4: 0.5, 5: 0.7, 6: 0.1, 7: 0.1}
    Run(tmp_path, scores=scores, patience=2).trainer.run()
    longer = Run(tmp_path, scores=scores, patience=2, resume="auto", max_epochs=8)
    longer.trainer.run()
    assert longer.trainer.state.epoch == 7  # the better one after 3 was met, then two without
    assert longer.validator.state.best_metric == 0.7


def test_what_cannot_be_resumed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"no .*last\.pt"):
        Run(tmp_path, resume=str(tmp_path / "last.pt")).trainer.run()
    Run(tmp_path).trainer.run()
    with pytest.raises(ConfigError, match="max_epochs 5, now it is 4"):
        Run(tmp_path, resume="auto", max_epochs=4).trainer.run()
    with pytest.raises(BundleError, match=r"model\.pt holds no training state"):
        Run(tmp_path, resume=str(tmp_path / "model.pt")).trainer.run()
    (tmp_path / "broken.pt").write_bytes((tmp_path / "last.pt").read_bytes()[:500])
    with pytest.raises(BundleError, match="cannot be read"):
        Run(tmp_path, resume=str(tmp_path / "broken.pt")).trainer.run()


def test_samples_depend_on_seed_epoch_and_index_alone() -> None:
    def data(seed: int = 1) -> SeededCacheDataset:
        samples = [{"image": torch.zeros(3)} for _ in range(4)]
        transform = Compose([RandGaussianNoised("image", prob=1.0)])
        return SeededCacheDataset(samples, transform, seed=seed, cache_rate=1.0, progress=False)

    def image(of: Any, index: int, epoch: int = 1) -> list[float]:
        of.set_epoch(epoch)
        values: list[float] = np.asarray(of[index]["image"]).tolist()
        return values

    first, second = data(), data()
    expected = [image(first, i) for i in range(4)]
    assert [image(second, i) for i in reversed(range(4))] == expected[::-1]
    assert len({tuple(e) for e in expected}) == 4
    assert image(second, 0, epoch=2) != expected[0]
    assert image(data(2), 0) != expected[0]
    workers = DataLoader(second, batch_size=1, num_workers=2)
    second.set_epoch(1)
    assert [batch["image"][0].tolist() for batch in workers] == expected


def test_deterministic_is_handed_to_torch() -> None:
    seed_everything(1, deterministic=True)
    try:
        assert torch.are_deterministic_algorithms_enabled()
        assert (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark) == (True, False)
        first = torch.rand(3), np.random.rand(3)  # noqa: NPY002
    finally:
        seed_everything(1)
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.equal(torch.rand(3), first[0])
    assert np.array_equal(np.random.rand(3), first[1])  # noqa: NPY002


def test_precision_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert use_amp(True, "bfloat16", "cpu") is False
        assert "float32 on cpu; mixed precision (amp) works on CUDA only" in caplog.text
        assert use_amp(False, "float16", torch.device("cpu")) is False
        assert "float32 on cpu" in caplog.text
    assert amp_arguments("float16") == {"dtype": torch.float16}
    with pytest.raises(ConfigError, match="float16 or bfloat16"):
        use_amp(True, "float8", "cpu")


def test_shares_of_a_batch(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    assert share_of_batch(64) == 64
    monkeypatch.setattr("ignite.distributed.get_world_size", lambda: 2)
    assert share_of_batch(64) == 32
    with pytest.raises(ConfigError, match="batch of 5"):
        share_of_batch(5)
    assert synchronized(network, "cpu") is network
    assert "share of one process" in caplog.text
    assert any(isinstance(m, nn.SyncBatchNorm) for m in synchronized(network, "cuda").modules())


def test_a_handler_that_the_state_knows_is_attached_itself() -> None:
    class Counts:
        epochs = 0

        def attach(self, engine: Engine) -> None:
            engine.add_event_handler(Events.EPOCH_COMPLETED, self)

        def __call__(self) -> None:
            self.epochs += 1

    known, engine = Counts(), Engine(lambda engine, batch: None)
    Attach(known).attach(engine)
    engine.run([0], max_epochs=3)
    assert known.epochs == 3
