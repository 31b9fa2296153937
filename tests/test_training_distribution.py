"""One network on several devices: in one process, and in several."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import digits
import keras
import numpy as np
import pytest
from training_checks import KEYS, NETWORKS, SHORT, SMALL, linear, numbers

from cbam_keras import data, training
from cbam_keras.training import Distribution, distribution
from cbam_keras.training import processes as training_processes

SCRIPT = pathlib.Path(__file__).parent / "distribution_script.py"
BACKEND = keras.backend.backend()
only_tensorflow = pytest.mark.skipif(
    BACKEND != "tensorflow", reason="TensorFlow shares batches in its own way"
)
only_jax = pytest.mark.skipif(
    BACKEND != "jax", reason="under JAX alone several processes can train"
)
not_torch = pytest.mark.skipif(
    BACKEND == "torch", reason="Keras shares no batches under PyTorch"
)


# Mistakes.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"address": "10.0.0.1"}, "`address` must be host:port"),
        ({"address": ":29400"}, "`address` must be host:port"),
        ({"address": "host:port"}, "`address` must be host:port"),
        ({"address": "host:70000"}, "`address` must be host:port"),
        ({"address": None}, "`address` must be host:port"),
        ({"processes": 0}, "`processes` must be a positive integer"),
        ({"processes": 2.0}, "`processes` must be a positive integer"),
        ({"process": -1}, "`process` must be an integer from 0"),
        ({"process": 2}, "`process` must be an integer from 0 to `processes`"),
    ],
)
def test_a_distribution_refuses_wrong_values(options, message):
    right = {"address": "10.0.0.1:29400", "processes": 2, "process": 0}
    with pytest.raises(ValueError, match=f"{message}.*Received"):
        Distribution(**{**right, **options})


@pytest.mark.parametrize("distribute", [None, 2, "all"])
def test_what_is_no_distribution_is_refused(tmp_path, distribute):
    with pytest.raises(TypeError, match="`distribute` must be True, False or"):
        training.train(
            {"linear": linear},
            "mnist5k",
            SHORT,
            output=tmp_path / "run",
            distribute=distribute,
        )
    assert not (tmp_path / "run").exists()


def test_a_ready_model_cannot_be_distributed(tmp_path):
    with pytest.raises(ValueError, match="takes functions that build"):
        training.train(
            linear(), "mnist5k", SHORT, output=tmp_path, distribute=True
        )


def _distributed(folder, distribute):
    return training.train(
        {"linear": linear},
        "mnist5k",
        SHORT,
        output=folder / "run",
        distribute=distribute,
    )


@pytest.mark.every_backend
@pytest.mark.skipif(BACKEND != "torch", reason="is about PyTorch")
@pytest.mark.parametrize("distribute", [True, Distribution("a:1", 2, 0)])
def test_pytorch_cannot_distribute(tmp_path, distribute):
    with pytest.raises(
        ValueError, match="needs the backend TensorFlow or JAX.*BACKEND=jax"
    ):
        _distributed(tmp_path, distribute)


@only_tensorflow
def test_tensorflow_takes_one_machine(tmp_path):
    with pytest.raises(
        ValueError, match="only under JAX.*KERAS_BACKEND=jax; distribute=True"
    ):
        _distributed(tmp_path, Distribution("a:1", 2, 0))


@pytest.mark.every_backend
@only_jax
def test_a_port_in_use_is_refused(tmp_path):
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        address = f"localhost:{other.getsockname()[1]}"
        with pytest.raises(ValueError, match="a port that is free.*Address"):
            _distributed(tmp_path, Distribution(address, 2, 0))


@pytest.mark.every_backend
@only_jax
def test_processes_are_connected_before_anything_else(tmp_path):
    keras.ops.convert_to_numpy(keras.ops.ones(1))
    address = f"localhost:{_free_port()}"
    with pytest.raises(RuntimeError, match="before the first array or model"):
        _distributed(tmp_path, Distribution(address, 2, 1))


def _shared_by(count):
    devices = distribution.Devices()
    devices.count = count
    return devices


@pytest.mark.every_backend
def test_a_batch_that_does_not_divide_is_refused(few_digits):
    images = data.load("mnist5k", batch_size=16)
    with pytest.raises(
        ValueError, match="multiple of the 3 devices.*batch_size=16"
    ):
        _shared_by(3).share(images)


# How images are shared.


@pytest.mark.every_backend
@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_shared_split_is_evaluated_exactly(few_digits, split):
    images = data.load("mnist5k", batch_size=9)
    # 10 and 20 images, so the last batches hold copies of weight 0.
    shared = _shared_by(3).share(images)
    model = linear()
    model.layers[-1].kernel_regularizer = keras.regularizers.L2(0.1)
    model.compile(
        loss="sparse_categorical_crossentropy", weighted_metrics=["accuracy"]
    )
    whole = model.evaluate(getattr(images, split), verbose=0)
    assert model.evaluate(getattr(shared, split), verbose=0) == pytest.approx(
        whole, rel=1e-6
    )


@pytest.mark.every_backend
@not_torch
def test_one_device_gives_what_it_gives_undistributed(tmp_path, finished):
    results = training.train(
        NETWORKS, "mnist5k", SMALL, output=tmp_path, distribute=True
    )
    assert numbers(results) == [
        pytest.approx(value, abs=1e-6) if isinstance(value, float) else value
        for value in numbers(finished)
    ]
    assert keras.distribution.distribution() is None


# Several devices, and several processes.


def _free_port():
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Returns a function that starts the script in a process."""
    # What one process compiled the others need not.
    cache = tmp_path_factory.mktemp("cache")
    processes = []

    def start(output, devices=0, processes_=0, process=0, port=0, **more):
        processes.append(
            subprocess.Popen(
                [
                    *(sys.executable, SCRIPT, output, str(devices)),
                    *(str(processes_), str(process), f"127.0.0.1:{port}"),
                ],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env={
                    **os.environ,
                    "KERAS_BACKEND": BACKEND,
                    "XLA_FLAGS": (
                        "--xla_force_host_platform_device_count="
                        f"{max(1, devices)}"
                    ),
                    "JAX_COMPILATION_CACHE_DIR": str(cache),
                    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
                    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
                    **more,
                },
            )
        )
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def _reported(process):
    """Returns the results that a process prints when it succeeds."""
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return json.loads(output.splitlines()[-1])


