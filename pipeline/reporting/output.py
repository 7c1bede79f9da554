"""Where a verb writes what it found: refused before minutes of measuring, whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from runtimes.errors import InputError


def check_out(out: Path | None, *read: Path | None) -> None:
    """A file name in a folder that can be written, or none; not that of a file that is `read`."""
    if out is None:
        return
    if out.is_dir() or not out.parent.is_dir() or not os.access(out.parent, os.W_OK):
        raise InputError(
            f"{out} cannot be written: give a file name in an existing folder that is writable"
        )
    for path in read:
        if path is not None and out.exists() and path.exists() and out.samefile(path):
            raise InputError(f"{out} is the input itself; give another name for the output")


def write_out(text: str, out: Path) -> None:
    """The whole file or nothing of it."""
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".shoal-") as folder:
        draft = Path(folder) / "draft"
        draft.write_text(text, encoding="utf-8")
        draft.replace(out)
