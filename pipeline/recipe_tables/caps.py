"""The keys of a recipe's [plan] table that cap, pin and remove."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field

from pipeline.plans.demands import Demands


def _text(value: Any) -> Any:
    """A cap may be a bare number."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Amount = Annotated[str, BeforeValidator(_text)] | None
Ids = Annotated[tuple[str, ...], Field(strict=False)]


class CapKeys(BaseModel):
    max_macs: Amount = Field(
        default=None, description="most multiply-accumulates of the result: 300M, 0.6x of dense"
    )
    max_bytes: Amount = Field(default=None, description="most bytes of weights: 4MiB, 0.5x")
    max_peak_bytes: Amount = Field(
        default=None, description="most bytes of weights and values alive at once, an estimate"
    )
    max_operators: int | None = Field(
        default=None, ge=1, description="most convolutions and matrices of the result"
    )
    max_removed: int | None = Field(
        default=None, ge=0, description="most activations that may be removed"
    )
    pin: Ids = Field(default=(), description="sites or segments that stay as they are")
    remove: Ids = Field(default=(), description="sites or segments that must go")

    @property
    def demands(self) -> Demands:
        return Demands(
            max_macs=self.max_macs,
            max_bytes=self.max_bytes,
            max_peak_bytes=self.max_peak_bytes,
            max_operators=self.max_operators,
            max_removed=self.max_removed,
            pin=self.pin,
            remove=self.remove,
        )
