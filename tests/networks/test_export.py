"""Networks that are scripted, traced or exported give what they give themselves, whatever the type and the size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stride_monai.networks.detection.detector import YoloDetector
from stride_monai.networks.detection.fcos import FcosDetector
from stride_monai.networks.encoders.cell_encoder import CellClassifier
from stride_monai.networks.exporting import unit_range
from stride_monai.networks.factories import create_slide_head, list_slide_heads
from stride_monai.networks.mil.cheng2021 import ChengHead
from stride_monai.networks.mil.slide_classifier import SlideClassifier

pytestmark = [
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning"),
]
D = 64  # features of test_convnext
HOW = ("script", "trace float", "trace uint8")
HEADS = [*list_slide_heads(), "cheng2021"]


def exported(network: nn.Module, how: str, example: Any) -> Any:
    if how == "script":
        return torch.jit.script(network)
    return torch.jit.trace(network, example)


def crops(*shape: int) -> Tensor:
    return torch.randint(0, 256, (*shape, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))


def head_of(name: str, encoder: CellClassifier) -> nn.Module:
    return ChengHead(D, encoder.head, cells=6, pool=8) if name == "cheng2021" else create_slide_head(name, D)


def masks(count: int, size: int) -> Tensor:
    mask = torch.rand(count, size, generator=torch.Generator().manual_seed(size)) > 0.4
    mask[:, 0] = True
    mask[0] = True
    return mask


def same(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("dtype", "largest"), [(torch.uint8, 255), (torch.int64, 255), (torch.float32, 1), (torch.float64, 1)]
)
def test_whole_numbers_are_0_to_255_and_floats_0_to_1(dtype: torch.dtype, largest: int) -> None:
    given = torch.tensor([0, largest], dtype=dtype)
    found = unit_range(given, torch.zeros(1))
    assert found.tolist() == [0.0, 1.0]
    assert found.dtype == (dtype if dtype.is_floating_point else torch.float32)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize(
    "make",
    [
        lambda: CellClassifier("test_convnext"),
        lambda: CellClassifier("test_vit", freeze_encoder=True),
        lambda: FcosDetector("test_convnext", strides=(8, 16), width=16, depth=1),
        lambda: YoloDetector("yolov5n"),
    ],
    ids=["convnext", "vit", "fcos", "yolo"],
)
def test_networks_of_pictures(make: Callable[[], nn.Module], how: str) -> None:
    torch.manual_seed(0)
    network = make().eval()
    example = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    script = exported(network, how, example if how == "trace uint8" else example / 255)
    state = script.state_dict()
    assert all(torch.equal(state[name], value) for name, value in network.state_dict().items())
    with torch.no_grad():
        for count in (1, 3):
            given = torch.randint(0, 256, (count, 3, 64, 64), dtype=torch.uint8)
            wanted = network(given / 255)
            same(network(given), wanted)
            same(script(given), wanted)
            same(script(given / 255), wanted)


@pytest.mark.parametrize("how", HOW[:2])
@pytest.mark.parametrize("head", HEADS)
def test_slide_classifiers_for_bags_of_any_size(head: str, how: str) -> None:
    torch.manual_seed(0)
    encoder = CellClassifier("test_convnext")
    network = SlideClassifier(encoder, head_of(head, encoder), top_k=5, chunk=4).eval()
    names = set(network.state_dict())
    network.set_operating_point(0.125, 5, "ab" * 32)
    example = crops(2, 5)
    script = exported(network, how, (example / 255, masks(2, 5)))
    assert set(network.state_dict()) == names, "the network itself stays as it is"
    assert float(script.threshold) == 0.125
    assert int(script.bag_size) == 5
    assert bytes(script.detector.tolist()).hex() == "ab" * 32
    with torch.no_grad():
        for count, size in ((1, 5), (3, 5), (2, 1), (2, 9)):
            bag, mask = crops(count, size), masks(count, size)
            wanted = network(bag, mask)
            same(script(bag, mask), wanted)
            same(script(bag / 255, mask), wanted)
            if how == "script":
                same(script(bag), network(bag))
                same(script(bag.new_ones(count, size, D).float()), network(bag.new_ones(count, size, D).float()))


@pytest.mark.parametrize("head", [*HEADS, "fcos"])
def test_a_trace_keeps_no_device(head: str) -> None:
    """Traced on a CPU it runs on a GPU, where a tensor made on the device of the example would be on another."""
    if head == "fcos":
        traced = torch.jit.trace(FcosDetector("test_convnext", width=16, depth=1).eval(), torch.rand(1, 3, 64, 64))
    else:
        encoder = CellClassifier("test_convnext")
        traced = torch.jit.trace(SlideClassifier(encoder, head_of(head, encoder)).eval(), crops(2, 5))
    assert "Device = prim::Constant[value" not in str(traced.inlined_graph)


def test_a_scripted_head_refuses_an_empty_bag() -> None:
    script = torch.jit.script(create_slide_head("mean", D).eval())
    with pytest.raises(torch.jit.Error, match="a bag without cells"):
        script(torch.rand(2, 3, D), torch.tensor([[True] * 3, [False] * 3]))


@pytest.mark.parametrize("head", HEADS)
def test_slide_heads_in_onnx(head: str) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    torch.manual_seed(0)
    network = head_of(head, CellClassifier("test_convnext")).eval()
    generator = torch.Generator().manual_seed(1)
    example = (torch.rand(2, 5, D, generator=generator), masks(2, 5))
    batch = torch.export.Dim("batch")
    program = torch.onnx.export(
        network, example, dynamo=True, verbose=False, dynamic_shapes={"features": {0: batch}, "mask": {0: batch}}
    )
    session = runtime.InferenceSession(program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])
    for count in (1, 4):
        features, mask = torch.rand(count, 5, D, generator=generator), masks(count, 5)
        found = session.run(None, {"features": features.numpy(), "mask": mask.numpy()})
        with torch.no_grad():
            for ours, theirs in zip(found, network(features, mask), strict=True):
                torch.testing.assert_close(torch.from_numpy(ours), theirs, rtol=1e-4, atol=1e-5)


def test_a_picture_of_whole_numbers_in_onnx() -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    torch.manual_seed(0)
    network = CellClassifier("test_convnext").eval()
    program = torch.onnx.export(network, (crops(2),), dynamo=True, verbose=False)
    session = runtime.InferenceSession(program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"image": crops(2).numpy()})
    with torch.no_grad():
        same(torch.from_numpy(found), network(crops(2)))
