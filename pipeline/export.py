"""torch -> ONNX, by the dynamo exporter, batch axis dynamic."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

OPSET = 20


def export(model: nn.Module, example: Tensor, path: Path) -> Path:
    """Write `model` in eval mode to `path`; `example` is (batch, ...) with batch >= 2.

    Initialisers keep the names of the parameters, and nodes the module paths they came from.
    """
    batch = torch.export.Dim("batch", min=1)
    with warnings.catch_warnings():
        # the exporter's own use of deprecated calls; nothing here a user could change
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            model.eval(),
            (example,),
            dynamo=True,
            dynamic_shapes=({0: batch},),
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None, "with dynamo=True the exporter returns a program"
    program.save(path)
    return path
