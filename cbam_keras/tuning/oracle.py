"""KerasTuner's oracle, which hands out trials, saved after each step.

KerasTuner saves a trial and the state of a search as two files, neither of
them written as a whole, and keeps part of its state in memory alone. Here one
file, replaced as a whole after every step, holds everything. Of KerasTuner's
class only the public methods and attributes are used.
"""

import copy
import json
import pathlib
import threading
import time

import keras_tuner
from keras_tuner.engine.trial import Trial, TrialStatus

from cbam_keras import _files
from cbam_keras._files import read_json
from cbam_keras.tuning.results import FINISHED, finished_of, rank, trials_of
from cbam_keras.tuning.trial import progress_of, state_of

ORACLE_FILE = "oracle.json"
# Another machine may see a new file a moment after it was written.
SECONDS_FOR_A_FILE = 10.0


class DurableOracle(keras_tuner.Oracle):
    """KerasTuner's oracle, which saves its full state after every step.

    Args:
        folder: Path of the search.
        algorithm: What `make_algorithm` returns.
        seed: Integer from 0.
        keep: Positive integer, how many finished trials keep their weights.
        max_trials: Positive integer. Defaults to `None`, which means as many
            as the algorithm has.
        refused: Function that takes the values of a trial and returns whether
            they must not be tried. Defaults to `None`.
    """

    def __init__(
        self, folder, algorithm, *, seed, keep, max_trials=None, refused=None
    ):
        super().__init__(
            keras_tuner.Objective("val_accuracy", "max"), max_trials=max_trials
        )
        self.verbose = 0
        self.folder = pathlib.Path(folder)
        self.algorithm = algorithm
        # Each random value takes the next seed, so neighbouring seeds of
        # searches are far apart.
        self.first_seed = self.next_seed = seed * 1_000_003
        self.keep = keep
        self.refused = refused or (lambda values: False)
        self.lock = threading.RLock()
        self.outcomes = {}
        # When each worker was last heard, by `time.monotonic`.
        self.heard = {}
        # Ids of trials whose worker is gone, and the last worker of each.
        self.waiting = []
        self.owners = {}
        self.exhausted = False

    @property
    def finished(self):
        """Whether every trial has ended, and no other will begin."""
        with self.lock:
            return (
                not self.ongoing_trials
                and not self.waiting
                and (self.exhausted or self._full)
            )

    @property
    def _full(self):
        return bool(self.max_trials) and len(self.trials) >= self.max_trials

    def finished_trials(self):
        """Returns the ids of the finished trials, the best first."""
        finished = finished_of(trials_of(self.outcomes))
        return [f"{t.number:04d}" for t in sorted(finished, key=rank)]

    @property
    def best(self):
        """The outcome of the best finished trial so far, or `None`."""
        finished = self.finished_trials()
        return self.outcomes[finished[0]] if finished else None

    def create_trial(self, tuner_id):
        """Returns the trial of this worker, a new one if it has none."""
        with self.lock:
            self.heard[tuner_id] = time.monotonic()
            if tuner_id not in self.ongoing_trials:
                self.tuner_ids.add(tuner_id)
                trial = self._next_trial()
                if trial is None:
                    return _message("", {}, self._wait_or_stop(tuner_id))
                self.ongoing_trials[tuner_id] = trial
                self.owners[trial.trial_id] = tuner_id
                self.save()
                self._write_trial(trial)
            trial = self.ongoing_trials[tuner_id]
            return _message(
                trial.trial_id, trial.hyperparameters.values, trial.status
            )

    def _next_trial(self):
        if self.waiting:
            trial = self.trials[self.waiting.pop(0)]
            trial.status = TrialStatus.RUNNING
            return trial
        if self.exhausted or self._full:
            return None
        values = self.algorithm.choose(self)
        if values is None:
            return None
        trial_id = f"{len(self.trials) + 1:04d}"
        trial = Trial(self._space(values), trial_id, TrialStatus.RUNNING)
        self.trials[trial_id] = trial
        self.start_order.append(trial_id)
        return trial

    def _wait_or_stop(self, tuner_id):
        if self.ongoing_trials:
            # Another trial may follow from these, or lose its worker.
            return TrialStatus.IDLE
        self.tuner_ids.discard(tuner_id)
        if not self.exhausted and not self._full:
            self.exhausted = True
            self.save()
        return TrialStatus.STOPPED

    def update_trial(self, trial_id, metrics, step=0):
        """Notes that a trial is alive; its metrics are read at its end."""
        with self.lock:
            trial = self.trials[trial_id]
            owner = self.owners.get(trial_id)
            if trial_id in self.waiting and owner not in self.ongoing_trials:
                # Its worker was silent, but not gone.
                self.waiting.remove(trial_id)
                trial.status = TrialStatus.RUNNING
                self.ongoing_trials[owner] = trial
                self.tuner_ids.add(owner)
                self.save()
            if trial_id not in self.end_order:
                self.heard[owner] = time.monotonic()
            return _message(trial_id, {}, trial.status)

    def end_trial(self, trial):
        """Reads the outcome from the trial's folder, the first time."""
        with self.lock:
            own = self.trials[trial.trial_id]
            if own.trial_id in self.end_order:
                return
            outcome = self._read_outcome(own.trial_id)
            self._learn(own, outcome.pop("space", []), outcome["values"])
            outcome.pop("history", None)
            outcome.pop("traceback", None)
            self.outcomes[own.trial_id] = outcome
            finished = outcome["outcome"] == FINISHED
            own.status = (
                TrialStatus.COMPLETED if finished else TrialStatus.FAILED
            )
            self.end_order.append(own.trial_id)
            self.ongoing_trials = {
                tuner_id: other
                for tuner_id, other in self.ongoing_trials.items()
                if other is not own
            }
            if own.trial_id in self.waiting:
                self.waiting.remove(own.trial_id)
            self.save()
            self._write_trial(own)
            self.clean()

    def requeue(self, tuner_id):
        """Gives the trial of a worker that is gone to the next one."""
        with self.lock:
            self.tuner_ids.discard(tuner_id)
            self.heard.pop(tuner_id, None)
            trial = self.ongoing_trials.pop(tuner_id, None)
            if trial is not None:
                trial.status = TrialStatus.INVALID
                self.waiting.append(trial.trial_id)
                self.save()

    def trial_folder(self, trial_id):
        return self.folder / f"trial_{trial_id}"

    def clean(self):
        """Deletes the weights that are not needed any more."""
        best = self.finished_trials()[: self.keep]
        may_continue = self.algorithm.may_continue(self)
        for trial_id in self.end_order:
            folder = self.trial_folder(trial_id)
            if trial_id in may_continue:
                continue
            if trial_id not in best:
                progress_of(folder).clear()
            elif (state := state_of(folder)) is not None:
                for file in progress_of(folder).folder.glob("*.keras"):
                    if file.name != state["best"]:
                        file.unlink()

    def get_state(self):
        return {
            "hyperparameters": self.hyperparameters.get_config(),
            "trials": {
                trial_id: _described(trial)
                for trial_id, trial in self.trials.items()
            },
            "outcomes": self.outcomes,
            "ongoing_trials": {
                tuner_id: trial.trial_id
                for tuner_id, trial in self.ongoing_trials.items()
            },
            "start_order": self.start_order,
            "end_order": self.end_order,
            "retry_queue": self.waiting,
            "owners": self.owners,
            "exhausted": self.exhausted,
            "seed_state": self.next_seed,
        }

    def set_state(self, state):
        # KerasTuner changes in place what it makes objects from.
        state = copy.deepcopy(state)
        self.hyperparameters = keras_tuner.HyperParameters.from_config(
            state["hyperparameters"]
        )
        self.trials = {}
        for trial_id, saved in state["trials"].items():
            space = self._space(saved["values"])
            self.trials[trial_id] = Trial(space, trial_id, saved["status"])
        self.ongoing_trials = {
            tuner_id: self.trials[trial_id]
            for tuner_id, trial_id in state["ongoing_trials"].items()
        }
        self.outcomes = state["outcomes"]
        self.start_order = state["start_order"]
        self.end_order = state["end_order"]
        self.waiting = state["retry_queue"]
        self.owners = state["owners"]
        self.exhausted = state["exhausted"]
        self.next_seed = state["seed_state"]
        self.tuner_ids = set(self.ongoing_trials)
        self.heard = dict.fromkeys(self.ongoing_trials, time.monotonic())

    def save(self):
        _files.write_json(self.folder / ORACLE_FILE, self.get_state())

    def reload(self):
        """Reads the saved state, and repairs damaged files of trials."""
        path = self.folder / ORACLE_FILE
        try:
            self.set_state(json.loads(path.read_text()))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
            raise ValueError(
                f'The search in output="{self.folder}" cannot be resumed: '
                f"{ORACLE_FILE} is damaged ({type(e).__name__}: {e}). Put "
                "back a copy of it, or search again in another folder; the "
                "models of trials that ended are in their folders"
            ) from e
        for trial in self.trials.values():
            self._repair(trial)
        self.clean()

    def _repair(self, trial):
        folder = self.trial_folder(trial.trial_id)
        if read_json(folder / "trial.json") != _described(trial):
            self._write_trial(trial)
        outcome = self.outcomes.get(trial.trial_id)
        if outcome is not None:
            found = read_json(folder / "outcome.json") or {}
            if {key: found.get(key) for key in outcome} != outcome:
                _files.write_json(folder / "outcome.json", outcome)

    def _write_trial(self, trial):
        folder = self.trial_folder(trial.trial_id)
        folder.mkdir(parents=True, exist_ok=True)
        _files.write_json(folder / "trial.json", _described(trial))

    def _read_outcome(self, trial_id):
        path = self.trial_folder(trial_id) / "outcome.json"
        end = time.monotonic() + SECONDS_FOR_A_FILE
        while not path.exists() and time.monotonic() < end:
            time.sleep(0.2)
        return json.loads(path.read_text())

    def _learn(self, trial, space, values):
        """Adds hyperparameters that a build function asked for only now."""
        if not space:
            return
        new = keras_tuner.HyperParameters.from_config(
            {"space": copy.deepcopy(space), "values": {}}
        )
        self.update_space(new)
        own = trial.hyperparameters
        own.merge(new.space, overwrite=False)
        own.values = {**values, **own.values}

    def _space(self, values):
        space = self.hyperparameters.copy()
        space.values = dict(values)
        return space


def _message(trial_id, values, status):
    """Returns what a worker needs to know of a trial, and no more.

    Not the space: KerasTuner prints when it sends one, and rounds it.
    """
    hyperparameters = keras_tuner.HyperParameters()
    hyperparameters.values = dict(values)
    return Trial(hyperparameters, trial_id, status)


def _described(trial):
    return {
        "trial_id": trial.trial_id,
        "status": trial.status,
        "values": trial.hyperparameters.values,
    }
