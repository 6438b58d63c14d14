"""A slide of a run, opened as the configuration says."""

from __future__ import annotations

from stride_monai.screening.config import ScreeningConfig
from stride_monai.screening.inputs import SlideInput
from stride_monai.slides import Slide, open_slide

__all__ = ["open_input"]


def open_input(item: SlideInput, config: ScreeningConfig) -> Slide:
    """The slide.

    Raises:
        SlideError: it cannot be opened or its um/px is not known.
    """
    return open_slide(
        item.path,
        mpp=item.mpp or config.mpp,
        reader=config.reader,
        image=config.image,
        plane=config.plane,
    )
