"""Ctrl-C and SIGTERM, as signals that really arrive."""

import functools
import json
import pathlib
import shutil
import signal
import subprocess
import sys

import keras
import pytest
from networks import linear
from training_checks import SMALL

from cbam_keras import _process, cli, training
from cbam_keras.models import by_name
from cbam_keras.training.checkpoints import Progress
from cbam_keras.training.fitting import _SaveEpoch


@pytest.fixture(autouse=True)
def default_handler():
    # A shell lets what it runs in the background ignore Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def press_ctrl_c():
    signal.raise_signal(signal.SIGINT)


def swallow(action):
    try:
        action()
    except:  # noqa: E722, as Keras has it
        pass


# The context.


def test_a_swallowed_signal_is_raised_at_the_next_batch():
    with pytest.raises(KeyboardInterrupt), _process.noted():
        swallow(press_ctrl_c)
        _process.raise_if_noted()
        pytest.fail("the work went on")


def test_a_swallowed_signal_is_raised_at_the_end():
    with pytest.raises(KeyboardInterrupt), _process.noted():
        swallow(press_ctrl_c)


def test_an_error_that_a_signal_causes_is_an_interrupt():
    with pytest.raises(KeyboardInterrupt), _process.noted():
        swallow(press_ctrl_c)
        raise SystemError("returned a result with an exception set")


def test_an_error_without_a_signal_stays_as_it_is():
    with pytest.raises(SystemError, match="a bug"), _process.noted():
        raise SystemError("a bug")


def test_a_signal_is_forgotten_after_the_context():
    with pytest.raises(KeyboardInterrupt), _process.noted():
        press_ctrl_c()
    with _process.noted():
        _process.raise_if_noted()


def test_the_handlers_are_restored():
    with _process.noted():
        assert signal.getsignal(signal.SIGINT) != signal.default_int_handler
        with _process.noted():
            pass
        assert signal.getsignal(signal.SIGINT) != signal.default_int_handler
    assert signal.getsignal(signal.SIGINT) == signal.default_int_handler


def test_a_handler_of_the_user_is_left_alone():
    received = []
    signal.signal(signal.SIGINT, lambda *_: received.append("here"))
    with _process.noted():
        press_ctrl_c()
    assert received == ["here"]


# The command, interrupted within this process.


@pytest.fixture
def small(few_digits, monkeypatch):
    """Puts a network of one layer in the place of the default one."""
    monkeypatch.setitem(
        by_name.NETWORKS, "tiny", lambda *arguments, **options: linear()
    )


def call_first(patch, owner, name, count, action):
    """Calls `action` before the nth call of a method."""
    method, calls = getattr(owner, name), []

    @functools.wraps(method)
    def counted(*arguments, **options):
        calls.append(name)
        if len(calls) == count:
            action()
        return method(*arguments, **options)

    patch.setattr(owner, name, counted)


# Where, at which call, and how many epochs the folder holds then, if the
# exception gets through and if it is swallowed. After the last epoch, the
# state of the training is gone.
MOMENTS = {
    "building": (keras.layers.Dense, "call", 1, 0, 0),
    "first_batch": (
        keras.losses.SparseCategoricalCrossentropy,
        "call",
        1,
        0,
        0,
    ),
    "epoch_begins": (_SaveEpoch, "on_epoch_begin", 2, 1, 1),
    "saving": (Progress, "save", 1, 0, 1),
    "loading": (Progress, "load_model", 1, 2, None),
}


@pytest.mark.every_backend
@pytest.mark.parametrize("caught", [False, True], ids=["raised", "swallowed"])
@pytest.mark.parametrize("moment", MOMENTS)
def test_an_interrupted_command_ends_in_one_line(
    small, monkeypatch, tmp_path, capsys, moment, caught
):
    owner, name, count, *epochs = MOMENTS[moment]
    action = (lambda: swallow(press_ctrl_c)) if caught else press_ctrl_c
    call_first(monkeypatch, owner, name, count, action)
    options = ["--data", "mnist5k", "--attention", "none", "--epochs", "2"]
    output = ["--batch-size", "35", "--output", str(tmp_path)]
    assert cli.main(["train", *options, *output]) == 130
    assert capsys.readouterr().err == (
        "cbam-keras train: interrupted; the same command resumes from here\n"
    )
    state = Progress(tmp_path / ".resume").load("none")
    expected = epochs[caught]
    assert (state.epochs if state else 0) == (expected or 0)
    finished = json.loads((tmp_path / "results.json").read_text())["runs"]
    assert bool(finished) == (expected is None)


