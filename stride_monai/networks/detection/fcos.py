"""An anchor-free detector made of permissively licensed parts, for sites that cannot take AGPL code.

A timm encoder (Apache-2.0), torchvision's feature pyramid and losses (BSD-3), and two small convolutional towers. As in
FCOS (https://arxiv.org/abs/1904.01355) every place of every level predicts a probability and the distances from it to
the four sides of a box; there are no anchor boxes. Which places learn which cell is decided by task alignment
(:func:`aligned`, TOOD, https://arxiv.org/abs/2108.07755) in place of FCOS's size ranges and centre-ness.

It is cut to cells of 10 to 100 um in tiles of 1.0 um/px: levels of stride 8 and 16 px and no coarser ones; the image is
never resized. No layer looks at more than one image: where a batch would be normalised, groups of channels are, or
nothing is, the statistics of pretrained weights being folded into the convolutions. So what is found on a tile does not
depend on its neighbours, and several processes train as one.
"""

import copy
import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import timm
import torch
from ignite import distributed as idist
from timm.data import resolve_model_data_config
from timm.layers import BatchNormAct2d, GroupNormAct
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torchvision.ops import Conv2dNormActivation, FeaturePyramidNetwork, box_iou, complete_box_iou_loss

from stride_monai.errors import ConfigError, check_name
from stride_monai.networks.detection.detector import BoxDetector
from stride_monai.networks.exporting import compiled, is_scripting, is_tracing, unit_range
from stride_monai.networks.imagenet import load_imagenet

__all__ = ["Aligned", "FcosDetector", "aligned", "decoded", "places"]

GAINS = {"cls": 0.5, "box": 7.5}
"""Weights of the parts of the loss: those that task-aligned detectors are commonly trained with."""
_GROUP = 8  # channels that are normalised together
_PRIOR = 0.01  # probability of a cell that every place starts from