def _pair(start, output, **more):
    port = _free_port()
    return [
        start(output, processes_=2, process=index, port=port, **more)
        for index in (0, 1)
    ]


def _rows(reported):
    return [
        [row["network"], row["epoch"], *(row[key] for key in KEYS)]
        for row in reported["history"]
    ]


def _close(rows):
    # Sums in another order.
    return [
        [
            pytest.approx(value, abs=1e-5)
            if isinstance(value, float)
            else value
            for value in row
        ]
        for row in rows
    ]


def _accuracies(reported):
    return [run["test_accuracy"] for run in reported["runs"]]


@pytest.fixture(scope="module")
def alone(start, tmp_path_factory):
    """Returns the folder and results of a run that is not distributed."""
    output = tmp_path_factory.mktemp("alone") / "run"
    return output, _reported(start(output))


@pytest.fixture(scope="module")
def two_devices(start, tmp_path_factory):
    """Returns the folder and results of a run on two devices."""
    output = tmp_path_factory.mktemp("two") / "run"
    return output, _reported(start(output, devices=2))


@pytest.fixture(scope="module")
def two_processes(start, tmp_path_factory):
    """Returns the folder and what each process printed."""
    output = tmp_path_factory.mktemp("pair") / "run"
    printed = []
    for process in _pair(start, output):
        out, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        printed.append(out)
    return output, printed


def _judged(folder, name):
    """Returns loss and accuracy of a saved network here, as one batch."""
    with pytest.MonkeyPatch.context() as patch:
        digits.replace(digits.brighter_by_class, patch.setattr)
        splits = data.load("mnist5k", batch_size=None)
    model = keras.saving.load_model(folder / f"{name}.keras")
    assert not any(
        getattr(layer, "synchronized", False) for layer in model.layers
    )
    return {
        split: model.evaluate(
            getattr(splits, split)[0].astype("float32"),
            getattr(splits, split)[1],
            batch_size=100,
            verbose=0,
        )
        for split in ("validation", "test")
    }


@pytest.mark.every_backend
@not_torch
@pytest.mark.slow
@pytest.mark.parametrize("index", [0, 1], ids=["normalized", "linear"])
def test_a_network_of_two_devices_is_a_plain_one(two_devices, index):
    folder, reported = two_devices
    run = reported["runs"][index]
    judged = _judged(folder, run["network"])
    row = reported["history"][3 * index + run["best_epoch"] - 1]
    # 11 and 23 images, so each device had another number of them.
    assert judged["validation"] == pytest.approx(
        [row["val_loss"], row["val_accuracy"]], abs=1e-5
    )
    assert judged["test"][1] == pytest.approx(run["test_accuracy"])


@pytest.mark.every_backend
@not_torch
@pytest.mark.slow
def test_two_devices_give_what_one_gives(alone, two_devices):
    assert _rows(two_devices[1]) == _close(_rows(alone[1]))


@pytest.mark.every_backend
@pytest.mark.slow
@only_tensorflow
def test_training_on_two_devices_resumes(start, tmp_path, two_devices):
    output, go = tmp_path / "run", tmp_path / "go"
    held = start(output, devices=2, HOLD=str(go))
    _wait_for(output / ".resume" / "state.json", held)
    held.kill()
    resumed = _reported(start(output, devices=2))
    assert _rows(resumed) == _close(_rows(two_devices[1]))


