"""What screens, without the networks: for people, for the index of the run, and for a process that has none loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from stride_monai.findings import Described
from stride_monai.screening.store import Choice, Origin

if TYPE_CHECKING:
    from stride_monai.screening.models import Models

__all__ = ["About", "Reranked", "about"]


class Reranked(NamedTuple):
    """What re-ranks: its name, and that it keeps the best ``top_k`` of so many candidates."""

    name: str
    top_k: int
    candidates: int


@dataclass(frozen=True, slots=True)
class About:
    """What is to be said of :class:`~stride_monai.screening.Models`.

    Attributes:
        descriptions: whether cells are described, and why.
        holds: whether the threshold holds for these cells, so that calls are made.
        otherwise as of the models.
    """

    detector: Choice | None
    classifier: Choice
    descriptions: Described
    weights: Mapping[str, str]
    note: str
    holds: bool
    reranked: Reranked | None = None
    origins: Mapping[str, Origin] = field(default_factory=dict)

    def info(self) -> dict[str, object]:
        """For ``run.json``."""
        return {
            "detector": None if self.detector is None else self.detector._asdict(),
            "classifier": self.classifier._asdict(),
            "descriptions": self.descriptions.to_dict(),
            "weights": dict(self.weights),
            "weights_from": {
                name: {"from": origin.how, "files": [str(file.absolute()) for file in origin.files]}
                for name, origin in self.origins.items()
            },
        }


def about(models: Models) -> About:
    """What is to be said of these networks."""
    reranker = models.reranker
    return About(
        detector=models.detector_choice,
        classifier=models.classifier_choice,
        descriptions=models.explainer.facts,
        weights=dict(models.weights),
        note=models.note,
        holds=models.operating_point.holds,
        reranked=None if reranker is None else Reranked(reranker.name, reranker.top_k, reranker.candidates),
        origins=dict(models.origins),
    )
