"""The command's process: Ctrl-C, SIGTERM, and what TensorFlow logs."""

import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import threading
import time

import keras
import pretended
import pytest
from networks import linear
from study_checks import at_call, content_of

from _cbam_keras_command import backends
from cbam_keras import cli, study
from cbam_keras.study.files import interrupts

LEVEL = backends.LEVEL


@pytest.fixture(autouse=True)
def default_handler():
    # A shell lets what it runs in the background ignore Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def press_ctrl_c():
    signal.raise_signal(signal.SIGINT)


def swallow(action):
    """Calls a function as Keras does under a bare `except`."""
    with contextlib.suppress(BaseException):
        action()


# The context.


def test_handlers_of_the_user_are_left_alone_and_others_restored():
    with interrupts.note_signals():
        assert signal.getsignal(signal.SIGINT) != signal.default_int_handler
    assert signal.getsignal(signal.SIGINT) == signal.default_int_handler
    received = []
    signal.signal(signal.SIGINT, lambda *_: received.append("here"))
    with interrupts.note_signals():
        press_ctrl_c()
    assert received == ["here"]


def test_an_error_that_a_signal_causes_is_an_interrupt():
    with pytest.raises(KeyboardInterrupt), interrupts.note_signals():
        swallow(press_ctrl_c)
        raise SystemError("returned a result with an exception set")
    # And the signal is then forgotten.
    with pytest.raises(SystemError, match="a bug"), interrupts.note_signals():
        interrupts.raise_if_noted()
        raise SystemError("a bug")


# A training, interrupted within this process.


def epochs_in(folder):
    """Returns how many epochs of a network a folder holds."""
    with contextlib.suppress(FileNotFoundError):
        if content_of(folder)["outcomes"]:
            return "finished"
        for state in folder.glob("*/state.json"):
            return len(json.loads(state.read_text())["history"])
    return 0


ADVICE = "cbam-keras train: interrupted; the same command resumes from here\n"


def test_a_command_is_interrupted_though_keras_swallows_it(
    tiny, monkeypatch, tmp_path, capsys
):
    pretended.install(monkeypatch)
    action = functools.partial(swallow, press_ctrl_c)
    at_call(monkeypatch, keras.Model, "save", 1, action)
    options = ["--data", "mnist5k", "--attention", "none", "--epochs", "2"]
    assert cli.main(["train", *options, "--output", str(tmp_path)]) == 130
    assert capsys.readouterr().err == ADVICE
    # The epoch that was being saved is there, and no more.
    assert epochs_in(tmp_path) == 1


# Workers that import Keras, which may take half a minute.
STARTING = """
import os, pathlib, sys, time
pathlib.Path(f"{os.getpid()}.started").touch()
time.sleep(20)
pathlib.Path("late").touch()
"""


def test_ctrl_c_ends_workers_that_are_starting(
    few_digits, tmp_path, monkeypatch
):
    pytest.importorskip("cloudpickle", reason="gives networks to workers")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("cbam_keras.study.running.workers.SCRIPT", STARTING)

    def started():
        return [int(path.stem) for path in tmp_path.glob("*.started")]

    def press():
        while len(started()) < 2:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press, daemon=True).start()
    networks = [study.Variant(name, lambda x: linear()) for name in "ab"]
    two = study.Study(study.Classification("mnist5k"), networks)
    with pytest.raises(KeyboardInterrupt):
        study.run(two, "run", workers=2)
    for process in started():
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)
    assert not (tmp_path / "late").exists()


# The command in a process of its own.

COMMAND = """
import sys
sys.argv[0] = "-m"
import cbam_keras
sys.argv[0] = "cbam-keras"
import _cbam_keras_command, digits, networks
digits.replace(digits.few)
networks.models.NETWORKS["tiny"] = lambda *_, **__: networks.linear()
sys.exit(_cbam_keras_command.main())
"""


def test_the_command_is_interrupted_by_what_it_does_not_ignore():
    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        interrupts.watch()
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.slow
@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="under other backends Keras imports TensorFlow later, if at all",
)
def test_sigterm_ends_a_training_and_tensorflow_logs_nothing(tmp_path):
    options = (
        "--data mnist5k --attention none --epochs 1000 --workers 1".split()
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    # Set for the tests.
    environment.pop(LEVEL, None)
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, "train", *options, "--output", "run"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        while process.poll() is None and not epochs_in(tmp_path / "run"):
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        try:
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert errors == ADVICE
    assert process.returncode == 130


# What needs no Keras.


@pytest.fixture
def start(tmp_path):
    """Returns a function that starts the command, whose Keras never ends."""
    (tmp_path / "keras.py").write_text(
        "import time; print('imported', flush=True); time.sleep(60)"
    )
    main = "import _cbam_keras_command as c, sys; sys.exit(c.main())"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    environment.pop(LEVEL, None)
    with contextlib.ExitStack() as stack:

        def starting(*arguments):
            process = subprocess.Popen(
                [sys.executable, "-c", main, *arguments],
                cwd=tmp_path,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield starting


@pytest.mark.parametrize(
    ("line", "status", "text"),
    [
        ("train --help", 0, "--epochs N"),
        ("trian", 2, "invalid choice: 'trian'"),
        ("train --epoch 3", 2, "unrecognized arguments: --epoch 3"),
    ],
)
def test_what_needs_no_keras_is_answered_before_it(start, line, status, text):
    process = start(*line.split())
    assert process.wait(15) == status
    output, errors = process.communicate()
    assert text in (errors if status else output)
    assert "imported" not in output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_import_of_keras_can_be_interrupted(start, number):
    process = start("train")
    assert process.stdout.readline() == "imported\n"
    process.send_signal(number)
    assert process.wait(15) == 130
    assert process.stderr.read() == "cbam-keras: interrupted\n"


# What TensorFlow logs at its start.


def test_the_log_level_of_the_user_is_respected(monkeypatch):
    monkeypatch.setenv(LEVEL, "0")
    monkeypatch.delitem(sys.modules, "keras")
    monkeypatch.setattr(backends, "without_noise", pytest.fail)
    backends.import_quietly()
    assert os.environ[LEVEL] == "0"
