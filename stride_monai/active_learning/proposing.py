"""Which cells to read next: the strategies by name, and the rules that hold for all of them.

A cell that another reader has read or holds is never given, unless a double read is asked for; a cell that the same
reader has read is never given twice. Cells of slides that nobody has looked at come first. Within these, the strategy
decides, and the same input and seed give the same cells.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

import numpy as np

from stride_monai.active_learning.candidates import Candidates, Indices, Read
from stride_monai.active_learning.diversity import by_diversity
from stride_monai.active_learning.random_order import at_random
from stride_monai.active_learning.top_k_review import by_rank
from stride_monai.active_learning.uncertainty import by_uncertainty
from stride_monai.errors import ConfigError, check_name

__all__ = ["STRATEGIES", "Strategy", "propose"]

Strategy = Callable[[Candidates, Indices, Indices, int, np.random.Generator], Indices]
"""``(candidates, free, taken, count, draw) -> chosen``: at most ``count`` of the rows ``free``, the best first, when
the rows ``taken`` were read before or are chosen already."""

STRATEGIES: Mapping[str, Strategy] = MappingProxyType(
    {
        "top_k_review": by_rank,
        "uncertainty": by_uncertainty,
        "diversity": by_diversity,
        "random": at_random,
    }
)
_READERS_OF_A_DOUBLE_READ = 2


def propose(
    strategy: str,
    candidates: Candidates,
    count: int,
    seed: int = 0,
    *,
    reader: str = "",
    reads: Iterable[Read] = (),
    double_read: bool = False,
) -> Indices:
    """Choose the cells that a reader should look at next.

    Args:
        strategy: one of :data:`STRATEGIES`. ``top_k_review``: the model's top cells. ``uncertainty``: where the model
            does not know, or disagrees with its teacher. ``diversity``: cells unlike those already read; needs
            features. ``random``.
        candidates: all cells of the run, those that were read too: what was read says what need not be read again.
        count: how many cells at most.
        seed: of what is drawn by lot; strategies other than ``random`` break ties alone by it.
        reader: who will read them.
        reads: what readers have read or hold.
        double_read: whether cells may be given that one other reader has read or holds.

    Returns:
        Rows of ``candidates``, int ``[<= count]``, the one to read first in front. Fewer, or none, where the run has
        no more cells for this reader.

    Raises:
        ConfigError: an unknown strategy, a negative count, or the strategy needs what the candidates do not have.
    """
    check_name("strategy", strategy, STRATEGIES)
    if count < 0:
        raise ConfigError(f"{count} cells were asked for", "ask for none or more")
    readers: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    looked_at: set[str] = set()
    for read in reads:
        readers[read.slide_id, read.cell_id].add(read.reader)
        looked_at.add(read.slide_id)
    allowed = _READERS_OF_A_DOUBLE_READ if double_read else 1
    by = [readers.get(key, set()) for key in candidates.keys]
    free = np.array([reader not in names and len(names) < allowed for names in by], dtype=bool)
    new = np.array([slide_id not in looked_at for slide_id in candidates.slide_ids], dtype=bool)
    taken = np.flatnonzero(np.array([bool(names) for names in by], dtype=bool))
    draw = np.random.default_rng(seed)
    chosen = np.empty(0, dtype=np.intp)
    for tier in (free & new, free & ~new):
        rows = np.flatnonzero(tier)
        if len(rows) and len(chosen) < count:
            before = np.concatenate([taken, chosen])
            more = STRATEGIES[strategy](candidates, rows, before, count - len(chosen), draw)
            chosen = np.concatenate([chosen, more])
    return chosen
