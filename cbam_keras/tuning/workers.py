"""KerasTuner's chief and workers, as processes on this machine."""

import functools
import socket
import time
from typing import Any

from cbam_keras import _checks, study

# KerasTuner's variables: the name of a process, where the chief is.
NAME = "KERASTUNER_TUNER_ID"
HOST, PORT = "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT"
CHIEF = "chief"
# Between two looks at the workers.
SECONDS_BETWEEN_LOOKS = 0.2
# How often workers that died are started again.
MAX_RESTARTS = 10


def run_workers(call: Any, output: Any, workers: int) -> None:
    """Runs the trials by KerasTuner's chief and workers, and waits for them."""
    payload = study.payload_of(
        functools.partial(call, output=output, overwrite=False, workers=1)
    )
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = str(listener.getsockname()[1])
    names = [CHIEF, *(f"worker-{number}" for number in range(workers))]
    restarts = MAX_RESTARTS
    running: dict[str, study.Worker] = {}

    def start(name):
        variables = {NAME: name, HOST: "127.0.0.1", PORT: port}
        if name == CHIEF:
            # It computes nothing; accelerators are for the workers.
            variables["CUDA_VISIBLE_DEVICES"] = ""
        index = max(names.index(name) - 1, 0)
        running[name] = study.Worker(index, workers, payload, variables)

    try:
        for name in names:
            start(name)
        while running.keys() - {CHIEF}:
            time.sleep(SECONDS_BETWEEN_LOOKS)
            for name, worker in list(running.items()):
                if worker.process.poll() is None:
                    continue
                failure = worker.wait()
                running.pop(name).end()
                if failure and (name == CHIEF or not restarts):
                    raise RuntimeError(
                        f'{failure}. All files in "{output}" are whole, and '
                        "the same call resumes"
                    )
                if failure:
                    _checks.warn(f"{failure}. It is started again")
                    restarts -= 1
                    start(name)
    finally:
        for worker in running.values():
            worker.end()
