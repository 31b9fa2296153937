"""The output folder of a search."""

import time

from cbam_keras._run_folder import RunFolder
from cbam_keras.tuning.confirmation import PATTERNS

# `run_workers` writes there before the search begins.
LOGS = "logs"
# How long a worker waits for the chief to begin the search, in seconds.
SECONDS_TO_BEGIN = 600.0


class SearchFolder(RunFolder):
    """The output folder of a search, with a subfolder per trial.

    Args:
        output: Path of the folder.
        settings: Mapping of plain values, see `RunFolder`.
        max_trials: Integer or `None`. May be raised on resuming.
    """

    kind = "search"
    file = "search.json"
    early = (LOGS,)

    def __init__(self, output, settings, max_trials=None):
        super().__init__(output, settings)
        self.max_trials = max_trials

    def new_content(self):
        return {"max_trials": self.max_trials}

    def check_content(self, content):
        content["max_trials"]

    def check_resumed(self, content):
        before = content["max_trials"]
        if self.max_trials not in (None, before) and (
            before is None or self.max_trials < before
        ):
            raise ValueError(
                "`max_trials` may be raised when a search is resumed, not "
                f'lowered. Received: output="{self.path}", '
                f"max_trials={self.max_trials}, was {before}"
            )

    def patterns(self, content):
        return [
            *("oracle.json", "results.json", "trials.csv"),
            *("best.json", "best.keras", "effects.png", "pareto.png"),
            *(
                f"trial_[0-9]*/{file}"
                for file in (
                    *("trial.json", "outcome.json", "attempts.json"),
                    *("checkpoints/state.json", "checkpoints/*.keras"),
                )
            ),
            *(f"{LOGS}/*.log", "tensorboard/*"),
            *PATTERNS,
        ]

    def reload(self, oracle):
        """Gives the oracle its state if the search is resumed."""
        if self.content["max_trials"] != self.max_trials:
            self.content["max_trials"] = self.max_trials
            self.write()
        if (self.path / "oracle.json").exists():
            oracle.reload()
        elif any(self.path.glob("trial_*")):
            raise ValueError(
                f'The search in output="{self.path}" cannot be resumed: '
                "oracle.json is missing. Put back a copy of it, choose "
                "another folder, or start again with overwrite=True; the "
                "models of finished trials are in their folders"
            )

    def join(self):
        """Waits until the chief has begun the search, for its workers."""
        end = time.monotonic() + SECONDS_TO_BEGIN
        path = self.path / self.file
        if not path.exists():
            print(
                "Waiting for the chief of the search to begin in "
                f'"{self.path}"',
                flush=True,
            )
        while not path.exists():
            if time.monotonic() > end:
                raise RuntimeError(
                    "The chief of the search has not begun in "
                    f'"{self.path}" within {SECONDS_TO_BEGIN:.0f} s. Chief '
                    "and workers must see the same folder"
                )
            time.sleep(1)
        self.content = self.read()
