"""The command's process: Ctrl-C, SIGTERM, and what TensorFlow logs."""

import contextlib
import functools
import json
import logging
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import keras
import pretended
import pytest
from networks import linear

from cbam_keras import _process, cli, training
from cbam_keras._process import log, start


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
    # And is then forgotten.
    with _process.noted():
        _process.raise_if_noted()


def test_an_error_that_a_signal_causes_is_an_interrupt():
    with pytest.raises(KeyboardInterrupt), _process.noted():
        swallow(press_ctrl_c)
        raise SystemError("returned a result with an exception set")
    with pytest.raises(SystemError, match="a bug"), _process.noted():
        raise SystemError("a bug")


def test_the_handlers_are_restored():
    with _process.noted():
        noting = signal.getsignal(signal.SIGINT)
        with _process.noted():
            pass
        assert signal.getsignal(signal.SIGINT) == noting
    assert noting != signal.default_int_handler
    assert signal.getsignal(signal.SIGINT) == signal.default_int_handler


def test_a_handler_of_the_user_is_left_alone():
    received = []
    signal.signal(signal.SIGINT, lambda *_: received.append("here"))
    with _process.noted():
        press_ctrl_c()
    assert received == ["here"]


# A training, interrupted within this process.


def call_first(patch, owner, name, count, action):
    """Calls `action` before the nth call of a function."""
    function, calls = getattr(owner, name), []

    @functools.wraps(function)
    def counted(*arguments, **options):
        calls.append(name)
        if len(calls) == count:
            action()
        return function(*arguments, **options)

    patch.setattr(owner, name, counted)


def epochs_in(folder):
    """Returns how many epochs of a network a folder holds."""
    with contextlib.suppress(FileNotFoundError):
        if json.loads((folder / "results.json").read_text())["runs"]:
            return "finished"
        state = json.loads((folder / ".resume" / "state.json").read_text())
        return len(state["history"])
    return 0


# Where, at which call, and how many epochs of two the folder holds then, if
# the exception gets through and if it is swallowed.
MOMENTS = {
    "building": (keras.Model, "compile", 1, 0, 0),
    "epoch_begins": (keras.callbacks.CallbackList, "on_epoch_begin", 2, 1, 1),
    "saving": (keras.Model, "save", 1, 0, 1),
    "loading": (keras.saving, "load_model", 1, 2, "finished"),
}
ADVICE = "cbam-keras train: interrupted; the same command resumes from here\n"


@pytest.mark.parametrize("caught", [False, True], ids=["raised", "swallowed"])
@pytest.mark.parametrize("moment", MOMENTS)
def test_an_interrupted_command_ends_in_one_line(
    tiny, monkeypatch, tmp_path, capsys, moment, caught
):
    pretended.install(monkeypatch)
    owner, name, count, *epochs = MOMENTS[moment]
    action = functools.partial(swallow, press_ctrl_c)
    action = action if caught else press_ctrl_c
    call_first(monkeypatch, owner, name, count, action)
    options = ["--data", "mnist5k", "--attention", "none", "--epochs", "2"]
    assert cli.main(["train", *options, "--output", str(tmp_path)]) == 130
    assert capsys.readouterr().err == ADVICE
    assert epochs_in(tmp_path) == epochs[caught]


def test_python_is_interrupted_where_keras_swallows_it(
    few_digits, monkeypatch, tmp_path
):
    action = functools.partial(swallow, press_ctrl_c)
    # The first call is in building, the second in the first batch.
    call_first(monkeypatch, keras.layers.Dense, "call", 2, action)
    with pytest.raises(KeyboardInterrupt):
        training.train({"linear": linear}, "mnist5k", output=tmp_path)
    assert not (tmp_path / ".resume").exists()


# The command in a process of its own.

# A file of the name that tells the command.
COMMAND = """
import sys
import cbam_keras
import digits, networks
digits.replace(digits.few)
networks.replace_tiny()
from cbam_keras import cli
sys.exit(cli.main())
"""


