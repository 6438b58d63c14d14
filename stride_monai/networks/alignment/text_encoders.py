"""Text encoders for descriptions: any encoder of Hugging Face, or a learnable table where none can be had.

The texts are always the same few, so they are cut into tokens once, and all of them are encoded in one pass per step.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stride_monai.bethesda import DESCRIPTION_VOCABULARY
from stride_monai.errors import BundleError, ConfigError, MissingExtraError

__all__ = ["TABLE", "HuggingFaceText", "TextEncoder", "TextTable", "text_encoder"]

TABLE = "table"
"""Name of the embedding table in configurations."""


class TextEncoder(nn.Module):
    """Features of the texts of a vocabulary.

    Attributes:
        dim: length of a text's features.
    """

    dim: int

    def forward(self) -> Tensor:
        """Features ``[N, dim]`` of the vocabulary."""
        raise NotImplementedError

    def embed(self, texts: Sequence[str]) -> Tensor:
        """Features ``[n, dim]`` of any texts.

        Raises:
            ConfigError: the encoder knows the vocabulary only.
        """
        raise NotImplementedError


def text_encoder(
    name: str, download: bool = False, table_dim: int = 256, texts: Sequence[str] = DESCRIPTION_VOCABULARY
) -> TextEncoder:
    """The text encoder of that name.

    Args:
        name: ``table``, the name of a Hugging Face model, or a local folder with one.
        download: allow the network, to fetch the model of that name.
        table_dim: length of the features of a table.
        texts: the vocabulary.

    Raises:
        BundleError: the model is not there.
        MissingExtraError: the extra ``text`` is not installed.
    """
    return TextTable(table_dim, texts) if name == TABLE else HuggingFaceText(name, download, texts)


class TextTable(TextEncoder):
    """One learnable vector for each text: no language, no weights to fetch.

    Args:
        dim: length of the vectors. They start small (standard deviation 0.02), so that their direction is soon learnt.
        texts: the vocabulary.
    """

    def __init__(self, dim: int = 256, texts: Sequence[str] = DESCRIPTION_VOCABULARY) -> None:
        super().__init__()
        self.dim, self.texts = dim, tuple(texts)
        self.table = nn.Embedding(len(self.texts), dim)
        nn.init.normal_(self.table.weight, std=0.02)

    def forward(self) -> Tensor:
        return self.table.weight

    def embed(self, texts: Sequence[str]) -> Tensor:
        unknown = [text for text in texts if text not in self.texts]
        if unknown:
            raise ConfigError(
                f"an embedding table knows no text '{unknown[0]}'",
                "train with a text encoder that reads (text_encoder), or choose a text of the vocabulary",
            )
        return self.table.weight[[self.texts.index(text) for text in texts]]


class HuggingFaceText(TextEncoder):
    """A text encoder of Hugging Face; the text's feature is the last hidden state of its first token.

    Nothing is fetched from the network unless ``download`` says so. Code that a model brings along is never run.

    Args:
        name: of a model, e.g. ``FacebookAI/roberta-base``, or a local folder that ``save_pretrained`` wrote, with its
            tokenizer.
        download: allow the network.
        texts: the vocabulary.

    Raises:
        MissingExtraError: the extra ``text`` is not installed.
        BundleError: the model is not there, and nothing may be fetched; or it is damaged, or no text encoder.
    """

    input_ids: Tensor
    attention_mask: Tensor

    def __init__(
        self,
        name: str = "FacebookAI/roberta-base",
        download: bool = False,
        texts: Sequence[str] = DESCRIPTION_VOCABULARY,
    ) -> None:
        super().__init__()
        self._tokenizer, self.model = _pretrained(name, download)
        self.dim = int(self.model.config.hidden_size)
        # A pooler that nothing reads would get no gradient, and data parallelism would wait for it.
        if (pooler := getattr(self.model, "pooler", None)) is not None:
            pooler.requires_grad_(False)
        tokens = self._tokens(texts)
        self.register_buffer("input_ids", tokens["input_ids"], persistent=False)
        self.register_buffer("attention_mask", tokens["attention_mask"], persistent=False)

    def _tokens(self, texts: Sequence[str]) -> dict[str, Tensor]:
        tokens = self._tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
        return {name: tokens[name] for name in ("input_ids", "attention_mask")}

    def forward(self) -> Tensor:
        return self._encode(self.input_ids, self.attention_mask)

    def embed(self, texts: Sequence[str]) -> Tensor:
        return self._encode(*(value.to(self.input_ids.device) for value in self._tokens(texts).values()))

    def _encode(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        hidden: Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return hidden[:, 0]


def _pretrained(name: str, download: bool) -> tuple[Any, Any]:
    """Tokenizer and model."""
    try:
        from transformers import AutoModel, AutoTokenizer
    except ImportError as error:
        raise MissingExtraError("transformers", "text", f"the text encoder '{name}'") from error
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, local_files_only=not download)
        model = AutoModel.from_pretrained(name, local_files_only=not download, dtype=torch.float32)
    except (OSError, ValueError, ImportError) as error:  # what the library raises for a model that it cannot have
        raise BundleError(
            _why(name, download, error),
            "--text_encoder FOLDER takes a model that is on disk (with its tokenizer), --download True fetches the "
            "model of that name from the Hugging Face hub, --text_encoder table does without",
        ) from error
    return tokenizer, model


def _why(name: str, download: bool, error: Exception) -> str:
    reason = str(error).strip().partition("\n")[0][:160]
    if Path(name).is_dir():
        return f"the text encoder in the folder {Path(name).absolute()} cannot be read ({reason})"
    if download:
        return f"the text encoder '{name}' cannot be fetched ({reason})"
    return f"the text encoder '{name}' is not on this machine, and nothing is fetched unasked"
