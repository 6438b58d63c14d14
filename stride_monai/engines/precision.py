"""Mixed precision that is chosen in words and never off in silence."""

from __future__ import annotations

import logging
from typing import Any

import torch

from stride_monai.errors import ConfigError

__all__ = ["AMP_DTYPES", "amp_arguments", "use_amp"]

_log = logging.getLogger(__name__)
AMP_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
"""float16 runs on every CUDA GPU and needs its loss scaled (MONAI does); bfloat16 needs one of 2020 or later."""


def use_amp(wanted: bool, dtype: str, device: torch.device | str) -> bool:
    """Whether an engine is to use mixed precision; says in the log what is used.

    MONAI's engines know mixed precision on CUDA only and drop it on a CPU without a word; here the word is said.

    Raises:
        ConfigError: the type is not half precision, or the GPU has no bfloat16.
    """
    device = torch.device(device)
    if not wanted:
        _log.info("precision: float32 on %s", device.type)
        return False
    amp_arguments(dtype)
    if device.type != "cuda":
        _log.info("precision: float32 on %s; mixed precision (amp) works on CUDA only", device.type)
        return False
    if dtype == "bfloat16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise ConfigError("this GPU has no bfloat16", "set amp_dtype to float16")
    _log.info("precision: %s and float32 mixed on %s", dtype, torch.cuda.get_device_name(device))
    return True


def amp_arguments(dtype: str) -> dict[str, Any]:
    """The ``amp_kwargs`` of MONAI's engines.

    Raises:
        ConfigError: the type is not half precision.
    """
    if dtype not in AMP_DTYPES:
        raise ConfigError(f"unknown amp_dtype '{dtype}'", f"use {' or '.join(AMP_DTYPES)}, or set amp to false")
    return {"dtype": AMP_DTYPES[dtype]}
