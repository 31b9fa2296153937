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


def test_a_measurement_replaces_only_what_it_repeats(stored):
    gpu, half = {"devices": ["a GPU"]}, {"dtype": "mixed_bfloat16"}
    kept = stored(RECORD, RECORD | gpu, RECORD | half, RECORD | {"commit": "d"})
    assert kept == [RECORD | gpu, RECORD | half, RECORD | {"commit": "d"}]
    # A table for each, with its own source.
    assert tables.table("networks").count("Measured on a processor") == 2
