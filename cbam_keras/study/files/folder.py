"""`StudyFolder`: the output folder of a study.

    study.json             what the last call asked for
    cbam-seed0/state.json  how far a network is trained, and how that has ended
    cbam-seed0/*.keras     its checkpoints, then the network that was tested
    cbam@0.01-seed0/       a candidate: the network at one of several rates
    results.json           all of that together, for others to read

Nobody writes to the folder of a network but who holds its lock, and beside
these folders who holds that of the run. What many networks tell is computed
from their states, whenever it is asked for.
"""

import contextlib
import dataclasses
import glob
import itertools
import json
import os
import pathlib
import re
import secrets
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager

import keras
import numpy as np

from cbam_keras import _checks, _files, _terminal
from cbam_keras._files import STUDY
from cbam_keras._version import __version__
from cbam_keras.study.files import checkpoints, interrupts
from cbam_keras.study.files.checkpoints import DAMAGE, STATE, State, peek_state
from cbam_keras.study.files.fields import StudyFields, check_fields
from cbam_keras.study.files.machines import describe_machine
from cbam_keras.study.files.options import RunOptions
from cbam_keras.study.files.outcomes import ERROR, Outcome, history_of
from cbam_keras.study.files.output_names import default_output, plain_output
from cbam_keras.study.files.rates import delete_checkpoints, read_candidates
from cbam_keras.study.plans.networks import without_names
from cbam_keras.study.plans.study import (
    AT,
    Data,
    Run,
    Study,
    Variant,
    check_name,
    runs_of,
)

RESULTS, FORMAT = "results.json", 5
# The page about a run, and the subfolder with the explanations that it shows.
REPORT, EXPLANATIONS = "report.html", "explain"
# The subfolder in which the best of a ranking are retrained.
CONFIRMATION = "confirmation"
# What frozen layers make of the images is in a file whose name begins so.
FEATURES = "features-"
ANOTHER_FOLDER = (
    "Choose another folder, or overwrite it (overwrite=True, or --overwrite "
    "on the command line)"
)
# What every `study.json` has some of.
NOT_EMPTY = ("seeds", "measures", "variants", "data")
# What it holds of data that have it.
OF_DATA = ("class_counts", "notes", "leaks", "source")
# What `study.json` holds of a search that has ended.
BEST = ("best", "best_network", "best_options")
CHOICE = (*BEST, "code", "confirmation", "verdict")


