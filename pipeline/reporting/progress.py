"""Progress of long work: a bar with time left on a terminal, plain lines elsewhere.

Everything goes to stderr, so that stdout stays one JSON document or one table.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

console = Console(stderr=True, soft_wrap=True, highlight=False)

Step = Callable[[int], None]


class Reporter:
    """Where messages and progress go; `quiet` drops all of it but errors."""

    def __init__(self, *, quiet: bool = False, every_s: float = 10.0):
        self.quiet = quiet
        self.every_s = every_s

    def say(self, message: str) -> None:
        """One line on stderr."""
        if not self.quiet:
            console.print(message, markup=False)

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Step]:
        """Yield `step(n)`, to be called after every n finished units of `total`."""
        if self.quiet:
            yield lambda _: None
        elif sys.stderr.isatty():
            with self._bar(name, total) as step:
                yield step
        else:
            yield self._lines(name, total)

    @contextmanager
    def _bar(self, name: str, total: int) -> Iterator[Step]:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task(name, total=total)
            yield lambda n: bar.advance(task, n)

    def _lines(self, name: str, total: int) -> Step:
        started = last = time.monotonic()
        done = 0

        def step(n: int) -> None:
            nonlocal done, last
            done += n
            now = time.monotonic()
            if now - last >= self.every_s and 0 < done < total:
                last = now
                left = (now - started) / done * (total - done)
                self.say(f"{name}: {done}/{total}, {left:.0f} s left")

        return step


SILENT = Reporter(quiet=True)
