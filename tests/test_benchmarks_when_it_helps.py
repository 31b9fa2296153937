"""The experiment on when attention helps: its intervals and tables."""

import csv
import dataclasses
import json
import math
import pathlib

import numpy as np
import pytest
from scipy import stats

from benchmarks import real_images, when_it_helps, when_it_helps_report
from benchmarks.digit_networks import Arm

QUANTILE = stats.t.ppf(0.975, 3)


def rows(counts):
    """Returns results whose digits are recognized on so many canvases."""
    return [{"right": "".join(map(str, row))} for row in counts]


def test_the_difference_is_the_mean_over_seeds_and_digits():
    own = np.random.default_rng(0).integers(0, 5, (4, 30))
    other = np.random.default_rng(1).integers(0, 5, (4, 30))
    mean, _ = when_it_helps_report.difference(rows(own), rows(other))
    assert mean == pytest.approx((own - other).mean() / 4)


def test_seeds_that_differ_widen_the_interval():
    own = np.repeat([[4], [3], [4], [2]], 30, axis=1)
    _, reach = when_it_helps_report.difference(rows(own), rows(0 * own))
    by_seed = np.array([1, 0.75, 1, 0.5])
    assert reach == pytest.approx(QUANTILE * by_seed.std(ddof=1) / 2)


def test_digits_that_differ_widen_the_interval():
    one = np.random.default_rng(0).integers(0, 5, 30)
    _, reach = when_it_helps_report.difference(
        rows(np.tile(one, (4, 1))), rows(np.zeros((4, 30), int))
    )
    spread = (one / 4).std(ddof=1) / math.sqrt(30)
    assert reach == pytest.approx(QUANTILE * spread)


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
    tables = when_it_helps_report.tables(when_it_helps.stored())
    page = pathlib.Path(when_it_helps.__file__).with_suffix(".md")
    text = page.read_text()
    assert tables
    assert [title for title in tables if tables[title] not in text] == []


def test_new_runs_are_read_beside_the_stored_results(tmp_path, monkeypatch):
    arm = Arm("cbam", width=10)
    planned = when_it_helps.study_of([arm], (77,))
    (variant,) = planned.variants
    cell = {
        **{"variant": variant.name, "seed": 77, "status": "finished"},
        **{"parameters": 5, "metrics": {"right": "4", "gates": []}},
        "history": [{"accuracy": 0.5}, {"accuracy": 0.75}],
    }
    content = {
        "settings": {"variants": {variant.name: variant.describe()}},
        "cells": [cell, {**cell, "seed": 78, "status": "error"}],
    }
    (tmp_path / "digits").mkdir()
    (tmp_path / "digits/results.json").write_text(json.dumps(content))
    before = when_it_helps.stored()
    monkeypatch.setattr(when_it_helps, "RUNS", tmp_path)
    after = when_it_helps.stored()
    row = after.pop((arm, 77))
    assert (row["train_accuracy"], row["right"]) == (0.75, "4")
    assert after == before
    assert {k: row[k] for k in dataclasses.asdict(arm)} == (
        dataclasses.asdict(arm)
    )


@pytest.mark.parametrize("name", when_it_helps.STUDIES)
def test_a_study_has_one_kind_of_data_and_a_name_for_each_arm(name):
    arms = list(when_it_helps.STUDIES[name].values())
    assert len({(a.fragments, a.canvases, a.epochs) for a in arms}) == 1
    assert len(when_it_helps.study_of(arms, (0,)).variants) == len(arms)


def test_the_page_has_the_tables_of_real_images():
    page = pathlib.Path(real_images.__file__).with_suffix(".md").read_text()
    text = real_images.STORED.read_text()
    rows = list(csv.DictReader(text.splitlines()))
    names = {row["experiment"] for row in rows}
    assert names == {*real_images.EXPERIMENTS}
    missing = [x for x in names if real_images.table(x, rows) not in page]
    assert missing == []
