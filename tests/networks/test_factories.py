"""Networks by name: what is made, what is listed, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from stride_monai.errors import BundleError, ConfigError
from stride_monai.networks import (
    ABMILHead,
    CellClassifier,
    FcosDetector,
    create_cell_encoder,
    create_detector,
    create_slide_head,
    list_cell_encoders,
    list_detectors,
    list_slide_heads,
    save_weights,
)


def test_each_name_makes_its_network() -> None:
    for name in list_slide_heads():
        logits, attention = create_slide_head(name, 16).eval()(torch.rand(2, 9, 16), torch.ones(2, 9, dtype=torch.bool))
        assert (logits.shape[0], attention.shape) == (2, (2, 9)), name
    gated = create_slide_head("gated_abmil", 16, num_classes=3)
    assert isinstance(gated, ABMILHead)
    assert gated(torch.rand(1, 2, 16))[0].shape == (1, 3)
    assert isinstance(create_detector("fcos", backbone="test_convnext", width=16), FcosDetector)
    assert isinstance(create_cell_encoder("test_convnext", num_classes=4), CellClassifier)


def test_filters_are_those_of_timm() -> None:
    assert list_slide_heads("*abmil") == ["abmil", "gated_abmil"]
    assert list_slide_heads("nothing*") == []
    assert list_detectors("yolov5?") == [f"yolov5{size}" for size in "nsmlx"]
    assert "fcos" in list_detectors()
    assert "convnext_tiny" in list_cell_encoders("convnext_*")


@pytest.mark.parametrize(
    ("create", "name", "says"),
    [
        (lambda name: create_slide_head(name, 4), "abmill", "unknown slide head 'abmill': did you mean abmil?"),
        (create_detector, "focs", "unknown detector 'focs': did you mean fcos?"),
        (create_cell_encoder, "convnext_tiney", "unknown model of timm 'convnext_tiney': did you mean convnext_tiny?"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(create: Callable[[str], Any], name: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        create(name)
    assert str(caught.value).startswith(says)


def test_weights_are_loaded_whole_or_refused(tmp_path: Path) -> None:
    first = create_cell_encoder("test_convnext")
    save_weights(tmp_path / "cells.safetensors", first.state_dict(), {}, half=False)
    again = create_cell_encoder("test_convnext", weights=tmp_path / "cells.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    with pytest.raises(BundleError, match=r"cells\.safetensors"):
        create_detector("fcos", backbone="test_convnext", width=16, weights=tmp_path / "cells.safetensors")
