"""`StudyFolder`: the output folder of a study, its files and locks."""

import contextlib
import csv
import dataclasses
import fnmatch
import glob
import json
import os
import pathlib
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from typing import Any

import keras

from cbam_keras import _checks, _files, _process
from cbam_keras._files import Damaged
from cbam_keras._run_folder import (
    DAMAGE,
    EXPLANATIONS,
    FORMAT,
    REPORT,
    RESULTS,
    as_written,
    differences,
    folder_path,
    started_by,
    starter,
    versions,
)
from cbam_keras.study.cell import RETRIED, Outcome
from cbam_keras.study.study import Study, check_name

# The subfolder with locks, and the checkpoints of unfinished networks.
CELLS = ".cells"
# All that runs of any kind write, beside the network of each cell.
FILES = (
    *(RESULTS, REPORT, f"{EXPLANATIONS}/*", f"{CELLS}/*", "tensorboard/*"),
    *("history.csv", "curves.png", "tables.md", "tables.csv", "ablation.png"),
    *("detections.png", "detections.npz", "trials.csv", "best.json"),
    *("best.keras", "effects.png", "pareto.png", "confirmation/*"),
)
# Settings of which a call may have others than the run, and adds them.
GROWING = ("variants", "data")
# How long a file of another process may take to appear, in seconds.
SECONDS_TO_APPEAR = 60
ADVICE = (
    "Choose another folder, or overwrite it (overwrite=True, or --overwrite "
    "on the command line)"
)


