"""`Queue`: the loop that trains the networks of an output folder.

The folder is the queue: each process that trains, this one, a worker or one on
another machine, takes the next network that nobody trains.
"""

import contextlib
import dataclasses
import functools
import math
import os
import pathlib
import statistics
import time
import traceback
from collections.abc import Callable

import keras

from cbam_keras import _files, _terminal
from cbam_keras.study.plans.study import (
    Data,
    Run,
    Study,
    Variant,
    batches_for,
)
from cbam_keras.study.running import interrupts
from cbam_keras.study.running.checkpoints import begin_try, forget_tries
from cbam_keras.study.running.folder import StudyFolder, describe
from cbam_keras.study.running.frozen import FrozenNetworks
from cbam_keras.study.running.machine import accelerators
from cbam_keras.study.running.memory import free_memory
from cbam_keras.study.running.options import CallbackMakers
from cbam_keras.study.running.outcomes import ERROR, Outcome
from cbam_keras.study.running.trainer import train_network

# How many processes may die training a network, without finishing an epoch.
MAX_TRIES = 4
# A process that finds nothing to train looks again after so long.
SECONDS_OF_WAITING = 0.5


@dataclasses.dataclass(frozen=True)
class PlannedNetwork:
    """A variant with a seed, to be trained for so many epochs.

    Several of one `name` train one network after the other, each from where
    the last one ended. Without `epochs` it is trained for those of the recipe.
    """

    variant: Variant
    seed: int
    name: str
    epochs: int | None = None

    @property
    def key(self) -> tuple[str, int]:
        """What its outcome is found by."""
        return self.variant.name, self.seed


