"""What weights that do not fit seem to be, so that a refusal can say what to do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor

from stride_monai.errors import BundleError, StrideError
from stride_monai.networks.factories import list_slide_heads
from stride_monai.networks.weights import UnfitWeightsError
from stride_monai.screening.config import PROFILES, STAGES
from stride_monai.screening.source import Source
from stride_monai.workflows.load import LoadedBundle, load_bundle_network, untrained_network

__all__ = ["RECOGNIZED", "load_source"]

RECOGNIZED = "recognized"
"""In the metadata of what was loaded: what its weights have of their own, in words."""

_SAME_NETWORK = {"swift_mil", "coloradv"}


class _Kind(NamedTuple):
    """A network of a stage; ``whole`` is False for a file of what differs from a base."""

    stage: str
    profile: str
    detector: str
    whole: bool


def load_source(source: Source, device: torch.device | str, detector: str = "") -> LoadedBundle:
    """See :meth:`~stride_monai.screening.BundleStore.load`."""
    files, profile = source.files(detector), source.profile
    named = bool(source.given) or all(file.is_file() for file in files)
    try:
        return load_bundle_network(source.home, profile, device, files if named else None, source.overlays(detector))
    except UnfitWeightsError as error:
        if (head := _head_of(error.state, source, detector)) is not None:
            loaded = load_bundle_network(source.home, profile, device, files, source.overlays(detector), head)
            return loaded._replace(metadata={**loaded.metadata, RECOGNIZED: f"slide head {head['head']}"})
        what, advice = _explained(source, files, detector if source.name == "detection" else "", error)
        raise BundleError(what, advice) from error
    except BundleError as error:
        if named:
            raise
        raise BundleError(error.what, _ways_out(source)) from error


def _head_of(state: Mapping[str, Tensor], source: Source, detector: str) -> dict[str, object] | None:
    """The settings of the one slide head that has these tensors, in place of the configuration's; None where there is
    none, or more than one."""
    if source.name not in _SAME_NETWORK:
        return None
    wanted, fitting = {name: value.shape for name, value in state.items()}, []
    for name, scored in product(list_slide_heads(), (False, True)):
        settings: dict[str, object] = {"head": name, "score_input": scored}
        try:
            found = _shapes(source.home, source.profile, source.overlays(detector), settings)
        except BundleError:  # a bundle of another configuration
            return None
        if found == wanted:
            fitting.append(settings)
    return fitting[0] if len(fitting) == 1 else None


def _ways_out(source: Source) -> str:
    """Advice where a bundle has no weights."""
    named = f"name weights of yours by --weights {source.name}=FILE"
    if source.own:
        return f"train it, {named}, or take {source.name} out of that folder: what came with the package is used then"
    if source.profile == "paper":
        return f"no weights at the paper's settings ship: train {source.name} and {named}, or leave out --profile paper"
    return f"train {source.name} and {named}"


def _explained(source: Source, files: Sequence[Path], detector: str, error: UnfitWeightsError) -> tuple[str, str]:
    """What the files are, as far as it can be told, and what to do."""
    kind = _kind_of(error.state, source)
    where = f"{source.name} in the {source.profile} profile"
    if kind is None:
        return f"{error.what}, which is that of {where}", (
            "weights of other settings (--encoder_name, --head, --score_input ...) need a bundle with these: "
            f"stride-monai bundle copy {source.name} --out DIR, set them in its inference.json, and screen with "
            "--bundles DIR"
        )
    known = f"{kind.stage} in the {kind.profile} profile" + (f" ({kind.detector})" if kind.detector else "")
    if not kind.whole:
        return f"{files[-1].absolute()} holds only what differs from other weights of {known}", (
            f"give those first: --weights {source.name}=BASE --weights {source.name}={files[-1]}"
        )
    what = f"{files[0].absolute()} does not fit {where}: it holds the weights of {known}"
    if kind.stage != source.name:
        return what, f"say --weights {kind.stage}={files[0]}"
    if kind.profile != source.profile:
        if kind.profile == "tiny":
            return what, "leave out --profile paper"
        return what, "add --profile paper, and weights of that profile for the other stages: none of them ship"
    return what, f"add --detector {kind.detector}" if kind.detector != detector else "check its configuration"


def _kind_of(state: Mapping[str, Tensor], source: Source) -> _Kind | None:
    """The first network that has these tensors, and perhaps others."""
    unlike = set()
    for kind, home, overlays in _kinds(source):
        if (kind.stage, kind.detector) in unlike:
            continue
        try:
            network = _shapes(home, kind.profile, overlays)
        except (StrideError, ImportError):  # an extra is not installed: it may be that one, but nobody can tell
            continue
        if all(network.get(name) == value.shape for name, value in state.items()):
            return kind._replace(whole=len(state) == len(network))
        if not network.keys() & state.keys():
            unlike.add((kind.stage, kind.detector))
    return None


def _shapes(
    home: Path, profile: str, overlays: Sequence[str], settings: Mapping[str, object] = MappingProxyType({})
) -> dict[str, torch.Size]:
    """Names and shapes of a network's tensors."""
    try:
        with torch.device("meta"):  # no memory, no random numbers: ten times as fast
            network = untrained_network(home, profile, overlays, settings)
    except BundleError:  # a YOLO runs once when it is built
        network = untrained_network(home, profile, overlays, settings)
    return {name: value.shape for name, value in network.state_dict().items()}


def _kinds(source: Source) -> Iterator[tuple[_Kind, Path, list[str]]]:
    """Every network that screening knows, the nearest first, the slow one to build last."""
    known = {source.name} | (_SAME_NETWORK if source.name in _SAME_NETWORK else {"coloradv"})
    others = [
        Source.shipped(name, source.profile) for name in sorted({*STAGES} - known, key=("detection",).__contains__)
    ]
    for one in (source, *others):
        for profile in (source.profile, *(other for other in PROFILES if other != source.profile)):
            fresh = one._replace(profile=profile)
            for detector in fresh.detectors() if one.name == "detection" else [""]:
                yield _Kind(one.name, profile, detector, True), one.home, fresh.overlays(detector)
