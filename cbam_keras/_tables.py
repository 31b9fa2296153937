"""Tables as text, for the terminal and for Markdown."""

from collections.abc import Iterable, Mapping, Sequence

from cbam_keras import _checks


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


def _markdown_cell(text: str) -> str:
    return " ".join(text.splitlines()).replace("|", r"\|")
