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
import tempfile
import warnings
from concurrent.futures import Executor

import keras_tuner

from cbam_keras import _checks, study
from cbam_keras.tuning.files import keep_networks
from cbam_keras.tuning.search import Search
from cbam_keras.tuning.space import controls, label, name_of

# How Hyperband says for how many epochs a trial is trained.
EPOCHS = "tuner/epochs"


def run(
    search: Search,
    folder: study.StudyFolder,
    executor: Executor | None,
    tensorboard: bool,
) -> None:
    """Runs the trials that a folder lacks, as many at a time as workers."""
    trials = Trials(search, folder, tensorboard)
    output = folder.path.absolute()
    make = functools.partial(trials_of, search, output, tensorboard)
    workers = 1 if executor is None else study.count_workers(executor)
    with study.training_by(executor, trials, make) as train_or_wait:
        _run(search, trials, workers, train_or_wait)
    folder.tidy((cell.network, cell.seed) for cell in trials.all())


def _run(search, trials, workers, train_or_wait):
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
                    trials.propose(proposed.hyperparameters)
                    running.append((proposed, free.pop()))
                    continue
            if not running:
                # It proposes no more.
                return
            trial, worker = running.popleft()
            while (outcome := trials.outcome(trial.hyperparameters)) is None:
                train_or_wait()
            _report(oracle, trial, outcome)
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


class Trials(study.Cells):
    """The trials of a search, which are in its folder."""

    def __init__(
        self, search: Search, folder: study.StudyFolder, tensorboard: bool
    ):
        super().__init__(
            search.trials, folder, lambda seed: search.loaded, tensorboard
        )
        self.search, self.seed = search, search.recipe.seed
        # The names of those that have not been trained before.
        self.begun: set[str] = set()

    def all(self) -> list[study.Cell]:
        """Returns the trials of the folder, in the order of their proposal."""
        content = self.folder.content
        rounds = content.get("rounds", {})
        return [
            study.Cell(
                self.search.variant(values, name),
                self.seed,
                name_of(values),
                rounds.get(name),
            )
            for name, values in content["settings"]["variants"].items()
        ]

    def missing(self) -> list[study.Cell]:
        """Returns the trials that have yet to be trained.

        In the process that proposes them, without those that were proposed
        before a network that had failed was tried again.
        """
        missing = super().missing()
        if not self.begun:
            return missing
        return [cell for cell in missing if cell.variant.name in self.begun]

    def title(self, cell: study.Cell) -> str:
        """Returns nothing: the proposal of a trial is printed."""
        return ""

    def propose(self, hp: keras_tuner.HyperParameters) -> None:
        """Adds a trial to the folder, unless it has been trained."""
        values, name = self._named(hp)
        if name in self.begun:
            # The oracle proposes some networks twice.
            return
        self.folder.refresh()
        if self.folder.outcome(name, self.seed) is not None:
            return
        self.begun.add(name)
        # The rounds of Hyperband go on training one network.
        if epochs := hp.values.get(EPOCHS):
            with self.folder.locked():
                known = self.folder.content.get("rounds", {})
                self.folder.add(rounds={**known, name: epochs})
        self.folder.add_variant(self.search.variant(values, name))
        names = list(self.folder.content["settings"]["variants"])
        number = names.index(name) + 1
        print(f"Trial {number}: {label(values)}", flush=True)

    def outcome(self, hp: keras_tuner.HyperParameters) -> study.Outcome | None:
        """Returns the outcome of a trial, or `None` until it is trained."""
        values, name = self._named(hp)
        outcome = self.folder.outcome(name, self.seed)
        if outcome is None:
            self.begun.add(name)
            return None
        hp.values |= {key: values[key] for key in hp.values if key in values}
        if name in self.begun:
            with self.folder.locked():
                keep_networks(self.folder, self.search.keep)
        return outcome

    def _named(self, hp):
        """Returns the values that decide on a network, and its name."""
        values = self.search.values_of(hp.values)
        name, epochs = name_of(values), hp.values.get(EPOCHS)
        return values, f"{name}-epochs={epochs}" if epochs else name


def trials_of(
    search: Search, output: pathlib.Path, tensorboard: bool
) -> Trials:
    """Returns the trials of a search in its output folder."""
    return Trials(search, search.folder(output), tensorboard)


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