class StudyFolder:
    """The output folder of a study, as one call sees it."""

    def __init__(self, output: str | os.PathLike, study: Study, data: Data):
        self.path = _files.folder_path(output)
        self.study = study
        settings = study.settings_to_compare(describe(data))
        measures = study.task.measures_of(data)
        # It tells the failures of this call from those of earlier ones.
        self.call = secrets.token_hex(4)
        self.content = as_written(
            {
                "format": FORMAT,
                "kind": study.kind,
                "command": None,
                "settings": as_written(settings, allow_nan=False),
                "seeds": study.seeds,
                "versions": versions(),
                "labels": {v.name: v.label for v in study.variants if v.label},
                "question": study.question,
                "measures": [dataclasses.asdict(x) for x in measures],
                "baseline": study.baseline,
                "class_names": [str(name) for name in data.class_names],
                "threshold": getattr(study.task, "threshold", None),
                "commonest": study.task.guess(data),
                # Where the source is may change without being another dataset.
                **{name: getattr(data, name, None) for name in OF_DATA},
            }
        )

    @contextlib.contextmanager
    def opened(self, options: RunOptions) -> Iterator[None]:
        """Begins, resumes or joins the run in the folder."""
        # A folder that is refused is left untouched, so check first.
        self._check(options.resume, options.overwrite)
        _files.output_folder(self.path)
        with _files.writing_to(self.path), interrupts.note_signals():
            if options.overwrite:
                self._set_aside()
            with contextlib.ExitStack() as stack:
                with self.locked():
                    # Another process may have changed it in the meantime.
                    before = self._check(options.resume)
                    # While it is held, nobody renames the folder.
                    stack.enter_context(_files.locked(self.running))
                    self._delete_leftovers()
                    # It keeps what earlier calls have added.
                    self.content = {**before, **self.content}
                    began = self._began(before, options.executor)
                    self.add({"command": options.command, **began})
                try:
                    yield
                except BaseException:
                    # A damaged file is reported when it is needed.
                    with contextlib.suppress(*DAMAGE):
                        self._export()
                    if options.on_end:
                        options.on_end(self.path, None)
                    raise
                self._export()
                self._delete_features()

    def _began(self, before, executor):
        """Returns when what was planned, and the machines of these calls."""
        plans, machines = before.get("plans", []), before.get("machines", [])
        plan = {x: self.content[x] for x in ("seeds", "measures", "baseline")}
        plan["variants"] = [*self.content["settings"]["variants"]]
        # Who began a run with an older version did not note when.
        if not before or (plans and plans[-1] | plan != plans[-1]):
            now = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
            plans = [*plans, {"written": now, **plan}]
        machines = [*machines, describe_machine()]
        if executor is not None:
            machines.append("workers of an executor")
        return {"plans": plans, "machines": [*dict.fromkeys(machines)]}

    @property
    def running(self) -> pathlib.Path:
        """The lock that the process of a call holds until it ends."""
        return self.path.absolute() / f"{_files.LOCK}-{self.call}"

    def locked(self) -> AbstractContextManager[None]:
        """Context in which this process may write beside the networks."""
        return _files.folder_locked(self.path)

    def place(self, variant: str, run: Run) -> pathlib.Path:
        """Returns the folder of a network."""
        return self.path / checkpoints.folder_name(variant, run)

    def claim(self, variant: str, run: Run) -> AbstractContextManager[None]:
        """Context in which no other process trains a network, or `InUse`."""
        return _files.locked(self.place(variant, run) / _files.LOCK)

    def outcome(self, variant: str, run: Run) -> Outcome | None:
        """Returns how a training has ended, `None` if it is to be tried."""
        state = peek_state(self.place(variant, run))
        if state is None or state.outcome is None:
            return None
        is_tried_again = state.outcome.status == ERROR
        if is_tried_again and state.call != self.call:
            return None
        return state.outcome

    def delete_candidates(self, variant: str, run: Run) -> None:
        """Deletes the checkpoints that a run has chosen its network from."""
        pattern = f"{glob.escape(variant)}{AT}*-{run.name}"
        for place in self.path.glob(pattern):
            with _files.locked(place / _files.LOCK):
                delete_checkpoints(place)

    def add(self, values: Mapping[str, object]) -> None:
        """Adds plain values to `study.json`, within `locked`."""
        self.content |= as_written(values)
        _files.write_json(self.path / STUDY, self.content)

    def _delete_leftovers(self):
        """Deletes what killed processes have left beside the networks."""
        for name in (STUDY, RESULTS, "*.csv", "*.tex", "*.png", "*.html"):
            _files.delete_unfinished(self.path, name)
        locks = self._other_locks(), self.path.glob(f"*/{_files.LOCK}")
        for lock in itertools.chain(*locks):
            # It is deleted if nobody holds it.
            _files.is_locked(lock)

    def _delete_features(self):
        """Deletes what frozen layers return, unless others may need it."""
        if any(_files.is_locked(lock) for lock in self._other_locks()):
            return
        for path in self.path.glob(f"*{FEATURES}*.npy*"):
            with contextlib.suppress(_files.InUse), features_lock(path):
                path.unlink(missing_ok=True)

    def _other_locks(self):
        locks = self.path.absolute().glob(f"{_files.LOCK}-*")
        return [lock for lock in locks if lock != self.running]

    def _export(self):
        """Writes what the states tell together, and deletes what is left."""
        with self.locked():
            content = read_content(self.path)
            outcomes = content.pop("outcomes")
            del content["candidates"]
            content["networks"] = [dataclasses.asdict(x) for x in outcomes]
            _files.write_json(self.path / RESULTS, content)
            if history := history_of(outcomes, len(self.study.runs) > 1):
                _files.write_csv(self.path / "history.csv", history)
        for outcome in outcomes:
            place = self.place(outcome.variant, outcome.run)
            state = peek_state(place)
            if state is not None and outcome.finished:
                # A process that was killed may have left some.
                for path in checkpoints.leftovers(place, state):
                    path.unlink(missing_ok=True)
                self.delete_candidates(outcome.variant, outcome.run)

    def _has_epochs(self):
        """Returns whether a network was trained for an epoch."""
        states = (peek_state(x.parent) for x in self.path.glob(f"*/{STATE}"))
        return any(state and state.history for state in states)

    def holds_this_plan(self) -> bool:
        """Returns whether the folder has a run that this call would resume."""
        try:
            return bool(self._check(resume=True))
        except ValueError:
            return False

    def _check(self, resume, overwrite=False):
        """Returns what an earlier call has written; raises if that differs."""
        if not (self.path / STUDY).exists():
            # No run begins beside other files.
            others = self.path.is_dir() and sorted(
                path.name
                for path in self.path.iterdir()
                if not path.name.startswith((_files.LOCK, _files.UNFINISHED))
            )
            if others:
                raise self._refused(f"other files: {_checks.first_few(others)}")
            return {}
        if overwrite:
            return {}
        try:
            before = _read_study(self.path)
            if not self._has_epochs():
                # What never began may begin with other settings.
                return {}
        except DAMAGE as error:
            raise ValueError(
                f'The run in output="{self.path}" cannot be resumed: {STUDY} '
                f"is damaged, or of another version ({type(error).__name__}: "
                f"{error}). Put back a copy of it. {ANOTHER_FOLDER}"
            ) from error
        if before["kind"] != self.study.kind:
            raise self._refused(f"another run ({before['kind']})")
        old, new = before["settings"], dict(self.content["settings"])
        # Settings of version 0.6 do not say.
        old.setdefault("numerics", new["numerics"])
        # A call may have others: the states say what each network was.
        for key in ("variants", "data"):
            names = old[key].keys() & new[key].keys()
            old[key], new[key] = (
                {name: each[key][name] for name in names} for each in (old, new)
            )
        self.refuse_changes(old, new)
        if not resume:
            raise ValueError(
                "`output` must be a new or empty folder unless the run in it "
                f'is resumed. Received: output="{self.path}", which holds '
                f"one, resume=False. Resume it (resume=True). {ANOTHER_FOLDER}"
            )
        return before

    def new_state(self, variant: Variant, run: Run, data: Data) -> State:
        """Returns the state for a training, unless options or data differ."""
        options, described = as_written(variant.describe()), describe(data)
        for path in self.path.glob(f"*-{run.name}/{STATE}"):
            other = peek_state(path.parent)
            if other is not None and other.history:
                self.refuse_changes({"data": other.data}, {"data": described})
                # The workers of a run agree with one another.
                break
        state = checkpoints.read_state(self.place(variant.name, run))
        if state is None or not state.history:
            state = State(variant.name, *run, options, described)
        name = f"variants.{variant.name}"
        self.refuse_changes({name: state.options}, {name: options})
        state.call = self.call
        return state

    def refuse_changes(self, old: Mapping, new: Mapping) -> None:
        """Raises if settings differ, and names what does."""
        before, after = dict(_flat(old)), dict(_flat(new))
        changed = [
            f"{name} was {before.get(name)!r}, is {after.get(name)!r}"
            for name in {**before, **after}
            if before.get(name) != after.get(name)
        ]
        if changed:
            raise ValueError(
                "A run must be resumed with the settings it was started with. "
                f'Received: output="{self.path}", changed: '
                f"{'; '.join(changed)}. {ANOTHER_FOLDER}"
            )

    def _refused(self, held):
        return ValueError(
            "`output` (--output) must be a new or empty folder, or hold the "
            f'{self.study.kind} run to resume. Received: output="{self.path}", '
            f"which holds {held}"
        )

    def _set_aside(self):
        """Renames the folder of a run that no process trains."""
        folder = self.path.resolve()
        with self.locked(), contextlib.ExitStack() as stack:
            if not (folder / STUDY).exists():
                return
            for lock in [*folder.rglob(f"{_files.LOCK}*")]:
                if lock != folder / _files.LOCK:
                    stack.enter_context(_files.locked(lock))
            aside = next(
                path
                for number in itertools.count(1)
                if not (path := pathlib.Path(f"{folder}.old-{number}")).exists()
            )
            if pathlib.Path.cwd().is_relative_to(folder):
                raise ValueError(
                    "A run is overwritten by renaming its folder. Received: "
                    f'overwrite=True, output="{folder}", in which this process '
                    "runs. Start the process in another folder"
                )
            folder.rename(aside)
            folder.mkdir(exist_ok=True)
        for lock in aside.rglob(f"{_files.LOCK}*"):
            lock.unlink(missing_ok=True)
        _terminal.say(f'The run that was in "{self.path}" is now in "{aside}"')


