"""Tables for terminals, Markdown, notebooks and pandas; times and bars."""

import re

import keras
import pytest

from cbam_keras import _terminal
from cbam_keras._terminal import TimeLeft

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


# In a terminal.


def test_terminal_shows_the_rows_in_their_sections():
    text = _terminal.render(COLUMNS, [FIRST, SECOND], title="Costs")
    title, *lines = text.splitlines()
    assert title.strip() == "Costs"
    assert len({len(line) for line in lines}) == 1
    rows = terminal("\n".join(lines))
    cells = [row for row in rows if row is not None]
    assert [[cell.strip() for cell in row] for row in cells] == [
        list(COLUMNS),
        *map(list, FIRST),
        *map(list, SECOND),
    ]
    # Each to its side.
    assert [row[0] for row in cells[1:]] == ["plain   ", "plain-se", "total   "]
    assert [row[1] for row in cells[1:]] == ["1,814", "   12", "1,826"]
    # A line on top, below the headings, between the sections, and at the end.
    assert [i for i, row in enumerate(rows) if row is None] == [0, 2, 5, 7]


def test_terminal_folds_what_is_too_long():
    name, number = "n" * 230, "1" * 15
    text = _terminal.render(COLUMNS, [[(name, number, "x")]])
    assert max(map(len, text.splitlines())) <= 120
    rows = [row for row in terminal(text) if row is not None][1:]
    assert "".join(row[0].strip() for row in rows) == name
    assert "".join(row[1].strip() for row in rows) == number


@pytest.mark.parametrize("sections", [[], [[], []]], ids=str)
def test_no_rows_leave_the_headings(sections):
    rows = terminal(_terminal.render(COLUMNS, sections))
    shown = [[cell.strip() for cell in row] for row in rows if row is not None]
    assert shown == [list(COLUMNS)]


@pytest.mark.parametrize("is_markdown", [False, True])
def test_text_is_plain_wherever_it_is_printed(is_markdown, monkeypatch):
    console = pytest.importorskip("rich.console")
    options = {"title": "[red]Costs", "markdown": is_markdown}
    expected = _terminal.render(COLUMNS, [FIRST, SECOND], **options)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "20")
    # In a notebook nothing is shown besides.
    monkeypatch.setattr(console, "_is_jupyter", lambda: True)
    monkeypatch.setattr("rich.jupyter.display", None)
    text = _terminal.render(COLUMNS, [FIRST, SECOND], **options)
    assert text == expected
    assert "\x1b" not in text
    assert "[red]Costs" in text and "[bold] :smile:" in text
    assert all(line == line.rstrip() for line in text.splitlines())


# In Markdown.


def test_markdown_is_a_title_and_one_table():
    wide = ("n" * 2000, "1", "word " * 300 + "end")
    text = _terminal.render(
        COLUMNS, [FIRST, [wide]], title="Costs", markdown=True
    )
    headings, rows, others = markdown(text)
    assert headings == list(COLUMNS)
    assert rows == [*map(list, FIRST), list(wide)]
    assert others == [("inline", "Costs")]


@pytest.mark.parametrize(
    ("cell", "shown"), [("a|b", "a|b"), ("two\nlines", "two lines")]
)
def test_markdown_cells_do_not_break_the_table(cell, shown):
    columns = {f"{cell} heading": "left", "other": "right"}
    text = _terminal.render(columns, [[(cell, "1")]], markdown=True)
    assert markdown(text) == ([f"{shown} heading", "other"], [[shown, "1"]], [])


# In a notebook.


def test_cells_stay_text_and_numbers_stand_to_the_right():
    evil = "<script>alert(1)</script>"
    html = _terminal.render_html(
        {"name": "left", "size": "right"}, [[(evil, "1")]], evil
    )
    escaped = "&lt;script&gt;alert(1)&lt;/script&gt;"
    left, right = (f' style="text-align: {s}"' for s in ("left", "right"))
    assert html == (
        f"<p><b>{escaped}</b></p><table><thead><tr>"
        f"<th{left}>name</th><th{right}>size</th></tr></thead>"
        f"<tbody><tr><td{left}>{escaped}</td><td{right}>1</td>"
        "</tr></tbody></table>"
    )


# The time left, and bars that can be hidden.


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "1 second"),
        (90, "90 seconds"),
        (150, "2 minutes"),
        (5400, "90 minutes"),
        (10_000, "3 hours"),
        (600_000, "7 days"),
    ],
)
def test_durations_read_in_a_fitting_unit(seconds, words):
    assert _terminal.in_words(seconds) == words


@pytest.fixture
def clock(monkeypatch):
    """Returns a function that lets seconds pass."""
    now = [100.0]
    monkeypatch.setattr(_terminal.time, "monotonic", lambda: now[0])

    def wait(seconds):
        now[0] += seconds

    return wait


def test_the_time_left_is_that_of_equal_parts(clock):
    left = TimeLeft(4)
    assert left.at(1) == ""
    clock(60)
    assert left.at(2) == ", about 3 minutes left"
    clock(180)
    # Two parts, of two minutes on average.
    assert left.at(3) == ", about 4 minutes left"


def test_parts_of_an_earlier_call_do_not_count(clock):
    left = TimeLeft(10)
    for number in range(1, 6):
        assert left.at(number) == ""
        clock(0.1)
    left.at(6)
    clock(100)
    # Four parts of 100 seconds.
    assert left.at(7) == ", about 7 minutes left"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(2, ""), (30, ", about 60 seconds left for the trials")],
)
def test_a_short_time_is_not_told(clock, seconds, said):
    left = TimeLeft(3, "the trials")
    left.at(1)
    clock(seconds)
    assert left.at(2) == said


def test_hidden_bars_yield_the_same(clock, monkeypatch):
    def no_bar(module, **options):
        raise AssertionError(module)

    monkeypatch.setattr(_terminal._checks, "require", no_bar)
    with _terminal.hidden():
        assert list(_terminal.watched("abc", 3, "title")) == [*"abc"]
    with pytest.raises(AssertionError, match="rich"):
        list(_terminal.watched("abc", 3, "title"))
    keras.config.disable_interactive_logging()
    try:
        assert list(_terminal.watched("abc", 3, "title")) == [*"abc"]
    finally:
        keras.config.enable_interactive_logging()
