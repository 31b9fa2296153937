"""`estimate`: how long a training will take, from a few timed steps."""

import dataclasses
import functools
import statistics
import time
from collections.abc import Callable, Mapping

import keras
import numpy as np

from cbam_keras import _checks, _inspection, _terminal, data, profiling
from cbam_keras._terminal import in_words, watched
from cbam_keras.training.networks import build_network, count_parameters
from cbam_keras.training.recipe import Recipe

# Timed steps end after so many, or after so many seconds if there are some.
MOST_STEPS, FEWEST_STEPS, SECONDS = 30, 3, 2
# What a step without gradients takes of one with them, in computation.
FORWARD = 1 / 3


@dataclasses.dataclass(frozen=True)
class Cost:
    """What training one network takes.

    Attributes:
        network: String, its name.
        parameters: Integer, its trainable parameters.
        macs: Integer, its multiply-accumulates for one image, or `None` if
            they are not known.
        seconds_per_epoch: Number, training and validation.
        seconds_once: Number, outside of the epochs: building, compiling, and
            the test at the end.
    """

    network: str
    parameters: int
    macs: int | None
    seconds_per_epoch: float
    seconds_once: float


@dataclasses.dataclass(frozen=True)
class Estimate:
    """How long a training will take; prints as a table.

    Attributes:
        costs: Tuple of `Cost`, one per network.
        epochs: Integer, the epochs of each training.
        times: Integer, how often each network is trained.
        workers: Integer, how many workers share the trainings.
    """

    costs: tuple[Cost, ...]
    epochs: int
    times: int = 1
    workers: int = 1

    @property
    def seconds(self) -> float:
        """Seconds that all trainings take, with all workers at work."""
        return sum(map(self.seconds_of, self.costs)) / self.workers

    def seconds_of(self, cost: Cost) -> float:
        """Returns the seconds of one network, `times` trainings of it."""
        own = cost.seconds_once + self.epochs * cost.seconds_per_epoch
        return self.times * own

    def __str__(self) -> str:
        rows = [
            {
                "network": cost.network,
                "parameters": f"{cost.parameters:,}",
                **({} if cost.macs is None else {"MACs": f"{cost.macs:,}"}),
                "s / epoch": f"{cost.seconds_per_epoch:.1f}",
                "epochs": str(self.epochs),
                "trainings": str(self.times),
                "seconds in all": f"{self.seconds_of(cost):.0f}",
            }
            for cost in self.costs
        ]
        columns = {**dict.fromkeys(rows[0], "right"), "network": "left"}
        table = _terminal.render(columns, [[[*row.values()] for row in rows]])
        where = "on this device"
        if self.workers > 1:
            where = f"with {self.workers} workers, each on a device like this"
        return f"{table}\nAbout {in_words(self.seconds)} {where}"


def estimate(
    networks: Mapping[str, Callable[[], keras.Model]],
    images: data.ImageData,
    recipe: Recipe,
    *,
    times: int = 1,
    workers: int = 1,
) -> Estimate:
    """Estimates how long `train` takes, by timing a few steps of each network.

    Writes nothing, and leaves the random states of Python and NumPy as they
    are. The steps are those of training, with the images read as then.
    Validation and test count a third of that per image, since they compute no
    gradients.

    Args:
        networks: Mapping of names to functions, as for `train`.
        images: An `ImageData` in batches. Its next epoch is the first
            afterwards.
        recipe: A `Recipe`.
        times: Positive integer, how often each network will be trained, as
            over seeds. Defaults to `1`.
        workers: Positive integer, how many workers will share the trainings,
            each on a device of its own. Defaults to `1`.

    Returns:
        An `Estimate`.

    Raises:
        ValueError: If `times` or `workers` is out of range, or if a network
            does not fit the images.
    """
    times = _checks.positive_integer("times", times)
    workers = _checks.positive_integer("workers", workers)
    with _inspection.same_randomness():
        try:
            costs = tuple(
                _cost(name, build, images, recipe)
                for name, build in watched(
                    networks.items(), len(networks), "Timing steps"
                )
            )
        finally:
            images.set_epoch(0)
    return Estimate(costs, recipe.epochs, times, workers)


def _cost(name, build, images, recipe):
    model, before, step = time_steps(
        functools.partial(build_network, build, images, recipe), images
    )
    forward = FORWARD * step / images.batch_size
    return Cost(
        network=name,
        parameters=count_parameters(model),
        macs=profiling.profile_model(model, images.image_shape).macs,
        seconds_per_epoch=float(
            step * len(images.train) + forward * images.sizes["validation"]
        ),
        seconds_once=float(before + forward * images.sizes["test"]),
    )


def time_steps(build, images):
    """Builds a compiled network and trains it for a few steps.

    Returns:
        The network, the seconds until its step is compiled, and those of one
        step then.
    """
    start = time.perf_counter()
    model = build()
    clock = _Clock()
    images.set_epoch(0)
    # The clock stops it.
    model.fit(
        images.train,
        epochs=MOST_STEPS + 2,
        callbacks=[clock],
        shuffle=False,
        verbose=0,
    )
    # The first steps compile.
    before = clock.ends[1] - start
    return model, before, float(statistics.median(np.diff(clock.ends[1:])))


class _Clock(keras.callbacks.Callback):
    """Notes when each step ends, and stops the training after a few."""

    def __init__(self):
        super().__init__()
        self.ends = []

    def on_train_batch_end(self, batch, logs=None):
        # Waits for a device that computes while Python goes on.
        float(logs["loss"])
        self.ends.append(time.perf_counter())
        # Without the first two, which compile.
        steps = len(self.ends) - 2
        if steps >= MOST_STEPS or (
            steps >= FEWEST_STEPS and self.ends[-1] - self.ends[1] > SECONDS
        ):
            self.model.stop_training = True
