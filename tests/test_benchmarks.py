"""Benchmarks compare equal computations, and run; their stored tables."""

import json
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
from layer_checks import built, output, random_input, stored

from benchmarks import measured, naive, tables
from cbam_keras import CBAM

# Those of docs/guides/speed.md; the others take long, or need other packages.
SCRIPTS = ("layers", "networks", "memory", "startup")
ROOT = pathlib.Path(__file__).parent.parent
MODE = {"tensorflow": "tensorflow-graph"}.get(
    keras.backend.backend(), keras.backend.backend()
)


def test_the_naive_layer_computes_what_ours_does():
    shape = (2, 7, 5, 32)
    ours = built(CBAM(), shape)
    pasted = naive.NaiveCBAM()
    pasted.build(shape)
    channel = ours.channel_attention
    pasted.squeeze.kernel.assign(channel.squeeze_kernel)
    pasted.squeeze.bias.assign(channel.squeeze_bias)
    pasted.excite.kernel.assign(channel.excite_kernel)
    pasted.excite.bias.assign(channel.excite_bias)
    pasted.conv.kernel.assign(ours.spatial_attention.kernel)
    x = random_input(shape)
    np.testing.assert_allclose(output(pasted, x), output(ours, x), atol=1e-5)


@pytest.mark.needs_torch
def test_the_authors_module_computes_our_official_variant():
    torch = pytest.importorskip("torch", reason="needs PyTorch")
    from benchmarks.authors import AuthorsCBAM

    # What their own code computed; that ours does, too: test_layers_authors.py.
    arrays, weights = stored("official_cbam_c32_r16")
    module = AuthorsCBAM(32).eval()
    for name, value in module.state_dict().items():
        name = name.replace("channel_gate", "ChannelGate")
        name = name.replace("spatial_gate", "SpatialGate.spatial")
        value.copy_(torch.tensor(weights[name]))
    with torch.no_grad():
        y = module(torch.tensor(arrays["input"])).numpy()
    np.testing.assert_allclose(y, arrays["output_f64"], atol=1e-5)


@pytest.mark.exhaustive
def test_every_script_runs_at_its_smallest_size(tmp_path):
    subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks", *SCRIPTS),
            *("--mode", MODE, "--quick", "--output", tmp_path),
        ],
        check=True,
        capture_output=True,
        cwd=ROOT,
    )
    record = json.loads((tmp_path / f"layers-{MODE}.json").read_text())
    assert record["over_ours"]["forward"]["CBAM"] == 1
    # What is stored has no place on a machine.
    assert str(tmp_path) not in record["command"]
    for row in record["shapes"]:
        assert {"copy", "CBAM", "naive CBAM", "SE"} <= set(row["entries"])
    tables = [(tmp_path / f"{name}-{MODE}.md").read_text() for name in SCRIPTS]
    text = (tmp_path / "bench.md").read_text()
    assert text == "# Benchmarks\n\n" + "\n".join(tables)


def test_pages_have_the_tables_of_the_files():
    # Run `python -m benchmarks.tables` after a change of the files.
    pages = tables.pages()
    assert pages and {x: x.read_text("utf-8") for x in pages} == pages


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


def test_a_measurement_replaces_only_what_it_repeats(tmp_path, monkeypatch):
    monkeypatch.setattr(measured, "STORED", tmp_path / "measured.jsonl")
    measured.STORED.touch()
    gpu, half = {"devices": ["a GPU"]}, {"dtype": "mixed_bfloat16"}
    kept = [RECORD | gpu, RECORD | half, RECORD | {"commit": "d"}]
    for record in (RECORD, *kept):
        measured.store(dict(record))
    assert measured.stored() == kept
    # A table for each, with its own source.
    assert tables.table("networks").count("Measured on a processor") == 2