@pytest.mark.every_backend
@pytest.mark.slow
@only_jax
def test_two_processes_give_what_one_gives(alone, two_processes):
    reported = json.loads(two_processes[1][0].splitlines()[-1])
    assert _rows(reported) == _close(_rows(alone[1]))
    assert _accuracies(reported) == pytest.approx(_accuracies(alone[1]))


@pytest.mark.every_backend
@pytest.mark.slow
@only_jax
def test_all_processes_get_the_results_and_one_prints(two_processes):
    first, second = two_processes[1]
    assert "normalized (1 of 2), 134 parameters, from the start" in first
    assert "from the start" not in second
    assert "Epoch" not in second
    assert second.splitlines()[-1] == first.splitlines()[-1]


@pytest.mark.every_backend
@pytest.mark.slow
@only_jax
def test_two_processes_leave_the_files_of_one(alone, two_processes):
    output = two_processes[0]
    assert sorted(path.name for path in output.rglob("*")) == sorted(
        path.name for path in alone[0].rglob("*")
    )
    settings = [
        json.loads((folder / "results.json").read_text())["settings"]
        for folder in (output, alone[0])
    ]
    assert settings[0] == settings[1]


@pytest.mark.every_backend
@pytest.mark.slow
@only_jax
@pytest.mark.parametrize("index", [0, 1], ids=["normalized", "linear"])
def test_a_network_of_two_processes_is_a_plain_one(alone, two_processes, index):
    name = ["normalized", "linear"][index]
    judged = _judged(two_processes[0], name)
    assert judged["test"][1] == pytest.approx(
        alone[1]["runs"][index]["test_accuracy"]
    )
    predict = np.random.default_rng(0).uniform(0, 255, (4, 28, 28, 1))
    here, there = (
        keras.saving.load_model(folder / f"{name}.keras").predict(
            predict, verbose=0
        )
        for folder in (alone[0], two_processes[0])
    )
    np.testing.assert_allclose(there, here, atol=1e-5)


def _wait_for(path, *processes):
    while not path.exists():
        assert all(process.poll() is None for process in processes)
        time.sleep(0.02)


@pytest.mark.every_backend
@pytest.mark.slow
@only_jax
@pytest.mark.parametrize(
    ("victim", "how", "resumed_by"),
    [(1, signal.SIGKILL, 2), (0, signal.SIGTERM, 1)],
    ids=["second_killed", "first_terminated"],
)
def test_when_one_process_dies_the_other_ends_and_the_run_resumes(
    start, tmp_path, alone, victim, how, resumed_by
):
    output, go = tmp_path / "run", tmp_path / "go"
    pair = _pair(start, output, HOLD=str(go))
    _wait_for(output / ".resume" / "state.json", *pair)
    pair[victim].send_signal(how)
    go.touch()
    pair[victim].communicate(timeout=120)
    assert pair[victim].returncode == -how
    _, errors = pair[1 - victim].communicate(timeout=120)
    assert pair[1 - victim].returncode != 0
    if victim == 1:
        # Process 0 gets an exception; JAX aborts those that have lost it.
        assert "process 1 ended or could not be reached" in errors
        assert f'Every file in "{output}" is whole' in errors
        assert "to resume after the last finished epoch" in errors

    state = json.loads((output / ".resume" / "state.json").read_text())
    assert len(state["history"]) == 1
    if resumed_by == 2:
        resumed = [_reported(process) for process in _pair(start, output)][0]
    else:
        resumed = _reported(start(output))
    assert _rows(resumed) == _close(_rows(alone[1]))
    assert _accuracies(resumed) == pytest.approx(_accuracies(alone[1]))


@pytest.mark.every_backend
@pytest.mark.slow
@only_jax
def test_a_mistake_in_one_process_ends_the_other(start, tmp_path):
    (tmp_path / "notes.txt").touch()
    first, second = _pair(start, tmp_path)
    _, errors = first.communicate(timeout=120)
    assert first.returncode == 1
    assert "`output` must be a new or empty folder" in errors
    _, errors = second.communicate(timeout=120)
    assert second.returncode != 0
    assert "process 0 ended or could not be reached" in errors


ALONE = """
from cbam_keras import training
from cbam_keras.training import processes
processes.SECONDS_TO_CONNECT = 3
processes.connect_processes(training.Distribution("127.0.0.1:{}", 2, 0))
"""


@pytest.mark.every_backend
@pytest.mark.slow
@only_jax
def test_a_process_that_waits_in_vain_is_ended_by_jax():
    port = _free_port()
    result = subprocess.run(
        [sys.executable, "-c", ALONE.format(port)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "KERAS_BACKEND": BACKEND},
    )
    assert result.returncode != 0
    assert "JAX distributed service" in result.stderr
    assert "DEADLINE_EXCEEDED" in result.stderr


def test_a_process_is_taken_for_dead_within_a_minute():
    assert training_processes.SECONDS_OF_SILENCE <= 60
