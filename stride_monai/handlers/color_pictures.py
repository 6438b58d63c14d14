"""Pictures of ColorAdv: cells as they are and in adversarial colours, and how far that moves a laboratory's stain."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torch.utils.tensorboard import SummaryWriter

from stride_monai.bethesda import SLIDE_CLASSES
from stride_monai.evaluation.colors import ORIGINAL, AttackedSlide, chosen_slides, stain_figure, triplets_figure
from stride_monai.networks.mil.slide_classifier import SlideClassifier
from stride_monai.transforms.augmentation import ScaleUint8
from stride_monai.transforms.color_perturbation import SPACES, AdversarialColorPerturbation
from stride_monai.transforms.stain import density

__all__ = ["ColorPictures", "attacked", "stain_color"]

_scaled = ScaleUint8()
_STAINED_FROM = 0.05  # density; less is glass
SlideLoss = Callable[[Tensor, Tensor], Tensor]
Color = Callable[[Tensor], Tensor]  # from uint8 crops to float 0..1


def attacked(
    network: SlideClassifier,
    sample: Mapping[str, Any],
    centre: str = "",
    *,
    rho_rgb: float = 0.1,
    rho_hsv: float = 0.1,
    slide_loss: SlideLoss = functional.cross_entropy,
    cells: int = 3,
) -> AttackedSlide:
    """A slide and its adversarial colours of both spaces: ``rho * g / |g|`` of the slide's loss (equation 8).

    The network is taken in eval mode and in full precision and comes back as it was; its parameters get no gradient.
    The gradient runs through ``network.chunk`` cells at a time and is that of the whole bag.

    Args:
        network: a slide classifier; its encoder may be frozen.
        sample: a loaded bag: ``image`` uint8 ``[K, 3, S, S]``, ``mask`` ``[K]``, ``label``, and ``scores`` ``[K]`` for
            a slide head with ``score_input``.
        centre: the slide's laboratory.
        rho_rgb, rho_hsv: lengths of the shifts.
        slide_loss: of slide logits and labels.
        cells: so many of the first cells of the bag are shown.
    """
    device = next(network.parameters()).device
    mask = torch.as_tensor(sample["mask"], dtype=torch.bool)
    image = torch.as_tensor(sample["image"])[mask].to(device)
    scores = torch.as_tensor(sample["scores"])[mask][None].to(device) if "scores" in sample else None
    label = torch.tensor([int(sample["label"])], device=device)
    zero = torch.zeros(1, 3, device=device)
    colors: dict[str, Color] = {ORIGINAL: _scaled}
    shifts: dict[str, list[float]] = {}
    with _judging(network), torch.autocast(device.type, enabled=False):
        wanted = _feature_gradient(network, image, label, slide_loss, scores)
        for space in SPACES:
            attack = AdversarialColorPerturbation(space, rho_rgb, rho_hsv)
            shift = attack.step(zero, _shift_gradient(network, image, wanted, attack))[0]
            colors[space] = partial(_recolored, attack, shift)
            shifts[space] = shift.tolist()
        losses = {name: _loss(network, image, label, slide_loss, color, scores) for name, color in colors.items()}
    return AttackedSlide(
        centre,
        SLIDE_CLASSES[int(label)],
        {name: _pictures(color(image[:cells])) for name, color in colors.items()},
        {
            name: np.concatenate([stain_color(part, color(part)) for part in torch.split(image, network.chunk)])
            for name, color in colors.items()
        },
        losses,
        shifts,
    )


def _recolored(attack: AdversarialColorPerturbation, shift: Tensor, image: Tensor) -> Tensor:
    return attack.perturb(_scaled(image), shift)


@contextmanager
def _judging(network: SlideClassifier) -> Iterator[None]:
    """In eval mode, so that nothing is random and nothing is counted; afterwards as before."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _pictures(image: Tensor) -> NDArray[np.uint8]:
    pixels: NDArray[np.uint8] = (image * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return pixels


def _feature_gradient(
    network: SlideClassifier, image: Tensor, label: Tensor, slide_loss: SlideLoss, scores: Tensor | None
) -> Tensor:
    """Gradient ``[K, D]`` of the slide's loss with respect to the features of its cells."""
    with torch.enable_grad():
        free = _features(network, image, _scaled).requires_grad_()
        loss = slide_loss(network.judge(free[None], None, scores)[0], label)
        (gradient,) = torch.autograd.grad(loss, free)
    return gradient


def _shift_gradient(
    network: SlideClassifier, image: Tensor, wanted: Tensor, attack: AdversarialColorPerturbation
) -> Tensor:
    """Gradient ``[1, 3]`` of the loss with respect to a shift of nothing, part by part of the cells."""
    total = torch.zeros(1, 3, device=image.device)
    with torch.enable_grad():
        for part, slope in zip(torch.split(image, network.chunk), torch.split(wanted, network.chunk), strict=True):
            shift = torch.zeros(1, 3, device=image.device, requires_grad=True)
            features = network.encoder.encode(attack.perturb(_scaled(part)[None], shift)[0])
            total += torch.autograd.grad(features, shift, slope)[0]
    return total


@torch.no_grad()
def _features(network: SlideClassifier, image: Tensor, color: Color) -> Tensor:
    return torch.cat([network.encoder.encode(color(part)) for part in torch.split(image, network.chunk)])


@torch.no_grad()
def _loss(
    network: SlideClassifier,
    image: Tensor,
    label: Tensor,
    slide_loss: SlideLoss,
    color: Color,
    scores: Tensor | None,
) -> float:
    return float(slide_loss(network.judge(_features(network, image, color)[None], None, scores)[0], label))


def stain_color(original: Tensor, image: Tensor) -> NDArray[np.float32]:
    """Mean red, green and blue ``[n, 3]`` (0..1) of the stained pixels of each crop.

    Args:
        original: uint8 or float crops ``[n, 3, S, S]``, which say what pixels are stained: those that any channel sees
            darker than glass.
        image: float 0..1 of the same shape, whose colours are averaged.
    """
    stained = (density(_scaled(original)).amax(1, keepdim=True) > _STAINED_FROM).to(image.dtype)
    mean = (image * stained).sum((2, 3)) / stained.sum((2, 3)).clamp(min=1)
    colors: NDArray[np.float32] = mean.float().cpu().numpy()
    return colors


class ColorPictures:
    """Puts triplets of cells (original, RGB-adversarial, HSV-adversarial) and the stain of each centre in the three
    colours into TensorBoard, as ``adversarial_colors`` and ``stain``.

    Goes to a trainer and draws at the end of some epochs, the same slides each time: a few of a few centres. The
    gradient is that of the slide's own loss in both spaces, whatever the space of the last step, without the cells'
    pseudo-labels and without augmentation. Nothing that trains is touched: no parameter, gradient, mode or random
    number. Disable it on all processes but the first.

    Args:
        network: the slide classifier that is trained (not its data-parallel wrapper).
        dataset: loads bags; its ``data`` holds their ``slide_id`` and ``label``.
        centres: of each slide by slide id, see :func:`stride_monai.evaluation.chosen_slides`.
        summary_writer: None draws nothing.
        rho_rgb, rho_hsv: lengths of the shifts.
        slide_loss: of slide logits and labels; None for cross-entropy.
        times: so often in a run at most, evenly spaced, at the last epoch too; 0 for never.
        most_centres, slides_per_centre, cells: how much is shown.
    """

    def __init__(
        self,
        network: SlideClassifier,
        dataset: Any,
        centres: Mapping[str, str],
        summary_writer: SummaryWriter | None,
        rho_rgb: float = 0.1,
        rho_hsv: float = 0.1,
        slide_loss: SlideLoss | None = None,
        times: int = 10,
        most_centres: int = 4,
        slides_per_centre: int = 1,
        cells: int = 3,
    ) -> None:
        self.dataset, self.writer, self.times = dataset, summary_writer, times
        loss = slide_loss or functional.cross_entropy
        self._attacked = partial(attacked, network, rho_rgb=rho_rgb, rho_hsv=rho_hsv, slide_loss=loss, cells=cells)
        self._chosen = chosen_slides(dataset.data, centres, most_centres, slides_per_centre)

    def attach(self, engine: Engine) -> None:
        if self.writer is not None and self.times > 0:
            engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        epoch, last = int(engine.state.epoch), int(engine.state.max_epochs or 1)
        # The last epoch of each of so many equal parts of the run.
        if epoch * self.times // last == (epoch - 1) * self.times // last:
            return
        assert self.writer is not None
        slides = [self._attacked(self.dataset[k], centre) for k, centre in self._chosen]
        self.writer.add_figure("adversarial_colors", triplets_figure(slides), epoch)
        self.writer.add_figure("stain", stain_figure(slides), epoch)
