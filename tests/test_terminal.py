"""Tables for terminals, notebooks and pandas, and bars."""

import dataclasses
import re

import keras
import pytest
from study_checks import made

import cbam_keras
from cbam_keras import _terminal, study

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


# Results, as a data frame and as a table in notebooks.


pandas = pytest.importorskip("pandas", reason="what data frames are of")
pytest.importorskip("scipy.stats", reason="intervals need SciPy")
# The name of a network or dataset, which must stay text.
EVIL = "<script>alert(1)</script>"
ACCURACIES = {"none": 0.85, EVIL: 0.9, "se": 0.87}
# The t distribution of one degree gives 5 +- 12.706 points.
CHANGES = {EVIL: 0.01}


def of_study():
    by_seed = {
        name: {0: x - CHANGES.get(name, 0), 7: x + CHANGES.get(name, 0)}
        for name, x in ACCURACIES.items()
    }
    return made(by_seed, data=EVIL, sizes={"test": 100})


def of_profile():
    inputs = keras.Input((8, 8, 4))
    return cbam_keras.profile_model(
        keras.Model(inputs, keras.layers.Conv2D(2, 1, name="conv")(inputs))
    )


@pytest.mark.parametrize(
    ("make", "column", "values"),
    [(of_study, "mean", [0.85, 0.9, 0.87]), (of_profile, "macs", [512])],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_result_is_a_data_frame_and_a_table(make, column, values):
    result = make()
    frame = result.to_dataframe()
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame[column].dropna()) == values
    shown = result._repr_html_()
    assert re.match(rf"<{type(result).__name__}: .{{1,200}}>\Z", repr(result))
    tables = str(result).count("┏")
    assert tables > 0
    assert shown.count("<table>") == tables
    assert EVIL not in shown


def test_results_print_each_network_with_its_numbers():
    results = of_study()
    text = str(results)
    assert text.splitlines()[0].strip() == "Results in runs/own, 2 seeds"
    assert results.tables()[0].rows[1] == {
        "network": EVIL,
        "parameters": "9,000",
        "test accuracy (%)": "90.00 ± 1.41",
        'difference from "none"': "+5.00 [-7.71, +17.71]",
        "s / epoch": "3.5",
    }
    # A few photographs are not taken for many points.
    for shown in (" ".join(text.split()), results._repr_html_()):
        assert (
            shown.count(
                "100 test images for all runs (one image = 1.00 points)"
            )
            == 1
        )


def test_the_table_fits_into_a_terminal_of_80_columns():
    means = {"none": 0.1, "coordinate": 0.9, "cbam": 0.5}
    by_seed = {name: {0: x, 7: x + 0.05} for name, x in means.items()}
    by_seed["coordinate"][7] = 0.96
    (table,) = made(by_seed, sizes={"test": 100}).tables()
    for row in table.rows:
        row |= {"parameters": "25,557,032", "s / epoch": "123.4"}
    assert "+80.50 [+" in str(table)
    assert max(map(len, str(table).splitlines()[:8])) <= 80
    assert "Differences are in percentage points." in table.note


def test_what_a_run_lacks_shifts_no_number():
    results = of_study()
    failed = study.Outcome("se", 0, "diverged", "nan")
    others = [x for x in results.outcomes if (x.variant, x.seed) != ("se", 0)]
    found = dataclasses.replace(results, outcomes=(failed, *others))
    none, evil, se = found.rows
    # A network is described by a training that finished.
    assert (se.parameters, se.failures) == (9000, ("seed 0: diverged (nan)",))
    frame = found.to_dataframe()
    assert tuple(frame.loc[1, ["low", "high"]]) == evil.interval
    assert evil.interval[0] < evil.interval[1]
    assert frame.loc[2, ["low", "high"]].isna().all()
    assert list(frame.loc[2, ["seeds", "mean"]]) == [1, 0.87]


def test_without_intervals_none_are_promised():
    found = of_study()
    first = tuple(x for x in found.outcomes if x.seed == 0)
    found = dataclasses.replace(found, outcomes=first, seeds=(0,))
    texts = [str(found), found._repr_html_()]
    assert not [text for text in texts if "95% CI" in text]
    assert "95% CI" in str(of_study())
