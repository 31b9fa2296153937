"""The benchmarks: they compare equal computations, and check their options."""

import importlib.util
import json
import pathlib
import statistics
import subprocess
import sys

import keras
import networks
import numpy as np
import pytest

from benchmarks import __main__ as command
from benchmarks import arguments, naive, timing
from cbam_keras import CBAM, VARIANTS

ROOT = pathlib.Path(__file__).parent.parent
MODE = {"tensorflow": "tensorflow-graph"}.get(
    keras.backend.backend(), keras.backend.backend()
)


def randomized(layer, shape):
    """Builds a layer, and gives its weights values that none starts with."""
    layer.build(shape)
    rng = np.random.default_rng(1)
    for variable in layer.weights:
        # Variances must be positive.
        low = 0.1 if variable.path.endswith("variance") else -0.3
        variable.assign(rng.uniform(low, 0.5, variable.shape))
    return layer


# They compare equal computations.


@pytest.mark.every_backend
def test_the_naive_layer_computes_what_ours_does():
    shape = (2, 7, 5, 32)
    ours = randomized(CBAM(), shape)
    pasted = naive.NaiveCBAM()
    pasted.build(shape)
    channel = ours.channel_attention
    pasted.squeeze.kernel.assign(channel.squeeze_kernel)
    pasted.squeeze.bias.assign(channel.squeeze_bias)
    pasted.excite.kernel.assign(channel.excite_kernel)
    pasted.excite.bias.assign(channel.excite_bias)
    pasted.conv.kernel.assign(ours.spatial_attention.kernel)
    x = np.random.default_rng(0).standard_normal(shape, "float32")
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(pasted(x)),
        keras.ops.convert_to_numpy(ours(x)),
        atol=1e-5,
    )


@pytest.mark.parametrize("arm", ["none", "se", "cbam", "naive"])
def test_a_network_is_built_with_each_arm(arm):
    network = networks.resnet(widths=(16,), attention=naive.ARMS[arm])
    kinds = [type(layer).__name__ for layer in network.layers]
    wanted = {"se": "SqueezeExcite", "cbam": "CBAM", "naive": "NaiveCBAM"}
    assert [kind for kind in kinds if kind in wanted.values()] == [
        wanted[key] for key in wanted if key == arm
    ]


@pytest.mark.needs_torch
def test_the_authors_module_computes_our_official_variant():
    torch = pytest.importorskip("torch", reason="needs PyTorch")
    shape = (2, 7, 5, 32)
    ours = randomized(CBAM(**VARIANTS["official"]), shape)
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
            name: torch.tensor(np.array(keras.ops.convert_to_numpy(value)))
            for name, value in weights.items()
        }
    )
    x = np.random.default_rng(0).standard_normal(shape, "float32")
    with torch.no_grad():
        y = module(torch.tensor(x.transpose(0, 3, 1, 2).copy())).numpy()
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(ours(x, training=False)),
        y.transpose(0, 2, 3, 1),
        atol=1e-5,
    )


# What they measure.


def test_turns_call_all_equally_often_and_measure_each():
    calls = []
    functions = {name: lambda name=name: calls.append(name) for name in "abc"}
    seconds = timing.by_turns(functions, 5)
    assert {name: len(values) for name, values in seconds.items()} == {
        "a": 5,
        "b": 5,
        "c": 5,
    }
    warm_up = 3 * timing.WARM_UP
    rounds = [set(calls[i : i + 3]) for i in range(warm_up, len(calls), 3)]
    assert rounds == [{"a", "b", "c"}] * 5


def test_what_is_added_is_compared_where_it_can_be():
    ratio = timing.added_ratio
    assert ratio({"none": 10, "cbam": 12, "naive": 18}) == 0.25
    assert ratio({"none": 10, "cbam": 12, "naive": 9}) is None


@pytest.mark.every_backend
@pytest.mark.slow
def test_layers_are_measured_in_a_mode_of_this_backend(tmp_path):
    shapes = ["1x4x4x16", "2x3x5x32"]
    subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks", "layers", "--mode", MODE),
            *("--shapes", *shapes, "--repeats", "2", "--output", tmp_path),
        ],
        check=True,
        capture_output=True,
        cwd=ROOT,
    )
    record = json.loads((tmp_path / f"layers-{MODE}.json").read_text())
    backend = keras.backend.backend()
    assert record["mode"] == MODE
    assert {"keras", "numpy", "cbam_keras", backend} <= set(record["versions"])
    assert record["bounds_in_copies"] == {
        "forward": 2,
        "forward and backward": 4.5,
    }
    rows = record["shapes"]
    assert [row["shape"] for row in rows] == [[1, 4, 4, 16], [2, 3, 5, 32]]
    for row in rows:
        assert {"copy", "CBAM", "naive CBAM", "SE"} <= set(row["entries"])
        torch = importlib.util.find_spec("torch") is not None
        assert ("authors, PyTorch" in row["entries"]) == torch
        check_row(row)
    for kind, mean in record["geometric_mean_of_naive_over_ours"].items():
        ratios = [row["naive_over_ours"][kind] for row in rows]
        assert mean == pytest.approx(statistics.geometric_mean(ratios))
    table = (tmp_path / f"layers-{MODE}.md").read_text()
    for shape in shapes:
        # Of both kinds.
        assert table.count(f"| {shape} | naive CBAM") == 2
    assert (tmp_path / "bench.md").read_text() == f"# Benchmarks\n\n{table}"


