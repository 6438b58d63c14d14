"""Handlers of experiment trackers on engines whose output is one dictionary for the whole batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ignite.engine import Engine

__all__ = ["Tracked", "WholeBatch"]


class WholeBatch(list[Any]):
    """An engine's output as a list of one dictionary, which is itself asked where a key is asked for.

    Output transforms that are written for MONAI's decollated batches (``from_engine(["loss"], first=True)``,
    ``lambda x: x[0]["loss"]``) and those that are written for a dictionary both find what they look for.
    """

    def __init__(self, output: dict[str, Any]) -> None:
        super().__init__([output])

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(0)[key] if isinstance(key, str) else super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        return key in super().__getitem__(0) if isinstance(key, str) else super().__contains__(key)

    def get(self, key: str, default: Any = None) -> Any:
        """As of the dictionary."""
        return super().__getitem__(0).get(key, default)


class Tracked:
    """A tracker's handler (``MLFlowHandler`` or another that takes an ``output_transform``), attached so that it works.

    Args:
        handler: attaches itself to the engine, with its ``output_transform`` given a :class:`WholeBatch`.
    """

    def __init__(self, handler: Any) -> None:
        self.handler = handler
        transform = getattr(handler, "output_transform", None)
        if callable(transform):
            handler.output_transform = _of_whole_batches(transform)

    def attach(self, engine: Engine) -> None:
        self.handler.attach(engine)


def _of_whole_batches(transform: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def transformed(output: Any) -> Any:
        return transform(WholeBatch(output) if isinstance(output, dict) else output)

    return transformed
