"""Self-training in generations within one run of a trainer: CReST."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from typing import Any

import torch
from ignite import distributed as idist
from ignite.engine import Engine, Events
from monai.data import DataLoader
from torch import Tensor, nn
from torch.utils.data import Subset

from stride_monai.bethesda import CELL_CLASSES
from stride_monai.data.datasets.cells import GrownCells
from stride_monai.data.datasets.sampling import CellSampler
from stride_monai.errors import ConfigError
from stride_monai.losses.crest import CReST
from stride_monai.networks.ema import EmaModel
from stride_monai.transforms.augmentation import ScaleUint8

__all__ = ["CrestGenerations", "epochs_per_generation"]

_log = logging.getLogger(__name__)


def epochs_per_generation(epochs: int, generations: int) -> int:
    """Epochs of each generation of a training of so many in all; the last generation may be shorter."""
    return -(-epochs // generations)


class CrestGenerations:
    """Trains the generations of CReST one after another in one run of the trainer (:mod:`stride_monai.losses.crest`).

    A generation lasts ``epochs`` epochs of the trainer. When the next one begins, the moving average of the network
    classifies every unlabelled cell; those that the method chooses join the labelled cells, in the place of those of
    the generation before; network, average, optimiser and learning rate go back to where the run began. Validation goes
    on throughout, so the weights that are kept are the best of all generations.

    Its state (generation, chosen cells, first weights) belongs into the training state, so that a run that was stopped
    goes on in its generation. List it last among the trainer's handlers.

    Args:
        method: CReST.
        network: what trains (not its data-parallel wrapper).
        ema: its moving average, which gives the pseudo-labels.
        optimizer, lr_scheduler: of the trainer; the schedule is that of ONE generation.
        unlabelled: data set with ``image`` (uint8), as of the trainer.
        epochs: of a generation. The trainer has ``method.generations * epochs``, or fewer, which the log says.
        balance: as of :class:`~stride_monai.data.CellSampler`.
        batch_size: for classifying the unlabelled cells.

    Raises:
        ConfigError: when the trainer starts, if it has more epochs than all generations together.
    """

    def __init__(
        self,
        method: CReST,
        network: nn.Module,
        ema: EmaModel,
        optimizer: torch.optim.Optimizer,
        lr_scheduler: Any,
        unlabeled: Any,
        epochs: int,
        balance: float = 0.0,
        batch_size: int = 256,
    ) -> None:
        self.method, self.network, self.unlabeled, self.epochs = method, network, unlabeled, epochs
        self.balance, self.batch_size = balance, batch_size
        self.ema = ema
        self._restarted = {"network": network, "ema": ema, "optimizer": optimizer, "lr_scheduler": lr_scheduler}
        self._first: dict[str, Any] = {}
        self.chosen = torch.zeros(0, dtype=torch.int64)
        self.label = torch.zeros(0, dtype=torch.int64)
        self._labeled: Any = None
        self._sampler: CellSampler | None = None

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.EPOCH_STARTED, self.begin_epoch)

    def state_dict(self) -> dict[str, Any]:
        """Chosen cells, their pseudo-labels, and what a generation starts from. The method has a state of its own."""
        return {"chosen": self.chosen, "label": self.label, "first": self._first}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up :meth:`state_dict` of a run that was stopped."""
        self.chosen, self.label, self._first = state["chosen"], state["label"], state["first"]

    def start(self, engine: Any) -> None:
        """Remember what every generation starts from, unless a resumed state knows it."""
        whole = self.method.generations * self.epochs
        if engine.state.max_epochs > whole:
            raise ConfigError(
                f"{self.method.generations} generations of {self.epochs} epochs in {engine.state.max_epochs} epochs",
                "give the trainer's max_epochs as generations times epochs",
            )
        if engine.state.max_epochs < whole:
            engine.logger.warning(
                "%d epochs end before %d generations of %d epochs do",
                *(engine.state.max_epochs, self.method.generations, self.epochs),
            )
        self._labeled, self._sampler = engine.data_loader.dataset, None
        if not self._first:
            self._first = {name: copy.deepcopy(thing.state_dict()) for name, thing in self._restarted.items()}

    def begin_epoch(self, engine: Any) -> None:
        """Turn to the next generation where it is time, and set the order of the grown set."""
        generation, place = divmod(engine.state.epoch - 1, self.epochs)
        if place == 0:
            if generation:
                self._choose(engine.state.device)
                for name, thing in self._restarted.items():
                    thing.load_state_dict(copy.deepcopy(self._first[name]))
            self.method.start(generation)
        if generation and (place == 0 or self._sampler is None):  # None: resumed within a generation
            loader = self._grown_loader(engine.data_loader)
            self._sampler = loader.sampler
            self._sampler.set_epoch(engine.state.epoch)
            engine.set_data(loader)
        elif self._sampler is not None:
            self._sampler.set_epoch(engine.state.epoch)

    def _choose(self, device: torch.device | str) -> None:
        probabilities = self.classify(device)
        self.chosen, self.label = self.method.choose(probabilities)
        counts = torch.bincount(self.label, minlength=len(CELL_CLASSES)).tolist()
        said = ", ".join(f"{name} {count}" for name, count in zip(CELL_CLASSES, counts, strict=False))
        _log.info("%d of %d pseudo-labels join: %s", len(self.chosen), len(probabilities), said)

    @torch.no_grad()
    def classify(self, device: torch.device | str) -> Tensor:
        """Class probabilities of every unlabelled cell ``[N, C]``, on the CPU; the processes share the work."""
        rank, world = idist.get_rank(), idist.get_world_size()
        size = len(self.unlabeled)
        mine = [i % size for i in range(rank, -(-size // world) * world, world)]  # equally many for every process
        loader = DataLoader(Subset(self.unlabeled, mine), batch_size=self.batch_size, num_workers=0)
        parts = [self.ema.module(ScaleUint8()(batch["image"].to(device))).float().softmax(1) for batch in loader]
        found = torch.cat(parts)
        if world > 1:
            found = idist.all_gather(found).reshape(world, len(mine), -1).transpose(0, 1).flatten(0, 1)
        return found[:size].cpu()

    def _grown_loader(self, loader: Any) -> Any:
        """A loader like the trainer's for labelled and chosen cells together; an epoch keeps its length."""
        cells = GrownCells(self._labeled, self.unlabeled, self.chosen, self.label)
        usual = loader.sampler
        sampler = CellSampler(cells.data, self.balance, usual.total_size, usual.seed, usual.num_replicas, usual.rank)
        return DataLoader(cells, batch_size=loader.batch_size, sampler=sampler, num_workers=loader.num_workers)
