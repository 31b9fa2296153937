"""`run`: trains what a study lacks, and returns its results."""

import contextlib
import functools
import os
import time
from collections.abc import Callable

from cbam_keras import _checks, _files
from cbam_keras._devices import SINGLE_DEVICE, Distribution, find_devices
from cbam_keras._run_folder import RESULTS
from cbam_keras._terminal import TimeLeft
from cbam_keras.study.cell import Outcome, best_file, memory_freed, train_cell
from cbam_keras.study.checkpoints import is_worker
from cbam_keras.study.folder import StudyFolder
from cbam_keras.study.networks import build_network
from cbam_keras.study.results import Results
from cbam_keras.study.study import Study
from cbam_keras.study.tensorboard import check_tensorboard, log_options, logs_of
from cbam_keras.study.workers import run_workers

# Between two looks at what other processes have finished.
SECONDS_OF_WAITING = 0.5


def run(
    study: Study,
    output: str | os.PathLike,
    *,
    resume: bool = True,
    overwrite: bool = False,
    workers: int = 1,
    distribute: bool | Distribution = False,
    tensorboard: bool = False,
    finish: Callable[[Results, StudyFolder], None] | None = None,
) -> Results:
    """Trains each variant with each seed, and compares them.

    The output folder gets `results.json`, `history.csv`, and the network of
    each variant after its best epoch: `<variant>.keras`, or with several
    seeds `<variant>-seed<seed>.keras`. No file is ever incomplete.

    The same call given again resumes from the last finished epoch, and ends
    as it would have without the interruption; with more seeds or variants it
    trains what is missing. A call with other settings is refused, and the
    error names what differs. A variant that cannot be built, diverges, runs
    out of memory or is over the budget is recorded, and the others go on;
    after an error or a lack of memory the same call tries it again.

    Several processes may make the same call on one folder, on one machine or
    on several that share it: each trains the next network that no other one
    trains, and all return the results.

    Args:
        study: A `Study`.
        output: Path of a folder that is new, empty, or holds this run.
        resume: Boolean. `False` refuses a folder that holds a run. Defaults
            to `True`.
        overwrite: Boolean, whether to start again: a run in the folder is
            deleted, once all arguments and networks have been checked. A
            folder that holds anything else is refused. Defaults to `False`.
        workers: Positive integer, how many processes to start on this
            machine, each on a GPU of its own, or with its share of the
            cores. What a study holds must be picklable then, by cloudpickle.
            Defaults to `1`: this process trains.
        distribute: See `training.train`. Defaults to `False`.
        tensorboard: Boolean, whether to write logs for TensorBoard, under
            TensorFlow. Defaults to `False`.
        finish: Function of the results and the `StudyFolder` that writes
            further files, with the folder locked, also when the run is
            interrupted; see `StudyFolder.drawing`. Defaults to `None`.

    Returns:
        A `Results`.

    Raises:
        ValueError: If an argument is out of range; if the output folder
            cannot be written or holds something else; if the run in it has
            other settings or is damaged; if it is to be overwritten while
            another process works in it.
        RuntimeError: If no training finished, or if workers failed.
        ImportError: If a package is missing.
    """
    _checks.boolean("resume", resume)
    _checks.boolean("overwrite", overwrite)
    workers = _checks.positive_integer("workers", workers)
    if distribute and workers > 1:
        raise ValueError(
            "`workers` train a network each, `distribute` one network on "
            f"several devices. Received: workers={workers}, "
            f"distribute={distribute!r}"
        )
    if workers > 1 and getattr(study.task, "is_loaded", False):
        raise TypeError(
            "The data must not be loaded yet, since each worker loads them. "
            "Give their name, path or arrays. Received: data loaded already, "
            f"workers={workers}"
        )
    check_tensorboard(tensorboard)
    if len(study.seeds) > 1:
        # Needed only at the end, but checked before any work.
        _checks.require("scipy.stats", extra="plot")
    return _run(
        study,
        output,
        resume=resume,
        overwrite=overwrite,
        workers=workers,
        devices=find_devices(distribute),
        tensorboard=tensorboard,
        finish=finish,
    )


def run_as_worker(
    study: Study, output: str | os.PathLike, tensorboard: bool
) -> None:
    """Does the part of one of the processes that `run` starts."""
    _run(
        *(study, output),
        workers=1,
        devices=SINGLE_DEVICE,
        tensorboard=tensorboard,
        retry=False,
    )


