"""The aligner: threshold rule, what is trained and what is not, which encoder it belongs to, text encoders."""

from __future__ import annotations

import copy
import math
import re
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_roberta import write_roberta
from torch import Tensor

from stride_monai.bethesda import DESCRIPTION_VOCABULARY
from stride_monai.errors import BundleError, ConfigError, MissingExtraError
from stride_monai.losses.alignment import AlignmentLoss
from stride_monai.networks.alignment.aligner import (
    AlignmentStudent,
    DescriptionAligner,
    TextBranch,
    encoder_sha256,
    load_start,
)
from stride_monai.networks.alignment.text_encoders import TextEncoder, TextTable, text_encoder
from stride_monai.networks.alignment.views import CellViews
from stride_monai.networks.encoders.cell_encoder import CellClassifier
from stride_monai.networks.factories import create_slide_head
from stride_monai.networks.mil.slide_classifier import SlideClassifier
from stride_monai.networks.weights import load_into, save_weights

NAME, D, DIM, N = "test_convnext", 64, 6, len(DESCRIPTION_VOCABULARY)


def encoder(seed: int = 0) -> CellClassifier:
    torch.manual_seed(seed)
    made = CellClassifier(NAME, drop_rate=0.5)
    assert made.feature_dim == D
    return made


def student(of: CellClassifier, text: TextEncoder | None = None, **options: Any) -> AlignmentStudent:
    torch.manual_seed(5)
    branch = TextBranch(text or TextTable(8), DIM, options.pop("dropout", False))
    return AlignmentStudent(DescriptionAligner(D, DIM, **options), branch, of)


def trained(network: AlignmentStudent, crops: Tensor, steps: int = 3) -> None:
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=0.01)
    target = (torch.arange(len(crops) * N).view(len(crops), N) % 3 == 0).long()
    for _ in range(steps):
        network.train()
        optimizer.zero_grad()
        AlignmentLoss()(network(crops), target).backward()
        optimizer.step()
    network.store()


@pytest.fixture
def crops() -> Tensor:
    return torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(2))


def test_levels_are_seen_about_the_middle_and_leave_the_class_features_alone(crops: Tensor) -> None:
    of = encoder().eval()
    views = CellViews(of, (0, 1))
    with torch.no_grad():
        seen = views.encode(crops)
        maps = of.encoder.forward_intermediates(of.normalized(crops), indices=[0, 1], intermediates_only=True)
        assert torch.equal(seen[:, :D], of.encode(crops))
        assert torch.equal(CellViews(of).encode(crops), of.encode(crops))
    assert seen.shape == (4, views.feature_dim)
    at = D
    for found in maps:
        side = found.shape[-1]
        middle = (torch.arange(side) - (side - 1) / 2) * 32 / side
        for radius in (12.0, 28.0):
            weight = torch.exp(-(middle[:, None] ** 2 + middle[None] ** 2) / radius**2).reshape(-1)
            values, count = found.flatten(2), found.shape[1]
            mean = (values * weight).sum(2) / weight.sum()
            spread = ((values**2 * weight).sum(2) / weight.sum() - mean**2).clamp_min(0).sqrt()
            torch.testing.assert_close(seen[:, at : at + count], mean, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(seen[:, at + count : at + 2 * count], spread, atol=2e-3, rtol=1e-3)
            at += 2 * count
    assert at == views.feature_dim


def test_what_lies_at_the_border_of_a_crop_is_hardly_seen_at_the_levels() -> None:
    of = encoder().eval()
    crop = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(3))
    beside, within = crop.clone(), crop.clone()
    beside[..., :16, :] = 0
    within[..., 56:72, :] = 0
    with torch.no_grad():
        seen = [CellViews(of, (0,)).encode(image)[0, D:] for image in (crop, beside, within)]
    assert (seen[0] - seen[1]).norm() < 0.02 * (seen[0] - seen[2]).norm()


@pytest.mark.parametrize("levels", [(4,), (-1,), (1, 0), (0, 0)])
def test_levels_that_an_encoder_does_not_have_are_refused(levels: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="has no stages"):
        CellViews(encoder(), levels)


