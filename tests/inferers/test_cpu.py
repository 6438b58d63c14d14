"""Forwards on one thread each: the same bits for any number of threads, in order, and nothing left behind."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stride_monai.inferers.cpu import each_on_one_thread, one_thread
from stride_monai.inferers.judge import decide, encode
from stride_monai.networks.encoders.cell_encoder import CellClassifier
from stride_monai.networks.mil.slide_classifier import SlideClassifier
from stride_monai.networks.mil.slide_head import AttentionSlideHead


@pytest.fixture(autouse=True)
def threads() -> Iterator[int]:
    before = torch.get_num_threads()
    yield before
    torch.set_num_threads(before)


def test_results_are_in_order_and_the_number_of_threads_is_given_back() -> None:
    torch.set_num_threads(3)
    assert each_on_one_thread(lambda n: (n, torch.get_num_threads()), range(20)) == [(n, 1) for n in range(20)]
    assert each_on_one_thread(lambda n: n, []) == []
    with pytest.raises(ZeroDivisionError):
        each_on_one_thread(lambda n: 1 // n, [1, 0])
    with one_thread() as had:
        assert (had, torch.get_num_threads()) == (3, 1)
    assert torch.get_num_threads() == 3


def test_the_number_of_threads_changes_no_bit_of_a_convolution() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 48, 6, 2, 2), nn.SiLU(), nn.Conv2d(48, 96, 3, 2, 1)).eval()
    tiles = list(torch.rand(3, 1, 3, 256, 256))

    def forward(tile: Tensor) -> Tensor:
        with torch.inference_mode():
            found: Tensor = network(tile)
            return found

    results = []
    for number in (1, 2, 5):
        torch.set_num_threads(number)
        results.append(torch.cat(each_on_one_thread(forward, tiles)))
    assert all(torch.equal(results[0], other) for other in results[1:])


def test_the_number_of_threads_changes_no_bit_of_what_is_said_of_cells_and_slide() -> None:
    torch.manual_seed(0)
    encoder = CellClassifier("convnext_atto")
    classifier = SlideClassifier(encoder, AttentionSlideHead(encoder.feature_dim), top_k=8).eval()
    crops = torch.randint(0, 256, (11, 3, 64, 64), dtype=torch.uint8)
    said = []
    for number in (1, 2, 4):
        torch.set_num_threads(number)
        features = encode(crops, classifier)
        evidence = decide(features, classifier, top_k=8)
        said.append([features.numpy(), evidence.cells, evidence.attention, evidence.slide])
    assert said[0][0].shape == (11, encoder.feature_dim)
    for other in said[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(said[0], other, strict=True))
    # A cell's features depend on no other cell.
    assert torch.equal(encode(crops[3:5], classifier), torch.from_numpy(said[0][0][3:5]))
