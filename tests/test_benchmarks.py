"""The benchmarks: that they compare equals, and what the command refuses."""

import importlib.util
import json
import os
import pathlib
import statistics
import subprocess
import sys

import keras
import numpy as np
import pytest

from cbam_keras import CBAM, VARIANTS, _bench_command, cli

SCRIPTS = pathlib.Path(__file__).parent.parent / "benchmarks"
MODE = {"tensorflow": "tensorflow-graph"}.get(
    keras.backend.backend(), keras.backend.backend()
)


def script(name):
    """Returns a module of the folder of benchmarks."""
    path = SCRIPTS / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def randomized(layer, shape):
    """Builds a layer, and gives its weights values that none starts with."""
    layer.build(shape)
    rng = np.random.default_rng(1)
    for variable in layer.weights:
        # Variances must be positive.
        low = 0.1 if variable.path.endswith("variance") else -0.3
        variable.assign(rng.uniform(low, 0.5, variable.shape))
    return layer


# That equals are compared.


def test_the_naive_layer_computes_what_ours_does():
    shape = (2, 7, 5, 32)
    ours = randomized(CBAM(), shape)
    naive = script("naive").NaiveCBAM()
    naive.build(shape)
    channel = ours.channel_attention
    naive.squeeze.kernel.assign(channel.squeeze_kernel)
    naive.squeeze.bias.assign(channel.squeeze_bias)
    naive.excite.kernel.assign(channel.excite_kernel)
    naive.excite.bias.assign(channel.excite_bias)
    naive.conv.kernel.assign(ours.spatial_attention.kernel)
    x = np.random.default_rng(0).standard_normal(shape, "float32")
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(naive(x)),
        keras.ops.convert_to_numpy(ours(x)),
        atol=1e-5,
    )


@pytest.mark.parametrize("arm", ["none", "se", "cbam", "naive"])
def test_a_network_is_built_with_each_arm(arm):
    from cbam_keras import models

    naive = script("naive")
    network = models.ResNet(
        (1,),
        block="basic",
        widths=(16,),
        input_shape=(8, 8, 3),
        classes=2,
        stem="small",
        attention=naive.ARMS[arm],
    )
    kinds = [type(layer).__name__ for layer in network.layers]
    wanted = {"se": "SqueezeExcite", "cbam": "CBAM", "naive": "NaiveCBAM"}
    assert [kind for kind in kinds if kind in wanted.values()] == [
        wanted[key] for key in wanted if key == arm
    ]


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
    module = script("authors").AuthorsCBAM(32).eval()
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


# What the scripts tell.


def test_turns_call_all_equally_often_and_measure_each():
    calls = []
    functions = {name: lambda name=name: calls.append(name) for name in "abc"}
    timing = script("timing")
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
    ratio = script("timing").added_ratio
    assert ratio({"none": 10, "cbam": 12, "naive": 18}) == 0.25
    assert ratio({"none": 10, "cbam": 12, "naive": 9}) is None


