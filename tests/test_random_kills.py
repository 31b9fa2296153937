"""A command that is killed at random moments, on demand: -m exhaustive.

A search by workers has all kinds of files. KILLS in the environment says how
often it is killed.
"""

import contextlib
import json
import os
import pathlib
import random
import subprocess
import sys
import time
import zipfile

import pytest
from folder_checks import without

from cbam_keras import _files

pytestmark = [pytest.mark.exhaustive, pytest.mark.slow]

KILLS = int(os.environ.get("KILLS", "30"))
TRAINING = ("--data", "mnist5k", "--epochs", "3", "--batch-size", "10")
SEARCH = ("--model", "slowed_script:build", "--max-trials", "3")
SEARCH += ("--attention", "se", "--reduction-ratio", "4", "6", "8", "12")
WORKERS = ("--confirm", "1", "--workers", "2")
COMMAND = ("-m", "cbam_keras", "tune", *TRAINING, *SEARCH, *WORKERS)


def start(folder):
    """Starts the command in a process of its own."""
    folder.mkdir(exist_ok=True)
    with (folder / "log").open("a") as log:
        return subprocess.Popen(
            [sys.executable, *COMMAND, "--output", folder / "run"],
            cwd=pathlib.Path(__file__).parent,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def test_a_killed_command_resumes(tmp_path):
    began, whole = time.monotonic(), tmp_path / "whole"
    assert start(whole).wait(900) == 0
    seconds = time.monotonic() - began
    draw, kills, finished = random.Random(0), 0, 0
    while kills < KILLS or (tmp_path / f"{finished}").exists():
        folder = tmp_path / f"{finished}"
        process = start(folder)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(draw.uniform(0, seconds) if kills < KILLS else 900)
        if process.poll() is None:
            process.kill()
            # Its workers end by themselves.
            time.sleep(1)
            kills += 1
        status = process.wait(60)
        check_files(folder / "run")
        if status == 0:
            assert content(folder / "run") == content(whole / "run")
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
