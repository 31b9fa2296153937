"""A progress bar for loops that take long."""

import time
from collections.abc import Iterable, Iterator

from cbam_keras import _checks


def watched(items: Iterable, total: int, title: str) -> Iterator:
    """Yields the items, with a progress bar if they take over two seconds."""
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
