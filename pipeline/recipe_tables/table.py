"""What every table of a recipe has in common."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches

from pydantic import BaseModel, ConfigDict


class Table(BaseModel):
    """The rules of every table: types are not converted, an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def known_criterion(known: list[str]) -> Callable[[str], str]:
    def check(criterion: str) -> str:
        if criterion not in known:
            near = get_close_matches(criterion, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"no such criterion; there are: {', '.join(known)}{hint}")
        return criterion

    return check
