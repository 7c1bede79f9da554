"""Several processes as one: sums over all of them, and each one's share of the data.

Under `torchrun` every process works on its share of each global batch; alone, everything here does
nothing. gloo on CPU, nccl on CUDA.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, distributed


@contextmanager
def process_group() -> Iterator[None]:
    """Join the processes that torchrun started, if it did, and leave them at the end."""
    if "TORCHELASTIC_RUN_ID" not in os.environ or distributed.is_initialized():
        yield
        return
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
    finally:
        distributed.destroy_process_group()


def together() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def rank() -> int:
    return distributed.get_rank() if together() else 0


def local_rank() -> int:
    """Which of this machine's devices is this process's."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def world() -> int:
    return distributed.get_world_size() if together() else 1


def share(batch: Tensor) -> Tensor:
    """This process's part of a batch, along the first axis; the parts differ by one at most."""
    return batch.tensor_split(world())[rank()]


def sum_over_processes(x: Tensor) -> Tensor:
    """In place: every process gets the sum."""
    if together():
        distributed.all_reduce(x)
    return x


def total_over_processes(count: int) -> int:
    return int(sum_over_processes(torch.tensor(count, dtype=torch.int64))) if together() else count
