"""The words of each cell in screening, and which slide classifier screens."""

from __future__ import annotations

import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from toy_bundles import (
    DIM,
    SLIDES,
    TEXTS,
    K,
    findings_in,
    infer,
    make_aligner,
    make_classifier,
    screened,
    screening_home,
    toy_bundle,
)
from typer.testing import CliRunner

from stride_monai.bethesda import CELL_CLASSES, DESCRIPTION_VOCABULARY, DESCRIPTIONS_BY_CLASS
from stride_monai.cli.main import app
from stride_monai.errors import BundleError, ConfigError, RegionError, SlideError
from stride_monai.files import sha256_of
from stride_monai.findings import Described
from stride_monai.inferers.describe import Explainer
from stride_monai.inferers.judge import judge
from stride_monai.networks.alignment.aligner import DescriptionAligner
from stride_monai.networks.alignment.views import CellViews
from stride_monai.networks.encoders.cell_encoder import CellClassifier
from stride_monai.screening.config import ScreeningConfig
from stride_monai.screening.loaders import load_explainer, load_models
from stride_monai.screening.store import BundleStore
from stride_monai.slides import Slide
from stride_monai.transforms.topk_patches import CellBag
from stride_monai.units import Box
from stride_monai.workflows.locate import bundle_root

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return screening_home(tmp_path_factory.mktemp("home"))


@pytest.fixture
def own(home: Path, tmp_path: Path) -> Path:
    """A copy of the bundles that a test may change."""
    for name in ("detection", "swift_mil", "coloradv", "text_align"):
        shutil.copytree(home / name, tmp_path / "bundles" / name)
    return tmp_path / "bundles"


# What cannot be decoded says nothing about the specimen.


@pytest.mark.parametrize(("lost", "finer"), [(0.75, False), (0.3, False), (1.0, False), (1.0, True), (0.0, False)])
def test_damage_is_no_finding_about_the_specimen(
    home: Path, monkeypatch: pytest.MonkeyPatch, lost: float, finer: bool
) -> None:
    """Tiles that are lost, or crops alone, which are read at a finer level."""
    read, count, lock = Slide.read, [0.0], threading.Lock()

    def broken(self: Slide, box: Box, mpp: float | None = None) -> NDArray[np.uint8]:
        with lock:
            count[0] += lost if finer is (mpp is not None and mpp < 1) else 0
            if count[0] >= 1:
                count[0] -= 1
                raise RegionError("one.png is damaged")
        return read(self, box, mpp)

    monkeypatch.setattr(Slide, "read", broken)
    options = {} if finer else {"mpp": 1.0}  # more tiles
    if lost > 0.5:
        with pytest.raises(SlideError, match=r"one\.png: \d+ of \d+ .* cannot be decoded"):
            screened(home, **options)
        return
    found = screened(home, **options)
    assert "deposit" not in found.reason
    assert ("could not be decoded" in found.reason) is (lost > 0)
    assert (found.status == "unsatisfactory") is (lost > 0)
    assert found.call != "negative" or not lost


# The words of a cell.


def test_words_are_those_whose_cosine_is_above_the_threshold_by_similarity() -> None:
    aligner = make_aligner(threshold=0.5)
    features = torch.randn(70, 64)
    classes = [CELL_CLASSES[k % len(CELL_CLASSES)] for k in range(70)]
    told = Explainer(Described(True, "a test", 0.5), aligner).describe(features, classes)
    weight, bias = aligner.image_projection.weight.numpy(), aligner.image_projection.bias.numpy()
    for row, (cell_class, words) in enumerate(zip(classes, told, strict=True)):
        image = weight @ features[row].numpy() + bias
        cosines = {}
        for text, vector in zip(aligner.texts, aligner.text_features.numpy(), strict=True):
            cosine = float(image @ vector / (np.linalg.norm(image) * np.linalg.norm(vector)))
            if cosine > 0.5:
                cosines[text] = cosine
        assert [word.text for word in words] == sorted(cosines, key=lambda text: -cosines[text])
        assert [word.similarity for word in words] == pytest.approx(sorted(cosines.values(), reverse=True), abs=1e-5)
        assert [word.fits_class for word in words] == [w.text in DESCRIPTIONS_BY_CLASS[cell_class] for w in words]
    assert any(not words for words in told)
    assert any(not word.fits_class for words in told for word in words)


def test_what_is_said_of_a_cell_hangs_on_no_other_and_on_no_number_of_threads() -> None:
    explain = Explainer(Described(True, "a test", -1.0), make_aligner(threshold=-1.0))
    features = torch.randn(130, 64)
    classes = ["LSIL"] * 130
    every = explain.describe(features, classes)
    assert {len(words) for words in every} == {len(DESCRIPTION_VOCABULARY)}
    threads = torch.get_num_threads()
    try:
        for number in (1, 3):
            torch.set_num_threads(number)
            assert explain.describe(features, classes) == every
    finally:
        torch.set_num_threads(threads)
    for row in (0, 63, 64, 129):
        assert explain.describe(features[row : row + 1], classes[:1]) == every[row : row + 1]
    assert explain.describe(features[:0], []) == []


