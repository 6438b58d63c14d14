"""Plug-ins: found by name, in one order, refused in one way."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import plug_ins
import pytest

from stride_monai import plugins
from stride_monai.data.importers import IMPORTERS
from stride_monai.errors import ConfigError
from stride_monai.exporters.writers import WRITERS
from stride_monai.plugins import Plugins
from stride_monai.slides.readers.registry import READERS

SHAPES: Plugins[object] = Plugins(
    "shape", "stride_monai.shapes", {"zig": "math:sin", "arc": "math:cos"}, also=("auto",)
)
KINDS = [READERS, IMPORTERS, WRITERS, SHAPES]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_every_plug_in_of_our_own_is_there_and_ours_come_first(
    kind: Plugins[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    plug_ins.add(monkeypatch, kind, zoo="math:tan", abc="math:tan")
    assert list(kind.values()) == [*kind.built_in, "abc", "zoo"]
    for name in kind.built_in:
        assert kind.fits(kind.load(name))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_one_policy_for_clashes_unknown_names_and_what_cannot_be_imported(
    kind: Plugins[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = next(iter(kind.built_in))
    plug_ins.add(monkeypatch, kind, **{known: "elsewhere:thing"})
    with pytest.raises(
        ConfigError, match=rf"two {kind.kind}s are named '{known}' \({kind.built_in[known]} and elsewhere:thi"
    ):
        kind.load(next(reversed(kind.built_in)))
    plug_ins.add(monkeypatch, kind, **{known: kind.built_in[known]})
    kind.load(known)  # the same thing twice is one
    plug_ins.add(monkeypatch, kind, gone="no_such_package:thing", lacking="math:no_such", odd="math:pi")
    with pytest.raises(ConfigError, match=rf"unknown {kind.kind} '{known}s': did you mean {known}\? choose from"):
        kind.load(f"{known}s")
    for name, says in (
        ("gone", "cannot be imported .*no_such_package"),
        ("lacking", "cannot be"),
        ("odd", f"is no {kind.kind}"),
    ):
        with pytest.raises(
            ConfigError, match=rf"the {kind.kind} '{name}' \(.*\) {says}.*: repair or uninstall the package"
        ):
            kind.load(name)


def test_a_module_that_fails_when_it_is_imported_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a_bad_plug_in.py").write_text("raise ArithmeticError('no licence')")
    monkeypatch.syspath_prepend(tmp_path)
    plug_ins.add(monkeypatch, SHAPES, bad="a_bad_plug_in:thing")
    assert list(SHAPES.values())[-1] == "bad", "it is imported when it is asked for"
    with pytest.raises(ConfigError, match=r"the shape 'bad' \(a_bad_plug_in:thing\) cannot be imported \(no licence\)"):
        SHAPES.load("bad")


def test_an_older_installation_of_this_package_adds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stride-monai", "somebody-elses"):
        info = tmp_path / f"{name.replace('-', '_')}-0.0.1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.0.1\n")
        (info / "entry_points.txt").write_text(f"[stride_monai.shapes]\n{name} = moved:thing\n")
    monkeypatch.syspath_prepend(tmp_path)
    plugins.declared.cache_clear()
    try:
        assert list(SHAPES.values()) == ["zig", "arc", "somebody-elses"]
    finally:
        plugins.declared.cache_clear()


def test_a_source_tree_that_was_never_installed_has_its_own(tmp_path: Path) -> None:
    (tmp_path / "stride_monai").symlink_to(Path(plugins.__file__).parent)
    code = (
        "from stride_monai.exporters.writers import WRITERS; from stride_monai.slides.readers.registry import READERS;"
        "from stride_monai.data.importers import IMPORTERS; from importlib.metadata import entry_points;"
        "print([kind.load(name) is None for kind in (READERS, IMPORTERS, WRITERS) for name in kind.built_in])"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(
        [False] * (len(READERS.built_in) + len(IMPORTERS.built_in) + len(WRITERS.built_in))
    )


def test_the_order_follows_neither_the_path_nor_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [EntryPoint(name, "math:tan", SHAPES.group) for name in ("b", "c", "a")]
    monkeypatch.setattr(plugins, "entry_points", lambda group: points)
    plugins.declared.cache_clear()
    try:
        assert [point.name for point in plugins.declared(SHAPES.group)] == ["a", "b", "c"]
    finally:
        plugins.declared.cache_clear()
