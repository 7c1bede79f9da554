"""torch -> ONNX, by the dynamo exporter; batch axis dynamic, and the length of a text."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from pipeline.networks.tokens import NAMES, arguments, is_text

OPSET = 20


def export(model: nn.Module, example: Tensor, path: Path) -> Path:
    """Write `model` in eval mode to `path`; `example` is (batch, ...) with batch >= 2.

    Initialisers keep the names of the parameters, and nodes the module paths they came from.
    """
    batch = torch.export.Dim("batch", min=1)
    inputs = arguments(example)
    text = is_text(example)
    axes = {0: "batch", 1: "length"} if text else {0: batch}
    with warnings.catch_warnings():
        # the exporter's own use of deprecated calls; nothing here a user could change
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            model.eval(),
            inputs,
            dynamo=True,
            dynamic_shapes=tuple(axes for _ in inputs),
            input_names=NAMES if text else None,
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None, "with dynamo=True the exporter returns a program"
    program.save(path)
    return path
