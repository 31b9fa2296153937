"""What the terminal and notebooks show: tables, progress, the time left."""

import contextlib
import contextvars
import html
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import keras

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
    """Yields the items, with a progress bar if they take over two seconds.

    Without one where Keras shows none.
    """
    if _hidden.get() or not keras.config.is_interactive_logging_enabled():
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


def render(
    columns: Mapping[str, str],
    sections: Iterable[Iterable[Sequence[str]]],
    *,
    title: str | None = None,
    markdown: bool = False,
) -> str:
    """Returns rows of strings as a table.

    Args:
        columns: Dictionary of headings to the alignment of their cells,
            `"left"` or `"right"`.
        sections: Groups of rows, between which a terminal shows a line.
        title: String above the table. Defaults to `None`.
        markdown: Boolean, whether to write Markdown, in which columns are as
            wide as they need. Defaults to `False`, a table of at most 120
            characters per line.
    """
    box = _checks.require("rich.box", extra="all")
    console = _checks.require("rich.console", extra="all").Console(
        width=100_000 if markdown else 120,
        color_system=None,
        markup=False,
        emoji=False,
        # In a notebook it would show an empty block.
        force_jupyter=False,
    )
    table = _checks.require("rich.table", extra="all").Table(
        title=title,
        # In Markdown an indent of four spaces means code.
        title_justify="left" if markdown else "center",
        box=box.MARKDOWN if markdown else box.HEAVY_HEAD,
    )
    cell = _markdown_cell if markdown else str
    for heading, side in columns.items():
        table.add_column(cell(heading), justify=side, overflow="fold")
    for section in sections:
        for row in section:
            table.add_row(*map(cell, row))
        if not markdown:
            table.add_section()
    with console.capture() as capture:
        console.print(table)
    lines = [line.rstrip() for line in capture.get().splitlines()]
    return "\n".join(lines).strip("\n")


def render_html(
    columns: Mapping[str, str],
    sections: Iterable[Iterable[Sequence[str]]],
    title: str = "",
) -> str:
    """Returns rows of strings as a table for notebooks, see `render`."""

    def cell(tag, text, side):
        # Said for both sides: notebooks, and pages made of them, differ.
        text = html.escape(str(text))
        return f'<{tag} style="text-align: {side}">{text}</{tag}>'

    def line(tag, texts):
        sides = columns.values()
        cells = (cell(tag, *x) for x in zip(texts, sides, strict=True))
        return f"<tr>{''.join(cells)}</tr>"

    heading = f"<p><b>{html.escape(title)}</b></p>" if title else ""
    bodies = "".join(
        f"<tbody>{''.join(line('td', row) for row in section)}</tbody>"
        for section in sections
    )
    head = f"<thead>{line('th', columns)}</thead>"
    return f"{heading}<table>{head}{bodies}</table>"


class Tabular:
    """Mixin of results that notebooks show as tables, and pandas takes.

    A subclass has `_tables`, which yields the arguments of `render_html`,
    and `_records`, which returns a dictionary of plain values for each row of
    the data frame. A `verdict` is shown below the tables.
    """

    def _tables(self) -> Iterable[tuple]:
        raise NotImplementedError

    def _records(self) -> list[dict[str, Any]]:
        raise NotImplementedError

    def to_dataframe(self) -> Any:
        """Returns the result as a `pandas.DataFrame`.

        The rows and units are described at the class.

        Raises:
            ImportError: If pandas is not installed.
        """
        pandas = _checks.require("pandas", extra="plot")
        return pandas.DataFrame(self._records())

    def csv(self) -> str:
        """Returns the data frame as CSV."""
        return self.to_dataframe().to_csv(index=False)

    def latex(self) -> str:
        """Returns the data frame as a LaTeX table.

        Raises:
            ImportError: If pandas or Jinja is not installed.
        """
        _checks.require("jinja2", extra="plot")
        options: dict[str, Any] = {"float_format": "%.4f", "na_rep": ""}
        frame = self.to_dataframe()
        return frame.to_latex(index=False, escape=True, **options)

    def _repr_html_(self) -> str:
        shown = "".join(render_html(*table) for table in self._tables())
        verdict = html.escape(getattr(self, "verdict", ""))
        return f"{shown}<p>{verdict}</p>" if verdict else shown


def _markdown_cell(text: str) -> str:
    return " ".join(text.splitlines()).replace("|", r"\|")
