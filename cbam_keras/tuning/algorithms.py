"""The ways to choose the next trial: KerasTuner's four, each durable."""

import warnings

import keras_tuner
import numpy as np
from keras_tuner.engine.trial import TrialStatus

from cbam_keras import _checks
from cbam_keras.tuning.oracle import Durable
from cbam_keras.tuning.trial import rank


class RandomOracle(Durable, keras_tuner.oracles.RandomSearchOracle):
    """Values at random."""


class BayesianOracle(Durable, keras_tuner.oracles.BayesianOptimizationOracle):
    """A Gaussian process, a function of the trials and the seed alone."""

    def populate_space(self, trial_id):
        if self._first_given < len(self._first()):
            return self._random_populate_space()
        exceptions = _checks.require("sklearn.exceptions", extra="tune")
        threads = _checks.require("threadpoolctl", extra="tune")
        self._begin(len(self.trials))
        # Threads cost several times what they save on so few numbers, and
        # with them the result may differ in its last bits.
        with threads.threadpool_limits(1), warnings.catch_warnings():
            # Of kernels that fit few points badly: nobody can mend that.
            warnings.simplefilter("ignore", exceptions.ConvergenceWarning)
            try:
                response = super().populate_space(trial_id)
            except (ValueError, ArithmeticError):
                # A process that cannot be fitted knows nothing.
                return self._random_populate_space()
        values = response["values"]
        if values is not None and self._duplicate(values):
            return self._random_populate_space()
        return response

    def _begin(self, trials):
        seed = (self.seed + trials) % 2**32
        self._random_state = np.random.RandomState(seed)
        self.gpr = self._make_gpr()
        self.gpr.random_state = seed

    def _vectorize_trials(self):
        trials, ongoing = self.trials, self.ongoing_trials
        try:
            self.ongoing_trials = {}
            self.trials = {
                trial_id: trial
                for trial_id, trial in trials.items()
                if trial.status == TrialStatus.COMPLETED
            }
            x, y = super()._vectorize_trials()
        finally:
            self.trials, self.ongoing_trials = trials, ongoing
        if not ongoing:
            return x, y
        # Those under way count as what the finished ones make likely.
        self.gpr.fit(np.nan_to_num(x), np.nan_to_num(y))
        return super()._vectorize_trials()


class GridOracle(Durable, keras_tuner.oracles.GridSearchOracle):
    """All combinations, in order."""

    def populate_space(self, trial_id):
        response = super().populate_space(trial_id)
        if response["status"] == TrialStatus.RUNNING:
            # So that the next worker need not wait until this trial ends.
            self._populate_next.append(trial_id)
        return response

    def _after_end(self, trial):
        self._populate_next.append(trial.trial_id)

    def _get_next_combination(self, values):
        following = super()._get_next_combination(values)
        while following is not None and self.refused(following):
            following = super()._get_next_combination(following)
        return following

    def get_state(self):
        order = self._ordered_ids
        return {
            **super().get_state(),
            "populate_next": self._populate_next,
            "ordered_ids": {
                "memory": order._memory,
                # A list, since keys that are no strings would become some.
                "next_index": [list(p) for p in order._next_index.items()],
                "last_index": order._last_index,
            },
        }

    def set_state(self, state):
        super().set_state(state)
        self._populate_next = list(state["populate_next"])
        told, order = state["ordered_ids"], self._ordered_ids
        order._memory = list(told["memory"])
        order._data_to_index = {
            trial_id: index for index, trial_id in enumerate(order._memory)
        }
        order._next_index.clear()
        order._next_index.update(told["next_index"])
        order._last_index = told["last_index"]


class HyperbandOracle(Durable, keras_tuner.oracles.HyperbandOracle):
    """Many trials for a few epochs, and the best third of them for more.

    As KerasTuner's, but for three cases. A round is chosen from when all of
    the one before have ended, so that what is chosen does not depend on who
    was first. A trial that failed counts as one that is left out; KerasTuner
    would wait for it, and no trial would get beyond the first round. When a
    small space is used up, the rounds go on with what there is.
    """

    def populate_space(self, trial_id):
        while True:
            for bracket in self._brackets:
                values = self._next_of(bracket, trial_id)
                if values is not None:
                    return {"status": TrialStatus.RUNNING, "values": values}
            if self._current_bracket == 0:
                return {"status": TrialStatus.STOPPED}
            self._increment_bracket_num()
            self._start_new_bracket()

    def _next_of(self, bracket, trial_id):
        number, rounds = bracket["bracket_num"], bracket["rounds"]
        if len(rounds[0]) < self._size(bracket, 0):
            values = self._random_values()
            if values is not None:
                rounds[0].append({"past_id": None, "id": trial_id})
                return {
                    **values,
                    "tuner/epochs": self._get_epochs(number, 0),
                    "tuner/initial_epoch": 0,
                    "tuner/bracket": number,
                    "tuner/round": 0,
                }
            bracket["used_up"] = True
        for index in range(1, len(rounds)):
            size = self._size(bracket, index)
            if size is not None and len(rounds[index]) < size:
                past = self._best_left(bracket, index)
                rounds[index].append({"past_id": past, "id": trial_id})
                return {
                    **self.trials[past].hyperparameters.values,
                    "tuner/trial_id": past,
                    "tuner/epochs": self._get_epochs(number, index),
                    "tuner/initial_epoch": self._get_epochs(number, index - 1),
                    "tuner/bracket": number,
                    "tuner/round": index,
                }
        return None

    def _size(self, bracket, index):
        """Returns how many trials a round gets, `None` if not yet known."""
        own = self._get_size(bracket["bracket_num"], index)
        if index == 0:
            used_up = bracket.get("used_up")
            return len(bracket["rounds"][0]) if used_up else own
        size = self._size(bracket, index - 1)
        past = [
            self.trials[info["id"]] for info in bracket["rounds"][index - 1]
        ]
        if size is None or len(past) < size:
            return None
        if any(trial.trial_id not in self.end_order for trial in past):
            return None
        completed = [t for t in past if t.status == TrialStatus.COMPLETED]
        return min(own, len(completed))

    def _best_left(self, bracket, index):
        chosen = {info["past_id"] for info in bracket["rounds"][index]}
        return min(
            (
                info["id"]
                for info in bracket["rounds"][index - 1]
                if info["id"] not in chosen
                and self.trials[info["id"]].status == TrialStatus.COMPLETED
            ),
            key=lambda trial_id: (rank(self.outcomes[trial_id]), trial_id),
        )

    def may_continue(self):
        kept = {
            trial.hyperparameters.values.get("tuner/trial_id")
            for trial in self.trials.values()
            if trial.trial_id not in self.end_order
        }
        for bracket in self._brackets:
            rounds = bracket["rounds"]
            for index in range(1, len(rounds)):
                size = self._size(bracket, index)
                if size is None or len(rounds[index]) < size:
                    kept.update(info["id"] for info in rounds[index - 1])
        return kept


ALGORITHMS = {
    "random": RandomOracle,
    "hyperband": HyperbandOracle,
    "bayesian": BayesianOracle,
    "grid": GridOracle,
}
