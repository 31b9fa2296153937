"""One network on several devices: in one process, and in several."""

import functools
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

import digits
import distribution_script
import keras
import numpy as np
import pretended
import pytest
from folder_checks import epochs, files
from training_checks import SHORT, close, linear

from cbam_keras import _devices, _files, data, study, training
from cbam_keras.training import Distribution

SCRIPT = pathlib.Path(distribution_script.__file__)
# Of the first network of the script, and of the only one of `train`.
HELD = ".cells/normalized-seed0/state.json"
STATE = ".cells/linear-seed0/state.json"
BACKEND = keras.backend.backend()
only_tensorflow = pytest.mark.skipif(
    BACKEND != "tensorflow", reason="TensorFlow shares batches in its own way"
)


def only_jax(test):
    """Marks what needs processes under JAX: `-m exhaustive` there."""
    test = pytest.mark.skipif(BACKEND != "jax", reason="is about JAX")(test)
    test = pytest.mark.every_backend(test)
    return pytest.mark.exhaustive(pytest.mark.slow(test))


# Mistakes.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"address": "10.0.0.1"}, "`address` must be host:port"),
        ({"processes": 0}, "`processes` must be a positive integer"),
        ({"process": 2}, "`process` must be an integer from 0 to `processes`"),
    ],
)
def test_a_distribution_refuses_wrong_values(options, message):
    right = {"address": "10.0.0.1:29400", "processes": 2, "process": 0}
    with pytest.raises(ValueError, match=f"{message}.*Received"):
        Distribution(**{**right, **options})


def train(folder, distribute, networks=None):
    networks = networks or {"linear": linear}
    options = {"output": folder / "run", "distribute": distribute}
    return training.train(networks, "mnist5k", SHORT, **options)


PAIR = Distribution("a:1", 2, 0)


@pytest.mark.parametrize(
    ("backend", "distribute"), [("torch", True), ("tensorflow", PAIR)]
)
def test_backends_that_cannot_distribute_are_refused(
    tmp_path, monkeypatch, backend, distribute
):
    monkeypatch.setattr(keras.backend, "backend", lambda: backend)
    with pytest.raises(ValueError, match="needs the backend.*BACKEND=jax"):
        train(tmp_path, distribute)
    assert not (tmp_path / "run").exists()


# How images are shared.


def _shared_by(count):
    found = _devices.Devices()
    found.count = count
    return found


def test_a_batch_that_does_not_divide_is_refused(few_digits):
    images = data.load("mnist5k", batch_size=16)
    message = "multiple of the 3 devices.*batch_size=16"
    with pytest.raises(ValueError, match=message):
        _shared_by(3).share(images)


def test_shared_images_are_evaluated_exactly(few_digits):
    images = data.load("mnist5k", batch_size=9)
    # 10 and 20 images, so the last batches hold copies of weight 0.
    shared = _shared_by(3).share(images)
    model = linear()
    model.layers[-1].kernel_regularizer = keras.regularizers.L2(0.1)
    model.compile(
        loss="sparse_categorical_crossentropy", weighted_metrics=["accuracy"]
    )
    evaluate = functools.partial(model.evaluate, verbose=0)
    for split in ("validation", "test"):
        whole, found = (evaluate(getattr(x, split)) for x in (images, shared))
        assert found == pytest.approx(whole, rel=1e-6)


def normalizes(model):
    """Returns whether each batch normalization is over all devices."""
    return [
        layer.synchronized
        for layer in model.layers
        if isinstance(layer, keras.layers.BatchNormalization)
    ]


@only_tensorflow
def test_a_network_is_normalized_over_all_devices_and_saved_as_a_plain_one(
    few_digits, tmp_path, monkeypatch
):
    pretended.install(monkeypatch)
    run_on(_devices._Mirrored(["CPU:0"]), monkeypatch)
    fit, synchronized = keras.Model.fit, []

    def noting(model, *arguments, **options):
        synchronized.extend(normalizes(model))
        assert "MirroredVariable" in str(type(model.variables[0].value))
        return fit(model, *arguments, **options)

    monkeypatch.setattr(keras.Model, "fit", noting)
    results = train(tmp_path, True, {"normalized": distribution_script.network})
    assert synchronized == [True]
    saved = keras.saving.load_model(results.output / "normalized.keras")
    assert normalizes(saved) == [False]


# A process that does not write.


@pytest.fixture
def finished(few_digits, tmp_path, monkeypatch):
    """A pretended run, as process 0 leaves it."""
    pretended.install(monkeypatch)
    return train(tmp_path, False)


def run_on(devices, monkeypatch):
    run = sys.modules["cbam_keras.study.run"]
    monkeypatch.setattr(run, "find_devices", lambda _: devices)


def test_a_process_that_does_not_write_gets_the_results_and_changes_nothing(
    finished, monkeypatch, capsys
):
    second = _devices.Devices()
    second.index, second.processes = 1, 2
    run_on(second, monkeypatch)
    before = files(finished.output)
    capsys.readouterr()
    # Process 0 has locked the folder.
    with _files.locked(finished.output / _files.LOCK):
        found = train(finished.output.parent, False)
    assert found == finished
    # Nor does it while it trains.
    results = finished.output / "results.json"
    content = json.loads(results.read_text())
    results.write_text(json.dumps({**content, "cells": []}))
    checkpoint = finished.output / STATE.replace("state.json", "epoch-1.keras")
    with epochs() as trained:

        def wait():
            if trained and not checkpoint.exists():
                # As process 0 does.
                checkpoint.parent.mkdir(parents=True)
                shutil.copy(finished.output / "linear.keras", checkpoint)
                results.write_bytes(before["results.json"])

        second.wait = wait
        assert train(finished.output.parent, False) == finished
    assert len(trained) == 1
    shutil.rmtree(finished.output / ".cells")
    assert files(finished.output) == before
    assert capsys.readouterr().out == ""


