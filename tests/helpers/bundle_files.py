"""Where the configurations of a bundle lie."""

from __future__ import annotations

from pathlib import Path


def config_files(root: Path, *names: str) -> list[str]:
    """Paths of configurations by their names, in the order in which they are merged."""
    return [str(root / "configs" / f"{name}.json") for name in names]
