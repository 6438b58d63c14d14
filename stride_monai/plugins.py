"""Plug-ins: what other packages add by an entry point, and the package's own, found and refused in one way.

The package's own are named by :class:`Plugins` and not in setup.cfg, so that a source tree that was never installed has
them. A name stands for one thing: two packages that give it to different ones are refused by name, and so is a plug-in
that cannot be imported; nothing that someone relies on is left out, or replaced, in silence. A plug-in is imported when
it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar, cast

from stride_monai.errors import ConfigError, StrideError, check_name

__all__ = ["Plugins", "declared"]

T = TypeVar("T")


@cache
def declared(group: str) -> tuple[EntryPoint, ...]:
    """The entry points of a group. Looked up once: reading what all packages declare takes longer than a slide's open.

    Those of this package's own installation are left out: an older one may name modules that have moved.
    """
    points = (point for point in entry_points(group=group) if point.dist is None or point.dist.name != "stride-monai")
    return tuple(sorted(points, key=lambda point: (point.name, point.value)))


@dataclass(frozen=True)
class Plugins(Generic[T]):
    """All plug-ins of one kind.

    Args:
        kind: in words, ``reader``.
        group: of entry points, ``stride_monai.readers``.
        built_in: the package's own, ``module:attribute`` by name.
        fits: whether what was imported is a plug-in of this kind.
        also: names that are something else where a user gives one, such as ``auto``.
    """

    kind: str
    group: str
    built_in: Mapping[str, str]
    fits: Callable[[Any], bool] = callable
    also: tuple[str, ...] = ()

    def values(self) -> dict[str, str]:
        """``module:attribute`` by name: the package's own in their order, then the others in that of their names.

        Raises:
            ConfigError: two different things have one name.
        """
        found = dict(self.built_in)
        for point in declared(self.group):
            if found.setdefault(point.name, point.value) != point.value:
                raise ConfigError(
                    f"two {self.kind}s are named '{point.name}' ({found[point.name]} and {point.value})",
                    "uninstall one of the two packages or rename its entry point",
                )
        return found

    def check(self, *names: str) -> None:
        """Refuse a name that no plug-in has.

        Raises:
            ConfigError: naming the nearest one, and all.
        """
        known = (*self.also, *self.values())
        for name in names:
            check_name(self.kind, name, known)

    def load(self, name: str) -> T:
        """The plug-in of a name.

        Raises:
            ConfigError: there is none, it cannot be imported, or it is nothing of this kind.
        """
        values = self.values()
        if name not in values:
            self.check(name)
        what = f"the {self.kind} '{name}' ({values[name]})"
        advice = "reinstall stride-monai" if name in self.built_in else "repair or uninstall the package that adds it"
        try:
            loaded = EntryPoint(name, values[name], self.group).load()
        except StrideError:
            raise
        except Exception as error:  # whatever a foreign module does when it is imported
            raise ConfigError(f"{what} cannot be imported ({error or type(error).__name__})", advice) from error
        if not self.fits(loaded):
            raise ConfigError(f"{what} is no {self.kind}", advice)
        return cast(T, loaded)
