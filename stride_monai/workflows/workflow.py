"""Bundles: where they are, running them without silent misspellings, and loading their networks for screening.

MONAI's command line loses what it cannot read (``--dataset_dir 'cohort#2'`` is ``cohort``) and adds an override that it
does not know (``--max_epoch 1``) to the configuration, where nobody reads it. Here the one arrives as typed and the
other is refused (:mod:`stride_monai.workflows`), on both ways to run a bundle:

- ``python -m monai.bundle run``: the first entry of ``initialize`` in every bundle is :func:`check_overrides`;
- ``python -m monai.bundle run_workflow --workflow_name stride_monai.workflows.workflow.StrideWorkflow``.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from monai.bundle import ConfigParser, ConfigWorkflow

from stride_monai.errors import BundleError, ConfigError, StrideError
from stride_monai.files import sha256_of
from stride_monai.networks.weights import load_into
from stride_monai.workflows.locate import bundle_root
from stride_monai.workflows.messages import own_error, print_one_line, refuse, say_the_reason
from stride_monai.workflows.outputs import guard_outputs
from stride_monai.workflows.settle import OPTIONS, Given, settle, settled
from stride_monai.workflows.stopping import how_to_go_on, stop_with_one_line
from stride_monai.workflows.typed import is_command, typed_options
from stride_monai.workflows.values import file_option, shielded

__all__ = [
    "LoadedBundle",
    "StrideWorkflow",
    "bundle_root",
    "bundle_weights",
    "check_overrides",
    "hash_of",
    "load_bundle_network",
    "untrained_network",
]

PROFILES = ("paper", "tiny")


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
            :func:`~stride_monai.networks.load_into`.
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
    parser["bundle_root"] = shielded(str(root))
    return parser


@contextmanager
def _usable(root: Path) -> Iterator[None]:
    """What goes wrong inside while a bundle is read is a :class:`BundleError` that names it."""
    try:
        yield
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        if (cause := own_error(error)) is not None:
            raise cause from error
        raise BundleError(
            f"the bundle {root.absolute()} cannot be used ({error})", "check its configs folder"
        ) from error


def _paths(given: Path | str | Sequence[Path | str]) -> list[Path]:
    return [Path(part) for part in ([given] if isinstance(given, Path | str) else given)]


def _is_plain(value: Any) -> bool:
    return isinstance(value, bool | int | float) or (isinstance(value, str) and not value.startswith(("$", "@", "%")))


def hash_of(paths: Sequence[Path]) -> str:
    """SHA-256 of a weights file; of several, that of their hashes one after the other."""
    hashes = [sha256_of(path) for path in paths]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def _advice(profile: str) -> str:
    if profile == "paper":
        return "none at the paper's settings ship: train the bundle and name its model.pt, or use the tiny profile"
    return "train the bundle with tiny.json, or name another weights file"


class StrideWorkflow(ConfigWorkflow):
    """MONAI's ``ConfigWorkflow``, in which overrides arrive as typed and unknown ones are refused.

    Raises:
        ConfigError: an override names nothing; the message has the nearest name that exists. Or its value is none of
            the option's, or the configuration files stand in the wrong order.
    """

    def __init__(self, config_file: str | Sequence[str], *args: Any, **kwargs: Any) -> None:
        if is_command():
            print_one_line()
        typed = typed_options()
        options = {name: file_option(text) for name, text in typed.items() if name in OPTIONS}
        config_file = options.pop("config_file", config_file)
        kwargs |= {name: value for name, value in options.items() if name not in {"workflow_name", "args_file"}}
        overrides = {name: kwargs.pop(name) for name in list(kwargs) if name not in OPTIONS}
        given = Given(config_file, overrides, kwargs.get("tracking"))
        super().__init__(config_file, *args, **kwargs, **settled(given, typed))
        self.given = given
        settle(self, given, typed)


def check_overrides() -> None:
    """First entry of every bundle's ``initialize``: what was typed arrives, what is wrong is refused.

    Overrides get the text that was typed, misspelt ones are refused, so are configuration files in the wrong order and
    a ``bundle_root`` that is no bundle. ``monai.bundle.run`` hands neither the parser nor the file list to a
    configuration, so they are looked up in the frames that called this function. Where the file list is not found
    there, all files of the configs folder count.

    Raises:
        ConfigError: something is refused. The workflow raises it unwrapped, as it does from here on with every error of
            the package; a ``python -m monai.bundle`` process prints its line alone.
    """
    if is_command():
        print_one_line()
    workflow, given, summary, waits = _running_workflow()
    if workflow is None:
        raise ConfigError("check_overrides() is called outside a bundle workflow", "use refuse_unknown() instead")
    say_the_reason(workflow)
    if is_command():
        stop_with_one_line(how_to_go_on(workflow.parser.get()))
    try:
        typed = typed_options()
        meant = settle(workflow, given, typed)
        summary.update({name: value for name, value in meant.items() if name in typed})
        _check_root(Path(str(workflow.parser.get_parsed_content("bundle_root"))))
        guard_outputs(workflow)
    except StrideError as error:
        if not waits:
            raise
        refuse(workflow, error)


def _running_workflow() -> tuple[ConfigWorkflow | None, Given, dict[str, Any], bool]:
    """The workflow that is being initialized, what it was given, the same as MONAI will print it, and whether the
    workflow runs its ``initialize`` itself."""
    workflow: ConfigWorkflow | None = None
    given, waits = Given(), False
    arguments: dict[str, Any] = {}
    frame = inspect.currentframe()
    while frame is not None:
        name, values = frame.f_code.co_name, frame.f_locals
        if isinstance(values.get("self"), ConfigWorkflow):
            workflow = workflow or values["self"]
            waits = waits or name == "_run_expr"
        elif frame.f_globals.get("__name__") == "monai.bundle.scripts" and name == "create_workflow":
            arguments = values.get("_args", {})
            overrides = {name: value for name, value in arguments.items() if name not in OPTIONS}
            given = Given(values.get("config_file"), overrides, arguments.get("tracking"))
        frame = frame.f_back
    if isinstance(workflow, StrideWorkflow):
        given = workflow.given
    return workflow, given, arguments, waits


def _check_root(root: Path) -> None:
    if not (root / "configs" / "metadata.json").is_file():
        raise ConfigError(f"{root.absolute()} is no bundle", "pass --bundle_root with the bundle's folder")
