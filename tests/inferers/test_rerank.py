"""Re-ranking: the K kept are the K best by the classifier, nothing else changes, what chose the cells is written."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from detection_toys import DarkSpots
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import Dataset
from PIL import Image
from torch import Tensor, nn

from stride_monai.bethesda import CELL_CLASSES
from stride_monai.data.bags.bag import BagCell, BagFile, BagHeader, chosen_by, encode_crop, write_bag
from stride_monai.data.ranking import rank_boxes
from stride_monai.engines.slide_bags import SlideBagMaker
from stride_monai.errors import BagError, BundleError, ConfigError
from stride_monai.inferers.rerank import RULE, CellReranker
from stride_monai.inferers.slide_detection import SlideDetectionInferer
from stride_monai.networks.encoders.cell_encoder import CellClassifier
from stride_monai.networks.factories import create_slide_head
from stride_monai.networks.mil.slide_classifier import SlideClassifier
from stride_monai.networks.weights import save_weights
from stride_monai.screening.config import ScreeningConfig
from stride_monai.screening.models import Models, join
from stride_monai.screening.reranking import load_reranker
from stride_monai.screening.store import Choice, Chosen
from stride_monai.transforms.loading import LoadBagd
from stride_monai.transforms.topk_patches import CellBag
from stride_monai.units import Box
from stride_monai.workflows.load import LoadedBundle

CLASSIFIER, DETECTOR = "cc" * 32, "dd" * 32
SCORES = st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), min_size=1, max_size=24)


class SaysBrightness(nn.Module):
    """A cell classifier whose lesion probability is the mean brightness of the crop."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, crops: Tensor) -> Tensor:
        p = crops.mean(dim=(1, 2, 3)).double().clamp(1e-9, 1 - 1e-9)
        logits = torch.full((len(p), len(CELL_CLASSES)), -torch.inf, dtype=torch.float64)
        logits[:, 0], logits[:, 2] = (1 - p).log(), p.log()
        return logits


def reranker(k: int, candidates: int, network: nn.Module | None = None, **options: int) -> CellReranker:
    return CellReranker((network or SaysBrightness()).eval(), CLASSIFIER, k, candidates, **options)


