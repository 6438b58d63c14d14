"""Fixtures and settings shared by all tests.

Property tests take the same examples in every run, on every machine and in every order of the files, so that a run
fails for what was changed and for nothing else. To look for new examples at random::

    pytest --hypothesis-profile=random tests/metrics/test_detection.py

A failure then prints a line ``@reproduce_failure(...)``; turn it into an ``@example(...)`` of the test. No database of
examples is kept, so that nothing depends on earlier runs.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers

ROOT = Path(__file__).resolve().parent.parent

# A worker of pytest -n has its neighbours beside it: a thread for each is enough. PyTorch reads this when it is loaded.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# Left alone it also draws constants of all modules that happen to be loaded, which depends on the order of the tests.
providers._get_local_constants = providers.Constants
settings.register_profile(
    "random", deadline=None, database=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("fixed", settings.get_profile("random"), derandomize=True)
settings.load_profile("fixed")


def pytest_configure(config: pytest.Config) -> None:
    """Workers of ``pytest -n`` take files in the order of the collection, not those with many tests first."""
    config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, so that no worker is left with a long one at the end."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real test data; the test is skipped where it is absent."""
    folder = Path(os.environ.get("STRIDE_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "wsi").is_dir():
        pytest.skip(f"no real test data at {folder} (set STRIDE_TEST_DATA)")
    return folder
