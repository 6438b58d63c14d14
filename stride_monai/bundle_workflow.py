"""Bundles: where they are, running them without silent misspellings, and loading their networks for screening.

MONAI adds an override that it does not know (``--max_epoch 1``) to the configuration, where nobody reads it. Here it is
refused, on both ways to run a bundle:

- ``python -m monai.bundle run``: the first entry of ``initialize`` in every bundle is :func:`check_overrides`;
- ``python -m monai.bundle run_workflow --workflow_name stride_monai.bundle_workflow.StrideWorkflow``.

A key is known if a config file that was given has it, if the component in which it stands takes an argument of that
name, or if something in the configuration refers to it.
"""

from __future__ import annotations

import difflib
import hashlib
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from pydoc import locate
from types import TracebackType
from typing import Any, NamedTuple

import torch
from monai.bundle import ConfigParser, ConfigWorkflow

from stride_monai.bundle_folders import bundle_root
from stride_monai.errors import BundleError, ConfigError, StrideError
from stride_monai.files import sha256_of
from stride_monai.networks.weights import load_into

__all__ = [
    "LoadedBundle",
    "StrideWorkflow",
    "bundle_root",
    "bundle_weights",
    "check_overrides",
    "hash_of",
    "load_bundle_network",
    "refuse_unknown",
    "speaking_plainly",
    "untrained_network",
]

PROFILES = ("paper", "tiny")
_COMPONENT_KEYS = {"_target_", "_mode_", "_disabled_", "_requires_", "_desc_"}


class LoadedBundle(NamedTuple):
    """A bundle's network with its weights.

    Attributes:
        network: in eval mode, on the device asked for.
        numbers: the plain numbers, switches and names of ``inference.json`` (and its overlays) at top level.
        weights_sha256: of the weights file; of several, that of their hashes one after the other.
        metadata: what the weights file says of itself (text), e.g. ``note``; and ``bundle_version``.
        files: the weights files.
    """

    network: torch.nn.Module
    numbers: dict[str, Any]
    weights_sha256: str
    metadata: dict[str, str]
    files: tuple[Path, ...] = ()


def load_bundle_network(
    root: Path | str,
    profile: str = "paper",
    device: torch.device | str = "cpu",
    weights: Path | str | Sequence[Path | str] | None = None,
    overlays: Sequence[str] = (),
) -> LoadedBundle:
    """Build ``network_def`` of a bundle's ``inference.json`` and load its weights.

    Args:
        root: the bundle's folder. Its configuration is code (``$`` expressions): never load one you do not trust.
        profile: ``paper``, or ``tiny`` to lay ``tiny.json`` over it.
        weights: another weights file than the configuration's; or several, see
            :func:`~stride_monai.networks.weights.load_into`.
        overlays: names of further overlays of the bundle, laid over the profile in this order.

    Raises:
        BundleError: the bundle, its configuration or its weights are missing or do not fit together.
    """
    root = Path(root)
    with _usable(root):
        parser = _inference(root, profile, overlays)
        paths = _paths(weights or parser.get_parsed_content("weights"))
        for path in paths:
            if weights is None and not path.is_file():
                named = ", ".join([*(["tiny"] if profile == "tiny" else []), *overlays]) or profile
                raise BundleError(
                    f"the bundle {root.name} has no weights {path.absolute()} ({named} profile)", _advice(profile)
                )
        network = parser.get_parsed_content("network_def").to(device).eval()
    metadata = {**load_into(network, paths), "bundle_version": str(parser["_meta_"]["version"])}
    numbers = {key: value for key, value in parser.get().items() if _is_plain(value)}
    return LoadedBundle(network, numbers, hash_of(paths), metadata, tuple(paths))


def untrained_network(root: Path | str, profile: str, overlays: Sequence[str] = ()) -> torch.nn.Module:
    """``network_def`` as :func:`load_bundle_network` builds it, without weights.

    Raises:
        BundleError: the bundle or its configuration is missing or cannot be read.
    """
    with _usable(Path(root)):
        network: torch.nn.Module = _inference(Path(root), profile, overlays).get_parsed_content("network_def")
        return network


def bundle_weights(root: Path | str, profile: str = "paper", overlays: Sequence[str] = ()) -> list[Path]:
    """The weights files that :func:`load_bundle_network` reads, whether they are there or not.

    Raises:
        BundleError: the bundle or its configuration is missing or cannot be read.
    """
    with _usable(Path(root)):
        return _paths(_inference(Path(root), profile, overlays).get_parsed_content("weights"))


