"""Choices that look random and are the same on every machine: drawn from SHA-256, not from a library's generator."""

from __future__ import annotations

import hashlib

import numpy as np

__all__ = ["digest", "mixed_seed", "unit_interval"]


def digest(seed: int, *parts: str | int) -> bytes:
    """SHA-256 of a seed and some names; sort by it for a shuffled order that no library version changes."""
    return hashlib.sha256("\x1f".join(map(str, (seed, *parts))).encode()).digest()


def unit_interval(seed: int, *parts: str | int) -> float:
    """A number in [0, 1), uniform over the names."""
    return (int.from_bytes(digest(seed, *parts)[:8], "big") >> 11) / 2**53


def mixed_seed(*numbers: int) -> int:
    """A 32-bit seed of several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
