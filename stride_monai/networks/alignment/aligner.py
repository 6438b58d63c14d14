"""Cells aligned with the descriptions that explain them (METHOD section 7, equations 5 and 6, Algorithm 2)."""

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from stride_monai.bethesda import DESCRIPTION_VOCABULARY
from stride_monai.errors import BundleError
from stride_monai.networks.alignment.text_encoders import TextEncoder, TextTable
from stride_monai.networks.alignment.views import CellViews
from stride_monai.networks.encoders.cell_encoder import CellClassifier
from stride_monai.networks.exporting import is_scripting
from stride_monai.networks.weights import load_into

__all__ = ["AlignmentStudent", "DescriptionAligner", "TextBranch", "encoder_sha256", "load_start"]

_SHA256_BYTES = 32
_LEARNT_FROM = (10.0, -2.0)  # scale and bias


def encoder_sha256(encoder: CellClassifier) -> str:
    """SHA-256 over the names and the float32 bytes of the image encoder's tensors; the class head is left out.

    It names the features: two files that hold the same encoder, in a cell or in a slide classifier, have the same.
    """
    digest = hashlib.sha256()
    for name, value in sorted(encoder.encoder.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
    return digest.hexdigest()


class DescriptionAligner(nn.Module):
    """What screening needs of the alignment: one matrix product per cell, and no text encoder.

    The image projection, a fully connected layer, takes the features of a frozen image encoder into the space of the
    texts, whose projected features are stored. A text is kept for a cell if its cosine is greater than the threshold
    (equation 6). The threshold, the texts' features and the hash of the image encoder are buffers, so that any
    checkpoint has them.

    Args:
        feature_dim: D, length of the image encoder's features.
        dim: length of the common space.
        hidden_dim: ours: above 0 the image projection has a hidden layer of that size, for features that were learnt
            from few cells and do not hold the texts linearly. 0 is the paper's single layer.
        levels: ours: stages of the image encoder that are looked at besides its class features
            (:class:`~stride_monai.networks.CellViews`); ``feature_dim`` then counts theirs too. They are numbers of
            any size, so that with any level features are standardised by running mean and deviation. None is the
            paper's way.
        feature_dropout: ours: share of the standardised features that is left out at random in training, for features
            of which some say the class and with it too much.
        learn_scale: training learns ``logit = scale * cosine + bias`` (from 10 and -2: about two texts of fourteen
            apply). Without, the logit is the cosine, as in equation 5, whose sigmoid lies in 0.27 to 0.73. Either way
            the threshold is on the cosine, whose order is that of the logits.
        texts: the texts, in the order of the columns.

    Attributes:
        texts, levels: as given.
        threshold: float32 scalar on the cosine, -1 to 1; NaN until it is tuned.
        prevalence: float32 scalar, the share of lesions that the threshold was chosen for; NaN: that of the validation.
        text_features: ``[N, dim]``, of unit length; zeros until they are stored.
        encoder: uint8 ``[32]``, SHA-256 of the image encoder that it was trained on; zeros if not known.
    """

    threshold: Tensor
    prevalence: Tensor
    text_features: Tensor
    encoder: Tensor
    __jit_unused_properties__ = ("encoder_sha256",)

    def __init__(
        self,
        feature_dim: int,
        dim: int = 256,
        hidden_dim: int = 0,
        learn_scale: bool = False,
        texts: Sequence[str] = DESCRIPTION_VOCABULARY,
        levels: Sequence[int] = (),
        feature_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.texts, self.levels = tuple(texts), tuple(levels)
        self.standard = nn.BatchNorm1d(feature_dim, affine=False) if levels else nn.Identity()
        self.feature_dropout = nn.Dropout(feature_dropout)
        self.image_projection = nn.Linear(feature_dim, hidden_dim or dim)
        self.after_hidden = nn.Sequential(nn.GELU(), nn.Linear(hidden_dim, dim)) if hidden_dim else nn.Identity()
        # Always there, so that weights fit whether they are learnt or not.
        scale, bias = _LEARNT_FROM if learn_scale else (1.0, 0.0)
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)), requires_grad=learn_scale)
        self.bias = nn.Parameter(torch.tensor(bias), requires_grad=learn_scale)
        self.register_buffer("threshold", torch.tensor(math.nan))
        self.register_buffer("prevalence", torch.tensor(math.nan))
        self.register_buffer("text_features", torch.zeros(len(self.texts), dim))
        self.register_buffer("encoder", torch.zeros(_SHA256_BYTES, dtype=torch.uint8))

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        """Weights from before the prevalence was stored had none."""
        state_dict.setdefault(f"{prefix}prevalence", torch.tensor(math.nan))
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def cosines(self, features: Tensor, texts: Tensor) -> Tensor:
        """Cosines ``[B, N]`` of image features ``[B, D]`` with text features ``[N, dim]`` of any length."""
        image: Tensor = self.after_hidden(self.image_projection(self.feature_dropout(self.standard(features))))
        if is_scripting():  # which cannot leave mixed precision; only products of matrices are rounded there
            return (normalize(image.float(), dim=-1).unsqueeze(1) * normalize(texts.float(), dim=-1)).sum(-1)
        # In full precision: what a threshold on the cosine decides must not hang on 8 bits of a mantissa.
        with torch.autocast(image.device.type, enabled=False):
            wide = torch.float64 if image.dtype == torch.float64 else torch.float32
            return normalize(image.to(wide), dim=-1) @ normalize(texts.to(wide), dim=-1).mT

    def forward(self, features: Tensor) -> Tensor:
        """Cosines ``[B, N]`` of image features ``[B, D]`` with the stored texts, columns as in :attr:`texts`."""
        return self.cosines(features, self.text_features)

    def logits(self, cosines: Tensor) -> Tensor:
        """What the loss takes: ``scale * cosine + bias``; the cosines themselves unless the scale is learnt."""
        return cosines * self.log_scale.exp() + self.bias

    def keep(self, similarities: Tensor) -> Tensor:
        """Which texts apply: bool of the same shape, true where the cosine is greater than the threshold.

        Raises:
            BundleError: no threshold is stored.
        """
        self.stored_threshold()
        return similarities > self.threshold.to(similarities.dtype)

    def stored_threshold(self) -> float:
        """The threshold on the cosine.

        Raises:
            BundleError: none is stored.
        """
        threshold = float(self.threshold)
        if math.isnan(threshold):
            raise BundleError("the aligner has no threshold", "train text_align with validation cells, it sets one")
        return threshold

    def store_texts(self, features: Tensor) -> None:
        """Store the texts' projected features ``[N, dim]``, made of unit length."""
        self.text_features.copy_(normalize(features.detach().float(), dim=-1))

    def store_encoder(self, encoder: CellClassifier) -> None:
        """Store whose features these are."""
        self.encoder.copy_(torch.tensor(list(bytes.fromhex(encoder_sha256(encoder))), dtype=torch.uint8))

    @property
    def encoder_sha256(self) -> str:
        """:func:`encoder_sha256` of the image encoder that it was trained on; empty if not known."""
        return bytes(self.encoder.tolist()).hex() if bool(self.encoder.any()) else ""

    def check_encoder(self, encoder: CellClassifier) -> None:
        """Refuse the features of another image encoder than the one that it was trained on.

        Nothing is refused where that is not known.

        Raises:
            BundleError: it is another.
        """
        stored = self.encoder_sha256
        if stored and (given := encoder_sha256(encoder)) != stored:
            raise BundleError(
                f"the descriptions were aligned with the image encoder {stored[:12]}, not with {given[:12]}",
                "train text_align on the encoder that is in use (its init_weights), use the encoder that it was "
                "trained on, or go without descriptions",
            )


