"""Searches whose trials KerasTuner proposes, by one process or several.

A search is resumed by running it again from its start: trials are kept under
their values, so those that have been trained return at once.
"""

import os
import random
import shutil
import tempfile
import time
import warnings
from typing import Any

import keras_tuner

from cbam_keras import _checks, study
from cbam_keras.tuning.results import keep_networks
from cbam_keras.tuning.space import controls, label, name_of
from cbam_keras.tuning.workers import CHIEF, HOST, NAME, run_workers


def run(
    search: Any, folder: Any, call: Any, workers: int, tensorboard: bool
) -> bool:
    """Runs the trials that a folder lacks, with workers by `call`.

    Returns whether this process is to write the results.
    """
    most = search.max_trials or 0
    if folder.content.get("searched", -1) < most:
        if workers > 1 and HOST not in os.environ:
            run_workers(call, folder.path.absolute(), workers)
        else:
            with tempfile.TemporaryDirectory() as scratch:
                tuner = Tuner(search, folder, tensorboard, scratch)
                try:
                    tuner.search(verbose=0)
                except keras_tuner.errors.FatalError as error:
                    raise error.__cause__ or error from None
    # As KerasTuner tells the chief from others.
    is_worker = HOST in os.environ and CHIEF not in os.environ.get(NAME, "")
    if is_worker or study.is_worker():
        return False
    with folder.locked():
        folder.add(searched=most)
    # Rounds of Hyperband went on training these.
    shutil.rmtree(folder.cell("", 0).parent, ignore_errors=True)
    return True


class Tuner(keras_tuner.Tuner):
    """KerasTuner's loop over trials; a chief hands them out to workers."""

    def __init__(self, search, folder, tensorboard, scratch):
        super().__init__(_oracle_of(search), directory=scratch, overwrite=True)
        self.wanted, self.folder = search, folder
        self.tensorboard = tensorboard

    def pre_create_trial(self):
        if HOST in os.environ:
            # A worker asks again and again while there is nothing to do.
            time.sleep(0.1)

    def run_trial(self, trial, *args, **kwargs):
        hp = trial.hyperparameters
        try:
            outcome = self._outcome(hp)
        except Exception as error:
            # Not a failure of the trial: it ends the search.
            raise keras_tuner.errors.FatalError(str(error)) from error
        if outcome.finished:
            return {"val_accuracy": outcome.metrics["val_accuracy"]}
        if "tuner/epochs" in hp.values:
            # Hyperband would leave out a round if a trial has failed.
            return {"val_accuracy": -1.0}
        raise keras_tuner.errors.FailedTrialError(outcome.message)

    def _outcome(self, hp):
        """Returns the outcome of a trial, trained if it has not been."""
        search, folder = self.wanted, self.folder
        seed, values = search.recipe.seed, search.values_of(hp.values)
        hp.values |= {key: values[key] for key in hp.values if key in values}
        cell = name = name_of(values)
        epochs = hp.values.get("tuner/epochs")
        if epochs:
            # The rounds of Hyperband go on training one network.
            name = f"{cell}-epochs={epochs}"
        with folder.claim(cell, seed):
            folder.refresh()
            outcome = folder.outcome(name, seed)
            if outcome is not None:
                return outcome
            variant = search.variant(values, name)
            folder.add_settings("variants", name, variant.describe())
            names = list(folder.content["settings"]["variants"])
            number = names.index(name) + 1
            print(f"Trial {number}: {label(values)}", flush=True)
            path = folder.cell(cell, seed)
            logs = [study.logs_of(folder.path, name)]
            with study.memory_freed():
                outcome = study.train_cell(
                    *(search.study, variant, seed, search.data, path),
                    epochs=epochs,
                    callbacks=logs if self.tensorboard else [],
                )
            folder.record(outcome, path)
        with folder.locked():
            keep_networks(folder, search.keep)
        return outcome


def _oracle_of(search):
    """Returns KerasTuner's oracle, which begins with the controls."""
    first = controls(search.space)
    options: dict[str, Any] = {"max_trials": search.max_trials}
    kind: Any = keras_tuner.oracles.RandomSearchOracle
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
