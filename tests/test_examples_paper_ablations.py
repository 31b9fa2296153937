"""The paper's Tables 1 to 3, trained by an example."""

import json
import re

import keras
import pytest

from cbam_keras import comparison, study
from cbam_keras.layers import ATTENTION
from examples import paper_ablations

pytest.importorskip("scipy.stats", reason="intervals need SciPy")
LABELS = {
    1: ["none", "SE", "channel (max)", "channel (avg & max)"],
    2: [
        "channel (avg & max)",
        "CBAM",
        "channel + spatial (1x1 conv, k=3)",
        "channel + spatial (1x1 conv, k=7)",
        "channel + spatial (avg & max, k=3)",
    ],
    3: ["SE", "CBAM", "spatial + channel", "channel & spatial in parallel"],
}


def network(data, attention):
    """Returns a network that compiles quickly."""
    inputs = keras.Input(data.image_shape)
    x = keras.layers.AveragePooling2D(7)(inputs)
    x = keras.layers.Conv2D(4, 1)(x)
    if attention is not None:
        x = attention(name="attention")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    outputs = keras.layers.Dense(len(data.class_names), "softmax")(x)
    return keras.Model(inputs, outputs)


def test_the_rows_of_the_paper_are_trained_and_compared(
    few_digits, quick, tmp_path, capsys
):
    quick.setitem(comparison.NETWORKS, "small", network)
    line = f"--epochs 1 --seeds 1 --output {tmp_path / 'run'}"
    paper_ablations.main(line.split())
    assert len(list((tmp_path / "run").glob("*/*.keras"))) == 10
    results = study.Results.read(tmp_path / "run")
    assert {row.label for row in results.rows} == {*LABELS[3]}
    without = [row.label for row in results.rows if row.difference is None]
    assert without == ["SE"]
    printed = capsys.readouterr().out
    _, *tables = re.split(r"^Table \d: ", printed, flags=re.M)
    for labels, table in zip(LABELS.values(), tables, strict=True):
        assert all(f" {label} " in table for label in labels)
    for row, (kind, options) in paper_ablations.ROWS.items():
        name = paper_ablations.name_of(row)
        file = tmp_path / f"run/{name}-seed0/{name}-seed0.keras"
        model = keras.saving.load_model(file)
        gates = [x for x in model.layers if x.name == "attention"]
        assert [type(x) for x in gates] == [ATTENTION[x] for x in [kind] if x]
        for gate in gates:
            config = gate.get_config()
            expected = {"identity_init": False, **options}
            values = {key: config[key] for key in expected}
            assert json.dumps(values) == json.dumps(expected)
