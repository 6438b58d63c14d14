"""Which runtime computes the networks: by name; nothing heavy is imported, so a wrong word is refused at once.

``torch`` is the default, so that a slide gets the same result whatever is installed.
"""

from __future__ import annotations

from importlib.metadata import version
from importlib.util import find_spec
from typing import NamedTuple

from stride_monai.errors import ConfigError, MissingExtraError, check_name

__all__ = ["PRECISIONS", "RUNTIMES", "RuntimeChoice", "check_precision", "check_runtime", "choose_runtime"]

RUNTIMES = ("torch", "openvino", "onnx", "auto")
_NEEDED = {
    "torch": ("", ("torch",)),
    "openvino": ("fast", ("openvino",)),
    "onnx": ("onnx", ("onnxruntime", "onnx", "onnxscript")),
}
"""By runtime the extra that brings it, and its packages, the one whose version counts first."""
_REFUSED = {
    "tensorrt": ("the runtime tensorrt is not offered: it has not been tried here", "use --runtime torch on a GPU"),
    "int8": ("int8 is a precision, not a runtime", "use --runtime openvino --precision int8"),
}
PRECISIONS = {"fp32": "float32", "bf16": "bfloat16", "int8": "int8"}
"""What may be asked for, and what artifacts call it."""
_COMPUTED_BY = {"bf16": "torch", "int8": "openvino"}


class RuntimeChoice(NamedTuple):
    """A runtime, its version, and in words why it is this one."""

    name: str
    version: str
    why: str

    def in_words(self) -> str:
        return f"{self.name} {self.version} ({self.why})"


def check_runtime(name: str) -> None:
    """Refuse a runtime that there is not, or that is not installed.

    Raises:
        ConfigError: it is unknown, or not offered. MissingExtraError: its package is not installed.
    """
    for refused, reason in _REFUSED.items():
        if name == refused or name.endswith(f"-{refused}"):
            raise ConfigError(*reason)
    check_name("runtime", name, RUNTIMES)
    if name != "auto" and (package := _lacking(name)):
        raise MissingExtraError(package, _NEEDED[name][0], f"the runtime {name}")


def check_precision(precision: str, runtime: str) -> None:
    """Refuse a precision that there is not, or that the runtime does not compute.

    Raises:
        ConfigError: it is unknown, or another runtime's.
    """
    check_name("precision", precision, PRECISIONS)
    wanted = _COMPUTED_BY.get(precision, runtime)
    if runtime not in {wanted, "auto"}:
        raise ConfigError(f"{precision} is computed by {wanted}, not by --runtime {runtime}", f"use --runtime {wanted}")


def choose_runtime(name: str, device: str) -> RuntimeChoice:
    """The runtime of that name; ``auto`` is OpenVINO on a CPU where it is installed, else torch.

    Args:
        device: type of the device that was chosen, ``cpu`` or ``cuda``.

    Raises:
        ConfigError: as :func:`check_runtime`, or the runtime does not run on the device.
    """
    check_runtime(name)
    if name != "auto":
        if name != "torch" and device != "cpu":
            raise ConfigError(f"the runtime {name} is for the CPU, and the device is {device}", "add --device cpu")
        return _found(name, "as asked for")
    if device != "cpu":
        return _found("torch", f"the others are for the CPU, and the device is {device}")
    if _lacking("openvino"):
        return _found("torch", "OpenVINO is not installed, the extra fast")
    return _found("openvino", "OpenVINO is installed")


def _found(name: str, why: str) -> RuntimeChoice:
    return RuntimeChoice(name, version(_NEEDED[name][1][0]), why)


def _lacking(name: str) -> str:
    return next((package for package in _NEEDED[name][1] if find_spec(package) is None), "")
