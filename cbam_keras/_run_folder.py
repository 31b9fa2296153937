"""The output folder of a run: named, started, resumed or overwritten."""

import contextlib
import contextvars
import fnmatch
import json
import os
import pathlib
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from cbam_keras import _checks, _files, _process
from cbam_keras._files import Damaged
from cbam_keras._version import __version__

# The files that hold the settings of a run. A search has both.
SETTINGS_FILES = ("search.json", "results.json")
# The page that a command writes about a run.
REPORT = "report.html"
# The subfolder with what `explain` draws of the networks for that page.
LOOKS = "explain"
# What reading a damaged file raises.
DAMAGE = (OSError, ValueError, KeyError, TypeError, AttributeError)


# The command of the runs, and what to call with their folders at the end.
_NOBODY = None, None
_caller = contextvars.ContextVar[tuple]("caller", default=_NOBODY)


@contextlib.contextmanager
def started_by(
    command: str | None, report: Callable[[pathlib.Path], Any] | None
) -> Iterator[None]:
    """Context of runs that a command starts.

    Args:
        command: String, the command, which the files of the runs tell.
        report: Function that is called with the folder of each run when it
            ends, is interrupted or fails; or `None`.
    """
    token = _caller.set((command, report))
    try:
        yield
    finally:
        _caller.reset(token)


class RunFolder:
    """The output folder of a run, for one process at a time.

    A subclass for each kind of run names its files. The file `file` holds the
    settings of the run and what is known of it so far, as `content`.

    Args:
        output: Path of the folder.
        settings: Mapping of plain values that define the run. A run is
            resumed only with the settings it was started with.

    Raises:
        TypeError: If `output` is not a path or a setting not a plain value.
    """

    # What the run is called, in `file` and in messages.
    kind: str
    file = "results.json"
    # Names of what may be in the folder before the run begins.
    early: Sequence[str] = ()

    def __init__(self, output: Any, settings: Mapping[str, Any]):
        self.path = folder_path(output)
        self.settings = as_written(settings)
        self.content: dict[str, Any] = {}

    def new_content(self) -> dict[str, Any]:
        """Returns what `file` holds at first besides the settings."""
        return {}

    def check_content(self, content: dict[str, Any]) -> None:
        """Raises any `KeyError`, `TypeError` or the like if it is damaged."""

    def check_resumed(self, content: dict[str, Any]) -> None:
        """Raises a `ValueError` if the run cannot be resumed as asked."""

    def changes(self, before: dict[str, Any]) -> list[str]:
        """Returns a line for each setting that differs from `before`."""
        return differences(before, self.settings)

    def patterns(self, content: dict[str, Any]) -> Sequence[str]:
        """Returns glob patterns of all files that the run writes."""
        return ()

    @contextlib.contextmanager
    def opened(
        self, *, resume: bool = True, overwrite: bool = False
    ) -> Iterator[None]:
        """Locks the folder, and begins or resumes the run in it.

        Args:
            resume: Boolean, whether a run in the folder may be resumed.
            overwrite: Boolean, whether the files of a run in the folder are
                deleted first.

        Raises:
            ValueError: If the folder holds something else or another run, if
                the run in it is damaged or was started with other settings,
                if another process works in it, or if it cannot be written.
            RuntimeError: If the disk is full or becomes read-only later.
        """
        # A folder that is refused is left untouched, so check first.
        self._check(resume, overwrite)
        _files.output_folder(self.path)
        with (
            _files.writing_to(self.path),
            _files.locked(self.path),
            _process.noted(),
        ):
            # Another process may have changed it in the meantime.
            content = self._check(resume, overwrite)
            if overwrite:
                self._clear()
            if content is None:
                self.content = {
                    "kind": self.kind,
                    "settings": self.settings,
                    "versions": versions(),
                    **self.new_content(),
                }
                self.write()
            else:
                self.content = content
            with self._reported():
                yield

    @contextlib.contextmanager
    def _reported(self):
        """Context that notes the command of the run, and reports its end."""
        command, report = _caller.get()
        if command not in (None, self.content.get("command")):
            self.content["command"] = command
            self.write()
        # Runs within this one are its parts.
        token = _caller.set(_NOBODY)
        try:
            yield
        finally:
            _caller.reset(token)
            if report is not None and (self.path / self.file).exists():
                report(self.path)

    def write(self) -> None:
        """Writes `content` to the file of the run."""
        _files.write_json(self.path / self.file, self.content)

    def read(self) -> dict[str, Any]:
        """Returns the content on disk, after comparing its settings."""
        content = self._read(self.file)
        if changed := self.changes(content["settings"]):
            raise ValueError(
                f"The {self.kind} must be resumed with the settings it was "
                f'started with. Received: output="{self.path}", changed: '
                f"{'; '.join(changed)}. Choose another folder, or overwrite "
                "it (overwrite=True, or --overwrite on the command line)"
            )
        return content

    def _check(self, resume, overwrite):
        """Returns the content of the run to resume, or `None` to begin."""
        found = [n for n in SETTINGS_FILES if (self.path / n).exists()]
        if not found:
            others = [
                n for n in self._names() if n not in (*self.early, REPORT)
            ]
            if others:
                raise self._refused(f"other files: {_checks.first_few(others)}")
            return None
        if overwrite:
            self._check_own(found[0])
            return None
        if found[0] != self.file:
            self._read(found[0])
        content = self.read()
        if not resume:
            raise ValueError(
                f"`output` must be a new or empty folder unless the "
                f"{self.kind} in it is resumed. Received: "
                f'output="{self.path}", which holds one, resume=False. Resume '
                "it (resume=True), overwrite it (overwrite=True), or choose "
                "another folder"
            )
        self.check_resumed(content)
        return content

    def _read(self, name):
        """Returns the content of a run of this kind, settings unseen."""
        try:
            content = self._parsed(name)
        except DAMAGE as error:
            raise Damaged(
                f'The {self.kind} in output="{self.path}" cannot be resumed: '
                f"{name} is damaged ({type(error).__name__}: {error}). Put "
                "back a copy of it, choose another folder, or start again "
                "with overwrite=True (--overwrite on the command line)"
            ) from error
        if content["kind"] != self.kind:
            raise self._refused(f"another run ({content['kind']})")
        if content.get("overwriting"):
            raise ValueError(
                f'The {self.kind} in output="{self.path}" was being '
                "overwritten when its process ended. Give overwrite=True "
                "again (--overwrite on the command line)"
            )
        return content

    def _parsed(self, name):
        content = json.loads((self.path / name).read_text())
        if content["kind"] == self.kind:
            if not isinstance(content["settings"], dict):
                raise TypeError("settings are not a mapping")
            self.check_content(content)
        return content

    def _refused(self, held):
        return ValueError(
            "`output` must be a new or empty folder, or hold the "
            f'{self.kind} to resume. Received: output="{self.path}", which '
            f"holds {held}"
        )

    def _names(self):
        """Returns the names in the folder, without what a crash left."""
        if not self.path.is_dir():
            return []
        return sorted(
            path.name
            for path in self.path.iterdir()
            if not path.name.startswith(_files.UNFINISHED)
            and path.name != _files.LOCK
        )

    def _check_own(self, name):
        """Raises unless every file belongs to a run of this kind."""
        try:
            self.content = self._parsed(name)
        except DAMAGE:
            # Its name says what it was.
            self.content = {"kind": self.kind if name == self.file else name}
        if self.content["kind"] != self.kind:
            raise self._refused(f"another run ({self.content['kind']})")
        patterns = self.patterns(self.content)
        foreign = [
            str(path.relative_to(self.path))
            for path in sorted(self.path.rglob("*"))
            if (path.is_symlink() or not path.is_dir())
            and not self._owns(path, patterns)
        ]
        if foreign:
            raise ValueError(
                "A run is overwritten only if its folder holds nothing else. "
                f'Received: overwrite=True, output="{self.path}", which also '
                f"holds {_checks.first_few(foreign)}. Move that, or choose "
                "another folder"
            )

    def _owns(self, path, patterns):
        name = path.relative_to(self.path).as_posix()
        return (
            name in (self.file, REPORT)
            or name.startswith(f"{LOOKS}/")
            or path.name == _files.LOCK
            or path.name.startswith(_files.UNFINISHED)
            or any(
                fnmatch.fnmatchcase(name.removesuffix(_files.DAMAGED), pattern)
                for pattern in patterns
            )
        )

    def _clear(self):
        """Deletes all files but the one with the settings, and the lock."""
        if not (self.path / self.file).exists():
            return
        # Killed on the way, the rest must not be taken for a run.
        self.content["overwriting"] = True
        self.write()
        kept = (self.path / self.file, self.path / _files.LOCK)
        # What lies in a folder comes after it.
        for path in sorted(self.path.rglob("*"), reverse=True):
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            elif path not in kept:
                path.unlink()


