"""A search by the command line on several real processes, some killed."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip("keras_tuner", reason="needs the extra tune")

pytestmark = pytest.mark.slow
HERE = pathlib.Path(__file__).parent
TRIALS, EPOCHS = 6, 3


def _start(output):
    command = [
        *(sys.executable, "-m", "cbam_keras", "tune"),
        *("--hypermodel", "tune_script:build", "--data", "mnist5k"),
        *("--max-trials", str(TRIALS), "--epochs", str(EPOCHS)),
        # Many small steps, so that there is time to kill.
        *("--batch-size", "4", "--learning-rate", "0.01"),
        *("--workers", "2", "--output", str(output)),
    ]
    output.mkdir(exist_ok=True)
    with (output.parent / "told").open("w") as told:
        return subprocess.Popen(
            command, cwd=HERE, stdout=told, stderr=subprocess.STDOUT
        )


def _until(condition, process, seconds=300):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "ended too early"
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)


def _kill(role):
    """Kills the process of that role, as nobody can prevent."""
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"tune_script:build" in arguments and role.encode() in arguments:
            os.kill(int(path.parent.name), signal.SIGKILL)
            return
    raise AssertionError(f"no {role}")


def _answers(output):
    content = json.loads((output / "results.json").read_text())
    return [
        (
            trial["number"],
            trial["values"],
            trial["outcome"],
            pytest.approx(trial["val_accuracy"], abs=1e-6),
        )
        for trial in content["trials"]
    ]


def _started(output):
    """Returns the trials that workers began, by what they printed."""
    logs = sorted((output / "logs").glob("*.log"))
    text = "".join(path.read_text() for path in logs)
    return sorted(re.findall(r"^Trial (\d+) of", text, re.M))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    output = tmp_path_factory.mktemp("undisturbed") / "search"
    process = _start(output)
    assert process.wait(400) == 0, (output.parent / "told").read_text()
    return output


def test_two_workers_run_each_trial_once(undisturbed):
    assert _started(undisturbed) == [str(n + 1) for n in range(TRIALS)]
    outcomes = [
        json.loads(path.read_text())
        for path in sorted(undisturbed.glob("trial_*/outcome.json"))
    ]
    assert [len(outcome["history"]) for outcome in outcomes] == (
        [EPOCHS] * TRIALS
    )
    assert {outcome["worker"] for outcome in outcomes} == {
        "worker-0",
        "worker-1",
    }


def test_the_chief_tells_what_happens(undisturbed):
    told = (undisturbed.parent / "told").read_text()
    for number in range(1, TRIALS + 1):
        assert re.search(rf"Trial {number} of {TRIALS}: units=", told)
        assert re.search(rf"Trial {number}: finished", told)
    assert "Best trials in" in told


def test_killed_processes_change_nothing(undisturbed, tmp_path):
    output = tmp_path / "search"
    process = _start(output)
    _until(lambda: list(output.rglob("state.json")), process)
    _kill("worker-0")
    _until(lambda: len(list(output.glob("trial_*/outcome.json"))) > 2, process)
    _kill("--chief")
    assert process.wait(400) == 0, (tmp_path / "told").read_text()
    told = (tmp_path / "told").read_text()
    assert "worker-0 ended by SIGKILL" in told
    assert "chief ended by SIGKILL" in told
    assert _answers(output) == _answers(undisturbed)
    for path in output.glob("trial_*/outcome.json"):
        history = json.loads(path.read_text())["history"]
        # The trial that was cut short went on after its last epoch.
        assert [row["epoch"] for row in history] == [1, 2, 3]


def test_all_killed_at_once_the_same_command_goes_on(undisturbed, tmp_path):
    output = tmp_path / "search"
    process = _start(output)
    _until(lambda: len(list(output.rglob("outcome.json"))) > 1, process)
    process.kill()
    process.wait()
    finished = len(list(output.rglob("outcome.json")))
    time.sleep(2)  # Until the others have noticed.
    again = _start(output)
    assert again.wait(400) == 0, (tmp_path / "told").read_text()
    assert finished < TRIALS
    assert _answers(output) == _answers(undisturbed)
