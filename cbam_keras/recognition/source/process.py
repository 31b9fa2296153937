"""Checks files in a process of their own, which cannot reach out."""

import contextlib
import dataclasses
import importlib.util
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras

from cbam_keras.recognition.reports import CheckedGate, not_analyzed
from cbam_keras.recognition.verdicts import CheckState

# A process ends after so many seconds of its own work on one file.
SECONDS = 60
# It ends after so many times as long, whatever it waits for.
WAITS = 5
# What a process needs of the environment; tokens and keys are not in it.
KEPT = re.compile(
    r"(PATH|LANG|HOME|USERPROFILE|APPDATA|LOCALAPPDATA|SYSTEMROOT|"
    r"(LC|LD|DYLD|PYTHON|KERAS|TF|XLA|JAX|CUDA|OMP|MKL|OPENBLAS)_?\w*|"
    r"CONDA_(PREFIX|DEFAULT_ENV)|VIRTUAL_ENV)",
    re.I,
)
SETTINGS = {
    # A GPU is not needed.
    "CUDA_VISIBLE_DEVICES": "-1",
    "MPLBACKEND": "Agg",
    "PYTHONDONTWRITEBYTECODE": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}
# Settings of Keras that a file may change: how to read, and to set them.
SETTINGS_OF_KERAS = (
    (keras.config.image_data_format, keras.config.set_image_data_format),
    (keras.config.floatx, keras.config.set_floatx),
    (keras.config.epsilon, keras.config.set_epsilon),
    (keras.config.dtype_policy, keras.config.set_dtype_policy),
)
# Libraries write caches and settings there.
CACHES = ("TMPDIR", "TEMP", "TMP", "MPLCONFIGDIR", "XDG_CACHE_HOME")


@dataclasses.dataclass(frozen=True)
class Job:
    """A file to check.

    Attributes:
        path: String, the file.
        only: String, the only function or class that counts.
        imports: Boolean, whether modules beside the file have rows, too.
    """

    path: str
    only: str = ""
    imports: bool = True


@dataclasses.dataclass(frozen=True)
class Checked:
    """Result of checking files.

    Attributes:
        rows: List of rows, each with the job that it is from.
        lacking: List of strings, what the system does not refuse to code in C.
    """

    rows: list[tuple[Job, CheckedGate]] = dataclasses.field(
        default_factory=list
    )
    lacking: list[str] = dataclasses.field(default_factory=list)


def check_files(
    jobs: Sequence[Job], tell: Callable[[Job], None] | None = None
) -> Checked:
    """Checks files in a process; where it ends, another goes on.

    Args:
        jobs: Sequence of jobs, in the order in which they are done.
        tell: Function that is called with each job that begins.

    Raises:
        RuntimeError: If the process does not start.
    """
    checked = Checked()
    jobs = [*jobs]
    while jobs:
        finished = 0
        is_open = False
        child = _Child(jobs)
        for line in child.lines():
            if "row" in line:
                row = CheckedGate.of_record(line["row"])
                checked.rows.append((jobs[finished], row))
            elif "lacking" in line:
                checked.lacking[:] = line["lacking"]
            else:
                is_open = line["begins"]
                if is_open and tell:
                    tell(jobs[finished])
                finished += not is_open
        if is_open:
            job = jobs[finished]
            name = os.path.basename(job.path)
            row = not_analyzed(name, child.end, job.path)
            checked.rows.append((job, row))
            finished += 1
        del jobs[:finished]
    return checked


