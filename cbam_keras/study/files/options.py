"""`RunOptions`: where, by what and for whom a study is run."""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Sequence
from concurrent.futures import Executor

import keras

from cbam_keras import _checks

# Functions, since each network needs callbacks of its own.
CallbackMakers = Sequence[Callable[[], keras.callbacks.Callback]]


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """The arguments of `run` but for the study, checked, and two of our own."""

    output: str | os.PathLike | None = None
    resume: bool = True
    overwrite: bool = False
    workers: int = 1
    executor: Executor | None = None
    callbacks: CallbackMakers = ()
    # The command line, for the folder.
    command: str | None = None
    # It is called with the folder, and the results unless the run is stopped,
    # while nobody can overwrite it.
    on_end: Callable[[pathlib.Path, object], object] | None = None

    def __post_init__(self) -> None:
        for name in ("resume", "overwrite"):
            _checks.boolean(name, getattr(self, name))
        _checks.positive_integer("workers", self.workers)
        executor = self.executor
        if executor is not None and not isinstance(executor, Executor):
            raise TypeError(
                "`executor` must be a concurrent.futures.Executor, such as "
                f"that of dask.distributed.Client. Received: {executor=}"
            )
        if executor is not None and self.workers > 1:
            raise ValueError(
                "`executor` has workers of its own, so `workers` must be 1. "
                f"Received: workers={self.workers}, executor={executor!r}"
            )
        if not all(callable(make) for make in self.callbacks):
            raise TypeError(
                "`callbacks` must be functions that make one for each network, "
                "such as lambda: MyCallback(3). Received: "
                f"callbacks={self.callbacks!r}"
            )
        # The locks of the folder need it.
        _checks.require("filelock", extra="plot")
        if self.workers > 1 or executor is not None:
            _checks.require("cloudpickle", extra="cluster")
