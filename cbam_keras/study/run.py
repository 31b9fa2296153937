"""`run`: trains what a study lacks, and returns its results."""

import contextlib
import dataclasses
import functools
import os
import pathlib
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, Protocol

import keras

from cbam_keras import _checks, _files, _inspection, _terminal
from cbam_keras.study.cell import memory_freed, train_cell
from cbam_keras.study.checkpoints import load_state
from cbam_keras.study.content import RESULTS
from cbam_keras.study.estimate import Estimate, costs_of
from cbam_keras.study.executor import executor_of, pool_of
from cbam_keras.study.folder import StudyFolder, default_output, describe
from cbam_keras.study.machine import accelerators
from cbam_keras.study.networks import (
    build_network,
    check_precision,
    print_if_few_steps,
)
from cbam_keras.study.results import Results
from cbam_keras.study.study import Study

# Fewer take hardly longer than to estimate how long they take.
STEPS_WORTH_TIMING = 300
# The subfolder with a folder of logs for each network.
LOGS = "tensorboard"
# Between two attempts at what other processes work at.
SECONDS_OF_WAITING = 0.5


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """Where and by what a study is run.

    Args:
        output: See `study.run`. Defaults to `None`.
        resume: See `study.run`. Defaults to `True`.
        overwrite: See `study.run`. Defaults to `False`.
        workers: See `study.run`. Defaults to `1`.
        executor: See `study.run`. Defaults to `None`.
        tensorboard: See `study.run`. Defaults to `False`.

    Raises:
        ValueError: If an argument is out of range, or does not fit another.
        ImportError: If a package is missing.
    """

    output: str | os.PathLike | None = None
    resume: bool = True
    overwrite: bool = False
    workers: int = 1
    executor: Executor | None = None
    tensorboard: bool = False

    def __post_init__(self) -> None:
        _checks.boolean("resume", self.resume)
        _checks.boolean("overwrite", self.overwrite)
        _checks.positive_integer("workers", self.workers)
        executor = self.executor
        if executor is not None and not isinstance(executor, Executor):
            raise TypeError(
                "`executor` must be a concurrent.futures.Executor, as "
                "dask.distributed.Client(...).get_executor(). Received: "
                f"executor={executor!r}"
            )
        if executor is not None and self.workers > 1:
            raise ValueError(
                "`executor` has workers of its own, so `workers` must be 1. "
                f"Received: workers={self.workers}, executor={executor!r}"
            )
        # Holds the locks of the folder.
        _checks.require("filelock", extra="plot")
        if not self.trains_here:
            _checks.require("cloudpickle", extra="cluster")
        if _checks.boolean("tensorboard", self.tensorboard):
            if keras.backend.backend() != "tensorflow":
                raise ValueError(
                    "`tensorboard` needs the TensorFlow backend. Received: "
                    f"tensorboard=True under {keras.backend.backend()}"
                )
            _checks.require("tensorboard", extra="tune")

    @property
    def trains_here(self) -> bool:
        """Whether this process trains."""
        return self.workers == 1 and self.executor is None

    @property
    def computes_here(self) -> bool:
        """Whether this process may compute as those that train do."""
        # A trial here would take memory of the GPUs that are for workers.
        shares_cores = self.executor is None and not accelerators(os.environ)
        return self.trains_here or shares_cores


