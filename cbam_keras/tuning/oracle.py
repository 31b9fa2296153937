"""KerasTuner's ways to choose the next trial, made to survive a crash.

KerasTuner writes a trial and the state of the search as two files, neither of
them whole at any moment, and leaves part of what it knows in memory. Here one
file, replaced as a whole, holds everything after each step.
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
from cbam_keras.tuning.trial import FINISHED, progress_of, rank, state_of

STATE = "oracle.json"
# Another machine may see a new file a moment after it was written.
SECONDS_FOR_A_FILE = 10.0


class Durable:
    """Goes before an `Oracle` of KerasTuner, and keeps all that it knows.

    Args:
        folder: Path of the search.
        seed: Integer from 0.
        keep: Integer, how many finished trials keep their weights.
        refused: Function of the values of a trial: not to be tried.
        **options: Of KerasTuner's oracle.
    """

    def __init__(self, folder, *, seed, keep, refused, **options):
        super().__init__(
            objective=keras_tuner.Objective("val_accuracy", "max"),
            # KerasTuner takes 0 for no seed.
            seed=1,
            **options,
        )
        # Each value takes the next number, so neighbouring seeds would draw
        # the same values.
        self.seed = self._seed_state = seed * 1_000_003
        self.verbose = 0
        # Else a small space would be given up before it was searched.
        self._max_collisions = 200
        self.folder = pathlib.Path(folder)
        self.keep = keep
        self.refused = refused
        self.lock = threading.RLock()
        self.outcomes = {}
        # When each worker was last heard, by `time.monotonic`.
        self.heard = {}
        self._owners = {}
        self._first_given = 0
        self._exhausted = False

    @property
    def finished(self):
        """Whether every trial has ended, and no other will begin."""
        with self.lock:
            return (
                not self.ongoing_trials
                and not self._retry_queue
                and (self._exhausted or self._full)
            )

    @property
    def _full(self):
        return bool(self.max_trials) and len(self.trials) >= self.max_trials

    @property
    def best(self):
        """The outcome of the best finished trial so far, or `None`."""
        finished = [
            outcome
            for outcome in self.outcomes.values()
            if outcome["outcome"] == FINISHED
        ]
        return min(finished, key=rank, default=None)

    def create_trial(self, tuner_id):
        """Returns the trial of this worker, a new one if it has none."""
        with self.lock:
            self.heard[tuner_id] = time.monotonic()
            if tuner_id not in self.ongoing_trials:
                self.tuner_ids.add(tuner_id)
                status = self._assign(tuner_id)
                if status != TrialStatus.RUNNING:
                    if status == TrialStatus.STOPPED:
                        self.tuner_ids.discard(tuner_id)
                    return _handed("", {}, status)
            trial = self.ongoing_trials[tuner_id]
            return _handed(
                trial.trial_id, trial.hyperparameters.values, trial.status
            )

    def _assign(self, tuner_id):
        if self._retry_queue:
            trial = self.trials[self._retry_queue.pop(0)]
            trial.status = TrialStatus.RUNNING
        else:
            trial_id = f"{len(self.trials) + 1:04d}"
            status, values = TrialStatus.STOPPED, None
            if not self._exhausted and not self._full:
                response = self.populate_space(trial_id)
                status, values = response["status"], response.get("values")
            if status != TrialStatus.RUNNING:
                return self._wait_or_stop(status)
            trial = Trial(self._space(values), trial_id, status)
            self.trials[trial_id] = trial
            self._record_values(trial)
            self.start_order.append(trial_id)
        self.ongoing_trials[tuner_id] = trial
        self._owners[trial.trial_id] = tuner_id
        self.save()
        self._save_trial(trial)
        return TrialStatus.RUNNING

    def _wait_or_stop(self, status):
        if self.ongoing_trials:
            # Should its worker die, somebody must be there to go on.
            return TrialStatus.IDLE
        if status == TrialStatus.STOPPED and not self._full:
            self._exhausted = True
            self.save()
        return status

    def update_trial(self, trial_id, metrics, step=0):
        """Hears that a trial is alive; what it achieves comes at its end."""
        with self.lock:
            trial = self.trials[trial_id]
            owner = self._owners.get(trial_id)
            if (
                trial_id in self._retry_queue
                and owner not in self.ongoing_trials
            ):
                # Taken for dead too early.
                self._retry_queue.remove(trial_id)
                trial.status = TrialStatus.RUNNING
                self.ongoing_trials[owner] = trial
                self.tuner_ids.add(owner)
                self.save()
            if trial_id not in self.end_order:
                self.heard[owner] = time.monotonic()
            return _handed(trial_id, {}, trial.status)

    def end_trial(self, trial):
        """Takes up what the trial's folder tells; told twice, does nothing."""
        with self.lock:
            own = self.trials[trial.trial_id]
            if own.trial_id in self.end_order:
                return
            outcome = self._read_outcome(own.trial_id)
            space = outcome.pop("space", [])
            self._learn(own, space, outcome["values"])
            outcome.pop("history", None)
            outcome.pop("traceback", None)
            self.outcomes[own.trial_id] = outcome
            own.message = outcome["message"]
            own.status = TrialStatus.FAILED
            if outcome["outcome"] == FINISHED:
                own.status = TrialStatus.COMPLETED
                own.score = outcome["val_accuracy"]
                own.best_step = outcome["best_epoch"]
            self._record_values(own)
            self.end_order.append(own.trial_id)
            self.ongoing_trials = {
                tuner_id: other
                for tuner_id, other in self.ongoing_trials.items()
                if other is not own
            }
            if own.trial_id in self._retry_queue:
                self._retry_queue.remove(own.trial_id)
            self._after_end(own)
            self.save()
            self._save_trial(own)
            self.clean()

    def requeue(self, tuner_id):
        """Gives the trial of a worker that is gone to the next one."""
        with self.lock:
            self.tuner_ids.discard(tuner_id)
            self.heard.pop(tuner_id, None)
            trial = self.ongoing_trials.pop(tuner_id, None)
            if trial is not None:
                trial.status = TrialStatus.INVALID
                self._retry_queue.append(trial.trial_id)
                self.save()

    def trial_folder(self, trial_id):
        return self.folder / f"trial_{trial_id}"

    def may_continue(self):
        """Returns the trials from whose last epoch others may go on."""
        return set()

    def clean(self):
        """Deletes the weights that nobody needs any more."""
        ended = [
            (trial_id, self.outcomes[trial_id]) for trial_id in self.end_order
        ]
        finished = [
            (rank(outcome), trial_id)
            for trial_id, outcome in ended
            if outcome["outcome"] == FINISHED
        ]
        best = {trial_id for _, trial_id in sorted(finished)[: self.keep]}
        goes_on = self.may_continue()
        for trial_id, _ in ended:
            folder = self.trial_folder(trial_id)
            if trial_id in goes_on:
                continue
            if trial_id not in best:
                progress_of(folder).clear()
            elif (state := state_of(folder)) is not None:
                for file in progress_of(folder).folder.glob("*.keras"):
                    if file.name != state["best"]:
                        file.unlink()

    def get_state(self):
        state = super().get_state()
        for name in ("display", "seed", "run_times"):
            del state[name]
        state["id_to_hash"] = dict(self._id_to_hash)
        state["tried_so_far"] = sorted(self._tried_so_far)
        state["algorithm"] = type(self).__name__
        state["trials"] = {
            trial_id: {
                "values": trial.hyperparameters.values,
                "status": trial.status,
                "score": trial.score,
                "best_step": trial.best_step,
                "message": trial.message,
            }
            for trial_id, trial in self.trials.items()
        }
        state["outcomes"] = self.outcomes
        state["owners"] = self._owners
        state["first_given"] = self._first_given
        state["exhausted"] = self._exhausted
        return state

    def set_state(self, state):
        # KerasTuner changes in place what it makes objects from.
        state = copy.deepcopy(state)
        space = keras_tuner.HyperParameters.from_config(
            copy.deepcopy(state["hyperparameters"])
        )
        self.hyperparameters = space
        self.trials = {}
        for trial_id, told in state["trials"].items():
            trial = Trial(self._space(told["values"]), trial_id, told["status"])
            trial.score, trial.best_step = told["score"], told["best_step"]
            trial.message = told["message"]
            self.trials[trial_id] = trial
        display = self._display.get_state()
        super().set_state(
            {**state, "display": display, "seed": self.seed, "run_times": {}}
        )
        self.outcomes = state["outcomes"]
        self._owners = state["owners"]
        self._first_given = state["first_given"]
        self._exhausted = state["exhausted"]
        for tuner_id in self.ongoing_trials:
            self.tuner_ids.add(tuner_id)
            self.heard[tuner_id] = time.monotonic()

    def save(self):
        _files.write_json(self.folder / STATE, self.get_state())

    def reload(self):
        """Takes up what is in the folder, and mends files that are damaged."""
        path = self.folder / STATE
        try:
            self.set_state(json.loads(path.read_text()))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
            raise ValueError(
                f'The search in output="{self.folder}" cannot be resumed: '
                f"{STATE} is damaged ({type(e).__name__}: {e}). Put back a "
                "copy of it, or search again in another folder; the models "
                "of trials that ended are in their folders"
            ) from e
        for trial in self.trials.values():
            self._mend(trial)
        self.clean()

    def _mend(self, trial):
        folder = self.trial_folder(trial.trial_id)
        if read_json(folder / "trial.json") != _described(trial):
            self._save_trial(trial)
        outcome = self.outcomes.get(trial.trial_id)
        if outcome is not None:
            told = read_json(folder / "outcome.json")
            if told is None or {key: told.get(key) for key in outcome} != (
                outcome
            ):
                _files.write_json(folder / "outcome.json", outcome)

    def _save_trial(self, trial):
        folder = self.trial_folder(trial.trial_id)
        folder.mkdir(parents=True, exist_ok=True)
        _files.write_json(folder / "trial.json", _described(trial))

    def _read_outcome(self, trial_id):
        path = self.trial_folder(trial_id) / "outcome.json"
        end = time.monotonic() + SECONDS_FOR_A_FILE
        while not path.exists() and time.monotonic() < end:
            time.sleep(0.2)
        return json.loads(path.read_text())

    def _after_end(self, trial):
        """What an algorithm notes when a trial has ended."""

    def _learn(self, trial, space, values):
        """Takes up hyperparameters that a build function only now asked."""
        if not space:
            return
        config = {"space": copy.deepcopy(space), "values": {}}
        new = keras_tuner.HyperParameters.from_config(config)
        self.update_space(new)
        trial.hyperparameters.merge(new.space, overwrite=False)
        trial.hyperparameters.values.update(
            {
                name: value
                for name, value in values.items()
                if name not in trial.hyperparameters.values
            }
        )

    def _space(self, values):
        space = self.hyperparameters.copy()
        space.values = dict(values)
        return space

    def _record_values(self, trial):
        # KerasTuner would fill in values at random, others each time.
        own = trial.hyperparameters
        for hp in own.space:
            if own.is_active(hp) and hp.name not in own.values:
                own.values[hp.name] = hp.default
        super()._record_values(trial)

    def _random_values(self):
        first = self._first()
        while self._first_given < len(first):
            values = self._defaults(first[self._first_given])
            self._first_given += 1
            if not self._duplicate(values):
                return values
        return super()._random_values()

    def _first(self):
        """Returns what every search begins with: its points of comparison."""
        for hp in self.hyperparameters.space:
            if hp.name == "attention":
                arms = list(hp.values)
                return [
                    {"attention": arm}
                    for arm in ("none", "se", "cbam")
                    if arm in arms
                ] or [{}]
        return [{}]

    def _defaults(self, instead):
        hps = keras_tuner.HyperParameters()
        for hp in self.hyperparameters.space:
            hps.merge([hp])
            if hps.is_active(hp):
                hps.values[hp.name] = instead.get(hp.name, hp.default)
        return hps.values

    def _duplicate(self, values):
        return self.refused(values) or super()._duplicate(values)


def _handed(trial_id, values, status):
    """Returns what a worker needs to know of a trial, and no more.

    Not the space: KerasTuner prints while it sends one, and rounds it.
    """
    hyperparameters = keras_tuner.HyperParameters()
    hyperparameters.values = dict(values)
    return Trial(hyperparameters, trial_id, status)


def _described(trial):
    return {
        "trial_id": trial.trial_id,
        "status": trial.status,
        "values": trial.hyperparameters.values,
        "score": trial.score,
        "best_step": trial.best_step,
        "message": trial.message,
    }
