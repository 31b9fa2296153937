"""A worker: a process that trains what the folder of a run lacks.

    python -m cbam_keras.study.running.worker PLAN SHA256

`PLAN` is a pickle that a run has written into its output folder, and is loaded
only with this digest. What the worker does is in the folder. It ends with the
run, and says why by its exit status and its last lines if it ends before.
"""

import hashlib
import os
import pathlib
import pickle
import socket
import sys
import time

import keras

from cbam_keras import _files
from cbam_keras.study.running.queue import SECONDS_OF_WAITING
from cbam_keras.study.running.workers import REFUSED, REFUSED_STATUS, VERSIONS

# A worker that trains looks so often whether the run has ended.
SECONDS_BETWEEN_LOOKS = 1.0


def main(plan: pathlib.Path, digest: str) -> None:
    """Trains one network after the other until the run has ended."""
    run = EndWithRun(plan)
    # A run is in the subfolder `.training` of its output folder.
    with _files.writing_to(plan.parent.parent):
        queue = _read(plan, digest)()
        queue.folder.join()
        queue.callbacks = [run]
        try:
            while not run.has_ended():
                if not queue.train_next(backwards=True):
                    # Another worker may die, or a search may go on.
                    time.sleep(SECONDS_OF_WAITING)
        except (RunEnded, Exception) as error:
            # Only a process that dies is a fault of the network.
            queue.give_back()
            if not isinstance(error, RunEnded):
                raise


class RunEnded(BaseException):
    """Ends a training, and is not recorded as an error of the network."""


class EndWithRun(keras.callbacks.Callback):
    """Ends the training of a network in mid-epoch when the run has ended."""

    def __init__(self, plan: pathlib.Path):
        super().__init__()
        self.lock, self.parent = plan.with_suffix(".lock"), os.getppid()
        self.last_look = time.monotonic()

    def has_ended(self) -> bool:
        """Returns whether the run has, or what has started this process."""
        # The process of an executor may die while the run goes on.
        is_orphan = os.getppid() != self.parent
        return is_orphan or not _files.is_locked(self.lock)

    def on_train_batch_end(self, batch, logs=None):
        if time.monotonic() - self.last_look > SECONDS_BETWEEN_LOOKS:
            self.last_look = time.monotonic()
            if self.has_ended():
                raise RunEnded

    on_test_batch_end = on_train_batch_end


def _read(plan, digest):
    """Returns the function that makes the queue, checked and importable."""
    host = socket.gethostname()
    try:
        written = plan.read_bytes()
    except FileNotFoundError:
        raise ValueError(
            "`output` must be one folder that all workers share. Received: "
            f'output="{plan.parent.parent}", where a worker on {host} cannot '
            "see what the process that runs the study has written"
        ) from None
    if hashlib.sha256(written).hexdigest() != digest:
        raise ValueError(
            "A plan must be as the run has written it, in a folder that only "
            f'people you trust can write to. Received: "{plan}", changed'
        )
    versions, paths, content = pickle.loads(written)
    if versions != VERSIONS:
        raise ValueError(
            "Workers must have the versions of the process that runs the "
            f"study, {_listed(versions)}. Received: a worker on {host} with "
            f"{_listed(VERSIONS)}"
        )
    sys.path[:0] = [entry for entry in paths if entry not in sys.path]
    settings, registered, made = pickle.loads(content)
    for name, value in settings.items():
        getattr(keras.config, f"set_{name}")(value)
    for full_name, value in registered.items():
        package, _, name = full_name.partition(">")
        keras.saving.register_keras_serializable(package, name)(value)
    return pickle.loads(made)


def _listed(versions):
    return ", ".join(f"{name} {value}" for name, value in versions.items())


if __name__ == "__main__":
    try:
        main(pathlib.Path(sys.argv[1]), sys.argv[2])
    except REFUSED as error:
        message = " ".join(str(error).split())
        print(f"{type(error).__name__}: {message}", file=sys.stderr)
        sys.exit(REFUSED_STATUS)
