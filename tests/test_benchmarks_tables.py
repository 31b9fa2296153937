"""Tables of the pages are those of what was measured."""

from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import tables, when_it_helps

RECORD = {
    "benchmark": "networks",
    "mode": "jax",
    "devices": ["a processor"],
    "cores": 2,
    "jax": "0.9",
    "commit": "abc",
    "rows": [
        {"what": "ResNet50, training", "kind": "none", "ratio": 1.0},
        {"what": "ResNet50, training", "kind": "cbam", "ratio": 1.25},
    ],
}


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """Stores records in an empty file; returns what it holds."""
    monkeypatch.setattr(tables, "STORED", tmp_path / "measured.jsonl")
    tables.STORED.touch()

    def store(*records):
        for record in records:
            tables.store(dict(record))
        return tables.stored()

    return store


def test_pages_have_the_tables_of_the_files():
    # Run `python -m benchmarks.tables` after a change of the files.
    pages = tables.pages()
    assert pages and {x: x.read_text("utf-8") for x in pages} == pages


def test_a_table_has_what_was_measured_and_on_what(stored):
    several = RECORD["rows"][1] | {"ratio": [1.1, 0.7]}
    stored(RECORD, RECORD | {"mode": "torch", "rows": [several]})
    text = tables.page("a\n<!-- table: networks -->\nold\n<!-- /table -->\nb\n")
    assert text == (
        "a\n<!-- table: networks -->\n\n"
        "|  | JAX | PyTorch |\n|---|---|---|\n"
        "| ResNet50, training, CBAM | +25 % | +10 to -30 % |\n\n"
        "Measured on a processor, 2 cores; JAX 0.9; commit abc.\n\n"
        "<!-- /table -->\nb\n"
    )
    assert tables.page(text) == text


def test_a_measurement_replaces_only_what_it_repeats(stored):
    gpu, half = {"devices": ["a GPU"]}, {"dtype": "mixed_bfloat16"}
    kept = stored(RECORD, RECORD | gpu, RECORD | half, RECORD | {"commit": "d"})
    assert kept == [RECORD | gpu, RECORD | half, RECORD | {"commit": "d"}]
    # A table for each, with its own source.
    assert tables.table("networks").count("Measured on a processor") == 2


def test_layers_are_compared_with_ours(stored):
    means = {"forward": {"copy": 0.2, "CBAM": 1, "eca": 0.5}}
    means["forward and backward"] = {"CBAM": 1, "eca": 0.8125}
    stored(RECORD | {"benchmark": "layers", "over_ours": means, "shapes": []})
    lines = tables.table("layers").splitlines()
    assert lines[2:4] == ["| ECA | 0.5, 0.8 |", ""]


def test_differences_are_those_of_the_accuracies_stored():
    content = when_it_helps.stored()["articles"]
    values = {
        name: np.array(
            [
                cell["metrics"]["test_accuracy"]
                for cell in content["cells"]
                if cell["variant"] == name
            ]
        )
        for name in ("none", "cbam")
    }
    each = 100 * (values["cbam"] - values["none"])
    # Student's t for four seeds, 3 degrees of freedom.
    half = 3.182 * each.std(ddof=1) / 2
    expected = f"{each.mean():+.2f} ± {half:.2f}"
    columns = tables.differences(["articles"], ["cbam"]).splitlines()[-1]
    none = f"{100 * values['none'].mean():.2f}"
    assert columns == f"| clothing among clutter | 4 | {none} | {expected} |"


def test_a_study_has_a_column_for_each_of_its_measures():
    cells = when_it_helps.stored()["bccd"]["cells"]
    found = [x["metrics"] for x in cells if x["variant"] == "cbam"]
    expected = [
        f"{100 * np.mean([metrics[key] for metrics in found]):.1f}"
        for key in ("map", "map50", "map75")
    ]
    (line,) = (x for x in tables.table("bccd").splitlines() if "| CBAM |" in x)
    _, _, mean, _, *others, _ = line.split("|")
    assert [x.strip() for x in (mean, *others)] == expected


@pytest.mark.parametrize(
    ("seeds", "pairs", "text"),
    [
        (1, 1, "+0.05"),
        (2, 2, "+0.05"),
        (3, 3, "+0.05 ± 0.20"),
        (3, 1, "+0.05 (1 seed)"),
        (5, 3, "+0.05 ± 0.20 (3 seeds)"),
    ],
)
def test_three_seeds_have_an_interval_and_missing_are_noted(seeds, pairs, text):
    interval = -0.0015, 0.0025
    row = SimpleNamespace(pairs=pairs, difference=0.0005, interval=interval)
    none = SimpleNamespace(values=[0.8] * seeds)
    assert tables.difference(row, none) == text


@pytest.mark.parametrize(
    ("last", "is_noted"), [(0.9, True), (0.81, False)], ids=["rising", "flat"]
)
def test_a_network_that_was_still_learning_is_noted(last, is_noted):
    epochs = [0.1, 0.5, 0.7, 0.8, last]
    history = [{"val_accuracy": x} for x in epochs]
    run = SimpleNamespace(variant="none", history=history)
    found = SimpleNamespace(variants=["none"], runs=[run])
    assert ("not converged" in tables.curves(found)) == is_noted


def test_a_table_of_no_name_is_refused(stored):
    stored(RECORD | {"name": "killed", "rows": [{"command": "train"}]})
    assert "| train |" in tables.table("killed")
    with pytest.raises(ValueError, match=r"networks.*Received: 'network'"):
        tables.table("network")
