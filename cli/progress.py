"""How far a long command is: a bar on a terminal, a line every ten seconds elsewhere."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any, Final

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from core_tables.cli import output

LINE_EVERY_S: Final = 10.0


class _RateColumn(ProgressColumn):
    """How many per second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.0f}/s" if task.speed else "")


@contextlib.contextmanager
def progress_bar(what: str, total: int | None) -> Iterator[Any]:
    """Yield `advance(done)`, which shows how much is done on standard error."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    if not output.err.is_terminal:
        yield _Lines(what, total)
        return
    with Progress(*columns, console=output.err, transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done: progress.update(task, completed=done)


class _Lines:
    """Progress where there is no terminal."""

    def __init__(self, what: str, total: int | None) -> None:
        self._what = what
        self._total = total
        self._started = self._said = time.monotonic()

    def __call__(self, done: int) -> None:
        now = time.monotonic()
        if now - self._said < LINE_EVERY_S:
            return
        self._said = now
        rate = done / (now - self._started)
        of = left = ""
        if self._total is not None:
            of, left = f" of {self._total}", f", about {max(0, self._total - done) / max(rate, 1e-9):.0f} s left"
        output.say(f"{self._what}: {done}{of}, {rate:.0f}/s{left}")