class FcosDetector(BoxDetector):
    """A one-class cell detector with the interface of :class:`~stride_monai.networks.YoloDetector`.

    Args:
        backbone: a timm model that gives feature maps of the strides.
        strides: px per place of the levels.
        width: channels of pyramid and towers, a multiple of 8.
        depth: convolutions of each tower.
        channels_last: keep weights and activations in channels-last order, faster on CPU and, with mixed precision, on
            GPU. Changes no value that is saved.
        pretrained: what the backbone starts from: False or "" for random weights; True or "timm" for timm's (needs a
            network connection the first time); "imagenet" for those of a package
            (:func:`~stride_monai.networks.imagenet_models`, extra ``imagenet``).
        norm: what becomes of the backbone's batch norms. "group": group norms. "folded": with their running statistics
            they are fixed affine maps, which become part of the convolutions before them; those are trained on, and
            the network is half again as fast. None is "folded" where the backbone is pretrained; a network that takes
            weights that were trained so is made with "folded". Colors are normalised by mean and standard deviation of
            timm's data configuration then, else to -2..2.
        kwargs: further arguments of ``timm.create_model``.

    Shapes:
        image [B, 3, H, W], float 0-1 or uint8 0-255, H and W multiples of the coarsest stride. Output [B, 5, A]:
        for each of the A places of all levels the box (x0, y0, x1, y1 in px) and the probability of a cell.

    The loss is binary cross-entropy of every place against its alignment with the cell that it is to find (``cls``),
    and one minus the complete IoU (https://arxiv.org/abs/1911.08287) of the places that have one, weighted by that
    alignment (``box``); both divided by the sum of all alignments of the batch.

    Raises:
        ConfigError: timm has no such model, or it has no feature map of a stride; ``pretrained`` or ``norm`` is
            unknown.
        MissingExtraError: the package of the ImageNet weights is not installed.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: str = "mobilenetv4_conv_small",
        strides: Sequence[int] = (8, 16),
        width: int = 64,
        depth: int = 2,
        channels_last: bool = True,
        pretrained: bool | str = False,
        norm: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        self.strides = list(strides)
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.backbone = _features(backbone, self.strides, pretrained, **kwargs)
        norm = norm or ("folded" if pretrained else "group")
        known = resolve_model_data_config(self.backbone) if norm == "folded" else {}
        for part, plain in (("mean", 0.5), ("std", 0.25)):  # constants, not state
            value = torch.tensor(known.get(part, plain)).view(-1, 1, 1)
            self.register_buffer(part, value, persistent=False)
        _replace_batch_norm(self.backbone, norm)
        groups = partial(nn.GroupNorm, width // _GROUP)
        self.pyramid = FeaturePyramidNetwork(self.backbone.feature_info.channels(), width, norm_layer=groups)
        self.score_tower, self.box_tower = (_tower(width, depth, groups) for _ in range(2))
        self.score = _output(width, 1, -math.log(1 / _PRIOR - 1))
        self.sides = _output(width, 4, 1.0)  # boxes start at 2.6 strides across, the size of a small cell
        self.to(memory_format=self.memory_format)

    def forward(self, image: Tensor, boxes: Sequence[Tensor] | None = None) -> Tensor | dict[str, Tensor]:
        if boxes is None:
            return self._found(image)
        return self._loss(*self._predict(image), boxes)

    def __prepare_scriptable__(self) -> nn.Module:
        """What ``torch.jit.script`` compiles: the same modules without the loss."""
        script = copy.copy(self)
        script._modules = dict(self._modules)
        script.__class__ = _Predictions
        return script

    def _predict(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes [B, A, 4] xyxy in px, logits [B, A] and places [A, 2] of all levels."""
        image = unit_range(image, self.score.weight)
        if not is_scripting():
            image = image.contiguous(memory_format=self.memory_format)
        levels: dict[str, Tensor] = {}
        maps = self.backbone((image - self.mean) / self.std)
        if is_scripting():  # timm's feature networks may give more, as their source has it
            assert torch.jit.isinstance(maps, list[Tensor])  # type: ignore[no-untyped-call]
        for k, level in enumerate(maps):
            levels[str(k)] = level
        found: list[Tensor] = []
        logits: list[Tensor] = []
        points: list[Tensor] = []
        for k, level in enumerate(self.pyramid(levels).values()):
            stride = self.strides[k]
            centre = places(level, stride)
            sides = functional.softplus(self.sides(self.box_tower(level)).float()) * stride
            found.append(decoded(sides.flatten(2).transpose(1, 2), centre))
            logits.append(self.score(self.score_tower(level)).float().flatten(1))
            points.append(centre)
        return torch.cat(found, 1), torch.cat(logits, 1), torch.cat(points)

    def _found(self, image: Tensor) -> Tensor:
        found, logits, _ = self._predict(image)
        return torch.cat((found, logits.sigmoid().unsqueeze(2)), 2).transpose(1, 2)

    def _loss(self, found: Tensor, logits: Tensor, points: Tensor, boxes: Sequence[Tensor]) -> dict[str, Tensor]:
        if len(boxes) != len(found):
            raise ValueError(f"{len(found)} images but {len(boxes)} sets of boxes")
        cls = box = found.sum() * 0  # keeps every parameter in the graph where the batch holds no cell
        own = found.new_tensor([0.0, len(boxes)])
        for boxes_found, logit, true in zip(found, logits, boxes, strict=True):
            truth = true.reshape(-1, 4).to(boxes_found)
            target = aligned(boxes_found.detach(), logit.detach().sigmoid(), points, truth)
            cls = cls + functional.binary_cross_entropy_with_logits(logit, target.alignment, reduction="sum")
            has = target.alignment > 0
            losses = complete_box_iou_loss(boxes_found[has], truth[target.cell[has]])
            box = box + (losses * target.alignment[has]).sum()
            own[0] += target.alignment.sum()
        total, images = idist.all_reduce(own) if idist.get_world_size() > 1 else own
        cls, box = (GAINS[name] * part / total.clamp(min=1) for name, part in (("cls", cls), ("box", box)))
        return {"loss": (cls + box) * images, "cls": cls.detach(), "box": box.detach()}


class _Predictions(FcosDetector):
    """An :class:`FcosDetector` that only predicts: what of it can be compiled."""

    def forward(self, image: Tensor) -> Tensor:  # type: ignore[override]
        return self._found(image)


class Aligned(NamedTuple):
    """What each of the A places of an image is to learn.

    ``alignment`` [A]: the probability to give, 0-1, 0 where there is no cell. ``cell`` [A]: the number of the cell
    there; of no meaning where the alignment is 0.
    """

    alignment: Tensor
    cell: Tensor


def aligned(
    boxes: Tensor, scores: Tensor, points: Tensor, truth: Tensor, topk: int = 10, alpha: float = 0.5, beta: float = 6.0
) -> Aligned:
    """Task-aligned assignment (TOOD, section 3.2; alpha and topk as commonly used with one class).

    How well a place suits a cell is ``t = score^alpha * iou^beta``; the ``topk`` best places inside a cell are the
    cell's, and a place that several cells claim goes to the one that it overlaps most. The probability to learn is
    ``t``, scaled for each cell such that its best place gets the cell's best IoU.

    Args:
        boxes: [A, 4] predicted, xyxy.
        scores: [A] predicted probabilities.
        points: [A, 2] x and y of the places.
        truth: [n, 4] cells, xyxy; n may be 0.
    """
    nothing = torch.zeros_like(scores)
    if not len(truth):
        return Aligned(nothing, torch.zeros_like(scores, dtype=torch.long))
    iou = box_iou(truth, boxes)
    inside = torch.cat((points - truth[:, None, :2], truth[:, None, 2:] - points), 2).amin(2) > 0
    suits = scores**alpha * iou**beta * inside
    best = torch.zeros_like(inside).scatter_(1, suits.topk(min(topk, len(points)), 1).indices, True)
    claims = best & (suits > 0)
    owner = torch.where(claims, iou, -torch.ones_like(iou)).argmax(0)
    claims &= functional.one_hot(owner, len(truth)).T.bool()
    suits, iou = suits * claims, iou * claims
    scaled = suits / suits.amax(1, keepdim=True).clamp(min=1e-12) * iou.amax(1, keepdim=True)
    return Aligned(scaled.amax(0), owner)


