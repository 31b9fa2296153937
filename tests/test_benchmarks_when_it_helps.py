"""The experiment on when attention helps: its intervals and tables."""

import pathlib

import numpy as np
import pytest

from benchmarks import when_it_helps, when_it_helps_report


def rows(counts):
    """Returns results whose digits are recognized on so many canvases."""
    return ["".join(map(str, row)) for row in counts]


def test_the_difference_is_the_mean_over_seeds_and_digits():
    own = np.random.default_rng(0).integers(0, 5, (4, 30))
    other = np.random.default_rng(1).integers(0, 5, (4, 30))
    mean, _ = when_it_helps_report.difference(rows(own), rows(other))
    assert mean == pytest.approx((own - other).mean() / 4)


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(400):
        by_seed = rng.normal(0, 0.1, (8, 1))
        by_digit = rng.normal(0, 0.3, (1, 60))
        chance = np.clip(0.5 + by_seed + by_digit, 0, 1)
        own = rng.binomial(4, chance)
        mean, reach = when_it_helps_report.difference(
            rows(own), rows(np.full((8, 60), 2))
        )
        inside += abs(mean) <= reach
    assert 0.92 < inside / 400 < 0.99


def test_the_page_has_the_tables_of_the_stored_results():
    page = pathlib.Path(when_it_helps.__file__).with_suffix(".md").read_text()
    tables = when_it_helps_report.tables()
    assert tables
    assert [title for title in tables if tables[title] not in page] == []
