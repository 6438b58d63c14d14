"""The networks of bundles with their weights, for screening and for whoever uses one in Python."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from monai.bundle import ConfigParser

from stride_monai.errors import BundleError, check_name
from stride_monai.files import joint_sha256, paths_of, sha256_of
from stride_monai.networks.weights import load_into
from stride_monai.workflows.locate import PROFILES, bundle_root
from stride_monai.workflows.messages import own_error
from stride_monai.workflows.values import shielded

__all__ = [
    "LoadedBundle",
    "bundle_weights",
    "hash_of",
    "load_bundle",
    "load_bundle_network",
    "untrained_network",
]


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


def load_bundle(
    name: str | Path, profile: str = "tiny", device: torch.device | str = "cpu", overlays: Sequence[str] = ()
) -> LoadedBundle:
    """The network of a bundle with its weights, and what is known of them.

    Args:
        name: of a bundle that came with the package (:func:`~stride_monai.workflows.list_bundles`), or the folder of
            one. The configuration of a bundle is code: never load one you do not trust.
        profile, device, overlays: see :func:`load_bundle_network`; weights ship for ``tiny``.

    Raises:
        BundleError: the bundle, its configuration or its weights are missing or do not fit together.
    """
    root = bundle_root(name) if isinstance(name, str) and not Path(name).is_dir() else Path(name)
    return load_bundle_network(root, profile, device, overlays=overlays)


def load_bundle_network(
    root: Path | str,
    profile: str = "paper",
    device: torch.device | str = "cpu",
    weights: Path | str | Sequence[Path | str] | None = None,
    overlays: Sequence[str] = (),
    settings: Mapping[str, object] = MappingProxyType({}),
) -> LoadedBundle:
    """Build ``network_def`` of a bundle's ``inference.json`` and load its weights.

    Args:
        root: the bundle's folder. Its configuration is code (``$`` expressions): never load one you do not trust.
        profile: ``paper``, or ``tiny`` to lay ``tiny.json`` over it.
        weights: another weights file than the configuration's; or several, see
            :func:`~stride_monai.networks.load_into`.
        overlays: names of further overlays of the bundle, laid over the profile in this order.
        settings: of the configuration, by name, in place of those that it has.

    Raises:
        BundleError: the bundle, its configuration or its weights are missing or do not fit together.
    """
    root = Path(root)
    with _usable(root):
        parser = _inference(root, profile, overlays, settings)
        paths = paths_of(weights or parser.get_parsed_content("weights"))
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


def untrained_network(
    root: Path | str,
    profile: str,
    overlays: Sequence[str] = (),
    settings: Mapping[str, object] = MappingProxyType({}),
) -> torch.nn.Module:
    """``network_def`` as :func:`load_bundle_network` builds it, without weights.

    Raises:
        BundleError: the bundle or its configuration is missing or cannot be read.
    """
    with _usable(Path(root)):
        network: torch.nn.Module = _inference(Path(root), profile, overlays, settings).get_parsed_content("network_def")
        return network


def bundle_weights(root: Path | str, profile: str = "paper", overlays: Sequence[str] = ()) -> list[Path]:
    """The weights files that :func:`load_bundle_network` reads, whether they are there or not.

    Raises:
        BundleError: the bundle or its configuration is missing or cannot be read.
    """
    with _usable(Path(root)):
        return paths_of(_inference(Path(root), profile, overlays).get_parsed_content("weights"))


def _inference(
    root: Path, profile: str, overlays: Sequence[str], settings: Mapping[str, object] = MappingProxyType({})
) -> ConfigParser:
    check_name("profile", profile, PROFILES)
    names = ["inference", *(["tiny"] if profile == "tiny" else []), *overlays]
    parser = ConfigParser()
    parser.read_config([str(root / "configs" / f"{name}.json") for name in names])
    parser.read_meta(str(root / "configs" / "metadata.json"))
    parser["bundle_root"] = shielded(str(root))
    for name, value in settings.items():
        if name not in parser:
            raise KeyError(f"its configuration has no {name}")
        parser[name] = value
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


def _is_plain(value: Any) -> bool:
    return isinstance(value, bool | int | float) or (isinstance(value, str) and not value.startswith(("$", "@", "%")))


def hash_of(paths: Sequence[Path]) -> str:
    """SHA-256 of a weights file; of several, that of their hashes one after the other."""
    hashes = [sha256_of(path) for path in paths]
    return joint_sha256(hashes)


def _advice(profile: str) -> str:
    if profile == "paper":
        return "none at the paper's settings ship: train the bundle and name its model.pt, or use the tiny profile"
    return "train the bundle with tiny.json, or name another weights file"
