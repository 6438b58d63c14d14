"""Scoring: how far readers agree with one another, and the model with them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.scoring import ScoringMethod

from lib.workbench import Workbench
from stride_monai.annotations import CANNOT_TELL, agreement, meaning
from stride_monai.bethesda import NEGATIVE


class Agreement(ScoringMethod):
    """Cohen's and Fleiss' kappa of the readers, and their time."""

    def __init__(self, bench: Workbench) -> None:
        super().__init__("Agreement of readers (Cohen's and Fleiss' kappa), and their time")
        self.bench = bench

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        store = self.bench.store
        found = agreement([store.state(slide_id) for slide_id in store.slide_ids()], store.actions())
        return dataclasses.asdict(found)


class ModelAgainstReaders(ScoringMethod):
    """What became of the model's cells: share of lesions, share whose class stood."""

    def __init__(self, bench: Workbench) -> None:
        super().__init__("The model's cells against the readers: precision, and share of classes that stood")
        self.bench = bench

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Of the cells that a model proposed and of which one label stands."""
        count: Counter[str] = Counter()
        for slide_id in self.bench.store.slide_ids():
            for cell in self.bench.store.state(slide_id).present:
                if cell.proposed is None or cell.label is None or cell.label == CANNOT_TELL:
                    continue
                said = meaning(cell.label)
                count["cells"] += 1
                count["lesions"] += said != NEGATIVE
                count["class stood"] += said == cell.proposed.cell_class
        cells = count["cells"]
        shares = {"precision": count["lesions"] / cells, "accuracy": count["class stood"] / cells} if cells else {}
        return {**count, **shares}
