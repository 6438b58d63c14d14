"""What keeps a network's answer the same when it is scripted, traced or exported to ONNX.

A trace records what happened to one example, so what depends on the type or the size of the input is decided for good;
scripting compiles the source and knows only part of Python. Here is what the networks do about both.
"""

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch._jit_internal import is_scripting

from stride_monai.errors import ConfigError

__all__ = ["compiled", "is_scripting", "is_tracing", "recording", "refuse_exported", "unit_range"]


def unit_range(image: Tensor, like: Tensor) -> Tensor:
    """A picture in 0..1: that of a floating type as it is, that of whole numbers 0..255 (uint8) divided by 255.

    The type decides when the network is called, also in a trace, whose example may have been of the other type.

    Args:
        image: any shape; floating 0..1 or whole numbers 0..255.
        like: gives the floating type of what was divided.
    """
    if not is_scripting() and is_tracing():
        divided: Tensor = compiled(unit_range)(image, like)
        return divided
    if image.is_floating_point():
        return image
    return image.to(like.dtype) / 255


@cache
def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of tensors, compiled: a trace calls it and does not look through it, so its branches stay."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        script: Callable[..., Any] = torch.jit.script(function)
    return script


def is_tracing() -> bool:
    """Whether ``torch.jit.trace`` records this call."""
    if is_scripting():
        return False
    else:
        return torch._C._is_tracing()


def recording() -> bool:
    """Whether the call is only recorded (``torch.jit.trace``, ``torch.export``, ONNX): no value can be looked at."""
    if is_scripting():
        return False
    else:
        return is_tracing() or torch.compiler.is_exporting()


def refuse_exported(network: nn.Module, wanted: str) -> None:
    """Refuse a network that was exported to TorchScript where more of it is asked for than its output.

    Args:
        wanted: what it cannot give, for the message.

    Raises:
        ConfigError: it is one.
    """
    if isinstance(network, torch.jit.ScriptModule):
        raise ConfigError(
            f"a network exported to TorchScript has its output only, no {wanted}",
            "run the bundle's own network with the weights that it was exported from (--weights model.pt)",
        )