def _inference(root: Path, profile: str, overlays: Sequence[str]) -> ConfigParser:
    if profile not in PROFILES:
        raise BundleError(f"there is no profile '{profile}'", f"use one of {', '.join(PROFILES)}")
    names = ["inference", *(["tiny"] if profile == "tiny" else []), *overlays]
    parser = ConfigParser()
    parser.read_config([str(root / "configs" / f"{name}.json") for name in names])
    parser.read_meta(str(root / "configs" / "metadata.json"))
    parser["bundle_root"] = str(root)
    return parser


@contextmanager
def _usable(root: Path) -> Iterator[None]:
    """What goes wrong inside while a bundle is read is a :class:`BundleError` that names it."""
    try:
        yield
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        if (cause := _stride_error(error)) is not None:
            raise cause from error
        raise BundleError(f"the bundle {root.name} cannot be used ({error})", "check its configs folder") from error


def _paths(given: Path | str | Sequence[Path | str]) -> list[Path]:
    return [Path(part) for part in ([given] if isinstance(given, Path | str) else given)]


def _is_plain(value: Any) -> bool:
    return isinstance(value, bool | int | float) or (isinstance(value, str) and not value.startswith(("$", "@", "%")))


def _stride_error(error: BaseException | None) -> StrideError | None:
    """What a component of the configuration raised, which MONAI wraps in errors of its own."""
    while error is not None and not isinstance(error, StrideError):
        error = error.__cause__
    return error


def hash_of(paths: Sequence[Path]) -> str:
    """SHA-256 of a weights file; of several, that of their hashes one after the other."""
    hashes = [sha256_of(path) for path in paths]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def _advice(profile: str) -> str:
    if profile == "paper":
        return "none at the paper's settings ship: train the bundle and name its model.pt, or use the tiny profile"
    return "train the bundle with tiny.json, or name another weights file"


class StrideWorkflow(ConfigWorkflow):
    """MONAI's ``ConfigWorkflow``, which refuses overrides that it does not know.

    Raises:
        ConfigError: an override names nothing; the message has the nearest name that exists.
    """

    def __init__(self, config_file: str | Sequence[str], *args: Any, **kwargs: Any) -> None:
        super().__init__(config_file, *args, **kwargs)
        speaking_plainly(refuse_unknown, self.parser.get(), ConfigParser.load_config_files(config_file))


def check_overrides() -> None:
    """First entry of every bundle's ``initialize``: refuse misspelt overrides and a ``bundle_root`` that is no bundle.

    ``monai.bundle run`` hands neither the parser nor the file list to a configuration, so they are looked up in the
    frames that called this function. Where the file list is not found there, all files of the configs folder count.

    Raises:
        ConfigError: an override names nothing, or ``bundle_root`` is wrong (``SystemExit`` with that message in a
            ``python -m monai.bundle`` process, where a traceback would hide it).
    """
    if _is_command():
        _say_last_what_happened()
    workflow, files = _running_workflow()
    if workflow is None:
        raise ConfigError("check_overrides() is called outside a bundle workflow", "use refuse_unknown() instead")
    others = [] if files else _all_configs(Path(workflow.config_root_path))
    known = ConfigParser.load_config_files(files or others)
    speaking_plainly(
        refuse_unknown, workflow.parser.get(), known, [ConfigParser.load_config_file(file) for file in others]
    )
    speaking_plainly(_check_root, Path(str(workflow.parser.get_parsed_content("bundle_root"))))


def _running_workflow() -> tuple[ConfigWorkflow | None, Any]:
    workflow: ConfigWorkflow | None = None
    frame = inspect.currentframe()
    while frame is not None:
        if workflow is None and isinstance(frame.f_locals.get("self"), ConfigWorkflow):
            workflow = frame.f_locals["self"]
        elif frame.f_globals.get("__name__") == "monai.bundle.scripts" and frame.f_locals.get("config_file"):
            return workflow, frame.f_locals["config_file"]
        frame = frame.f_back
    return workflow, None


def _all_configs(folder: Path) -> list[str]:
    whole = [folder / "inference.json", folder / "train.json"]  # the others are overlays and come after them
    overlays = [path for path in sorted(folder.glob("*.json")) if path not in whole and path.name != "metadata.json"]
    return [str(path) for path in (*whole, *overlays) if path.is_file()]


def _check_root(root: Path) -> None:
    if not (root / "configs" / "metadata.json").is_file():
        raise ConfigError(f"bundle_root '{root}' is no bundle", "pass --bundle_root with the bundle's folder")


