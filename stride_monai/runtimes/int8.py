"""A network in int8: quantized by NNCF on pictures of the user's slides, computed by OpenVINO, and what is kept of it.

Post-training quantization: weights and the inputs of convolutions become 8-bit integers, whose ranges come from what
the float network computes of the pictures. What lies behind the last convolutions, boxes in px and statistics of
feature maps, stays float32, and so do those convolutions: they are cheap, and 256 steps are too few for a place in a
tile.
Errors of the other layers cannot be told from the network alone. So a quantized network is a thing that is judged
(:mod:`stride_monai.evaluation.precision`), is kept with what it was judged as, and is refused where it is another.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from stride_monai.errors import ConfigError, OutputError
from stride_monai.files import joint_sha256, moved_folder, remove_leftovers, sha256_of, temporary_folder
from stride_monai.runtimes.compiling import difference, exported, identity, noise_of
from stride_monai.runtimes.openvino import OpenVino, without_telemetry
from stride_monai.runtimes.protocol import Run

__all__ = ["DETECTION", "Int8Network", "imported_nncf", "last_operations", "load_int8", "quantize_network", "read_int8"]

DETECTION = "detection"
"""Folder of the one network that screening takes in int8. The cell encoder stays float32: in int8 it saved 2 % of a
slide's time, and half of what int8 changed of the slide scores was its doing (`benchmarks/int8_variants.py`)."""
_FACTS, _ANSWER = "network.json", "answer.npy"
_AGAIN = "quantize again: stride-monai quantize"
_CONVOLUTIONS = {"Convolution", "GroupConvolution", "MatMul"}


@dataclass(frozen=True, slots=True)
class Int8Network:
    """What is known of a quantized network.

    Attributes:
        network: SHA-256 of the float network: its weights, layers and the shape of its input.
        openvino, nncf: versions.
        pictures: how many it was calibrated on. pictures_sha256: which.
        sha256: of the network's files.
    """

    network: str
    openvino: str
    nncf: str
    pictures: int
    pictures_sha256: str
    sha256: str


def quantize_network(
    network: nn.Module, pictures: NDArray[np.uint8], batch: int, home: Path, keep_last: int = 1
) -> Int8Network:
    """Quantize a network and keep it in a folder, which is complete or absent; what was made of the same stays.

    Args:
        network: on a CPU and in evaluation mode, from float32 ``[batch, 3, H, W]``, 0-1, to one tensor.
        pictures: ``[n, 3, H, W]``, RGB 0-255, that it is calibrated on; those beyond a whole batch are left out.
        home: the folder.
        keep_last: so many convolutions before the output stay float32, on each way to it.

    Raises:
        ConfigError: there are fewer pictures than a batch, or OpenVINO or NNCF cannot take the network, or something
            else is in the folder.
        OutputError: the folder cannot be written.
    """
    shape = (batch, *pictures.shape[1:])
    batches = [pictures[k : k + batch] for k in range(0, len(pictures) - batch + 1, batch)]
    if not batches:
        raise ConfigError(f"{len(pictures)} pictures are too few to quantize on", f"give slides with {batch} or more")
    made_of = (
        identity(network, shape),
        version("openvino"),
        version("nncf"),
        len(batches) * batch,
        hashlib.sha256(np.concatenate(batches).tobytes()).hexdigest(),
    )
    if home.exists():
        return _kept(home, made_of)
    runtime = OpenVino()
    nncf = imported_nncf()
    try:
        model = runtime.model_of(exported(network, noise_of(shape)))
        with _silent():
            model = nncf.quantize(
                model,
                nncf.Dataset(batches, lambda some: some.astype(np.float32) / 255),
                subset_size=len(batches),
                ignored_scope=nncf.IgnoredScope(names=last_operations(model, keep_last)),
            )
    except Exception as error:  # both have errors of their own
        reason = " ".join(str(error).split())[:200]
        kind = type(network).__name__
        raise ConfigError(f"the network {kind} cannot be quantized ({reason})", "use --precision fp32") from error
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(home.parent)
        with temporary_folder(home.parent) as folder:
            runtime.save(model, folder)
            content = _content(folder)
            np.save(folder / _ANSWER, runtime.load(folder, 1)(noise_of(shape).numpy()), allow_pickle=False)
            facts = Int8Network(*made_of, content)
            (folder / _FACTS).write_text(json.dumps(asdict(facts), indent=1) + "\n", encoding="utf-8")
            moved_folder(folder, home)
    except OSError as error:
        if (home / _FACTS).exists():  # another process was first
            return _kept(home, made_of)
        raise OutputError(f"cannot write {home.absolute()} ({error.strerror or error})", "check the disk") from error
    return facts


