"""Arrays as tensors of a batch."""

from __future__ import annotations

import numpy as np
import pytest

from stride_monai.data.datasets.tensors import channel_first, padded


@pytest.mark.parametrize("shape", [(5, 7, 3), (1, 1, 3), (1, 7, 3), (2, 5, 7, 3)])
def test_tensors_of_pixels_are_copies(shape: tuple[int, ...]) -> None:
    pixels = np.zeros(shape, np.uint8)
    pixels.setflags(write=False)
    tensor = channel_first(pixels)
    tensor += 1
    assert tensor.is_contiguous()
    assert not pixels.any()


def test_padding_fills_up_at_the_end() -> None:
    assert padded(np.array([[1, 2], [3, 4]]), 3).tolist() == [[1, 2], [3, 4], [0, 0]]
    assert padded(np.array([5.0]), 3, fill=-1).tolist() == [5, -1, -1]
    assert padded(np.empty((0, 4)), 2).shape == (2, 4)
