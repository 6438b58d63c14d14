"""A network in int8 gives nearly the same, and is refused where it is not what it was when it was judged."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from extras import needs
from numpy.typing import NDArray
from small_disks import files_of_at_most
from torch import nn

from stride_monai import files
from stride_monai.errors import ConfigError, OutputError
from stride_monai.networks import CellClassifier, CellViews, FcosDetector
from stride_monai.networks.detection.detector import BoxDetector
from stride_monai.runtimes import (
    HalfDetector,
    RuntimeChoice,
    check_precision,
    half_features,
    int8,
    int8_detector,
    last_operations,
    load_int8,
    quantize_detector,
    quantize_network,
)
from stride_monai.runtimes.compiling import exported, noise_of
from stride_monai.runtimes.int8 import read_int8
from stride_monai.runtimes.openvino import OpenVino

SHAPE = (1, 3, 64, 64)


@pytest.fixture(autouse=True)
def _installed() -> None:
    needs("openvino", "fast")
    needs("nncf", "int8")


def frozen(network: nn.Module) -> nn.Module:
    return network.eval().requires_grad_(False)


def detector(seed: int = 0) -> BoxDetector:
    torch.manual_seed(seed)
    network = FcosDetector("test_efficientnet", strides=(8, 16), width=8, depth=1)
    frozen(network)
    return network


def pictures(count: int, side: int = 64, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 3, side, side), dtype=np.uint8)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Module]:
    """A quantized network, made once, and what it was made from."""
    needs("openvino", "fast")
    needs("nncf", "int8")
    network, home = detector(), tmp_path_factory.mktemp("made") / "detection"
    quantize_network(network, pictures(6), 1, home)
    return home, network


@pytest.fixture
def kept(made: tuple[Path, nn.Module], tmp_path: Path) -> tuple[Path, nn.Module]:
    """The same in a folder of the test's own."""
    home, network = made
    return Path(shutil.copytree(home, tmp_path / "detection")), network


def test_it_gives_nearly_what_the_float_network_gives(kept: tuple[Path, nn.Module]) -> None:
    home, network = kept
    image = pictures(1, seed=1).astype(np.float32) / 255
    found, wanted = load_int8(home, network, SHAPE)(image), network(torch.from_numpy(image)).numpy()
    assert 'element_type="i8"' in (home / "network.xml").read_text(), "weights are 8-bit"
    assert np.abs(found - wanted).max() > 1e-6, "and tell"
    assert np.abs(found[:, :4] - wanted[:, :4]).mean() < 1, "px"
    assert np.abs(found[:, 4:] - wanted[:, 4:]).max() < 0.05


def test_the_same_is_made_again_byte_by_byte(made: tuple[Path, nn.Module], tmp_path: Path) -> None:
    """Also where the process has made other models meanwhile: a hash of the files is what operating points go by."""
    home, network = made
    quantize_network(network, pictures(6), 1, tmp_path / "again")
    files = sorted(path.name for path in home.iterdir())
    assert files == sorted(path.name for path in (tmp_path / "again").iterdir())
    for name in files:
        assert (tmp_path / "again" / name).read_bytes() == (home / name).read_bytes(), name


