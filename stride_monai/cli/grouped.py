"""Options that belong together, defined once as a dataclass and taken by several commands."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields, is_dataclass
from functools import wraps
from typing import Any, get_type_hints

__all__ = ["with_groups"]

_Parameter = inspect.Parameter


def with_groups(command: Callable[..., None]) -> Callable[..., None]:
    """The command as Typer takes it: each parameter whose type is a dataclass gives way to the fields of that.

    A field is an option as a parameter would be one: ``Annotated`` with ``typer.Option``, and with a default. The
    command is called with the dataclass made of what the user typed; its ``__post_init__`` may refuse that.
    """
    hints = get_type_hints(command, include_extras=True)
    own = inspect.signature(command).parameters.values()
    groups: dict[str, type] = {one.name: hints[one.name] for one in own if is_dataclass(hints[one.name])}
    spread = [option for one in own for option in _options(one, groups, hints)]

    @wraps(command)
    def spread_command(**given: Any) -> None:
        made = {
            name: group(**{one.name: given.pop(one.name) for one in fields(group)}) for name, group in groups.items()
        }
        command(**given, **made)

    del spread_command.__wrapped__  # whose annotations Typer would read
    spread_command.__annotations__ = {one.name: one.annotation for one in spread}
    spread_command.__signature__ = inspect.Signature(spread)  # type: ignore[attr-defined]
    return spread_command


def _options(one: _Parameter, groups: dict[str, type], hints: dict[str, Any]) -> Iterator[_Parameter]:
    if one.name not in groups:
        yield one.replace(annotation=hints[one.name], kind=_Parameter.KEYWORD_ONLY)
        return
    group = groups[one.name]
    kinds = get_type_hints(group, include_extras=True)
    for field in fields(group):
        default = _Parameter.empty if field.default is MISSING else field.default
        yield _Parameter(field.name, _Parameter.KEYWORD_ONLY, default=default, annotation=kinds[field.name])