def candidates_of(scores: list[float], shades: list[int]) -> CellBag:
    """A ranked bag of candidates with these detector scores, and crops that are as bright as that."""
    count = len(scores)
    places = np.random.default_rng(count).permutation(count).astype(float)
    boxes = np.stack([places, places // 3, places + 9, places // 3 + 7], 1)
    order = rank_boxes(boxes, np.array(scores))
    images = torch.tensor(shades, dtype=torch.uint8)[order.copy()].view(-1, 1, 1, 1).expand(-1, 3, 4, 4).contiguous()
    return CellBag(
        images=images,
        boxes=torch.from_numpy(boxes[order]),
        scores=torch.tensor(scores, dtype=torch.float64)[order.copy()],
        mask=torch.ones(count, dtype=torch.bool),
        indices=torch.from_numpy(order),
        unreadable=2,
    )


@settings(max_examples=40, deadline=None)
@given(scores=SCORES, k=st.integers(1, 30))
def test_the_detector_s_own_score_as_classifier_changes_nothing(scores: list[float], k: int) -> None:
    class SaysTheSame(CellReranker):
        def judged(self, crops: Tensor) -> tuple[Tensor, None]:
            return given_bag.scores[: len(crops)], None

    given_bag = candidates_of(scores, [0] * len(scores))
    found = SaysTheSame(SaysBrightness(), CLASSIFIER, k, max(k, len(scores)))(given_bag, "s")
    kept = min(k, len(scores))
    assert found.mask.tolist() == [True] * kept + [False] * (k - kept)
    for name in ("images", "boxes", "scores", "indices"):
        assert torch.equal(getattr(found, name)[:kept], getattr(given_bag, name)[:kept]), name
    assert found.rerank_scores is not None
    assert torch.equal(found.rerank_scores[:kept], found.scores[:kept] ** 2)
    assert found.unreadable == 2


@settings(max_examples=40, deadline=None)
@given(
    cells=st.lists(
        st.tuples(SCORES.map(lambda s: s[0]), st.sampled_from([0, 40, 41, 200, 255])), min_size=1, max_size=24
    ),
    k=st.integers(1, 30),
)
def test_the_k_kept_are_exactly_the_k_best(cells: list[tuple[float, int]], k: int) -> None:
    scores, shades = [list(part) for part in zip(*cells, strict=True)]
    given_bag = candidates_of(scores, shades)
    found = reranker(k, max(k, len(cells)))(given_bag, "s")
    # Written out: brightness times the detector, then the detector, then place (y0, x0, y1, x1).
    keys = [
        (-float(image.double().mean()) * score, -score, box[1], box[0], box[3], box[2])
        for image, score, box in zip(given_bag.images, given_bag.scores.tolist(), given_bag.boxes.tolist(), strict=True)
    ]
    wanted = sorted(range(len(cells)), key=keys.__getitem__)[:k]
    kept = found.indices[found.mask].tolist()
    assert kept == given_bag.indices[wanted].tolist()
    assert found.rerank_scores is not None
    expected = given_bag.scores[wanted] * given_bag.images[wanted].double().mean(dim=(1, 2, 3)) / 255
    torch.testing.assert_close(found.rerank_scores[found.mask], expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(found.images[found.mask], given_bag.images[wanted])
    assert found.boxes[found.mask].tolist() == given_bag.boxes[wanted].tolist()
    assert found.scores[found.mask].tolist() == given_bag.scores[wanted].tolist()


def test_the_lesion_probability_is_one_minus_that_of_nilm_and_sees_the_middle() -> None:
    torch.manual_seed(0)
    network = CellClassifier("test_convnext").eval()
    crops = torch.randint(0, 255, (11, 3, 41, 41), dtype=torch.uint8)
    scores = reranker(4, 16, network, crop_px=32).scores(crops)
    with torch.no_grad():
        for row, score in enumerate(scores.tolist()):
            p = network(crops[row : row + 1, :, 4:36, 4:36].float() / 255).softmax(dim=1)[0]
            assert score == pytest.approx(1 - float(p[0]), abs=1e-5)


def test_what_cannot_work_is_refused() -> None:
    with pytest.raises(ConfigError, match="3 candidates for 4 cells"):
        reranker(4, 3)
    with pytest.raises(ConfigError, match=r"96 px at 0\.5 um/px, the bags have 64 px"):
        CellReranker(SaysBrightness(), CLASSIFIER, 4, crop_px=96, crop_mpp=0.5).check_crops(64, 0.5)
    with pytest.raises(ConfigError, match=r"at 0\.25 um/px"):
        CellReranker(SaysBrightness(), CLASSIFIER, 4, crop_px=64, crop_mpp=0.25).check_crops(64, 0.5)
    network = CellClassifier("test_convnext").eval()
    nn.init.constant_(network.head.bias, torch.nan)
    with pytest.raises(BagError, match=r"slide 's1': .* non-finite"):
        reranker(1, 2, network)(
            candidates_of([0.5, 0.4], [1, 2])._replace(images=torch.zeros(2, 3, 32, 32, dtype=torch.uint8)), "s1"
        )


def test_the_classifier_comes_from_a_bundle_or_a_weights_file(tmp_path: Path) -> None:
    shipped = load_reranker(8, profile="tiny")
    assert (shipped.top_k, shipped.candidates, shipped.crop_px, shipped.name) == (8, 32, 128, "cell_cls")
    torch.manual_seed(1)
    mine = CellClassifier("tf_efficientnet_lite0")
    save_weights(tmp_path / "mine.safetensors", mine.state_dict(), {"note": "mine"}, half=False)
    other = load_reranker(8, 9, tmp_path / "mine.safetensors", profile="tiny")
    assert (other.candidates, other.name, other.note) == (9, "mine.safetensors", "mine")
    assert len({shipped.weights, other.weights}) == 2
    assert torch.equal(other.network.state_dict()["head.weight"], mine.head.weight)
    with pytest.raises(BundleError, match=r"nowhere\.pt"):
        load_reranker(8, source=tmp_path / "nowhere.pt", profile="tiny")


# Bag files.

HEADER = BagHeader("s1", 0.25, 0.5, 8, 4, detector_sha256=DETECTOR, reranker_sha256=CLASSIFIER, candidates=16)


def reranked_cells(*scores: tuple[float, float | None]) -> list[BagCell]:
    jpeg = encode_crop(np.full((8, 8, 3), 90, np.uint8))
    return [
        BagCell(score, Box(k, k, k + 4, k + 4), jpeg, rerank_score=again) for k, (score, again) in enumerate(scores)
    ]


def test_both_scores_stand_in_the_bag_and_reach_the_batch(tmp_path: Path) -> None:
    path = tmp_path / "s1.bag.arrow"
    write_bag(path, HEADER, reranked_cells((0.2, 0.9), (0.8, 0.5), (0.1, 0.5)))
    bag = BagFile(path)
    assert bag.scores.tolist() == [0.2, 0.8, 0.1]
    assert bag.rerank_scores is not None
    assert bag.rerank_scores.tolist() == [0.9, 0.5, 0.5]
    sample = LoadBagd(top_k=4)({"bag": str(path)})
    assert sample["scores"].tolist() == [0.2, 0.8, 0.1, 0.0]
    assert sample["rerank_scores"].tolist() == [0.9, 0.5, 0.5, 0.0]
    assert sample["detector"] == hashlib.sha256(f"{DETECTOR} {CLASSIFIER} 16".encode()).hexdigest(), "as up to 1.3"
    write_bag(path, replace(HEADER, rerank_rule=RULE), reranked_cells((0.2, 0.9)))
    now = hashlib.sha256(f"{DETECTOR} {CLASSIFIER} 16 detector x lesion".encode()).hexdigest()
    assert LoadBagd(top_k=4)({"bag": str(path)})["detector"] == now
    plain = tmp_path / "s2.bag.arrow"
    write_bag(
        plain, BagHeader("s2", 0.25, 0.5, 8, 4, detector_sha256=DETECTOR), reranked_cells((0.8, None), (0.2, None))
    )
    assert BagFile(plain).rerank_scores is None
    sample = LoadBagd(top_k=4)({"bag": str(plain)})
    assert sample["detector"] == DETECTOR
    assert np.isnan(sample["rerank_scores"][:2]).all()


@pytest.mark.parametrize(
    "act",
    [
        lambda path: write_bag(path, HEADER, reranked_cells((0.2, 0.5), (0.8, 0.9))),
        lambda path: write_bag(path, HEADER, reranked_cells((0.2, 0.5), (0.8, 0.5))),  # ties break by the detector
        lambda path: write_bag(path, HEADER, reranked_cells((0.8, None))),
        lambda path: write_bag(path, BagHeader("s", 0.25, 0.5, 8, 4), reranked_cells((0.8, 0.5))),
        lambda path: reranked_cells((0.8, float("nan"))),
        lambda path: replace(HEADER, candidates=3),
        lambda path: replace(HEADER, reranker_sha256=""),
    ],
)
def test_what_is_no_reranked_bag_is_not_written(tmp_path: Path, act: Callable[[Path], object]) -> None:
    with pytest.raises(BagError):
        act(tmp_path / "s.bag.arrow")
    assert not list(tmp_path.iterdir())


def make_bags(folder: Path, image: Path, again: CellReranker | None, top_k: int) -> BagFile:
    data = [{"image": str(image), "mpp": 0.5, "slide_id": "a"}]
    SlideBagMaker(
        device="cpu",
        val_data_loader=torch.utils.data.DataLoader(Dataset(data), batch_size=1, collate_fn=list),
        network=DarkSpots(),
        inferer=SlideDetectionInferer(tile_px=128, overlap_px=32, top_k=top_k, workers=1),
        output_dir=folder,
        crop_px=32,
        reranker=again,
        overwrite=False,
    ).run()
    return BagFile(folder / "a.bag.arrow")


def test_slides_to_reranked_bags(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    image = np.full((300, 400, 3), 240, np.uint8)
    for place, x in enumerate(range(40, 380, 60)):
        image[100:130, x : x + 20] = np.array((10, 20, 30)) + 15 * place
    Image.fromarray(image).save(tmp_path / "a.png")
    every = make_bags(tmp_path / "all", tmp_path / "a.png", None, 12)
    bag = make_bags(tmp_path / "bags", tmp_path / "a.png", reranker(4, 12), 12)
    assert (len(bag), bag.header.top_k, bag.header.candidates) == (4, 4, 12)
    assert (bag.header.reranker_sha256, bag.header.rerank_rule) == (CLASSIFIER, RULE)
    brightness = {
        tuple(box): every.scores[row] * every.image(row).mean() / 255 for row, box in enumerate(every.boxes.tolist())
    }
    best = sorted(brightness.values(), reverse=True)[:4]
    assert [brightness[tuple(box)] for box in bag.boxes.tolist()] == pytest.approx(best, abs=1e-3)
    assert bag.rerank_scores == pytest.approx(best, abs=0.02)  # those are of crops before JPEG
    before = bag.path.stat().st_mtime_ns
    assert make_bags(tmp_path / "bags", tmp_path / "a.png", reranker(4, 12), 12).path.stat().st_mtime_ns == before
    again = make_bags(tmp_path / "bags", tmp_path / "a.png", reranker(3, 12), 12)
    assert "its bag is of other settings" in caplog.text
    assert len(again) == 3
    with pytest.raises(ConfigError, match="proposes 5 cells, the re-ranker wants 12"):
        make_bags(tmp_path / "bags", tmp_path / "a.png", reranker(4, 12), 5)


# The threshold on the slide score.


def models(chosen: str, again: CellReranker | None, force: bool = False) -> Models:
    classifier = SlideClassifier(CellClassifier("test_convnext"), create_slide_head("mean", 64), top_k=4)
    classifier.set_operating_point(0.5, detector=chosen)
    sizes = {"top_k": 4, "crop_px": 64, "crop_mpp": 0.5}
    detection = LoadedBundle(DarkSpots(), {}, DETECTOR, {})
    swift = LoadedBundle(classifier, sizes, "ee" * 32, {"note": "toys."})
    found, slides = Chosen(Choice("dark", "a test"), detection), Chosen(Choice("swift_mil", "a test"), swift)
    return join(found, slides, again, torch.device("cpu"), ScreeningConfig(force=force))


def test_a_threshold_set_without_reranking_makes_no_call_and_says_so() -> None:
    plain = models(DETECTOR, None)
    assert (plain.operating_point.call(0.9), plain.note) == ("positive", "toys.")
    again = models(DETECTOR, reranker(4, 12))
    assert not again.operating_point.holds
    assert again.operating_point.call(0.9) is again.operating_point.call(0.1) is None
    assert "set without re-ranking" in again.operating_point.source
    assert "no call is made" in again.note
    assert again.weights["cell_cls"] == CLASSIFIER
    forced = models(DETECTOR, reranker(4, 12), force=True).operating_point
    assert forced.call(0.9) == "positive"
    assert "forced" in forced.source


def test_a_threshold_set_with_reranking_holds_for_just_that() -> None:
    chosen = chosen_by(DETECTOR, CLASSIFIER, 12, RULE)
    with pytest.raises(BundleError, match="does not hold"):
        models(chosen_by(DETECTOR, CLASSIFIER, 12), reranker(4, 12))  # set on cells that another rule chose
    good = models(chosen, reranker(4, 12))
    assert good.operating_point.call(0.1) == "negative"
    assert good.note == "toys."
    for again in (None, reranker(4, 13)):
        with pytest.raises(BundleError, match="does not hold"):
            models(chosen, again)
    assert "not known" in models("", reranker(4, 12)).note
