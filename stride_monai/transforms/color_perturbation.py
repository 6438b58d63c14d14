"""Colour perturbation of slides: one shift for all cells of a slide, given, or found such that a loss rises.

STRIDE, equations 7 and 8 (https://arxiv.org/abs/2407.19512); METHOD section 6.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Randomizable, Transform
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from stride_monai.errors import ConfigError
from stride_monai.transforms.augmentation import ScaleUint8
from stride_monai.transforms.color import hsv_to_rgb, rgb_to_hsv, stopped

__all__ = ["SPACES", "AdversarialColorPerturbation", "ColorPerturbation", "ColorPerturbationd", "scaled_to"]

SPACES = ("rgb", "hsv")


class ColorPerturbation(Transform):
    """Add one vector to the colour of every pixel of a picture, in RGB or in HSV.

    Hue wraps; saturation, value, red, green and blue stop at 0 and 1. Where the vector is 0 the picture comes back bit
    for bit. Differentiable in picture and vector, with finite gradients everywhere: at a stop it is that of the side on
    which colours lie, so that white and black pixels count; where two channels are equal, the hue's is that of turning
    onwards; at grey it is 0, since hue means nothing there, and more saturation makes grey red, whose hue is 0. Only
    the picture is kept for the backward pass, in which the conversions are computed again.

    Args:
        space: ``rgb`` or ``hsv``.

    Raises:
        ConfigError: another space.
    """

    def __init__(self, space: str = "rgb") -> None:
        if space not in SPACES:
            raise ConfigError(f"unknown colour space of a perturbation '{space}'", f"use one of {', '.join(SPACES)}")
        self.space = space

    def __call__(self, img: Any, shift: Any) -> Tensor:
        """Args:
            img: crops ``[..., 3, H, W]``, RGB, uint8 or float 0..1: one, those of a bag ``[K, ...]`` or bags
                ``[B, K, ...]``.
            shift: ``[3]`` for all of them, or ``[B, 3]`` with a row for each element of the first axis (each slide). Of
                red, green, blue, or of hue (in turns), saturation, value.

        Returns:
            float 0..1 of the shape of ``img``.
        """
        image = ScaleUint8()(img) if not isinstance(img, Tensor) or img.dtype == torch.uint8 else img
        shift = torch.as_tensor(shift, dtype=image.dtype, device=image.device)
        if shift.shape[-1] != 3 or (shift.ndim == 2 and len(shift) != len(image)) or shift.ndim > 2:
            raise ConfigError(
                f"a colour shift of shape {tuple(shift.shape)} for pictures {tuple(image.shape)}",
                "give [3], or [B, 3] with a row for each slide",
            )
        shift = shift.reshape(*shift.shape[:-1], *[1] * (image.ndim - shift.ndim - 2), 3, 1, 1)
        moved = _moved_rgb if self.space == "rgb" else _moved_hsv
        if torch.is_grad_enabled() and (shift.requires_grad or image.requires_grad):
            result: Tensor = checkpoint(moved, image, shift, use_reentrant=False)
            return result
        return moved(image, shift)


def _moved_rgb(image: Tensor, shift: Tensor) -> Tensor:
    return stopped(image + shift)


def _moved_hsv(image: Tensor, shift: Tensor) -> Tensor:
    """What the way to HSV and back rounds is the same with and without the shift, and falls out of the difference."""
    hsv = rgb_to_hsv(image)
    hue, saturation, value = (hsv + shift).unbind(-3)
    changed = torch.stack((hue, stopped(saturation), stopped(value)), -3)
    return stopped(image + (hsv_to_rgb(changed) - hsv_to_rgb(hsv)))


class ColorPerturbationd(MapTransform):
    """Dictionary twin of :class:`ColorPerturbation`.

    Args:
        keys: of crops or bags.
        shift_key: of the vector, ``[3]`` or ``[B, 3]``.
        space: ``rgb`` or ``hsv``.
        allow_missing_keys: pass over keys that a sample lacks.
    """

    def __init__(
        self,
        keys: KeysCollection,
        shift_key: str = "color_shift",
        space: str = "rgb",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.shift_key = shift_key
        self._perturb = ColorPerturbation(space)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        shift = data[self.shift_key]
        return {**data, **{key: self._perturb(data[key], shift) for key in self.key_iterator(data)}}


class AdversarialColorPerturbation(Randomizable, Transform):
    """The colour shift of each slide, of length ``rho``, that raises a loss most, to first order.

    ``shift = rho * g / |g|`` for each slide, where ``g`` is the gradient of the loss with respect to the slide's shift
    (equation 8). With several steps (projected gradient ascent) each goes ``rho * 2.5 / steps`` along its own gradient
    and back onto the ball of radius ``rho``. A slide whose gradient is 0 or not finite keeps the shift it had: 0 at
    first.

    Args:
        spaces: colour spaces to draw from, one for each call of :meth:`randomize`.
        rho_rgb, rho_hsv: lengths of the shift, for colours 0..1.
        steps: gradients taken, from 1.
        random_start: begin anywhere in the ball rather than at 0.

    Raises:
        ConfigError: an unknown space, a negative length or no step.

    Example::

        attack = AdversarialColorPerturbation().set_random_state(seed=0)
        attack.randomize()
        shift = attack(lambda shift: loss(network(attack.perturb(bags, shift)), labels), torch.zeros(len(bags), 3))
        worst = attack.perturb(bags, shift)
    """

    def __init__(
        self,
        spaces: str | Sequence[str] = SPACES,
        rho_rgb: float = 0.1,
        rho_hsv: float = 0.1,
        steps: int = 1,
        random_start: bool = False,
    ) -> None:
        names = (spaces,) if isinstance(spaces, str) else tuple(spaces)
        if not names or min(rho_rgb, rho_hsv) < 0 or steps < 1:
            raise ConfigError(
                f"colour spaces {names}, rho {rho_rgb} and {rho_hsv}, {steps} steps",
                "give at least one space and one step, and lengths of 0 or more",
            )
        self._perturb = {name: ColorPerturbation(name) for name in names}
        self.rho = {"rgb": rho_rgb, "hsv": rho_hsv}
        self.steps, self.random_start = steps, random_start
        self.space = names[0]

    def randomize(self, data: Any = None) -> None:
        """Draw the colour space."""
        self.space = tuple(self._perturb)[self.R.randint(len(self._perturb))]

    def perturb(self, image: Tensor, shift: Tensor) -> Tensor:
        """:class:`ColorPerturbation` in the space that was drawn."""
        return self._perturb[self.space](image, shift)

    def start(self, like: Tensor) -> Tensor:
        """Where the search begins, ``[B, 3]`` as ``like``: at 0, or anywhere in the ball."""
        if not self.random_start:
            return torch.zeros_like(like)
        direction = scaled_to(self._random(like, self.R.standard_normal), 1.0, torch.zeros_like(like))
        radius = self._random(like[:, :1], self.R.random_sample) ** (1 / 3)  # so every part of the ball is as likely
        return self.rho[self.space] * radius * direction

    def _random(self, like: Tensor, draw: Callable[[tuple[int, ...]], np.ndarray]) -> Tensor:
        return torch.as_tensor(draw(tuple(like.shape)), dtype=like.dtype, device=like.device)

    def step(self, shift: Tensor, gradient: Tensor) -> Tensor:
        """The shift ``[B, 3]`` after one of the steps, along the gradient ``[B, 3]`` of the loss."""
        rho = self.rho[self.space]
        if self.steps == 1 and not self.random_start:
            return scaled_to(gradient, rho, shift)
        length = rho if self.steps == 1 else rho * 2.5 / self.steps
        moved = shift + scaled_to(gradient, length, torch.zeros_like(shift))
        outside = moved.norm(dim=1, keepdim=True) > rho
        return torch.where(outside, scaled_to(moved, rho, moved), moved)

    def __call__(self, loss: Callable[[Tensor], Tensor], like: Tensor, gradient_at_0: Tensor | None = None) -> Tensor:
        """Search in the space that was drawn.

        Args:
            loss: of the shifts ``[B, 3]``, a scalar. Gradients are taken with respect to the shifts alone: none is left
                in a network's parameters.
            like: ``[B, 3]`` of the type and device of the result.
            gradient_at_0: ``[B, 3]``, where it is known, for a search that begins there.

        Returns:
            shifts ``[B, 3]`` without a graph.
        """
        shift = self.start(like)
        known = None if self.random_start else gradient_at_0
        for _ in range(self.steps):
            shift, known = self.step(shift, self._gradient(loss, shift) if known is None else known), None
        return shift

    @staticmethod
    def _gradient(loss: Callable[[Tensor], Tensor], shift: Tensor) -> Tensor:
        """Of the loss with respect to the shifts alone."""
        with torch.enable_grad():
            free = shift.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(loss(free), free)
        return gradient


def scaled_to(vectors: Tensor, length: float, otherwise: Tensor) -> Tensor:
    """Rows ``[B, 3]`` scaled to a length; the rows of ``otherwise`` for those that are 0 or not finite."""
    # Divided by the largest element first: squares of small gradients would vanish, of scaled ones overflow.
    largest = vectors.abs().amax(1, keepdim=True)
    usable = torch.isfinite(largest) & (largest > 0)
    vectors = torch.where(usable, vectors / torch.where(usable, largest, 1.0), 1.0)
    return torch.where(usable, length * vectors / vectors.norm(dim=1, keepdim=True), otherwise)
