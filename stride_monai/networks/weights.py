"""Weights files: read without running anything that is in them, written complete or not at all."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from stride_monai.errors import BundleError
from stride_monai.files import paths_of, replacing
from stride_monai.weights_files import kind_of_weights

__all__ = ["UnfitWeightsError", "load_initial", "load_into", "load_weights", "save_weights", "trainable"]

_PREFERRED = ("ema", "model", "network", "net", "state_dict", "model_state_dict")
"""Names of a network in a checkpoint, the one to take first: the moving average is what training validates."""
_WRAPPERS = ("module.", "_orig_mod.", "model.", "network.", "net.")
"""What data-parallel, compiled and averaged networks and some trainers put before the names of all tensors."""
_OF_SCORES = "score_embedding.weight"
"""What a slide head with ``score_input`` has, and no other: a weights file tells by it whether it needs scores."""
_State = dict[str, Tensor]


class UnfitWeightsError(BundleError):
    """The tensors of a weights file are not those of the network.

    Attributes:
        state: the tensors of the file.
    """

    def __init__(self, what: str, advice: str = "", state: Mapping[str, Tensor] | None = None) -> None:
        super().__init__(what, advice)
        self.state = dict(state or {})


def load_weights(path: Path | str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """State dict (on the CPU) and metadata of a ``.pt`` or ``.safetensors`` file, which its content tells apart.

    A ``.pt`` file may hold the state dict itself, a checkpoint with it under ``model``, or the state of a training
    (``last.pt``); it is read with ``weights_only=True`` and has no metadata. Where it holds a network and its moving
    average, the average is taken.

    Raises:
        BundleError: the file is missing, damaged, of another kind, or holds no state dict.
    """
    states, metadata = _read(Path(path))
    return states[0], metadata


def _read(path: Path) -> tuple[list[_State], dict[str, str]]:
    """All state dicts of a file, the preferred one first, and its metadata."""
    kind = kind_of_weights(path)
    try:
        if kind == "safetensors":
            with safe_open(path, framework="pt") as stream:
                return [{key: stream.get_tensor(key) for key in stream.keys()}], dict(stream.metadata() or {})  # noqa: SIM118
        with path.open("rb") as opened:  # of a path, torch takes the name's suffix for what is in it
            content = torch.load(opened, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        code = _code_in(path)
        needs = f"needs code of its own ({code}), which is never run" if code else "cannot be read safely"
        raise BundleError(
            f"the weights file {path.absolute()} {needs}",
            "give a .safetensors file, or a .pt file that holds the network's state_dict()",
        ) from error
    states = _states(content)
    if not states:
        raise BundleError(f"{path.absolute()} holds no state dict", "give the checkpoint that training wrote")
    return states, {}


def _code_in(path: Path) -> str:
    """Names of what a checkpoint would have to run, as far as they can be told."""
    try:
        return ", ".join(sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))[:2])
    except Exception:  # it is damaged, or of the format before 2020
        return ""


def _states(content: Any) -> list[_State]:
    if not isinstance(content, Mapping):
        return []
    if isinstance(content.get("objects"), Mapping):  # a last.pt: all that has a state
        content = content["objects"]
    if _is_state(content):
        return [dict(content)]
    names = sorted(content, key=lambda name: _PREFERRED.index(name) if name in _PREFERRED else len(_PREFERRED))
    return [dict(content[name]) for name in names if _is_state(content[name])]


def _is_state(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(isinstance(name, str) and isinstance(item, Tensor) for name, item in value.items())
    )


def save_weights(
    path: Path | str, state_dict: Mapping[str, Tensor], metadata: Mapping[str, str], half: bool = True
) -> None:
    """Write a ``.safetensors`` file, complete or not at all.

    Args:
        state_dict: tensors by name.
        metadata: what is to be known of the weights (text), e.g. ``{"note": "trained on synthetic slides"}``.
        half: store floating-point tensors in 16 bits. Scalars (thresholds, counters) and tensors that would overflow
            keep their precision.

    Raises:
        OutputError: the file cannot be written.
    """
    tensors = {key: _stored(value, half) for key, value in state_dict.items()}
    content = _in_order(save(tensors, metadata=dict(metadata)))
    with replacing(Path(path)) as temporary:
        temporary.write_bytes(content)


def _in_order(content: bytes) -> bytes:
    """The file with its header sorted: safetensors writes metadata in another order each time, and files that say the
    same should be the same, since bags and thresholds are bound to the SHA-256 of weights."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    text = json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # the format aligns tensors to 8 bytes
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


def _stored(value: Tensor, half: bool) -> Tensor:
    # A copy, since safetensors refuses tensors that share memory (tied weights).
    value = value.detach().to("cpu", copy=True).contiguous()
    if not half or value.ndim == 0 or not value.is_floating_point():
        return value
    halved = value.to(torch.float16)
    return halved if bool(halved.isfinite().all()) or not bool(value.isfinite().all()) else value


