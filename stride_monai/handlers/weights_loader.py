"""Load weights when an engine starts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ignite.engine import Engine, Events
from torch import nn

from stride_monai.networks.weights import load_into

__all__ = ["WeightsLoader"]


class WeightsLoader:
    """Loads a ``.pt`` or ``.safetensors`` file into a network when the engine starts; every tensor has to fit.

    Args:
        load_path: the weights file, or several (see :func:`~stride_monai.networks.load_into`).
        network: takes the weights.
        source: take only the part of the file under this name, e.g. ``encoder``.

    Raises:
        BundleError: when the engine starts, if the file cannot be read or does not fit.
    """

    def __init__(self, load_path: Path | str | Sequence[Path | str], network: nn.Module, source: str = "") -> None:
        self.load_path = [load_path] if isinstance(load_path, Path | str) else list(load_path)
        self.network = network
        self.source = source

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        load_into(self.network, self.load_path, self.source)
        engine.logger.info("loaded %s", " + ".join(str(Path(path).absolute()) for path in self.load_path))
