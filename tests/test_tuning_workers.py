"""Searches whose trials the workers of an executor train."""

import concurrent.futures
import json
import pathlib
import random

import pytest
import tuning_checks

from cbam_keras.study import worker

pytestmark = pytest.mark.usefixtures("few_digits", "quick")


class Workers(concurrent.futures.Executor):
    """Trains in this process, some tasks late and in any order."""

    def __init__(self, count):
        self.num_workers = count
        self.draw = random.Random(count)
        self.trainers, self.tasks, self.most = {}, [], 0

    def submit(self, function, folder, token, backend, call):
        if token not in self.trainers:
            cells = worker._unpickled(pathlib.Path(folder), token)()
            cells.folder.join()
            missing = cells.missing
            cells.missing = lambda: self.mixed(missing())
            self.trainers[token] = cells
        future = concurrent.futures.Future()
        self.tasks.append((future, self.trainers[token]))
        self.most = max(self.most, len(self.tasks))
        if len(self.tasks) == self.num_workers:
            self.train_all()
        return future

    def mixed(self, cells):
        return self.draw.sample(cells, len(cells))

    def train_all(self):
        while self.tasks:
            future, cells = self.tasks.pop()
            future.set_result(cells.train_next())


def trials(output, executor, algorithm):
    found = tuning_checks.search(
        output, algorithm, tuning_checks.THREE, executor=executor
    )
    return [
        (trial.number, trial.values, trial.status, trial.val_accuracy)
        for trial in found.trials
    ]


@pytest.mark.parametrize("algorithm", ["random", "hyperband"])
def test_one_worker_trains_the_very_trials_of_this_process(tmp_path, algorithm):
    alone = trials(tmp_path / "alone", None, algorithm)
    assert trials(tmp_path / "worker", Workers(1), algorithm) == alone


def alike(hp):
    """Returns one network for values that are the same as written."""
    hp.Float("rate", 0.1, 0.1 + 1e-9, sampling="linear")
    return tuning_checks.network(4)


def test_a_network_that_is_proposed_twice_is_trained_once(tmp_path, slow_looks):
    found = tuning_checks.search(
        *(tmp_path, "bayesian"),
        hypermodel=alike,
        executor=slow_looks,
        max_trials=3,
    )
    assert len(found.trials) == 1


@pytest.fixture
def slow_looks(monkeypatch):
    """Lets what is left be trained where the search waits for it."""
    wait = concurrent.futures.wait

    def waiting(futures, *arguments):
        executor.train_all()
        return wait(futures, *arguments)

    executor = Workers(3)
    monkeypatch.setattr(concurrent.futures, "wait", waiting)
    return executor


def test_trials_do_not_depend_on_which_worker_is_faster(tmp_path, slow_looks):
    first = trials(tmp_path / "first", slow_looks, "bayesian")
    assert slow_looks.most == 3
    slow_looks.draw = random.Random(7)
    assert trials(tmp_path / "again", slow_looks, "bayesian") == first
    content = json.loads((tmp_path / "first/results.json").read_text())
    assert len(content["cells"]) == len(first)
    assert not (tmp_path / "first/.cells").exists()
