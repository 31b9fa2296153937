"""The chief of a search on many processes, which hands out its trials."""

import os
import time

from cbam_keras.tuning.remote import start_server
from cbam_keras.tuning.results import beginning, ending
from cbam_keras.tuning.workers import HOST, PORT, WORKERS

# A worker calls every few seconds while it trains.
SECONDS_OF_SILENCE = 60.0


def serve(oracle) -> None:
    """Answers the workers of a search until all of its trials have ended.

    Unlike KerasTuner's own loop, it gives the trial of a silent worker to the
    next one, and ends when no worker is left to be answered.
    """
    server = start_server(oracle, f"{os.environ[HOST]}:{os.environ[PORT]}")
    try:
        _forget_others(oracle)
        printer = _Printer(oracle)
        while not (oracle.finished and not oracle.tuner_ids):
            time.sleep(0.2)
            _requeue_silent(oracle)
            printer.update()
    finally:
        server.stop(grace=2).wait()


class _Printer:
    """Prints which trials begin and end."""

    def __init__(self, oracle):
        self.oracle = oracle
        self.ended = len(oracle.end_order)
        # Pairs of a worker and a trial.
        self.begun = set()

    def update(self):
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
            # It may have begun and ended since the last update.
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
    """Requeues the trials of workers that this search no longer has."""
    if WORKERS in os.environ:
        names = os.environ[WORKERS].split(",")
        for worker in set(oracle.ongoing_trials) - set(names):
            oracle.requeue(worker)


def _requeue_silent(oracle):
    now = time.monotonic()
    for worker, heard in list(oracle.heard.items()):
        known = worker in oracle.ongoing_trials or worker in oracle.tuner_ids
        if known and now - heard > SECONDS_OF_SILENCE:
            print(
                f"{worker} has not been heard for {SECONDS_OF_SILENCE:.0f} s; "
                "its trial goes to the next worker",
                flush=True,
            )
            oracle.requeue(worker)
