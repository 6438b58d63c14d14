"""Headless Chromium for tests of pages."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

__all__ = ["AXE", "browser", "serious_faults"]

AXE = Path(__file__).resolve().parent.parent / "vendor" / "axe-core" / "axe.min.js"
_NAMES = ("chromium", "chromium-browser", "google-chrome")
_ARGUMENTS = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]


@contextlib.contextmanager
def browser() -> Iterator[Any]:
    """A running Chromium; the test is skipped where there is none."""
    found = next((path for name in _NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("needs Chromium (apt-get install chromium)")
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright (extra dev)")
    with api.sync_playwright() as started:
        running = started.chromium.launch(executable_path=found, args=_ARGUMENTS)
        try:
            yield running
        finally:
            running.close()


def serious_faults(page: Any) -> list[str]:
    """What axe-core calls serious or critical on the page as it is now, by rule, with where it is."""
    if not page.evaluate("() => Boolean(window.axe)"):
        page.evaluate(AXE.read_text(encoding="utf-8"))
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
    result = page.evaluate("tags => axe.run(document, {runOnly: {type: 'tag', values: tags}})", tags)
    return [
        f"{fault['id']}: {fault['help']} ({', '.join(node['target'][0] for node in fault['nodes'][:5])})"
        for fault in result["violations"]
        if fault["impact"] in {"serious", "critical"}
    ]