def _run(
    study,
    output,
    *,
    workers,
    devices,
    tensorboard,
    resume=True,
    overwrite=False,
    retry=True,
    finish=None,
):
    load = functools.lru_cache(maxsize=1)(
        lambda seed: study.task.load(study.recipe_for(None, seed))
    )
    seed = study.seeds[0]
    folder = StudyFolder(output, study, load(seed), writes=devices.writes)
    training = _Training(study, folder, load, devices, tensorboard)
    with contextlib.ExitStack() as stack:
        stack.enter_context(devices.scope(output))
        if overwrite:
            # Nothing is deleted for a network that does not fit.
            for variant in study.variants:
                build_network(study, variant, seed, devices.share(load(seed)))
        if devices.writes:
            stack.enter_context(
                folder.opened(resume=resume, overwrite=overwrite, retry=retry)
            )
            stack.enter_context(training.claimed_for_all())
        devices.wait()
        if not devices.writes:
            folder.join()
        try:
            if workers > 1 and training.missing():
                run_workers(study, folder, workers, tensorboard)
            else:
                training.train_missing()
            if retry:
                # Workers leave that to the process that has started them.
                training.check_end()
        finally:
            results = Results.of(
                folder.path,
                folder.content,
                [variant.name for variant in study.variants],
                study.seeds,
            )
            if finish is not None and devices.writes and results.finished:
                with folder.locked():
                    finish(results, folder)
        return results


class _Training:
    """Trains the cells of a study that no process has trained or trains."""

    def __init__(self, study, folder, load, devices, tensorboard):
        self.study = study
        self.folder = folder
        self.load = load
        self.devices = devices
        self.tensorboard = tensorboard
        self.left = TimeLeft(len(study.cells))
        self.errors: list[Exception] = []

    def missing(self):
        """Returns the cells that have yet to be trained."""
        return [
            (variant, seed)
            for variant, seed in self.study.cells
            if self.folder.outcome(variant.name, seed) is None
        ]

    @contextlib.contextmanager
    def claimed_for_all(self):
        """Context in which all processes of a distributed run train alone."""
        with contextlib.ExitStack() as stack:
            if self.devices.processes > 1:
                for variant, seed in self.missing():
                    stack.enter_context(self.folder.claim(variant.name, seed))
            yield

    def _claim(self, variant, seed):
        if self.devices.processes > 1:
            return contextlib.nullcontext()
        return self.folder.claim(variant.name, seed)

    def train_missing(self):
        """Trains cell by cell, and waits for those of other processes."""
        told = set()
        while missing := self.missing():
            waiting: list[_files.InUse] = []
            for variant, seed in missing:
                try:
                    with self._claim(variant, seed):
                        self.folder.refresh()
                        if self.folder.outcome(variant.name, seed) is None:
                            self._train(variant, seed)
                except _files.InUse as error:
                    waiting.append(error)
            if len(waiting) == len(missing):
                line = (
                    f"Waiting for {self._title(*missing[0])}, in use by "
                    f"{waiting[0].holder}"
                )
                # A worker that waits takes over what another one leaves.
                if line not in told and not is_worker():
                    told.add(line)
                    print(line, flush=True)
                time.sleep(SECONDS_OF_WAITING)
                self.folder.refresh()

    def check_end(self):
        """Raises if no training finished, and tells of those that did not."""
        outcomes = [
            self.folder.outcome(variant.name, seed)
            for variant, seed in self.study.cells
        ]
        failures = [
            f'"{o.variant}" with seed {o.seed}: {o.status} ({o.message})'
            for o in outcomes
            if not o.finished
        ]
        if len(failures) < len(outcomes):
            for failure in failures:
                _checks.warn(f"A network is left out, {failure}")
            return
        if self.errors:
            self.folder.forget_if_untrained()
            raise self.errors[0]
        raise RuntimeError(
            f"None of the {len(outcomes)} trainings finished, first "
            f"{'; '.join(failures[:3])}. All are in "
            f'"{self.folder.path / RESULTS}". Fix the cause, and give the same '
            "call again"
        )

    def _train(self, variant, seed):
        data = self.load(seed)
        self.folder.add_data(seed, data)
        cell = self.folder.cell(variant.name, seed)

        def announce(parameters, epochs):
            number = self.study.cells.index((variant, seed)) + 1
            done = f"after epoch {epochs}" if epochs else "from the start"
            print(
                f"{self._title(variant, seed)} ({number} of "
                f"{self.left.total}), {parameters:,} parameters, "
                f"{done}{'' if is_worker() else self.left.at(number)}",
                flush=True,
            )

        def after_epoch(state):
            if self.devices.writes:
                with self.folder.locked():
                    self.folder.refresh()
                    self.folder.write_history(
                        Outcome(
                            *(variant.name, seed, ""), history=state.history
                        )
                    )

        def callbacks(model):
            if not (self.tensorboard and self.devices.writes):
                return []
            return [logs_of(self.folder.path, cell.name)]

        with memory_freed(self.devices):
            outcome = train_cell(
                self.study,
                variant,
                seed,
                self.devices.share(data),
                cell,
                announce=announce,
                after_epoch=after_epoch,
                callbacks=callbacks,
                on_error=self.errors.append,
                devices=self.devices,
            )
        best = best_file(cell) if outcome.finished else None
        self.folder.record(outcome, best)
        if self.tensorboard and self.devices.writes:
            log_options(
                self.folder.path, cell.name, variant.options, outcome.metrics
            )
        # Each process goes on with what has been recorded.
        self.devices.wait()
        self.folder.refresh()

    def _title(self, variant, seed):
        several = len(self.study.seeds) > 1
        return f"{variant.name}, seed {seed}" if several else variant.name
