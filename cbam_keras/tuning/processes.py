"""Processes on this machine that share the trials of a search."""

import contextlib
import functools
import os
import pathlib
import socket
import tempfile
import time
from typing import Any

from cbam_keras import _checks, study
from cbam_keras.tuning.tuner import HOST, Trials, Tuner, oracle_of, run_trials

# KerasTuner's variables: the name of a process, and the port of the chief.
NAME, PORT = "KERASTUNER_TUNER_ID", "KERASTUNER_ORACLE_PORT"
CHIEF, WORKER = "chief", "worker"
# How often a worker that died is started again.
MAX_RESTARTS = 3
SECONDS_BETWEEN_LOOKS = 0.2


def role() -> str | None:
    """Returns what this process is of several: "chief", "worker" or `None`."""
    if HOST not in os.environ:
        return None
    # As KerasTuner does.
    return CHIEF if CHIEF in os.environ.get(NAME, "") else WORKER


def run_workers(
    search: Any, folder: study.StudyFolder, workers: int, tensorboard: bool
) -> None:
    """Runs the trials of a search by several processes, and waits for them.

    The trials of a list are claimed; those of other algorithms are handed out
    by a chief of KerasTuner's. A worker that dies is started again under its
    name, and goes on with its trial.

    Args:
        search: A `Search`, picklable by cloudpickle.
        folder: Its `StudyFolder`, opened.
        workers: Positive integer.
        tensorboard: Boolean, whether to write logs.

    Raises:
        TypeError: If the search cannot be given to another process.
        RuntimeError: If the chief dies, or a worker again and again.
    """
    payload = study.payload_of(
        functools.partial(work, search, folder.path.absolute(), tensorboard)
    )
    shared = {}
    if not search.is_list:
        shared = {HOST: "127.0.0.1", PORT: str(_free_port())}
    start = functools.partial(_start, workers, payload, shared)
    restarts = [0] * workers
    with contextlib.ExitStack() as stack:
        running: dict[Any, Any] = {}
        # What is running at the end is ended.
        stack.callback(lambda: [one.end() for one in running.values()])
        if shared:
            running[CHIEF] = start(CHIEF)
        for index in range(workers):
            running[index] = start(index)
        while running.keys() - {CHIEF}:
            time.sleep(SECONDS_BETWEEN_LOOKS)
            for index, process in list(running.items()):
                if process.process.poll() is None:
                    continue
                failure = process.wait()
                del running[index]
                process.end()
                if not failure:
                    continue
                if index == CHIEF or restarts[index] == MAX_RESTARTS:
                    raise RuntimeError(
                        f'{failure}. All files in "{folder.path}" are whole, '
                        "and the same call resumes"
                    )
                _checks.warn(f"{failure}. It is started again")
                restarts[index] += 1
                running[index] = start(index)


def _start(workers, payload, shared, index):
    if index == CHIEF:
        # It computes nothing; accelerators are for the workers.
        alone = {NAME: CHIEF, "CUDA_VISIBLE_DEVICES": ""}
        return study.Worker(0, 1, payload, {**shared, **alone})
    name = {NAME: f"worker-{index}"} if shared else {}
    return study.Worker(index, workers, payload, {**shared, **name})


def work(search: Any, path: pathlib.Path, tensorboard: bool) -> None:
    """Does the part of one of the processes that `run_workers` starts."""
    if role() == CHIEF:
        serve(search)
        return
    data = search.task.load(search.recipe)
    folder = search.folder(path, data)
    with folder.opened(retry=False):
        run_trials(Trials(search, folder, data, tensorboard))


def serve(search: Any) -> None:
    """Hands out trials to workers, until all have ended."""
    with tempfile.TemporaryDirectory() as folder:
        Tuner(oracle_of(search), folder, None).search(verbose=0)


def _free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