class TextBranch(nn.Module):
    """Text encoder and text projection: the texts in the common space.

    Args:
        encoder: see :mod:`stride_monai.networks.alignment.text_encoders`; ``encoder()`` gives ``[N, encoder.dim]``.
        dim: length of the common space.
        dropout: let the text encoder use its dropout in training. Without, as Algorithm 2 of the paper has it, it is in
            inference mode whatever ``train()`` says; it takes gradients and is trained either way.
    """

    def __init__(self, encoder: TextEncoder, dim: int = 256, dropout: bool = False) -> None:
        super().__init__()
        self.encoder = encoder
        self.projection = nn.Linear(encoder.dim, dim)
        self.dropout = dropout
        self.train()

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.encoder.train(mode and self.dropout)
        return self

    def forward(self) -> Tensor:
        """Features ``[N, dim]`` of the texts of the vocabulary, of any length."""
        features: Tensor = self.projection(self.encoder())
        return features

    @torch.no_grad()
    def start_at(self, features: Tensor) -> bool:
        """Make an embedding table give these features ``[N, dim]``; False where the texts are not such a table's, or no
        features were ever stored."""
        if not isinstance(self.encoder, TextTable) or not bool(features.any()):
            return False
        if self.encoder.table.weight.shape != features.shape:
            return False
        self.encoder.table.weight.copy_(features)
        nn.init.eye_(self.projection.weight)
        nn.init.zeros_(self.projection.bias)
        return True

    @torch.no_grad()
    def embed(self, texts: Sequence[str]) -> Tensor:
        """Features ``[n, dim]`` of other texts, of unit length, e.g. to find the nearest of the vocabulary.

        Raises:
            ConfigError: the text encoder knows only the texts of the vocabulary (an embedding table).
        """
        training = self.training
        self.eval()
        features = normalize(self.projection(self.encoder.embed(texts)).float(), dim=-1)
        self.train(training)
        return features


