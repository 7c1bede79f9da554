"""Text as one tensor (n, 2, length) of int64: the tokens' ids, and 1 where there is a token.

One tensor, so that text is split, shuffled, hashed and shared among processes by the code that does
it for images. A network takes the two rows apart, as `input_ids` and `attention_mask`; columns that
are padding in the whole batch are left out on the way, which changes no output and saves time.
"""

from __future__ import annotations

from torch import Tensor

NAMES = ("input_ids", "attention_mask")


def is_text(batch: Tensor) -> bool:
    """Images are floats."""
    return not batch.is_floating_point()


def arguments(batch: Tensor) -> tuple[Tensor, ...]:
    """What a network is called with: images as they are, or ids and mask, each (n, length)."""
    if not is_text(batch):
        return (batch,)
    used = int(batch[:, 1].any(0).nonzero().max()) + 1
    ids, mask = batch[:, :, :used].unbind(1)
    return ids, mask


def attention_mask(batch: Tensor) -> Tensor | None:
    """(n, length) as the network gets it; None where nothing is padded."""
    return arguments(batch)[1] if is_text(batch) else None