def test_an_aligner_of_levels_trains_on_crops_and_knows_them_again(crops: Tensor, tmp_path: Path) -> None:
    of = encoder()
    width = CellViews(of, (0, 2)).feature_dim
    network = AlignmentStudent(DescriptionAligner(width, DIM, levels=(0, 2)), TextBranch(TextTable(8), DIM), of)
    trained(network, crops)
    network.eval()
    network.aligner.threshold.fill_(0.25)
    network.aligner.prevalence.fill_(0.03)
    save_weights(tmp_path / "model.safetensors", network.aligner.state_dict(), {}, half=False)
    again = DescriptionAligner(width, DIM, levels=(0, 2)).eval()
    load_into(again, tmp_path / "model.safetensors")
    features = CellViews(of, again.levels).encode(crops)
    assert torch.equal(again(features), network.aligner(features))
    torch.testing.assert_close(again(features)[:1], again(features[:1]))  # a cell does not depend on the others
    assert float(again.prevalence) == pytest.approx(0.03)


def test_weights_without_a_prevalence_are_read(tmp_path: Path) -> None:
    state = DescriptionAligner(D, DIM).state_dict()
    del state["prevalence"]
    save_weights(tmp_path / "old.safetensors", state, {})
    aligner = DescriptionAligner(D, DIM)
    load_into(aligner, tmp_path / "old.safetensors")
    assert math.isnan(float(aligner.prevalence))


def test_a_text_is_kept_if_its_cosine_is_greater_than_the_threshold() -> None:
    aligner = DescriptionAligner(D, DIM)
    similarity = torch.tensor([[0.25, math.nextafter(0.25, 1), 0.2499, 1.0, -1.0]], dtype=torch.float64)
    with pytest.raises(BundleError, match="no threshold"):
        aligner.keep(similarity)
    aligner.threshold.fill_(0.25)
    assert aligner.keep(similarity).tolist() == [[False, True, False, True, False]]


def test_similarities_are_cosines_with_the_stored_texts() -> None:
    torch.manual_seed(0)
    aligner, features, texts = DescriptionAligner(D, DIM), torch.randn(3, D), 7 * torch.randn(N, DIM)
    aligner.store_texts(texts)
    torch.testing.assert_close(aligner.text_features.norm(dim=1), torch.ones(N))
    similarity = aligner(features)
    image = aligner.image_projection(features).detach()
    for i in range(3):
        for n in range(N):
            wanted = float(image[i] @ texts[n]) / float(image[i].norm()) / float(texts[n].norm())
            assert float(similarity[i, n]) == pytest.approx(wanted, abs=1e-5)
    assert torch.equal(aligner.logits(similarity), similarity), "equation 5 has no scale"
    learnt = DescriptionAligner(D, DIM, learn_scale=True)
    torch.testing.assert_close(learnt.logits(similarity), 10 * similarity - 2)
    assert not aligner.log_scale.requires_grad
    assert learnt.log_scale.requires_grad
    assert learnt.bias.requires_grad


@pytest.mark.parametrize("learn_scale", [False, True])
def test_gradient_reaches_texts_and_projections_and_not_the_image_encoder(crops: Tensor, learn_scale: bool) -> None:
    of = encoder()
    before = copy.deepcopy(of.state_dict())
    network = student(of, learn_scale=learn_scale)
    network.train()
    AlignmentLoss()(network(crops), torch.eye(4, N).long()).backward()
    reached = {name for name, value in network.named_parameters() if value.grad is not None and value.grad.any()}
    wanted = {"aligner.image_projection.weight", "aligner.image_projection.bias"}
    wanted |= {"text_branch.encoder.table.weight", "text_branch.projection.weight", "text_branch.projection.bias"}
    assert reached == wanted | ({"aligner.log_scale", "aligner.bias"} if learn_scale else set())
    assert not any(module.training for module in of.modules()), "eval mode, whatever train() says"
    trained(network, crops)
    assert all(torch.equal(value, before[name]) for name, value in of.state_dict().items())


def test_features_and_crops_give_the_same(crops: Tensor) -> None:
    network = student(encoder())
    with torch.no_grad():
        torch.testing.assert_close(network(network.encoder.encode(crops)), network(crops), rtol=0, atol=0)


