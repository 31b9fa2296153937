"""The processes of a search on one machine: started and ended together."""

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence

from cbam_keras._checks import parse_address

# KerasTuner's environment variables: the name of this process, and where the
# chief is.
TUNER = "KERASTUNER_TUNER_ID"
HOST = "KERASTUNER_ORACLE_IP"
PORT = "KERASTUNER_ORACLE_PORT"
# Ours, for processes that one command starts: the names of all workers, and
# the id of the process that starts them.
WORKERS = "CBAM_KERAS_WORKERS"
STARTER = "CBAM_KERAS_STARTER"

# What a process gets to end by itself.
SECONDS_TO_END = 5.0


def join(role: str, address: str) -> None:
    """Makes this process the chief, or the worker of that name, of a search.

    Args:
        role: String, `"chief"` or the name of a worker.
        address: String, `"host:port"` of the chief.
    """
    host, port = parse_address(address)
    os.environ.update({TUNER: role, HOST: host, PORT: str(port)})


def end_with_starter() -> bool:
    """Ends this process soon after the one that started it.

    Returns:
        Whether `run_workers` has started this process.
    """
    starter = os.environ.get(STARTER)
    if starter is None:
        return False

    def watch():
        while os.getppid() == int(starter):
            time.sleep(0.5)
        # The main thread may be in a long computation, and not notice.
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(SECONDS_TO_END)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    return True


def run_workers(
    command: Sequence[str], workers: int, logs: str | os.PathLike
) -> int:
    """Runs a search on this machine: a chief and workers, until it is done.

    The chief hands out trials. When they have ended, the same command runs
    once more, alone on all devices, for what comes after the trials.

    A worker that dies is not started again: its trial goes to another one,
    and when none is left, the search stops. Nothing is lost, and the same
    command resumes it. Ctrl-C and SIGTERM end all processes; if this process
    is killed, they end by themselves.

    Args:
        command: Sequence of strings, the command of every process. Which one
            it is, a process reads from its environment.
        workers: Positive integer.
        logs: Path of a folder for what the workers print.

    Returns:
        The exit status of the last process, or 1 if no worker is left or a
        process was killed.
    """
    names = [f"worker-{number}" for number in range(workers)]
    shared = {
        **os.environ,
        STARTER: str(os.getpid()),
        WORKERS: ",".join(names),
        HOST: "127.0.0.1",
        PORT: str(_free_port()),
    }
    logs = pathlib.Path(logs)
    processes = {}
    with _sigterm_as_interrupt():
        try:
            # The chief computes nothing; accelerators are for the workers.
            own = {TUNER: "chief", "CUDA_VISIBLE_DEVICES": ""}
            chief = subprocess.Popen(
                command, env={**shared, **own}, start_new_session=True
            )
            processes["chief"] = chief
            if _listens(chief, int(shared[PORT])):
                processes.update(_start_workers(command, names, shared, logs))
            status = _wait_for_end(processes, logs)
            if status == 0:
                _end_all(processes.values())
                last = subprocess.Popen(
                    command,
                    env={**os.environ, STARTER: str(os.getpid())},
                    start_new_session=True,
                )
                processes["last"] = last
                status = _status("last process", last, last.wait())
            return status
        finally:
            _end_all(processes.values())


def _start_workers(command, names, shared, logs):
    """Returns the workers by their names, each with a log."""
    logs.mkdir(parents=True, exist_ok=True)
    processes = {}
    for index, name in enumerate(names):
        part = _part_of_machine(index, len(names), os.environ)
        with (logs / f"{name}.log").open("a") as log:
            processes[name] = subprocess.Popen(
                command,
                env={**shared, **part, TUNER: name},
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C reaches this process alone.
                start_new_session=True,
            )
    return processes


def _listens(chief, port):
    """Waits until the chief listens; returns `False` if it has ended."""
    while chief.poll() is None:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return True
        time.sleep(0.2)
    return False


def _wait_for_end(processes, logs):
    """Returns the exit status when the chief has ended, or every worker."""
    chief, running = processes["chief"], {**processes}
    while chief.poll() is None:
        time.sleep(0.2)
        for name, process in list(running.items()):
            # A worker exits with 0 when the chief has said that all is done.
            if name == "chief" or process.poll() in (None, 0):
                continue
            del running[name]
            _warn(
                f"{name} ended {_cause(process)} (see "
                f'"{logs / name}.log"); its trial goes to another worker'
            )
        if list(running) == ["chief"]:
            _warn("No worker is left; the same command resumes the search")
            return 1
    return _status("chief", chief, chief.returncode)


def _status(name, process, code):
    """Returns the exit status to pass on."""
    if code < 0:
        _warn(f"{name} ended {_cause(process)}; the same command resumes")
        return 1
    return code


def _warn(text):
    print(text, file=sys.stderr, flush=True)


def _cause(process):
    if process.returncode < 0:
        return f"by {signal.Signals(-process.returncode).name}"
    return f"with exit status {process.returncode}"


def _end_all(processes):
    for process in processes:
        process.terminate()
    end = time.monotonic() + SECONDS_TO_END
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0, end - time.monotonic()))
        process.kill()
        process.wait()


@contextlib.contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """Makes SIGTERM raise an exception, as Ctrl-C does."""

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _part_of_machine(
    index: int, workers: int, environment: Mapping[str, str]
) -> dict[str, str]:
    """Returns the variables that give a worker its part of the machine."""
    devices = _accelerators(environment)
    if devices:
        part = {"CUDA_VISIBLE_DEVICES": devices[index % len(devices)]}
        if workers > len(devices):
            # Else the first on a device would take all of its memory.
            part["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"
            part["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    else:
        threads = str(max(1, (os.cpu_count() or 1) // workers))
        part = {
            "OMP_NUM_THREADS": threads,
            "TF_NUM_INTRAOP_THREADS": threads,
            "TF_NUM_INTEROP_THREADS": threads,
        }
    # What the user has set holds, but for the devices, which are shared out.
    return {
        key: value
        for key, value in part.items()
        if key == "CUDA_VISIBLE_DEVICES" or key not in environment
    }


def _accelerators(environment):
    """Returns the GPUs that may be used, as CUDA names them."""
    named = environment.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name for name in named.split(",") if name.strip()]
    try:
        listed = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    lines = [line for line in listed.stdout.splitlines() if line[:4] == "GPU "]
    return [str(index) for index in range(len(lines))]


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
