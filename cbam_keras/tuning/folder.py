"""The folder of a search: the settings it was started with."""

import json
import pathlib
import time

from cbam_keras import _checks, _files, _run_folder

SETTINGS = "search.json"
# The supervisor of many workers writes there before the search begins.
LOGS = "logs"
# Within which a worker must find the chief's settings.
SECONDS_TO_BEGIN = 600.0


class SearchFolder:
    """Settings of a search, written down once and compared ever after.

    Args:
        path: Path of the folder.
        settings: Mapping of plain values, what makes the search what it is.
    """

    def __init__(self, path, settings):
        self.path = pathlib.Path(path)
        self.settings = _run_folder.as_written(settings)

    def begin(self, oracle, resume):
        """Writes the settings, or compares them and takes up the search."""
        if not (self.path / SETTINGS).exists():
            self._check_empty()
            _files.output_folder(self.path)
            self._write(oracle.max_trials)
            return
        if not resume:
            raise ValueError(
                "`output` must be a new or empty folder unless the search in "
                f'it is resumed. Received: output="{self.path}", which holds '
                "a search, resume=False. Resume it, or choose another folder"
            )
        _files.output_folder(self.path)
        before = self._compare()
        if oracle.max_trials != before:
            if oracle.max_trials is not None and (
                before is None or oracle.max_trials < before
            ):
                raise ValueError(
                    "`max_trials` may be raised when a search is resumed, "
                    f'not lowered. Received: output="{self.path}", '
                    f"max_trials={oracle.max_trials}, was {before}"
                )
            self._write(oracle.max_trials)
        if (self.path / "oracle.json").exists():
            oracle.reload()
        elif any(self.path.glob("trial_*")):
            raise ValueError(
                f'The search in output="{self.path}" cannot be resumed: '
                "oracle.json is missing. Put back a copy of it, or search "
                "again in another folder; the models of trials that ended "
                "are in their folders"
            )

    def agree(self):
        """Waits for the chief's settings, and raises if these differ."""
        end = time.monotonic() + SECONDS_TO_BEGIN
        if not (self.path / SETTINGS).exists():
            print(
                "Waiting for the chief of the search to begin in "
                f'"{self.path}"',
                flush=True,
            )
        while not (self.path / SETTINGS).exists():
            if time.monotonic() > end:
                raise RuntimeError(
                    "The chief of the search has not begun in "
                    f'"{self.path}" within {SECONDS_TO_BEGIN:.0f} s. Chief '
                    "and workers must see the same folder"
                )
            time.sleep(1)
        self._compare()

    def _check_empty(self):
        others = [name for name in _files.contents(self.path) if name != LOGS]
        if others:
            raise ValueError(
                "`output` must be a new or empty folder. Received: "
                f'output="{self.path}", which holds other files: '
                f"{_checks.first_few(others)}"
            )

    def _write(self, max_trials):
        _files.write_json(
            self.path / SETTINGS,
            {
                "settings": self.settings,
                "max_trials": max_trials,
                "versions": _run_folder.versions(),
            },
        )

    def _compare(self):
        """Raises if settings differ, and returns how many trials were set."""
        try:
            content = json.loads((self.path / SETTINGS).read_text())
            changed = _run_folder.differences(
                content["settings"], self.settings
            )
            max_trials = content["max_trials"]
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
        ) as error:
            raise self._damaged(error) from error
        if changed:
            raise ValueError(
                "A search must be resumed with the settings it was started "
                f'with. Received: output="{self.path}", changed: '
                + "; ".join(changed)
            )
        return max_trials

    def _damaged(self, error):
        return ValueError(
            f'The search in output="{self.path}" cannot be resumed: '
            f"{SETTINGS} is damaged ({type(error).__name__}: {error}). Put "
            "back a copy of it, or search again in another folder; the models "
            "of trials that ended are in their folders"
        )
