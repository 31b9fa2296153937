"""Starts the processes of a search on one machine, and ends them together."""

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
from cbam_keras.tuning.cluster import SUPERVISOR, WORKERS

# A process that dies so soon, so often, will do it again. Often enough that a
# trial which kills its worker is given up before.
SOON, OFTEN = 30.0, 6


def end_with_supervisor() -> None:
    """Ends this process soon after the supervisor that started it."""
    parent = os.environ.get(SUPERVISOR)
    if parent is None:
        return

    def watch():
        while os.getppid() == int(parent):
            time.sleep(0.5)
        # Nobody is left to read a traceback, or to wait for a clean end.
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def supervise(
    command: Sequence[str], workers: int, logs: str | os.PathLike
) -> int:
    """Runs a search on this machine: a chief and workers, until it is done.

    A process that dies is started again, and goes on where it stood. Ctrl-C
    and SIGTERM end all of them; if this process is killed, they end by
    themselves.

    Args:
        command: Sequence of strings, the command of one process of the
            search, to which `--chief --address ...` or `--worker --address
            ... --id ...` is added.
        workers: Positive integer.
        logs: Path of a folder for what the workers print.

    Returns:
        The exit status of the chief, or 1 if a process dies again and again.
    """
    return _Supervisor(command, workers, pathlib.Path(logs)).run()


class _Supervisor:
    def __init__(self, command, workers, logs):
        self.command = list(command)
        self.address = f"127.0.0.1:{_free_port()}"
        self.names = [f"worker-{number}" for number in range(workers)]
        self.logs = logs
        self.processes: dict[str, subprocess.Popen] = {}
        self.started: dict[str, float] = {}
        self.early = dict.fromkeys(["chief", *self.names], 0)

    def run(self):
        with _sigterm_as_interrupt():
            try:
                self._start("chief")
                while (status := self._until_listening()) is not None:
                    # What it told is for the user to mend; a signal is not.
                    if status >= 0:
                        return status
                    if not self._restart("chief", status):
                        return 1
                for name in self.names:
                    self._start(name)
                return self._watch()
            finally:
                self._end_all()

    def _start(self, name):
        role = ["--chief"] if name == "chief" else ["--worker", "--id", name]
        environment = {
            **os.environ,
            SUPERVISOR: str(os.getpid()),
            WORKERS: ",".join(self.names),
        }
        output = None
        if name == "chief":
            # It only counts; the accelerators are for the workers.
            environment["CUDA_VISIBLE_DEVICES"] = ""
        else:
            environment.update(
                _share(self.names.index(name), len(self.names), os.environ)
            )
            self.logs.mkdir(parents=True, exist_ok=True)
            output = (self.logs / f"{name}.log").open("a")
        self.processes[name] = subprocess.Popen(
            [*self.command, *role, "--address", self.address],
            env=environment,
            stdout=output,
            stderr=None if output is None else subprocess.STDOUT,
            # Ctrl-C reaches this process alone, which ends the others.
            start_new_session=True,
        )
        if output is not None:
            output.close()
        self.started[name] = time.monotonic()

    def _until_listening(self):
        """Waits for the chief; returns its status if it ended before."""
        host, port = parse_address(self.address)
        chief = self.processes["chief"]
        while chief.poll() is None:
            with contextlib.suppress(OSError):
                socket.create_connection((host, port), timeout=1).close()
                return None
            time.sleep(0.2)
        return chief.returncode

    def _watch(self):
        while True:
            time.sleep(0.2)
            for name, process in list(self.processes.items()):
                status = process.poll()
                if status is None:
                    continue
                if name == "chief" and status in (0, 1, 2):
                    # Done, or it has told what the user must mend.
                    return status
                if name != "chief" and status == 0:
                    # Told by the chief that nothing is left to do.
                    del self.processes[name]
                elif not self._restart(name, status):
                    return 1

    def _restart(self, name, status):
        lived = time.monotonic() - self.started[name]
        self.early[name] = self.early[name] + 1 if lived < SOON else 0
        log = "" if name == "chief" else f' (see "{self.logs / name}.log")'
        if self.early[name] >= OFTEN:
            print(
                f"{name} ended {OFTEN} times within {SOON:.0f} s of its "
                f"start, last {_cause(status)}{log}; the search stops here, "
                "and the same command goes on",
                file=sys.stderr,
                flush=True,
            )
            return False
        print(
            f"{name} ended {_cause(status)}{log}; it is started again",
            file=sys.stderr,
            flush=True,
        )
        # What it has done so far must not be overwritten.
        self.command = [part for part in self.command if part != "--overwrite"]
        self._start(name)
        return True

    def _end_all(self):
        """Lets workers that are told to end do so, then ends the rest."""
        living = [p for p in self.processes.values() if p.poll() is None]
        chief = self.processes.get("chief")
        if chief is not None and chief.poll() == 0:
            _wait(living, 5)
        for process in living:
            if process.poll() is None:
                process.terminate()
        _wait(living, 5)
        for process in living:
            if process.poll() is None:
                process.kill()
                process.wait()


def _wait(processes, seconds):
    end = time.monotonic() + seconds
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0, end - time.monotonic()))


@contextlib.contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """Lets SIGTERM end the work as Ctrl-C does, cleaning up on the way."""

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _share(index: int, workers: int, environment: Mapping[str, str]) -> dict:
    """Returns the settings that give a worker its part of the machine."""
    devices = _accelerators(environment)
    if devices:
        share = {"CUDA_VISIBLE_DEVICES": devices[index % len(devices)]}
        if workers > len(devices):
            # Else the first on a device would take all of its memory.
            share["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"
            share["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    else:
        threads = str(max(1, (os.cpu_count() or 1) // workers))
        share = {
            "OMP_NUM_THREADS": threads,
            "TF_NUM_INTRAOP_THREADS": threads,
            "TF_NUM_INTEROP_THREADS": threads,
        }
    # What the user has set holds, but for the devices, which are shared out.
    return {
        key: value
        for key, value in share.items()
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


def _cause(status):
    if status < 0:
        try:
            return f"by {signal.Signals(-status).name}"
        except ValueError:
            return f"by signal {-status}"
    return f"with exit status {status}"