def test_levels_are_looked_at_for_the_words_alone() -> None:
    """On several threads at once, which look through one encoder."""
    classifier, plain = make_classifier(), make_classifier()
    images = torch.randint(0, 256, (37, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))

    def bag_of(cells: Tensor) -> CellBag:
        n = len(cells)
        return CellBag(cells, torch.zeros(n, 4), torch.zeros(n), torch.ones(n, dtype=torch.bool), torch.arange(n), 0)

    told, wanted = judge(bag_of(images), classifier, K, levels=(0, 1)), judge(bag_of(images), plain, K)
    assert np.array_equal(told.cells, wanted.cells)
    assert np.array_equal(told.slide, wanted.slide)
    width = classifier.encoder.feature_dim
    assert torch.equal(told.features[:, :width], wanted.features)
    alone = judge(bag_of(images[5:6]), classifier, K, levels=(0, 1))
    assert torch.equal(alone.features[0], told.features[5])
    assert told.features.shape[1] == CellViews(classifier.encoder, (0, 1)).feature_dim


def test_similarities_that_are_no_numbers_fail_the_slide() -> None:
    aligner = make_aligner()
    for parameter in aligner.parameters():
        nn.init.constant_(parameter, torch.nan)
    with pytest.raises(SlideError, match=r"a\.svs: text_align gives non-finite similarities"):
        Explainer(Described(True, "a test", 0.1), aligner).describe(torch.randn(2, 64), ["NILM", "NILM"], "a.svs")


def test_findings_with_words_differ_from_those_without_in_words_alone(home: Path) -> None:
    told, silent = screened(home), screened(home, descriptions=False)
    assert any(cell.descriptions for cell in told.cells)
    assert tuple(replace(cell, descriptions=()) for cell in told.cells) == silent.cells, "to the last bit"
    for name in ("slide_probabilities", "score", "call", "slide_class"):
        assert getattr(told, name) == getattr(silent, name)
    assert told.described == Described(True, "default where text_align has weights", pytest.approx(0.1))
    assert silent.described == Described(False, "switched off")
    provenance = told.provenance
    assert provenance.weights["text_align"] == sha256_of(home / "text_align" / "model.safetensors")
    assert provenance.used["description_threshold"] == pytest.approx(0.1)
    assert (provenance.requested["descriptions"], provenance.used["descriptions"]) == (None, True)
    assert "A toy, text_align." in provenance.weights_note
    assert "text_align" not in silent.provenance.weights
    assert (silent.provenance.requested["descriptions"], silent.provenance.used["descriptions"]) == (False, False)
    assert provenance.config_hash != silent.provenance.config_hash
    assert told.to_json() == screened(home).to_json()


# Where cells cannot be described.


def test_without_weights_or_without_the_bundle_nothing_is_said_and_that_is_said(own: Path, home: Path) -> None:
    (own / "text_align" / "model.safetensors").unlink()
    (own / "one.png").write_bytes((home / "one.png").read_bytes())
    found = screened(own)
    assert found.described == Described(False, "the bundle text_align has no weights model.safetensors")
    assert not any(cell.descriptions for cell in found.cells)
    assert found.provenance.used["description_threshold"] is None
    with pytest.raises(BundleError, match="cells cannot be described: the bundle text_align has no weights"):
        screened(own, descriptions=True)
    shutil.rmtree(own / "text_align")
    why = "the bundle text_align has no weights model.pt"
    assert screened(own).described.why == why, "what is missing is the package's, which has none of this profile"


def test_words_of_another_image_encoder_are_refused_with_ways_out(own: Path) -> None:
    torch.manual_seed(9)
    other = CellClassifier("test_convnext")
    shutil.rmtree(own / "text_align")
    toy_bundle(own / "text_align", TEXTS, make_aligner(other))
    for options in ({}, {"classifier": "swift_mil"}, {"descriptions": True}):
        with pytest.raises(BundleError, match=r"image encoder .* train text_align on this one.* --no-descriptions"):
            load_models(ScreeningConfig(bundles=own, profile="paper", device="cpu", **options))  # type: ignore[arg-type]
    assert not load_models(
        ScreeningConfig(bundles=own, profile="paper", device="cpu", descriptions=False)
    ).explainer.facts.made
    # What came with the package never fails as it comes: cells are not described then.
    encoder, store = make_classifier().encoder, BundleStore(own, "paper")
    told = load_explainer(store, encoder, strict=False)
    assert not told.facts.made
    assert "image encoder" in told.facts.why
    assert load_explainer(store, other).facts.made


