"""Blocks that a process frees are there for the next ones."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

_FAULTS = """
import resource, sys
import numpy as np
from stride_monai.guard.allocation import keep_freed_blocks
if sys.argv[1] == "keep":
    keep_freed_blocks()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(200):
    tiles = [np.ones(2**20, np.uint8) for _ in range(3)]
    del tiles
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(word: str) -> int:
    done = subprocess.run([sys.executable, "-c", _FAULTS, word], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="GNU's C library alone is told to")
def test_freed_blocks_are_used_again() -> None:
    assert faults("keep") < faults("leave") / 20