def check_row(row):
    """Asserts that the numbers measured at one shape fit each other."""
    entries = row["entries"]
    copy = entries["copy"]["forward"]["median"]
    for name, entry in entries.items():
        kinds = ["forward", "forward and backward"][: 2 - (name == "copy")]
        assert list(entry) == kinds
        for measured in entry.values():
            assert 0 < measured["percentile_10"] <= measured["median"]
            assert measured["median"] <= measured["percentile_90"]
            assert measured["copies"] == pytest.approx(
                measured["median"] / copy
            )
    for kind, ratio in row["naive_over_ours"].items():
        naive, ours = (entries[x][kind] for x in ("naive CBAM", "CBAM"))
        assert ratio == pytest.approx(naive["median"] / ours["median"])


# The command.


@pytest.fixture
def all_installed(monkeypatch):
    monkeypatch.setattr(command, "is_installed", lambda mode: True)


def test_every_script_exists():
    for name in command.SCRIPTS:
        assert (ROOT / "benchmarks" / f"{name}.py").is_file()


def test_layers_run_in_all_modes_by_default(all_installed):
    options = command.parse([])
    assert options.names == ["layers"]
    assert options.mode == list(arguments.MODES)


@pytest.mark.parametrize(
    ("given", "passed"),
    [
        ("layers --repeats 4", "--repeats 4"),
        (
            "layers --shapes 1x2x3x16 4x5x6x32",
            "--shapes 1x2x3x16 4x5x6x32",
        ),
        (
            "memory --models MobileNet --batch-size 2",
            "--models MobileNet --batch-size 2",
        ),
        (
            "networks --dtype mixed_bfloat16",
            "--dtype mixed_bfloat16",
        ),
        (
            "layers --quick --repeats 9",
            " ".join(command.QUICK["layers"]) + " --repeats 9",
        ),
    ],
    ids=["repeats", "shapes", "models", "dtype", "quick"],
)
def test_options_reach_the_script(all_installed, given, passed):
    options = command.parse([*given.split(), "--output", "out"])
    (name,) = options.names
    assert command.command_of(name, "jax", options) == [
        *(sys.executable, "-m", f"benchmarks.{name}"),
        *("--mode", "jax", "--output", "out", *passed.split()),
    ]


def test_a_script_that_fails_is_named_and_the_others_are_kept(
    all_installed, monkeypatch, capsys, tmp_path
):
    def measured(name, mode, options):
        code = "raise SystemExit(3)"
        if name != "networks":
            path = str(tmp_path / f"{name}-{mode}.md")
            code = f"open({path!r}, 'w').write('## {name}, {mode}')"
        return [sys.executable, "-c", code]

    monkeypatch.setattr(command, "command_of", measured)
    given = ["layers", "networks", "building", "--mode", "torch"]
    assert command.main([*given, "--output", str(tmp_path)]) == 1
    assert capsys.readouterr().err == (
        "python -m benchmarks: networks-torch failed\n"
    )
    assert (tmp_path / "bench.md").read_text() == (
        "# Benchmarks\n\n## layers, torch\n## building, torch"
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("layer", "`layer` is none of layers, networks, memory, building"),
        ("--shapes 1x2x3", "must be BxHxWxC"),
        ("--shapes 1x2x3x8", "at least 16 channels"),
        ("--shapes 1x0x3x16", "Received: '1x0x3x16'"),
        ("--repeats 0", "must be a positive integer. Received: '0'"),
        ("networks --batch-size 0", "must be a positive integer"),
        ("networks --models ResNet19", "invalid choice: 'ResNet19'"),
        ("--models ResNet18", "is an option of networks and memory"),
        ("memory --shapes 1x2x3x16", "is an option of layers"),
        ("--mode theano", "invalid choice: 'theano'"),
        ("networks --dtype bfloat16", "invalid choice: 'bfloat16'"),
        ("--mode torch-compile", "`layers` has no mode torch-compile"),
    ],
)
def test_wrong_options_are_refused(all_installed, capsys, given, message):
    with pytest.raises(SystemExit) as caught:
        command.parse(given.split())
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_a_mode_without_its_backend_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(command, "is_installed", lambda mode: False)
    with pytest.raises(SystemExit):
        command.parse(["--mode", "jax"])
    assert "mode jax needs the package jax" in capsys.readouterr().err
