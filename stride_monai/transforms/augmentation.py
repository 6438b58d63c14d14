"""Augmentation of cells: turned, mirrored, shifted, recoloured, never rescaled. Tiles: see ``tile_augmentation``.

Nuclear size is the diagnostic variable, so no augmentation here changes the size of a cell (METHOD section 3).
All take uint8 or float 0..1 and give float32 0..1; random numbers come from MONAI's ``Randomizable``.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Randomizable, Transform
from monai.utils.type_conversion import convert_to_tensor
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from stride_monai.errors import ConfigError
from stride_monai.transforms.color import jitter_hsv
from stride_monai.transforms.look import DOMAIN, Look, seen_anew

__all__ = [
    "STRENGTHS",
    "CellAugmentation",
    "CellAugmentationd",
    "DrawnViews",
    "ScaleUint8",
    "ScaleUint8d",
    "Strength",
    "strength_of",
]


@dataclass(frozen=True, slots=True)
class Strength:
    """How far an augmentation may go.

    Attributes:
        rotation: ``any`` angle, ``right`` angles only, or ``none``. Where a turn or a shift leaves a corner empty, the
            picture is mirrored into it.
        flip: mirror with probability 1/2.
        shift: largest shift in x and in y as a share of the image's side, 0-0.5; in whole pixels.
        hue: largest turn of the hue, in turns, 0-0.5.
        saturation: largest change of the saturation as a share of it, 0-1.
        value: likewise of the value (brightness).
        look: how far a cell may look as if another laboratory had stained and another scanner seen it; drawn for each
            cell on its own, on the CPU. None for not at all.
    """

    rotation: str = "none"
    flip: bool = False
    shift: float = 0.0
    hue: float = 0.0
    saturation: float = 0.0
    value: float = 0.0
    look: Look | None = None

    def __post_init__(self) -> None:
        if self.rotation not in {"any", "right", "none"}:
            raise ConfigError(f"rotation is '{self.rotation}'", "use any, right or none")
        for name, limit in (("shift", 0.5), ("hue", 0.5), ("saturation", 1.0), ("value", 1.0)):
            if not 0 <= getattr(self, name) <= limit:
                raise ConfigError(f"{name} of an augmentation is {getattr(self, name)}", f"use 0 to {limit}")


STRENGTHS: Mapping[str, Strength] = MappingProxyType(
    {
        "none": Strength(),
        "weak": Strength(rotation="right", flip=True, shift=1 / 32, hue=0.01, saturation=0.1, value=0.05),
        "strong": Strength(rotation="any", flip=True, shift=1 / 8, hue=0.04, saturation=0.4, value=0.2),
        "domain": Strength(rotation="right", flip=True, shift=1 / 8, look=DOMAIN),
    }
)
"""The presets. The paper names the kinds (rotation, flips, random crop, random HSV jitter), the numbers are ours;
``domain`` is for training on synthetic slides and on few laboratories."""


_CPU_PART = 4


def strength_of(strength: str | Strength) -> Strength:
    """A strength, or the preset of that name."""
    if isinstance(strength, Strength):
        return strength
    if strength not in STRENGTHS:
        raise ConfigError(f"unknown strength of an augmentation '{strength}'", f"use one of {', '.join(STRENGTHS)}")
    return STRENGTHS[strength]


class ScaleUint8(Transform):
    """uint8 0..255 becomes float32 0..1; a float image is taken to be in 0..1 already."""

    def __call__(self, img: Any) -> Tensor:
        """Args:
        img: tensor or array of any shape.
        """
        image: Tensor = convert_to_tensor(img, track_meta=False)
        return image.float() / 255 if image.dtype == torch.uint8 else image.float()


class ScaleUint8d(MapTransform):
    """Dictionary twin of :class:`ScaleUint8`."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        return {**data, **{key: ScaleUint8()(data[key]) for key in self.key_iterator(data)}}


class _Draw(NamedTuple):
    """The random numbers of one batch: matrices ``[N, 2, 2]``, shifts ``[N, 2]`` in shares of the side, colour, and
    what the numbers of a look follow from."""

    matrix: Tensor
    shift: Tensor
    hue: Tensor
    saturation: Tensor
    value: Tensor
    seed: Tensor

    def of(self, chosen: Tensor | slice) -> _Draw:
        return _Draw(*(part[chosen] for part in self))


