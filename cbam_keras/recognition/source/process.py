"""Checks files in a process of their own."""

import dataclasses
import faulthandler
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

from cbam_keras.recognition.reports import CheckedGate, not_analyzed

# A process ends after so many seconds of one file.
SECONDS = 60
START = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from cbam_keras.recognition.source.process import main; main()"
)


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


def check_files(jobs: Sequence[Job]) -> Iterator[tuple[Job, CheckedGate]]:
    """Yields what processes find in files; one that ends is replaced."""
    jobs = [*jobs]
    while jobs:
        finished = 0
        is_open = False
        for line in _lines(jobs):
            if "row" in line:
                yield jobs[finished], CheckedGate.of_record(line["row"])
            else:
                is_open = line["begins"]
                finished += not is_open
        if is_open:
            job = jobs[finished]
            reason = f"ends the process, or takes more than {SECONDS} s"
            name = os.path.basename(job.path)
            yield job, not_analyzed(name, reason, job.path)
            finished += 1
        del jobs[:finished]


def _lines(jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """Returns what one process writes of a job before it ends."""
    settings = {
        # A GPU is not needed.
        "CUDA_VISIBLE_DEVICES": "-1",
        "MPLBACKEND": "Agg",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    if importlib.util.find_spec("tensorflow"):
        settings["KERAS_BACKEND"] = "tensorflow"
    root = str(pathlib.Path(__file__).parents[3])
    order = {"seconds": SECONDS, "jobs": [vars(job) for job in jobs]}
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.run(
            [sys.executable, "-c", START, root],
            cwd=folder,
            env=os.environ | settings,
            input=json.dumps(order).encode(),
            capture_output=True,
        )
    # The process may have ended while it wrote a line.
    lines = process.stdout.decode().split("\n")[:-1]
    if not lines:
        raise RuntimeError(
            "The process that reads source did not start. Received: "
            f"{process.stderr.decode(errors='replace').strip()[-500:]}"
        )
    return [json.loads(x) for x in lines]


def main() -> None:
    """Checks files of a job, each within its seconds, and writes JSON lines."""
    from cbam_keras.recognition.source import keras_2, reader
    from cbam_keras.recognition.source.definitions import read_text

    order = json.load(sys.stdin)
    file = os.fdopen(os.dup(1), "w", buffering=1)
    # What definitions print is dropped.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(nowhere, descriptor)

    def write(**values):
        print(json.dumps(values), file=file)

    keras_2.install()
    texts = reader.Reader()
    for values in order["jobs"]:
        job = Job(**values)
        path = pathlib.Path(job.path)
        write(begins=True)
        faulthandler.dump_traceback_later(order["seconds"], exit=True)
        try:
            rows = texts.check(read_text(path), path, job.only, job.imports)
        # Definitions may raise anything, or end the process.
        except BaseException as error:  # noqa: BLE001
            reason = f"{type(error).__name__}: {error}"
            rows = [not_analyzed(path.name, reason, job.path)]
        for row in rows:
            write(row=row.record)
        faulthandler.cancel_dump_traceback_later()
        write(begins=False)
