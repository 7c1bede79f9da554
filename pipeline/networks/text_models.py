"""Encoders of transformers with a classification head, as networks of `input_ids` and mask.

    logits = W mean over tokens of hidden + b

The mean over the tokens that are there is how the sentence embeddings of MiniLM were trained; the
head adds no activation, so that the sites are the encoder's own: one between the two matrices of
every layer's MLP.
"""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers import CONFIG_MAPPING, AutoConfig, AutoModel
from transformers.utils import logging

from runtimes.errors import InputError


class TextClassifier(nn.Module):
    """An encoder, the mean of its last hidden states, a linear layer."""

    def __init__(self, encoder: nn.Module, hidden: int, num_classes: int):
        super().__init__()
        self.encoder = encoder
        self.classifier = nn.Linear(hidden, num_classes)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        seen = attention_mask[:, None, None, :].bool()  # (n, heads, queries, keys)
        hidden = self.encoder(input_ids=input_ids, attention_mask=seen)[0]
        there = attention_mask.unsqueeze(-1).to(hidden.dtype)  # (n, length, 1)
        return self.classifier((hidden * there).sum(1) / there.sum(1))


def pretrained(*, num_classes: int, folder: Path) -> nn.Module:
    """The encoder of a folder as transformers saves it; the head is new."""
    logging.set_verbosity_error()  # its report of the pooling layer that is left out, and a bar
    logging.disable_progress_bar()
    encoder = AutoModel.from_pretrained(
        folder, local_files_only=True, add_pooling_layer=False, attn_implementation="sdpa"
    )
    return TextClassifier(encoder.float(), encoder.config.hidden_size, num_classes)


def from_config(name: str, *, num_classes: int, **options: Any) -> nn.Module:
    """A fresh encoder of transformers' type `name`, such as bert or roberta."""
    if name not in CONFIG_MAPPING:
        close = get_close_matches(name, list(CONFIG_MAPPING), n=3)
        hint = f" (did you mean {' or '.join(close)}?)" if close else ""
        raise InputError(f"transformers has no model type {name!r}{hint}; bert and roberta work")
    try:
        config = AutoConfig.for_model(name, **options)
        unknown = options.keys() - type(config)().to_dict().keys()
        if unknown:
            raise InputError(
                f"the configuration of transformers:{name} has no {', '.join(sorted(unknown))}"
            )
        encoder = AutoModel.from_config(config, add_pooling_layer=False, attn_implementation="sdpa")
    except (TypeError, ValueError, ImportError) as e:
        raise InputError(
            f"transformers:{name} with the options {options} is no encoder that shoal can use: {e}"
        ) from e
    return TextClassifier(encoder, config.hidden_size, num_classes)
