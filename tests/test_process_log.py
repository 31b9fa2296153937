"""What TensorFlow logs at its start, for users of the command and others."""

import logging
import os
import subprocess
import sys

import keras
import pytest

from cbam_keras._process import log, start

BANNER = b"WARNING: All log messages before absl::InitializeLog() is called"
NO_GPU = b"E0000 00:00:1.1 1 cuda_platform.cc:52] failed call to cuInit: 303"


def run(*arguments, **environment):
    kept = {key: value for key, value in os.environ.items() if key != log.LEVEL}
    return subprocess.run(
        [sys.executable, *arguments],
        env={**kept, **environment},
        capture_output=True,
        text=True,
        check=True,
    )


@pytest.mark.every_backend
def test_the_command_starts_in_silence():
    assert run("-m", "cbam_keras", "table", "resnet18").stderr == ""


def test_the_log_level_of_the_user_is_respected():
    if keras.backend.backend() != "tensorflow":
        pytest.skip("TensorFlow is not the backend")
    noisy = run(
        *("-m", "cbam_keras", "table", "resnet18"), TF_CPP_MIN_LOG_LEVEL="0"
    )
    assert "This TensorFlow binary is optimized" in noisy.stderr


def test_importing_the_library_changes_no_log_level():
    code = f"import os, {{}}; print(os.environ.get('{log.LEVEL}'))"
    # Keras may set one.
    expected = run("-c", code.format("keras")).stdout
    assert run("-c", code.format("cbam_keras")).stdout == expected


@pytest.mark.parametrize(
    ("started", "program", "command"),
    [
        (["python", "-m", "cbam_keras", "train"], "-m", True),
        (["python", "-W", "error", "-m", "cbam_keras"], "-m", True),
        (["python", "/bin/cbam-keras"], "/bin/cbam-keras", True),
        (["cbam-keras.exe"], "cbam-keras.exe", True),
        (["python", "train.py", "cbam_keras"], "train.py", False),
        (["python", "-m", "pytest"], "-m", False),
        (["python"], "", False),
    ],
)
def test_only_the_command_is_the_command(
    monkeypatch, started, program, command
):
    monkeypatch.setattr(sys, "orig_argv", started)
    monkeypatch.setattr(sys, "argv", [program])
    assert start.is_command() is command


def test_an_interpreter_without_arguments_is_not_the_command(monkeypatch):
    monkeypatch.setattr(sys, "argv", [])
    assert not start.is_command()


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
    with log.without_noise():
        os.write(2, b"\n".join(lines) + b"\n")
    assert capfd.readouterr().err.encode() == b"\n".join(lines[4:]) + b"\n"


def test_warnings_of_retracing_are_left_out(caplog):
    logger = logging.getLogger("retracing")
    logger.addFilter(log.is_no_retracing)
    logger.warning("5 out of the last 10 calls triggered tf.function retracing")
    logger.warning("something else")
    assert caplog.messages == ["something else"]


def test_with_a_gpu_its_error_is_shown(monkeypatch):
    monkeypatch.setattr(log.glob, "glob", lambda pattern: [])
    assert log.is_noise(NO_GPU)
    monkeypatch.setattr(log.glob, "glob", lambda pattern: ["/dev/nvidia0"])
    assert not log.is_noise(NO_GPU)


def test_what_was_written_before_an_error_is_shown(capfd):
    with pytest.raises(ValueError, match="stop"):
        with log.without_noise():
            os.write(2, b"something\n")
            raise ValueError("stop")
    assert capfd.readouterr().err == "something\n"
