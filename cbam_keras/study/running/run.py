"""`run`, which trains what a study lacks, and `estimate`, which counts it."""

import dataclasses
import functools
import os
import statistics
import time
from concurrent.futures import Executor
from typing import Any, Protocol

from cbam_keras import _checks, _graph, _terminal
from cbam_keras.study.plans.class_weights import class_weights
from cbam_keras.study.plans.recipes import as_field
from cbam_keras.study.plans.study import Study, batches_for
from cbam_keras.study.plans.tasks import Classification
from cbam_keras.study.results.content import RESULTS
from cbam_keras.study.results.results import Results
from cbam_keras.study.running import machine
from cbam_keras.study.running.estimate import (
    Cost,
    Estimate,
    describe_few_seeds,
)
from cbam_keras.study.running.folder import default_output
from cbam_keras.study.running.frozen import Parts
from cbam_keras.study.running.memory import free_memory
from cbam_keras.study.running.networks import (
    build_network,
    count_macs,
    count_parameters,
    print_data,
)
from cbam_keras.study.running.options import CallbackMakers, RunOptions
from cbam_keras.study.running.queue import make_queue
from cbam_keras.study.running.workers import training_by

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
    callbacks: CallbackMakers = (),
) -> Results:
    """Trains each variant with each seed, and compares them.

    The same call given again resumes from the last finished epoch; with more
    seeds or variants it trains what is missing, and with other settings it is
    refused.

    The output folder gets `results.json`, `history.csv`, and the network of
    each variant after its best epoch: `<variant>.keras`, or with several seeds
    `<variant>-seed<seed>.keras`. No file is ever incomplete.

    A run that was interrupted ends as it would have without the interruption.
    The results are of all that the folder holds: tables grow as variants and
    seeds do, and keep their baseline. A variant that fails is recorded, and the
    others go on; after an error or a lack of memory
    the same call tries it again, from its last finished epoch on.

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
            must see the output folder. Defaults to `None`.
        callbacks: Sequence of functions without arguments that make a Keras
            callback for each network, as `keras.callbacks.TensorBoard` or
            `lambda: MyCallback(3)`. Errors are recorded as the network's. Their
            state is not saved: a resumed network gets new ones. Defaults to
            `()`.

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
            *(output, resume, overwrite, workers, executor),
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
    if len(study.runs) > 1:
        # What is done at the end is checked before any work.
        _checks.require("scipy.stats", extra="plot")
    if isinstance(study.task, Classification):
        _checks.require("sklearn.metrics", extra="plot")
    queue = make_queue(study, output, options.callbacks)
    folder = queue.folder
    # Raises if the data have no labels to weight.
    class_weights(queue.load(study.runs[0]), study.recipe_for(None, 0))
    is_new = overwrite or not (folder.path / RESULTS).exists()
    with _terminal.no_retracing():
        if is_new and study.check is not None:
            with free_memory():
                study.check(queue.load(study.runs[0]))
        if overwrite:
            _check_any_fits(study, queue.load(study.runs[0]))
        with folder.opened(options):
            folder.retry()
            try:
                if queue.missing():
                    _train(queue, options)
            finally:
                results = Results.of(folder.path, folder.content)
                with folder.locked():
                    if results.tested:
                        folder.add(confusion=results.confusions())
                    if study.finish is not None and results.runs:
                        study.finish(results, folder)
            names = [variant.name for variant in study.variants]
            asked = Results.of(folder.path, folder.content, names, study.runs)
            _check_end(asked, queue)
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


def choose_workers(study: Study, data: Any, networks: int) -> int:
    """Returns how many processes train so many networks like the first."""
    recipe = study.recipe_for(study.variants[0], study.runs[0])

    @functools.cache
    def count():
        with _graph.same_randomness(), free_memory():
            model = build_network(study, study.variants[0], recipe.seed, data)
            shape = data.image_shape
            if recipe.caches_features:
                # All but the start of a training takes what is behind the cut.
                model = Parts.of(model).head
                shape = model.input_shape[1:]
            return count_macs(model, shape)

    # Data of one's own may be of any kind.
    images = getattr(data, "sizes", {}).get("train", 0) * recipe.total_epochs
    batch_size = getattr(data, "batch_size", None) or recipe.batch_size
    return machine.choose_workers(networks, images, batch_size, count)


def _train(queue, options):
    study, data = queue.study, queue.load(queue.study.runs[0])
    _print_plan(study, data)
    networks = len(study.variants) * len(study.runs)
    options = options.with_workers(
        lambda: choose_workers(study, data, networks)
    )
    # Workers do not need what is done at the end.
    study = dataclasses.replace(queue.study, finish=None)
    output = queue.folder.path.absolute()
    make = functools.partial(make_queue, study, output, options.callbacks)
    queue.compute_features()
    with training_by(options, queue, make) as train_or_wait:
        while queue.missing():
            train_or_wait()


def _check_end(results, queue):
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
    if queue.error is not None:
        queue.folder.forget_if_untrained()
        raise queue.error
    raise RuntimeError(
        f"None of the {len(failures)} trainings finished, first "
        f"{'; '.join(failures[:3])}. All are in "
        f'"{queue.folder.path / RESULTS}". Fix the cause, and give the same '
        "call again"
    )