def read_content(folder: pathlib.Path) -> _files.Json:
    """Returns what a folder holds of the networks that its last call asked for.

    Beside the content of `study.json`, with the data of all runs, it has
    `outcomes`, and the `candidates` of runs that choose a learning rate.
    Raises one of `DAMAGE`, or another `OSError` that may pass.
    """
    content = _read_study(folder)
    settings, outcomes = content["settings"], []
    runs = runs_of(content["seeds"], settings.get("folds"))
    for run, name in itertools.product(runs, settings["variants"]):
        if state := checkpoints.read_state(
            folder / checkpoints.folder_name(name, run)
        ):
            settings["data"][run.name] = state.data
            if state.outcome is not None:
                outcomes.append(state.outcome)
    candidates = read_candidates(folder, settings["variants"], runs)
    return {**content, "outcomes": outcomes, "candidates": candidates}


def _read_study(folder):
    """Returns what `study.json` holds, of this version."""
    path = folder / STUDY
    written = path.read_bytes()
    try:
        content = json.loads(written)
        if content["format"] != FORMAT:
            raise ValueError(
                f"`format` must be {FORMAT}. Received: {content['format']}, "
                "of another version of cbam_keras"
            )
        check_fields(content, StudyFields)
        settings = content["settings"]
        for name, values in {**content, **settings}.items():
            if name in NOT_EMPTY and not values:
                raise ValueError(f"`{name}` must not be empty")
        # They name folders.
        for name in settings["variants"]:
            check_name(name)
    except DAMAGE as error:
        raise ValueError(f'"{path}" is damaged: {error}') from error
    return content


