"""`run`, which trains what a study lacks, and `estimate`, which counts it.

The folder is the queue: each process that trains, this one, a worker or one on
another machine, takes the next network that nobody trains.
"""

import dataclasses
import functools
import os
import statistics
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any, Protocol

import keras

from cbam_keras import _checks, _files, _graph, _terminal
from cbam_keras._files import RESULTS
from cbam_keras.study.plans.class_weights import class_weights
from cbam_keras.study.plans.recipes import as_field
from cbam_keras.study.plans.study import (
    Data,
    Study,
    Variant,
    batches_for,
    run_name,
)
from cbam_keras.study.plans.tasks import Classification
from cbam_keras.study.results.results import Results
from cbam_keras.study.running import interrupts, machine, workers
from cbam_keras.study.running.cell import train_network
from cbam_keras.study.running.estimate import (
    Cost,
    Estimate,
    describe_few_seeds,
)
from cbam_keras.study.running.folder import (
    STUDY,
    StudyFolder,
    default_output,
    read_content,
)
from cbam_keras.study.running.frozen import FrozenNetworks, Parts
from cbam_keras.study.running.memory import free_memory
from cbam_keras.study.running.networks import (
    build_network,
    count_macs,
    count_parameters,
    print_data,
)
from cbam_keras.study.running.options import CallbackMakers, RunOptions

# A process that finds nothing to train looks again after so long.
SECONDS_OF_WAITING = 0.5
# Arguments of Keras and KerasTuner, and what does the same here.
ELSEWHERE = {
    "validation_data": "data=(train, validation, test)",
    "objective": 'measure="macro_f1"',
    "executions_per_trial": "confirm=6, seeds=3 or folds=5",
}


class Plan(Protocol):
    """What can be run besides a `Study`, as `tuning.Search`."""

    def estimate(self) -> Estimate:
        """Counts what would be trained."""

    def run(self, options: RunOptions) -> Results:
        """Trains what is missing, and returns the results."""


def run(
    study: Study | Plan,
    output: str | os.PathLike | None = None,
    *,
    resume: bool = True,
    overwrite: bool = False,
    workers: int = 1,
    executor: Executor | None = None,
    tensorboard: bool = False,
    callbacks: CallbackMakers = (),
) -> Results:
    """Trains each variant with each seed, and compares them.

    The same call given again resumes from the last finished epoch; with more
    seeds or variants it trains what is missing, and with other settings it is
    refused.

    The output folder gets `results.json`, `history.csv`, and a folder for each
    network, `<variant>-seed<seed>`, with the network after its best epoch in
    `<variant>-seed<seed>.keras`. No file is ever incomplete.

    A run that was interrupted ends as it would have without the interruption.
    The results are of what the call asks for; other networks in the folder
    stay, and are not trained again when they are asked for. A variant that
    fails or is over the budget is recorded, and the others go on; after an
    error or a lack of memory the same call tries it again, from its last
    finished epoch on.

    Several processes, also on several machines, may make the same call on one
    folder: each trains the next network that no other one trains.

    Args:
        study: A `Study`, or a `tuning.Search`.
        output: Path of a folder that is new, empty, or holds this run.
            Defaults to `None`, which means `runs/<kind>-<data>-<model>`.
        resume: Boolean. `False` refuses a folder that holds a run. Defaults
            to `True`.
        overwrite: Boolean, whether to rename the folder of a run first, to
            `<output>.old-1` or the next free number. That happens once all
            arguments have been checked. A folder in which a process trains, or
            that holds other files and no run, is refused. Defaults to `False`.
        workers: Positive integer, how many processes train on this machine.
            Each gets a GPU of its own, or its share of the cores. The study
            must be picklable by cloudpickle then. Defaults to `1`: this process
            trains.
        executor: A `concurrent.futures.Executor` whose workers train instead.
            One is `dask.distributed.Client(...).get_executor()`. All workers
            must see the output folder, and have Python at the same path.
            Defaults to `None`.
        tensorboard: Boolean, whether to write logs for TensorBoard, under
            TensorFlow. Defaults to `False`.
        callbacks: Sequence of functions without arguments that make a Keras
            callback for each network, as `lambda: MyCallback(3)`. Errors are
            recorded as the network's. Their state is not saved: a resumed
            network gets new ones. Defaults to `()`.

    Returns:
        A `Results`.

    Raises:
        ValueError: If an argument is out of range; if the output folder
            cannot be written, holds something else or another run, or is in
            use.
        RuntimeError: If no training finished, or if workers failed.
        ImportError: If a package is missing.

    Example:
        >>> from cbam_keras import study, training
        >>> def linear(data):
        ...     return keras.Sequential([
        ...         keras.Input(data.image_shape), keras.layers.Flatten(),
        ...         keras.layers.Dense(len(data.class_names)),
        ...     ])
        >>> planned = study.Study(
        ...     study.Classification("mnist5k"),
        ...     [study.Variant("linear", linear)],
        ...     recipe=training.Recipe(epochs=1, batch_size=400),
        ... )
        >>> results = study.run(planned, folder)  # doctest: +ELLIPSIS
        3,600 images of 10 classes in train, 400 in validation, 1,000 in test
        ...
        >>> [row.variant for row in results.rows]
        ['linear']
    """
    return execute(
        study,
        RunOptions(
            *(output, resume, overwrite, workers, executor, tensorboard),
            callbacks=callbacks,
        ),
    )


