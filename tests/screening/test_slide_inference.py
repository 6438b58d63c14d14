"""inference.json of swift_mil on slides: what is written of each cell, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from torch import nn
from toy_bundles import K, findings_in, infer, inference_home, make_classifier
from typer.testing import CliRunner

from stride_monai.cli.main import app
from stride_monai.errors import BundleError, ConfigError, SlideError
from stride_monai.files import sha256_of
from stride_monai.inferers.judge import decide
from stride_monai.networks.encoders.cell_encoder import CellClassifier
from stride_monai.networks.factories import create_slide_head, list_slide_heads
from stride_monai.networks.mil.activation import ACTIVATIONS
from stride_monai.networks.mil.slide_classifier import SlideClassifier


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return inference_home(tmp_path_factory.mktemp("home"))


# On slides.


def test_a_manifest_of_slides_gives_the_files_of_screening_with_the_activation_of_each_cell(
    home: Path, tmp_path: Path
) -> None:
    infer(home, home / "slides" / "manifest.csv", tmp_path / "out")
    assert {path.name for path in (tmp_path / "out" / "1").iterdir()} == {
        "files.json",
        "findings.json",
        "cells.parquet",
        "overlay.geojson.gz",
        "report.html",
    }
    found = findings_in(tmp_path / "out", "1")
    assert found.slide.slide_id == "1"
    assert len(found.cells) == 6
    cam = [cell.cam for cell in found.cells]
    assert max(cam) == pytest.approx(1)
    assert all(0 <= value <= 1 for value in cam)
    assert cam[K:] == [0, 0], "cells beyond the bag"
    assert sum(cell.attention for cell in found.cells[:K]) == pytest.approx(1, abs=1e-5)
    assert found.call in {"positive", "negative"}
    assert found.provenance.used["activation"] == "grad_x_feature"
    assert found.provenance.used["reranker"] is found.cells[0].rerank_score is None
    assert "A toy, detection." in found.provenance.weights_note
    table = pq.read_table(tmp_path / "out" / "1" / "cells.parquet")
    assert table["cam"].to_pylist() == cam
    assert table["rerank_score"].null_count == 6
    assert len((tmp_path / "out" / "summary.csv").read_text().splitlines()) == 3
    # A cohort folder is its manifest; a slide or a list of them needs its um/px. Done slides are not screened again.
    infer(home, home / "slides", tmp_path / "out")
    rows = (tmp_path / "out" / "summary.csv").read_text().splitlines()
    assert [row.endswith("True") for row in rows[1:]] == [True, True]
    infer(home, [str(home / "slides" / "one.png")], tmp_path / "list", mpp=0.5, activation="attention")
    (first, *_) = same = findings_in(tmp_path / "list", "one").cells
    assert [cell.box for cell in same] == [cell.box for cell in found.cells]
    largest = max(cell.attention for cell in same)
    assert first.cam == pytest.approx(first.attention / largest, abs=1e-5)


def test_slides_with_reranking(home: Path, tmp_path: Path) -> None:
    infer(home, home / "slides", tmp_path / "plain")
    infer(home, home / "slides", tmp_path / "out", rerank=True)
    found = findings_in(tmp_path / "out", "2")
    scores = [cell.rerank_score for cell in found.cells]
    assert scores == sorted(scores, reverse=True)  # type: ignore[type-var]
    assert found.provenance.used["reranker"] == "cell_cls"
    assert found.provenance.used["candidates"] == 24
    assert found.provenance.used["top_k"] == len(found.cells) == 6
    assert set(found.provenance.weights) == {"detection", "swift_mil", "cell_cls"}
    plain = findings_in(tmp_path / "plain", "2")
    assert plain.provenance.config_hash != found.provenance.config_hash
    assert {cell.box for cell in plain.cells} != {cell.box for cell in found.cells}
    assert "Re-ranked" in (tmp_path / "out" / "2" / "report.html").read_text()


def test_a_threshold_for_other_cells_makes_no_call_or_refuses(home: Path, tmp_path: Path) -> None:
    detector = sha256_of(home / "detection" / "model.safetensors")
    torch.save(make_classifier(detector).state_dict(), tmp_path / "of_detector.pt")
    weights = str(tmp_path / "of_detector.pt")
    infer(home, home / "slides", tmp_path / "out", rerank=True, weights=weights)
    found = findings_in(tmp_path / "out", "1")
    assert found.call is None
    assert not found.operating_point.holds
    assert "does not hold for re-ranked cells" in found.provenance.weights_note
    assert "No call was made: the threshold does not hold" in (tmp_path / "out" / "1" / "report.html").read_text()
    infer(home, home / "slides", tmp_path / "out", rerank=True, weights=weights, force=True)
    assert findings_in(tmp_path / "out", "1").call in {"positive", "negative"}
    with pytest.raises(BundleError, match=r"bags of 4 cells, the configuration asks for 3"):
        infer(home, home / "slides", tmp_path / "k", top_k=3)
    infer(home, home / "slides", tmp_path / "k", top_k=3, force=True)
    assert "forced on bags of 3 cells" in findings_in(tmp_path / "k", "1").operating_point.source


def test_the_command_line_reranks_and_says_what_it_did(home: Path, tmp_path: Path) -> None:
    slides = ["screen", str(home / "slides" / "manifest.csv"), "--bundles", str(home), "--profile", "paper"]
    plain = CliRunner().invoke(app, [*slides, "--out", str(tmp_path / "plain")])
    assert plain.exit_code == 0, plain.output
    assert "re-ranked" not in plain.output
    assert "no call" not in plain.output
    first = findings_in(tmp_path / "plain", "1")
    assert first.call in {"positive", "negative"}
    assert first.provenance.used["activation"] == "attention", "as the bundle says"
    again = CliRunner().invoke(app, [*slides, "--out", str(tmp_path / "again"), "--rerank", "--candidates", "8"])
    assert again.exit_code == 0, again.output
    assert "the best 6 of 8 candidates" in again.output
    assert "no call" in again.output
    found = findings_in(tmp_path / "again", "1")
    assert found.call is None
    assert found.score is not None
    assert found.provenance.requested["candidates"] == 8
    path = home / "cell_cls" / "model.safetensors"
    named = CliRunner().invoke(app, [*slides, "--out", str(tmp_path / "named"), "--rerank", "--reranker", str(path)])
    assert named.exit_code == 0, named.output
    used = findings_in(tmp_path / "named", "1").provenance
    assert used.used["reranker"] == used.requested["reranker"] == "model.safetensors", "no path leaves the run"
    asked = CliRunner().invoke(app, [*slides, "--out", str(tmp_path / "asked"), "--candidates", "8"])
    assert asked.exit_code == 0, asked.output
    assert findings_in(tmp_path / "asked", "1").cells == found.cells, "to name how to re-rank is to ask for it"
    for option in (("--candidates", "8"), ("--reranker", "x")):
        wrong = CliRunner().invoke(app, [*slides, "--out", str(tmp_path / "wrong"), "--no-rerank", *option])
        assert isinstance(wrong.exception, ConfigError)
        assert f"{option[0]} is about re-ranking, --no-rerank forbids it" in str(wrong.exception)


def test_slides_that_cannot_be_classified(home: Path, tmp_path: Path) -> None:
    with pytest.raises(SlideError, match="neither a slide nor a bag file"):
        infer(home, tmp_path, tmp_path / "out")
    (tmp_path / "bad.svs").write_text("no slide")
    with pytest.raises(SlideError, match=r"1 of 2 slides failed \(bad\.svs"):
        infer(home, [str(tmp_path / "bad.svs"), str(home / "slides" / "one.png")], tmp_path / "out", mpp=0.5)
    assert findings_in(tmp_path / "out", "one").cells
    network = make_classifier()
    nn.init.constant_(network.encoder.encoder.stem[0].bias, torch.nan)
    torch.save(network.state_dict(), tmp_path / "nan.pt")
    with pytest.raises(SlideError, match=r"one\.png: .* non-finite"):
        infer(home, home / "slides" / "one.png", tmp_path / "nan", mpp=0.5, weights=str(tmp_path / "nan.pt"))
    (tmp_path / "manifest.csv").write_text("slide_id,path,slide_class\nx7,bad.svs,CIN9\n")
    with pytest.raises(SlideError, match=r"CIN9.*slide 'x7'"):
        infer(home, tmp_path / "manifest.csv", tmp_path / "out")
    with pytest.raises(ConfigError, match="unknown activation 'gradient'"):
        infer(home, home / "slides", tmp_path / "out", activation="gradient")


# The class activation.


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_the_activation_is_that_of_the_class_called(kind: str) -> None:
    """Against derivatives that are differences, one cell and one dimension at a time."""
    torch.manual_seed(5)
    head = create_slide_head("abmil", 5)
    network = SlideClassifier(CellClassifier("test_convnext"), head, 4).double().eval()
    features = torch.randn(2, 4, 5, dtype=torch.float64)
    mask = torch.tensor([[True] * 4, [True, True, False, False]])
    logits, attention, cam = network.decide(features, mask, kind)
    steps = 1e-5 * torch.eye(4 * 5, dtype=torch.float64).view(-1, 4, 5)
    for j in range(2):
        called, there = int(logits[j].argmax()), mask[j].expand(len(steps), 4)
        with torch.no_grad():
            rise = head(features[j] + steps, there)[0][:, called] - head(features[j] - steps, there)[0][:, called]
        slope = rise.view(4, 5) / 2e-5
        beta = {"eq4": slope.mean(1), "grad_x_feature": (slope * features[j]).mean(1), "attention": attention[j]}[kind]
        wanted = torch.where(mask[j], beta, 0).clamp_min(0)
        largest = float(wanted.max())
        torch.testing.assert_close(cam[j], wanted / largest if largest else wanted, rtol=1e-4, atol=1e-6)
    assert not cam.requires_grad
    assert cam.max() == 1
    moved = network.decide(features.roll(1, dims=0), mask, kind)[2]
    assert not torch.equal(moved, cam)


@pytest.mark.parametrize("head", list_slide_heads())
def test_every_head_is_explained_without_gradients_left_on(head: str) -> None:
    torch.manual_seed(6)
    encoder = CellClassifier("test_convnext")
    network = SlideClassifier(encoder, create_slide_head(head, encoder.feature_dim), 6).eval().requires_grad_(False)
    with torch.inference_mode():
        features = torch.randn(6, encoder.feature_dim)
    found = decide(features, network, 6)
    assert found.finite
    assert found.cam.max() == pytest.approx(1)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_head_without_gradient_is_refused_by_name() -> None:
    class Trees(nn.Module):
        def forward(self, features: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return torch.zeros(len(features), 6), mask / mask.sum(1, keepdim=True)

    network = SlideClassifier(CellClassifier("test_convnext"), Trees(), 2).eval()
    with pytest.raises(ConfigError, match=r"a Trees has no gradient .* set activation to attention"):
        network.decide(torch.zeros(1, 2, 64))
    assert network.decide(torch.zeros(1, 2, 64), activation="attention")[2].tolist() == [[1, 1]]
