"""Tables of the pages are those of what was measured."""

import pytest

from benchmarks import measured, tables

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
    monkeypatch.setattr(measured, "STORED", tmp_path / "measured.jsonl")
    measured.STORED.touch()

    def store(*records):
        for record in records:
            measured.store(dict(record))
        return measured.stored()

    return store


def test_pages_have_the_tables_of_the_files():
    # Run `python -m benchmarks.tables` after a change of the files.
    pages = tables.pages()
    assert pages and {x: x.read_text("utf-8") for x in pages} == pages


def test_a_table_has_what_was_measured_and_on_what(stored):
    several = RECORD["rows"][1] | {"ratio": [1.11, 0.7]}
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


def test_percentages_are_rounded_and_equal_ones_are_one(stored):
    near = RECORD["rows"][1] | {"ratio": [1.04, 1.06]}
    stored(RECORD | {"rows": [near]})
    assert "| ResNet50, training, CBAM | +5 % |" in tables.table("networks")


def test_a_processor_without_a_name_is_left_out(stored):
    stored(RECORD | {"devices": ["a CPU"]})
    assert "Measured with JAX 0.9; commit abc." in tables.table("networks")


def test_part_of_a_table_by_hand_is_shown(stored):
    rows = [{"a": "1 (2, 3)", "b": "x"}, {"a": "4", "b": "y"}]
    stored(RECORD | {"name": "some", "rows": rows})
    text = measured.by_hand("some", ["a"], lambda row: row["b"] == "x")
    assert text.splitlines()[:4] == ["| a |", "|---|", "| 1 (2, 3) |", ""]
    assert "| 1 | x |" in measured.means("some")


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


def test_a_table_of_no_name_is_refused(stored):
    stored(RECORD | {"name": "killed", "rows": [{"command": "train"}]})
    assert "| train |" in tables.table("killed")
    with pytest.raises(ValueError, match=r"networks.*Received: 'network'"):
        tables.table("network")
