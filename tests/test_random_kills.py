"""Commands that are killed at random moments, on demand: -m exhaustive.

KILLS in the environment says how many kills each command gets.
"""

import contextlib
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time
import zipfile

import pytest
from folder_checks import without

from cbam_keras import _files

pytestmark = [pytest.mark.exhaustive, pytest.mark.slow]

KILLS = int(os.environ.get("KILLS", "30"))
HERE = pathlib.Path(__file__).parent
TRAINING = ("--data", "mnist5k", "--epochs", "3", "--batch-size", "10")
SEARCH = ("--hypermodel", "slowed_script:build", "--max-trials", "3")
WORKERS = ("--confirm", "1", "--workers", "2")
COMMANDS = {
    "train": ("train", *TRAINING, "--attention", "none", "se"),
    "ablate": ("ablate", *TRAINING, "--tables", "4", "--seeds", "1"),
    "tune": ("tune", *TRAINING, *SEARCH, "--confirm", "1"),
    "workers": ("tune", *TRAINING, *SEARCH, *WORKERS),
}


class Command:
    """A command in processes of its own."""

    def __init__(self, name, folder):
        self.output = folder / "run"
        folder.mkdir(exist_ok=True)
        self.log = folder / "log"
        start = [sys.executable, "-m", "cbam_keras"]
        if "--hypermodel" not in COMMANDS[name]:
            start = [sys.executable, "slowed_script.py"]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [*start, *COMMANDS[name], "--output", str(self.output)],
                cwd=HERE,
                env={**os.environ, "MARK": str(self.output)},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def wait(self, seconds):
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)

    def workers(self):
        """Returns the process numbers of its workers."""
        found = []
        for path in pathlib.Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                variables = path.read_bytes().decode().split("\0")
                if f"MARK={self.output}" in variables and any(
                    entry.startswith("CBAM_KERAS_WORKER=")
                    for entry in variables
                ):
                    found.append(int(path.parent.name))
        return found

    def kill(self, draw, seconds):
        """Kills one of its processes, and at last the command."""
        chosen = draw.choice([self.process.pid, *self.workers()])
        with contextlib.suppress(ProcessLookupError):
            os.kill(chosen, signal.SIGKILL)
        if chosen != self.process.pid:
            # It is started again; then all are killed.
            self.wait(draw.uniform(0, seconds / 2))
            self.process.kill()
        self.process.wait(60)
        while self.workers():
            time.sleep(0.05)


@pytest.mark.parametrize("name", COMMANDS)
def test_killed_commands_resume(name, tmp_path):
    began = time.monotonic()
    whole = Command(name, tmp_path / "whole")
    assert whole.process.wait(900) == 0, whole.log.read_text()[-3000:]
    seconds = time.monotonic() - began
    draw, kills, finished = random.Random(name), 0, 0
    while kills < KILLS or (tmp_path / f"{finished}").exists():
        command = Command(name, tmp_path / f"{finished}")
        command.wait(draw.uniform(0, seconds) if kills < KILLS else 900)
        if command.process.poll() is None:
            command.kill(draw, seconds)
            kills += 1
        check_files(command.output)
        if command.process.returncode == 0:
            assert content(command.output) == content(whole.output)
            finished += 1


def check_files(output):
    """Checks that what can be read is whole, right after a kill."""
    for path in output.rglob("*"):
        if path.name.startswith(_files.UNFINISHED):
            continue
        if path.suffix == ".json":
            json.loads(path.read_text())
        if path.suffix == ".keras":
            assert zipfile.ZipFile(path).testzip() is None


def content(output):
    """Returns what a run leaves, without what differs from run to run."""
    results = json.loads((output / "results.json").read_text())
    return rounded(without(results)), {path.name for path in output.iterdir()}


def rounded(value):
    if isinstance(value, dict):
        return {key: rounded(v) for key, v in value.items()}
    if isinstance(value, list):
        return [rounded(v) for v in value]
    return round(value, 5) if isinstance(value, float) else value
