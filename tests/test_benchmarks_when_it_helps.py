"""The experiment on when attention helps: its intervals and tables."""

import pathlib

import numpy as np
import pytest

from benchmarks import when_it_helps, when_it_helps_report
from cbam_keras import data
from cbam_keras.data import digits


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


class Zero:
    """Takes each digit for a zero."""

    layers = ()

    def predict(self, images, **options):
        return np.eye(10)[np.zeros(len(images), int)]


def test_it_is_stored_on_how_many_canvases_a_digit_is_recognized(
    few_digits, monkeypatch
):
    monkeypatch.setitem(digits.EMBEDDED, "digits-2-1", None)
    found = when_it_helps.Digits("digits-2-1").looked_at(Zero())
    _, labels = data.load("mnist5k", batch_size=None).test
    assert 0 in labels
    right = "".join("0" if label else "4" for label in labels)
    assert found == {"right": right, "gates": []}


def test_the_page_has_the_tables_of_the_stored_results():
    page = pathlib.Path(when_it_helps.__file__).with_suffix(".md").read_text()
    tables = when_it_helps_report.tables()
    assert tables
    assert [title for title in tables if tables[title] not in page] == []