def test_it_is_silent_on_a_machine_with_a_compiler_of_cuda_and_no_gpu(tmp_path: Path) -> None:
    code = """if True:
        import sys, numpy, torch
        from pathlib import Path
        from stride_monai.runtimes.int8 import quantize_network
        network = torch.nn.Conv2d(3, 2, 3).eval()
        quantize_network(network, numpy.zeros((1, 3, 8, 8), numpy.uint8), 1, Path(sys.argv[1]) / "network")
    """
    surroundings = {**os.environ, "CUDA_HOME": str(tmp_path), "CUDA_VISIBLE_DEVICES": ""}
    call = [sys.executable, "-c", code, tmp_path]
    done = subprocess.run(call, env=surroundings, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_what_was_made_of_the_same_stays_and_of_another_is_refused(
    kept: tuple[Path, nn.Module], tmp_path: Path
) -> None:
    home, network = kept
    before = (home / "network.json").stat().st_mtime_ns
    facts = quantize_network(network, pictures(6), 1, home)
    assert (facts.pictures, (home / "network.json").stat().st_mtime_ns) == (6, before)
    for other, some in ((detector(1), pictures(6)), (network, pictures(6, seed=1))):
        with pytest.raises(ConfigError, match=r"holds another network, .*: choose another --out"):
            quantize_network(other, some, 1, home)
    with pytest.raises(ConfigError, match="1 pictures are too few"):
        quantize_network(network, pictures(1), 8, tmp_path / "more")


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    home, network = tmp_path / "networks" / "detection", detector()
    with files_of_at_most(4096), pytest.raises(OutputError, match=r"cannot write .*detection .*is the disk full"):
        quantize_network(network, pictures(6), 1, home)
    assert not list(home.parent.iterdir())
    left = home.parent / f"{files._temporary_name().replace(str(os.getpid()), '999999999')}"
    (left / "network.xml").mkdir(parents=True)
    quantize_network(network, pictures(6), 1, home)
    assert [path.name for path in home.parent.iterdir()] == ["detection"], "what a killed one left is gone"


def test_of_two_processes_the_second_takes_what_the_first_has_made(
    kept: tuple[Path, nn.Module], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first ends while the second quantizes."""
    first, network = kept
    home, save = tmp_path / "same" / "detection", OpenVino.save

    def late(*given: Any) -> None:
        shutil.copytree(first, home)
        save(*given)

    monkeypatch.setattr(OpenVino, "save", late)
    assert quantize_network(network, pictures(6), 1, home) == read_int8(first) == read_int8(home)
    (home / "network.xml").unlink()
    with pytest.raises(ConfigError, match="same/detection is not whole: remove that folder and quantize again"):
        quantize_network(network, pictures(6), 1, home)
    (home / "network.json").unlink()
    with pytest.raises(ConfigError, match="is not whole"):
        quantize_network(network, pictures(6), 1, home)


def test_what_is_no_longer_what_was_judged_is_refused(
    kept: tuple[Path, nn.Module], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, network = kept
    with pytest.raises(ConfigError, match=r"holds no int8 network: quantize again"):
        load_int8(tmp_path, network, SHAPE)
    with pytest.raises(ConfigError, match="made from another network or other weights"):
        load_int8(home, detector(1), SHAPE)
    answer = np.load(home / "answer.npy")
    np.save(home / "answer.npy", answer + 1)
    with pytest.raises(ConfigError, match="this processor computes the int8 network detection otherwise"):
        load_int8(home, network, SHAPE)
    np.save(home / "answer.npy", answer)
    with monkeypatch.context() as patch:
        patch.setattr(int8, "version", lambda name: "1.0")
        with pytest.raises(ConfigError, match=r"was judged with OpenVINO 20.*, and here is 1\.0"):
            load_int8(home, network, SHAPE)
    load_int8(home, network, SHAPE)
    (home / "network.bin").write_bytes((home / "network.bin").read_bytes()[:-1] + b"\0\0")
    with pytest.raises(ConfigError, match="detection has changed since it was judged"):
        load_int8(home, network, SHAPE)
    (home / "network.json").write_text(json.dumps({"network": ""}))
    with pytest.raises(ConfigError, match="holds no int8 network"):
        load_int8(home, network, SHAPE)


def test_the_detector_finds_cells_in_int8(tmp_path: Path) -> None:
    finder = detector()
    quantize_detector(finder, pictures(4), tmp_path)
    boxes = int8_detector(finder, 64, tmp_path).detect(torch.from_numpy(pictures(2, seed=3)))
    assert [len(one.boxes) > 5 for one in boxes] == [True, True]


@pytest.mark.parametrize("convolutions", [0, 1, 2])
def test_what_lies_behind_the_last_convolutions_stays_float(convolutions: int) -> None:
    class Branched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.one, self.last, self.side = (nn.Conv2d(3, 3, 1) for _ in range(4))

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            stem = self.stem(image).relu()
            return self.last(self.one(stem).relu()).exp() + self.side(stem).softmax(1)

    model = OpenVino().model_of(exported(frozen(Branched()), noise_of((1, 3, 8, 8))))
    kinds = {operation.get_friendly_name(): operation.get_type_name() for operation in model.get_ops()}
    left = [kinds[name] for name in last_operations(model, convolutions)]
    assert left.count("Convolution") == {0: 0, 1: 2, 2: 4}[convolutions], "one more on each way, the stem on the short"
    assert {"Exp", "Softmax"} <= {*left}
    assert not {"Constant", "Parameter", "Result"} & {*left}


def test_bfloat16_finds_nearly_the_same() -> None:
    tiles, network = torch.from_numpy(pictures(2)), detector()
    found, wanted = HalfDetector(network).detect(tiles), network.detect(tiles)
    for some, others in zip(found, wanted, strict=True):
        assert not torch.equal(some.scores[:5], others.scores[:5])
        torch.testing.assert_close(some.scores[:5], others.scores[:5], atol=0.02, rtol=0)
    encoder = CellClassifier("test_convnext")
    frozen(encoder)
    views = CellViews(encoder, (1,))
    crops = torch.rand(8, 3, 32, 32)
    found_features = half_features(views)(crops)
    assert found_features.dtype == torch.float32
    assert float(torch.nn.functional.cosine_similarity(found_features, views.encode(crops)).min()) > 0.99


def test_a_precision_has_its_runtime() -> None:
    check_precision("int8", "auto")
    check_precision("bf16", "torch")
    with pytest.raises(ConfigError, match=r"int8 is computed by openvino, not by --runtime torch: use --runtime openv"):
        check_precision("int8", "torch")
    with pytest.raises(ConfigError, match="bf16 is computed by torch"):
        check_precision("bf16", "onnx")
    with pytest.raises(ConfigError, match="did you mean int8"):
        check_precision("int4", "openvino")
    assert RuntimeChoice("openvino", "9", "x").in_words() == "openvino 9 (x)"
