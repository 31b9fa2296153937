"""Estimates of how long a study takes."""

import dataclasses
import itertools
import random
import sys
from types import SimpleNamespace

import numpy as np
import pretended
import pytest
from networks import linear, mlp

from cbam_keras import data, study, training
from cbam_keras.study import Cost, Estimate


def test_an_estimate_counts_every_network_and_leaves_all_as_it_was(
    few_digits, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    # Every step takes a second.
    clock = SimpleNamespace(perf_counter=itertools.count().__next__)
    module = sys.modules[study.estimate.__module__]
    monkeypatch.setattr(module, "time", clock)
    # Two batches per epoch, in another order each.
    images = data.load("mnist5k", batch_size=40)

    def seen():
        labels = [labels for _, labels in images.train]
        images.train.on_epoch_end()
        return np.concatenate(labels)

    images.set_epoch(0)
    before = seen()
    assert (seen() != before).any()
    state = random.getstate(), np.random.get_state()[1].tolist()
    found = study.estimate(
        study.Study(
            task=study.Classification(images),
            variants=[
                study.Variant("linear", lambda data: linear()),
                study.Variant("mlp", lambda data: mlp(2)),
            ],
            seeds=(0, 1),
            recipe=training.Recipe(epochs=3),
        ),
        workers=4,
    )
    assert (random.getstate(), np.random.get_state()[1].tolist()) == state
    assert (seen() == before).all()
    assert list(tmp_path.iterdir()) == []

    # 16 inputs: 16 x 10, and 16 x 2 + 2 x 10, with biases. The pooling reads
    # 28 x 28 pixels, and no MACs are counted for it.
    assert [(c.network, c.parameters, c.macs) for c in found.costs] == [
        *(("linear", 170, 160), ("mlp", 64, 52))
    ]
    plain, timed = found.costs
    # 70 images, and 10 at a third of the time, 40 per second; two steps that
    # compile, and 20 images.
    assert timed.seconds_per_epoch == pytest.approx((70 + 10 / 3) / 40)
    assert timed.seconds_once == pytest.approx(2 + 20 / 40 / 3)
    # The others are as fast per multiply-accumulate.
    per_mac = timed.seconds_per_epoch / 52
    assert plain.seconds_per_epoch == pytest.approx(160 * per_mac)
    assert plain.seconds_once == timed.seconds_once
    assert (found.epochs, found.times, found.workers) == (3, 2, 4)


def test_the_total_is_over_networks_epochs_times_and_workers():
    costs = (Cost("a", 10, 1000, 30.0, 5.0), Cost("b", 20, 3000, 60.0, 7.0))
    found = Estimate(costs, epochs=4, times=3, workers=2)
    assert found.seconds == ((5 + 4 * 30) + (7 + 4 * 60)) * 3 / 2
    assert found.seconds_of(costs[0]) == 3 * (5 + 4 * 30)
    lines = str(found).splitlines()
    assert lines[-1] == (
        "About 9 minutes with 2 workers, each on a device like this"
    )
    (row,) = [line for line in lines if " b " in line]
    cells = [cell.strip() for cell in row.strip("│").split("│")]
    assert cells == ["b", "20", "3,000", "60.0", "4", "3", "741"]
    alone = dataclasses.replace(found, workers=1)
    assert str(alone).splitlines()[-1] == "About 19 minutes on this device"
    patient = dataclasses.replace(alone, has_patience=True)
    assert str(patient).splitlines()[-1] == "At most 19 minutes on this device"


def test_a_run_says_how_long_what_is_left_takes(
    few_digits, tmp_path, monkeypatch, capsys
):
    pretended.install(monkeypatch)
    # Every epoch takes a minute.
    minutes = SimpleNamespace(perf_counter=itertools.count(step=60).__next__)
    module = sys.modules["cbam_keras.study.checkpoints"]
    monkeypatch.setattr(module, "time", minutes)

    def said(*names):
        planned = study.Study(
            task=study.Classification("mnist5k"),
            variants=[
                study.Variant(name, lambda _: linear()) for name in names
            ],
            recipe=training.Recipe(epochs=3),
        )
        study.run(planned, tmp_path)
        lines = capsys.readouterr().out.splitlines()
        return [line for line in lines if line.startswith("About ")]

    after_an_epoch = "About 5 minutes left for 2 networks"
    after_a_network = "About 3 minutes left for one network"
    assert said("a", "b") == [after_an_epoch, after_a_network]
    assert said("a", "b") == []
    # The speed is known from before.
    assert said("a", "b", "c") == [after_a_network]