class Plan(Protocol):
    """What can be run besides a `Study`, as `tuning.Search`."""

    def estimate(self, *, workers: int) -> Estimate:
        """Estimates how long it takes."""

    def run(self, options: RunOptions) -> Any:
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
) -> Any:
    """Trains each variant with each seed, and compares them.

    The output folder gets `results.json`, `history.csv`, and the network of
    each variant after its best epoch: `<variant>.keras`, or with several
    seeds `<variant>-seed<seed>.keras`. No file is ever incomplete.

    The same call given again resumes from the last finished epoch, and ends
    as it would have without the interruption; with more seeds or variants it
    trains what is missing. A call with other settings is refused. A variant
    that cannot be built, diverges, runs out of memory or is over the budget
    is recorded, and the others go on; after an error or a lack of memory the
    same call tries it again.

    Several processes, also on several machines, may make the same call on one
    folder: each trains the next network that no other one trains.

    Args:
        study: A `Study`, or a `tuning.Search`.
        output: Path of a folder that is new, empty, or holds this run.
            Defaults to `None`, which means `runs/<kind>-<data>-<model>`.
        resume: Boolean. `False` refuses a folder that holds a run. Defaults
            to `True`.
        overwrite: Boolean, whether to delete a run in the folder first, once
            all arguments and networks have been checked. A folder that holds
            anything else is refused. Defaults to `False`.
        workers: Positive integer, how many processes train on this machine,
            each on a GPU of its own, or with its share of the cores.
            cloudpickle must be able to pickle the study then. Defaults to
            `1`: this process trains.
        executor: A `concurrent.futures.Executor`, whose workers train in its
            place, as `dask.distributed.Client(...).get_executor()`. All of
            them must see the output folder. Defaults to `None`.
        tensorboard: Boolean, whether to write logs for TensorBoard, under
            TensorFlow. Defaults to `False`.

    Returns:
        A `Results`; of a search a `tuning.SearchResults`.

    Raises:
        ValueError: If an argument is out of range; if the output folder
            cannot be written, holds something else or is in use; if the run
            in it has other settings or is damaged; if this machine cannot
            compute in the half precision asked for.
        RuntimeError: If no training finished, or if workers failed.
        ImportError: If a package is missing.
    """
    options = RunOptions(
        output=output,
        resume=resume,
        overwrite=overwrite,
        workers=workers,
        executor=executor,
        tensorboard=tensorboard,
    )
    if isinstance(study, Study):
        return _run(study, options)
    return study.run(options)


def _run(study, options):
    output, overwrite = options.output, options.overwrite
    if output is None:
        output = default_output(study)
    if len(study.seeds) > 1:
        # Needed only at the end, but checked before any work.
        _checks.require("scipy.stats", extra="plot")
    if options.computes_here:
        check_precision(study.recipe)
    trainings = _Trainings(study, output, options.tensorboard)
    folder = trainings.folder
    with contextlib.ExitStack() as stack:
        stack.enter_context(_terminal.no_retracing())
        if overwrite:
            # Nothing is deleted for a network that does not fit.
            seed = study.seeds[0]
            for variant in study.variants:
                build_network(study, variant, seed, trainings.load(seed))
        stack.enter_context(
            folder.opened(resume=options.resume, overwrite=overwrite)
        )
        folder.retry()
        if trainings.missing():
            print_if_few_steps(study.recipe, trainings.load(study.seeds[0]))
            if folder.on_begin and options.trains_here:
                trainings.announce()
        try:
            workers = executor_of(options.workers, options.executor)
            with workers as executor:
                if executor is None:
                    trainings.train_missing()
                elif trainings.missing():
                    trainings.train_by(executor)
        finally:
            results = Results.of(
                folder.path,
                folder.content,
                [variant.name for variant in study.variants],
                study.seeds,
            )
            if study.finish is not None and results.runs:
                with folder.locked():
                    study.finish(results, folder)
        trainings.check_end(results)
        return results


def _trainer_of(
    study: Study, output: pathlib.Path, tensorboard: bool
) -> Callable[[str, int], None]:
    """Returns the function by which workers train a network of a study."""
    trainings = _Trainings(study, output, tensorboard)
    trainings.folder.join()
    variants = {variant.name: variant for variant in study.variants}

    def train(variant, seed):
        with _files.writing_to(output):
            trainings.train_if_free(variants[variant], seed)

    return train