class StudyFolder:
    """The output folder of a study.

    `results.json` holds the settings and the outcomes of all cells that have
    been trained, `.cells` the checkpoints of those under training. Several
    processes may work in one folder: each claims a cell before it trains it,
    and holds the lock of the folder while it writes beside `.cells`.

    Args:
        output: Path of the folder.
        study: A `Study`.
        data: What its task loads for the first seed.
        writes: Boolean. Of several processes that train one network, one
            writes. Defaults to `True`.

    Raises:
        TypeError: If `output` is not a path or a setting not a plain value.
    """

    def __init__(
        self, output: Any, study: Study, data: Any, *, writes: bool = True
    ):
        self.path = folder_path(output)
        self.study = study
        self.writes = writes
        self.content: dict[str, Any] = {}
        description = data.describe()
        recipe = dataclasses.asdict(study.recipe)
        # The description of the data has the size of images.
        for name in ("seed", "image_size"):
            del recipe[name]
        for name in ("augment", "batch_size"):
            recipe[name] = description.get(name, recipe[name])
        budget = study.budget and dataclasses.asdict(study.budget)
        self.settings = as_written(
            {
                **study.settings,
                "recipe": recipe,
                **({"budget": budget} if budget else {}),
                "backend": keras.backend.backend(),
                "variants": {v.name: v.describe() for v in study.variants},
                "data": {str(study.seeds[0]): description},
            }
        )
        self.class_names = list(data.class_names)
        # Where it is may change without being another dataset.
        self.source = getattr(data, "source", None)

    @contextlib.contextmanager
    def opened(
        self, *, resume: bool = True, overwrite: bool = False, retry=True
    ) -> Iterator[None]:
        """Begins, resumes or joins the run in the folder.

        Args:
            resume: Boolean, whether a run in the folder may be resumed.
            overwrite: Boolean, whether the files of a run in the folder are
                deleted first.
            retry: Boolean, whether what failed is to be trained again.

        Raises:
            ValueError: If the folder holds something else or another run, if
                the run in it is damaged or was started with other settings,
                if another process works in it and it is to be overwritten,
                or if it cannot be written.
            RuntimeError: If the disk is full or becomes read-only later.
        """
        # A folder that is refused is left untouched, so check first.
        self._check(resume, overwrite)
        _files.output_folder(self.path)
        command, on_end = starter()
        with _files.writing_to(self.path), _process.noted():
            with self.locked():
                # Another process may have changed it in the meantime.
                content = self._check(resume, overwrite)
                if overwrite:
                    self._clear()
                self._begin(content, command, retry)
            try:
                # Runs within this one are its parts.
                with started_by(None, None):
                    yield
            finally:
                self._tidy()
                if on_end is not None and (self.path / RESULTS).exists():
                    on_end(self.path)

    def locked(self) -> contextlib.AbstractContextManager[None]:
        """Context in which this process may write beside `.cells`."""
        return _files.waiting_lock(self.path / _files.LOCK)

    def claim(
        self, variant: str, seed: int
    ) -> contextlib.AbstractContextManager[None]:
        """Context in which no other process trains this cell.

        Raises:
            InUse: If another process does.
        """
        return _files.locked(self.cell(variant, seed, ".lock"))

    def cell(self, variant: str, seed: int, suffix: str = "") -> pathlib.Path:
        """Returns the folder with the checkpoints of a cell."""
        return self.path / CELLS / f"{variant}-seed{seed}{suffix}"

    def refresh(self) -> None:
        """Reads what other processes have written."""
        self.content = self._read()

    def join(self) -> None:
        """Waits for the run that the writing process has begun."""
        # A network file system may show a new file later.
        for _ in range(SECONDS_TO_APPEAR):
            if (self.path / RESULTS).exists():
                self.content = self._compared(self._read())
                return
            time.sleep(1)
        raise ValueError(
            "`output` must be one folder that all processes share. Received: "
            f'output="{self.path}", where this process cannot see what '
            "process 0 has written"
        )

    def outcome(self, variant: str, seed: int) -> Outcome | None:
        """Returns the outcome of a cell that has been trained, or `None`."""
        for cell in self.content["cells"]:
            if (cell["variant"], cell["seed"]) == (variant, seed):
                return Outcome(**cell)
        return None

    def record(
        self, outcome: Outcome, best: pathlib.Path | None = None
    ) -> None:
        """Adds an outcome, and deletes the checkpoints of its cell.

        Args:
            outcome: An `Outcome`.
            best: Path of the network to keep, copied into the folder.
                Defaults to `None`.
        """
        if not self.writes:
            return
        cell = outcome.variant, outcome.seed
        with self.locked():
            self.refresh()
            if best is not None:
                name = f"{self._name(*cell)}.keras"
                with _files.replacing(self.path / name) as beside:
                    shutil.copyfile(best, beside)
                outcome = dataclasses.replace(outcome, file=name)
            cells = [
                known
                for known in self.content["cells"]
                if (known["variant"], known["seed"]) != cell
            ]
            cells.append(as_written(dataclasses.asdict(outcome)))
            variants = list(self.content["settings"]["variants"])
            cells.sort(
                key=lambda known: (
                    self.content["seeds"].index(known["seed"]),
                    variants.index(known["variant"]),
                )
            )
            self.content["cells"] = cells
            self.write_history()
            self._write()
        shutil.rmtree(self.cell(*cell), ignore_errors=True)

    def add_data(self, seed: int, data: Any) -> None:
        """Adds the data of one more seed to the settings."""
        self.settings["data"] = {str(seed): as_written(data.describe())}
        if not self.writes or str(seed) in self.content["settings"]["data"]:
            self._compared(self.content)
            return
        with self.locked():
            self.content = self._compared(self._read())
            self._grow()
            self._write()

    def add(self, **values: Any) -> None:
        """Adds plain values to `results.json`, within `locked`."""
        self.refresh()
        content = self.content | as_written(values)
        if content != self.content:
            self.content = content
            self._write()

    @contextlib.contextmanager
    def drawing(self, results: Any, **options: Any) -> Iterator[bool]:
        """Gives whether figures and tables of these results are to be made.

        At its end it is noted that they are, with the verdict. Within
        `locked`.

        Args:
            results: A `Results`.
            **options: Plain values that they depend on too.
        """
        drawn = {
            "networks": [[o.variant, o.seed] for o in results.finished],
            "seeds": results.seeds,
            **options,
        }
        yield self.content.get("drawn") != as_written(drawn)
        self.add(drawn=drawn, verdict=results.verdict, **options)

    def write_history(self, outcome: Outcome | None = None) -> None:
        """Writes the epochs of all cells as CSV, within `locked`.

        Args:
            outcome: An `Outcome` of a cell under training. Defaults to
                `None`.
        """
        cells = [Outcome(**cell) for cell in self.content["cells"]]
        rows = history_rows(
            cells if outcome is None else [*cells, outcome], self._several
        )
        if not rows:
            return
        names = dict.fromkeys(name for row in rows for name in row)
        with _files.replacing(self.path / "history.csv") as beside:
            with beside.open("w", newline="") as file:
                writer = csv.DictWriter(file, names)
                writer.writeheader()
                writer.writerows(rows)

    def forget_if_untrained(self) -> None:
        """Deletes `results.json` if no network was trained for an epoch."""
        with self.locked():
            self.refresh()
            if not any(cell["history"] for cell in self.content["cells"]):
                (self.path / RESULTS).unlink()

    @property
    def _several(self):
        return len(self.content["seeds"]) > 1

    def _name(self, variant, seed):
        """Returns the name of the network of a cell."""
        return f"{variant}-seed{seed}" if self._several else variant

    def _write(self):
        _files.write_json(self.path / RESULTS, self.content)

    def _begin(self, content, command, retry):
        """Writes what is known at the start, within `locked`."""
        new = content is None
        self.content = self._new() if new else content
        before = json.dumps(self.content)
        self.content["command"] = command or self.content["command"]
        if self.source is not None:
            self.content["source"] = self.source
        if self.study.baseline is not None:
            self.content["baseline"] = self.study.baseline
        if retry:
            self.content["cells"] = [
                cell
                for cell in self.content["cells"]
                if cell["status"] not in RETRIED
            ]
        self._grow()
        if new or json.dumps(self.content) != before:
            self._write()

    def _new(self):
        """Returns what `results.json` holds at first."""
        return {
            "format": FORMAT,
            "kind": self.study.kind,
            "command": None,
            "settings": self.settings,
            "versions": versions(),
            "measure": self.study.task.measure,
            "measure_name": self.study.task.measure_name,
            "baseline": None,
            "class_names": self.class_names,
            "source": self.source,
            "seeds": list(self.study.seeds),
            "cells": [],
        }

    def _grow(self):
        """Adds more seeds and variants to the content."""
        settings = self.content["settings"]
        for key in GROWING:
            settings[key] = {**settings[key], **self.settings[key]}
        seeds = [*self.content["seeds"], *self.study.seeds]
        self.content["seeds"] = list(dict.fromkeys(seeds))
        for cell in self.content["cells"]:
            # One seed became several; or a process died in between.
            name = f"{self._name(cell['variant'], cell['seed'])}.keras"
            if cell["file"] not in (None, name):
                with contextlib.suppress(FileNotFoundError):
                    os.replace(
                        self.path / f"{cell['variant']}.keras",
                        self.path / name,
                    )
                cell["file"] = name

    def _check(self, resume, overwrite):
        """Returns the content of the run to resume, or `None` to begin."""
        if not (self.path / RESULTS).exists():
            if others := self._others():
                raise self._refused(f"other files: {_checks.first_few(others)}")
            return None
        if overwrite:
            self._check_files()
            return None
        content = self._compared(self._read())
        if not resume:
            raise ValueError(
                "`output` must be a new or empty folder unless the run in it "
                f'is resumed. Received: output="{self.path}", which holds '
                f"one, resume=False. Resume it (resume=True). {ADVICE}"
            )
        return content

    def _read(self):
        """Returns the content of a run of this kind, settings unseen."""
        try:
            content = json.loads((self.path / RESULTS).read_text())
            kind, number = content["kind"], content.get("format")
            if kind == self.study.kind and number == FORMAT:
                [dict(content["settings"][key]) for key in GROWING]
                seeds = list(content["seeds"])
                for outcome in (Outcome(**cell) for cell in content["cells"]):
                    # They name files that are moved and deleted.
                    check_name(outcome.variant)
                    _checks.seed("seed", outcome.seed)
                    content["settings"]["variants"][outcome.variant]
                    seeds.index(outcome.seed)
        except DAMAGE as error:
            raise Damaged(
                f'The run in output="{self.path}" cannot be resumed: '
                f"{RESULTS} is damaged ({type(error).__name__}: {error}). "
                f"Put back a copy of it. {ADVICE}"
            ) from error
        if number != FORMAT:
            raise self._refused(
                "a run of an earlier version, which cannot be resumed; its "
                "results can still be read and explained"
            )
        if kind != self.study.kind:
            raise self._refused(f"another run ({kind})")
        if content.get("overwriting"):
            raise ValueError(
                f'The run in output="{self.path}" was being overwritten when '
                "its process ended. Give overwrite=True again (--overwrite on "
                "the command line)"
            )
        return content

    def _compared(self, content):
        """Returns the content, if the settings that it shares are equal."""
        old, new = dict(content["settings"]), dict(self.settings)
        for key in GROWING:
            shared = [name for name in old[key] if name in new[key]]
            old[key] = {name: old[key][name] for name in shared}
            new[key] = {name: new[key][name] for name in shared}
        changed = dict.fromkeys(
            # The data of all seeds differ alike.
            re.sub(r"^data\.\d+\.", "data.", line)
            for line in differences(old, new)
        )
        if changed:
            raise ValueError(
                "A run must be resumed with the settings it was started with. "
                f'Received: output="{self.path}", changed: '
                f"{'; '.join(changed)}. {ADVICE}"
            )
        return content

    def _refused(self, held):
        return ValueError(
            "`output` must be a new or empty folder, or hold the "
            f'{self.study.kind} run to resume. Received: output="{self.path}", '
            f"which holds {held}"
        )

    def _others(self):
        """Returns the names in the folder that no run begins beside."""
        if not self.path.is_dir():
            return []
        return sorted(
            path.name
            for path in self.path.iterdir()
            if path.name not in (REPORT, CELLS, _files.LOCK)
            and not path.name.startswith(_files.UNFINISHED)
        )

    def _check_files(self):
        """Raises unless every file belongs to a run of this kind."""
        try:
            content = json.loads((self.path / RESULTS).read_text())
            kind, variants = content["kind"], content["settings"]["variants"]
        except DAMAGE:
            kind, variants = self.study.kind, ()
        if kind != self.study.kind:
            raise self._refused(f"another run ({kind})")
        patterns = [
            *FILES,
            *(_files.LOCK, f"{_files.UNFINISHED}*", f"*/{_files.UNFINISHED}*"),
            *(
                f"{glob.escape(name)}{end}.keras"
                for name in {*variants, *self.settings["variants"]}
                for end in ("", "-seed[0-9]*")
            ),
        ]
        names = [
            path.relative_to(self.path).as_posix()
            for path in sorted(self.path.rglob("*"))
            if path.is_symlink() or not path.is_dir()
        ]
        foreign = [
            name
            for name in names
            if not any(
                fnmatch.fnmatchcase(name.removesuffix(_files.DAMAGED), pattern)
                for pattern in patterns
            )
        ]
        if foreign:
            raise ValueError(
                "A run is overwritten only if its folder holds nothing else. "
                f'Received: overwrite=True, output="{self.path}", which also '
                f"holds {_checks.first_few(foreign)}. Move that, or choose "
                "another folder"
            )

    def _clear(self):
        """Deletes all files of a run that no process works at."""
        if not (self.path / RESULTS).exists():
            return
        with contextlib.ExitStack() as stack:
            # Those of a confirmation, too.
            for path in self.path.rglob(f"{CELLS}/*.lock"):
                try:
                    stack.enter_context(_files.locked(path))
                except _files.InUse as error:
                    raise ValueError(
                        "A run is overwritten only while no process works "
                        f'there. Received: output="{self.path}", in use by '
                        f"{error.holder}. Wait until it has ended, or choose "
                        "another folder"
                    ) from error
            # Killed on the way, the rest must not be taken for a run.
            self.content = {**self._new(), "overwriting": True}
            self._write()
        kept = (self.path / RESULTS, self.path / _files.LOCK)
        # What lies in a folder comes after it.
        for path in sorted(self.path.rglob("*"), reverse=True):
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            elif path not in kept:
                path.unlink()

    def _tidy(self):
        """Deletes checkpoints that a process left which died at the end."""
        for cell in self.content["cells"]:
            folder = self.cell(cell["variant"], cell["seed"])
            shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            (self.path / CELLS).rmdir()


def history_rows(
    outcomes: Sequence[Outcome], several: bool
) -> list[dict[str, Any]]:
    """Returns a row per network and epoch, with the seed if several."""
    return [
        {
            **({"seed": outcome.seed} if several else {}),
            "network": outcome.variant,
            **row,
        }
        for outcome in outcomes
        for row in outcome.history
    ]
