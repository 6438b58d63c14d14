"""Libraries of others are those that npm gave, but for the changes that are written down beside them."""

from __future__ import annotations

import hashlib
import json
from importlib import resources
from pathlib import Path

import pytest

FOLDER = Path(str(resources.files("stride_monai.review") / "static" / "vendor"))
FILES = json.loads((FOLDER / "changes.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", FILES)
def test_with_the_changes_taken_back_it_is_the_published_file(name: str) -> None:
    text = (FOLDER / name).read_text(encoding="utf-8")
    for change in FILES[name]["changes"]:
        assert text.count(change["to"]) == 1
        text = text.replace(change["to"], change["from"])
    assert hashlib.sha256(text.encode()).hexdigest() == FILES[name]["sha256"]


def test_nothing_there_makes_code_of_texts() -> None:
    for path in FOLDER.rglob("*.js"):
        text = path.read_text(encoding="utf-8")
        assert "new Function(" not in text, path.name
        assert "sourceMappingURL" not in text, path.name


def test_every_library_has_its_license_and_its_version() -> None:
    assert {(entry["package"], entry["version"]) for entry in FILES.values()} == {
        ("openseadragon", "6.1.1"),
        ("@annotorious/openseadragon", "3.8.10"),
    }
    assert "Redistribution and use" in (FOLDER / "openseadragon" / "LICENSE.txt").read_text(encoding="utf-8")
    assert "BSD 3-Clause" in (FOLDER / "annotorious" / "LICENSE").read_text(encoding="utf-8")
    assert "@pixi/core" in (FOLDER / "annotorious" / "THIRD-PARTY.txt").read_text(encoding="utf-8")