def _kept(home: Path, made_of: tuple[str, str, str, int, str]) -> Int8Network:
    """What a folder keeps.

    Raises:
        ConfigError: it was made of something else, or is not whole.
    """
    known = read_int8(home)
    if known is None or known.sha256 != _content(home):
        raise ConfigError(f"the int8 network in {home.absolute()} is not whole", f"remove that folder and {_AGAIN}")
    if known != Int8Network(*made_of, known.sha256):
        raise ConfigError(f"{home.absolute()} holds another network, or one of other slides", "choose another --out")
    return known


def _content(home: Path) -> str:
    """SHA-256 of a network's files."""
    files = [path for path in sorted(home.iterdir()) if path.name not in {_FACTS, _ANSWER}]
    return joint_sha256([sha256_of(path) for path in files] or [""])


def read_int8(home: Path) -> Int8Network | None:
    """What is known of the network that a folder keeps; None where it keeps none."""
    try:
        return Int8Network(**json.loads((home / _FACTS).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def load_int8(home: Path, network: nn.Module, shape: tuple[int, ...]) -> Run:
    """A network that :func:`quantize_network` kept, if it is still what it was when it was judged.

    Args:
        network, shape: the float network that it must have been made from.

    Raises:
        ConfigError: there is none, or it is damaged, or was made from another network or by another OpenVINO, or this
            processor computes it otherwise.
    """
    facts, runtime, name = read_int8(home), OpenVino(), f"the int8 network {home.name}"
    if facts is None:
        raise ConfigError(f"{home.absolute()} holds no int8 network", _AGAIN)
    if _content(home) != facts.sha256:
        raise ConfigError(f"{name} has changed since it was judged ({home.absolute()})", _AGAIN)
    if facts.network != identity(network, shape):
        raise ConfigError(f"{name} was made from another network or other weights than those that are used", _AGAIN)
    if facts.openvino != version("openvino"):
        raise ConfigError(
            f"{name} was judged with OpenVINO {facts.openvino}, and here is {version('openvino')}", _AGAIN
        )
    try:
        run, answer = runtime.load(home, torch.get_num_threads()), np.load(home / _ANSWER, allow_pickle=False)
        apart = difference(run, noise_of(shape), torch.from_numpy(answer))
    except Exception as error:
        raise ConfigError(f"{name} is damaged ({home.absolute()})", _AGAIN) from error
    if not apart <= 1:
        raise ConfigError(f"this processor computes {name} otherwise than the one that it was judged on", _AGAIN)
    return run


def imported_nncf() -> Any:
    """NNCF, imported so that it reports to nobody, and silent."""
    with without_telemetry():
        nncf: Any = importlib.import_module("nncf")
    logging.getLogger("nncf").setLevel(logging.ERROR)  # set_log_level would set that of other people's handlers, too
    return nncf


@contextmanager
def _silent() -> Iterator[None]:
    """Neither NNCF's bars nor, on a machine with CUDA's compiler and no GPU, PyTorch's word that there is none.

    NNCF imports what says so when it first quantizes. It is said by a logger, whose handler has kept the stream.
    """
    of_torch = logging.getLogger("torch.utils.cpp_extension")
    level = of_torch.level
    of_torch.setLevel(logging.ERROR)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        of_torch.setLevel(level)


def last_operations(model: Any, convolutions: int) -> list[str]:
    """Names of the operations of an ``openvino.Model`` behind its last convolutions, and of so many of those.

    Each way from the input to the output is followed back on its own. A convolution that weighs the outcome of a
    softmax, as detectors make distances from distributions, is no layer that was learned, and is not counted.
    """
    left: dict[str, int] = {}
    found: set[str] = set()
    todo = [(result, convolutions) for result in model.get_results()]
    while todo:
        operation, more = todo.pop()
        name, kind = operation.get_friendly_name(), operation.get_type_name()
        if kind in _CONVOLUTIONS and not _weighs_softmax(operation):
            more -= 1
        if more < 0 or left.get(name, -1) >= more:
            continue
        left[name] = more
        if kind not in {"Constant", "Parameter", "Result"}:
            found.add(name)
        todo += [(source.get_node(), more) for source in operation.input_values()]
    return sorted(found)


def _weighs_softmax(operation: Any) -> bool:
    source = operation.input_value(0).get_node()
    while source.get_type_name() in {"Transpose", "Reshape"}:
        source = source.input_value(0).get_node()
    return bool(source.get_type_name() == "Softmax")
