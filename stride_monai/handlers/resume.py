"""Save all that a training needs to go on exactly where it stopped, and go on."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ignite import distributed as idist
from ignite.engine import Engine, Events
from torch.optim.lr_scheduler import LRScheduler

from stride_monai.errors import BundleError, ConfigError
from stride_monai.files import replacing
from stride_monai.handlers.validation import EarlyStop

__all__ = ["AUTO", "LAST_NAME", "Attach", "TrainingState", "wind_on"]

LAST_NAME = "last.pt"
AUTO = "auto"


class Attach:
    """Attaches a handler that the state of a training knows, too.

    In a configuration both then refer to the one object (``@early_stop``), and the list of handlers still holds
    components alone, as MONAI's check of a bundle's properties wants it.
    """

    def __init__(self, handler: Any) -> None:
        self.handler = handler

    def attach(self, engine: Engine) -> None:
        self.handler.attach(engine)


class TrainingState:
    """Writes ``last.pt`` after each epoch and, if asked, takes a training up from such a file.

    With :class:`~stride_monai.handlers.EpochSeeds` a training that was stopped after any epoch and resumed ends
    with the weights of one that never stopped (bit by bit on a CPU). List it last among the trainer's handlers, so that
    the file holds what validation and early stopping concluded.

    A training is extended by resuming it with more epochs: the learning rate then follows the longer schedule from
    there, and an early stop is lifted. That is not the training that had more epochs from the start, and the log says
    so. Fewer epochs are refused.

    Args:
        save_dir: where ``last.pt`` goes. Process 0 writes; it appears complete or not at all.
        objects: by name, whatever has ``state_dict`` and ``load_state_dict``: network, optimiser, schedulers, moving
            average, early stopping. The trainer's epoch and the scaler of mixed precision come by themselves.
        resume: path of a file to go on from; ``auto``: ``last.pt`` in ``save_dir`` if it is there; empty: start anew.
        validator: MONAI evaluator whose best metric so far is kept.
        interval: epochs from one file to the next.

    Raises:
        BundleError: at the start, if the file cannot be read or is of another training.
        ConfigError: at the start, if there are fewer epochs than before or another number of iterations per epoch: the
            schedule of the learning rate would not be the one that was begun.
    """

    def __init__(
        self,
        save_dir: Path | str,
        objects: Mapping[str, Any],
        resume: Path | str | None = "",
        validator: Any = None,
        interval: int = 1,
    ) -> None:
        self.path = Path(save_dir) / LAST_NAME
        self.objects = dict(objects)
        self.resume = str(resume or "")
        self.validator = validator
        self.interval = interval

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.EPOCH_COMPLETED(every=self.interval), self.save)

    def start(self, engine: Any) -> None:
        """Load, where something is to be resumed."""
        path = (self.path if self.resume == AUTO else Path(self.resume)).absolute()
        if not self.resume or (self.resume == AUTO and not path.is_file()):
            if self.resume:
                engine.logger.info("no %s to resume from: training starts anew", path)
            elif self.path.is_file() and idist.get_rank() == 0:
                engine.logger.warning(
                    "training starts anew and will replace the one in %s: stop now and add --resume %s to go on with "
                    "that, or give another output_dir to keep it",
                    self.path.parent,
                    AUTO,
                )
            return
        content = self._read(path, engine)
        extended = self._extended(content, engine, path)
        things = self._everything(engine)
        schedules = {name: thing for name, thing in things.items() if extended and isinstance(thing, LRScheduler)}
        rates = {name: [group["lr"] for group in thing.optimizer.param_groups] for name, thing in schedules.items()}
        for name, thing in things.items():
            if name not in schedules:
                thing.load_state_dict(content["objects"][name])
        for name, schedule in schedules.items():
            wind_on(schedule, rates[name], content["objects"][name])
        engine.state.epoch, engine.state.iteration = content["epoch"], content["epoch"] * content["epoch_length"]
        engine.state.best_metric, engine.state.best_metric_epoch = content["best"]["trainer"]
        if self.validator is not None:
            self.validator.state.best_metric, self.validator.state.best_metric_epoch = content["best"]["validator"]
        engine.logger.info("resumed %s after epoch %d of %d", path, engine.state.epoch, engine.state.max_epochs)
        if extended:
            engine.logger.warning(
                "extended from %d to %d epochs: the learning rate follows the longer schedule from here",
                content["max_epochs"],
                engine.state.max_epochs,
            )
            for thing in things.values():
                if isinstance(thing, EarlyStop):
                    thing.begin_anew()
        elif content["stopped"]:
            engine.logger.info("that training had been stopped early: more max_epochs would extend it")
            engine.terminate()
        elif content["epoch"] >= engine.state.max_epochs:
            engine.logger.info("that training is finished: more max_epochs would extend it")

    def save(self, engine: Any) -> None:
        """Write the file."""
        if idist.get_rank() > 0:
            return
        state = engine.state
        content = {
            "epoch": int(state.epoch),
            "max_epochs": int(state.max_epochs),
            "epoch_length": int(state.epoch_length),
            "stopped": bool(engine.should_terminate),
            "best": {name: _best(of) for name, of in (("trainer", engine), ("validator", self.validator))},
            "objects": {name: thing.state_dict() for name, thing in self._everything(engine).items()},
        }
        with replacing(self.path) as temporary:
            torch.save(content, temporary)

    def _everything(self, engine: Any) -> dict[str, Any]:
        scaler = getattr(engine, "scaler", None)
        return self.objects if scaler is None else {**self.objects, "scaler": scaler}

    def _read(self, path: Path, engine: Any) -> dict[str, Any]:
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except FileNotFoundError as error:
            raise BundleError(f"there is no {path} to resume from", "give the path of a last.pt") from error
        except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
            raise BundleError(f"{path} cannot be read", "resume from another checkpoint, or start anew") from error
        names = set(self._everything(engine))
        found = set(content.get("objects", ())) if isinstance(content, dict) else set()
        if found != names:
            raise BundleError(
                f"{path} holds {', '.join(sorted(found)) or 'no training state'}, not {', '.join(sorted(names))}",
                "resume with the configuration that it was made with; only last.pt can be resumed",
            )
        return dict(content)

    def _extended(self, content: Mapping[str, Any], engine: Any, path: Path) -> bool:
        """Whether there are more epochs than the training was begun with."""
        before, now = content["max_epochs"], engine.state.max_epochs
        if content["epoch_length"] != engine.state.epoch_length:
            raise ConfigError(
                f"{path} is of a training with epoch_length {content['epoch_length']}, now it is "
                f"{engine.state.epoch_length}",
                "resume with the same data and global batch",
            )
        if now < before:
            raise ConfigError(
                f"{path} is of a training with max_epochs {before}, now it is {now}",
                f"give {before} to finish it, more to extend it, or another output_dir to start anew",
            )
        return bool(now > before)


def wind_on(schedule: Any, rates: list[float], state: Mapping[str, Any]) -> None:
    """Put a new schedule where the old one had come to.

    The state of a schedule holds its length, so it cannot be loaded into a longer one.

    Args:
        rates: learning rates of the groups when the schedule was new.
        state: of the old schedule.
    """
    steps = state["last_epoch"] if "last_epoch" in state else state["_schedulers"][0]["last_epoch"]
    for group, rate in zip(schedule.optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch expects a step of the optimizer before each of the schedule
        for _ in range(steps):
            schedule.step()


def _best(engine: Any) -> tuple[float, int]:
    """Best key metric and its epoch."""
    if engine is None:
        return -1.0, -1
    return float(engine.state.best_metric), int(engine.state.best_metric_epoch)
