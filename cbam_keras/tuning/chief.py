"""A search on many processes: its chief, and who looks after all of them."""

import os
import time

from cbam_keras import _checks
from cbam_keras.tuning.cluster import HOST, PORT, WORKERS
from cbam_keras.tuning.results import beginning, ending

# A worker is heard every few seconds while it trains.
SILENCE = 60.0


def serve(oracle) -> None:
    """Answers the workers of a search until all of its trials are done.

    Workers talk to it as KerasTuner's do. What differs from KerasTuner's own
    server: a worker that falls silent loses its trial to the next one, and
    the server ends when there is nobody left to answer.
    """
    futures = _checks.require("concurrent.futures", extra="tune")
    grpc = _checks.require("grpc", extra="tune")
    # KerasTuner offers neither in public.
    protos = _checks.require("keras_tuner.src.protos", extra="tune")
    chief = _checks.require(
        "keras_tuner.src.distribute.oracle_chief", extra="tune"
    )
    address = f"{os.environ[HOST]}:{os.environ[PORT]}"
    server = grpc.server(
        futures.ThreadPoolExecutor(max_workers=1),
        # Else a second chief would share the port, and the workers.
        options=[("grpc.so_reuseport", 0)],
    )
    protos.get_service_grpc().add_OracleServicer_to_server(
        chief.OracleServicer(oracle), server
    )
    try:
        server.add_insecure_port(address)
    except RuntimeError as error:
        raise ValueError(
            "The chief must listen on a free port of its own machine. "
            f"Received: address={address!r}, which cannot be bound"
        ) from error
    _forget_others(oracle)
    crier = _Crier(oracle)
    server.start()
    try:
        while not (oracle.finished and not oracle.tuner_ids):
            time.sleep(0.2)
            _requeue_silent(oracle)
            crier.cry()
    finally:
        server.stop(grace=2).wait()


class _Crier:
    """Prints what the workers of a search do, trial by trial."""

    def __init__(self, oracle):
        self.oracle = oracle
        self.ended = len(oracle.end_order)
        # Which worker is known to run which trial.
        self.begun = set()

    def cry(self):
        with self.oracle.lock:
            running = [
                (worker, trial.trial_id, trial.hyperparameters.values)
                for worker, trial in self.oracle.ongoing_trials.items()
            ]
            ended = self.oracle.end_order[self.ended :]
            outcomes = [self.oracle.outcomes[trial_id] for trial_id in ended]
            best = self.oracle.best
        self.ended += len(ended)
        for trial_id, outcome in zip(ended, outcomes, strict=True):
            # It may have been too quick to be seen running.
            self._begin(outcome["worker"], trial_id, outcome["values"])
            print(ending(int(trial_id), outcome, best), flush=True)
        for worker, trial_id, values in running:
            self._begin(worker, trial_id, values)

    def _begin(self, worker, trial_id, values):
        if (worker, trial_id) not in self.begun:
            self.begun.add((worker, trial_id))
            line = beginning(int(trial_id), self.oracle.max_trials, values)
            print(f"{line} ({worker})", flush=True)


def _forget_others(oracle):
    """Gives back the trials of workers that this search no longer has."""
    if WORKERS in os.environ:
        for worker in set(oracle.ongoing_trials) - set(
            os.environ[WORKERS].split(",")
        ):
            oracle.requeue(worker)
    for worker in oracle.ongoing_trials:
        oracle.heard.setdefault(worker, time.monotonic())


def _requeue_silent(oracle):
    now = time.monotonic()
    for worker, heard in list(oracle.heard.items()):
        known = worker in oracle.ongoing_trials or worker in oracle.tuner_ids
        if known and now - heard > SILENCE:
            print(
                f"{worker} has not been heard for {SILENCE:.0f} s; its trial "
                "goes to the next worker",
                flush=True,
            )
            oracle.requeue(worker)