def test_class_predictions_are_bit_identical_with_and_without_alignment(crops: Tensor) -> None:
    torch.manual_seed(0)
    of = encoder()
    classifier = SlideClassifier(of, create_slide_head("stride", D), top_k=4).eval()

    def said() -> tuple[Tensor, ...]:
        features = classifier.eval().encode(crops[None])
        return (features, classifier.encoder.head(features), *classifier.decide(features))

    before = said()
    trained(student(of), crops)
    for value, after in zip(before, said(), strict=True):
        assert torch.equal(value, after)


def test_stored_weights_screen_without_a_text_encoder(crops: Tensor, tmp_path: Path) -> None:
    network = student(encoder(), learn_scale=True)
    trained(network, crops)
    network.aligner.threshold.fill_(0.125)
    network.eval()
    save_weights(tmp_path / "tiny.safetensors", network.aligner.state_dict(), {}, half=True)
    loaded = DescriptionAligner(D, DIM)
    load_into(loaded, tmp_path / "tiny.safetensors")
    features = network.encoder.encode(crops)
    with torch.no_grad():
        live = network.aligner.cosines(features, network.text_branch())
        torch.testing.assert_close(network.aligner(features), live)
        torch.testing.assert_close(loaded(features), live, rtol=0, atol=5e-3)
    assert float(loaded.threshold) == 0.125
    assert loaded.encoder_sha256 == encoder_sha256(network.encoder)


def test_another_image_encoder_is_refused() -> None:
    of, aligner = encoder(), DescriptionAligner(D, DIM)
    aligner.check_encoder(of)
    assert aligner.encoder_sha256 == ""
    aligner.store_encoder(of)
    aligner.check_encoder(of)
    with torch.no_grad():
        of.head.weight.add_(1)
    aligner.check_encoder(of)  # the head is not what was aligned
    other = encoder(seed=1)
    with pytest.raises(BundleError, match="train text_align on the encoder that is in use") as raised:
        aligner.check_encoder(other)
    assert encoder_sha256(of)[:12] in str(raised.value)
    assert encoder_sha256(other)[:12] in str(raised.value)


def test_the_hash_is_of_the_encoder_wherever_it_is_kept(tmp_path: Path) -> None:
    """Of a slide classifier's file in half precision, of its encoder alone, and of one changed number."""
    of = encoder()
    whole = SlideClassifier(of, create_slide_head("stride", D))
    save_weights(tmp_path / "slide.safetensors", whole.state_dict(), {}, half=True)
    first, second = encoder(seed=3), encoder(seed=4)
    load_into(first, tmp_path / "slide.safetensors", "encoder")
    save_weights(tmp_path / "cell.safetensors", first.state_dict(), {}, half=True)
    load_into(second, tmp_path / "cell.safetensors")
    assert encoder_sha256(first) == encoder_sha256(second) != encoder_sha256(of)
    with torch.no_grad():
        next(second.encoder.parameters())[0] += 1e-3
    assert encoder_sha256(first) != encoder_sha256(second)


def test_a_table_knows_its_texts_only() -> None:
    branch = TextBranch(TextTable(8), DIM)
    own = branch.embed(DESCRIPTION_VOCABULARY[3:5])
    torch.testing.assert_close(own, torch.nn.functional.normalize(branch().detach(), dim=1)[3:5])
    with pytest.raises(ConfigError, match="knows no text 'a cell in a hat'"):
        branch.embed(["a cell in a hat"])