class Queue:
    """The networks of a study, trained in its output folder."""

    def __init__(
        self,
        study: Study,
        folder: StudyFolder,
        load: Callable[[int], Data],
        make_callbacks: CallbackMakers = (),
    ):
        self.study, self.folder, self.load = study, folder, load
        self.frozen = FrozenNetworks(folder)
        self.make_callbacks = make_callbacks
        # A worker has callbacks of its own.
        self.callbacks: list[keras.callbacks.Callback] = []
        # It is raised if no training finishes.
        self.error: Exception | None = None
        # The folder of the network under training.
        self.place: pathlib.Path | None = None
        # It says why nothing could be trained, once to the user.
        self.busy: Exception | None = None
        self.has_said_so = False
        self.has_said_time = False

    def all(self) -> list[PlannedNetwork]:
        """Returns the networks, in the order in which they are trained."""
        return [
            PlannedNetwork(variant, seed, variant.name)
            for variant, seed in self.study.networks
        ]

    def missing(self) -> list[PlannedNetwork]:
        """Returns the networks that have yet to be trained."""
        outcomes = self.folder.stored_outcomes
        trained = {(x["variant"], x["seed"]) for x in outcomes}
        return [network for network in self.all() if network.key not in trained]

    def train_next(self, backwards: bool = False) -> bool:
        """Trains the next network that nobody trains, if there is one.

        Of several processes each takes the last: most lists of networks begin
        with the smallest, and so all end at about the same time.
        """
        missing = self.missing()
        for network in reversed(missing) if backwards else missing:
            try:
                with self.folder.claim(network.name, network.seed):
                    # Another process may have trained it in the meantime.
                    self.folder.refresh()
                    if self.folder.outcome(*network.key) is None:
                        self.train(network)
                        return True
            except _files.InUse as error:
                self.busy = error
        # Others may have trained since, or have more to train.
        self.folder.refresh()
        return False

    def compute_features(self) -> None:
        """Runs frozen layers before networks are trained, by all cores."""
        recipe = self.study.recipe_for(None, 0)
        firsts = {x.variant.name: x for x in reversed(self.missing())}
        is_needed = recipe.caches_features
        for network in reversed(firsts.values()) if is_needed else ():
            data = batches_for(network.variant, self.load(network.seed))
            arguments = self.study, network.variant, network.seed, data
            try:
                with free_memory():
                    self.frozen.trained(
                        self.frozen.parts(*arguments), recipe, data
                    )
            # It is recorded where the network is to be trained.
            except Exception as error:
                interrupts.raise_if_noted()
                if _files.is_unwritable(self.folder.path, error):
                    raise

    def train_or_wait(self) -> None:
        """Trains the next network, or waits for those of other processes."""
        self.busy = None
        if self.train_next() or self.busy is None:
            return
        if not self.has_said_so:
            _terminal.say(f"Waiting for other processes: {self.busy}")
        self.has_said_so = True
        time.sleep(SECONDS_OF_WAITING)

    def left(self) -> tuple[int, int]:
        """Returns how many networks are missing, and how many epochs."""
        histories, missing = self.folder.histories(), self.missing()
        folders = [self.folder.network_folder(x.name, x.seed) for x in missing]
        done = [len(histories.get(path.name, ())) for path in folders]
        usual = self.study.recipe_for(None, 0).total_epochs
        epochs = [x.epochs or usual for x in missing]
        return len(missing), sum(epochs) - sum(done)

    def say_time_left(self, workers: int = 1) -> None:
        """Prints how long the missing networks take, by the epochs so far."""
        histories = [x["history"] for x in self.folder.stored_outcomes]
        histories += self.folder.histories().values()
        networks, epochs = self.left()
        # The first epoch of a network compiles it.
        start = int(epochs > networks)
        seconds = [row["seconds"] for rows in histories for row in rows[start:]]
        if seconds and epochs > 0:
            time_left = epochs * statistics.fmean(seconds)
            time_left *= math.ceil(networks / workers) / networks
            words = _terminal.in_words(time_left)
            which = f"{networks} networks" if networks > 1 else "one network"
            has_patience = self.study.recipe_for(None, 0).patience
            about = "At most" if has_patience else "About"
            _terminal.say(f"{about} {words} left for {which}")
            self.has_said_time = True

    def title(self, network: PlannedNetwork) -> str:
        """Returns what is printed before a network is trained."""
        networks = self.study.networks
        several = ""
        if len(self.study.runs) > 1:
            several = f", {Run.of(network.seed, self.study.folds)}"
        number = networks.index((network.variant, network.seed)) + 1
        return f"{network.variant.name}{several} ({number} of {len(networks)})"

    def train(self, network: PlannedNetwork) -> None:
        """Trains a claimed network, and records how that has ended."""
        folder, name = self.folder, network.variant.name
        self.place = place = folder.network_folder(network.name, network.seed)
        ends = begin_try(place)
        data = self.load(network.seed)
        folder.add_settings("data", str(network.seed), describe(data))
        if len(ends) < MAX_TRIES:
            callbacks = [
                *self.callbacks,
                keras.callbacks.LambdaCallback(on_epoch_begin=self._at_epoch),
            ]
            # A network that is kept leaves nothing.
            is_kept = self.frozen.keeps(network.variant)
            with contextlib.nullcontext() if is_kept else free_memory():
                outcome = train_network(
                    self.study,
                    network.variant,
                    network.seed,
                    data,
                    place,
                    self.frozen,
                    title=self.title(network),
                    epochs=network.epochs,
                    callbacks=callbacks,
                    make_callbacks=self.make_callbacks,
                    on_error=self._note,
                )
            if self.callbacks and not accelerators(os.environ):
                outcome = dataclasses.replace(outcome, seconds_per_epoch=None)
        else:
            message = (
                f"WorkerDied: {len(ends)} processes have died training it, "
                "none of which finished an epoch"
            )
            if ends[-1]:
                message += f", the last as follows: {ends[-1]}"
            outcome = Outcome(name, network.seed, ERROR, message)
        folder.record(outcome, place)
        self.give_back()
        self.place = None
        self.say_time_left()

    def give_back(self) -> None:
        """Lets a network that is under training be tried as if it was not."""
        if self.place is not None:
            forget_tries(self.place)

    def _at_epoch(self, epoch, logs):
        # The folder knows the last one now, or those of another process.
        if not self.has_said_time:
            self.say_time_left()

    def _note(self, error):
        """Keeps the first error, as text what led to it."""
        if self.error is None:
            error.add_note("".join(traceback.format_exception(error)))
            # Their frames hold the model and the data.
            error.__cause__ = error.__context__ = None
            self.error = error.with_traceback(None)


def make_queue(
    study: Study,
    output: str | os.PathLike,
    make_callbacks: CallbackMakers = (),
) -> Queue:
    """Returns the networks of a study in its output folder."""
    load = functools.lru_cache(maxsize=1)(study.load)
    study = study.suited_to(load(study.runs[0]))
    folder = StudyFolder(output, study, load(study.runs[0]))
    return Queue(study, folder, load, make_callbacks)
