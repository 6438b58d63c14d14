"""Views of cells: windows at the cell's own scale that hold the detected point, each cell with its own draw."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stride_monai.errors import ConfigError
from stride_monai.transforms.augmentation import CellAugmentation, Strength
from stride_monai.transforms.views import CellViews, view_px

PLAIN = Strength(rotation="any", flip=True, shift=1 / 8)


def discs(count: int, side: int, radius: float) -> torch.Tensor:
    """White crops with a black disc at the centre; its edge is two px wide: turning a harder one changes the sum."""
    place = torch.arange(side) - (side - 1) / 2
    distance = torch.sqrt(place[:, None] ** 2 + place[None, :] ** 2)
    return ((distance - radius + 1) / 2).clamp(0, 1).expand(count, 3, side, side).clone()


def plain(side: int, size: int, views: int = 2) -> CellViews:
    return CellViews(side, size, size, views, 0, PLAIN, blur=0.0, gray_share=0.0)


@settings(max_examples=25, deadline=None)
@given(side=st.sampled_from([64, 96, 128]), share=st.floats(0.45, 1.0), seed=st.integers(0, 10_000))
def test_a_nucleus_keeps_its_size_and_is_never_left_out(side: int, share: float, seed: int) -> None:
    size = 2 * round(side * share / 2)
    crops = discs(8, side, 5)
    for view in plain(side, size).set_random_state(seed=seed)(crops):
        assert view.shape == (8, 3, size, size)
        dark = 1 - view[:, 0]
        # Where the window's edge cuts the disc less is seen (the edge may pass through its centre); never more.
        assert (dark.sum((1, 2)) <= float((1 - crops[0, 0]).sum()) * 1.01).all()
        assert (dark.sum((1, 2)) >= float((1 - crops[0, 0]).sum()) * 0.2).all()


def test_a_disc_well_inside_a_window_has_the_same_area_as_in_the_crop() -> None:
    crops = discs(64, 96, 6)
    area = float((1 - crops[0, 0]).sum())
    for view in plain(96, 80).set_random_state(seed=0)(crops):
        torch.testing.assert_close((1 - view[:, 0]).sum((1, 2)), torch.full((64,), area), rtol=0.01, atol=0)


def test_a_window_is_the_middle_of_the_whole_moved_crop() -> None:
    crops = torch.rand(6, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    whole, window = (CellAugmentation("strong", size).set_random_state(seed=3)(crops) for size in (None, 32))
    torch.testing.assert_close(window, whole[..., 16:48, 16:48], rtol=0, atol=1e-4)  # places are float32


def test_large_views_first_and_every_view_and_cell_differs() -> None:
    crops = torch.rand(1, 3, 64, 64).expand(5, 3, 64, 64)
    views = CellViews(64, 48, 32, 2, 3).set_random_state(seed=0)(crops)
    assert [view.shape[-1] for view in views] == [48, 48, 32, 32, 32]
    assert not torch.equal(views[0], views[1])
    assert all(not torch.equal(view[i], view[i + 1]) for view in views for i in range(4))
    assert all(view.dtype == torch.float32 and view.min() >= 0 and view.max() <= 1 + 1e-5 for view in views)


def test_two_processes_draw_together_what_one_draws() -> None:
    crops = torch.rand(6, 3, 64, 64)
    alone = CellViews(64, 48, 32, 2, 1)
    alone.set_random_state(seed=1).randomize(6)
    whole = alone(crops, randomize=False)
    for rank in (0, 1):
        share = CellViews(64, 48, 32, 2, 1)
        share.set_random_state(seed=1).randomize(3, rank, 2)
        for ours, theirs in zip(share(crops[rank::2], randomize=False), whole, strict=True):
            torch.testing.assert_close(ours, theirs[rank::2], rtol=0, atol=1e-6)


def blurred_by_hand(image: np.ndarray, sigma: float, radius: int) -> np.ndarray:
    """Plain double loop over the taps of a Gaussian, mirrored at the border."""
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    taps /= taps.sum()
    padded = np.pad(image, ((0, 0), (radius, radius), (radius, radius)), mode="reflect")
    out = np.zeros_like(image)
    for dy in range(2 * radius + 1):
        for dx in range(2 * radius + 1):
            out += taps[dy] * taps[dx] * padded[:, dy : dy + image.shape[1], dx : dx + image.shape[2]]
    return out


def test_blur_and_gray_are_what_they_say() -> None:
    crops = torch.rand(40, 3, 32, 32)
    still = Strength()
    views = CellViews(32, 32, 32, 1, 0, still, blur=1.0, blur_share=0.5, gray_share=0.3).set_random_state(seed=0)
    (view,) = views(crops)
    ((sigma, gray),) = views._drawn
    assert 8 <= int((sigma > 0).sum()) <= 32
    assert 4 <= int(gray.sum()) <= 24
    for ours, crop, deviation, is_gray in zip(view, crops, sigma.tolist(), gray.tolist(), strict=True):
        expected = crop.numpy().astype(np.float64)
        if deviation > 0.02:
            expected = blurred_by_hand(expected, deviation, 3)
        if is_gray:
            expected = np.broadcast_to(np.tensordot([0.299, 0.587, 0.114], expected, 1), expected.shape)
        np.testing.assert_allclose(ours.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize(
    "wrong", [{"global_px": 65}, {"local_px": 0, "local_views": 1}, {"gray_share": 1.1}, {"strength": "wild"}]
)
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        CellViews(**{"crop_px": 64, "global_px": 48, "local_px": 32, **wrong})  # type: ignore[arg-type]


@pytest.mark.parametrize(("crop_px", "share", "side"), [(224, 6 / 7, 192), (224, 3 / 7, 96), (100, 0.5, 48)])
def test_views_have_whole_patches(crop_px: int, share: float, side: int) -> None:
    assert view_px(crop_px, share) == side
