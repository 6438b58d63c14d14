"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real test data; the test is skipped where it is absent."""
    folder = Path(os.environ.get("STRIDE_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "wsi").is_dir():
        pytest.skip(f"no real test data at {folder} (set STRIDE_TEST_DATA)")
    return folder
