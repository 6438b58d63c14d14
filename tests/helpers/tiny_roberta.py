"""A text encoder small enough for tests."""

from __future__ import annotations

from pathlib import Path

import torch

from stride_monai.bethesda import DESCRIPTION_VOCABULARY


def write_roberta(folder: Path) -> Path:
    """A RoBERTa of random weights and a tokenizer, as ``save_pretrained`` writes them."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, RobertaConfig, RobertaModel

    words = sorted({word for text in DESCRIPTION_VOCABULARY for word in text.split()})
    vocabulary = {word: place for place, word in enumerate(["<s>", "<pad>", "</s>", "<unk>", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = RobertaConfig(
        vocab_size=len(vocabulary), max_position_embeddings=40, pad_token_id=1, bos_token_id=0, eos_token_id=2, **sizes
    )
    RobertaModel(config).save_pretrained(folder)
    return folder