def folder_path(output: Any) -> pathlib.Path:
    """Returns `output` as a path, or raises if it cannot be one."""
    if not isinstance(output, (str, os.PathLike)):
        raise TypeError(
            "`output` must be the path of a folder. Received: "
            f"output={output!r}"
        )
    return pathlib.Path(output)


def default_output(command: str, data: str, model: str) -> pathlib.Path:
    """Returns the default folder of a run, as `runs/train-mnist5k-small`.

    Args:
        command: String, the subcommand that does the same.
        data: String, the name of the dataset.
        model: String, the name of the network.
    """
    # Configurations of a dataset are written "name/configuration".
    parts = (re.sub(r"[^\w.+-]+", "-", p) for p in (command, data, model))
    return pathlib.Path("runs") / "-".join(part.strip("-.") for part in parts)


def as_written(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns settings as they will read from a file, tuples as lists."""
    return json.loads(json.dumps(settings, default=_plain))


def _plain(value):
    """Returns a NumPy number as JSON can hold it."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(
        "Settings and options of a run must be plain values (numbers, "
        f"strings, lists), to be written to a file. Received: {value!r}"
    )


def differences(
    old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = ""
) -> list[str]:
    """Returns a line for each value that differs between two mappings."""
    lines = []
    for key in {**old, **new}:
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            lines += differences(before, after, f"{prefix}{key}.")
        elif before != after:
            lines.append(f"{prefix}{key} was {before!r}, is {after!r}")
    return lines


def versions() -> dict[str, str]:
    """Returns the versions of what a run depends on, by name."""
    backend = keras.backend.backend()
    return {
        "cbam_keras": __version__,
        "keras": keras.__version__,
        backend: _checks.require(backend, extra=backend).__version__,
        "numpy": np.__version__,
        "python": sys.version.split()[0],
    }