def test_a_process_that_cannot_join_is_told_why(
    finished, tmp_path, monkeypatch
):
    task = study.Classification("mnist5k")
    variants = [study.Variant("linear", lambda data: linear())]
    given = {"settings": {"note": 1}, "kind": "train"}
    other = study.Study(task, variants, recipe=SHORT, **given)
    shared, own = (
        study.StudyFolder(path, other, task.load(SHORT), writes=False)
        for path in (finished.output, tmp_path / "own")
    )
    with pytest.raises(ValueError, match="note was None, is 1"):
        shared.join()
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with pytest.raises(ValueError, match="one folder that all processes share"):
        own.join()
    assert not (tmp_path / "own").exists()


# Several devices, and several processes.


def _free_port():
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Returns a function that starts the script in a process."""
    settings = {
        "KERAS_BACKEND": BACKEND,
        # What one process compiled the others need not.
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("cache")),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    flags = "--xla_force_host_platform_device_count="
    started = []

    def start(output, devices=0, processes=0, process=0, port=0, **more):
        numbers = map(str, (devices, processes, process))
        settings["XLA_FLAGS"] = f"{flags}{max(1, devices)}"
        running = subprocess.Popen(
            [sys.executable, SCRIPT, output, *numbers, f"127.0.0.1:{port}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **settings, **more},
        )
        started.append(running)
        return running

    yield start
    for process in started:
        process.kill()
        process.communicate()


def _ended(process, status=0):
    """Returns what a process printed, or the errors of one that failed."""
    output, errors = process.communicate(timeout=300)
    assert (process.returncode != 0) == (status != 0), errors
    return errors if status else output


def _numbers(printed):
    return json.loads(printed.splitlines()[-1])


def _pair(start, output, **more):
    port = _free_port()
    return [start(output, 0, 2, index, port, **more) for index in (0, 1)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Returns the folder and results of a run that is not distributed."""
    output = tmp_path_factory.mktemp("alone") / "run"
    with pytest.MonkeyPatch.context() as patch:
        digits.replace(digits.brighter_by_class, patch.setattr)
        results = training.train(
            distribution_script.NETWORKS,
            "mnist5k",
            distribution_script.RECIPE,
            output=output,
        )
    # Sums in another order.
    return output, close(results, 1e-5)


def assert_networks_are_equal(folder, other):
    """Compares what they answer; also, they must be plain networks."""
    images = np.random.default_rng(0).uniform(0, 255, (4, 28, 28, 1))
    for name in distribution_script.NETWORKS:
        one, two = (
            keras.saving.load_model(path / f"{name}.keras")
            for path in (folder, other)
        )
        # Else other backends could not load it.
        assert not any(normalizes(one))
        np.testing.assert_allclose(
            *(model.predict(images, verbose=0) for model in (one, two)),
            atol=1e-5,
        )


@pytest.mark.every_backend
@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.skipif(BACKEND == "torch", reason="Keras shares no batches there")
def test_two_devices_give_what_one_gives(alone, start, tmp_path):
    # 11 and 23 images, so each device had another number of them.
    printed = _ended(start(tmp_path / "run", devices=2))
    assert _numbers(printed) == alone[1]
    assert_networks_are_equal(tmp_path / "run", alone[0])


@only_jax
def test_two_processes_give_what_one_gives(alone, start, tmp_path):
    output = tmp_path / "run"
    first, second = [_ended(process) for process in _pair(start, output)]
    assert _numbers(first) == alone[1]
    # Both get the results, and one prints.
    assert "from the start" in first
    assert "from the start" not in second
    assert "Epoch" not in second
    assert _numbers(second) == _numbers(first)
    # And their files are those of one.
    assert_networks_are_equal(output, alone[0])
    names, expected = (
        sorted(path.name for path in folder.rglob("*"))
        for folder in (output, alone[0])
    )
    assert names == expected


@only_jax
@pytest.mark.parametrize(
    ("victim", "how", "resumed_by"),
    [(1, signal.SIGKILL, 2), (0, signal.SIGTERM, 1)],
    ids=["second_killed", "first_terminated"],
)
def test_when_one_process_dies_the_other_ends_and_the_run_resumes(
    start, tmp_path, alone, victim, how, resumed_by
):
    output = tmp_path / "run"
    pair = _pair(start, output, HOLD=str(tmp_path / "go"))
    while not (output / HELD).exists():
        assert all(process.poll() is None for process in pair)
        time.sleep(0.02)
    pair[victim].send_signal(how)
    (tmp_path / "go").touch()
    _ended(pair[victim], status=1)
    assert pair[victim].returncode == -how
    _ended(pair[1 - victim], status=1)
    state = json.loads((output / HELD).read_text())
    assert len(state["history"]) == 1
    again = _pair(start, output) if resumed_by == 2 else [start(output)]
    assert [_numbers(_ended(process)) for process in again][0] == alone[1]
