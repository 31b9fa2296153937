"""How networks are trained fast: processes, compilers, what `fit` reads."""

import dataclasses
import json
import sys

import keras
import numpy as np
import pytest
from keras import layers
from study_checks import GATED, NARROW, narrow, planned
from training_checks import SHORT

from cbam_keras import study, tuning
from cbam_keras.study.running import machine

on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="of TensorFlow alone"
)


@pytest.mark.parametrize(
    ("expected", "changes"),
    [
        (3, {}),
        (2, {"cores": 2}),
        (2, {"memory": 5}),
        (4, {"networks": 9, "cores": 64, "memory": 64}),
        (1, {"memory": 0}),
        (1, {"networks": 1}),
        (1, {"gpus": ["0"]}),
        (1, {"devices": ["TPU:0"]}),
        # A large step, a short training, layers of unknown kinds.
        (1, {"macs": 2e8}),
        (1, {"images": 1000}),
        # Many of them.
        (3, {"images": 1000, "networks": 30}),
        (1, {"macs": None}),
    ],
)
def test_small_networks_are_trained_at_the_same_time(
    monkeypatch, capsys, expected, changes
):
    given = {"networks": 3, "images": 36_000, "macs": 1.7e6, "cores": 3}
    given = {**given, "memory": 16, "gpus": [], **changes}
    cores, memory = [*range(given["cores"])], given["memory"] * 2**30
    monkeypatch.setattr(machine, "_cores", lambda: cores)
    monkeypatch.setattr(machine, "memory", lambda: memory)
    monkeypatch.setattr(machine, "accelerators", lambda _: given["gpus"])
    if devices := changes.get("devices"):
        monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
        monkeypatch.setattr(keras.distribution, "list_devices", lambda: devices)
    found = machine.choose_workers(
        *(given["networks"], given["images"], 64, lambda: given["macs"])
    )
    assert found == expected
    said = f"{expected} networks at a time" in capsys.readouterr().out
    assert said is (expected > 1)


GIB = 2**30


@pytest.mark.parametrize(
    ("groups", "files", "memory", "cores"),
    [
        ("0::/", {"memory.max": 3 * GIB, "cpu.max": "200000 100000"}, 3, 2),
        ("0::/a/b", {"a/memory.max": 2 * GIB, "a/b/memory.max": "max"}, 2, 8),
        ("0::/a", {"cpu.max": "150000 100000", "a/cpu.max": "max 1"}, 64, 1),
        (
            "4:memory:/docker/x\n3:cpu,cpuacct:/docker/x\n0::/",
            # The container may see its own group as the outermost one.
            {"memory/docker/x/memory.limit_in_bytes": 5 * GIB}
            | {"cpu/cpu.cfs_quota_us": 3000, "cpu/cpu.cfs_period_us": 1000},
            *(5, 3),
        ),
        (
            "4:memory:/\n1:cpu:/",
            {"memory/memory.limit_in_bytes": 2**63 - 4096}
            | {"cpu/cpu.cfs_quota_us": -1, "cpu/cpu.cfs_period_us": 1000},
            *(64, 8),
        ),
        (None, {}, 64, 8),
    ],
)
def test_containers_limit_memory_and_cores(
    groups, files, memory, cores, tmp_path, monkeypatch
):
    listed = {"groups": groups} if groups else {}
    for name, value in {**files, **listed}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(str(value))
    monkeypatch.setattr(machine, "GROUPS", tmp_path / "groups")
    monkeypatch.setattr(machine, "LIMITS", str(tmp_path))
    sizes = {"SC_PHYS_PAGES": 64 * 2**18, "SC_PAGE_SIZE": 2**12}
    monkeypatch.setattr(machine.os, "sysconf", sizes.get, raising=False)
    monkeypatch.setattr(
        machine.os, "sched_getaffinity", lambda _: {*range(8)}, raising=False
    )
    assert machine.memory() == memory * GIB
    assert len({*machine._cores()} & {*range(8)}) == cores


def test_workers_have_as_many_cores_each(monkeypatch):
    monkeypatch.setattr(machine, "accelerators", lambda _: [])
    monkeypatch.setattr(machine, "_cores", lambda: [*range(8)])
    parts = [machine.part_of_machine(number, 3, {}) for number in range(3)]
    assert [cores for _, cores in parts] == [[0, 1], [2, 3], [4, 5]]
    assert {part["OMP_NUM_THREADS"] for part, _ in parts} == {"2"}


def test_a_run_chooses_by_all_that_it_trains(few_digits, monkeypatch):
    asked = []
    monkeypatch.setattr(machine, "choose_workers", lambda *x: asked.append(x))
    plan = planned(NARROW, GATED)
    images = plan.load(0)
    study.choose_workers(plan, images, 4)
    ((networks, total, batch_size, count_macs),) = asked
    assert (networks, total) == (4, images.sizes["train"])
    assert batch_size == SHORT.batch_size and count_macs() > 1000
    # Its trials depend on how many there are.
    search = tuning.Search(data="mnist5k", algorithm="bayesian")
    assert search._choose_workers() == 1


@keras.saving.register_keras_serializable("speed")
class OfPython(layers.Layer):
    """Does something in Python in each step, as XLA cannot."""

    def call(self, inputs):
        import tensorflow as tf

        outputs = tf.py_function(lambda x: x * 1.0, [inputs], tf.float32)
        outputs.set_shape(inputs.shape)
        return outputs


@on_tensorflow
@pytest.mark.skipif(sys.platform != "linux", reason="XLA is on Linux alone")
@pytest.mark.filterwarnings("ignore:__array__ implementation")
def test_xla_compiles_what_it_can_and_the_folder_says_what(tmp_path):
    own = study.Variant("own", lambda x: narrow(x, attention=[OfPython()]))
    # 3,600 images: the last batch is smaller.
    recipe = dataclasses.replace(
        SHORT, epochs=2, batch_size=700, jit_compile=True
    )
    plan = planned(GATED, own, recipe=recipe)
    with pytest.warns(UserWarning, match="without jit_compile.*EagerPyFunc"):
        found = study.run(plan, tmp_path / "xla")
    assert [x.jit_compile for x in found.outcomes] == [True, False]
    stored = json.loads((tmp_path / "xla/results.json").read_text())
    assert [x["jit_compile"] for x in stored["outcomes"]] == [True, False]
    recipe = dataclasses.replace(recipe, jit_compile="auto")
    usual = dataclasses.replace(plan, recipe=recipe)
    expected = study.run(usual, tmp_path / "usual")
    assert [x.jit_compile for x in expected.outcomes] == [False, False]
    for one, other in zip(found.outcomes, expected.outcomes, strict=True):
        losses = [[row["val_loss"] for row in x.history] for x in (one, other)]
        np.testing.assert_allclose(*losses, rtol=1e-4)
