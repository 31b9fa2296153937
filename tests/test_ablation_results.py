"""`AblationResults`: tables, notes, verdict, CSV and JSON, of made-up rows."""

import csv
import dataclasses
import io
import json

from cbam_keras import ablation

NONE = ablation.AblationRow(
    table=4,
    network="small",
    attention="none",
    parameters=25557032,
    macs=3858000000,
    top1_errors=(9.0, 8.0, 10.1),
    top1_error=9.033,
    top1_deviation=1.051,
    difference=None,
    interval=None,
    top5_errors=None,
    top5_error=None,
    top5_deviation=None,
    seconds_per_epoch=2.0,
)


def row(attention, difference, interval, **more):
    own = {"difference": difference, "interval": interval, **more}
    return dataclasses.replace(NONE, attention=attention, **own)


SE = row("SE", -0.1, (-1.1, 0.9), top1_error=8.933, top1_deviation=0.651)
LOWER = row("CBAM & co", -2.933, (-3.1, -2.8), top1_errors=(6.1, 5.0, 7.2))
HIGHER = row("worse_1", 3.067, (2.9, 3.2))


def results(*rows):
    return ablation.AblationResults(
        rows=list(rows),
        data="digits_1",
        seeds=tuple(range(len(rows[0].top1_errors))),
        test_images=1000,
        output="out",
        details=None,
    )


ALL = results(NONE, SE, LOWER, HIGHER)


def test_tables_have_the_form_of_the_papers():
    lines = ALL.markdown().splitlines()
    cells = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in lines
        if line.startswith("|")
    ]
    assert lines[0] == (
        "**Table 4: no attention, SE and CBAM, small on digits_1, 3 seeds**"
    )
    assert cells[0] == [
        "description",
        "parameters (M)",
        "GMACs",
        "top-1 error (%)",
        "difference (95 %)",
        "s / epoch",
    ]
    assert cells[2:4] == [
        ["none", "25.56", "3.858", "9.03 ± 1.05", "", "2.0"],
        ["SE", "25.56", "3.858", "8.93 ± 0.65", "-0.10 [-1.10, +0.90]", "2.0"],
    ]


def test_each_table_is_printed_with_its_own_rows():
    first = dataclasses.replace(NONE, table=1)
    text = str(results(first, dataclasses.replace(SE, table=1), NONE, LOWER))
    one, four = text.split("Table 4: ")
    assert one.startswith("Table 1: channel attention, small on digits_1")
    assert "│ SE " in one and "│ SE " not in four
    assert four.endswith("All files are in out")
    assert '1 of 1 intervals over 3 seeds exclude zero: "CBAM & co"' in four


def test_the_note_says_what_excludes_zero_and_what_chance_does():
    text = ALL.markdown()
    assert (
        '2 of 3 intervals over 3 seeds exclude zero: "CBAM & co" (lower '
        'error), "worse_1" (higher error).'
    ) in text
    assert "of the 3 different comparisons in all tables about 0.2" in text
    assert "the same 1,000 test images" in text


def test_the_verdict_counts_what_is_in_two_tables_once():
    others = [dataclasses.replace(own, table=1) for own in (NONE, LOWER)]
    verdict = results(*others, NONE, SE, LOWER).verdict
    assert verdict.startswith(
        "1 of 2 differences to the first row of a table exclude zero over 3 "
        'seeds: "CBAM & co" (lower error). '
    )


def test_equal_errors_do_not_exclude_zero():
    text = results(NONE, row("SE", 0.0, (0, 0))).markdown()
    assert "0 of 1 intervals over 3 seeds exclude zero." in text


def test_one_seed_has_no_deviation_and_no_interval():
    one = {"top1_errors": (9.0,), "top1_deviation": None}
    found = results(
        row("none", None, None, **one), row("SE", -0.5, None, **one)
    )
    assert " -0.50 │" in str(found)
    assert "±" not in str(found)
    assert "One seed gives no interval" in str(found)
    assert "One seed gives no interval" in found.verdict


def test_csv_has_a_column_per_seed():
    rows = list(csv.DictReader(io.StringIO(ALL.csv())))
    assert [own["attention"] for own in rows] == [
        own.attention for own in ALL.rows
    ]
    assert [float(rows[2][f"top1_error_seed_{n}"]) for n in range(3)] == [
        *LOWER.top1_errors
    ]
    assert (rows[0]["interval_low"], rows[0]["difference"]) == ("", "")
    assert float(rows[2]["interval_low"]) == -3.1
    assert float(rows[2]["interval_high"]) == -2.8


def test_json_has_everything():
    content = json.loads(ALL.json())
    assert (content["data"], content["test_images"]) == ("digits_1", 1000)
    assert content["seeds"] == [0, 1, 2]
    assert content["rows"] == [
        json.loads(json.dumps(dataclasses.asdict(own))) for own in ALL.rows
    ]
