"""The ways to choose the next trial.

Each is a function of the trials so far and of the next random seed, and keeps
nothing else. So only these need to be saved for a search that is killed and
resumed to continue as it would have.
"""

import copy
import itertools
import math
import random
import warnings

import numpy as np

from cbam_keras import _checks

# A space counts as used up after so many values in a row that were tried.
DRAWS = 200


class Random:
    """Values at random, no combination twice."""

    def choose(self, oracle):
        """Returns the values of the next trial, `None` if there are none now.

        Args:
            oracle: A `DurableOracle`.
        """
        return _draw(oracle)

    def may_continue(self, oracle):
        """Returns the ids of trials that a later one may continue.

        Args:
            oracle: A `DurableOracle`.
        """
        return set()

    def planned(self, points, max_trials, epochs):
        """Returns how many trials there will be, and their epochs in all.

        Args:
            points: Integer, the combinations of the space.
            max_trials: Positive integer or `None`.
            epochs: Positive integer, of each trial.
        """
        trials = min(points, max_trials or points)
        return trials, trials * epochs


class Grid(Random):
    """All combinations in order, the last hyperparameter varying fastest."""

    def choose(self, oracle):
        combinations = _combinations(oracle.get_space())
        return next(filter(_untried(oracle), combinations), None)


class Bayesian(Random):
    """KerasTuner's Gaussian process, fitted again to the trials each time.

    Args:
        initial_points: Positive integer, how many trials must have finished
            before; until then values are random.
    """

    def __init__(self, initial_points):
        self.initial_points = initial_points

    def choose(self, oracle):
        if len(oracle.finished_trials()) < self.initial_points:
            return _draw(oracle)
        values = self._propose(oracle)
        if values is None or not _untried(oracle)(values):
            return _draw(oracle)
        return values

    def _propose(self, oracle):
        keras_tuner = _checks.require("keras_tuner", extra="tune")
        exceptions = _checks.require("sklearn.exceptions", extra="tune")
        threads = _checks.require("threadpoolctl", extra="tune")
        process = keras_tuner.oracles.BayesianOptimizationOracle(
            oracle.objective,
            hyperparameters=oracle.get_space(),
            num_initial_points=1,
            seed=(oracle.first_seed + len(oracle.trials)) % 2**32,
        )
        process.trials = _with_scores(oracle)
        # Threads cost several times what they save on so few numbers, and
        # the result may differ in its last bits.
        with threads.threadpool_limits(1), warnings.catch_warnings():
            # A kernel that fits few points badly is nothing to act on.
            warnings.simplefilter("ignore", exceptions.ConvergenceWarning)
            try:
                return process.populate_space("")["values"]
            except (ValueError, ArithmeticError):
                # The process cannot be fitted to these points.
                return None


