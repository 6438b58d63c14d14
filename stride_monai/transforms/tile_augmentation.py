"""Augmentation of detector tiles with their boxes: turned, mirrored, recoloured, seen anew; never rescaled.

Nuclear size is the diagnostic variable, so no augmentation here changes the size of a cell (METHOD section 3).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.transforms import MapTransform, Randomizable, Transform
from monai.utils.type_conversion import convert_to_tensor
from torch import Tensor

from stride_monai.transforms.augmentation import ScaleUint8, Strength, strength_of
from stride_monai.transforms.color import jitter_hsv
from stride_monai.transforms.look import seen_anew

__all__ = ["DetectionAugmentation", "DetectionAugmentationd"]


class DetectionAugmentation(Randomizable, Transform):
    """Augment a detector tile with its boxes: flip, quarter turns, HSV jitter. The paper's weak augmentation.

    Args:
        strength: ``none``, ``weak``, ``strong``, ``domain``, or a :class:`~stride_monai.transforms.Strength`, of
            whose rotation and shift nothing but quarter turns is used.
    """

    def __init__(self, strength: str | Strength = "weak") -> None:
        self.strength = strength_of(strength)
        self._drawn: _Draw | None = None

    def randomize(self, data: Any = None) -> None:
        """Draw anew."""
        self._drawn = _Draw.of(self.R, self.strength)

    def __call__(self, img: Any, boxes: Any, randomize: bool = True) -> tuple[Tensor, Tensor]:
        """Args:
            img: uint8 or float 0..1, ``[3, H, W]``.
            boxes: ``[n, 4]`` as x0, y0, x1, y1 in px of the image.
            randomize: False to repeat the last draw.

        Returns:
            float32 0..1 ``[3, H, W]`` (H and W swapped by an odd number of quarter turns), float32 ``[n, 4]``.
        """
        if randomize or self._drawn is None:
            self.randomize()
        assert self._drawn is not None
        image = ScaleUint8()(img)
        given = boxes if isinstance(boxes, Tensor) else np.asarray(boxes, dtype=np.float32)
        placed = convert_to_tensor(given, track_meta=False).float().reshape(-1, 4)
        image, placed = _placed(image, placed, self._drawn.mirrored, self._drawn.turns)
        if self.strength.hue or self.strength.saturation or self.strength.value:
            drawn = (self._drawn.hue, self._drawn.saturation, self._drawn.value)
            image = jitter_hsv(image.unsqueeze(0), *map(torch.tensor, drawn))[0]
        if self.strength.look is not None:
            image = seen_anew(image, self.strength.look, np.random.RandomState(self._drawn.seed))
        return image.contiguous(), placed


class DetectionAugmentationd(Randomizable, MapTransform):
    """Dictionary twin of :class:`DetectionAugmentation`.

    Args:
        image_key: of the tile ``[3, H, W]``.
        box_key: of its boxes ``[n, 4]``, px of the tile.
        strength: as there.
    """

    def __init__(
        self,
        image_key: str = "image",
        box_key: str = "boxes",
        strength: str | Strength = "weak",
    ) -> None:
        MapTransform.__init__(self, (image_key, box_key))
        self._image_key, self._box_key = image_key, box_key
        self._augment = DetectionAugmentation(strength)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        self._augment.set_random_state(state=self.R)
        image, boxes = self._augment(data[self._image_key], data[self._box_key])
        return {**data, self._image_key: image, self._box_key: boxes}


@dataclass(frozen=True, slots=True)
class _Draw:
    """The random numbers of one tile; those of its look follow from ``seed``."""

    turns: int
    mirrored: bool
    hue: float
    saturation: float
    value: float
    seed: int

    @classmethod
    def of(cls, random: np.random.RandomState, strength: Strength) -> _Draw:
        turns, mirrored = int(random.randint(4)), bool(random.randint(2))
        hue, saturation, value = random.uniform(-1, 1, 3).tolist()
        return cls(
            turns=turns if strength.rotation != "none" else 0,
            mirrored=mirrored and strength.flip,
            hue=hue * strength.hue,
            saturation=1 + saturation * strength.saturation,
            value=1 + value * strength.value,
            seed=int(random.randint(2**31 - 1)),
        )


def _placed(image: Tensor, boxes: Tensor, mirrored: bool, turns: int) -> tuple[Tensor, Tensor]:
    """Mirrored, then turned anticlockwise; the boxes go along."""
    if mirrored:
        x0, y0, x1, y1 = boxes.unbind(1)
        width = image.shape[2]
        image, boxes = image.flip(2), torch.stack((width - x1, y0, width - x0, y1), 1)
    for _ in range(turns):  # as torch.rot90 turns: (x, y) goes to (y, width - x)
        x0, y0, x1, y1 = boxes.unbind(1)
        width = image.shape[2]
        image, boxes = image.rot90(1, (1, 2)), torch.stack((y0, width - x1, y1, width - x0), 1)
    return image, boxes
