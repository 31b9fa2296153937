"""`run`: trains what a study lacks, and returns its results."""

import contextlib
import functools
import os
import pathlib
from collections.abc import Callable
from typing import Any

import keras

from cbam_keras import _checks
from cbam_keras._devices import SINGLE_DEVICE, Distribution, find_devices
from cbam_keras.study.cell import Outcome, best_file, memory_freed, train_cell
from cbam_keras.study.content import RESULTS
from cbam_keras.study.folder import StudyFolder
from cbam_keras.study.networks import build_network, print_if_few_steps
from cbam_keras.study.results import Results
from cbam_keras.study.study import Study
from cbam_keras.study.workers import Worker, payload_of, take_turns

# The subfolder with a folder of logs for each network.
LOGS = "tensorboard"


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
            interrupted. Defaults to `None`.

    Returns:
        A `Results`.

    Raises:
        ValueError: If an argument is out of range; if the output folder
            cannot be written, holds something else or is in use; if the run
            in it has other settings or is damaged.
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
    check_tensorboard(tensorboard)
    if len(study.seeds) > 1:
        # Needed only at the end, but checked before any work.
        _checks.require("scipy.stats", extra="plot")
    devices = find_devices(distribute)
    trainings = _Trainings(study, output, devices, tensorboard)
    folder = trainings.folder
    with contextlib.ExitStack() as stack:
        stack.enter_context(devices.scope())
        if overwrite:
            # Nothing is deleted for a network that does not fit.
            seed = study.seeds[0]
            shared = devices.share(trainings.load(seed))
            for variant in study.variants:
                build_network(study, variant, seed, shared)
        if devices.writes:
            stack.enter_context(
                folder.opened(resume=resume, overwrite=overwrite)
            )
            if devices.processes > 1:
                # All of them train each network.
                for variant, seed in trainings.missing():
                    stack.enter_context(folder.claim(variant.name, seed))
        devices.wait()
        if not devices.writes:
            folder.join()
        if devices.writes and trainings.missing():
            print_if_few_steps(study.recipe, trainings.load(study.seeds[0]))
        try:
            if workers > 1 and trainings.missing():
                _run_workers(trainings, workers)
            else:
                trainings.train_missing()
            trainings.check_end()
        finally:
            results = Results.of(
                folder.path,
                folder.content,
                [variant.name for variant in study.variants],
                study.seeds,
            )
            if finish is not None and devices.writes and results.runs:
                with folder.locked():
                    finish(results, folder)
        return results


def _run_workers(trainings, workers):
    """Trains what is missing by several processes, and waits for them."""
    study, folder = trainings.study, trainings.folder
    payload = payload_of(
        functools.partial(
            *(_work, study, folder.path.absolute(), trainings.tensorboard)
        )
    )
    with contextlib.ExitStack() as stack:
        processes = []
        for index in range(workers):
            processes.append(Worker(index, workers, payload))
            stack.callback(processes[-1].end)
        failures = [text for worker in processes if (text := worker.wait())]
    folder.refresh()
    if trainings.missing():
        raise RuntimeError(
            f'{"; ".join(failures)}. All files in "{folder.path}" are '
            "whole, and the same call resumes"
        )
    for text in failures:
        _checks.warn(f"{text}. The other workers took over")


def _work(study, output, tensorboard):
    """Does the part of one worker: trains until nothing is left."""
    trainings = _Trainings(study, output, SINGLE_DEVICE, tensorboard)
    with trainings.folder.opened(retry=False):
        trainings.train_missing()


class _Trainings:
    """The trainings of a study, and their folder."""

    def __init__(self, study, output, devices, tensorboard):
        self.study = study
        self.devices = devices
        self.tensorboard = tensorboard
        self.load = functools.lru_cache(maxsize=1)(
            lambda seed: study.task.load(study.recipe_for(None, seed))
        )
        data = self.load(study.seeds[0])
        self.folder = StudyFolder(output, study, data, writes=devices.writes)
        self.errors: list[Exception] = []

    def missing(self):
        """Returns the cells that have yet to be trained."""
        return [
            (variant, seed)
            for variant, seed in self.study.cells
            if self.folder.outcome(variant.name, seed) is None
        ]

    def train_missing(self):
        """Trains cell by cell, and waits for those of other processes."""

        def train(cell):
            variant, seed = cell
            claimed = contextlib.nullcontext()
            if self.devices.processes == 1:
                claimed = self.folder.claim(variant.name, seed)
            with claimed:
                self.folder.refresh()
                if self.folder.outcome(variant.name, seed) is None:
                    self._train(variant, seed)

        take_turns(self.missing(), train, self.folder.refresh)

    def check_end(self):
        """Raises if no training finished, and warns of those that did not."""
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
        data, folder = self.load(seed), self.folder
        folder.add_data(seed, data)
        cell = folder.cell(variant.name, seed)
        logs = self.tensorboard and self.devices.writes

        def announce(parameters, epochs):
            number = self.study.cells.index((variant, seed)) + 1
            several = len(self.study.seeds) > 1
            done = f"after epoch {epochs}" if epochs else "from the start"
            print(
                f"{variant.name}{f', seed {seed}' if several else ''} "
                f"({number} of {len(self.study.cells)}), {parameters:,} "
                f"parameters, {done}",
                flush=True,
            )

        def after_epoch(state):
            if self.devices.writes:
                so_far = Outcome(variant.name, seed, "", history=state.history)
                with folder.locked():
                    folder.refresh()
                    folder.write_history([so_far])

        with memory_freed(self.devices):
            outcome = train_cell(
                *(self.study, variant, seed, self.devices.share(data), cell),
                announce=announce,
                after_epoch=after_epoch,
                callbacks=[logs_of(folder.path, cell.name)] if logs else [],
                on_error=self.errors.append,
                devices=self.devices,
            )
        folder.record(outcome, best_file(cell) if outcome.finished else None)
        # Each process goes on with what has been recorded.
        self.devices.wait()
        folder.refresh()


def check_tensorboard(tensorboard: Any) -> None:
    """Raises unless logs can be written, if they are asked for."""
    if _checks.boolean("tensorboard", tensorboard):
        if keras.backend.backend() != "tensorflow":
            raise ValueError(
                "`tensorboard` needs the TensorFlow backend. Received: "
                f"tensorboard=True under {keras.backend.backend()}"
            )
        _checks.require("tensorboard", extra="tune")


def logs_of(folder: pathlib.Path, name: str) -> keras.callbacks.Callback:
    """Returns the callback that logs the training of a network."""
    return keras.callbacks.TensorBoard(str(folder / LOGS / name))
