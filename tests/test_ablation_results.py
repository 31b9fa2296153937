"""Statistics and tables of ablations, of made-up runs."""

import csv
import io
import json
from types import SimpleNamespace

import numpy as np
import pytest

from cbam_keras import ablation
from cbam_keras.ablation import statistics

stats = pytest.importorskip("scipy.stats", reason="intervals need SciPy")


def made_up(errors, top5=None, images=1000):
    """Returns results of Table 4 with these errors, by attention and seed."""
    entries = [
        (
            name,
            SimpleNamespace(parameters=25557032, macs=3858000000),
            [
                (
                    SimpleNamespace(
                        test_accuracy=float(np.float32(1 - error / 100)),
                        seconds_per_epoch=seconds,
                    ),
                    None if top5 is None else 1 - top5 / 100,
                )
                for error, seconds in zip(own, (9.0, 1.0, 2.0), strict=False)
            ],
        )
        for name, own in errors.items()
    ]
    return ablation.AblationResults(
        rows=list(statistics.compared(4, "small", entries, images)),
        data="digits_1",
        seeds=tuple(range(len(errors["none"]))),
        test_images=images,
        output="out",
    )


ERRORS = {
    "none": (9.0, 8.0, 10.1),
    "SE": (8.9, 8.3, 9.6),
    "CBAM & co": (6.1, 5.0, 7.2),
    "worse_1": (12.0, 11.1, 13.2),
}


@pytest.mark.parametrize("name", list(ERRORS)[1:])
def test_differences_are_paired_with_a_t_interval(name):
    (row,) = (r for r in made_up(ERRORS).rows if r.attention == name)
    expected = stats.ttest_rel(ERRORS[name], ERRORS["none"])
    assert row.interval == pytest.approx(
        tuple(expected.confidence_interval(0.95))
    )
    assert row.difference == pytest.approx(
        np.mean(ERRORS[name]) - np.mean(ERRORS["none"])
    )


@pytest.mark.parametrize("name", ERRORS)
def test_rows_have_mean_and_deviation(name):
    (row,) = (r for r in made_up(ERRORS).rows if r.attention == name)
    assert row.top1_errors == ERRORS[name]
    assert row.top1_error == pytest.approx(np.mean(ERRORS[name]))
    assert row.top1_deviation == pytest.approx(np.std(ERRORS[name], ddof=1))
    assert row.seconds_per_epoch == 2.0


def test_the_first_row_has_no_difference():
    row = made_up(ERRORS).rows[0]
    assert (row.difference, row.interval) == (None, None)


def test_one_seed_has_no_deviation_and_no_interval():
    results = made_up({"none": (9.0,), "SE": (8.5,)})
    se = results.rows[1]
    assert (se.top1_deviation, se.interval) == (None, None)
    assert se.difference == pytest.approx(-0.5)
    assert "-0.50 " in str(results)
    assert "One seed gives no interval" in str(results)


def test_equal_errors_do_not_exclude_zero():
    results = made_up({"none": (9.0, 8.0), "SE": (9.0, 8.0)})
    assert results.rows[1].interval == (0, 0)
    assert "0 of 1 intervals over 2 seeds exclude zero." in results.markdown()


def test_the_note_says_what_excludes_zero_and_what_chance_does():
    text = made_up(ERRORS).markdown()
    assert (
        '2 of 3 intervals over 3 seeds exclude zero: "CBAM & co" (lower '
        'error), "worse_1" (higher error).'
    ) in text
    assert "of the 3 different comparisons in all tables about 0.2" in text
    assert "the same 1,000 test images" in text


def test_tables_have_the_form_of_the_papers():
    lines = made_up(ERRORS).markdown().splitlines()
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in lines
        if line.startswith("|")
    ]
    assert lines[0] == (
        "**Table 4: no attention, SE and CBAM, small on digits_1, 3 seeds**"
    )
    assert rows[0] == [
        "description",
        "parameters (M)",
        "GMACs",
        "top-1 error (%)",
        "difference (95 %)",
        "s / epoch",
    ]
    low, high = stats.ttest_rel(
        ERRORS["SE"], ERRORS["none"]
    ).confidence_interval(0.95)
    assert rows[2:4] == [
        ["none", "25.56", "3.858", "9.03 \N{PLUS-MINUS SIGN} 1.05", "", "2.0"],
        [
            "SE",
            "25.56",
            "3.858",
            "8.93 \N{PLUS-MINUS SIGN} 0.65",
            f"-0.10 [{low:+.2f}, {high:+.2f}]",
            "2.0",
        ],
    ]


def test_the_terminal_has_no_line_over_120_characters():
    errors = {"channel + spatial (avg & max, k=3)": (9.0, 10.0), "none": (1, 2)}
    errors = {"none": (1.0, 2.0), **errors}
    results = made_up(errors)
    assert max(map(len, str(results).splitlines())) <= 120


def test_csv_has_a_column_per_seed():
    rows = list(csv.DictReader(io.StringIO(made_up(ERRORS).csv())))
    assert [row["attention"] for row in rows] == list(ERRORS)
    for row in rows:
        own = [float(row[f"top1_error_seed_{seed}"]) for seed in range(3)]
        assert own == list(ERRORS[row["attention"]])
    assert rows[0]["interval_low"] == ""
    assert float(rows[2]["interval_high"]) < 0


def test_json_has_everything():
    results = made_up(ERRORS)
    content = json.loads(results.json())
    assert content["seeds"] == [0, 1, 2]
    assert content["test_images"] == 1000
    assert [row["top1_errors"] for row in content["rows"]] == [
        list(own) for own in ERRORS.values()
    ]
    assert content["rows"][1]["interval"] == list(results.rows[1].interval)