def speaking_plainly(function: Callable[..., Any], *args: Any) -> Any:
    """``function(*args)``; what the package refuses ends a ``python -m monai.bundle`` process with its message alone.

    Elsewhere, and for any other error, nothing changes.
    """
    try:
        return function(*args)
    except StrideError as error:
        if _is_command():
            raise SystemExit(f"error: {error}") from error
        raise


def _is_command() -> bool:
    """Whether this process is ``python -m monai.bundle``."""
    return Path(sys.argv[0]).parts[-3:] == ("monai", "bundle", "__main__.py")


def _say_last_what_happened() -> None:
    """End this process's traceback, if it comes to one, with what began it.

    MONAI wraps what a component raises in errors of its own, which say only where in the configuration it happened, and
    prints the advice of the package's errors a hundred lines before the end.
    """

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        sys.__excepthook__(kind, error, trace)
        if isinstance(error, Exception):
            sys.stderr.write(f"\nerror: {_beginning(error)}\n")

    sys.excepthook = hook


def _beginning(error: BaseException) -> str:
    """What happened first, in one line: what the package or the system said."""
    if isinstance(cause := _stride_error(error), StrideError):
        return str(cause)
    while error.__cause__ is not None:
        error = error.__cause__
    # A process that loads data hands on its traceback as text alone.
    said = re.findall(rf"\b{re.escape(StrideError.__module__)}\.\w+: (.+)$", str(error), re.MULTILINE)
    return str(said[0]) if said else f"{type(error).__name__}: {error}"


def refuse_unknown(
    config: Mapping[str, Any], known: Mapping[str, Any], others: Sequence[Mapping[str, Any]] = ()
) -> None:
    """Refuse what overrides added to a configuration without anything reading it.

    Args:
        config: the configuration with the overrides in it.
        known: the configuration of the files alone.
        others: files that may be among them, each alone: what one has, another that lies over it may have replaced.

    Raises:
        ConfigError: for the first such key; the message has its full id and the nearest name that exists.
    """
    text = json.dumps(config, default=str).replace("#", "::")
    for path, key, choices in _added(config, known, ()):
        name = "#".join((*path, key))
        if key.startswith("+"):
            raise ConfigError(f"'--{name}' does nothing", "'+' merges in config files only: put it into one")
        if re.search(rf"[@%]{re.escape('::'.join((*path, key)))}(?![\w])", text):
            continue
        if any(_holds(other, (*path, key)) for other in others):
            continue
        near = difflib.get_close_matches(key, choices, n=1)
        advice = (
            f"did you mean '--{'#'.join((*path, near[0]))}'?" if near else f"known are {', '.join(sorted(choices))}"
        )
        raise ConfigError(f"there is no option '--{name}'", advice)


def _holds(file: Mapping[str, Any], path: Sequence[str]) -> bool:
    """Whether a configuration file says something at a path; its own keys may be paths (``state#ema``)."""
    for key, value in file.items():
        parts = re.split("#|::", key.lstrip("+"))
        if list(path[: len(parts)]) != parts:
            continue
        for part in path[len(parts) :]:
            value = value.get(part) if isinstance(value, Mapping) else None
        if value is not None:
            return True
    return False


def _added(config: Any, known: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str, list[str]]]:
    """Keys that ``config`` has and ``known`` has not: the path, the key, the names that would have been right."""
    if isinstance(config, list) and isinstance(known, list) and len(config) == len(known):
        for index, (value, base) in enumerate(zip(config, known, strict=True)):
            yield from _added(value, base, (*path, str(index)))
    # A macro ("%other") or a component of another class was replaced as a whole: there is nothing to compare with.
    if not (isinstance(config, Mapping) and isinstance(known, Mapping)):
        return
    if config.get("_target_") != known.get("_target_"):
        return
    arguments, takes_any = _arguments(config["_target_"]) if "_target_" in config else ([], False)
    for key, value in config.items():
        choices = [name for name in (*known, *arguments) if not name.startswith("_")]
        if key in known:
            yield from _added(value, known[key], (*path, key))
        elif key in arguments or key == "_meta_":
            continue
        # Where any argument is taken, only a name that is very close to a known one is a misspelling.
        elif not takes_any or difflib.get_close_matches(key, choices, n=1, cutoff=0.85):
            yield path, key, choices


def _arguments(target: Any) -> tuple[list[str], bool]:
    """Names that a ``_target_`` takes, and whether it takes any other (or cannot be looked at)."""
    try:
        parameters = inspect.signature(locate(str(target))).parameters.values()  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return [*_COMPONENT_KEYS], True
    takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters)
    return [*(parameter.name for parameter in parameters), *_COMPONENT_KEYS], takes_any
