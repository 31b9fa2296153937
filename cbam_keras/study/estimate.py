"""`estimate`: how long a study will take, from a few timed steps."""

import dataclasses
import json
import statistics
import time
from typing import Protocol

import keras
import numpy as np

from cbam_keras import _checks, _inspection, _terminal
from cbam_keras.study.cell import memory_freed
from cbam_keras.study.networks import (
    build_network,
    check_precision,
    count_macs,
    count_parameters,
    images_per_batch,
    print_data,
)
from cbam_keras.study.stages import begin_second
from cbam_keras.study.study import Study, batches_for

# Steps are timed in so many epochs of so many steps.
EPOCHS, STEPS = 3, 3
# Steps with more multiply-accumulates get one image of so many in a batch.
MACS_PER_STEP, PART = 10**10, 4
# A step without gradients takes this part of one with them.
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
        epochs: Integer, the epochs of each training, at most.
        times: Integer, how often each variant is trained.
        workers: Integer, how many workers share the trainings.
        about: String, what else there is to know, above the table.
        has_patience: Boolean, whether trainings may end before that.
    """

    costs: tuple[Cost, ...]
    epochs: int
    times: int = 1
    workers: int = 1
    about: str = ""
    has_patience: bool = False

    @property
    def seconds(self) -> float:
        """Seconds that all trainings take."""
        return sum(map(self.seconds_of, self.costs)) / self.workers

    def seconds_of(self, cost: Cost) -> float:
        """Returns the seconds of one variant, with all seeds."""
        seconds = cost.seconds_once + self.epochs * cost.seconds_per_epoch
        return self.times * seconds

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
                "MACs": f"{cost.macs:,}" if cost.macs else "not counted",
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
        about = "At most" if self.has_patience else "About"
        words = _terminal.in_words(self.seconds)
        return f"{table}\n{about} {words} {where}"


class Estimated(Protocol):
    """What says itself how long it takes, as `tuning.Search`."""

    def estimate(self, *, workers: int) -> Estimate: ...


def estimate(study: Study | Estimated, *, workers: int = 1) -> Estimate:
    """Estimates how long `run` takes, by timing a few steps.

    Writes nothing, and leaves the random states as they are. The last variant
    is timed; the others are taken to be as fast per multiply-accumulate.
    Validation and test count a third per image, and frozen epochs as others.

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
    recipe = study.recipe_for(None, study.runs[0])
    check_precision(recipe)
    costs: list[Cost] = []
    with _inspection.same_randomness():
        data = study.load(study.runs[0])
        print_data(recipe, data)
        for variant in reversed(study.variants):
            with memory_freed():
                timed = costs[-1] if costs else None
                costs.insert(0, _cost(study, variant, data, timed))
    return Estimate(
        tuple(costs),
        recipe.total_epochs,
        times=len(study.runs),
        workers=workers,
        about=getattr(study.task, "about", ""),
        has_patience=recipe.patience is not None,
    )


def _cost(study, variant, data, timed):
    """Returns what a variant takes, by its own steps or one that was timed."""
    start = time.perf_counter()
    recipe = study.recipe_for(variant, study.runs[0])
    data = batches_for(variant, data)
    model = build_network(study, variant, recipe.seed, data)
    macs = count_macs(model, data.image_shape)
    counts = variant.name, count_parameters(model, recipe), macs
    if timed is not None:
        ratio = macs / timed.macs if macs and timed.macs else 1
        return Cost(
            *counts, ratio * timed.seconds_per_epoch, timed.seconds_once
        )
    if recipe.frozen_epochs:
        begin_second(model)
    study.task.compile(model, recipe.stages[-1], data)
    compiled, per_image = _timed(model, data, data.train, macs)
    images = data.sizes["train"] + FORWARD * data.sizes.get("validation", 0)
    seconds_once = compiled - start + FORWARD * per_image * data.sizes["test"]
    return Cost(*counts, per_image * images, seconds_once)


def _timed(model, data, batches, macs):
    """Returns when the steps are compiled, and the seconds of an image."""
    count, ends = images_per_batch(data), []
    if macs is not None and macs * count > MACS_PER_STEP:
        count = max(1, count // PART)
        # TensorFlow would trace for longer than the steps take.
        model.run_eagerly = keras.backend.backend() == "tensorflow"

    def note(batch, logs):
        # The loss is there once the device has computed it.
        float(logs["loss"])
        ends.append(time.perf_counter())

    data.set_epoch(0)
    clock = keras.callbacks.LambdaCallback(on_train_batch_end=note)
    steps = _Steps(batches, count)
    model.fit(steps, epochs=EPOCHS, callbacks=[clock], shuffle=False, verbose=0)
    # The first two compile.
    return ends[1], float(statistics.median(np.diff(ends[1:]))) / count


class _Steps(keras.utils.PyDataset):
    """The first batch several times, or the first images of it."""

    def __init__(self, batches, count):
        super().__init__(batches.workers, max_queue_size=batches.max_queue_size)
        self.batches, self.count = batches, count

    def __len__(self):
        return STEPS

    def __getitem__(self, index):
        return keras.tree.map_structure(
            lambda array: array[: self.count], tuple(self.batches[0])
        )
