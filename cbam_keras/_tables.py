"""Tables as text, for the terminal, for Markdown and for LaTeX."""

import re
from collections.abc import Iterable, Mapping, Sequence

from cbam_keras import _checks

# What LaTeX takes for commands, and what stands for it.
ESCAPED = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "\N{PLUS-MINUS SIGN}": r"$\pm$",
        # In braces, since a row that begins with one would be taken for the
        # argument of the row's end.
        "[": "{[}",
        "]": "{]}",
        **{character: "\\" + character for character in "&%$#_{}"},
    }
)


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


def latex(
    columns: Mapping[str, str],
    sections: Iterable[Iterable[Sequence[str]]],
    *,
    title: str,
    note: str = "",
) -> str:
    """Returns rows of strings as a LaTeX table, for the package `booktabs`.

    Args:
        columns: As in `render`.
        sections: Likewise; between the groups stands a `\\midrule`.
        title: String, the caption.
        note: String below the table. Defaults to `""`.
    """
    ends = [
        "".join(f"{_latex_row(row)}\n" for row in section)
        for section in sections
    ]
    body = "\\midrule\n".join([f"{_latex_row(columns)}\n", *ends])
    below = f"\n\\par\\smallskip {_latex_cell(note)}" if note else ""
    return (
        "\\begin{table}\n\\centering\n"
        f"\\caption{{{_latex_cell(title)}}}\n"
        f"\\begin{{tabular}}{{{''.join(side[0] for side in columns.values())}}}"
        f"\n\\toprule\n{body}\\bottomrule\n\\end{{tabular}}{below}\n"
        "\\end{table}"
    )


def _latex_row(cells: Iterable[str]) -> str:
    return " & ".join(map(_latex_cell, cells)) + r" \\"


def _latex_cell(text: str) -> str:
    text = " ".join(text.splitlines()).translate(ESCAPED)
    # A minus, where a number begins, is longer than a hyphen.
    return re.sub(r"(?<![\w-])-(?=\d)", "$-$", text)


def _markdown_cell(text: str) -> str:
    return " ".join(text.splitlines()).replace("|", r"\|")
