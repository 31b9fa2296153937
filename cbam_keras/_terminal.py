"""What the terminal and notebooks show: tables and progress."""

import contextlib
import dataclasses
import html
import itertools
import logging
import math
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, TextIO

import keras

from cbam_keras import _checks

if TYPE_CHECKING:
    from pandas import DataFrame
else:
    # Annotations name it where pandas is not installed.
    DataFrame = "pandas.DataFrame"

# Control characters steer a terminal; surrogates stand for broken UTF-8.
UNPRINTABLE = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
# Cells in a column of numbers begin like this.
NUMERIC = re.compile(r"\s*([+-]?\d|not counted|$)")


@contextlib.contextmanager
def no_retracing() -> Iterator[None]:
    """Context without TensorFlow's warnings that each network is traced."""
    logger = logging.getLogger("tensorflow")

    def is_other(record):
        return "triggered tf.function retracing" not in record.getMessage()

    logger.addFilter(is_other)
    try:
        yield
    finally:
        logger.removeFilter(is_other)


def show_progress(items: Iterable, total: int, title: str) -> Iterator:
    """Yields the items, with a progress bar where Keras shows one."""
    from rich import console, progress

    # In a notebook it would show an empty block.
    terminal = console.Console(stderr=True, force_jupyter=False)
    is_shown = keras.config.is_interactive_logging_enabled()
    yield from progress.track(
        items,
        make_printable(title),
        total,
        console=terminal,
        transient=True,
        disable=not (is_shown and terminal.is_interactive),
    )


