"""Weights files."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from stride_monai.errors import BundleError
from stride_monai.networks.encoders.cell_encoder import CellClassifier
from stride_monai.networks.factories import create_slide_head
from stride_monai.networks.mil.slide_classifier import SlideClassifier
from stride_monai.networks.weights import load_initial, load_into, load_weights, save_weights, trainable


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))


def test_safetensors_round_trip_in_16_bits(network: nn.Module, tmp_path: Path) -> None:
    state = {**network.state_dict(), "threshold": torch.tensor(0.1234567), "huge": torch.tensor([1e6])}
    save_weights(tmp_path / "w.safetensors", state, {"note": "trained on synthetic slides"})
    loaded, metadata = load_weights(tmp_path / "w.safetensors")
    assert metadata == {"note": "trained on synthetic slides"}
    assert loaded.keys() == state.keys()
    assert loaded["0.weight"].dtype == torch.float16
    torch.testing.assert_close(loaded["0.weight"].float(), state["0.weight"], rtol=1e-3, atol=1e-4)
    assert torch.equal(loaded["threshold"], state["threshold"]), "scalars keep their precision"
    assert torch.equal(loaded["huge"], state["huge"]), "what would overflow keeps its precision"
    assert loaded["1.num_batches_tracked"].dtype == torch.int64
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]


def test_full_precision_and_tied_tensors(tmp_path: Path) -> None:
    tied = torch.rand(2, 2)
    save_weights(tmp_path / "w.safetensors", {"a": tied, "b": tied.t()}, {}, half=False)
    loaded, _ = load_weights(tmp_path / "w.safetensors")
    assert torch.equal(loaded["a"], tied)
    assert torch.equal(loaded["b"], tied.t())


@pytest.mark.parametrize("key", [None, "model", "network", "state_dict"])
def test_pt_files_bare_and_in_a_checkpoint(network: nn.Module, tmp_path: Path, key: str | None) -> None:
    state = network.state_dict()
    torch.save(state if key is None else {key: state, "epoch": 3}, tmp_path / "model.pt")
    loaded, metadata = load_weights(tmp_path / "model.pt")
    assert metadata == {}
    assert all(torch.equal(loaded[name], value) for name, value in state.items())


class _Dangerous:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("touched-by-a-pickle"),)  # type: ignore[return-value]


def test_files_that_run_code_or_are_no_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "evil.pt").write_bytes(pickle.dumps(_Dangerous()))
    torch.save({"model": _Dangerous()}, tmp_path / "evil2.pt")
    (tmp_path / "text.pt").write_text("not weights")
    (tmp_path / "text.safetensors").write_text("not weights")
    (tmp_path / "empty.pt").touch()
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"epoch": 3}, tmp_path / "number.pt")
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(BundleError, match=path.name):
            load_weights(path)
    with pytest.raises(BundleError, match="no weights"):
        load_weights(tmp_path / "missing.pt")
    assert not Path("touched-by-a-pickle").exists()


def test_load_into_takes_all_or_refuses(network: nn.Module, tmp_path: Path) -> None:
    save_weights(tmp_path / "w.safetensors", network.state_dict(), {"note": "n"})
    other = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    assert load_into(other, tmp_path / "w.safetensors") == {"note": "n"}
    torch.testing.assert_close(other[0].weight, network[0].weight, rtol=1e-3, atol=1e-4)
    assert other[0].weight.dtype == torch.float32
    part = nn.Linear(4, 3)
    load_into(part, tmp_path / "w.safetensors", source="0")
    torch.testing.assert_close(part.bias, other[0].bias)
    for wrong in (nn.Linear(4, 3), nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3))):
        with pytest.raises(BundleError, match="does not fit"):
            load_into(wrong, tmp_path / "w.safetensors")


def test_what_differs_from_a_base_is_laid_over_it(network: nn.Module, tmp_path: Path) -> None:
    state = {key: value.float() if value.is_floating_point() else value for key, value in network.state_dict().items()}
    save_weights(tmp_path / "base.safetensors", state, {"note": "base", "by": "me"}, half=False)
    save_weights(tmp_path / "more.safetensors", {"0.bias": torch.full((3,), 7.0)}, {"note": "more"}, half=False)
    other = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    assert load_into(other, [tmp_path / "base.safetensors", tmp_path / "more.safetensors"]) == {
        "note": "more",
        "by": "me",
    }
    assert torch.equal(other[0].weight, network[0].weight)
    assert other[0].bias.tolist() == [7.0] * 3
    save_weights(tmp_path / "odd.safetensors", {"0.other": torch.zeros(1)}, {})
    with pytest.raises(BundleError, match=r"base.safetensors \+ odd.safetensors does not fit"):
        load_into(other, [tmp_path / "base.safetensors", tmp_path / "odd.safetensors"])


def test_the_same_weights_make_the_same_file(tmp_path: Path) -> None:
    """Bags and thresholds are bound to the hash of the file, so it must not depend on the order of the metadata."""
    state = {"b": torch.arange(5.0), "a": torch.ones(3, 2)}
    facts = {f"fact {i}": f"is {i}" for i in range(6)}
    contents = set()
    for turn in range(4):
        save_weights(tmp_path / "a.safetensors", state, dict(list(facts.items())[turn:] + list(facts.items())[:turn]))
        contents.add((tmp_path / "a.safetensors").read_bytes())
    assert len(contents) == 1
    tensors, metadata = load_weights(tmp_path / "a.safetensors")
    assert metadata == facts
    assert torch.equal(tensors["b"], state["b"].half())
    assert torch.equal(tensors["a"], state["a"].half())


def test_what_a_training_begins_with_is_the_network_with_its_weights(tmp_path: Path) -> None:
    whole = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    start = {key: value + 1 for key, value in whole.state_dict().items()}
    torch.save(start, tmp_path / "whole.pt")
    before = whole[0].bias.detach().clone()
    torch.save({"part": whole[0].state_dict()}, tmp_path / "part.pt")
    assert load_initial(whole, tmp_path / "whole.pt") is whole
    assert torch.equal(whole.state_dict()["1.bias"], start["1.bias"])
    assert load_initial(whole, "", whole[0], tmp_path / "part.pt") is whole
    assert torch.equal(whole[0].bias, before)
    assert torch.equal(whole[1].bias, start["1.bias"]), "only the part is loaded"
    assert load_initial(whole) is whole


def test_a_slide_head_of_best_cells_starts_with_the_cell_classifier_s_last_layer(tmp_path: Path) -> None:
    torch.manual_seed(0)
    taught, encoder = (CellClassifier("test_convnext") for _ in range(2))
    save_weights(tmp_path / "cells.safetensors", taught.state_dict(), {}, half=False)
    whole = SlideClassifier(encoder, create_slide_head("best_cells", encoder.feature_dim), 4)
    load_initial(whole, "", encoder, tmp_path / "cells.safetensors")
    assert torch.equal(whole.slide_head.cells.weight[0], taught.head.weight[0])
    image_encoder = load_initial(whole, "", encoder.encoder, tmp_path / "cells.safetensors", "encoder")
    assert image_encoder is whole, "an image encoder has no last layer, and the slide head stays"
    start = tmp_path / "whole.safetensors"
    nn.init.zeros_(whole.slide_head.cells.weight)
    save_weights(start, whole.state_dict(), {}, half=False)
    load_initial(whole, start, encoder, tmp_path / "cells.safetensors")
    assert not whole.slide_head.cells.weight.any(), "what was trained goes before"


def test_what_is_frozen_is_not_trained() -> None:
    network = nn.Sequential(nn.Linear(2, 3).requires_grad_(False), nn.Linear(3, 1))
    assert trainable(network) == list(network[1].parameters())


def test_a_file_whose_header_has_the_length_of_a_pickles_first_byte_is_read(tmp_path: Path) -> None:
    lengths = set()
    for note in range(0, 256, 8):  # the header grows by 8 bytes each time
        path = tmp_path / f"{note}.safetensors"
        save_weights(path, {"a": torch.ones(2)}, {"note": "x" * note})
        lengths.add(path.read_bytes()[0])
        assert torch.equal(load_weights(path)[0]["a"], torch.ones(2))
    assert 0x80 in lengths
