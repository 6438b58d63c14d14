"""Overrides that name nothing are refused: MONAI adds them to the configuration, where nobody reads them.

A key is known if a config file that was given has it, if the component in which it stands takes an argument of that
name, or if something in the configuration refers to it.
"""

from __future__ import annotations

import difflib
import inspect
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pydoc import locate
from typing import Any

from stride_monai.errors import ConfigError

__all__ = ["refuse_unknown"]

_COMPONENT_KEYS = {"_target_", "_mode_", "_disabled_", "_requires_", "_desc_"}


def refuse_unknown(
    config: Mapping[str, Any], known: Mapping[str, Any], others: Sequence[Mapping[str, Any]] = ()
) -> None:
    """Refuse what overrides added to a configuration without anything reading it.

    Args:
        config: the configuration with the overrides in it.
        known: the configuration of the files alone.
        others: files that may be among them, each alone: what one has, another that lies over it may have replaced.

    Raises:
        ConfigError: for the first such key; the message has its full id and the nearest name that exists.
    """
    text = json.dumps(config, default=str).replace("#", "::")
    for path, key, choices in _added(config, known, ()):
        name = "#".join((*path, key))
        if key.startswith("+"):
            raise ConfigError(f"'--{name}' does nothing", "'+' merges in config files only: put it into one")
        if re.search(rf"[@%]{re.escape('::'.join((*path, key)))}(?![\w])", text):
            continue
        if any(_holds(other, (*path, key)) for other in others):
            continue
        near = _nearest(key, choices)
        advice = f"did you mean '--{'#'.join((*path, near))}'?" if near else f"known are {', '.join(sorted(choices))}"
        raise ConfigError(f"unknown option '--{name}'", advice)


def _nearest(key: str, choices: Sequence[str]) -> str | None:
    """The choice that was probably meant, if any: ``crop_px`` by ``crop_size`` rather than ``batch_size``."""

    def likeness(name: str) -> float:
        same_word = key.split("_")[0] == name.split("_")[0]
        return difflib.SequenceMatcher(None, name, key).ratio() + 0.1 * same_word

    best = max(sorted(choices), key=likeness, default="")
    return best if likeness(best) >= 0.6 else None


def _holds(file: Mapping[str, Any], path: Sequence[str]) -> bool:
    """Whether a configuration file says something at a path; its own keys may be paths (``state#ema``)."""
    for key, value in file.items():
        parts = re.split("#|::", key.lstrip("+"))
        if list(path[: len(parts)]) != parts:
            continue
        for part in path[len(parts) :]:
            value = value.get(part) if isinstance(value, Mapping) else None
        if value is not None:
            return True
    return False


def _added(config: Any, known: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str, list[str]]]:
    """Keys that ``config`` has and ``known`` has not: the path, the key, the names that would have been right."""
    if isinstance(config, list) and isinstance(known, list) and len(config) == len(known):
        for index, (value, base) in enumerate(zip(config, known, strict=True)):
            yield from _added(value, base, (*path, str(index)))
    # A macro ("%other") or a component of another class was replaced as a whole: there is nothing to compare with.
    if not (isinstance(config, Mapping) and isinstance(known, Mapping)):
        return
    if config.get("_target_") != known.get("_target_"):
        return
    if path and not known:  # a table that the user fills, such as the shares of sources
        return
    arguments, takes_any = _arguments(config["_target_"]) if "_target_" in config else ([], False)
    for key, value in config.items():
        choices = [name for name in (*known, *arguments) if not name.startswith("_")]
        if key == "_meta_":  # of metadata.json; an exported configuration holds it, too
            continue
        if key in known:
            yield from _added(value, known[key], (*path, key))
        elif key in arguments:
            continue
        # Where any argument is taken, only a name that is very close to a known one is a misspelling.
        elif not takes_any or difflib.get_close_matches(key, choices, n=1, cutoff=0.85):
            yield path, key, choices


def _arguments(target: Any) -> tuple[list[str], bool]:
    """Names that a ``_target_`` takes, and whether it takes any other (or cannot be looked at)."""
    try:
        parameters = inspect.signature(locate(str(target))).parameters.values()  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return [*_COMPONENT_KEYS], True
    takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters)
    return [*(parameter.name for parameter in parameters), *_COMPONENT_KEYS], takes_any
