"""The files that others read first say what is true."""

from __future__ import annotations

import configparser
import json
import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")]


def version() -> str:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    return setup["metadata"]["version"]


def test_the_changelog_has_the_version_and_keeps_its_form() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## \[(.+)\](?: - (\d{4}-\d\d-\d\d))?$", text, re.MULTILINE)
    assert versions[0] == ("Unreleased", "")
    assert versions[1][0] == version()
    assert all(date for _, date in versions[1:])
    kinds = set(re.findall(r"^### (.+)$", text, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_the_citation_is_valid_and_of_this_version() -> None:
    """The keys that the Citation File Format 1.2.0 asks for."""
    cited: dict[str, Any] = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= cited.keys()
    assert (cited["cff-version"], cited["type"], cited["license"]) == ("1.2.0", "software", "Apache-2.0")
    assert cited["version"] == version()
    for entry in (cited, *cited["references"]):
        assert all(author.keys() in ({"name"}, {"family-names", "given-names"}) for author in entry["authors"])
    (paper,) = cited["references"]
    assert {"type", "title", "authors"} <= paper.keys()
    assert paper["identifiers"][0]["value"].removeprefix("arXiv:") in (ROOT / "README.md").read_text(encoding="utf-8")


def test_bundles_ask_for_this_version() -> None:
    """Their names and keys are those of one version of the package."""
    for path in (ROOT / "bundles").glob("*/configs/metadata.json"):
        meta = json.loads(path.read_text(encoding="utf-8"))
        assert meta["required_packages_version"]["stride-monai"] == version()
        assert next(iter(meta["changelog"])) == meta["version"]


def test_links_lead_to_files_that_are_there() -> None:
    for page in [*PAGES, *(ROOT / "docs").rglob("*.md")]:
        prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        for link in re.findall(r"\]\(([^)#\s]+)", prose):
            assert "://" in link or (page.parent / link).exists(), f"{page.name} links to {link}"


def test_a_bug_report_asks_for_no_patient() -> None:
    (bug,) = (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.md")
    _, head, body = bug.read_text(encoding="utf-8").split("---\n", 2)
    assert yaml.safe_load(head).keys() == {"name", "about"}
    assert "No data of patients" in body
