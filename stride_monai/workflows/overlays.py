"""The order of a bundle's configuration files: a later one replaces what an earlier one says.

Each overlay names under ``_over_`` the files that it is laid over: those that come before it where they are given too.
In another order the same files would silently be another training. What several overlays have in common is an overlay
of its own, which they name under ``_needs_``: it has to come before them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from stride_monai.errors import ConfigError

__all__ = ["NEEDS", "OVER", "check_order"]

OVER, NEEDS = "_over_", "_needs_"


def check_order(files: Sequence[Path | str]) -> None:
    """Refuse configuration files in an order in which one would undo what another is for.

    Args:
        files: in the order in which they are merged. Files that name nothing under ``_over_`` and exported
            configurations may stand anywhere.

    Raises:
        ConfigError: an overlay stands before a file that it is laid over, or without any, or without the one that it
            needs; or two cannot go together.
    """
    paths = [Path(file) for file in files]
    contents = [ConfigParser.load_config_file(str(path)) for path in paths]
    overlays = [OVER in content and "_meta_" not in content for content in contents]
    whole = [path for path, content in zip(paths, contents, strict=True) if "run" in content and OVER not in content]
    for first, second in combinations(whole, 2):
        if first.parent == second.parent and first != second:
            raise ConfigError(f"{first.name} and {second.name} cannot go together", "each is a whole configuration")
    for place, (path, content) in enumerate(zip(paths, contents, strict=True)):
        if not overlays[place]:
            continue
        over = content[OVER]
        late = [other for other in paths[place + 1 :] if other.stem in over]  # an overlay may be another bundle's
        if late:
            names = [one.name for one in _sorted(paths, contents)]
            raise ConfigError(f"{path.name} comes after {late[0].name}", f"give {', '.join(names)}")
        bases = [one for one, overlay in zip(paths[:place], overlays[:place], strict=True) if not overlay]
        if all(base.parent == path.parent and base.stem not in over for base in bases):
            raise ConfigError(f"{path.name} is laid over {' or '.join(_bases(path, over))}", "give that file before it")
        if (base := content.get(NEEDS)) and all(other.stem != base for other in paths):
            names = [*(other.name for other in paths[:place]), f"{base}.json", *(o.name for o in paths[place:])]
            raise ConfigError(f"{path.name} needs {base}.json", f"give {', '.join(names)}")
        needing = [other for other in sorted(path.parent.glob("*.json")) if _needs(other) == path.stem]
        if needing and not any(other in paths for other in needing):
            names = [other.name for other in needing]
            raise ConfigError(f"{path.name} is no method of its own", f"give after it one of {', '.join(names)}")
    _check_exclusive([(path, content) for path, content, o in zip(paths, contents, overlays, strict=True) if o])


def _needs(path: Path) -> Any:
    return ConfigParser.load_config_file(str(path)).get(NEEDS)


def _bases(path: Path, over: Sequence[str]) -> list[str]:
    there = [path.with_name(f"{name}.json") for name in over]
    return [one.name for one in there if one.is_file() and OVER not in ConfigParser.load_config_file(str(one))]


def _sorted(paths: Sequence[Path], contents: Sequence[Mapping[str, Any]]) -> list[Path]:
    """The files in an order in which each follows those that it is laid over."""
    left, done = list(zip(paths, contents, strict=True)), []
    while left:
        free = [pair for pair in left if not any(p.stem in pair[1].get(OVER, ()) for p, _ in left if p != pair[0])]
        done.append((free or left)[0])
        left.remove(done[-1])
    return [path for path, _ in done]


def _check_exclusive(overlays: Sequence[tuple[Path, Mapping[str, Any]]]) -> None:
    for (first, one), (second, two) in combinations(overlays, 2):
        if first.stem in two[OVER] or second.stem in one[OVER]:
            continue
        for key in _conflicts(one, two):
            raise ConfigError(
                f"{first.name} and {second.name} cannot go together: both set '{key}'", "leave one of them out"
            )


def _conflicts(one: Mapping[str, Any], two: Mapping[str, Any]) -> Iterator[str]:
    """Keys that both files set, and not alike; a key within what the other replaces, too."""
    for key, value in one.items():
        for other, found in two.items():
            a, b = (name.lstrip("+").replace("#", "::") for name in (key, other))
            if key in {OVER, NEEDS} or (key == other and (key.startswith("+") or value == found)):
                continue
            if a == b or a.startswith(b + "::") or b.startswith(a + "::"):
                yield a.replace("::", "#")
