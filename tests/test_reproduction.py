"""The paper's tables: counted numbers equal the printed digits."""

import json
import pathlib
import re

import pytest

from cbam_keras import presets, reproduction

ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture(scope="module")
def tables():
    return reproduction.paper_tables()


# A copy of the printed numbers, independent of the one in the package:
# parameters in millions and multiply-accumulates in 1e9, without attention,
# with SE and with CBAM (Tables 4 and 5).
PRINTED = {
    "resnet18": "11.69 1.814 11.78 1.814 11.78 1.815",
    "resnet34": "21.80 3.664 21.96 3.664 21.96 3.665",
    "resnet50": "25.56 3.858 28.09 3.860 28.09 3.864",
    "resnet101": "44.55 7.570 49.33 7.575 49.33 7.581",
    "wideresnet18-1.5": "25.88 3.866 26.07 3.867 26.08 3.868",
    "wideresnet18-2.0": "45.62 6.696 45.97 6.696 45.97 6.697",
    "resnext50": "25.03 3.768 27.56 3.771 27.56 3.774",
    "resnext101": "44.18 7.508 48.96 7.512 48.96 7.519",
    "mobilenet": "4.23 0.569 5.07 0.570 5.07 0.576",
    "mobilenet-0.7": "2.30 0.283 2.71 0.283 2.71 0.289",
}
ROWS = [
    (first + ending, *numbers.split()[2 * i : 2 * i + 2])
    for first, numbers in PRINTED.items()
    for i, ending in enumerate(("", "-se", "-cbam"))
]


@pytest.mark.slow
@pytest.mark.parametrize("name, parameters, macs", ROWS)
def test_counts_equal_the_printed_digits(tables, name, parameters, macs):
    row = {row.preset.name: row for row in tables}[name]
    assert f"{row.parameters / 1e6:.2f}" == parameters
    assert f"{row.macs / 1e9:.3f}" == macs
    assert row.equal is True


@pytest.mark.slow
def test_every_row_of_every_table_is_built(tables):
    assert len(ROWS) == 30
    names = {row.preset.name for row in tables}
    assert names == {*presets.PRESETS, *presets.ABLATIONS}
    assert {name for name, *_ in ROWS} == set(presets.PRESETS)


@pytest.mark.slow
def test_docs_have_the_generated_tables(tables):
    page = (ROOT / "docs" / "paper-tables.md").read_text()
    found = re.search(
        r"<!-- cbam-keras table --markdown -->\n\n(.*?)\n\n<!-- end -->",
        page,
        flags=re.S,
    )
    assert found[1] == tables.markdown()


@pytest.fixture(scope="module")
def few():
    names = ["resnet18", "mobilenet-0.7-cbam", "resnet50-parallel"]
    return reproduction.paper_tables(names)


def test_prints_counted_printed_and_reported_numbers(few):
    text = str(few)
    line = next(line for line in text.splitlines() if "MobileNet (al" in line)
    cells = [cell.strip() for cell in line.strip("│").split("│")]
    assert cells[1:] == "CBAM|2.71|2.71|0.289|0.289|~31.51 / ~11.48".split("|")
    assert "2 of 2 rows" in text
    assert "not measured here" in text


def test_marks_what_is_only_recalled(few):
    markdown = few.markdown()
    assert "| ~29.60 / ~10.55 |" in " ".join(markdown.split())
    assert "| 22.95 / 6.59 |" in " ".join(markdown.split())


def test_json_holds_exact_counts(few):
    rows = json.loads(few.json())
    assert [row["name"] for row in rows] == [
        "resnet18",
        "mobilenet-0.7-cbam",
        "resnet50-parallel",
    ]
    assert rows[0]["parameters"] == 11_689_512
    assert rows[0]["equal"] is True
    assert rows[0]["top1_certainty"] == "recalled"
    assert rows[2]["printed_gflops"] is None
    assert rows[2]["equal"] is None


def test_a_row_that_differs_is_named():
    row = reproduction.TableRow(presets.PRESETS["resnet18"], 11_000_000, 1)
    assert row.equal is False
    text = str(reproduction.PaperTables([row]))
    assert "0 of 1 rows" in text
    assert "others: resnet18." in text


def test_unknown_row_is_an_error():
    with pytest.raises(ValueError, match='Did you mean "resnet50-cbam"'):
        reproduction.paper_tables(["resnet50-cbm"])