def run_with(study: Study | Plan, options: dict[str, Any]) -> Results:
    """Runs a study as `run` does, with arguments that a user has named."""
    for name, value in options.items():
        if written := as_field(name, value) or ELSEWHERE.get(name):
            raise TypeError(f"`{name}` has another place: write {written}")
    return run(study, **options)


def estimate(study: Study | Plan) -> Estimate:
    """Counts what `run` would train: networks, parameters, MACs, epochs.

    It builds each network once and writes nothing.

    The random states stay as they are. A run itself says how long it takes.

    Args:
        study: A `Study`, or a `tuning.Search`.

    Returns:
        An `Estimate`.

    Raises:
        ValueError: If an argument or a network does not fit.
    """
    if not isinstance(study, Study):
        return study.estimate()
    costs = []
    with _graph.same_randomness():
        data = study.load(study.runs[0])
        study = study.suited_to(data)
        recipe = study.recipe_for(None, study.runs[0])
        _print_plan(study, data)
        for variant in study.variants:
            batches = batches_for(variant, data)
            with free_memory():
                model = build_network(study, variant, recipe.seed, batches)
                parameters = count_parameters(model, recipe)
                macs = count_macs(model, batches.image_shape)
                costs.append(Cost(variant.name, parameters, macs))
                del model
    return Estimate(
        tuple(costs),
        recipe.total_epochs,
        times=len(study.runs),
        has_patience=recipe.patience is not None,
        time_training=functools.partial(_time_training, study, data),
    )


def _time_training(study, data):
    """Returns the seconds of a training, by a step of each network."""
    seconds, run = [], study.runs[0]
    for variant in study.variants:
        batches = batches_for(variant, data)
        recipe = study.recipe_for(None, run)
        with _graph.same_randomness(), free_memory():
            model = build_network(study, variant, run, batches)
            batch = batches.train[0]
            if recipe.caches_features:
                parts = Parts.of(model)
                model = parts.head
                if parts.base is not None:
                    batch = parts.base.predict_on_batch(batch[0]), batch[1]
            study.task.compile(model, recipe.stages[-1], batches)
            # The first step compiles.
            for _ in range(3):
                start = time.perf_counter()
                model.train_on_batch(*batch)
            step = time.perf_counter() - start
            del model
        seconds.append(step * len(batches.train) * recipe.total_epochs)
    return statistics.fmean(seconds)