def load_into(network: nn.Module, path: Path | str | Sequence[Path | str], source: str = "") -> dict[str, str]:
    """Load a weights file into a network, every tensor in its place.

    Args:
        network: takes the weights; its own precision and device stay.
        path: ``.pt`` or ``.safetensors``; or several: a base, and files that hold only what differs from it.
        source: take only the part of the file under this name, e.g. ``encoder`` to start a cell classifier from a
            slide classifier's file.

    Returns:
        The file's metadata.

    Raises:
        BundleError: the file cannot be read, or its tensors are not this network's.
    """
    paths = paths_of(path)
    wanted = network.state_dict()
    names = {f"{source}.{name}" if source else name for name in wanted}
    state: _State = {}
    metadata: dict[str, str] = {}
    for part in paths:
        states, facts = _read(part)
        found = [_unwrapped(each, names) for each in states]
        parts = [_below(each, f"{source}.") for each in found] if source else found
        tensors = max(parts, key=lambda each: _in_common(each, wanted))
        if state and state.keys() <= tensors.keys():
            raise BundleError(
                f"{part.absolute()} holds the whole network, not what differs from {paths[0].name}", "give it alone"
            )
        state, metadata = state | tensors, metadata | facts
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise UnfitWeightsError(
            f"{' + '.join([str(paths[0].absolute()), *(part.name for part in paths[1:])])} does not fit the network "
            f"({_difference(state, wanted) or ' '.join(str(error).split())[:300]})",
            _advice(state, wanted),
            state,
        ) from error
    return metadata


def _unwrapped(state: _State, names: Set[str]) -> _State:
    """A state dict without what wrappers of the network have put before its names."""
    while not state.keys() & names:
        inner = next((found for prefix in _WRAPPERS if len(found := _below(state, prefix)) >= len(state) - 1), {})
        if not inner:
            break
        state = inner  # a moving average counts its steps beside the network
    return state


def _below(state: _State, prefix: str) -> _State:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _in_common(state: _State, wanted: Mapping[str, Tensor]) -> int:
    return sum(name in wanted and value.shape == wanted[name].shape for name, value in state.items())


def _difference(state: _State, wanted: Mapping[str, Tensor]) -> str:
    """In words, what a network lacks in a state dict and cannot take from it."""
    missing = [name for name in wanted if name not in state]
    unknown = [name for name in state if name not in wanted]
    other = [name for name in wanted if name in state and state[name].shape != wanted[name].shape]
    parts = [f"{len(missing)} of {len(wanted)} tensors are missing, first {missing[0]}"] if missing else []
    parts += [f"{len(unknown)} are not the network's, first {unknown[0]}"] if unknown else []
    if other:
        shapes = " instead of ".join(str(tuple(each[other[0]].shape)) for each in (state, wanted))
        parts.append(f"{len(other)} have another shape, first {other[0]}: {shapes}")
    return "; ".join(parts)


def _advice(state: _State, wanted: Mapping[str, Tensor]) -> str:
    if any(name.endswith(_OF_SCORES) and name not in wanted for name in state):
        return "its slide head was trained with the detector's scores: set score_input to true"
    if any(name.endswith(_OF_SCORES) and name not in state for name in wanted):
        return "its slide head was trained without the detector's scores: set score_input to false"
    return "use the configuration and options that the weights were trained with, e.g. tiny.json for tiny weights"


def load_initial(
    network: nn.Module,
    start_from: Path | str | Sequence[Path | str] = "",
    part: nn.Module | None = None,
    init_weights: Path | str = "",
    init_part: str = "",
) -> nn.Module:
    """What a training begins with: a whole network, else a part of it, else the weights that it was made with.

    Args:
        network: all that is trained.
        start_from: weights of the whole network, to be trained on (fine-tuned); empty for none.
        part: what ``init_weights`` belongs to, e.g. the encoder.
        init_weights: weights of the part, looked at where ``start_from`` is empty; empty for none. Where the part is a
            cell classifier and the slide head has a ``start_from``, as ``best_cells`` has, the head starts from its
            last layer.
        init_part: take only the part of that file under this name.

    Returns:
        The network, for what has to be made after its weights are in place (a moving average, a teacher).

    Raises:
        BundleError: a file cannot be read or does not fit.
    """
    if start_from:
        load_into(network, start_from)
    elif init_weights and part is not None:
        load_into(part, init_weights, init_part)
        start, last = getattr(getattr(network, "slide_head", None), "start_from", None), getattr(part, "head", None)
        if start is not None and isinstance(last, nn.Linear):
            start(last)
    return network


def trainable(network: nn.Module) -> list[nn.Parameter]:
    """The parameters that are to be trained; a frozen encoder's are none."""
    return [parameter for parameter in network.parameters() if parameter.requires_grad]
