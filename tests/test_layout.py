"""How the tests are laid out."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")


def test_no_test_file_imports_from_another() -> None:
    """What several need lies in tests/helpers, the only folder of tests on pytest's path."""
    files = [path for path in HERE.rglob("*.py") if path.name != Path(__file__).name]
    tests = {path.stem for path in files if path.name.startswith(("test_", "conftest"))}
    assert len(tests) > 100
    found = {str(path.relative_to(HERE)): [*imported(path)] for path in files}
    wrong = {name: [n for n in names if n.split(".")[-1] in tests or n[:1] == "."] for name, names in found.items()}
    assert not {name: names for name, names in wrong.items() if names}
    settings = tomllib.loads((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))
    assert settings["tool"]["pytest"]["ini_options"]["pythonpath"] == ["tests/helpers"]


def test_helpers_are_flat_and_named_once() -> None:
    helpers = {path.stem for path in (HERE / "helpers").glob("*.py")}
    assert not [path for path in (HERE / "helpers").iterdir() if path.is_dir() and path.name != "__pycache__"]
    assert not helpers & {path.stem for path in HERE.rglob("*.py") if path.parent != HERE / "helpers"}
