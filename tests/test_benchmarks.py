"""Benchmarks compare equal computations, check options, and run."""

import json
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
from layer_checks import built, channels_last, output, random_input, to_numpy

from benchmarks import __main__ as command
from benchmarks import naive
from cbam_keras import CBAM, VARIANTS

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
    shape = (2, 7, 5, 32)
    ours = built(CBAM(**VARIANTS["official"]), shape)
    channel, spatial = ours.channel_attention, ours.spatial_attention
    mlp, norm = "channel_gate.mlp", spatial.batch_norm
    weights = {
        f"{mlp}.1.weight": keras.ops.transpose(channel.squeeze_kernel),
        f"{mlp}.1.bias": channel.squeeze_bias,
        f"{mlp}.3.weight": keras.ops.transpose(channel.excite_kernel),
        f"{mlp}.3.bias": channel.excite_bias,
        "spatial_gate.conv.weight": keras.ops.transpose(
            spatial.kernel, (3, 2, 0, 1)
        ),
        "spatial_gate.bn.weight": norm.gamma,
        "spatial_gate.bn.bias": norm.beta,
        "spatial_gate.bn.running_mean": norm.moving_mean,
        "spatial_gate.bn.running_var": norm.moving_variance,
        "spatial_gate.bn.num_batches_tracked": np.zeros((), "int64"),
    }
    from benchmarks.authors import AuthorsCBAM

    module = AuthorsCBAM(32).eval()
    module.load_state_dict(
        {
            name: torch.tensor(np.array(to_numpy(value)))
            for name, value in weights.items()
        }
    )
    x = random_input(shape)
    with torch.no_grad():
        y = module(torch.tensor(x.transpose(0, 3, 1, 2).copy())).numpy()
    np.testing.assert_allclose(output(ours, x), channels_last(y), atol=1e-5)


@pytest.mark.exhaustive
def test_every_script_runs_at_its_smallest_size(tmp_path):
    subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks", *command.SCRIPTS),
            *("--mode", MODE, "--quick", "--output", tmp_path),
        ],
        check=True,
        capture_output=True,
        cwd=ROOT,
    )
    record = json.loads((tmp_path / f"layers-{MODE}.json").read_text())
    for row in record["shapes"]:
        assert {"copy", "CBAM", "naive CBAM", "SE"} <= set(row["entries"])
    tables = [
        (tmp_path / f"{name}-{MODE}.md").read_text() for name in command.SCRIPTS
    ]
    text = (tmp_path / "bench.md").read_text()
    assert text == "# Benchmarks\n\n" + "\n".join(tables)


@pytest.fixture
def all_installed(monkeypatch):
    monkeypatch.setattr(command, "is_installed", lambda mode: True)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("layer", "`layer` is none of layers, networks, memory, building"),
        ("--shapes 1x2x3", "must be BxHxWxC"),
        ("--shapes 1x2x3x8", "at least 16 channels"),
        ("--repeats 0", "must be a positive integer. Received: '0'"),
        ("--models ResNet18", "is an option of networks and memory"),
        ("--mode torch-compile", "`layers` has no mode torch-compile"),
    ],
)
def test_wrong_options_are_refused(all_installed, capsys, given, message):
    with pytest.raises(SystemExit) as caught:
        command.parse(given.split())
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
