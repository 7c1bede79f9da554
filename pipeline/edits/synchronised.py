"""Batch norm over the global batch when several processes each hold a share of it.

    m = sum over processes of sum x / n,   v = sum over processes of sum (x - m)^2 / n

Gradients flow back through both sums, so that training is the same as in one process. torch's own
SyncBatchNorm runs on CUDA alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, fx, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.modules.batchnorm import _BatchNorm

from pipeline.edits.processes import together, world
from pipeline.edits.tracing import BATCH_NORM
from runtimes.errors import InputError


def batch_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor,
    running_var: Tensor,
    training: bool,
    momentum: float,
    eps: float,
    cudnn: bool,
) -> Tensor:
    """As aten.batch_norm, with the statistics of all processes; their shares are equally large."""
    if not training:
        return BATCH_NORM(
            x, weight, bias, running_mean, running_var, training, momentum, eps, cudnn
        )
    axes = [axis for axis in range(x.dim()) if axis != 1]
    shape = [1, -1, *[1] * (x.dim() - 2)]
    count = x.numel() // x.shape[1] * world()
    mean = all_reduce(x.sum(axes)) / count
    centred = x - mean.view(shape)
    variance = all_reduce(centred.square().sum(axes)) / count
    with torch.no_grad():
        running_mean.lerp_(mean, momentum)
        running_var.lerp_(variance * count / (count - 1), momentum)
    y = centred * (variance + eps).rsqrt().view(shape)
    y = y if weight is None else y * weight.view(shape)
    return y if bias is None else y + bias.view(shape)


@contextmanager
def synchronised(model: nn.Module) -> Iterator[None]:
    """Inside, a traced model's batch norms see the global batch; alone nothing changes."""
    if not together():
        yield
        return
    if not isinstance(model, fx.GraphModule):
        if any(isinstance(module, _BatchNorm) for module in model.modules()):
            raise InputError(
                "under torchrun a network is fine-tuned once it is traced; train the dense one in "
                "one process first"
            )
        yield
        return
    norms = [node for node in model.graph.nodes if node.target is BATCH_NORM]
    for node in norms:
        node.target = batch_norm
    model.recompile()
    try:
        yield
    finally:
        for node in norms:
            node.target = BATCH_NORM
        model.recompile()