@pytest.mark.parametrize(
    ("width", "threshold", "says"),
    [(64, float("nan"), "holds no threshold"), (32, 0.1, "does not take the 64 features")],
)
def test_an_aligner_that_cannot_be_used_is_refused(own: Path, width: int, threshold: float, says: str) -> None:
    aligner = DescriptionAligner(width, DIM)
    aligner.threshold.fill_(threshold)
    shutil.rmtree(own / "text_align")
    toy_bundle(own / "text_align", {"network_def": {**TEXTS["network_def"], "feature_dim": width}}, aligner)
    with pytest.raises(BundleError, match=says):
        load_models(ScreeningConfig(bundles=own, profile="paper", device="cpu"))


def test_an_aligner_of_an_unknown_encoder_is_used_and_that_is_said(own: Path) -> None:
    shutil.rmtree(own / "text_align")
    toy_bundle(own / "text_align", TEXTS, make_aligner())
    models = load_models(ScreeningConfig(bundles=own, profile="paper", device="cpu"))
    assert models.explainer.facts.made
    assert "not known on which image encoder" in models.note


# Which slide classifier screens.


def test_the_classifier_is_coloradv_where_it_has_weights_else_swift_mil_and_says_why(own: Path) -> None:
    def choice(**options: object) -> tuple[str, str]:
        models = load_models(ScreeningConfig(bundles=own, profile="paper", device="cpu", **options))  # type: ignore[arg-type]
        assert set(models.numbers) == {"detection", models.classifier_choice.name}
        assert models.classifier_choice.name in models.weights
        return models.classifier_choice

    assert choice() == ("coloradv", "default where it has weights")
    assert choice(classifier="swift_mil") == ("swift_mil", "as asked for")
    toy_bundle(own / "of_another", SLIDES, make_classifier("cd" * 32))
    shutil.copy(own / "of_another" / "model.safetensors", own / "coloradv" / "model.safetensors")
    assert choice() == ("swift_mil", "the threshold of coloradv was set for another detector than yolo")
    assert choice(force=True)[0] == "coloradv"
    with pytest.raises(BundleError, match="threshold does not hold"):
        choice(classifier="coloradv")
    (own / "coloradv" / "model.safetensors").unlink()
    assert choice() == ("swift_mil", "the bundle coloradv has no weights model.safetensors")
    with pytest.raises(BundleError, match="the bundle coloradv has no weights"):
        choice(classifier="coloradv")
    shutil.rmtree(own / "coloradv")
    assert choice() == ("swift_mil", "the one in the bundles that were given")
    with pytest.raises(ConfigError, match="choose from auto, coloradv, swift_mil"):
        choice(classifier="resnet")


# The program, and the bundle.


def test_the_command_line_says_what_screened_and_the_run_keeps_it(home: Path, tmp_path: Path) -> None:
    call = ["screen", str(home / "one.png"), "--mpp", "0.5", "--bundles", str(home), "--profile", "paper", "--out"]
    done = CliRunner().invoke(app, [*call, str(tmp_path / "a")])
    assert done.exit_code == 0, done.output
    assert "classifier coloradv (default where it has weights), weights" in done.output
    assert "described by text_align (default where text_align has weights): cosine above 0.100" in done.output
    run = json.loads((tmp_path / "a" / "run.json").read_text())["run"]
    assert run["classifier"] == {"name": "coloradv", "why": "default where it has weights"}
    assert run["descriptions"]["made"] is True
    page = (tmp_path / "a" / "one" / "report.html").read_text()
    assert "Contradicts" in page
    call += [str(tmp_path / "b"), "--classifier", "swift_mil", "--no-descriptions"]
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 0, done.output
    assert "classifier swift_mil (as asked for), weights" in done.output
    assert "no descriptions: switched off" in done.output
    found = findings_in(tmp_path / "b", "one").provenance
    assert found.used["classifier"] == found.requested["classifier"] == "swift_mil"
    assert found.used["why"]["classifier"] == "as asked for"
    assert found.used["bag_size"] == 4


def test_the_bundle_on_slides_describes_with_its_own_network(home: Path, tmp_path: Path) -> None:
    """inference.json of coloradv with weights of the encoder that text_align knows, and with others."""
    root = str(bundle_root("coloradv"))
    slides = {"dataset": [str(home / "one.png")], "mpp": 0.5, "bundle_root": root}
    state: dict[str, Tensor] = make_classifier().state_dict()
    torch.save(state, tmp_path / "same.pt")
    infer(home, out=tmp_path / "told", weights=str(tmp_path / "same.pt"), **slides)
    found = findings_in(tmp_path / "told", "one")
    assert found.described.made
    assert any(cell.descriptions for cell in found.cells)
    assert set(found.provenance.weights) == {"detection", "coloradv", "text_align"}
    assert found.provenance.used["bag_size"] == 4
    torch.save(state | {"encoder.encoder.stem.0.bias": state["encoder.encoder.stem.0.bias"] + 1}, tmp_path / "other.pt")
    infer(home, out=tmp_path / "silent", weights=str(tmp_path / "other.pt"), **slides)
    assert "image encoder" in findings_in(tmp_path / "silent", "one").described.why
    with pytest.raises(BundleError, match="image encoder"):
        infer(home, out=tmp_path / "no", weights=str(tmp_path / "other.pt"), descriptions=True, **slides)
