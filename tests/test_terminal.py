"""Tables for terminals, Markdown, notebooks and pandas; times and bars."""

import itertools
import re

import keras
import pytest

from cbam_keras import _terminal
from cbam_keras._terminal import TimeLeft

COLUMNS = {"network": "left", "MACs": "right", "note": "left"}


def cells(text):
    """Returns the rows of a table, without the lines between them."""
    lines = [re.split("[│┃|]", line)[1:-1] for line in text.splitlines()]
    return [[cell[1:-1] for cell in line] for line in lines if len(line) > 1]


FIRST = [("plain", "1,814", ""), ("plain-se", "12", "a b")]
SECOND = [("total", "1,826", "[bold] :smile:")]


# In a terminal.


def test_terminal_shows_all_of_a_row():
    name, number = "n" * 230, "1" * 15
    text = _terminal.render(COLUMNS, [FIRST, [(name, number, "x")]])
    assert max(map(len, text.splitlines())) <= 120
    headings, plain, _, *folded = cells(text)
    assert [cell.strip() for cell in headings] == list(COLUMNS)
    # Numbers to the right.
    assert [plain[0].rstrip(), plain[1]] == ["plain", f"{'1,814':>15}"]
    assert "".join(row[0].strip() for row in folded) == name
    assert "".join(row[1].strip() for row in folded) == number


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


def test_markdown_has_each_row_in_one_line_that_cells_do_not_break():
    wide = ("n" * 2000, "1", "a|b\ntwo lines")
    text = _terminal.render(
        COLUMNS, [FIRST, [wide]], title="Costs", markdown=True
    )
    parser = pytest.importorskip("markdown_it", reason="reads the table back")
    html = parser.MarkdownIt("commonmark").enable("table").render(text)
    found = re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", html)
    expected = [*COLUMNS, *FIRST[0], *FIRST[1], *wide[:2], "a|b two lines"]
    assert found == expected
    assert html.startswith("<p>Costs</p>\n<table>")
    assert html.endswith("</table>\n")


# The time left, and bars that can be hidden.


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        ([60], ", about 3 minutes left for the trials"),
        # Two parts, of two minutes on average.
        ([60, 180], ", about 4 minutes left for the trials"),
        # An earlier call has nearly finished the first part.
        ([0.1, 130, 130], ", about 2 minutes left for the trials"),
        # Another program took the processor for a while.
        ([12, 3600, 12], ", about 12 seconds left for the trials"),
        ([45], ", about 2 minutes left for the trials"),
        ([3600, 3600], ", about 2 hours left for the trials"),
        ([12, 6, 12], ", about 12 seconds left for the trials"),
        ([2], ""),
    ],
    ids=str,
)
def test_the_time_left_is_that_of_equal_parts(monkeypatch, seconds, said):
    times = itertools.accumulate(seconds, initial=100.0)
    monkeypatch.setattr(_terminal.time, "monotonic", lambda: next(times))
    left = TimeLeft(4, "the trials")
    found = [left.at(number) for number in range(1, len(seconds) + 2)]
    assert (found[0], found[-1]) == ("", said)


def test_hidden_bars_yield_the_same(monkeypatch, capsys):
    # As on a terminal.
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert list(_terminal.watched("abc", 3, "Reading")) == [*"abc"]
    assert "Reading" in capsys.readouterr().err
    with _terminal.hidden():
        assert list(_terminal.watched("abc", 3, "Reading")) == [*"abc"]
    keras.config.disable_interactive_logging()
    try:
        assert list(_terminal.watched("abc", 3, "Reading")) == [*"abc"]
    finally:
        keras.config.enable_interactive_logging()
    assert capsys.readouterr() == ("", "")