def render_table(
    columns: Mapping[str, Literal["left", "right"]],
    sections: Iterable[Iterable[Sequence[str]]],
) -> str:
    """Returns rows of strings as a table."""
    from rich import box, console, table

    terminal = console.Console(
        width=120,
        color_system=None,
        markup=False,
        emoji=False,
        # In a notebook it would show an empty block.
        force_jupyter=False,
    )
    shown = table.Table(box=box.HEAVY_HEAD)
    for heading, side in columns.items():
        heading = make_printable(heading)
        shown.add_column(heading, justify=side, overflow="fold")
    for section in sections:
        for row in section:
            shown.add_row(*map(make_printable, row))
        shown.add_section()
    if terminal.measure(shown).maximum > 80:
        for column in shown.columns:
            # Lines of fewer letters would be many.
            width = max([12, *(len(str(x)) for x in column.cells)])
            column.header = textwrap.fill(str(column.header), width)
    with terminal.capture() as capture:
        terminal.print(shown)
    lines = [line.rstrip() for line in capture.get().splitlines()]
    return "\n".join(lines).strip("\n")


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of text by their headings, and what stands around them."""

    title: str
    rows: Sequence[Mapping[str, str]]
    # These rows are below a line.
    totals: Sequence[Mapping[str, str]] = ()
    note: str = ""
    # The number and heading of the cells that LaTeX shows in bold.
    bold: Sequence[tuple[int, str]] = ()

    @property
    def sides(self) -> dict[str, Literal["left", "right"]]:
        """The headings, and on which side of a column its cells are."""
        return {
            name: "right"
            if all(NUMERIC.match(str(row.get(name, ""))) for row in self.rows)
            else "left"
            # A row may lack some, also the first.
            for name in dict.fromkeys(itertools.chain(*self.rows, *self.totals))
        }

    def __str__(self) -> str:
        table = render_table(self.sides, self._sections())
        parts = (f"{make_printable(self.title)}\n{table}", wrap_text(self.note))
        return "\n\n".join(filter(None, parts)).strip("\n")

    def html(self) -> str:
        """Returns the table for notebooks."""

        def line(tag, texts):
            escaped = (html.escape(make_printable(text)) for text in texts)
            # Notebooks and pages made of them align cells in different ways.
            cells = "".join(
                f'<{tag} style="text-align: {side}">{text}</{tag}>'
                for text, side in zip(escaped, self.sides.values(), strict=True)
            )
            return f"<tr>{cells}</tr>"

        bodies = "".join(
            f"<tbody>{''.join(line('td', row) for row in section)}</tbody>"
            for section in self._sections()
        )
        texts = [
            f"<p><b>{html.escape(self.title)}</b></p>",
            f"<table><thead>{line('th', self.sides)}</thead>{bodies}</table>",
            f"<p>{html.escape(self.note)}</p>" if self.note else "",
        ]
        return "".join(texts)

    def latex(self, headings: Sequence[str] = ()) -> str:
        """Returns the rows for LaTeX, with some columns or all.

        Raises:
            ImportError: If pandas or Jinja is not installed.
        """
        _checks.require("jinja2", extra="plot")
        pandas = _checks.require("pandas", extra="plot")
        names = [x for x in headings or self.sides if x in self.sides]
        rows = [[row.get(name, "") for name in names] for row in self.rows]
        shown = pandas.DataFrame(rows, columns=names).map(make_printable)
        styler = shown.style.hide(axis="index").format(escape="latex")
        styler.format_index(axis="columns", escape="latex")
        for cell in self.bold:
            styler.set_properties(subset=cell, textbf="--rwrap")
        text = styler.to_latex(
            hrules=True,
            column_format="".join(self.sides[name][0] for name in names),
        )
        # A hyphen is shorter than a minus, "<" is another sign in some fonts,
        # and straight quotes only close.
        text = text.replace("< 0", "$<$ 0")
        text = re.sub(r"(?<=[ \[{])-(?=\d)", "$-$", text)
        text = re.sub('"([^"\n]*)"', r"``\1''", text)
        return f"% \\usepackage{{booktabs}}\n{text}"

    def _sections(self):
        return [
            [[row.get(name, "") for name in self.sides] for row in part]
            for part in (self.rows, self.totals)
            if part
        ]


class Tabular:
    """Mixin of results that print and show as tables, and pandas takes."""

    _tables: Callable[[], Iterable[Table]]
    # A dictionary of plain values for each row of the data frame.
    _records: Callable[[], list[dict[str, object]]]

    def __init_subclass__(cls) -> None:
        # Dataclasses would make one of thousands of characters.
        cls.__repr__ = Tabular.__repr__  # type: ignore[method-assign]

    def __repr__(self) -> str:
        titles = ", ".join(table.title for table in self._tables())
        text = getattr(self, "verdict", "") or titles
        return f"<{type(self).__name__}: {textwrap.shorten(text, 200)}>"

    def __str__(self) -> str:
        verdict = wrap_text(getattr(self, "verdict", ""))
        return "\n\n".join(filter(None, [*map(str, self._tables()), verdict]))

    def to_dataframe(self) -> DataFrame:
        """Returns the result as a `pandas.DataFrame`.

        The rows and units are described at the class.

        Raises:
            ImportError: If pandas is not installed.
        """
        pandas = _checks.require("pandas", extra="plot")

        def as_utf8(value):
            return make_printable(value) if isinstance(value, str) else value

        # Columns of strings take nothing else.
        records = [
            {as_utf8(key): as_utf8(value) for key, value in record.items()}
            for record in self._records()
        ]
        return pandas.DataFrame(records)

    def _repr_html_(self) -> str:
        shown = "".join(table.html() for table in self._tables())
        verdict = html.escape(getattr(self, "verdict", ""))
        return f"{shown}<p>{verdict}</p>" if verdict else shown


def wrap_text(text: str) -> str:
    """Returns a text in lines of at most 100 characters."""
    return textwrap.fill(text, 100)


def make_printable(text: object) -> str:
    """Returns text that can be printed, drawn and written as UTF-8."""
    return UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", str(text))


def say(text: object, file: TextIO | None = None) -> None:
    """Prints text at once, on stdout by default, without what steers it."""
    print(make_printable(text), file=file, flush=True)


def duration(seconds: float) -> str:
    """Returns an estimate in words, such as "about 12 min"."""
    if seconds <= 60:
        return "less than a minute"
    if seconds <= 7200:
        return f"about {math.ceil(seconds / 60)} min"
    return f"about {round(seconds / 3600)} h"


def number_cell(form: str, value: float | None, factor: float = 1) -> str:
    """Returns a number for a table, in another unit, or nothing for `None`."""
    return "" if value is None else form.format(factor * value)