@pytest.mark.slow
def test_layers_are_measured_in_a_mode_of_this_backend(tmp_path):
    shapes = ["1x4x4x16", "2x3x5x32"]
    subprocess.run(
        [
            *(sys.executable, SCRIPTS / "layers.py", "--mode", MODE),
            *("--shapes", *shapes, "--repeats", "2", "--output", tmp_path),
        ],
        check=True,
        capture_output=True,
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

# Stands in for a script: it notes how it was started, and may fail.
SCRIPT = """
import json, os, pathlib, sys
name = pathlib.Path(__file__).stem
arguments = sys.argv[1:]
mode = arguments[arguments.index("--mode") + 1]
output = pathlib.Path(arguments[arguments.index("--output") + 1])
if name == "networks":
    sys.exit(3)
backend = os.environ["KERAS_BACKEND"]
started = {"arguments": arguments, "backend": backend}
(output / f"{name}-{mode}.json").write_text(json.dumps(started))
(output / f"{name}-{mode}.md").write_text(f"## {name}, {mode}\\n")
"""


@pytest.fixture
def scripts(tmp_path, monkeypatch):
    """Puts scripts that measure nothing in the place of those there are."""
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    for name in _bench_command.SCRIPTS:
        (folder / f"{name}.py").write_text(SCRIPT)
    monkeypatch.setattr(_bench_command, "FOLDER", folder)
    monkeypatch.setattr(_bench_command, "_is_installed", lambda mode: True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_script_that_the_command_names_exists():
    assert _bench_command.FOLDER == SCRIPTS
    for name in _bench_command.SCRIPTS:
        assert (SCRIPTS / f"{name}.py").is_file()


def test_layers_run_in_all_modes_by_default(scripts, capfd):
    assert cli.main(["bench"]) == 0
    output = scripts / "runs" / "bench"
    assert (output / "bench.md").read_text() == (
        "# Benchmarks\n\n## layers, tensorflow-graph\n\n"
        "## layers, tensorflow-xla\n\n## layers, jax\n\n## layers, torch\n"
    )
    for mode in _bench_command.MODES:
        started = json.loads((output / f"layers-{mode}.json").read_text())
        assert started["backend"] == mode.split("-")[0]


@pytest.mark.parametrize(
    ("arguments", "passed"),
    [
        (["layers", "--repeats", "4"], ["--repeats", "4"]),
        (
            ["layers", "--shapes", "1x2x3x16", "4x5x6x32"],
            ["--shapes", "1x2x3x16", "4x5x6x32"],
        ),
        (
            ["memory", "--models", "MobileNet", "--batch-size", "2"],
            ["--models", "MobileNet", "--batch-size", "2"],
        ),
        (
            ["layers", "--quick", "--repeats", "9"],
            [*_bench_command.QUICK["layers"], "--repeats", "9"],
        ),
    ],
    ids=["repeats", "shapes", "models", "quick"],
)
def test_options_reach_the_script(scripts, arguments, passed):
    command = ["bench", *arguments, "--mode", "jax", "--output", "out"]
    assert cli.main(command) == 0
    started = json.loads(
        (scripts / "out" / f"{arguments[0]}-jax.json").read_text()
    )
    assert started["arguments"] == ["--mode", "jax", "--output", "out", *passed]


def test_a_script_that_fails_is_named_and_the_others_stay(scripts, capfd):
    command = ["bench", "layers", "networks", "building", "--mode", "torch"]
    assert cli.main(command) == 1
    assert capfd.readouterr().err == (
        "cbam-keras bench: error: networks-torch failed\n"
    )
    assert (scripts / "runs" / "bench" / "bench.md").read_text() == (
        "# Benchmarks\n\n## layers, torch\n\n## building, torch\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["layer"], 'Did you mean "layers"?'),
        (["layers", "layers"], "`names` must be one or several of"),
        (["--shapes", "1x2x3"], "`shapes` must be BxHxWxC"),
        (["--shapes", "1x2x3x8"], "at least 16 channels"),
        (["--shapes", "1x0x3x16"], "Received: '1x0x3x16'"),
        (["--repeats", "0"], "`repeats` must be a positive integer"),
        (["networks", "--batch-size", "0"], "`batch_size` must be a positive"),
        (["networks", "--models", "ResNet19"], 'Did you mean "ResNet18"?'),
        (["--models", "ResNet18"], "is an option of networks and memory"),
        (["memory", "--shapes", "1x2x3x16"], "is an option of layers"),
        (["--output", "benchmarks/layers.py"], "`output` must be a folder"),
    ],
    ids=[
        "unknown_name",
        "name_twice",
        "shape_of_rank_3",
        "few_channels",
        "size_of_0",
        "no_repeats",
        "no_images",
        "unknown_model",
        "models_for_layers",
        "shapes_for_memory",
        "output_is_a_file",
    ],
)
def test_a_mistake_is_told_before_any_work(scripts, capfd, arguments, message):
    assert cli.main(["bench", *arguments]) == 2
    printed = capfd.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith("cbam-keras bench: error: ")
    assert message in line
    assert not (scripts / "runs").exists()


def test_an_unknown_mode_is_told_by_the_parser(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["bench", "--mode", "theano"])
    assert caught.value.code == 2
    assert "invalid choice: 'theano'" in capsys.readouterr().err


def test_a_mode_whose_backend_is_missing_names_the_extra(
    scripts, monkeypatch, capfd
):
    monkeypatch.setattr(_bench_command, "_is_installed", lambda mode: False)
    monkeypatch.setitem(sys.modules, "jax", None)
    assert cli.main(["bench", "--mode", "jax"]) == 2
    assert 'pip install "cbam_keras[jax]"' in capfd.readouterr().err


def test_without_a_clone_the_command_tells_where_to_get_one(
    scripts, monkeypatch, capfd
):
    monkeypatch.setattr(_bench_command, "FOLDER", scripts / "site-packages")
    assert cli.main(["bench"]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert f"git clone {_bench_command.REPOSITORY}" in line
    assert not (scripts / "runs").exists()


@pytest.mark.slow
def test_a_script_refuses_an_unknown_mode():
    done = subprocess.run(
        [sys.executable, SCRIPTS / "building.py", "--mode", "theano"],
        env={**os.environ, "KERAS_BACKEND": keras.backend.backend()},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "invalid choice: 'theano'" in done.stderr
