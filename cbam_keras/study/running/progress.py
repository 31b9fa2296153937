"""What is printed while a network trains.

- `FirstSteps`: how long the whole run may take. Later networks say the time
  left by what earlier ones took; the first one has nothing but its own steps.
- `EpochsOfAllStages`: epochs, counted through the stages of a recipe.
"""

import time
from collections.abc import Callable

import keras

from cbam_keras import _terminal

# The first step compiles, and the second one may still allocate memory.
STEPS_NOT_MEASURED = 2
# The shortest measurement, in seconds and steps: a shorter one says little.
SHORTEST_SECONDS = 3.0
FEWEST_STEPS = 5


class FirstSteps(keras.callbacks.Callback):
    """Callback that says once how long all training runs may take.

    It measures steps of the last stage of a recipe: frozen epochs before it
    take less time, since they compute fewer gradients.

    Args:
        epochs: The epochs of that stage.
        networks: Positive integer, the training runs that are left, this one
            included.
        clock: Function that returns seconds.
    """

    def __init__(
        self,
        epochs: range,
        networks: int,
        clock: Callable[[], float] = time.monotonic,
    ):
        super().__init__()
        self.epochs = epochs
        self.networks = networks
        self.clock = clock
        # When this training run began.
        self.began = clock()
        self.has_said = False
        self._steps = 0
        self._first_step = 0.0

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.has_said or self._epoch not in self.epochs:
            return
        self._steps += 1
        now = self.clock()
        if self._steps <= STEPS_NOT_MEASURED:
            self._first_step = now
            return
        measured = self._steps - STEPS_NOT_MEASURED
        seconds = now - self._first_step
        if measured < FEWEST_STEPS or seconds < SHORTEST_SECONDS:
            return
        self.has_said = True
        in_epoch = self.params.get("steps")
        if in_epoch is None:
            # The data do not say how many batches an epoch has.
            return
        left = in_epoch * len(self.epochs) - self._steps
        of_this = now - self.began + seconds / measured * left
        words = _terminal.duration(of_this * self.networks - (now - self.began))
        runs = "this run" if self.networks == 1 else "all training runs"
        text = f"{words} left for {runs}, by the first steps"
        # A progress bar stands in this line.
        has_bar = self.params.get("verbose") == 1
        _terminal.say(f"\n{text}" if has_bar else text)


class EpochsOfAllStages(keras.callbacks.ProgbarLogger):
    """Progress bar whose heading counts the epochs of all stages.

    Each stage is a `fit` of its own, which would print "Epoch 2/2", then "Epoch
    3/6".

    Args:
        epochs: Integer, the epochs of all stages.
    """

    def __init__(self, epochs: int):
        super().__init__()
        self._all_epochs = epochs

    def set_params(self, params):
        super().set_params({**params, "epochs": self._all_epochs})