class AlignmentStudent(nn.Module):
    """What training trains: both projections and the text encoder, on the features of a frozen image encoder.

    The image encoder takes no gradient and stays in eval mode, whatever ``train()`` says.

    Args:
        aligner: the image side, and what screening will load.
        text_branch: the text side.
        encoder: the cell classifier whose features are aligned.
    """

    def __init__(self, aligner: DescriptionAligner, text_branch: TextBranch, encoder: CellClassifier) -> None:
        super().__init__()
        self.aligner = aligner
        self.text_branch = text_branch
        self.encoder = encoder.requires_grad_(False).eval()
        self._views = CellViews(encoder, aligner.levels)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.encoder.eval()
        return self

    def forward(self, cells: Tensor) -> Tensor:
        """Logits ``[B, N]``. The texts are encoded once, for the whole batch.

        Args:
            cells: features ``[B, D]`` of the image encoder and its levels, or crops ``[B, 3, H, W]`` (float 0..1 or
                uint8).
        """
        if cells.ndim == 4:
            with torch.no_grad():
                cells = self._views.encode(cells)
        return self.aligner.logits(self.aligner.cosines(cells, self.text_branch()))

    @torch.no_grad()
    def store(self) -> None:
        """Bring up to date what the aligner knows of the texts (in eval mode: the same each time) and the encoder."""
        training = self.training
        self.eval()
        self.aligner.store_texts(self.text_branch())
        self.aligner.store_encoder(self.encoder)
        self.train(training)


def load_start(aligner: DescriptionAligner, text_branch: TextBranch, start_from: Path | str) -> None:
    """Take up an earlier training's weights: its ``model.pt``, and the ``text_branch.pt`` beside it.

    Weights that were passed on have no ``text_branch.pt``: an embedding table then starts at the features of the texts
    that the aligner stored, which gives the same cosines.

    Args:
        start_from: the ``model.pt``, or the folder that holds both; empty for none.

    Raises:
        BundleError: a file is missing or does not fit.
    """
    if start_from:
        path = Path(start_from)
        model = path / "model.pt" if path.is_dir() else path
        load_into(aligner, model)
        branch = model.parent / "text_branch.pt"
        if branch.exists() or not text_branch.start_at(aligner.text_features):
            load_into(text_branch, branch)