@pytest.mark.every_backend
def test_python_is_interrupted_where_keras_swallows_it(
    few_digits, monkeypatch, tmp_path
):
    action = functools.partial(swallow, press_ctrl_c)
    call_first(monkeypatch, keras.layers.Dense, "call", 2, action)
    with pytest.raises(KeyboardInterrupt):
        training.train({"linear": linear}, "mnist5k", SMALL, output=tmp_path)
    assert not (tmp_path / ".resume").exists()


# The command in a process of its own, with nothing of the package but what
# comes before Keras.

SCRIPT = """
import sys, time
sys.orig_argv[:] = ["python", "-m", "cbam_keras"]
from cbam_keras import _process
print("started", flush=True)
"""


@pytest.fixture
def start(tmp_path):
    """Returns a function that starts code as the command, up to its import."""
    source = pathlib.Path(_process.__file__).parent
    package = tmp_path / "cbam_keras"
    shutil.copytree(source, package / "_process")
    shutil.copy(source.parent / "_version.py", package)
    (package / "__init__.py").touch()
    (package / "_process/log.py").write_text("def import_quietly(): pass\n")
    started = []

    def starting(code, *arguments):
        (tmp_path / "run.py").write_text(SCRIPT + code)
        process = subprocess.Popen(
            [sys.executable, "run.py", *(arguments or ["train"])],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield starting
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    "code",
    [
        "time.sleep(60)",
        "while True:\n try: time.sleep(60)\n except: pass",
        "with _process.noted():\n"
        " while True:\n"
        "  try: time.sleep(60)\n"
        "  except: pass",
        # Within one call of C, as long computations are.
        "import ctypes; ctypes.CDLL(None).sleep(1)\n"
        "while ctypes.CDLL(None).sleep(60): pass",
    ],
    ids=["imports", "swallowed", "swallowed_when_noted", "within_a_call"],
)
def test_the_command_ends_whatever_it_does(start, code, number):
    process = start(code)
    assert process.stdout.readline() == "started\n"
    process.send_signal(number)
    assert process.wait(30) == 130
    assert process.stderr.read() == "cbam-keras: interrupted\n"


def test_a_second_signal_ends_the_command_at_once(start):
    process = start(
        "import signal\n"
        "with _process.noted():\n"
        " try: signal.raise_signal(signal.SIGINT)\n"
        " except KeyboardInterrupt: pass\n"
        " signal.raise_signal(signal.SIGTERM)\n"
        " print('went on', flush=True)"
    )
    assert process.wait(30) == 130
    assert process.stdout.read() == "started\n"


def test_a_signal_that_was_ignored_is_ignored(start):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    process = start(
        "import signal\n"
        "with _process.noted(): signal.raise_signal(signal.SIGINT)\n"
        "print('went on')"
    )
    assert process.wait(30) == 0
    assert process.stdout.read() == "started\nwent on\n"


def test_a_signal_to_a_forked_process_is_not_the_commands(start):
    process = start(
        "import os, signal\n"
        "with _process.noted():\n"
        " child = os.fork()\n"
        " if not child:\n"
        "  time.sleep(20)\n"
        "  os._exit(0)\n"
        "time.sleep(0.5)\n"
        "os.kill(child, signal.SIGTERM)\n"
        "_, status = os.waitpid(child, 0)\n"
        "time.sleep(2)\n"
        "print(os.waitstatus_to_exitcode(status))"
    )
    assert process.wait(30) == 0
    assert process.stdout.read() == f"started\n{-signal.SIGTERM}\n"


@pytest.mark.parametrize(
    ("arguments", "status", "printed"),
    [
        (["--version"], 0, "stdout"),
        (["--help"], 0, "stdout"),
        (["trian"], 2, "stderr"),
        (["--trian", "train"], 2, "stderr"),
    ],
    ids=lambda value: "_".join(value) if isinstance(value, list) else None,
)
def test_what_needs_no_keras_is_answered_before_it(
    start, arguments, status, printed
):
    process = start("", *arguments)
    assert process.wait(30) == status
    output = getattr(process, printed).read()
    assert "started" not in output
    assert output
