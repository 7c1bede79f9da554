"""The precisions of a recipe."""

from typing import Annotated

from pydantic import Field

from runtimes.base import Precision

Precisions = Annotated[
    tuple[Precision, ...],
    Field(
        strict=False,
        description="what the dense and the chosen network are delivered in, each verified and "
        "measured: fp32 always, and beside it fp16, or int8 calibrated on the calibration images",
    ),
]