def execute(study: Study | Plan, options: RunOptions) -> Results:
    """Runs a study as `run` does."""
    if not isinstance(study, Study):
        return study.run(options)
    output, overwrite = options.output, options.overwrite
    if output is None:
        output = default_output(study)
    # What is done at the end is checked before any work.
    if len(study.runs) > 1:
        _checks.require("scipy.stats", extra="plot")
    if isinstance(study.task, Classification):
        _checks.require("sklearn.metrics", extra="plot")
    queue = Queue.of(study, output, options.tensorboard, options.callbacks)
    folder, data = queue.folder, queue.load(study.runs[0])
    # Raises if the data have no labels to weight.
    class_weights(data, study.recipe_for(None, 0))
    is_new = overwrite or not (folder.path / STUDY).exists()
    with _terminal.no_retracing():
        if is_new and study.check is not None:
            with free_memory():
                study.check(data)
        if overwrite:
            _check_any_fits(study, data)
        with folder.opened(options):
            try:
                queue.train_all(options)
            finally:
                results = Results.of(folder.path, read_content(folder.path))
                if study.finish is not None and results.runs:
                    study.finish(results, folder)
            queue.check_end(results)
            return results


def _check_any_fits(study, data):
    """Raises if no network can be built, before a folder is renamed."""
    errors = []
    for variant in study.variants:
        try:
            build_network(study, variant, study.runs[0], data)
            return
        # It is recorded like that of any network that cannot be trained.
        except Exception as error:
            errors.append(error)
    raise errors[0]


def _print_plan(study, data):
    print_data(study, data)
    if text := describe_few_seeds(study):
        _terminal.say(text)


def choose_workers(study: Study, data: Any) -> int:
    """Returns how many processes train a study in a short time."""
    most = machine.count_workers(len(study.cells))
    if most > 1:
        variant = study.variants[0]
        with _graph.same_randomness(), free_memory():
            model = build_network(study, variant, study.runs[0], data)
            macs = count_macs(model, data.image_shape) or 0
        if not 0 < macs * data.batch_size <= machine.MACS_OF_SMALL_STEP:
            return 1
        _terminal.say(f"{most} networks at a time, each on some of the cores")
    return most


