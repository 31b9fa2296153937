"""Progress of work that takes long: a bar, and the time left."""

import contextlib
import contextvars
import statistics
import time
from collections.abc import Iterable, Iterator

from cbam_keras import _checks

UNITS = (("days", 86400), ("hours", 3600), ("minutes", 60), ("seconds", 1))
# Shorter times are not worth telling.
LEAST_SECONDS = 10

_hidden = contextvars.ContextVar("hidden", default=False)


@contextlib.contextmanager
def hidden() -> Iterator[None]:
    """Context without progress bars."""
    token = _hidden.set(True)
    try:
        yield
    finally:
        _hidden.reset(token)


def in_words(seconds: float) -> str:
    """Returns a duration in words, as "12 minutes"."""
    unit, size = next(
        (unit, size) for unit, size in UNITS if seconds >= 2 * size or size == 1
    )
    many = max(1, round(seconds / size))
    return f"{many:,} {unit if many > 1 else unit.removesuffix('s')}"


class TimeLeft:
    """Estimates the rest of work in parts, from the parts so far.

    Args:
        total: Integer, the number of parts.
        of: String, what the parts are, where more work follows. Defaults to
            `""`.
    """

    def __init__(self, total: int, of: str = ""):
        self.total = total
        self.of = f" for {of}" if of else ""
        self.began: float | None = None
        self.seconds: list[float] = []

    def at(self, number: int) -> str:
        """Returns the text for the line with which a part, from 1, begins."""
        now = time.monotonic()
        if self.began is not None:
            self.seconds.append(now - self.began)
        self.began = now
        # Parts that an earlier call has finished take no time.
        longest = max(self.seconds, default=0)
        counted = [x for x in self.seconds if x > longest / 10]
        if not counted:
            return ""
        left = statistics.mean(counted) * (self.total - number + 1)
        if left < LEAST_SECONDS:
            return ""
        return f", about {in_words(left)} left{self.of}"


def watched(items: Iterable, total: int, title: str) -> Iterator:
    """Yields the items, with a progress bar if they take over two seconds."""
    if _hidden.get():
        yield from items
        return
    progress = _checks.require("rich.progress", extra="all")
    console = _checks.require("rich.console", extra="all").Console(stderr=True)
    bar = progress.Progress(
        *progress.Progress.get_default_columns(),
        progress.MofNCompleteColumn(),
        console=console,
        transient=True,
    )
    began, task = time.monotonic(), None
    try:
        for done, item in enumerate(items, start=1):
            yield item
            if task is None and time.monotonic() - began > 2:
                bar.start()
                task = bar.add_task(title, total=total)
            if task is not None:
                bar.update(task, completed=done)
    finally:
        if task is not None:
            bar.stop()
