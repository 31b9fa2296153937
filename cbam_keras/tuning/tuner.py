"""Trials: each is trained once, whoever asks for it and how often.

A search is resumed by running it again from its start, in a new folder of
KerasTuner's. A trial is kept under its values in the output folder, so those
that have been trained return at once, and the oracle proposes what it would
have proposed.
"""

import contextlib
import dataclasses
import itertools
import os
import random
import tempfile
import time
import warnings
from typing import Any

import keras_tuner

from cbam_keras import _checks, study
from cbam_keras._files import InUse
from cbam_keras._terminal import TimeLeft
from cbam_keras.tuning.results import keep_networks, ranked
from cbam_keras.tuning.space import controls, label, name_of

# KerasTuner's variable: where the chief of several processes is.
HOST = "KERASTUNER_ORACLE_IP"
# The name or number of a worker, KerasTuner's or ours.
WORKER = ("CBAM_KERAS_WORKER", "KERASTUNER_TUNER_ID")
# Between two looks at what other processes have trained.
SECONDS_OF_WAITING = 0.5
# Of a trial, what TensorBoard compares.
LOGGED = ("val_accuracy", "val_loss", "parameters", "macs", "seconds")


class Trials:
    """The trials of a search, each kept under its values in a folder.

    Args:
        search: A `Search`.
        folder: Its `StudyFolder`, opened.
        data: The data of the search.
        tensorboard: Boolean, whether to write logs.
    """

    def __init__(
        self,
        search: Any,
        folder: study.StudyFolder,
        data: Any,
        tensorboard: bool = False,
    ):
        self.search = search
        self.folder = folder
        self.data = data
        self.tensorboard = tensorboard
        self.seed = search.recipe.seed
        total = search.max_trials or len(folder.settings["variants"])
        self.left = TimeLeft(total, "the trials")

    def run(self, hp: keras_tuner.HyperParameters) -> study.Outcome:
        """Returns the outcome of a trial, trained if it has not been.

        Args:
            hp: Its values. Hyperparameters that only its network asks for
                are added.

        Raises:
            InUse: If another process trains it.
        """
        values = self.search.values_of(hp.values)
        hp.values |= {key: values[key] for key in hp.values if key in values}
        cell = name = name_of(values)
        if "tuner/epochs" in hp.values:
            # The rounds of Hyperband go on training one network.
            name = f"{cell}-epochs={hp.values['tuner/epochs']}"
        outcome = self.folder.outcome(name, self.seed)
        if outcome is None:
            with self.folder.claim(cell, self.seed):
                self.folder.refresh()
                outcome = self.folder.outcome(name, self.seed)
                if outcome is None:
                    return self._train(hp, cell, name)
        if not self.search.by_recipe:
            # Its network may ask for more hyperparameters than are known.
            with contextlib.suppress(Exception):
                self.search.build_network(hp, self.data)
        return outcome

    def _train(self, hp, cell, name):
        self._note(hp, name)
        number = [*self.folder.content["settings"]["variants"]].index(name) + 1
        past = hp.values.get("tuner/initial_epoch", 0)
        line = f"Trial {number}"
        if self.left.total:
            line += f" of {self.left.total}"
        line += f": {label(self.search.values_of(hp.values))}"
        line += f", from epoch {past} on" if past else ""
        line += self.left.at(number) if self.left.total else ""
        print(line, flush=True)
        path = self.folder.cell(cell, self.seed)
        with study.memory_freed():
            outcome = study.train_cell(
                self.folder.study,
                self.search.variant(hp, name),
                self.seed,
                self.data,
                path,
                epochs=hp.values.get("tuner/epochs"),
                measure=False,
                callbacks=lambda model: (
                    [study.logs_of(self.folder.path, name)]
                    if self.tensorboard
                    else []
                ),
            )
        rows = [row for row in outcome.history if row["epoch"] > past]
        seconds = sum(row["seconds"] for row in rows)
        self.folder.record(
            dataclasses.replace(outcome, seconds=seconds),
            study.best_file(path) if outcome.finished else None,
        )
        self._note(hp, name)
        with self.folder.locked():
            trials = keep_networks(self.folder, self.search.keep)
        trial, best = trials[name], ranked(trials.values())[:1]
        if self.tensorboard:
            logged = {key: getattr(trial, key) for key in LOGGED}
            logged = {k: v for k, v in logged.items() if v is not None}
            study.log_options(self.folder.path, name, trial.values, logged)
        line = f"Trial {number}: {trial.outcome}"
        if outcome.finished:
            line += f", val accuracy {trial.val_accuracy:.2%}"
            line += f", best so far {best[0].val_accuracy:.2%}"
        else:
            line += f" ({trial.message})"
        print(line, flush=True)
        return outcome

    def _note(self, hp, name):
        """Writes the values of a trial, and who runs it."""
        known = [os.environ[key] for key in WORKER if key in os.environ]
        with self.folder.locked():
            self.folder.refresh()
            content = self.folder.content
            settings = content["settings"]
            values = self.search.values_of(hp.values)
            variants = {**settings["variants"], name: values}
            self.folder.add(
                settings={**settings, "variants": variants},
                workers=content.get("workers", {})
                | ({name: known[0]} if known else {}),
            )


