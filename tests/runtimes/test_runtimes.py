"""A network gives the same answers whatever computes it, and what does not is refused by name."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from extras import needs
from small_disks import files_of_at_most
from torch import nn

from stride_monai.errors import ConfigError, MissingExtraError
from stride_monai.inferers.cpu import CPU_BATCH, over_crops
from stride_monai.networks import CellClassifier, CellViews, FcosDetector
from stride_monai.runtimes import (
    RuntimeChoice,
    check_runtime,
    choice,
    choose_runtime,
    compile_detector,
    compile_features,
    compile_network,
    compiling,
    runtime_named,
)

SIDE = 64
PACKAGES = {"openvino": "fast", "onnxruntime": "onnx"}


@pytest.fixture(params=["openvino", "onnx"])
def runtime(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> RuntimeChoice:
    package = "openvino" if request.param == "openvino" else "onnxruntime"
    needs(package, PACKAGES[package])
    monkeypatch.setenv("STRIDE_MONAI_CACHE", str(tmp_path / "cache"))
    return choose_runtime(request.param, "cpu")


@pytest.fixture
def openvino(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> RuntimeChoice:
    needs("openvino", "fast")
    monkeypatch.setenv("STRIDE_MONAI_CACHE", str(tmp_path / "cache"))
    return choose_runtime("openvino", "cpu")


def frozen(network: nn.Module) -> nn.Module:
    return network.eval().requires_grad_(False)


def toy(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return frozen(nn.Sequential(nn.Conv2d(3, 4, 3), nn.SiLU()))


def test_a_detector_finds_the_same(runtime: RuntimeChoice) -> None:
    """Also on a tile among others: the places that its boxes come from are where runtimes went wrong."""
    torch.manual_seed(0)
    detector = FcosDetector("test_efficientnet", strides=(8, 16), width=8, depth=1)
    frozen(detector)
    same = compile_detector(detector, SIDE, runtime)
    tiles = torch.randint(0, 256, (3, 3, SIDE, SIDE), dtype=torch.uint8)
    for k, (found, wanted) in enumerate(zip(same.detect(tiles), detector.detect(tiles), strict=True)):
        assert len(wanted.boxes) > 5
        torch.testing.assert_close(found.scores, wanted.scores, atol=1e-5, rtol=0)
        torch.testing.assert_close(found.boxes, wanted.boxes, atol=1e-3, rtol=0)
        alone = same.detect(tiles[k : k + 1])[0]
        assert torch.equal(alone.boxes, found.boxes)
        assert torch.equal(alone.scores, found.scores)
    with pytest.raises(ConfigError, match="32 x 64 px, but the detector was compiled for 64 px"):
        same.detect(tiles[:, :, :32])


def test_features_are_the_same_however_many_cells_and_threads_there_are(runtime: RuntimeChoice) -> None:
    torch.manual_seed(0)
    encoder = CellClassifier("test_convnext")
    frozen(encoder)
    views = CellViews(encoder, (1, 2))
    same = compile_features(views, CPU_BATCH, 32, runtime)
    crops = torch.randint(0, 256, (2 * CPU_BATCH + 3, 3, 32, 32), dtype=torch.uint8)
    cpu = torch.device("cpu")
    wanted = over_crops(views.encode, crops, cpu, views.feature_dim)
    found = over_crops(same, crops, cpu, views.feature_dim)
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)
    assert torch.equal(over_crops(same, crops[:5], cpu, views.feature_dim), found[:5])
    assert torch.equal(over_crops(same, crops.flip(0), cpu, views.feature_dim).flip(0), found)
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        other = compile_features(views, CPU_BATCH, 32, runtime)
        assert torch.equal(over_crops(other, crops, cpu, views.feature_dim), found)
    finally:
        torch.set_num_threads(threads)


def test_many_threads_get_each_its_own_answer(runtime: RuntimeChoice) -> None:
    run = compile_network(toy(), (1, 3, 16, 16), runtime)
    images = np.random.default_rng(0).random((8, 1, 3, 16, 16), np.float32)
    wanted, wrong = [run(image) for image in images], []

    def ask(k: int) -> None:
        for _ in range(20):
            if not np.array_equal(run(images[k]), wanted[k]):
                wrong.append(k)

    asking = [threading.Thread(target=ask, args=(k,)) for k in range(len(images))]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert not wrong


def test_a_network_is_kept_and_taken_up_again(runtime: RuntimeChoice, monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.random.default_rng(0).random((1, 3, 16, 16), np.float32)
    wanted = compile_network(toy(), image.shape, runtime)(image)
    (kept,) = compiling.cache_folder().iterdir()
    kind, converted = type(runtime_named(runtime.name)), []
    convert: Callable[..., None] = kind.convert

    def noting(self: object, program: object, folder: Path) -> None:
        converted.append(folder)
        convert(self, program, folder)

    monkeypatch.setattr(kind, "convert", noting)
    assert np.array_equal(compile_network(toy(), image.shape, runtime)(image), wanted)
    assert not converted
    compile_network(toy(1), image.shape, runtime)
    assert len(converted) == 1, "other weights"
    compile_network(toy(), image.shape, runtime._replace(version="0"))
    assert len(converted) == 2, "another version"
    for file in kept.iterdir():
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert np.array_equal(compile_network(toy(), image.shape, runtime)(image), wanted)
    assert len(converted) == 3, "what was damaged is made anew"


def test_without_a_place_to_keep_it_a_network_runs(
    openvino: RuntimeChoice, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("STRIDE_MONAI_CACHE", str(tmp_path / "file"))
    image = np.zeros((1, 3, 16, 16), np.float32)
    np.testing.assert_allclose(
        compile_network(toy(), image.shape, openvino)(image), toy()(torch.from_numpy(image)), atol=1e-5
    )
    assert "the network is not kept" in caplog.text


def test_where_the_disk_of_the_cache_is_full_a_network_runs(
    runtime: RuntimeChoice, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kind = type(runtime_named(runtime.name))
    convert = kind.convert

    def limited(self: Any, program: Any, folder: Path) -> None:
        with files_of_at_most(100) if folder.is_relative_to(tmp_path) else nullcontext():
            convert(self, program, folder)

    monkeypatch.setattr(kind, "convert", limited)
    image = np.zeros((1, 3, 16, 16), np.float32)
    found = compile_network(toy(), image.shape, runtime)(image)
    np.testing.assert_allclose(found, toy()(torch.from_numpy(image)), atol=1e-5)
    assert "): the network is not kept" in caplog.text
    assert not list((tmp_path / "cache" / "networks").iterdir())


def test_other_values_than_torch_s_are_refused(openvino: RuntimeChoice, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = type(runtime_named("openvino"))
    load = kind.load
    monkeypatch.setattr(kind, "load", lambda *given: lambda image: load(*given)(image) + 0.01)
    with pytest.raises(ConfigError, match=r"other values than torch for the network Sequential, 10 times"):
        compile_network(toy(), (1, 3, 16, 16), openvino)
    assert not [*compiling.cache_folder().iterdir()]


def test_a_network_that_cannot_be_exported_is_refused(openvino: RuntimeChoice) -> None:
    class Odd(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return image if image.sum() > 100 else -image

    with pytest.raises(ConfigError, match=r"cannot take the network Odd .*use --runtime torch"):
        compile_network(Odd(), (1, 3, 16, 16), openvino)


def test_auto_takes_openvino_where_it_is_installed_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_runtime("torch", "cuda").why == "as asked for"
    assert choose_runtime("auto", "cuda")[::2] == ("torch", "the others are for the CPU, and the device is cuda")
    monkeypatch.setattr(choice, "find_spec", lambda name: None)
    assert choose_runtime("auto", "cpu")[::2] == ("torch", "OpenVINO is not installed, the extra fast")
    with pytest.raises(MissingExtraError, match=r"the runtime onnx needs onnxruntime.*stride-monai\[onnx\]"):
        check_runtime("onnx")
    monkeypatch.setattr(choice, "find_spec", lambda name: object())
    monkeypatch.setattr(choice, "version", lambda name: "9")
    assert choose_runtime("auto", "cpu").in_words() == "openvino 9 (OpenVINO is installed)"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("tensorrt", "tensorrt is not offered"),
        ("int8", "int8 is a precision, not a runtime"),
        ("openvino-int8", "use --runtime openvino --precision int8"),
        ("openvin", "did you mean openvino"),
    ],
)
def test_what_is_not_offered_is_refused_by_name(name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_runtime(name)


def test_runtimes_of_the_cpu_refuse_a_gpu() -> None:
    needs("openvino", "fast")
    with pytest.raises(ConfigError, match="add --device cpu"):
        choose_runtime("openvino", "cuda")


def test_openvino_reports_nothing_to_anybody(tmp_path: Path) -> None:
    """Its import alone would write into the home folder and send a message."""
    needs("openvino", "fast")
    use = "from stride_monai.runtimes.openvino import imported_openvino; import sys; imported_openvino(); "
    said = use + "print(*(name for name in sys.modules if name.startswith('openvino_telemetry')))"
    environment = {**os.environ, "HOME": str(tmp_path), "USERPROFILE": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == []
    assert not (tmp_path / "intel").exists()
