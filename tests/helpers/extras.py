"""Optional packages that tests need."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

__all__ = ["needs"]


def needs(package: str, extra: str) -> None:
    """Skip the test where a package is not installed.

    Unlike ``pytest.importorskip`` it imports nothing: ultralytics, imported other than by the package, leaves its
    patches of Pillow to all later tests.
    """
    if find_spec(package) is None:
        pytest.skip(f"needs the extra {extra}")
