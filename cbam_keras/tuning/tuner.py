"""KerasTuner's tuner: runs trials, resumes them, survives their failures."""

import contextlib
import copy
import dataclasses
import functools
import signal
import sys
import threading
import time

import keras
from keras_tuner.engine.base_tuner import BaseTuner
from keras_tuner.engine.trial import TrialStatus

from cbam_keras import _checks, _files, training
from cbam_keras._files import Damaged, read_json, set_aside
from cbam_keras._terminal import TimeLeft
from cbam_keras.tuning.hypermodel import CBAMHyperModel
from cbam_keras.tuning.results import CRASHED, beginning, ending
from cbam_keras.tuning.trial import (
    OUTCOME_KEYS,
    Run,
    check_loads,
    progress_of,
    state_of,
)

SECONDS_BETWEEN_SIGNS = 5.0
SECONDS_OF_WAITING = 0.5
ATTEMPTS = 3
# Of an outcome, what TensorBoard compares.
LOGGED = ("val_accuracy", "val_loss", "parameters", "macs", "seconds")


class Tuner(BaseTuner):
    """Runs the trials that an oracle hands out.

    Args:
        oracle: A `DurableOracle`.
        hypermodel: A `keras_tuner.HyperModel` or a function.
        images: An `ImageData`.
        recipe: A `Recipe`.
        budget: Dictionary, `"parameters"` and `"macs"` to the most a network
            may have, or `None` for no limit.
        tensorboard: Path of a folder for logs. Defaults to `None`, which
            means none.
    """

    def __init__(
        self, oracle, hypermodel, images, recipe, *, budget, tensorboard=None
    ):
        self.images = images
        self.recipe = recipe
        self.budget = budget
        self.tensorboard = tensorboard
        # A worker calls the oracle of the chief, and keeps this one for its
        # settings.
        self.own_oracle = oracle
        self.folder = oracle.folder
        self.left: TimeLeft | None = None
        super().__init__(
            oracle,
            hypermodel,
            directory=str(oracle.folder.parent),
            project_name=oracle.folder.name,
        )
        self.is_worker = self._is_worker()
        if self.is_worker:
            from cbam_keras.tuning.remote import Client

            self.oracle = Client(oracle)

    @property
    def project_dir(self):
        # KerasTuner's own property would create the folder.
        return str(self.folder)

    def save(self):
        """Does nothing: the oracle saves everything."""

    def reload(self):
        """Does nothing, like `save`."""

    def _populate_initial_space(self):
        """Finds all hyperparameters, and builds the network of the defaults."""
        hp = self.own_oracle.get_space()
        model = self.hypermodel
        ours = isinstance(model, CBAMHyperModel)
        model.declare_hyperparameters(hp)
        self.own_oracle.update_space(hp)
        hp = self.own_oracle.get_space()
        network = self.build(hp)
        training.check_network(network, self.images)
        check_loads(network)
        self.fingerprint = training.fingerprint(network)
        if not ours:
            self.own_oracle.update_space(hp)
            self._explore(hp)

    def _explore(self, hp):
        """Builds with other values, to find the hyperparameters they need.

        KerasTuner repeats this until every condition was met, which may be
        never. Here each condition is tried once.
        """
        tried = []
        waiting = [hp]
        while waiting:
            for conditions in waiting.pop(0).inactive_scopes:
                if conditions in tried:
                    continue
                tried.append(copy.deepcopy(conditions))
                hp = self.own_oracle.get_space()
                for condition in conditions:
                    hp.values[condition.name] = condition.values[0]
                _fill(hp)
                # A trial with these values records the error.
                with contextlib.suppress(Exception):
                    self.build(hp)
                self.own_oracle.update_space(hp)
                waiting.append(hp)

    def build(self, hp):
        """Returns the network of these values, with the recipe's seed."""
        model = self.hypermodel
        make = functools.partial(model.build, hp)
        if self._by_recipe:
            make = functools.partial(model.network, hp, self.images)
        network = training.build_seeded(make, self.recipe)
        if not isinstance(network, keras.Model):
            raise TypeError(
                "A function for a search must return a keras.Model. "
                f"Received: {network!r}"
            )
        return network

    @property
    def _by_recipe(self):
        """Whether the recipe compiles the networks."""
        return (
            isinstance(self.hypermodel, CBAMHyperModel)
            and type(self.hypermodel).build is CBAMHyperModel.build
        )

    def compile(self, network, hp):
        """Compiles by the recipe, or as the network already is."""
        if network.compiled:
            network.compile(
                network.optimizer,
                network.loss,
                weighted_metrics=["accuracy"],
                run_eagerly=network.run_eagerly,
                steps_per_execution=network.steps_per_execution,
                jit_compile=network.jit_compile,
                auto_scale_loss=False,
            )
            return
        rate = hp.values.get("learning_rate", self.recipe.learning_rate)
        if self._by_recipe and self.hypermodel.options["learning_rate"]:
            # A function may compute it from other hyperparameters.
            rate = self.hypermodel.learning_rate_for(hp)
        training.compile_network(
            network,
            dataclasses.replace(self.recipe, learning_rate=rate),
            len(self.images.train),
            one_hot=self.images.one_hot,
        )

    def search(self):
        """Runs trials until there are no more."""
        while True:
            trial = self.oracle.create_trial(self.tuner_id)
            if trial.status == TrialStatus.STOPPED:
                return
            if trial.status == TrialStatus.IDLE:
                time.sleep(SECONDS_OF_WAITING)
                continue
            self.run_trial(trial)
            self.oracle.end_trial(trial)
            self._print_end(trial)

    def run_trial(self, trial):
        """Runs a trial, or the rest of it, and writes its outcome."""
        folder = self.own_oracle.trial_folder(trial.trial_id)
        folder.mkdir(parents=True, exist_ok=True)
        if read_json(folder / "outcome.json", OUTCOME_KEYS) is not None:
            # The process died before it called the oracle.
            return
        hp = self._hyperparameters(trial, folder)
        known = len(hp.space)
        number, total = int(trial.trial_id), self.own_oracle.max_trials
        line = beginning(number, total, hp.values)
        if total and not self.is_worker:
            self.left = self.left or TimeLeft(total, "the trials")
            line += self.left.at(number)
        print(line, flush=True)
        outcome = {
            **dict.fromkeys(OUTCOME_KEYS),
            "epochs": 0,
            "seconds": 0.0,
            "worker": self.tuner_id if self.is_worker else None,
            "values": hp.values,
            "history": [],
        }
        with self._alive(trial), self._attempt(folder) as attempt:
            if attempt <= ATTEMPTS:
                self._run(trial.trial_id, hp).into(outcome)
            else:
                outcome["outcome"] = CRASHED
                outcome["message"] = (
                    f"The process that ran it died {ATTEMPTS} times in a row "
                    "without finishing an epoch"
                )
        outcome["space"] = hp.get_config()["space"][known:]
        _files.write_json(folder / "outcome.json", outcome)
        if self.tensorboard is not None:
            training.log_trial(
                self.tensorboard / folder.name,
                {
                    name: value
                    for name, value in hp.values.items()
                    # How Hyperband shares out the epochs.
                    if not name.startswith("tuner/")
                },
                {key: outcome[key] for key in LOGGED},
            )

    def _run(self, trial_id, hp):
        past = hp.values.get("tuner/trial_id")
        callbacks = []
        if self.tensorboard is not None:
            callbacks.append(
                keras.callbacks.TensorBoard(
                    str(self.tensorboard / f"trial_{trial_id}")
                )
            )
        return Run(
            folder=self.own_oracle.trial_folder(trial_id),
            images=self.images,
            recipe=self.recipe,
            build=functools.partial(self.build, hp),
            compile=functools.partial(self.compile, hp=hp),
            epochs=hp.values.get("tuner/epochs", self.recipe.epochs),
            budget=self.budget,
            past=past and self.own_oracle.trial_folder(past),
            callbacks=callbacks,
        )

    def _hyperparameters(self, trial, folder):
        """Returns the whole space with the values of a trial."""
        values = trial.hyperparameters.values
        if self.is_worker:
            # Numbers are rounded on the way to another process.
            saved = read_json(folder / "trial.json", ["values"])
            values = saved["values"] if saved else values
        hp = self.own_oracle.get_space()
        hp.values = dict(values)
        return hp

    @contextlib.contextmanager
    def _alive(self, trial):
        """Calls the chief now and then, so that it knows of this worker."""
        if not self.is_worker:
            yield
            return
        end = threading.Event()

        def call():
            while not end.wait(SECONDS_BETWEEN_SIGNS):
                # If the chief is gone, the end of the trial shows it.
                with contextlib.suppress(Exception):
                    self.oracle.update_trial(trial.trial_id, {}, step=0)

        threading.Thread(target=call, daemon=True).start()
        try:
            yield
        finally:
            end.set()

    @contextlib.contextmanager
    def _attempt(self, folder):
        """Counts how often the process died since the last finished epoch.

        Gives the number of this attempt, from 1.
        """
        if not self.is_worker:
            yield 1
            return
        path = folder / "attempts.json"
        epochs = len((state_of(folder) or {}).get("history", []))
        found = read_json(path, ["attempts", "epochs"])
        attempt = 1
        if found is not None and found["epochs"] == epochs:
            attempt += found["attempts"]
        _files.write_json(path, {"attempts": attempt, "epochs": epochs})
        with _sigterm_as_exit():
            try:
                yield attempt
            finally:
                # A process that is asked to end has not died.
                path.unlink(missing_ok=True)

    def _print_end(self, trial):
        folder = self.own_oracle.trial_folder(trial.trial_id)
        outcome = read_json(folder / "outcome.json", OUTCOME_KEYS)
        best = self.own_oracle.best
        print(ending(int(trial.trial_id), outcome, best), flush=True)

    def best_model(self, trial_id):
        """Returns the best network of a trial, and its file.

        It is trained again where the file is lost or damaged.
        """
        folder = self.own_oracle.trial_folder(trial_id)
        progress = progress_of(folder)
        state = state_of(folder)
        if state is not None and (progress.folder / state["best"]).exists():
            path = progress.folder / state["best"]
            try:
                return progress.load_model(state["best"]), path
            except Damaged as error:
                set_aside(path, error)
        _checks.warn(
            f'The model of trial {int(trial_id)} is not in "{folder}"; the '
            "trial is trained again"
        )
        return self._run(trial_id, self._space_of(trial_id)).retrain()

    def with_seed(self, seed, images):
        """Returns this tuner with another seed and its own images."""
        other = copy.copy(self)
        other.recipe = dataclasses.replace(self.recipe, seed=seed)
        other.images = images
        return other

    def run_again(self, trial_id, folder):
        """Returns the training of a trial's network in another folder."""
        return dataclasses.replace(
            self._run(trial_id, self._space_of(trial_id)),
            folder=folder,
            epochs=self.recipe.epochs,
            past=None,
            callbacks=(),
        )

    def layer_of(self, trial):
        """Returns the attention layer of a trial as a `functools.partial`.

        `None` without attention, and where the hypermodel is not ours.
        """
        if not isinstance(self.hypermodel, CBAMHyperModel):
            return None
        hp = self._space_of(f"{trial.number:04d}")
        attention = self.hypermodel.attention_for(hp)
        places = attention if isinstance(attention, list) else [attention]
        found = [own for own in places if isinstance(own, functools.partial)]
        return found[0] if found else None

    def _space_of(self, trial_id):
        """Returns the whole space with the values of a trial that is known."""
        hp = self.own_oracle.get_space()
        trial = self.own_oracle.trials[trial_id]
        hp.values = dict(trial.hyperparameters.values)
        return hp


@contextlib.contextmanager
def _sigterm_as_exit():
    """Lets SIGTERM end this process as an exception does."""

    received = []

    def leave(*_):
        received.append(signal.SIGTERM)
        sys.exit(128 + signal.SIGTERM)

    if threading.current_thread() is not threading.main_thread():
        # Only the main thread can set a handler.
        yield
        return
    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
    if received:
        # Where it arrives within a call of Keras or TensorFlow, they may turn
        # the exit into an error, which is none of the trial.
        leave()


def _fill(hp):
    for own in hp.space:
        if hp.is_active(own) and own.name not in hp.values:
            hp.values[own.name] = own.default
