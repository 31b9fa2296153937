"""`estimate`: how long a study will take, from a few timed steps."""

import dataclasses
import json
import statistics
import time

import keras
import numpy as np

from cbam_keras import _checks, _inspection, _terminal
from cbam_keras._terminal import in_words
from cbam_keras.study.networks import (
    build_network,
    check_precision,
    count_macs,
    count_parameters,
)
from cbam_keras.study.study import Study

# Timed steps end after so many, or after so many seconds if there are some.
MAX_STEPS, MIN_STEPS, MAX_SECONDS = 30, 3, 2
# What a step without gradients takes of one with them, in computation.
FORWARD = 1 / 3


@dataclasses.dataclass(frozen=True)
class Cost:
    """What training one network takes: `seconds_once` outside of the epochs."""

    network: str
    parameters: int
    macs: int | None
    seconds_per_epoch: float
    seconds_once: float


@dataclasses.dataclass(frozen=True)
class Estimate:
    """How long a study will take; prints as a table.

    Attributes:
        costs: Tuple with an object per variant: `network`, `parameters`,
            `macs` (or `None`), `seconds_per_epoch` (training and validation)
            and `seconds_once` (building, compiling, and the test).
        epochs: Integer, the epochs of each training.
        times: Integer, how often each variant is trained: the seeds.
        workers: Integer, how many workers share the trainings.
        about: String, what else there is to know, above the table.
    """

    costs: tuple[Cost, ...]
    epochs: int
    times: int = 1
    workers: int = 1
    about: str = ""

    @property
    def seconds(self) -> float:
        """Seconds that all trainings take."""
        return sum(map(self.seconds_of, self.costs)) / self.workers

    def seconds_of(self, cost: Cost) -> float:
        """Returns the seconds of one variant, with all seeds."""
        once = cost.seconds_once + self.epochs * cost.seconds_per_epoch
        return self.times * once

    def json(self) -> str:
        """Returns the estimate as JSON."""
        return json.dumps(
            {
                "networks": [dataclasses.asdict(cost) for cost in self.costs],
                "epochs": self.epochs,
                "trainings": self.times * len(self.costs),
                "workers": self.workers,
                "seconds": self.seconds,
            }
        )

    def __str__(self) -> str:
        rows = [
            {
                "network": cost.network,
                "parameters": f"{cost.parameters:,}",
                "MACs": "not counted"
                if cost.macs is None
                else f"{cost.macs:,}",
                "s / epoch": f"{cost.seconds_per_epoch:.1f}",
                "epochs": str(self.epochs),
                "trainings": str(self.times),
                "seconds in all": f"{self.seconds_of(cost):.0f}",
            }
            for cost in self.costs
        ]
        where = "on this device"
        if self.workers > 1:
            where = f"with {self.workers} workers, each on a device like this"
        table = _terminal.Table(self.about, rows)
        return f"{table}\nAbout {in_words(self.seconds)} {where}"


def estimate(study: Study, *, workers: int = 1) -> Estimate:
    """Estimates how long `run` takes, by timing a few steps of each variant.

    Writes nothing, and leaves the random states as they are. The steps are
    those of training; validation and test count a third per image.

    Args:
        study: A `Study`.
        workers: Positive integer, how many workers will share the trainings,
            each on a device of its own. Defaults to `1`.

    Returns:
        An `Estimate`.

    Raises:
        ValueError: If an argument or a network does not fit.
    """
    workers = _checks.positive_integer("workers", workers)
    check_precision(study.recipe)
    with _inspection.same_randomness():
        data = study.task.load(study.recipe_for(None, study.seeds[0]))
        total = len(study.variants)
        variants = _terminal.watched(study.variants, total, "Timing steps")
        costs = tuple(_cost(study, variant, data) for variant in variants)
    return Estimate(costs, study.recipe.epochs, len(study.seeds), workers)


def _cost(study, variant, data):
    """Returns what training one variant takes, after a few timed steps."""
    start = time.perf_counter()
    seed = study.seeds[0]
    model = build_network(study, variant, seed, data)
    study.task.compile(model, study.recipe_for(variant, seed), data)
    ends = []

    def note(batch, logs):
        # Waits for a device that computes while Python goes on.
        float(logs["loss"])
        ends.append(time.perf_counter())
        # The first two compile.
        steps, seconds = len(ends) - 2, ends[-1] - ends[:2][-1]
        is_enough = steps >= MIN_STEPS and seconds > MAX_SECONDS
        model.stop_training = is_enough or steps >= MAX_STEPS

    clock = keras.callbacks.LambdaCallback(on_train_batch_end=note)
    epochs = MAX_STEPS + 2
    data.set_epoch(0)
    model.fit(
        data.train, epochs=epochs, callbacks=[clock], shuffle=False, verbose=0
    )
    data.set_epoch(0)
    step = float(statistics.median(np.diff(ends[1:])))
    forward = FORWARD * step / data.batch_size
    return Cost(
        network=variant.name,
        parameters=count_parameters(model),
        macs=count_macs(model, data.image_shape),
        seconds_per_epoch=step * len(data.train)
        + forward * data.sizes.get("validation", 0),
        # The first steps compile.
        seconds_once=ends[1] - start + forward * data.sizes["test"],
    )