@dataclasses.dataclass
class Queue:
    """The networks of a study, trained in its output folder."""

    study: Study
    folder: StudyFolder
    load: Callable[[int], Data]
    tensorboard: bool = False
    callbacks: CallbackMakers = ()
    # It is raised if no training finishes.
    error: Exception | None = None

    def __post_init__(self) -> None:
        self.frozen = FrozenNetworks(self.folder)

    @classmethod
    def of(
        cls,
        study: Study,
        output: str | os.PathLike,
        tensorboard: bool = False,
        callbacks: CallbackMakers = (),
    ) -> "Queue":
        """Returns the networks of a study in a folder."""
        load = functools.lru_cache(maxsize=1)(study.load)
        study = study.suited_to(load(study.runs[0]))
        folder = StudyFolder(output, study, load(study.runs[0]))
        return cls(study, folder, load, tensorboard, callbacks)

    def set_variants(self, variants: Sequence[Variant]) -> None:
        """Takes other variants, as a search proposes them."""
        self.study = dataclasses.replace(self.study, variants=variants)
        described = {v.name: v.describe() for v in variants}
        self.folder.add(
            settings={**self.folder.content["settings"], "variants": described},
            labels={v.name: v.label for v in variants if v.label},
        )

    def missing(self) -> list[tuple[Variant, int]]:
        """Returns what has yet to be trained, in its order."""
        return [
            (variant, seed)
            for variant, seed in self.study.cells
            if self.folder.outcome(variant.name, seed) is None
        ]

    def train_all(self, options: RunOptions) -> None:
        """Trains what is missing, here or by workers."""
        if not self.missing():
            return
        study, data = self.study, self.load(self.study.runs[0])
        _print_plan(study, data)
        count, executor = options.workers, options.executor
        if count is None:
            count = 1 if executor else choose_workers(study, data)
        if count > 1 or executor is not None:
            self._compute_features()
            workers.train(self, count, executor)
        while self.missing():
            if not self.train_next():
                # Another process trains what is left.
                time.sleep(SECONDS_OF_WAITING)
        self.frozen.delete_features()

    def train_next(self, backwards: bool = False) -> bool:
        """Trains the next network that nobody trains, if there is one.

        Of several processes each takes the last: most lists of networks begin
        with the smallest, and so all end at about the same time.
        """
        missing, busy = self.missing(), None
        for variant, seed in reversed(missing) if backwards else missing:
            try:
                with self.folder.claim(variant.name, seed):
                    # Another process may have trained it in the meantime.
                    if self.folder.outcome(variant.name, seed) is None:
                        self._train(variant, seed)
                        self._say_time_left()
                        return True
            except _files.InUse as error:
                busy = error
        if busy and not backwards:
            _terminal.say(f"Waiting for other processes: {busy}")
        return False

    def _train(self, variant, seed):
        folder, data = self.folder, self.load(seed)
        place = folder.place(variant.name, seed)
        callbacks = [*self.callbacks]
        if self.tensorboard:
            logs = folder.path / "tensorboard" / place.name
            make = functools.partial(keras.callbacks.TensorBoard, str(logs))
            callbacks.insert(0, make)
        # A network that is kept leaves nothing.
        with self.frozen.freeing_memory(variant):
            train_network(
                self.study,
                variant,
                folder.new_state(variant, seed, data),
                data,
                place,
                self.frozen,
                title=self._title(variant, seed),
                callbacks=callbacks,
                on_error=self._note,
            )

    def _compute_features(self):
        """Runs frozen layers before networks are trained, by all cores."""
        recipe = self.study.recipe_for(None, 0)
        firsts = {v.name: (v, seed) for v, seed in reversed(self.missing())}
        for variant, seed in firsts.values() if recipe.caches_features else ():
            data = batches_for(variant, self.load(seed))
            try:
                with free_memory():
                    parts = self.frozen.parts(self.study, variant, seed, data)
                    self.frozen.trained(parts, recipe, data)
            # It is recorded where the network is to be trained.
            except Exception as error:
                interrupts.raise_if_noted()
                if _files.is_unwritable(self.folder.path, error):
                    raise

    def _title(self, variant, seed):
        """Returns what is printed before a network is trained."""
        cells = self.study.cells
        several = ""
        if len(self.study.runs) > 1:
            several = f", {run_name(seed, self.study.folds)}"
        number = cells.index((variant, seed)) + 1
        return f"{variant.name}{several} ({number} of {len(cells)})"

    def _say_time_left(self):
        """Prints how long the missing networks take, by those so far."""
        outcomes = [self.folder.outcome(v.name, x) for v, x in self.study.cells]
        seconds = [x.seconds for x in outcomes if x and x.finished]
        left = outcomes.count(None)
        if seconds and left:
            words = _terminal.in_words(left * statistics.fmean(seconds))
            which = f"{left} networks" if left > 1 else "one network"
            _terminal.say(f"About {words} left for {which}")

    def _note(self, error):
        """Keeps the first error, as text what led to it."""
        if self.error is None:
            error.add_note("".join(traceback.format_exception(error)))
            # Their frames hold the model and the data.
            error.__cause__ = error.__context__ = None
            self.error = error.with_traceback(None)

    def check_end(self, results: Results) -> None:
        """Raises if no training finished, and warns of those that did not."""
        failures = [
            f'"{o.variant}" with {results.name_of(o.seed)}: {o.status} '
            f"({o.message})"
            for o in results.outcomes
            if not o.finished
        ]
        if results.runs:
            for failure in failures:
                _checks.warn(f"A network is left out, {failure}")
            return
        if self.error is not None:
            raise self.error
        raise RuntimeError(
            f"None of the {len(failures)} trainings finished, first "
            f"{'; '.join(failures[:3])}. All are in "
            f'"{self.folder.path / RESULTS}". Fix the cause, and give the same '
            "call again"
        )
