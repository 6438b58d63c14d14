"""Of one stage: the bundle of its network, and the weights files that hold it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple, Self

from stride_monai.errors import BundleError
from stride_monai.workflows.locate import bundle_root

__all__ = ["MODEL", "PAPER", "Source"]

MODEL = "model.pt"
"""What training writes into a bundle's ``models``."""
PAPER = "yolo"
"""The detector of the paper, which the configurations of the bundle ``detection`` name."""
_NO_OVERLAYS = {"train", "inference"}


class Source(NamedTuple):
    """Of one stage: its bundle, and its weights where they were named.

    Attributes:
        home: folder of the bundle.
        own: it is one of the user's.
        given: the weights files that were named; none for those that the bundle names.
    """

    name: str
    home: Path
    profile: str
    own: bool = False
    given: tuple[Path, ...] = ()

    @classmethod
    def shipped(cls, name: str, profile: str) -> Self:
        """As it came with the package."""
        return cls(name, bundle_root(name), profile)

    @property
    def how(self) -> str:
        """As :class:`~stride_monai.screening.store.Origin` says it."""
        return "given" if self.given else "own bundle" if self.own else "shipped"

    def overlays(self, detector: str) -> list[str]:
        """Overlays that the bundle has for a detector, to be laid over the profile in this order."""
        names = (detector, f"{self.profile}_{detector}")
        return [name for name in names if (self.home / "configs" / f"{name}.json").is_file()]

    def detectors(self) -> list[str]:
        """The detectors that a ``detection`` bundle has, that of the paper first."""
        files = [path for path in sorted((self.home / "configs").glob("*.json")) if path.stem not in _NO_OVERLAYS]
        return [PAPER, *(path.stem for path in files if "network_def" in json.loads(path.read_text(encoding="utf-8")))]

    def files(self, detector: str = "") -> list[Path]:
        """The weights files to load, whether they are there or not.

        In a bundle of the user's, ``models/model.pt``, which training writes, stands in for a file that the
        configuration names and that is not there.

        Raises:
            BundleError: the bundle cannot be read, or it has both and which is meant is not clear.
        """
        if self.given:
            return list(self.given)
        from stride_monai.workflows.load import bundle_weights

        named = bundle_weights(self.home, self.profile, self.overlays(detector))
        trained = self.home / "models" / MODEL
        if not self.own or not trained.is_file() or trained.absolute() in [path.absolute() for path in named]:
            return named
        if all(path.is_file() for path in named):
            raise BundleError(
                f"{trained.parent.absolute()} has {named[-1].name}, which its configuration names, and {MODEL}, which "
                "training writes",
                f"say which: --weights {self.name}={trained} or --weights {self.name}={named[-1]}",
            )
        return [trained]

    def lacks(self, detector: str = "") -> str:
        """Why it cannot be used as it stands, in words; empty where all its weights files are there."""
        absent = [path.name for path in self.files(detector) if not path.is_file()]
        return f"the bundle {self.name} has no weights {absent[0]}" if absent else ""
