"""How networks are trained fast: processes, compilers, what `fit` reads."""

import keras
import pytest
from study_checks import GATED, NARROW, planned

from cbam_keras.study.running import machine
from cbam_keras.study.running.run import choose_workers


def test_workers_have_as_many_threads_each(monkeypatch):
    monkeypatch.setattr(machine, "accelerators", lambda _: [])
    monkeypatch.setattr(machine, "_count_cores", lambda: 8)
    parts = [machine.part_of_machine(number, 3, {}) for number in range(3)]
    assert {part["OMP_NUM_THREADS"] for part in parts} == {"2"}


@pytest.mark.parametrize(
    ("expected", "changes"),
    [
        (3, {}),
        (2, {"cores": 2}),
        (4, {"networks": 9, "cores": 64}),
        (1, {"networks": 1}),
        (1, {"gpus": ["0"]}),
        (1, {"devices": ["TPU:0"]}),
    ],
)
def test_small_networks_are_trained_at_the_same_time(
    monkeypatch, expected, changes
):
    given = {"networks": 3, "cores": 3, "gpus": [], **changes}
    monkeypatch.setattr(machine, "_count_cores", lambda: given["cores"])
    monkeypatch.setattr(machine, "accelerators", lambda _: given["gpus"])
    if devices := changes.get("devices"):
        monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
        monkeypatch.setattr(keras.distribution, "list_devices", lambda: devices)
    assert machine.most_workers(given["networks"]) == expected


@pytest.mark.parametrize(
    ("expected", "constant", "value"),
    [
        # Few and tiny networks take less time than processes to start.
        (1, None, 0),
        # Many trainings, whatever they are, repay it.
        (2, "MACS_OF_TRAINING", 1e11),
        (2, "MACS_OF_STARTS", 1e6),
        # A second core is used by a large step.
        (1, "MACS_OF_SMALL_STEP", 1000),
    ],
)
def test_a_run_chooses_by_the_work_of_all_networks(
    expected, constant, value, few_digits, monkeypatch
):
    monkeypatch.setattr(machine, "most_workers", lambda networks: networks)
    if constant == "MACS_OF_SMALL_STEP":
        monkeypatch.setattr(machine, "MACS_OF_STARTS", 1e6)
    if constant:
        monkeypatch.setattr(machine, constant, value)
    plan = planned(NARROW, GATED)
    assert choose_workers(plan, plan.load(plan.runs[0])) == expected