class _Trainings:
    """The trainings of a study, and their folder."""

    def __init__(self, study, output, tensorboard):
        self.study = study
        self.tensorboard = tensorboard
        self.load = functools.lru_cache(maxsize=1)(
            lambda seed: study.task.load(study.recipe_for(None, seed))
        )
        data = self.load(study.seeds[0])
        self.folder = StudyFolder(output, study, data)
        # What is raised if no training finishes.
        self.error: Exception | None = None

    def missing(self):
        """Returns the cells that have yet to be trained."""
        return [
            (variant, seed)
            for variant, seed in self.study.cells
            if self.folder.outcome(variant.name, seed) is None
        ]

    def announce(self):
        """Says how long this takes, unless timing would take as long."""
        study, data = self.study, self.load(self.study.seeds[0])
        left = []
        for variant, seed in self.missing():
            state = load_state(self.folder.cell(variant.name, seed))
            done = 0 if state is None else state.epochs
            left.append((variant.name, study.recipe.epochs - done))
        if len(data.train) * sum(n for _, n in left) < STEPS_WORTH_TIMING:
            return
        try:
            with _inspection.same_randomness():
                costs = {cost.network: cost for cost in costs_of(study, data)}
        except Exception:
            # Recorded where the network is trained.
            return
        self.folder.on_begin(
            sum(costs[name].seconds_of(epochs) for name, epochs in left)
        )

    def train_missing(self):
        """Trains cell by cell, and waits for those of other processes."""
        cells, silent = self.missing(), False
        while cells:
            busy = []
            for cell in cells:
                try:
                    self.train_if_free(*cell)
                except _files.InUse as error:
                    busy.append(cell)
                    reason = error
            if len(busy) == len(cells):
                if not silent:
                    print(f"Waiting for other processes: {reason}", flush=True)
                silent = True
                time.sleep(SECONDS_OF_WAITING)
            cells = busy

    def train_by(self, executor):
        """Lets the workers of an executor train what is missing."""
        study = dataclasses.replace(self.study, finish=None)
        output = self.folder.path.absolute()
        make = functools.partial(_trainer_of, study, output, self.tensorboard)
        cells = [(variant.name, seed) for variant, seed in self.missing()]
        with pool_of(executor, self.folder, make) as pool:
            for cell in cells:
                pool.submit(*cell)
            for cell in cells:
                pool.outcome(*cell)

    def check_end(self, results):
        """Raises if no training finished, and warns of those that did not."""
        failures = [
            f'"{o.variant}" with seed {o.seed}: {o.status} ({o.message})'
            for o in results.outcomes
            if not o.finished
        ]
        if results.runs:
            for failure in failures:
                _checks.warn(f"A network is left out, {failure}")
            return
        if self.error is not None:
            self.folder.forget_if_untrained()
            raise self.error
        raise RuntimeError(
            f"None of the {len(failures)} trainings finished, first "
            f"{'; '.join(failures[:3])}. All are in "
            f'"{self.folder.path / RESULTS}". Fix the cause, and give the same '
            "call again"
        )

    def train_if_free(self, variant, seed):
        """Trains a cell that no other process has trained, or `InUse`."""
        with self.folder.claim(variant.name, seed):
            self.folder.refresh()
            if self.folder.outcome(variant.name, seed) is None:
                self._train(variant, seed)

    def _train(self, variant, seed):
        data, folder = self.load(seed), self.folder
        folder.add_settings("data", str(seed), describe(data))
        cell = folder.cell(variant.name, seed)
        cells = self.study.cells
        several = f", seed {seed}" if len(self.study.seeds) > 1 else ""
        number = cells.index((variant, seed)) + 1
        with memory_freed():
            outcome = train_cell(
                *(self.study, variant, seed, data, cell),
                title=f"{variant.name}{several} ({number} of {len(cells)})",
                callbacks=[logs_of(folder.path, cell.name)]
                if self.tensorboard
                else [],
                on_error=self._note,
            )
        folder.record(outcome, cell)

    def _note(self, error):
        """Keeps the first error, as text what led to it."""
        if self.error is None:
            error.add_note("".join(traceback.format_exception(error)))
            # Their frames hold the model and the data.
            error.__cause__ = error.__context__ = None
            self.error = error.with_traceback(None)


def logs_of(folder: pathlib.Path, name: str) -> keras.callbacks.Callback:
    """Returns the callback that logs the training of a network."""
    return keras.callbacks.TensorBoard(str(folder / LOGS / name))
