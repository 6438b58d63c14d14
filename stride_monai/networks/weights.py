"""Weights files: read without running anything that is in them, written complete or not at all."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from stride_monai.errors import BundleError
from stride_monai.files import replacing

__all__ = ["load_initial", "load_into", "load_weights", "save_weights"]

_STATE_KEYS = ("model", "network", "state_dict")


def load_weights(path: Path | str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """State dict (on the CPU) and metadata of a ``.pt`` or ``.safetensors`` file.

    A ``.pt`` file may hold the state dict itself, a checkpoint with it under ``model``, or the state of a training
    (``last.pt``); it is read with ``weights_only=True`` and has no metadata.

    Raises:
        BundleError: the file is missing, damaged, of another kind, or holds no state dict.
    """
    path = Path(path)
    if not path.is_file():
        raise BundleError(
            f"no weights at {path.parent.name}/{path.name}",
            "train the bundle that makes them, or name another file (--weights; in training --init_weights)",
        )
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as stream:
                return {key: stream.get_tensor(key) for key in stream.keys()}, dict(stream.metadata() or {})  # noqa: SIM118
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        raise BundleError(
            f"{path.name} is not a weights file that can be read safely",
            "give a .safetensors file, or a .pt file that torch.load(weights_only=True) reads",
        ) from error
    return _state_dict(content, path.name), {}


def _state_dict(content: Any, name: str) -> dict[str, Tensor]:
    if isinstance(content, Mapping) and isinstance(content.get("objects"), Mapping):  # a last.pt: all that has a state
        content = content["objects"]
    for key in _STATE_KEYS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise BundleError(f"{name} holds no state dict", "give the checkpoint that training wrote")
    return dict(content)


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
    paths = [Path(path)] if isinstance(path, Path | str) else [Path(part) for part in path]
    state: dict[str, Tensor] = {}
    metadata: dict[str, str] = {}
    for part in paths:
        tensors, facts = load_weights(part)
        state, metadata = state | tensors, metadata | facts
    if source:
        prefix = f"{source}."
        state = {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(line.strip() for line in str(error).splitlines()[1:3])[:300]
        raise BundleError(
            f"{' + '.join(part.name for part in paths)} does not fit the network ({reason})",
            "use the configuration that the weights were trained with, e.g. add configs/tiny.json for tiny weights",
        ) from error
    return metadata


def load_initial(
    network: nn.Module,
    start_from: Path | str | Sequence[Path | str],
    part: nn.Module | None = None,
    init_weights: Path | str = "",
    init_part: str = "",
) -> None:
    """What a training begins with: a whole network, else a part of it, else the weights that it was made with.

    Args:
        network: all that is trained.
        start_from: weights of the whole network, to be trained on (fine-tuned); empty for none.
        part: what ``init_weights`` belongs to, e.g. the encoder.
        init_weights: weights of the part, looked at where ``start_from`` is empty; empty for none.
        init_part: take only the part of that file under this name.

    Raises:
        BundleError: a file cannot be read or does not fit.
    """
    if start_from:
        load_into(network, start_from)
    elif init_weights and part is not None:
        load_into(part, init_weights, init_part)
