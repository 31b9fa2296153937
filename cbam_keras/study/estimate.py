"""`estimate`: how long a study will take, from a few timed steps."""

import dataclasses
import json
import statistics
import time
from typing import Protocol

import keras
import numpy as np

from cbam_keras import _checks, _inspection, _terminal
from cbam_keras._terminal import in_words
from cbam_keras.study.cell import memory_freed
from cbam_keras.study.networks import (
    build_network,
    check_precision,
    count_macs,
    count_parameters,
    images_per_batch,
)
from cbam_keras.study.study import Data, Study

# Timed steps end after so many, or after so many seconds if there are some.
MAX_STEPS, MIN_STEPS, MAX_SECONDS = 30, 3, 2
# Seconds after which no further variant is timed.
SECONDS_OF_TIMING = 5
# TensorFlow traces a large network for longer than a few of its steps take, so
# from so many multiply-accumulates per batch steps are timed eagerly, with a
# part of the images of a batch.
MACS_PER_STEP, PART = 10**10, 1 / 4
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

    def seconds_of(self, epochs: int) -> float:
        """Returns the seconds of a training of so many epochs."""
        return self.seconds_once + epochs * self.seconds_per_epoch


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
        return self.times * cost.seconds_of(self.epochs)

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


class Estimated(Protocol):
    """What says itself how long it takes, as `tuning.Search`."""

    def estimate(self, *, workers: int) -> Estimate: ...


def estimate(study: Study | Estimated, *, workers: int = 1) -> Estimate:
    """Estimates how long `run` takes, by timing a few steps.

    Writes nothing, and leaves the random states as they are. The steps are
    those of training; validation and test count a third per image. Once this
    has taken five seconds, variants are not timed, but taken to be as fast per
    multiply-accumulate as one that was.

    Args:
        study: A `Study`, or a `tuning.Search`.
        workers: Positive integer, how many workers will share the trainings,
            each on a device of its own. Defaults to `1`.

    Returns:
        An `Estimate`.

    Raises:
        ValueError: If an argument or a network does not fit.
    """
    workers = _checks.positive_integer("workers", workers)
    if not isinstance(study, Study):
        return study.estimate(workers=workers)
    recipe = study.recipe_for(None, study.seeds[0])
    check_precision(recipe)
    with _inspection.same_randomness():
        data = study.task.load(recipe)
        costs = costs_of(study, data)
    return Estimate(
        costs,
        recipe.epochs,
        times=len(study.seeds),
        workers=workers,
        about=getattr(study.task, "about", ""),
    )


def costs_of(study: Study, data: Data) -> tuple[Cost, ...]:
    """Returns what training each variant takes, in their order."""
    start = time.perf_counter()
    costs: list[Cost] = []
    # Attention comes last, and is the slowest.
    variants = study.variants[::-1]
    for variant in _terminal.watched(variants, len(variants), "Timing steps"):
        timed = [cost for cost in costs if cost.macs]
        is_long = time.perf_counter() - start > SECONDS_OF_TIMING
        like = timed[-1] if timed and is_long else None
        with memory_freed():
            costs.append(_cost(study, variant, data, like))
    return tuple(reversed(costs))


def _cost(study, variant, data, like):
    """Returns what a variant takes, by its own steps or `like` another."""
    start = time.perf_counter()
    recipe = study.recipe_for(variant, study.seeds[0])
    model = build_network(study, variant, recipe.seed, data)
    macs = count_macs(model, data.image_shape)
    if like is not None and macs is not None:
        seconds_per_epoch = like.seconds_per_epoch * macs / like.macs
        seconds_once = like.seconds_once
    else:
        study.task.compile(model, recipe, data)
        images = images_per_batch(data)
        is_large = macs is not None and macs * images > MACS_PER_STEP
        if is_large and keras.backend.backend() == "tensorflow":
            compiled, step = _eager_step(model, data)
        else:
            compiled, step = _step(model, data)
        forward = FORWARD * step / images
        seconds_per_epoch = step * len(data.train)
        seconds_per_epoch += forward * data.sizes.get("validation", 0)
        seconds_once = compiled - start + forward * data.sizes["test"]
    return Cost(
        network=variant.name,
        parameters=count_parameters(model),
        macs=macs,
        seconds_per_epoch=seconds_per_epoch,
        seconds_once=seconds_once,
    )


class _FirstBatches(keras.utils.PyDataset):
    """Few batches of a dataset as an epoch.

    An epoch that is stopped within would leave the thread that reads ahead,
    and TensorFlow logs an error when that finds its function gone.
    """

    def __init__(self, batches):
        super().__init__(batches.workers, max_queue_size=batches.max_queue_size)
        self.batches = batches

    def __len__(self):
        # Two that compile.
        return min(MIN_STEPS + 2, len(self.batches))

    def __getitem__(self, index):
        return self.batches[index]


def _step(model, data):
    """Returns when the model was compiled, and the seconds of a step."""
    ends = []

    def note(batch, logs):
        # Waits for a device that computes while Python goes on.
        float(logs["loss"])
        ends.append(time.perf_counter())

    def stop(epoch, logs):
        steps, seconds = len(ends) - 2, ends[-1] - ends[:2][-1]
        is_enough = steps >= MIN_STEPS and seconds > MAX_SECONDS
        model.stop_training = is_enough or steps >= MAX_STEPS

    clock = keras.callbacks.LambdaCallback(
        on_epoch_end=stop, on_train_batch_end=note
    )
    data.set_epoch(0)
    model.fit(
        _FirstBatches(data.train),
        epochs=MAX_STEPS + 2,
        callbacks=[clock],
        shuffle=False,
        verbose=0,
    )
    return ends[1], float(statistics.median(np.diff(ends[1:])))


def _eager_step(model, data):
    model.run_eagerly = True
    images = images_per_batch(data)
    count = max(1, round(PART * images))
    batch = [
        keras.tree.map_structure(lambda array: array[:count], part)
        for part in data.train[0]
    ]
    # The first one prepares convolutions for this shape.
    model.train_on_batch(*batch)
    start = time.perf_counter()
    model.train_on_batch(*batch)
    seconds = time.perf_counter() - start
    return start, seconds / len(batch[0]) * images