class Hyperband(Random):
    """Many trials for a few epochs, and the best third of them for more.

    The brackets and rounds of Li et al., 2018, as KerasTuner rounds them.
    A round begins when every trial of the one before has ended, so that it
    does not depend on which was first. A trial that failed counts as one that
    is not promoted. When a small space is used up, rounds are made of the
    trials there are.

    Args:
        epochs: Positive integer, the most that a trial is trained.
        factor: Integer from 2. One of so many trials is promoted, and trained
            for so many times as long. Defaults to `3`.
    """

    def __init__(self, epochs, factor=3):
        self.epochs = epochs
        self.factor = factor
        self.brackets = 0
        while epochs >= 1:
            epochs /= factor
            self.brackets += 1

    def choose(self, oracle):
        for bracket in reversed(range(self.brackets)):
            values = self._of_bracket(oracle, bracket)
            if values is not None:
                return values
        return None

    def may_continue(self, oracle):
        needed = {
            trial.hyperparameters.values.get("tuner/trial_id")
            for trial in oracle.ongoing_trials.values()
        }
        for bracket in range(self.brackets):
            rounds = self._rounds(oracle, bracket)
            if self._is_open(bracket, rounds):
                needed.update(trial.trial_id for trial in rounds[0])
            for index, size in self._sizes(oracle, bracket, rounds):
                if size is None or len(rounds[index]) < size:
                    needed.update(t.trial_id for t in rounds[index - 1])
        return needed - {None}

    def planned(self, points, max_trials, epochs):
        trials = total = 0
        for bracket in range(self.brackets):
            for index in range(bracket + 1):
                own = self._settings(bracket, index)
                size = self._size(bracket, index)
                trials += size
                total += size * (
                    own["tuner/epochs"] - own["tuner/initial_epoch"]
                )
        return trials, total

    def _of_bracket(self, oracle, bracket):
        """Returns the next values of a bracket, `None` if there are none."""
        rounds = self._rounds(oracle, bracket)
        if self._is_open(bracket, rounds):
            values = _draw(oracle)
            if values is not None:
                return {**values, **self._settings(bracket, 0)}
        for index, size in self._sizes(oracle, bracket, rounds):
            if size is not None and len(rounds[index]) < size:
                best = _best_left(oracle, rounds[index - 1], rounds[index])
                return {
                    **oracle.trials[best].hyperparameters.values,
                    "tuner/trial_id": best,
                    **self._settings(bracket, index),
                }
        return None

    def _rounds(self, oracle, bracket):
        """Returns the trials of each round of a bracket."""
        rounds = [[] for _ in range(bracket + 1)]
        for trial in oracle.trials.values():
            values = trial.hyperparameters.values
            if values["tuner/bracket"] == bracket:
                rounds[values["tuner/round"]].append(trial)
        return rounds

    def _is_open(self, bracket, rounds):
        """Returns whether the first round takes more trials."""
        first, *later = rounds
        return len(first) < self._size(bracket, 0) and not any(later)

    def _sizes(self, oracle, bracket, rounds):
        """Gives the index of each later round, and how many trials it gets.

        The size is `None` until all trials of the round before have ended.
        """
        size = len(rounds[0])
        for index in range(1, len(rounds)):
            past = rounds[index - 1]
            ended = all(trial.trial_id in oracle.end_order for trial in past)
            if size is None or len(past) < size or not ended:
                size = None
            else:
                completed = [t for t in past if t.status == "COMPLETED"]
                size = min(self._size(bracket, index), len(completed))
            yield index, size

    def _size(self, bracket, index):
        """Returns how many trials a round of a large space gets."""
        last = math.ceil(1 + math.log(self.epochs, self.factor))
        return math.ceil(
            last / (bracket + 1) * self.factor ** (bracket - index)
        )

    def _settings(self, bracket, index):
        """Returns what KerasTuner's tuners read from a trial's values."""

        def epochs(index):
            return math.ceil(self.epochs / self.factor ** (bracket - index))

        return {
            "tuner/epochs": epochs(index),
            "tuner/initial_epoch": epochs(index - 1) if index else 0,
            "tuner/bracket": bracket,
            "tuner/round": index,
        }


ALGORITHMS = {
    "random": Random,
    "hyperband": Hyperband,
    "bayesian": Bayesian,
    "grid": Grid,
}


