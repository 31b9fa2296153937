"""Searches whose trials KerasTuner's oracle proposes.

A search is resumed by running it again from its start: trials are kept under
their values, so those that have been trained return at once. The oracle
learns of the trials in the order that it proposed them, so that the next ones
do not depend on which worker is faster.
"""

import collections
import dataclasses
import functools
import random
import tempfile
import warnings

import keras_tuner

from cbam_keras import _checks, _terminal, study
from cbam_keras.study.results.ranking import join_folds
from cbam_keras.tuning.files import keep_networks
from cbam_keras.tuning.plan import SearchPlan
from cbam_keras.tuning.space import Values, controls, label, name_of

# How Hyperband says for how many epochs a trial is trained.
EPOCHS = "tuner/epochs"
ORACLES = {
    "random": keras_tuner.oracles.RandomSearchOracle,
    "bayesian": keras_tuner.oracles.BayesianOptimizationOracle,
    "hyperband": keras_tuner.oracles.HyperbandOracle,
}


def run(
    search: SearchPlan, folder: study.StudyFolder, options: study.RunOptions
) -> None:
    """Runs the trials that a folder lacks, as many at a time as workers."""
    trials = TrialQueue(search, folder, options.callbacks)
    output = folder.path.absolute()

    def make():
        return TrialQueue(search, search.folder(output), options.callbacks)

    # KerasTuner knows a worker by such a name.
    free = [f"worker-{n}" for n in range(study.count_workers(options))]
    running: collections.deque = collections.deque()
    with (
        tempfile.TemporaryDirectory() as scratch,
        study.training_by(options, trials, make) as train_or_wait,
    ):
        oracle = _oracle_of(search, scratch)
        while True:
            if free:
                proposed = oracle.create_trial(free[-1])
                if proposed.status == "RUNNING":
                    name = trials.propose(proposed.hyperparameters)
                    running.append((proposed, name, free.pop()))
                    continue
            if not running:
                # It proposes no more.
                break
            trial, name, worker = running.popleft()
            if not trials.outcomes(name):
                while not trials.outcomes(name):
                    train_or_wait()
                with folder.locked():
                    keep_networks(folder, search.keep)
            outcome = join_folds(trials.outcomes(name))
            _report(oracle, trial, outcome, search)
            free.append(worker)
    folder.tidy((x.name, x.seed) for x in trials.all())


def _report(oracle, trial, outcome, search):
    """Tells the oracle how a trial has ended, with values as in the folder."""
    proposed = trial.hyperparameters.values
    values = search.variant(proposed).options
    proposed |= {name: values[name] for name in proposed if name in values}
    measure = search.trials.measured_by[0]
    trial.status, score = "COMPLETED", outcome.metrics.get(measure.key)
    # The oracle looks for the highest.
    score = None if score is None else measure.merit(score)
    if not outcome.finished and EPOCHS in proposed:
        # Hyperband would leave out a round if a trial has failed.
        score = -3.0
    elif not outcome.finished:
        trial.status, trial.message = "FAILED", outcome.message
    if score is not None:
        oracle.update_trial(trial.trial_id, {measure.key: score})
    oracle.end_trial(trial)


class TrialQueue(study.Queue):
    """The trials of a search, which are in its folder."""

    def __init__(
        self,
        search: SearchPlan,
        folder: study.StudyFolder,
        callbacks: study.CallbackMakers,
    ):
        load = functools.lru_cache(maxsize=1)(search.load)
        super().__init__(search.trials, folder, load, callbacks)
        self.search = search
        # The names of those that this process has proposed, in their order.
        self.proposed: dict[str, None] = {}

    def all(self) -> list[study.PlannedNetwork]:
        """Returns the trials that were proposed, in a worker all.

        The folder may have others, from before a network that had failed was
        tried again.
        """
        content = self.folder.content
        rounds = content.get("rounds", {})
        variants = content["settings"]["variants"]
        return [
            study.PlannedNetwork(
                self.search.variant(variants[name], name),
                run,
                name_of(variants[name]),
                rounds.get(name),
            )
            for name in self.proposed or variants
            for run in self.study.runs
        ]

    def outcomes(self, name: str) -> list[study.Outcome]:
        """Returns those of all folds of a trial, or none before they ended."""
        outcomes = [self.folder.outcome(name, x) for x in self.study.runs]
        return [x for x in outcomes if x] if all(outcomes) else []

    def left(self) -> tuple[int, int]:
        """Counts trials, too, that the oracle has yet to propose."""
        networks, epochs = super().left()
        every = (self.search.max_trials or 0) * len(self.study.runs)
        more = max(0, every - len(self.all()))
        usual = self.study.recipe_for(None, 0).total_epochs
        return networks + more, epochs + more * usual

    def title(self, network: study.PlannedNetwork) -> str:
        """Returns nothing: the proposal of a trial is printed."""
        return ""

    def propose(self, hp: keras_tuner.HyperParameters) -> str:
        """Adds a trial to the folder, unless it has been trained.

        Returns its name. The oracle proposes some networks twice.
        """
        variant, epochs = self.search.variant(hp.values), hp.values.get(EPOCHS)
        name = variant.name
        if epochs:
            # The rounds of Hyperband go on training one network.
            name = f"{name}-epochs={epochs}"
        folder = self.folder
        if name not in self.proposed:
            folder.refresh()
            if not self.outcomes(name):
                if epochs:
                    with folder.locked():
                        rounds = folder.content.get("rounds", {})
                        folder.add(rounds={**rounds, name: epochs})
                folder.add_variant(dataclasses.replace(variant, name=name))
                names = list(folder.content["settings"]["variants"])
                number = names.index(name) + 1
                _terminal.say(f"Trial {number}: {label(variant.options)}")
        self.proposed[name] = None
        return name


class ControlsFirst(keras_tuner.Oracle):
    """Mixin of KerasTuner's oracles, which begins with the controls."""

    def __init__(self, first: list[Values], **options: object):
        super().__init__(**options)
        self.first = first

    def populate_space(self, trial_id: str) -> dict[str, object]:
        """Returns the values of the next trial, if there is one."""
        count = len(self.start_order)
        if count < len(self.first):
            return {"status": "RUNNING", "values": dict(self.first[count])}
        threads = _checks.require("threadpoolctl", extra="tune")
        # A Gaussian process fits so few numbers faster with one thread, and to
        # the same bits each time; that it fits badly is no news.
        with threads.threadpool_limits(1), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return super().populate_space(trial_id)


def _oracle_of(search, scratch):
    """Returns KerasTuner's oracle of the algorithm of a search."""
    options = {"max_trials": search.max_trials}
    if search.algorithm == "bayesian":
        options["num_initial_points"] = max(4, search.max_trials // 4)
    if search.algorithm == "hyperband":
        epochs = search.trials.recipe_for(None, 0).total_epochs
        options = {"max_epochs": epochs}
    kind = type("Oracle", (ControlsFirst, ORACLES[search.algorithm]), {})
    oracle = kind(
        controls(search.space),
        objective=keras_tuner.Objective(search.trials.task.measure, "max"),
        hyperparameters=search.space.copy(),
        # KerasTuner takes 0 for no seed, and draws from seed, seed + 1, ...
        seed=random.Random(search.recipe.seed).randrange(1, 2**32),
        max_consecutive_failed_trials=10**9,
        **options,
    )
    # Gives the oracle its folder. The space is known, and nothing built.
    keras_tuner.Tuner(oracle, lambda hp: None, directory=scratch)
    oracle.verbose = 0
    return oracle