def _draw(
    random: np.random.RandomState, count: int, strength: Strength, share: slice | NDArray[np.int64] = slice(None)
) -> _Draw:
    """Every number is drawn whatever the strength, so that a strength does not change what is drawn after it; but for
    a look's.

    ``share`` says which of the ``count`` images the numbers are wanted for.
    """
    angle, mirror, across, down, hue, saturation, value = random.uniform(-1, 1, (7, count))[:, share]
    seeds = random.randint(2**31 - 1, size=count)[share] if strength.look is not None else np.zeros(len(angle), int)
    count = len(angle)
    if strength.rotation == "any":
        cosine, sine = np.cos(math.pi * angle), np.sin(math.pi * angle)
    else:
        quarter = np.floor((angle + 1) * 2).astype(int) % 4 if strength.rotation == "right" else np.zeros(count, int)
        cosine, sine = np.array([1, 0, -1, 0])[quarter], np.array([0, 1, 0, -1])[quarter]  # exact: nothing is blurred
    sign = np.where(strength.flip & (mirror > 0), -1.0, 1.0)
    matrix = np.stack((np.stack((cosine * sign, -sine), -1), np.stack((sine * sign, cosine), -1)), -2)
    return _Draw(
        matrix=torch.as_tensor(matrix, dtype=torch.float32),
        shift=torch.as_tensor(np.stack((across, down), -1) * strength.shift, dtype=torch.float32),
        hue=torch.as_tensor(hue * strength.hue, dtype=torch.float32),
        saturation=torch.as_tensor(1 + saturation * strength.saturation, dtype=torch.float32),
        value=torch.as_tensor(1 + value * strength.value, dtype=torch.float32),
        seed=torch.as_tensor(seeds),
    )


class CellAugmentation(Randomizable, Transform):
    """Augment one cell crop, or each crop of a batch on its own; the scale of a cell never changes.

    Args:
        strength: ``none``, ``weak``, ``strong``, ``domain`` (:data:`STRENGTHS`), or a :class:`Strength`.
        size: side of the result in px: the middle of the moved image, at the same scale. None for the whole.

    Example::

        augment = CellAugmentation("strong").set_random_state(seed=0)
        augment(torch.zeros(256, 3, 224, 224, dtype=torch.uint8))  # float32 [256, 3, 224, 224]
    """

    def __init__(self, strength: str | Strength = "strong", size: int | None = None) -> None:
        self.strength = strength_of(strength)
        self.size = size
        self._drawn: DrawnViews | None = None

    def randomize(self, data: int, rank: int = 0, world_size: int = 1) -> None:
        """Draw anew for ``data`` images.

        Of several processes with the same random state, each with ``data`` images, every one draws its share (each
        ``world_size``-th, from ``rank``) of what one process with all images would draw.
        """
        self._drawn = self.drawn(data * world_size, slice(rank, None, world_size))

    def drawn(self, count: int, share: slice | NDArray[np.int64] = slice(None)) -> DrawnViews:
        """Draw anew for ``count`` images, of which those of ``share`` are wanted, and apply it part by part."""
        return DrawnViews(_draw(self.R, count, self.strength, share), self.strength, self.size)

    def __call__(self, img: Any, randomize: bool = True) -> Tensor:
        """Args:
            img: uint8 or float 0..1, ``[3, S, S]`` or ``[N, 3, S, S]``; tensor or array, on any device.
            randomize: False to repeat the last draw.

        Returns:
            float32 0..1 of the same shape (its side ``size`` where that is given) and device.

        Raises:
            ConfigError: the image is not RGB or not square, or is smaller than ``size``.
        """
        image = ScaleUint8()(img)
        if image.ndim not in {3, 4} or image.shape[-3] != 3 or image.shape[-1] != image.shape[-2]:
            raise ConfigError(f"a cell image has shape {tuple(image.shape)}", "give square crops [..., 3, S, S]")
        batch = image.reshape(-1, *image.shape[-3:])
        size = self.size or image.shape[-1]
        if size > image.shape[-1]:
            raise ConfigError(
                f"views of {size} px cannot be cut from crops of {image.shape[-1]} px", "use smaller ones"
            )
        if randomize or self._drawn is None:
            self.randomize(len(batch))
        assert self._drawn is not None
        shape = (*image.shape[:-2], size, size)
        if len(batch) == 0:
            return image.new_zeros(shape)
        return self._drawn(batch).reshape(shape)


