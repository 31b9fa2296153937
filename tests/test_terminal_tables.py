"""Tables for the terminal and for Markdown, read back."""

import re

import pytest

from cbam_keras import _terminal

COLUMNS = {"network": "left", "MACs": "right", "note": "left"}
FIRST = [("plain", "1,814", ""), ("plain-se", "12", "a b")]
SECOND = [("total", "1,826", "[bold] :smile:")]


def terminal(text):
    """Returns the rows of a terminal's table; lines between them are None."""
    rows = []
    for line in text.splitlines():
        cells = re.split("[│┃|]", line)[1:-1]
        rows.append([cell[1:-1] for cell in cells] if len(cells) > 1 else None)
    return rows


def markdown(text):
    """Returns headings, rows and what else a Markdown parser finds."""
    parser = pytest.importorskip("markdown_it", reason="reads the tables back")
    tokens = parser.MarkdownIt("commonmark").enable("table").parse(text)
    rows, others, inside = [], [], False
    for token in tokens:
        inside = (inside or token.type == "table_open") and (
            token.type != "table_close"
        )
        if token.type == "tr_open":
            rows.append([])
        if token.type == "inline" and inside:
            rows[-1].append("".join(c.content for c in token.children))
        elif token.type in ("inline", "code_block"):
            others.append((token.type, token.content))
    return rows[0], rows[1:], others


def test_terminal_shows_the_rows_in_their_sections():
    text = _terminal.render(COLUMNS, [FIRST, SECOND])
    rows = [row for row in terminal(text) if row is not None]
    assert [[cell.strip() for cell in row] for row in rows] == [
        list(COLUMNS),
        *map(list, FIRST),
        *map(list, SECOND),
    ]
    # A line on top, below the headings, between the sections, and at the end.
    drawn = [i for i, row in enumerate(terminal(text)) if row is None]
    assert drawn == [0, 2, 5, 7]


def test_terminal_sets_cells_to_their_side():
    text = _terminal.render(COLUMNS, [FIRST, SECOND])
    cells = [row for row in terminal(text) if row is not None]
    assert [row[0] for row in cells[1:]] == ["plain   ", "plain-se", "total   "]
    assert [row[1] for row in cells[1:]] == ["1,814", "   12", "1,826"]


def test_terminal_lines_are_equally_long():
    lines = _terminal.render(COLUMNS, [FIRST, SECOND]).splitlines()
    assert len({len(line) for line in lines}) == 1


def test_terminal_folds_what_is_too_long():
    name, number = "n" * 230, "1" * 15
    text = _terminal.render(COLUMNS, [[(name, number, "x")]])
    assert max(map(len, text.splitlines())) <= 120
    rows = [row for row in terminal(text) if row is not None][1:]
    assert "".join(row[0].strip() for row in rows) == name
    assert "".join(row[1].strip() for row in rows) == number


def test_title_stands_above():
    text = _terminal.render(COLUMNS, [FIRST], title="Costs")
    assert text.splitlines()[0].strip() == "Costs"
    assert "\n".join(text.splitlines()[1:]) == _terminal.render(
        COLUMNS, [FIRST]
    )


@pytest.mark.parametrize("sections", [[], [[]], [[], []]], ids=str)
def test_no_rows_leave_the_headings(sections):
    rows = terminal(_terminal.render(COLUMNS, sections))
    shown = [[cell.strip() for cell in row] for row in rows if row is not None]
    assert shown == [list(COLUMNS)]


@pytest.mark.parametrize("is_markdown", [False, True])
def test_text_is_plain_wherever_it_is_printed(is_markdown, monkeypatch):
    options = {"title": "[red]Costs", "markdown": is_markdown}
    expected = _terminal.render(COLUMNS, [FIRST, SECOND], **options)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "20")
    text = _terminal.render(COLUMNS, [FIRST, SECOND], **options)
    assert text == expected
    assert "\x1b" not in text
    assert "[red]Costs" in text and "[bold] :smile:" in text
    assert all(line == line.rstrip() for line in text.splitlines())


def test_nothing_is_shown_in_a_notebook_but_the_text(monkeypatch):
    console = pytest.importorskip("rich.console")
    expected = _terminal.render(COLUMNS, [FIRST])
    monkeypatch.setattr(console, "_is_jupyter", lambda: True)
    monkeypatch.setattr("rich.jupyter.display", None)
    assert _terminal.render(COLUMNS, [FIRST]) == expected


def test_markdown_is_one_table():
    text = _terminal.render(COLUMNS, [FIRST, SECOND], markdown=True)
    headings, rows, others = markdown(text)
    assert headings == list(COLUMNS)
    assert rows == [*map(list, FIRST), *map(list, SECOND)]
    assert not others
    assert len(text.splitlines()) == 5


def test_markdown_title_is_a_paragraph():
    wide = [("plain", "1", "x" * 80)]
    text = _terminal.render(COLUMNS, [wide], title="Costs", markdown=True)
    headings, rows, others = markdown(text)
    assert others == [("inline", "Costs")]
    assert (headings, rows) == (list(COLUMNS), [list(wide[0])])


def test_markdown_columns_are_as_wide_as_they_need():
    row = ("n" * 2000, "1", "word " * 300 + "end")
    _, rows, _ = markdown(_terminal.render(COLUMNS, [[row]], markdown=True))
    assert rows == [list(row)]


@pytest.mark.parametrize(
    "cell, shown",
    [("a|b", "a|b"), ("|", "|"), ("two\nlines", "two lines")],
)
def test_markdown_cells_do_not_break_the_table(cell, shown):
    columns = {f"{cell} heading": "left", "other": "right"}
    text = _terminal.render(columns, [[(cell, "1")]], markdown=True)
    headings, rows, others = markdown(text)
    assert headings == [f"{shown} heading", "other"]
    assert rows == [[shown, "1"]]
    assert not others
