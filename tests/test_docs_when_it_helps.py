"""The page on when attention helps says what was measured."""

import pathlib

import pytest

from benchmarks import when_it_helps, when_it_helps_report

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "when-it-helps.md"
TABLES = when_it_helps_report.tables(when_it_helps.stored())


@pytest.mark.parametrize("title", list(TABLES))
def test_the_page_has_the_tables_of_the_stored_results(title):
    assert TABLES[title] in PAGE.read_text()
