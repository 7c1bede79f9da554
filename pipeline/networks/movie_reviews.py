"""9,171 sentences of movie reviews, good or bad, as tokens.

People rated 10,605 snippets from -4 to 4 (Hutto and Gilbert, ICWSM 2014, after Pang and Lee 2005).
Those with a clear rating count, |rating| >= 1, and its sign is the label; of a snippet that is
there twice the first one, so that no split knows another's.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

CLEAR = 1.0
PAD = 0


def read(path: Path) -> tuple[list[str], np.ndarray]:
    """The snippets with a clear rating and their labels, 1 for a good one."""
    found: dict[str, int] = {}
    for line in path.read_text(encoding="latin-1").split("\n"):
        if not line:
            continue
        _, rating, snippet = line.rstrip("\r").split("\t")
        if abs(float(rating)) >= CLEAR:
            found.setdefault(snippet.strip(), int(float(rating) > 0))
    return list(found), np.array(list(found.values()))


def tokenised(snippets: list[str], tokenizer: Path, *, length: int) -> tuple[Tensor, int]:
    """(n, 2, length) of ids and mask, longer snippets cut; and the size of the vocabulary."""
    given = Tokenizer.from_file(str(tokenizer))
    given.enable_truncation(length)
    given.enable_padding(length=length, pad_id=PAD)
    encoded = given.encode_batch(snippets)
    rows = np.array([(one.ids, one.attention_mask) for one in encoded], dtype=np.int64)
    return torch.from_numpy(rows), given.get_vocab_size()
