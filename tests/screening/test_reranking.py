"""Whether screening re-ranks: as the slide classifier's threshold was set, unless it is said; and what is shared."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor
from toy_bundles import CELLS, findings_in, infer, inference_home, make_classifier, toy_bundle
from typer.testing import CliRunner

from stride_monai.cli.main import app
from stride_monai.data.bags.bag import chosen_by
from stride_monai.files import sha256_of
from stride_monai.findings import Findings
from stride_monai.inferers.rerank import RULE
from stride_monai.networks.encoders.cell_encoder import CellClassifier
from stride_monai.screening.config import ScreeningConfig
from stride_monai.screening.inputs import SlideInput
from stride_monai.screening.loaders import load_models
from stride_monai.screening.screener import Screener

CANDIDATES = 24  # four for each of the six that the toy detector keeps
WAYS = {"plain": 0, "reranked": CANDIDATES}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Toy bundles; the weights of two slide classifiers, by how the cells were chosen that their threshold is for."""
    folder = inference_home(tmp_path_factory.mktemp("home"))
    detector, cells = (sha256_of(folder / name / "model.safetensors") for name in ("detection", "cell_cls"))
    for name, candidates in WAYS.items():
        held = chosen_by(detector, cells, candidates, RULE) if candidates else detector
        torch.save(make_classifier(held).state_dict(), folder / f"{name}.pt")
    return folder


def screen(home: Path, out: Path, *options: str) -> Findings:
    slides = ["screen", str(home / "slides" / "manifest.csv"), "--bundles", str(home), "--profile", "paper"]
    done = CliRunner().invoke(app, [*slides, "--out", str(out), *options])
    assert done.exit_code == 0, done.output
    assert ("re-ranked by cell_cls" in done.output) == findings_in(out, "1").provenance.used["rerank"]
    return findings_in(out, "1")


@pytest.mark.parametrize("way", WAYS)
def test_cells_are_chosen_as_the_threshold_was_set(home: Path, tmp_path: Path, way: str) -> None:
    weights = ["--weights", f"swift_mil={home / f'{way}.pt'}"]
    found = screen(home, tmp_path / "unsaid", *weights)
    assert found.provenance.requested["rerank"] is None
    assert found.provenance.used["rerank"] == (way == "reranked")
    assert found.call in {"positive", "negative"}
    same = screen(home, tmp_path / "said", *weights, "--rerank" if way == "reranked" else "--no-rerank")
    assert (same.cells, same.score, same.call) == (found.cells, found.score, found.call)
    other = screen(home, tmp_path / "other", *weights, "--no-rerank" if way == "reranked" else "--rerank")
    assert other.provenance.used["rerank"] != found.provenance.used["rerank"]
    assert [cell.box for cell in other.cells] != [cell.box for cell in found.cells]
    assert other.score is not None
    assert other.call is None, "the threshold does not hold for these cells"
    assert "no call is made" in other.provenance.weights_note


@pytest.mark.parametrize("way", WAYS)
def test_the_bundle_chooses_as_the_command_does(home: Path, tmp_path: Path, way: str) -> None:
    weights = home / f"{way}.pt"
    infer(home, home / "slides", tmp_path / "bundle", weights=str(weights), activation="attention")
    found = findings_in(tmp_path / "bundle", "1")
    assert found.provenance.used["candidates"] == (WAYS[way] or None)
    assert found.cells == screen(home, tmp_path / "screen", "--weights", f"swift_mil={weights}").cells


def test_other_candidates_than_the_threshold_s_are_not_taken_unasked(home: Path, tmp_path: Path) -> None:
    """Their bag may be another. Nothing re-ranks then, and the note says what the threshold does not hold for."""
    weights = make_classifier(
        chosen_by(
            sha256_of(home / "detection" / "model.safetensors"),
            sha256_of(home / "cell_cls" / "model.safetensors"),
            8,
            RULE,
        )
    )
    torch.save(weights.state_dict(), tmp_path / "eight.pt")
    named = ["--weights", f"swift_mil={tmp_path / 'eight.pt'}"]
    found = screen(home, tmp_path / "unsaid", *named)
    assert (found.provenance.used["rerank"], found.call) == (False, None)
    assert "another detector or re-ranking" in found.provenance.weights_note
    again = screen(home, tmp_path / "said", *named, "--candidates", "8")
    assert again.provenance.used["candidates"] == 8
    assert again.call is not None


def test_a_bundle_that_keeps_more_cells_than_it_proposes_screens_without_a_call(tmp_path: Path) -> None:
    """As a copy of the tiny profile's detection whose ``top_k`` was raised above its ``candidates``."""
    home = inference_home(tmp_path / "home")
    path = home / "detection" / "configs" / "inference.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "candidates": 4}))
    weights = make_classifier("ab" * 32)
    torch.save(weights.state_dict(), tmp_path / "other.pt")
    found = screen(home, tmp_path / "out", "--weights", f"swift_mil={tmp_path / 'other.pt'}")
    assert (len(found.cells), found.provenance.used["rerank"], found.call) == (6, False, None)
    again = screen(home, tmp_path / "again", "--weights", f"swift_mil={tmp_path / 'other.pt'}", "--rerank")
    assert again.provenance.used["candidates"] == 6


@pytest.mark.parametrize("alike", [True, False])
def test_a_shared_encoder_looks_once_and_sees_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alike: bool
) -> None:
    home, looked, encode = inference_home(tmp_path / "home"), [], CellClassifier.encode
    if alike:
        cells = make_classifier().encoder
        torch.nn.init.normal_(cells.head.weight)
        (home / "cell_cls").rename(home / "another")
        toy_bundle(home / "cell_cls", CELLS, cells)

    def counted(self: CellClassifier, image: Tensor) -> Tensor:
        looked.append(len(image))
        return encode(self, image)

    monkeypatch.setattr(CellClassifier, "encode", counted)
    config = ScreeningConfig(bundles=home, profile="paper", device="cpu", rerank=True, descriptions=False)
    models, slide = load_models(config), SlideInput(home / "slides" / "one.png", "one", 0.5)
    looked.clear()
    found = Screener(config, models).screen(slide).findings
    shared = sum(looked)
    assert found.cells
    assert models.reranker is not None
    monkeypatch.setattr(models.reranker, "_shared", None)
    looked.clear()
    assert Screener(config, models).screen(slide).findings == found, "to the last bit"
    assert (sum(looked) > shared) == alike
