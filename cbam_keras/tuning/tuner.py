"""Searches whose trials KerasTuner's oracle proposes.

A search is resumed by running it again from its start: trials are kept under
their values, so those that have been trained return at once. The oracle
learns of the trials in the order that it proposed them, so that the next ones
do not depend on which worker is faster.
"""

import collections
import functools
import pathlib
import random
import re
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import Executor

import keras_tuner

from cbam_keras import _checks, _files, study
from cbam_keras.tuning.results import keep_networks
from cbam_keras.tuning.search import Search
from cbam_keras.tuning.space import Values, controls, label, name_of

# How Hyperband says for how many epochs a trial is trained.
EPOCHS = "tuner/epochs"
# Between two looks at a trial that another process trains.
SECONDS_OF_WAITING = 0.5


def run(
    search: Search,
    folder: study.StudyFolder,
    executor: Executor | None,
    tensorboard: bool,
) -> None:
    """Runs the trials that a folder lacks, as many at a time as workers."""
    if executor is None:
        _run(search, _Trials(search, folder, tensorboard), 1)
    else:
        output = folder.path.absolute()
        make = functools.partial(_trainer_of, search, output, tensorboard)
        with study.pool_of(executor, folder, make) as pool:
            trials = _Trials(search, folder, tensorboard, pool)
            _run(search, trials, study.count_workers(executor))
    # The rounds of Hyperband train one cell, whose name lacks their epochs.
    names = [*folder.content["settings"]["variants"]]
    cells = {re.sub(r"-epochs=\d+$", "", name) for name in names}
    folder.tidy((cell, search.recipe.seed) for cell in cells)


def _run(search, trials, workers):
    """Asks the oracle for trials, and reports to it how they ended."""
    with tempfile.TemporaryDirectory() as scratch:
        oracle = _oracle_of(search)
        # Gives the oracle its folder. The space is known, and nothing built.
        keras_tuner.Tuner(oracle, lambda hp: None, directory=scratch)
        oracle.verbose = 0
        # By the name that KerasTuner knows a worker by.
        free = [f"worker-{number}" for number in range(workers)]
        running: collections.deque = collections.deque()
        while True:
            if free:
                proposed = oracle.create_trial(free[-1])
                if proposed.status == "RUNNING":
                    trials.begin(proposed.hyperparameters)
                    running.append((proposed, free.pop()))
                    continue
            if not running:
                # It proposes no more.
                return
            trial, worker = running.popleft()
            _report(oracle, trial, trials.outcome(trial.hyperparameters))
            free.append(worker)


def _report(oracle, trial, outcome):
    trial.status = "COMPLETED"
    accuracy = outcome.metrics.get("val_accuracy")
    if not outcome.finished and EPOCHS in trial.hyperparameters.values:
        # Hyperband would leave out a round if a trial has failed.
        accuracy = -1.0
    elif not outcome.finished:
        trial.status, trial.message = "FAILED", outcome.message
    if accuracy is not None:
        oracle.update_trial(trial.trial_id, {"val_accuracy": accuracy})
    oracle.end_trial(trial)


class _Trials:
    """The trials of a search, trained here or by the workers of a pool."""

    def __init__(self, search, folder, tensorboard, pool=None):
        self.search, self.folder, self.pool = search, folder, pool
        self.tensorboard = tensorboard
        self.seed = search.recipe.seed
        # The names of those that have not been trained before.
        self.begun: set[str] = set()

    def begin(self, hp):
        """Begins a trial, unless it has been trained."""
        values, name = self._named(hp)
        if name in self.begun:
            # The oracle proposes some networks twice.
            return
        self.folder.refresh()
        if self.folder.outcome(name, self.seed) is not None:
            return
        self.begun.add(name)
        variant = self.search.variant(values, name)
        self.folder.add_settings("variants", name, variant.describe())
        names = list(self.folder.content["settings"]["variants"])
        number = names.index(name) + 1
        print(f"Trial {number}: {label(values)}", flush=True)
        if self.pool is not None:
            epochs = hp.values.get(EPOCHS)
            self.pool.submit(name, self.seed, values, epochs)

    def outcome(self, hp):
        """Returns the outcome of a trial, which may be trained only now."""
        values, name = self._named(hp)
        hp.values |= {key: values[key] for key in hp.values if key in values}
        if name not in self.begun:
            return self.folder.outcome(name, self.seed)
        if self.pool is not None:
            outcome = self.pool.outcome(name, self.seed)
        else:
            self._train_here(name, values, hp.values.get(EPOCHS))
            outcome = self.folder.outcome(name, self.seed)
        with self.folder.locked():
            keep_networks(self.folder, self.search.keep)
        return outcome

    def train(self, name, seed, values, epochs):
        """Trains a trial that has not been, or raises `InUse`."""
        search, folder = self.search, self.folder
        # The rounds of Hyperband go on training one network.
        cell = name_of(values)
        with folder.claim(cell, seed):
            folder.refresh()
            if folder.outcome(name, seed) is not None:
                return
            path = folder.cell(cell, seed)
            logs = [study.logs_of(folder.path, name)]
            with study.memory_freed():
                outcome = study.train_cell(
                    *(search.trials, search.variant(values, name), seed),
                    *(search.loaded, path),
                    epochs=epochs,
                    callbacks=logs if self.tensorboard else [],
                )
            folder.record(outcome, path)

    def _train_here(self, name, values, epochs):
        while self.folder.outcome(name, self.seed) is None:
            try:
                self.train(name, self.seed, values, epochs)
            except _files.InUse:
                # By another process that runs this search.
                time.sleep(SECONDS_OF_WAITING)
                self.folder.refresh()

    def _named(self, hp):
        """Returns the values that decide on a network, and its name."""
        values = self.search.values_of(hp.values)
        name, epochs = name_of(values), hp.values.get(EPOCHS)
        return values, f"{name}-epochs={epochs}" if epochs else name


def _trainer_of(
    search: Search, output: pathlib.Path, tensorboard: bool
) -> Callable[[str, int, Values, int | None], None]:
    """Returns the function by which workers train a trial."""
    folder = search.folder(output)
    folder.join()
    trials = _Trials(search, folder, tensorboard)

    def train(*trial):
        with _files.writing_to(output):
            trials.train(*trial)

    return train


def _oracle_of(search):
    """Returns KerasTuner's oracle, which begins with the controls."""
    first = controls(search.space)
    options = {"max_trials": search.max_trials}
    kind = keras_tuner.oracles.RandomSearchOracle
    if search.algorithm == "bayesian":
        kind = keras_tuner.oracles.BayesianOptimizationOracle
        options["num_initial_points"] = max(4, search.max_trials // 4)
    if search.algorithm == "hyperband":
        kind = keras_tuner.oracles.HyperbandOracle
        options = {"max_epochs": search.recipe.epochs}

    class Oracle(kind):
        def populate_space(self, trial_id):
            count = len(self.start_order)
            if count < len(first):
                return {"status": "RUNNING", "values": dict(first[count])}
            threads = _checks.require("threadpoolctl", extra="tune")
            # A Gaussian process fits so few numbers faster with one thread,
            # and to the same bits each time; that it fits badly is no news.
            with threads.threadpool_limits(1), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return super().populate_space(trial_id)

    return Oracle(
        objective=keras_tuner.Objective("val_accuracy", "max"),
        hyperparameters=search.space.copy(),
        # KerasTuner takes 0 for no seed, and draws from seed, seed + 1, ...
        seed=random.Random(search.recipe.seed).randrange(1, 2**32),
        max_consecutive_failed_trials=10**9,
        **options,
    )
