"""Plug-ins of other packages, without installing any."""

from __future__ import annotations

import sys
import types
from importlib.metadata import EntryPoint
from typing import Any

import pytest

from stride_monai import plugins


def add(monkeypatch: pytest.MonkeyPatch, registry: plugins.Plugins[Any], /, **named: object) -> None:
    """Have packages declare plug-ins: by name the thing itself, or the ``module:attribute`` that they would state."""
    module = types.ModuleType("plug_ins_of_a_test")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    points = []
    for name, thing in sorted(named.items()):
        setattr(module, name, thing)
        value = thing if isinstance(thing, str) else f"{module.__name__}:{name}"
        points.append(EntryPoint(name, value, registry.group))
    declared = plugins.declared
    monkeypatch.setattr(plugins, "declared", lambda group: points if group == registry.group else declared(group))
