"""The detector: shapes, loss, traceability, and that ultralytics leaves no trace."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from stride_monai.errors import ConfigError, MissingExtraError
from stride_monai.networks.detection.detector import TileDetector, YoloDetector

# not importorskip: importing ultralytics outside the adapter replaces PIL.Image.open for all other tests
pytestmark = pytest.mark.skipif(find_spec("ultralytics") is None, reason="needs the extra yolo")


@pytest.fixture(scope="module")
def network() -> YoloDetector:
    torch.manual_seed(0)
    return YoloDetector("yolov5n").eval()


def test_output_is_boxes_in_px_and_probabilities(network: YoloDetector) -> None:
    image = torch.rand(2, 3, 128, 160)
    with torch.no_grad():
        output = network(image)
    assert output.shape == (2, 5, 16 * 20 + 8 * 10 + 4 * 5)
    x0, y0, x1, y1, p = output.unbind(1)
    assert (x1 > x0).all()
    assert (y1 > y0).all()
    assert ((p >= 0) & (p <= 1)).all()
    # the boxes are centred near their anchors, which span the image
    assert 60 < ((x0 + x1) / 2).mean() < 100


def test_training_mode_has_the_same_output_form() -> None:
    network = YoloDetector("yolov5n").train()
    assert network(torch.rand(2, 3, 64, 64)).shape == (2, 5, 84)


def test_state_dict_is_plain_tensors(network: YoloDetector) -> None:
    assert all(type(value) is torch.Tensor for value in network.state_dict().values())
    other = YoloDetector("yolov5n", channels_last=False).eval()
    other.load_state_dict(network.state_dict())
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(other(image), network(image), atol=1e-3)


def test_traces(network: YoloDetector) -> None:
    image = torch.rand(1, 3, 128, 128)
    traced = torch.jit.trace(network, image)
    with torch.no_grad():
        assert torch.allclose(traced(image), network(image))


def test_loss_falls_and_moves_every_part(network: YoloDetector) -> None:
    torch.manual_seed(0)
    trained = YoloDetector("yolov5n").train()
    image = torch.zeros(2, 3, 96, 96)
    image[0, :, 20:60, 30:70] = 1
    boxes = [torch.tensor([[30.0, 20.0, 70.0, 60.0]]), torch.zeros(0, 4)]
    optimizer = torch.optim.Adam(trained.parameters(), 1e-3)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        loss, parts = trained.training_loss(image, boxes)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert set(parts) == {"box", "cls", "dfl"}
    assert losses[-1] < 0.7 * losses[0]
    torch.testing.assert_close(torch.tensor(losses[-1]), 2 * sum(parts.values()))
    moved = [p.grad is not None for p in trained.parameters() if p.requires_grad]
    assert all(moved)


def test_loss_of_images_without_cells_is_finite() -> None:
    loss, _ = YoloDetector("yolov5n").train().training_loss(torch.rand(2, 3, 64, 64), [torch.zeros(0, 4)] * 2)
    assert torch.isfinite(loss)


def test_one_set_of_boxes_per_image(network: YoloDetector) -> None:
    with pytest.raises(ValueError, match="2 images"):
        network.training_loss(torch.rand(2, 3, 64, 64), [torch.zeros(0, 4)])


def test_detect(network: YoloDetector) -> None:
    assert isinstance(network, TileDetector)
    tiles = torch.randint(0, 256, (2, 3, 96, 96), dtype=torch.uint8)
    every = network.detect(tiles, min_score=0.0, max_per_tile=20, nms_iou=0.3)
    same = network.detect(tiles.float() / 255, min_score=0.0, max_per_tile=20, nms_iou=0.3)
    for a, b in zip(every, same, strict=True):
        assert torch.equal(a.boxes, b.boxes)
        assert 0 < len(a.scores) <= 20
        assert (a.scores[:-1] >= a.scores[1:]).all()
    assert all(len(d.scores) == 0 for d in network.detect(tiles, min_score=1.0))
    assert not network.training


def test_detect_leaves_training_mode_as_it_was() -> None:
    network = YoloDetector("yolov5n").train()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    network.detect(torch.rand(1, 3, 64, 64))
    assert network.training
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())


@pytest.mark.parametrize("name", ["yolov8n", "yolo26n"])
def test_other_yolos_train_and_detect(name: str) -> None:
    """The newest have two branches; one is left, which learns wholly, as on several processes it has to."""
    torch.manual_seed(0)
    other = YoloDetector(name).train()
    image, boxes = torch.rand(2, 3, 64, 64), [torch.tensor([[10.0, 10, 40, 40]]), torch.zeros(0, 4)]
    loss, parts = other.training_loss(image, boxes)
    loss.backward()
    torch.testing.assert_close(loss.detach(), 2 * sum(parts.values()))
    assert all(p.grad is not None for p in other.parameters() if p.requires_grad)
    assert other(image).shape == other.eval()(image).shape == (2, 5, 84)
    found = other.detect(image, min_score=0.0, max_per_tile=5)
    assert all(0 < len(d.scores) <= 5 for d in found)


def test_unknown_name() -> None:
    with pytest.raises(ConfigError, match="yolov99"):
        YoloDetector("yolov99")
    with pytest.raises(ConfigError, match="no plain detector"):
        YoloDetector("yolov8n-seg")


def test_sides_that_cannot_be_halved_are_refused(network: YoloDetector) -> None:
    with pytest.raises(ConfigError, match=r"100 x 96 px: .* multiple of 32"):
        network(torch.rand(1, 3, 100, 96))


def test_without_ultralytics_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ultralytics.nn.tasks", None)
    with pytest.raises(MissingExtraError, match=r"stride-monai\[yolo\]"):
        YoloDetector("yolov5n")


def test_no_trace_in_home_environment_or_network(tmp_path: Path) -> None:
    code = """
import os, socket, torch
def refuse(*a, **k): raise AssertionError("network access")
socket.getaddrinfo = socket.socket.connect = refuse
from stride_monai.networks.detection.detector import YoloDetector
from PIL import Image
before, save, open_image = dict(os.environ), torch.save, Image.open
YoloDetector("yolov5n")
assert dict(os.environ) == before, set(os.environ.items()) ^ set(before.items())
assert torch.save is save
assert Image.open is open_image
"""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("YOLO")}
    environment |= {"HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "tmp"), "PYTHONPATH": str(Path.cwd())}
    (tmp_path / "home").mkdir()
    (tmp_path / "tmp").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    written = [p for p in tmp_path.rglob("*") if p.is_file() and "matplotlib" not in p.parts]  # MONAI brings that
    assert not written