def features_lock(
    path: pathlib.Path, seconds: float = 0
) -> AbstractContextManager[None]:
    """Context in which no other process computes what is in a file."""
    key = path.name.partition(FEATURES)[2].partition(".")[0]
    return _files.locked(path.with_name(f"{_files.LOCK}-{key}"), seconds)


def open_default(study: Study, data: Data) -> StudyFolder:
    """Returns the default folder of a run.

    Versions to 0.7 wrote all plans for the same data and network into one
    folder: if it holds this plan, the run is resumed there.
    """
    folder = StudyFolder(default_output(study), study, data)
    earlier = StudyFolder(plain_output(study), study, data)
    if not folder.path.exists() and earlier.holds_this_plan():
        return earlier
    return folder


def describe(data: Data) -> _files.Json:
    """Returns the description of data, which a run must have to be read."""
    sizes = data.sizes
    if not {"train", "test"} <= {*sizes}:
        raise ValueError(
            "The `sizes` of data must be the numbers of images by split, as "
            f'{{"train": 800, "test": 200}}. Received: {sizes=}'
        )
    return as_written({"name": data.name, "sizes": sizes, **data.describe()})


def as_written(
    settings: Mapping[str, object], *, allow_nan: bool = True
) -> _files.Json:
    """Returns settings as they will read from a file, tuples as lists."""
    text = json.dumps(settings, default=_plain, allow_nan=allow_nan)
    return json.loads(text)


def _plain(value):
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, keras.layers.Layer | keras.losses.Loss):
        config = keras.saving.serialize_keras_object(value)
        return without_names(config, {})
    raise TypeError(
        "Settings and options of a run must be plain values (numbers, "
        f"strings, lists), to be written to a file. Received: {value!r}"
    )


def _flat(value, name=""):
    """Yields the values in nested mappings, with their dotted names."""
    if isinstance(value, list) and any(isinstance(x, dict) for x in value):
        # The layers of a network are such a list.
        value = dict(enumerate(value))
    if not isinstance(value, dict):
        # The data of all seeds differ alike.
        yield re.sub(r"^data\.seed[^.]+\.", "data.", name), value
        return
    for key, inner in value.items():
        yield from _flat(inner, f"{name}.{key}".lstrip("."))


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
