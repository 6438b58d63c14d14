"""Top-K cell patching: the best K, always the same field of view, whatever the order of the boxes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from slide_files import textured, write_pyramid

from stride_monai.errors import BagError, RegionError, SlideError
from stride_monai.slides import Slide, open_slide
from stride_monai.transforms import TopKCellPatches, TopKCellPatchesd
from stride_monai.units import Box

MPP = 0.25


@pytest.fixture(scope="module")
def slide_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("slides") / "s.tif"
    return write_pyramid(path, textured(320, 400), MPP, (1, 2), compression=None)


@pytest.fixture(scope="module")
def slide(slide_path: Path) -> Slide:
    return open_slide(slide_path)


_PLACES = st.lists(
    st.tuples(st.integers(0, 390), st.integers(0, 310), st.integers(1, 90), st.integers(1, 90), st.integers(0, 4)),
    max_size=9,
    unique_by=lambda row: row[:4],
)


def _split(rows: list[tuple[int, ...]]) -> tuple[np.ndarray, np.ndarray]:
    table = np.array(rows, float).reshape(-1, 5)
    x, y, w, h, score = table.T
    return np.stack((x, y, x + w, y + h), 1), score / 4


@settings(max_examples=60, deadline=None)
@given(rows=_PLACES, k=st.integers(1, 7))
def test_the_bag_is_the_k_best_by_score_then_place(slide: Slide, rows: list[tuple[int, ...]], k: int) -> None:
    boxes, scores = _split(rows)
    bag = TopKCellPatches(top_k=k, crop_px=8, crop_mpp=0.5)(slide, boxes, scores)
    expected = sorted(range(len(rows)), key=lambda i: (-scores[i], boxes[i, 1], boxes[i, 0], boxes[i, 3], boxes[i, 2]))
    count = min(k, len(rows))
    assert bag.indices[:count].tolist() == expected[:k]
    assert bag.indices[count:].tolist() == [-1] * (k - count)
    assert bag.mask.tolist() == [True] * count + [False] * (k - count)
    assert bag.images.shape == (k, 3, 8, 8)
    assert bag.images.dtype == torch.uint8
    np.testing.assert_array_equal(bag.boxes[:count], boxes[expected[:k]].reshape(-1, 4))
    np.testing.assert_array_equal(bag.scores[:count], scores[expected[:k]])
    for padded in (bag.images, bag.boxes, bag.scores):
        assert padded[count:].abs().sum() == 0
    assert bag.unreadable == 0


@settings(max_examples=30, deadline=None)
@given(rows=_PLACES, order=st.randoms(use_true_random=False))
def test_the_order_of_the_boxes_does_not_matter(slide: Slide, rows: list[tuple[int, ...]], order: object) -> None:
    shuffled = list(rows)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    patches = TopKCellPatches(top_k=5, crop_px=8, crop_mpp=0.5)
    one, other = patches(slide, *_split(rows)), patches(slide, *_split(shuffled))
    for name in ("images", "boxes", "scores", "mask"):
        assert torch.equal(getattr(one, name), getattr(other, name))


@settings(max_examples=30, deadline=None)
@given(
    x=st.floats(0, 400),
    y=st.floats(0, 320),
    sizes=st.lists(st.tuples(st.floats(1, 300), st.floats(1, 300)), min_size=2),
)
def test_the_field_of_view_does_not_depend_on_the_box(
    slide: Slide, x: float, y: float, sizes: list[tuple[float, float]]
) -> None:
    # Halves are exact in binary, so that every box has the very same centre.
    x, y = round(x), round(y)
    boxes = [[x - round(w), y - round(h), x + round(w), y + round(h)] for w, h in sizes]
    bag = TopKCellPatches(top_k=len(boxes), crop_px=12, crop_mpp=0.5)(slide, boxes, np.ones(len(boxes)))
    assert all(torch.equal(image, bag.images[0]) for image in bag.images)
    pixels = slide.read(Box.around(x, y, 12 * 0.5 / MPP), mpp=0.5)
    np.testing.assert_array_equal(bag.images[0], pixels.transpose(2, 0, 1))


def test_a_crop_at_the_native_um_per_px_is_the_slide_itself(tmp_path: Path) -> None:
    array = textured(320, 400)
    path = write_pyramid(tmp_path / "n.tif", array, MPP, (1,), compression=None)
    bag = TopKCellPatches(top_k=1, crop_px=16, crop_mpp=MPP)(path, [[100, 50, 140, 70]], [0.5])
    np.testing.assert_array_equal(bag.images[0], array[52:68, 112:128].transpose(2, 0, 1))


def test_beyond_the_border_it_is_white(slide: Slide) -> None:
    bag = TopKCellPatches(top_k=1, crop_px=16, crop_mpp=MPP)(slide, [[-4, -4, 4, 4]], [0.5])
    assert (bag.images[0, :, :8] == 255).all()
    assert (bag.images[0, :, :, :8] == 255).all()
    assert (bag.images[0, :, 8:, 8:] < 255).any()


def test_the_number_of_workers_does_not_matter(slide: Slide) -> None:
    random = np.random.default_rng(0)
    corners = random.uniform(0, 300, (150, 2))
    boxes, scores = np.concatenate((corners, corners + 20), 1), random.uniform(size=150)
    one, many = (TopKCellPatches(top_k=100, crop_px=8, workers=count)(slide, boxes, scores) for count in (1, 4))
    assert torch.equal(one.images, many.images)
    assert torch.equal(one.indices, many.indices)


def test_no_box_gives_an_empty_bag(slide: Slide) -> None:
    for boxes in ([], np.empty((0, 4)), torch.empty(0, 4)):
        bag = TopKCellPatches(top_k=3, crop_px=8)(slide, boxes, [])
        assert not bag.mask.any()
        assert bag.boxes.shape == (3, 4)


@pytest.mark.parametrize(
    ("boxes", "scores", "message"),
    [
        ([[0, 0, 5, 5]], [float("nan")], "non-finite"),
        ([[0, 0, float("inf"), 5]], [0.5], "non-finite"),
        ([[0, 0, 5]], [0.5], "shape"),
        ([[0, 0, 5, 5]], [0.5, 0.4], "shape"),
        ([[0, 0, 5, 5]], [[0.5]], "shape"),
        ([0, 0, 5, 5], [0.5], "shape"),
        ([[5, 0, 0, 5]], [0.5], "x1 < x0"),
        ([], [0.5], "shape"),
    ],
)
def test_bad_input_is_refused_naming_the_slide(slide: Slide, boxes: object, scores: object, message: str) -> None:
    with pytest.raises(BagError, match=f"slide 's': .*{message}"):
        TopKCellPatches(top_k=2, crop_px=8)(slide, boxes, scores)


@pytest.mark.parametrize(
    "sizes", [{"top_k": 0}, {"crop_px": 0}, {"crop_mpp": 0}, {"crop_mpp": float("nan")}, {"workers": 0}]
)
def test_sizes_must_be_positive(sizes: dict[str, float]) -> None:
    with pytest.raises(BagError):
        TopKCellPatches(**sizes)  # type: ignore[arg-type]


def test_an_undecodable_crop_is_left_out_and_counted(slide: Slide, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Slide.read

    def failing(self: Slide, box: Box, mpp: float | None = None) -> np.ndarray:
        if abs(box.center[0] - 55) < 1e-6:
            raise RegionError("s.tif: a tile cannot be decoded")
        return read(self, box, mpp)

    monkeypatch.setattr(Slide, "read", failing)
    boxes = [[0, 0, 10, 10], [50, 0, 60, 10], [100, 0, 110, 10]]
    bag = TopKCellPatches(top_k=2, crop_px=8)(slide, boxes, [0.9, 0.8, 0.7])
    assert bag.indices.tolist() == [0, 2]
    assert bag.unreadable == 1
    assert bag.mask.all()


def test_the_dictionary_twin_does_the_same_and_keeps_other_keys(slide_path: Path) -> None:
    boxes, scores = torch.tensor([[10.0, 10, 20, 20], [50, 60, 80, 90]]), torch.tensor([0.25, 0.75])
    given_sample = {"image": str(slide_path), "boxes": boxes, "scores": scores, "label": 3}
    sample = TopKCellPatchesd(top_k=3, crop_px=8)(given_sample)
    bag = TopKCellPatches(top_k=3, crop_px=8)(slide_path, boxes, scores)
    for key, value in (("image", bag.images), ("boxes", bag.boxes), ("scores", bag.scores), ("mask", bag.mask)):
        assert torch.equal(sample[key], value)
    assert sample["indices"].tolist() == [1, 0, -1]
    assert sample["unreadable"] == 0
    assert sample["label"] == 3
    assert given_sample["image"] == str(slide_path)


def test_a_given_um_per_px_wins_and_an_absent_slide_is_one_line(slide_path: Path, tmp_path: Path) -> None:
    sample = {"image": slide_path, "boxes": [[100, 100, 140, 140]], "scores": [1.0], "mpp": 0.5}
    crop = TopKCellPatchesd(top_k=1, crop_px=16, crop_mpp=0.5)(sample)["image"][0]
    with open_slide(slide_path) as opened:
        np.testing.assert_array_equal(crop, opened.read(Box(112, 112, 128, 128)).transpose(2, 0, 1))
    with pytest.raises(SlideError, match="none"):
        TopKCellPatches()(tmp_path / "none.svs", [], [])