class _Child:
    """A process that checks files, in an empty folder.

    `end` says why it ended before its last file.
    """

    def __init__(self, jobs: Sequence[Job]):
        self.order = {"seconds": SECONDS, "jobs": [vars(job) for job in jobs]}
        self.end = ""

    def lines(self) -> Iterator[Mapping[str, Any]]:
        """Yields what it writes."""
        has_started = False
        with (
            tempfile.TemporaryDirectory() as folder,
            tempfile.TemporaryFile() as errors,
            self._start(folder, errors) as process,
        ):
            try:
                for line in self._read(process):
                    has_started = True
                    yield line
            finally:
                process.kill()
            self.end = self.end or _end_of(process.wait())
            errors.seek(0)
            text = errors.read().decode(errors="replace").strip()
        if not has_started:
            raise RuntimeError(
                "The process that reads source did not start. Received: "
                f"{text[-500:]}"
            )

    def _start(self, folder, errors):
        """Returns the process, which waits for its order."""
        script = pathlib.Path(__file__).with_name("sandbox.py")
        root = script.parents[3]
        kept = {k: x for k, x in os.environ.items() if KEPT.fullmatch(k)}
        settings = {**SETTINGS, **dict.fromkeys(CACHES, folder)}
        if importlib.util.find_spec("tensorflow"):
            settings["KERAS_BACKEND"] = "tensorflow"
        return subprocess.Popen(
            # The folder of the script is no place of modules.
            [sys.executable, "-P", str(script), str(root)],
            cwd=folder,
            env={**kept, **settings},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            # It has no terminal, and Ctrl-C is ours.
            start_new_session=True,
        )

    def _read(self, process):
        """Yields lines, unless the next takes too long."""

        def stop():
            self.end = f"runs longer than {WAITS * SECONDS} s"
            process.kill()

        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(self.order).encode())
            process.stdin.close()
        while True:
            watch = threading.Timer(WAITS * SECONDS, stop)
            watch.daemon = True
            watch.start()
            line = process.stdout.readline()
            watch.cancel()
            # It may have ended while it wrote a line.
            if not line.endswith(b"\n"):
                return
            yield json.loads(line)


def _end_of(status):
    """Returns why a process ended, by its exit status."""
    if hasattr(signal, "SIGPROF") and status == -signal.SIGPROF:
        return f"needs more than {SECONDS} s of CPU time"
    if status < 0:
        return f"killed by {signal.Signals(-status).name}"
    return f"exits with status {status}"


def main(lacking: list[str], protect: Callable[[str], None]) -> None:
    """Checks the files of an order, and writes a line of JSON for each row.

    `protect` gets the working folder once all is imported, and `lacking` is
    what the system does not refuse to code in C.
    """
    from cbam_keras.recognition.source import calls, keras_2, reader
    from cbam_keras.recognition.source.definitions import read_text

    order = json.load(sys.stdin)
    file = os.fdopen(os.dup(1), "w", buffering=1)
    # What definitions print is dropped.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(nowhere, descriptor)

    def write(**values):
        print(json.dumps(values), file=file)

    failed = keras_2.install()
    calls.stop_uses()
    protect(os.getcwd())
    write(lacking=lacking)
    texts = reader.TextReader()
    for values in order["jobs"]:
        job = Job(**values)
        path = pathlib.Path(job.path)
        write(begins=True)
        # It counts the work of the process; Windows lacks it.
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_PROF, order["seconds"])
        try:
            with _settings_kept():
                # Networks that the file builds itself have the same initial
                # weights in each run.
                keras.utils.set_random_seed(0)
                text = read_text(path)
                rows = texts.check(text, path, job.only, job.imports)
        # Definitions may raise anything, or end the process.
        except BaseException as error:  # noqa: BLE001
            reason = f"{type(error).__name__}: {error}"
            rows = [not_analyzed(path.name, reason, job.path)]
        for row in rows:
            write(row=_name_failed(row, failed).record)
        write(begins=False)


@contextlib.contextmanager
def _settings_kept():
    """Context after which Keras has the settings that it had before.

    A file that chooses channels_first would else choose it for all that
    follow in this process, whose right attention would be wrong.
    """
    values = [read() for read, _ in SETTINGS_OF_KERAS]
    try:
        yield
    finally:
        for (_, choose), value in zip(SETTINGS_OF_KERAS, values, strict=True):
            choose(value)


def _name_failed(row: CheckedGate, failed: Sequence[str]) -> CheckedGate:
    """Adds to a row that is not analyzed what this Keras lacks for Keras 2."""
    if not failed or row.state != CheckState.NOT_ANALYZED:
        return row
    lacks = f"Keras {keras.__version__} lacks {', '.join(failed)}"
    return dataclasses.replace(row, verdict=f"{row.verdict} ({lacks})")