def run_trials(trials: Trials) -> None:
    """Runs all trials of a search, from the first on."""
    if trials.search.is_list:
        _run_list(trials)
        return
    with tempfile.TemporaryDirectory() as folder:
        try:
            tuner = Tuner(oracle_of(trials.search), folder, trials)
            tuner.search(verbose=0)
        except keras_tuner.errors.FatalError as error:
            raise error.__cause__ or error from None


def _run_list(trials):
    """Runs the points of a list, until there is none that was not tried.

    Networks may ask for more hyperparameters than were known. Then there are
    more points at the end than there were at the beginning.
    """
    search = trials.search
    space, tried, count = search.space.copy(), set(), 0
    while True:
        fresh = (v for v in search.points(space) if name_of(v) not in tried)
        left = search.max_trials and search.max_trials - count
        points = list(itertools.islice(fresh, left))
        if not points:
            return
        runs = [search.hyperparameters(values) for values in points]
        _run_each(trials, runs)
        count += len(points)
        for values, hp in zip(points, runs, strict=True):
            tried |= {name_of(values), name_of(search.values_of(hp.values))}
            space.merge(hp.space, overwrite=False)


def _run_each(trials, missing):
    """Runs trials, and waits for those that other processes train."""
    told = False
    while missing:
        busy = []
        for hp in missing:
            try:
                trials.run(hp)
            except InUse as error:
                busy.append(hp)
                reason = error
        if len(busy) == len(missing):
            if not told:
                print(f"Waiting for other processes: {reason}", flush=True)
                told = True
            time.sleep(SECONDS_OF_WAITING)
            trials.folder.refresh()
        missing = busy


def oracle_of(search: Any) -> keras_tuner.Oracle:
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


class Tuner(keras_tuner.Tuner):
    """KerasTuner's loop over trials, which are run by `Trials`.

    Args:
        oracle: A `keras_tuner.Oracle`.
        folder: Path of a folder that is not needed afterwards.
        trials: A `Trials`, or `None` in the chief of several processes.
    """

    def __init__(self, oracle: Any, folder: str, trials: Trials | None):
        self.trials = trials
        super().__init__(
            oracle, directory=folder, project_name="search", overwrite=True
        )

    def pre_create_trial(self):
        if HOST in os.environ:
            # A worker asks again and again while there is nothing to do.
            time.sleep(0.1)

    def run_trial(self, trial, *args, **kwargs):
        try:
            outcome = self.trials.run(trial.hyperparameters)
        except Exception as error:
            # Not a failure of the trial: it ends the search.
            raise keras_tuner.errors.FatalError(str(error)) from error
        if outcome.finished:
            return {"val_accuracy": outcome.metrics["val_accuracy"]}
        if "tuner/epochs" in trial.hyperparameters.values:
            # Hyperband would leave out a round if a trial has failed.
            return {"val_accuracy": -1.0}
        raise keras_tuner.errors.FailedTrialError(outcome.message)
