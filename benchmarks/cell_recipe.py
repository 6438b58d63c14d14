"""From trainings of the cell classifier to the one that ships: the mean of their weights, its row of NILM fitted anew.

    python benchmarks/cell_recipe.py COHORT OUT WEIGHTS...

COHORT is the folder `joined` that `train_weights.py` makes, WEIGHTS are cell classifiers that were trained from the
same weights, OUT is what is written.

The last layer's row of NILM is fitted on frozen features of all labelled cells, organisms among them. The encoder and
the rows of the lesions stay as they are, and with them the order of the lesions among each other, slide heads and
descriptions: only how likely a cell is no lesion changes. A short training cannot learn what organisms look like from
the few that a batch holds; the fit sees every cell, and is convex.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from record import make_parser
from torch import Tensor
from torch.nn import functional

from stride_monai.bethesda import CELL_CLASSES, NEGATIVE
from stride_monai.data import cell_crops
from stride_monai.data.datasets.sampling import draw_weights
from stride_monai.files import replacing
from stride_monai.networks.encoders.cell_encoder import CellClassifier
from stride_monai.networks.weights import load_into, load_weights
from stride_monai.transforms import LoadCellCropd
from stride_monai.workflows.locate import bundle_root

TINY = json.loads((bundle_root("cell_cls") / "configs" / "tiny.json").read_text())
ENCODER: str = TINY["encoder_name"]
SHARES = {"cric": 0.3, "infected": 0.15}
"""Those of the training (0.25 and 0.12 in `train_weights.py`) among what is left without the mined boxes of Mendeley
LBC, a fifth of its cells, which are not in `joined`."""
BALANCE = 0.7
STRENGTH = 0.03
"""Of the penalty on the squared distance from the trained row, in units of the features' standard deviations."""


def mean_weights(states: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The uniform mean of networks trained from the same weights, a "model soup" (https://arxiv.org/abs/2203.05482).

    Sums are taken in double precision. Counters have to agree: with frozen batch normalisation none has moved.
    """
    for name, first in states[0].items():
        if not first.is_floating_point() and not all(torch.equal(state[name], first) for state in states):
            raise ValueError(f"{name} differs, and of counters there is no mean")
    return {
        name: torch.stack([state[name].double() for state in states]).mean(0).to(first.dtype)
        for name, first in states[0].items()
    }


def mean_of(members: Sequence[Path], out: Path, start: Path | None = None, kept: float = 0.0) -> Path:
    """:func:`mean_weights` of files, as a file, with a share of what they started from, 0-1; what stands there is kept.

    What is learnt of a new domain and what is known of the old one both hold between the two (Wortsman et al., Robust
    fine-tuning of zero-shot models, CVPR 2022).
    """
    if not out.exists():
        mean = mean_weights([load_weights(member)[0] for member in members])
        if start is not None:
            first = load_weights(start)[0]
            moved = {name: value.lerp(first[name], kept) for name, value in mean.items() if value.is_floating_point()}
            mean |= moved
        save(mean, out)
    return out


def cell_start(file: Path) -> Path:
    """What every training begins with: ImageNet's encoder, and one and the same new last layer, without which means of
    weights would be of unlike networks."""
    if not file.exists():
        torch.manual_seed(0)
        save(CellClassifier(ENCODER, pretrained="imagenet").state_dict(), file)
    return file


def save(state: dict[str, Tensor], file: Path) -> None:
    with replacing(file) as temporary:
        torch.save(state, temporary)


@torch.no_grad()
def features(network: CellClassifier, items: Sequence[dict[str, Any]]) -> Tensor:
    """What the encoder says of cells as they are ``[N, D]``, float64."""
    size = {name: TINY[name] for name in ("crop_px", "crop_mpp")}
    load = LoadCellCropd(keys="image", own_background=True, **size)
    parts = []
    for start in range(0, len(items), 64):
        images = [torch.as_tensor(load(dict(item))["image"]) for item in items[start : start + 64]]
        parts.append(network.encode(torch.stack(images)).double())
    return torch.cat(parts)


@torch.no_grad()
def as_shipped(encoder: torch.nn.Module) -> None:
    """Rounds weights to the 16 bits in which they ship, so that a fit sees the features that will be seen."""
    for value in encoder.state_dict().values():
        if value.is_floating_point():
            value.copy_(value.half())


def fitted(head: torch.nn.Linear, seen: Tensor, labels: Tensor, weights: Tensor) -> torch.nn.Linear:
    """The layer with the row of NILM that has the least cross-entropy plus penalty, a convex problem.

    Args:
        head: trained, of D features and the cell classes.
        seen: features ``[N, D]``.
        labels: places in CELL_CLASSES ``[N]``.
        weights: of each cell, together 1 ``[N]``.
    """
    row = CELL_CLASSES.index(NEGATIVE)
    mean = weights @ seen
    deviation = (weights @ (seen - mean) ** 2).sqrt() + 1e-6
    standard = (seen - mean) / deviation
    logits = functional.linear(seen, head.weight.detach().double(), head.bias.detach().double())
    change = torch.zeros(seen.shape[1] + 1, dtype=torch.float64, requires_grad=True)
    options: dict[str, Any] = {"max_iter": 200, "line_search_fn": "strong_wolfe", "tolerance_grad": 1e-7}
    optimizer = torch.optim.LBFGS([change], **options)
    chosen = functional.one_hot(torch.tensor(row), len(CELL_CLASSES)).double()

    def closure() -> Tensor:
        optimizer.zero_grad()
        moved = logits + (standard @ change[:-1] + change[-1])[:, None] * chosen
        loss = weights @ functional.cross_entropy(moved, labels, reduction="none")
        loss = loss + STRENGTH * (change[:-1] ** 2).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    step = change.detach()
    made = torch.nn.Linear(seen.shape[1], len(CELL_CLASSES))
    made.load_state_dict(head.state_dict())
    with torch.no_grad():
        made.weight[row] += (step[:-1] / deviation).to(made.weight.dtype)
        made.bias[row] += (step[-1] - step[:-1] @ (mean / deviation)).to(made.bias.dtype)
    return made


def fit(cohort: Path, weights: Path, out: Path) -> Path:
    """``weights`` with the row of NILM fitted on the cohort's training cells; what stands there is kept."""
    if not out.exists():
        network = CellClassifier(ENCODER).eval()
        load_into(network, weights)
        as_shipped(network.encoder)
        items = cell_crops(cohort, "train", random_negatives=0)
        labels = torch.tensor([item["label"] for item in items])
        shares = draw_weights(items, BALANCE, SHARES)
        assert shares is not None
        network.head = fitted(network.head, features(network, items), labels, shares)
        save(network.state_dict(), out)
    return out


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("cohort", type=Path, help="folder `joined` of train_weights.py")
    parser.add_argument("out", type=Path, help="file to write; left alone where it stands")
    parser.add_argument("weights", type=Path, nargs="+", help="cell classifiers, trained from the same weights")
    arguments = parser.parse_args()
    mean = mean_of(arguments.weights, arguments.out.with_suffix(".mean.pt"))
    print(fit(arguments.cohort, mean, arguments.out))


if __name__ == "__main__":
    main()
