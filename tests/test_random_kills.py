"""Commands that are killed at random moments, on demand: -m exhaustive -s.

KILLS in the environment says how many kills each command gets.
"""

import collections
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
# What differs from run to run.
VARYING = {
    *("command", "seconds", "seconds_per_epoch", "worker", "workers"),
    "output",
}


class Command:
    """A command in processes of its own, and what they are at."""

    def __init__(self, name, folder):
        self.output = folder / "run"
        self.marks = folder / "marks"
        self.marks.mkdir(parents=True, exist_ok=True)
        for path in self.marks.iterdir():
            path.unlink()
        self.log = folder / "log"
        start = [sys.executable, "-m", "cbam_keras"]
        if "--hypermodel" not in COMMANDS[name]:
            start = [sys.executable, "slowed_script.py"]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [*start, *COMMANDS[name], "--output", str(self.output)],
                cwd=HERE,
                env={**os.environ, "MARKS": str(self.marks)},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def is_over(self):
        return self.process.poll() is not None

    def at(self, pid):
        """Returns what a process is at, or others while it trains nothing."""
        own = self.marks / str(pid)
        marked = sorted(self.marks.iterdir(), key=lambda x: x.stat().st_mtime)
        if not marked:
            return "before the first step"
        return (own if own in marked else marked[-1]).read_text().split()[-1]

    def steps(self):
        """Returns how many batches its processes have done."""
        files = self.marks.iterdir()
        return sum(path.read_text().count("step") for path in files)

    def wait_for_steps(self, count):
        while not self.is_over() and self.steps() < count:
            time.sleep(0.05)

    def wait(self, seconds):
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)

    def processes(self):
        """Returns the command's processes by what they do."""
        found = {"command": self.process.pid}
        for path in pathlib.Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                entries = path.read_bytes().decode().split("\0")
                variables = dict(e.split("=", 1) for e in entries if "=" in e)
                worker = variables.get("CBAM_KERAS_WORKER")
                if worker and variables.get("MARKS") == str(self.marks):
                    found[f"worker-{worker}"] = int(path.parent.name)
        return found


@pytest.fixture(params=COMMANDS)
def whole(request, tmp_path):
    """Returns the name of a command, and itself, which nothing has killed."""
    start = time.monotonic()
    command = Command(request.param, tmp_path / "whole")
    assert command.process.wait(900) == 0, command.log.read_text()[-3000:]
    command.seconds = time.monotonic() - start
    return request.param, command


def test_killed_commands_resume(whole, tmp_path):
    name, expected = whole
    draw = random.Random(name)
    kills, finished = collections.Counter(), 0
    while kills.total() < KILLS or (tmp_path / f"{finished}").exists():
        command = Command(name, tmp_path / f"{finished}")
        if kills.total() < KILLS:
            kills += killed(command, draw, expected)
            check_files(command.output)
        else:
            command.process.wait(900)
        if command.process.poll() == 0:
            assert content(command.output) == content(expected.output)
            finished += 1
    text = ", ".join(f"{n} {what}" for what, n in sorted(kills.items()))
    print(f"\n{name}: {kills.total()} kills in {finished} runs: {text}")
    in_epochs = sum(n for what, n in kills.items() if "mid-epoch" in what)
    assert 2 * in_epochs >= kills.total()


def killed(command, draw, expected):
    """Kills one process of a command, and returns what it was at."""
    if draw.random() < 0.6:
        command.wait_for_steps(draw.randint(1, expected.steps()))
    else:
        command.wait(draw.uniform(0, expected.seconds))
    if command.is_over():
        return collections.Counter()
    processes = command.processes()
    role = draw.choice(sorted(processes))
    at = command.at(processes[role])
    with contextlib.suppress(ProcessLookupError):
        os.kill(processes[role], signal.SIGKILL)
    if role.startswith("worker"):
        # It is started again; then all are killed.
        command.wait(draw.uniform(0, expected.seconds / 2))
        if not command.is_over():
            command.process.kill()
    command.process.wait(60)
    while command.processes().keys() - {"command"}:
        time.sleep(0.05)
    what = {"step": "in mid-epoch", "saving": "while saving an epoch"}
    what |= {"saved": "between epochs"}
    return collections.Counter([f"{role} {what.get(at, at)}"])


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
    names = {path.name for path in output.iterdir() if path.name != "logs"}
    return plain(results), names


def plain(value):
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items() if k not in VARYING}
    if isinstance(value, list):
        return [plain(v) for v in value]
    if isinstance(value, float):
        return round(value, 5)
    return value