def make_algorithm(name, *, max_trials, epochs):
    """Returns the algorithm of that name.

    Args:
        name: String, a key of `ALGORITHMS`.
        max_trials: Positive integer, or `None`.
        epochs: Positive integer, the most that a trial is trained.
    """
    options = {
        "hyperband": {"epochs": epochs},
        "bayesian": {"initial_points": max(4, (max_trials or 0) // 4)},
    }
    return ALGORITHMS[name](**options.get(name, {}))


def _draw(oracle):
    """Returns random values that were not tried, `None` if there are none.

    The first trials are the points of comparison.
    """
    space, is_untried = oracle.get_space(), _untried(oracle)
    first, number = _first_points(space), len(oracle.trials)
    if number < len(first):
        values = _fill(space, lambda hp: first[number].get(hp.name, hp.default))
        if is_untried(values):
            return values
    seeds = itertools.count(oracle.next_seed)
    arm = next((hp for hp in space.space if hp.name == "attention"), None)
    # Else most trials of a wide space would go to kinds with few options.
    weights = arm and [_points(space, arm, kind) for kind in arm.values]

    def sample(hp):
        if hp is not arm:
            return hp.random_sample(next(seeds))
        generator = random.Random(next(seeds))
        return generator.choices(list(arm.values), weights)[0]

    for _ in range(DRAWS):
        values = _fill(space, sample)
        if is_untried(values):
            oracle.next_seed = next(seeds)
            return values
    return None


def count_points(space):
    """Returns how many combinations each kind of attention has.

    The key is `None` where no hyperparameter is named `"attention"`.
    """
    arm = next((hp for hp in space.space if hp.name == "attention"), None)
    kinds = [None] if arm is None else arm.values
    return {kind: _points(space, arm, kind) for kind in kinds}


def _points(space, arm, kind):
    """Returns how many combinations a kind of attention has.

    With conditions as by default. A range counts as its values in a grid.
    """
    points, space.values = 1, {}
    for hp in space.space:
        if hp is arm:
            space.values[hp.name] = kind
        elif space.is_active(hp):
            space.values[hp.name] = hp.default
            points *= len(list(hp.values))
    return points


def _first_points(space):
    """Returns the values, other than defaults, that every search starts with.

    No attention, squeeze-and-excitation and CBAM, as far as they are there.
    """
    for hp in space.space:
        if hp.name == "attention":
            kinds = [k for k in ("none", "se", "cbam") if k in list(hp.values)]
            return [{"attention": kind} for kind in kinds] or [{}]
    return [{}]


def _fill(space, choose):
    """Returns a value for each hyperparameter that is in use."""
    space.values = {}
    for hp in space.space:
        if space.is_active(hp):
            space.values[hp.name] = choose(hp)
    return space.values


def _combinations(space, index=0):
    """Gives all combinations of values, the defaults first."""
    if index == 0:
        space.values = {}
    if index == len(space.space):
        yield dict(space.values)
        return
    hp = space.space[index]
    if not space.is_active(hp):
        yield from _combinations(space, index + 1)
        return
    others = [value for value in hp.values if value != hp.default]
    for value in [hp.default, *others]:
        space.values[hp.name] = value
        yield from _combinations(space, index + 1)
    del space.values[hp.name]


def _untried(oracle):
    """Returns a function that tells whether values may be handed out."""
    tried = {
        _without_settings(trial.hyperparameters.values)
        for trial in oracle.trials.values()
    }
    return lambda values: (
        not oracle.refused(values) and _without_settings(values) not in tried
    )


def _without_settings(values):
    return frozenset(
        item for item in values.items() if not item[0].startswith("tuner/")
    )


def _best_left(oracle, past, own):
    """Returns the id of the best trial of a round that is not promoted."""
    promoted = {t.hyperparameters.values["tuner/trial_id"] for t in own}
    past = {trial.trial_id for trial in past}
    return next(
        trial_id
        for trial_id in oracle.finished_trials()
        if trial_id in past - promoted
    )


def _with_scores(oracle):
    """Returns finished trials, and those under way as average ones.

    So that values close to those under way are not tried as well.
    """
    ids = oracle.finished_trials()
    scores = {i: oracle.outcomes[i]["val_accuracy"] for i in ids}
    average = float(np.mean(list(scores.values())))
    trials = {}
    for trial_id, trial in sorted(oracle.trials.items()):
        if trial_id in scores or trial in oracle.ongoing_trials.values():
            trials[trial_id] = copy.copy(trial)
            trials[trial_id].status = "COMPLETED"
            trials[trial_id].score = scores.get(trial_id, average)
    return trials
