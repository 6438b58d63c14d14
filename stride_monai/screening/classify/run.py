"""One run over cells: the table and what made it, both or neither."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Protocol

from stride_monai.errors import ConfigError, OutputError
from stride_monai.files import remove_leftovers, temporary_folder, write_bytes
from stride_monai.ownership import hand_over, read_list, refuse_foreign, refuse_inputs
from stride_monai.runs.claims import held
from stride_monai.runs.jobs import unheard
from stride_monai.screening.classify.config import ClassifyConfig
from stride_monai.screening.classify.inputs import CellInput, CellInputs
from stride_monai.screening.classify.results import (
    FACTS_NAME,
    TABLE_NAME,
    CellTable,
    ClassifiedCell,
    Tally,
    Used,
    facts_bytes,
)
from stride_monai.screening.store import BundleStore
from stride_monai.weights_files import kind_of_weights

__all__ = ["Classifies", "check_cells_config", "classified", "classify_into"]

_OF = "classified cells"


class Classifies(Protocol):
    """What classifies cells, in this process or in another one."""

    @property
    def used(self) -> Used | None:
        """What classifies; None as long as that is not known."""

    def __call__(self, cells: Sequence[CellInput]) -> list[ClassifiedCell]:
        """Each cell's class, in order; what cannot be read fails alone."""


def check_cells_config(config: ClassifyConfig) -> None:
    """Refuse, before anything heavy is imported, folders that hold no bundles and files that are no weights.

    Raises:
        BundleError: with the option that is wrong and the way out.
    """
    BundleStore.of(config)
    for file in chain(*config.weights.values()):
        kind_of_weights(file)


def classified(one: Classifies, cells: Iterable[CellInput], batch_size: int) -> Iterator[ClassifiedCell]:
    """Cells with their classes, in order; ``batch_size`` crops are in memory at a time, which changes no result."""
    waiting = iter(cells)
    while some := list(islice(waiting, batch_size)):
        yield from one(some)


def classify_into(
    out: Path,
    one: Classifies,
    cells: CellInputs,
    config: ClassifyConfig,
    batch_size: int = 64,
    tell: Callable[[ClassifiedCell], None] = unheard,
) -> Tally:
    """Classify cells into a folder: ``cells.csv`` and ``classify.json`` take the place of those of an earlier run.

    Args:
        tell: told of each cell.

    Raises:
        ConfigError: ``batch_size`` is below 1.
        OutputError: an input, or a file that is not ours, would be written over; the folder cannot be written to, or
            another run is using it.
        BundleError, ConfigError: the networks cannot be loaded as asked.
    """
    if batch_size < 1:
        raise ConfigError(f"invalid --batch-size {batch_size}", "give a whole number from 1")
    names, tally = (TABLE_NAME, FACTS_NAME), Tally()
    refuse_inputs([out / name for name in names], cells.arguments, "choose another --out")
    earlier = read_list(out)
    if earlier is not None and earlier.of != _OF:
        raise OutputError(f"{out} holds other files of stride-monai ({earlier.of})", "choose another --out")
    refuse_foreign(out, names, lambda name: earlier is not None and earlier.own(out, name))
    with held(out):
        remove_leftovers(out)
        try:
            with temporary_folder(out) as made:
                with CellTable(made / TABLE_NAME, cells.columns, config.descriptions) as table:
                    for said in classified(one, cells, batch_size):
                        table.add(said)
                        tally.add(said)
                        tell(said)
                facts = facts_bytes(config, one.used, tally, cells.arguments, cells.passed_over)
                write_bytes(made / FACTS_NAME, facts)
                hand_over(made, out, _OF, earlier, last=FACTS_NAME)
        except OSError as error:
            raise OutputError(f"cannot write to {out} ({error.strerror or error})", "check the disk space") from error
    return tally