@pytest.fixture(scope="module")
def roberta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny RoBERTa of random weights and a tokenizer, as ``save_pretrained`` writes them."""
    pytest.importorskip("transformers")
    return write_roberta(tmp_path_factory.mktemp("roberta") / "tiny")


def test_a_text_encoder_in_a_local_folder_trains(roberta: Path, crops: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("the network was asked"))
    text = text_encoder(str(roberta))
    assert text.dim == 16
    assert text().shape == (N, 16)
    torch.testing.assert_close(text.eval().embed(DESCRIPTION_VOCABULARY[:3]), text()[:3])
    before = {name: value.clone() for name, value in text.named_parameters()}
    network = student(encoder(), text)
    trained(network, crops, steps=1)
    still = {name for name, value in text.named_parameters() if torch.equal(value, before[name])}
    # Places and kinds of token that no text has, a bias that softmax cancels, and what nothing reads.
    assert not [name for name in still if not re.search(r"position|token_type|key\.bias|pooler", name)]
    free = network.text_branch.embed(["a perinuclear halo", "normal cell"])
    torch.testing.assert_close(free[1], network.aligner.text_features[DESCRIPTION_VOCABULARY.index("normal cell")])


def test_the_text_encoder_trains_in_inference_mode_unless_it_is_told_otherwise(roberta: Path, crops: Tensor) -> None:
    """Algorithm 2, lines 5 and 7."""
    network = student(encoder(), text_encoder(str(roberta)))
    network.store()
    network.train().text_branch.embed(DESCRIPTION_VOCABULARY[:1])
    assert network.text_branch.projection.training
    assert not any(module.training for module in network.text_branch.encoder.modules())
    assert torch.equal(network.text_branch(), network.text_branch())
    AlignmentLoss()(network(crops), torch.eye(4, N).long()).backward()
    reached = [value.grad is not None and bool(value.grad.any()) for value in network.text_branch.encoder.parameters()]
    assert any(reached)


def test_stored_texts_are_the_same_each_time(roberta: Path) -> None:
    """Dropout of the text encoder does not reach them, and training goes on in training mode."""
    network = student(encoder(), text_encoder(str(roberta)), dropout=True)
    network.train()
    assert not torch.equal(network.text_branch(), network.text_branch()), "this encoder has dropout"
    network.store()
    first = network.aligner.text_features.clone()
    network.store()
    assert torch.equal(network.aligner.text_features, first)
    assert network.training
    assert network.text_branch.encoder.training


def test_a_missing_text_encoder_is_said_with_the_ways_out(
    roberta: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("the network was asked"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "nothing"))
    ways = r"--text_encoder FOLDER .*--download True .*--text_encoder table"
    with pytest.raises(BundleError, match=rf"'nobody/no-such-model' is not on this machine.*{ways}"):
        text_encoder("nobody/no-such-model")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BundleError, match=rf"in the folder .*empty cannot be read.*{ways}"):
        text_encoder(str(tmp_path / "empty"))


def test_without_the_extra_a_table_still_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert text_encoder("table").dim == 256
    with pytest.raises(MissingExtraError, match=r"stride-monai\[text\]"):
        text_encoder("FacebookAI/roberta-base")


def test_a_table_starts_at_the_texts_of_weights_that_were_passed_on(tmp_path: Path) -> None:
    """They lie alone, without the text side of their training, and the cosines are the same."""
    torch.manual_seed(1)
    trained, branch = DescriptionAligner(6, 4), TextBranch(TextTable(4), 4)
    trained.store_texts(branch())
    torch.save(trained.state_dict(), tmp_path / "tiny.pt")
    aligner, fresh = DescriptionAligner(6, 4), TextBranch(TextTable(4), 4)
    load_start(aligner, fresh, tmp_path / "tiny.pt")
    cells = torch.randn(5, 6)
    torch.testing.assert_close(aligner.cosines(cells, fresh()), trained.cosines(cells, branch()))
    with pytest.raises(BundleError, match="no weights file"):
        load_start(aligner, TextBranch(TextTable(8), 4), tmp_path / "tiny.pt")  # of another length
    torch.save(DescriptionAligner(6, 4).state_dict(), tmp_path / "empty.pt")
    with pytest.raises(BundleError, match="no weights file"):
        load_start(aligner, fresh, tmp_path / "empty.pt")  # it never stored a text


def test_features_are_left_out_in_training_alone() -> None:
    torch.manual_seed(4)
    aligner = DescriptionAligner(D, DIM, feature_dropout=0.5)
    plain = DescriptionAligner(D, DIM)
    plain.load_state_dict(aligner.state_dict())  # the same weights: dropout has none
    features, texts = torch.randn(5, D), torch.randn(N, DIM)
    assert torch.equal(aligner.eval().cosines(features, texts), plain.cosines(features, texts))
    kept = (torch.arange(D) % 3 != 0).float()
    aligner.feature_dropout.forward = lambda values: 2 * kept * values  # type: ignore[method-assign]
    torch.testing.assert_close(aligner.cosines(features, texts), plain.cosines(2 * kept * features, texts))
    del aligner.feature_dropout.forward
    aligner.train()
    assert not torch.equal(aligner.cosines(features, texts), aligner.cosines(features, texts))