@pytest.mark.slow
def test_ctrl_c_ends_a_training_and_tensorflow_logs_nothing(tmp_path):
    (tmp_path / "cbam-keras").write_text(COMMAND)
    options = ["--data", "mnist5k", "--attention", "none", "--epochs", "1000"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    # Set for the tests.
    environment.pop(log.LEVEL, None)
    process = subprocess.Popen(
        [sys.executable, "cbam-keras", "train", *options, "--output", "run"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        while process.poll() is None and not epochs_in(tmp_path / "run"):
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        try:
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert errors == ADVICE
    assert process.returncode == 130


# What comes before Keras.

SCRIPT = """
import sys, time
sys.orig_argv[:] = ["python", "-m", "cbam_keras"]
from cbam_keras import _process
print("started", flush=True)
"""


@pytest.fixture
def begin(tmp_path):
    """Returns a function that starts code as the command, without Keras."""
    source = pathlib.Path(_process.__file__).parent
    package = tmp_path / "cbam_keras"
    shutil.copytree(source, package / "_process")
    shutil.copy(source.parent / "_version.py", package)
    (package / "__init__.py").touch()
    (package / "_process/log.py").write_text(
        "def import_quietly(): print('imported')\n"
    )
    started = []

    def beginning(code, *arguments, script=SCRIPT):
        (tmp_path / "run.py").write_text(script + code)
        process = subprocess.Popen(
            [sys.executable, "run.py", *(arguments or ["train"])],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield beginning
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("code", "number"),
    [
        ("time.sleep(60)", signal.SIGINT),
        ("time.sleep(60)", signal.SIGTERM),
        ("while True:\n try: time.sleep(60)\n except: pass", signal.SIGINT),
        (
            "with _process.noted():\n"
            " while True:\n"
            "  try: time.sleep(60)\n"
            "  except: pass",
            signal.SIGTERM,
        ),
        # Within one call of C, as long computations are.
        (
            "import ctypes; ctypes.CDLL(None).sleep(1)\n"
            "while ctypes.CDLL(None).sleep(60): pass",
            signal.SIGINT,
        ),
    ],
    ids=["ctrl_c", "sigterm", "swallowed", "swallowed_when_noted", "in_a_call"],
)
def test_the_command_ends_whatever_it_does(begin, code, number):
    process = begin(code)
    assert process.stdout.readline() == "imported\n"
    assert process.stdout.readline() == "started\n"
    process.send_signal(number)
    assert process.wait(30) == 130
    assert process.stderr.read() == "cbam-keras: interrupted\n"


@pytest.mark.parametrize(
    ("code", "status", "printed"),
    [
        # A second signal ends the command at once.
        (
            "import signal\n"
            "with _process.noted():\n"
            " try: signal.raise_signal(signal.SIGINT)\n"
            " except KeyboardInterrupt: pass\n"
            " signal.raise_signal(signal.SIGTERM)\n"
            " print('went on', flush=True)",
            130,
            "",
        ),
        # A signal to a child ends the child alone.
        (
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
            "print(os.waitstatus_to_exitcode(status))",
            0,
            f"{-signal.SIGTERM}\n",
        ),
    ],
    ids=["second_signal", "of_a_child"],
)
def test_signals_reach_whom_they_are_sent_to(begin, code, status, printed):
    process = begin(code)
    assert process.wait(30) == status
    assert process.stdout.read() == f"imported\nstarted\n{printed}"


def test_a_signal_that_was_ignored_is_ignored(begin):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    process = begin(
        "import signal\n"
        "with _process.noted(): signal.raise_signal(signal.SIGINT)\n"
        "print('went on')"
    )
    assert process.wait(30) == 0
    assert process.stdout.read() == "imported\nstarted\nwent on\n"


@pytest.mark.parametrize(
    ("arguments", "status", "printed"),
    [
        (["--version"], 0, "stdout"),
        (["--help"], 0, "stdout"),
        (["--trian", "train"], 2, "stderr"),
    ],
    ids=["version", "help", "mistake"],
)
def test_what_needs_no_keras_is_answered_before_it(
    begin, arguments, status, printed
):
    process = begin("", *arguments)
    assert process.wait(30) == status
    output = getattr(process, printed).read()
    assert output and "imported" not in output


def test_importing_the_library_changes_nothing_in_a_process(begin):
    process = begin(
        "import signal\n"
        "kept = signal.getsignal(signal.SIGTERM) == signal.SIG_DFL\n"
        "print(kept, threading.active_count())",
        script="import threading\nfrom cbam_keras import _process\n",
    )
    assert process.wait(30) == 0
    assert process.stdout.read() == "True 1\n"


@pytest.mark.parametrize(
    ("started", "program", "command"),
    [
        (["python", "-W", "error", "-m", "cbam_keras"], "-m", True),
        (["python", "/bin/cbam-keras"], "/bin/cbam-keras", True),
        (["cbam-keras.exe"], "cbam-keras.exe", True),
        (["python", "train.py", "cbam_keras"], "train.py", False),
        (["python", "-m", "pytest"], "-m", False),
        (["python"], None, False),
    ],
)
def test_only_the_command_is_the_command(
    monkeypatch, started, program, command
):
    monkeypatch.setattr(sys, "orig_argv", started)
    monkeypatch.setattr(sys, "argv", [program] if program else [])
    assert start.is_command() is command


# What TensorFlow logs at its start.

BANNER = b"WARNING: All log messages before absl::InitializeLog() is called"
NO_GPU = b"E0000 00:00:1.1 1 cuda_platform.cc:52] failed call to cuInit: 303"


def test_only_noise_is_left_out(capfd, monkeypatch):
    monkeypatch.setattr(log.glob, "glob", lambda pattern: [])
    lines = (
        BANNER,
        b"I0000 00:00:1.1 1 cudart_stub.cc:31] Could not find cuda drivers",
        b"To enable the following instructions: AVX2",
        NO_GPU,
        b"W0000 00:00:1.1 1 gpu_device.cc:2] Cannot dlopen some libraries",
        b"UserWarning: something is deprecated",
        b"Traceback (most recent call last):",
    )
    # Also what was written before an error.
    with contextlib.suppress(KeyError), log.without_noise():
        os.write(2, b"\n".join(lines) + b"\n")
        raise KeyError
    assert capfd.readouterr().err.encode() == b"\n".join(lines[4:]) + b"\n"


def test_with_a_gpu_its_error_is_shown(monkeypatch):
    monkeypatch.setattr(log.glob, "glob", lambda pattern: ["/dev/nvidia0"])
    assert not log.is_noise(NO_GPU)


def test_warnings_of_retracing_are_left_out(caplog):
    logger = logging.getLogger("retracing")
    logger.addFilter(log.is_no_retracing)
    logger.warning("5 out of the last 10 calls triggered tf.function retracing")
    logger.warning("something else")
    assert caplog.messages == ["something else"]


def test_the_log_level_of_the_user_is_respected(monkeypatch):
    monkeypatch.setenv(log.LEVEL, "0")
    monkeypatch.setattr(log, "without_noise", pytest.fail)
    log.import_quietly()
    assert os.environ[log.LEVEL] == "0"
