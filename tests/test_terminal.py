"""Tables for terminals, Markdown, notebooks and pandas, bars."""

import re

import keras
import pytest

from cbam_keras import _terminal

HEADINGS = ("network", "MACs", "note")


def cells(text):
    """Returns the rows of a table, without the lines between them."""
    lines = [re.split("[│┃|]", line)[1:-1] for line in text.splitlines()]
    return [[cell[1:-1] for cell in line] for line in lines if len(line) > 1]


def table(*rows, title="[red]Costs", totals=()):
    parts = (
        [dict(zip(HEADINGS, row, strict=True)) for row in part]
        for part in ([("plain", "1,814", ""), *rows], totals)
    )
    return _terminal.Table(title, *parts, note="All of them.")


# In a terminal.


def test_terminal_shows_all_of_a_row():
    name, number = "n" * 230, "1" * 15
    text = str(table((name, number, "x")))
    assert max(map(len, text.splitlines())) <= 120
    headings, plain, *folded = cells(text)
    assert [cell.strip() for cell in headings] == [*HEADINGS]
    # Numbers to the right.
    assert [plain[0].rstrip(), plain[1]] == ["plain", f"{'1,814':>15}"]
    assert "".join(row[0].strip() for row in folded) == name
    assert "".join(row[1].strip() for row in folded) == number


def test_text_is_plain_wherever_it_is_printed(monkeypatch):
    console = pytest.importorskip("rich.console")
    shown = table(totals=[("total", "1,826", "[bold] :smile:")])
    expected = str(shown)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "20")
    # In a notebook nothing is shown besides.
    monkeypatch.setattr(console, "_is_jupyter", lambda: True)
    monkeypatch.setattr("rich.jupyter.display", None)
    text = str(shown)
    assert text == expected
    assert "\x1b" not in text
    assert "[red]Costs" in text and "[bold] :smile:" in text
    assert all(line == line.rstrip() for line in text.splitlines())


def test_a_cell_that_a_row_lacks_is_empty():
    rows = [{"network": "a", "note": "x"}, {"network": "b", "MACs": "5"}]
    shown = _terminal.Table("", rows, totals=[{"MACs": "6", "note": "y"}])
    expected = [["network", "note", "MACs"], ["a", "x", ""], ["b", "", "5"]]
    expected.append(["", "y", "6"])
    printed = [[x.strip() for x in line] for line in cells(str(shown))]
    assert printed == expected
    found = re.findall(r"<t[hd] [^>]*>(.*?)</t[hd]>", shown.html())
    assert found == sum(expected, [])


# Bars that can be hidden.


def test_hidden_bars_yield_the_same(monkeypatch, capsys):
    # As on a terminal.
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert list(_terminal.show_progress("abc", 3, "Reading")) == [*"abc"]
    assert "Reading" in capsys.readouterr().err
    keras.config.disable_interactive_logging()
    try:
        assert list(_terminal.show_progress("abc", 3, "Reading")) == [*"abc"]
    finally:
        keras.config.enable_interactive_logging()
    assert capsys.readouterr() == ("", "")