class DrawnViews:
    """A :class:`CellAugmentation` whose random numbers are drawn, for a batch that is augmented part by part.

    Made by :meth:`CellAugmentation.drawn`. Has a length, the number of images it is drawn for; may be indexed by a
    tensor, for the images that are left of a batch; and may be added to another of the same augmentation, for batches
    that are put together.
    """

    def __init__(self, drawn: _Draw, strength: Strength, size: int | None) -> None:
        self._drawn, self._strength, self._size = drawn, strength, size

    def __len__(self) -> int:
        return len(self._drawn.hue)

    def __getitem__(self, chosen: Tensor | slice) -> DrawnViews:
        return DrawnViews(self._drawn.of(chosen), self._strength, self._size)

    def __add__(self, other: DrawnViews) -> DrawnViews:
        pairs = zip(self._drawn, other._drawn, strict=True)
        return DrawnViews(_Draw(*(torch.cat(pair) for pair in pairs)), self._strength, self._size)

    def __call__(self, images: Tensor, place: slice = slice(None)) -> Tensor:
        """float32 0..1 of uint8 or float crops ``[n, 3, S, S]``, which are the images at ``place`` of the batch."""
        batch, drawn = ScaleUint8()(images), self._drawn.of(place)
        size = self._size or batch.shape[-1]
        # The whole batch at once on a GPU; on a CPU a few crops at a time, which stay in its cache.
        if batch.device.type != "cpu" or len(batch) <= _CPU_PART:
            return _recolored(_moved(batch, drawn, size), drawn, self._strength)
        out = batch.new_empty((*batch.shape[:2], size, size))
        for start in range(0, len(batch), _CPU_PART):
            part = slice(start, start + _CPU_PART)
            some = drawn.of(part)
            out[part] = _recolored(_moved(batch[part], some, size), some, self._strength)
        return out


def _moved(batch: Tensor, drawn: _Draw, size: int) -> Tensor:
    """Turned, mirrored and shifted, and the middle cut out, by one resampling; every length in px stays."""
    side = batch.shape[-1]
    shift = (drawn.shift * side).round() * (2 / side)
    theta = torch.cat((drawn.matrix * (size / side), shift.unsqueeze(-1)), -1).to(batch.device)
    grid = functional.affine_grid(theta, [*batch.shape[:2], size, size], align_corners=False)
    return functional.grid_sample(batch, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _recolored(batch: Tensor, drawn: _Draw, strength: Strength) -> Tensor:
    if strength.hue or strength.saturation or strength.value:
        factors = (drawn.hue, drawn.saturation, drawn.value)
        batch = jitter_hsv(batch, *(factor.to(batch.device) for factor in factors))
    if strength.look is None:
        return batch
    randoms = map(np.random.RandomState, drawn.seed.tolist())
    seen = [seen_anew(cell, strength.look, random) for cell, random in zip(batch.cpu(), randoms, strict=True)]
    return torch.stack(seen).to(batch.device)


class CellAugmentationd(Randomizable, MapTransform):
    """Dictionary twin of :class:`CellAugmentation`; all keys get the same draw.

    Args:
        keys: of crops ``[3, S, S]`` or bags of crops ``[N, 3, S, S]``.
        strength: ``none``, ``weak``, ``strong``, ``domain``, or a :class:`Strength`.
        allow_missing_keys: pass over keys that a sample lacks.
    """

    def __init__(
        self, keys: KeysCollection, strength: str | Strength = "strong", allow_missing_keys: bool = False
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        self._augment = CellAugmentation(strength)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        sample = dict(data)
        self._augment.set_random_state(state=self.R)
        for place, key in enumerate(self.key_iterator(sample)):
            sample[key] = self._augment(sample[key], randomize=place == 0)
        return sample
