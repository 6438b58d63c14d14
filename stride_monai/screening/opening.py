"""A slide of a run, opened as its options say."""

from __future__ import annotations

from stride_monai.screening.inputs import SlideInput
from stride_monai.screening.options import Options
from stride_monai.slides import Slide, open_slide

__all__ = ["open_input"]


def open_input(item: SlideInput, options: Options) -> Slide:
    """The slide.

    Raises:
        SlideError: it cannot be opened or its um/px is not known.
    """
    return open_slide(
        item.path,
        mpp=item.mpp or options.mpp,
        reader=options.reader,
        image=options.image,
        plane=options.plane,
    )