def places(level: Tensor, stride: int) -> Tensor:
    """The middles [H * W, 2], x and y in px, of the places of a feature map [B, C, H, W], row by row."""
    if not is_scripting() and is_tracing():  # else the trace would keep the device of its example
        middles: Tensor = compiled(places)(level, stride)
        return middles
    # No cumulative sum: OpenVINO on several threads gives another one now and then (2026.4.1).
    x, y = [
        (torch.arange(side, device=level.device).float() + 0.5) * stride for side in (level.shape[3], level.shape[2])
    ]
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    return torch.stack((columns.flatten(), rows.flatten()), 1)


def decoded(sides: Tensor, points: Tensor) -> Tensor:
    """Boxes [..., A, 4], xyxy, from the distances [..., A, 4] of places [A, 2] to the left, top, right and bottom."""
    return torch.cat((points - sides[..., :2], points + sides[..., 2:]), -1)


def _tower(width: int, depth: int, norm: Any) -> nn.Sequential:
    return nn.Sequential(
        *(Conv2dNormActivation(width, width, 3, norm_layer=norm, activation_layer=nn.SiLU) for _ in range(depth))
    )


def _output(width: int, channels: int, bias: float) -> nn.Conv2d:
    """A convolution that gives about ``bias`` everywhere at the start."""
    layer = nn.Conv2d(width, channels, 1)
    nn.init.normal_(layer.weight, std=0.01)
    layer.bias = nn.Parameter(torch.full((channels,), bias))
    return layer


def _features(name: str, strides: Sequence[int], pretrained: bool | str, **kwargs: Any) -> Any:
    """A timm model that gives a feature map of each stride, without the layers above the coarsest."""
    if not timm.is_model(name):
        check_name("model of timm", name, timm.list_models())
    from_hub = pretrained is True or pretrained == "timm"
    if pretrained and not from_hub:
        check_name("pretrained weights of a detector", str(pretrained), ("imagenet", "timm"))
    if name.startswith("tf_"):  # TensorFlow's padding copies each map that is halved: a third of the time
        kwargs.setdefault("pad_type", "")
    # "getter" is the kind of feature network that drops the layers above the coarsest map.
    create = partial(timm.create_model, name, features_only=True, feature_cls="getter", **kwargs)
    with torch.device("meta"):  # only to ask which strides there are
        known = create().feature_info.reduction()
    if missing := [stride for stride in strides if stride not in known]:
        raise ConfigError(f"{name} has no feature map of stride {missing[0]}", f"it has {known}")
    network = create(out_indices=[known.index(stride) for stride in strides], pretrained=from_hub)
    if pretrained == "imagenet":
        load_imagenet(network.model, name)
    return network


def _replace_batch_norm(network: nn.Module, by: str) -> None:
    """Put group norms in the place of every batch norm, or nothing but its activation once it is folded away.

    Raises:
        ConfigError: a batch norm does not follow a convolution, so it cannot be folded into one.
    """
    check_name("norm of a detector", by, ("group", "folded"))
    before: nn.Module | None = None  # the layer before, as the network was written down
    for name, layer in list(network.named_modules()):
        if isinstance(layer, nn.BatchNorm2d):
            if by == "folded" and (not isinstance(before, nn.Conv2d) or before.out_channels != layer.num_features):
                raise ConfigError("this backbone's batch norms do not follow convolutions", "use norm=group")
            parent, _, own = name.rpartition(".")
            setattr(network.get_submodule(parent), own, _group_norm(layer) if by == "group" else _fold(layer, before))
        elif next(layer.children(), None) is None:
            before = layer


def _group_norm(norm: nn.BatchNorm2d) -> nn.Module:
    groups: nn.Module = GroupNormAct(norm.num_features, group_size=math.gcd(_GROUP, norm.num_features), apply_act=False)
    if isinstance(norm, BatchNormAct2d):
        groups.act, groups.drop = norm.act, norm.drop
    return groups


def _fold(norm: nn.BatchNorm2d, convolution: Any) -> nn.Module:
    """Make what a batch norm is in evaluation mode a part of the convolution before it; gives its activation."""
    statistics: Any = (norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias)
    convolution.weight, bias = fuse_conv_bn_weights(convolution.weight, convolution.bias, *statistics)
    convolution.bias = nn.Parameter(bias.data)  # trained, where there was none, too
    return nn.Sequential(norm.drop, norm.act) if isinstance(norm, BatchNormAct2d) else nn.Identity()
