"""Searches whose trials KerasTuner's Bayesian oracle proposes.

A search is resumed by running it again from its start: trials are kept under
their values, so those that have been trained return at once. As many trials as
there are workers are proposed at a time, and the oracle learns of them in that
order.
"""

import contextlib
import random
import tempfile
import warnings
from collections.abc import Callable, Iterator

import keras_tuner

from cbam_keras import _checks, _terminal, study
from cbam_keras.study.results.ranking import join_folds
from cbam_keras.tuning.files import keep_networks
from cbam_keras.tuning.space import Values, controls


def run(
    oracle: keras_tuner.Oracle,
    queue: study.Queue,
    options: study.RunOptions,
    make_variant: Callable[[Values], study.Variant],
    keep: int,
) -> None:
    """Runs the trials that a folder lacks, as many at a time as workers."""
    variants: dict[str, study.Variant] = {}
    while proposed := _propose(oracle, options.workers or 1):
        values = [trial.hyperparameters.values for trial in proposed]
        trials = [make_variant(each) for each in values]
        # The oracle proposes some networks twice.
        variants |= {variant.name: variant for variant in trials}
        queue.set_variants(tuple(variants.values()))
        queue.train_all(options)
        keep_networks(queue.folder, keep)
        for trial, variant in zip(proposed, trials, strict=True):
            _report(oracle, trial, variant, queue)


def _propose(oracle, count):
    """Returns up to so many trials, none if there are no more."""
    # KerasTuner knows a worker by such a name.
    trials = [oracle.create_trial(f"worker-{n}") for n in range(count)]
    return [trial for trial in trials if trial.status == "RUNNING"]


def _report(oracle, trial, variant, queue):
    """Tells the oracle how a trial has ended."""
    measure, runs = queue.study.measured_by[0], queue.study.runs
    outcomes = [queue.folder.outcome(variant.name, run) for run in runs]
    outcome = join_folds([x for x in outcomes if x])
    trial.status, score = "COMPLETED", outcome.metrics.get(measure.key)
    if not outcome.finished:
        trial.status, trial.message = "FAILED", outcome.message
    if score is not None:
        # The oracle looks for the highest.
        score = measure.merit(score)
        oracle.update_trial(trial.trial_id, {measure.key: score})
    oracle.end_trial(trial)
    _terminal.say(f"Trial: {variant.label}, {outcome.message or score}")


class ControlsFirst(keras_tuner.oracles.BayesianOptimizationOracle):
    """KerasTuner's Bayesian oracle, which begins with the controls."""

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


@contextlib.contextmanager
def oracle_of(
    space: keras_tuner.HyperParameters,
    max_trials: int,
    measure: str,
    seed: int,
) -> Iterator[keras_tuner.Oracle]:
    """Gives the oracle of a search, with a folder that it needs."""
    oracle = ControlsFirst(
        controls(space),
        max_trials=max_trials,
        num_initial_points=max(4, max_trials // 4),
        objective=keras_tuner.Objective(measure, "max"),
        hyperparameters=space,
        # KerasTuner takes 0 for no seed, and draws from seed, seed + 1, ...
        seed=random.Random(seed).randrange(1, 2**32),
        max_consecutive_failed_trials=10**9,
    )
    with tempfile.TemporaryDirectory() as scratch:
        # Gives the oracle its folder. The space is known, and nothing built.
        keras_tuner.Tuner(oracle, lambda hp: None, directory=scratch)
        oracle.verbose = 0
        yield oracle
