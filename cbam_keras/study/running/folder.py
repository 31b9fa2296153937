"""`StudyFolder`: the output folder of a study, its files and locks."""

import contextlib
import dataclasses
import itertools
import json
import os
import pathlib
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import cast

import keras
import numpy as np

from cbam_keras import _checks, _files, _terminal
from cbam_keras._version import __version__
from cbam_keras.study.plans.study import Data, Study, Variant, member
from cbam_keras.study.results.content import (
    FORMAT,
    RESULTS,
    merge,
    merge_tables,
    read_content,
)
from cbam_keras.study.running import interrupts
from cbam_keras.study.running.checkpoints import (
    DAMAGE,
    FAILED,
    PREDICTIONS,
    STATE,
    TRIES,
    WHOLE,
    State,
    forget_tries,
    load_state,
    note_death,
)
from cbam_keras.study.running.networks import without_names
from cbam_keras.study.running.options import RunOptions
from cbam_keras.study.running.outcomes import RETRIED, Outcome, history_of

# The page about a run, and the subfolder with the explanations that it shows.
REPORT, EXPLANATIONS = "report.html", "explain"
# The subfolder with locks, and the checkpoints of unfinished networks.
TRAINING = ".training"
# What frozen layers make of the images is in such a file in it.
FEATURES = "features-{}.npy"
# The name of a file in it that tells workers what to train ends like this.
PLAN = ".plan"
# Settings of which a call may have others than the run, and adds them.
GROWING = ("variants", "data")
ADVICE = (
    "Choose another folder, or overwrite it (overwrite=True, or --overwrite "
    "on the command line)"
)


class StudyFolder:
    """The output folder of a study.

    `results.json` holds the settings and the outcomes of all networks that have
    been trained, `.training` the checkpoints of those under training. Several
    processes may work in one folder: each claims a network before it trains it,
    and holds the lock of the folder while it writes beside `.training`.
    """

    def __init__(self, output: str | os.PathLike, study: Study, data: Data):
        self.path = _files.folder_path(output)
        self.study = study
        self.content: _files.Json = {}
        self.settings = _comparable(study.settings_to_compare(describe(data)))
        self.labels = {v.name: v.label for v in study.variants if v.label}
        self.about = as_written(
            {
                "layout": study.layout,
                "question": study.question,
                "measures": [dataclasses.asdict(x) for x in study.measured_by],
                "comparisons": [
                    dataclasses.asdict(x) for x in study.compared_in
                ],
                "class_names": [str(name) for name in data.class_names],
                "commonest": getattr(data, "commonest", None),
                "scale": getattr(data, "scale", None),
                "notes": getattr(data, "notes", None),
                "leaks": getattr(data, "leaks", None),
                "threshold": getattr(study.task, "threshold", None),
                "class_counts": _as_list(getattr(data, "class_counts", None)),
                # Where it is may change without being another dataset.
                "source": getattr(data, "source", None),
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
            with self.locked():
                # Another process may have changed it in the meantime.
                self._begin(self._check(options.resume), options.command)
            try:
                yield
            except (Exception, KeyboardInterrupt):
                self._forget_stopped()
                raise
            else:
                features = f"{TRAINING}/{FEATURES.format('*')}"
                for path in self.path.glob(features):
                    path.unlink(missing_ok=True)
            finally:
                self._end()
                if options.on_end and (self.path / RESULTS).exists():
                    options.on_end(self.path)

    def locked(self) -> contextlib.AbstractContextManager[None]:
        """Context in which this process may write beside `.training`."""
        return _files.folder_locked(self.path)

    def claim(
        self, variant: str, seed: int
    ) -> contextlib.AbstractContextManager[None]:
        """Context in which no other process trains this network, or `InUse`."""
        return _files.locked(self.network_folder(variant, seed, ".lock"))

    def network_folder(
        self, variant: str, seed: int, suffix: str = ""
    ) -> pathlib.Path:
        """Returns the folder with the checkpoints of a network."""
        return self.path / TRAINING / f"{variant}-seed{seed}{suffix}"

    def note_death(self, process: str, how: str) -> bool:
        """Notes how a process has died, and returns whether it trained."""
        tries = self.path.glob(f"{TRAINING}/*/{TRIES}")
        return any([note_death(path.parent, process, how) for path in tries])

    def _forget_stopped(self):
        # What is stopped has not died.
        for path in [*self.path.glob(f"{TRAINING}/*/{TRIES}")]:
            network = path.parent
            lock = network.with_name(f"{network.name}.lock")
            if not _files.is_locked(lock):
                forget_tries(network)

    def histories(self) -> dict[str, list[dict[str, float]]]:
        """Returns the epochs of each network under training, by its folder."""
        histories = {}
        for path in self.path.glob(f"{TRAINING}/*/"):
            # Another process may end the training.
            with contextlib.suppress(OSError):
                if state := load_state(path):
                    histories[path.name] = state.history
        return histories

    @property
    def stored_outcomes(self) -> list[_files.Json]:
        """The outcomes of what has been trained, as `results.json` has them."""
        return self.content["outcomes"]

    def refresh(self) -> None:
        """Reads what other processes have written."""
        # A process whose trainings have all failed deletes the file.
        with contextlib.suppress(FileNotFoundError):
            self.content = self._read()

    def join(self) -> None:
        """Joins the run that the writing process has begun."""
        self.content = self._compared(self._read())

    def outcome(self, variant: str, seed: int) -> Outcome | None:
        """Returns the outcome of a network that has been trained, or `None`."""
        for outcome in self.content["outcomes"]:
            if (outcome["variant"], outcome["seed"]) == (variant, seed):
                return Outcome(**outcome)
        return None

    def record(self, outcome: Outcome, trained: pathlib.Path) -> None:
        """Adds what was `trained` in a folder.

        Its checkpoints are deleted unless the same call goes on from them.
        """
        key = outcome.variant, outcome.seed
        failed = trained / FAILED
        failed.unlink(missing_ok=True)
        if outcome.status in RETRIED and (trained / STATE).exists():
            failed.touch()
        with self.locked():
            self.refresh()
            if outcome.finished:
                state = cast(State, load_state(trained))
                name = self._name(*key)
                tested = trained / state.file_of(cast(int, outcome.best_epoch))
                if (whole := trained / WHOLE).exists():
                    tested = whole
                predictions = pathlib.Path(name).with_suffix(_files.PREDICTIONS)
                for source, path in (
                    (trained / PREDICTIONS, self.path / predictions),
                    (tested, self.path / name),
                ):
                    if source.exists():
                        with _files.replacing(path) as beside:
                            shutil.copyfile(source, beside)
                outcome = dataclasses.replace(outcome, file=name)
            outcomes = self.content["outcomes"]
            outcomes.append(as_written(dataclasses.asdict(outcome)))
            variants = [*self.content["settings"]["variants"]]
            seeds = self.content["seeds"]
            # They have the order of training, whoever has ended first.
            outcomes.sort(
                key=lambda outcome: (
                    seeds.index(outcome["seed"]),
                    variants.index(outcome["variant"]),
                )
            )
            history = history_of([Outcome(**x) for x in outcomes], seeds)
            if history:
                _files.write_csv(self.path / "history.csv", history)
            self._write()
        if not failed.exists():
            shutil.rmtree(self.network_folder(*key), ignore_errors=True)

    def add_settings(self, key: str, name: str, described: object) -> None:
        """Adds one more variant, or the data of one more seed."""
        self.settings[key] = _comparable({name: described})
        with self.locked():
            self.refresh()
            self._compared(self.content)
            if name not in self.content["settings"][key]:
                self._grow()
                self._write()

    def add_variant(self, variant: Variant) -> None:
        """Adds one more variant, with its label."""
        self.labels = {variant.name: variant.label} if variant.label else {}
        self.add_settings("variants", variant.name, variant.describe())

    def add(self, **values: object) -> None:
        """Adds plain values to `results.json`, within `locked`."""
        self.refresh()
        self.content |= as_written(values)
        self._write()

    def retry(self) -> None:
        """Forgets how trainings have failed that may end otherwise now."""
        with self.locked():
            self.refresh()
            outcomes = self.content["outcomes"]
            lasting = [x for x in outcomes if x["status"] not in RETRIED]
            if len(lasting) < len(outcomes):
                self.content["outcomes"] = lasting
                self._write()

    def has_resumable_failures(self) -> bool:
        """Returns whether checkpoints of networks that failed are left."""
        return any(self.path.glob(f"{TRAINING}/*/{FAILED}"))

    def forget_if_untrained(self) -> None:
        """Deletes `results.json` if no network was trained for an epoch."""
        with self.locked():
            self.refresh()
            has_epochs = any(x["history"] for x in self.stored_outcomes)
            # It says what the checkpoints are of, which may be unreadable now.
            states = self.path.glob(f"{TRAINING}/*/{STATE}")
            if not has_epochs and not any(states):
                (self.path / RESULTS).unlink(missing_ok=True)

    def _name(self, variant, seed):
        """Returns the name of the file of a network."""
        several = len(self.content["seeds"]) > 1
        return f"{variant}-seed{seed}.keras" if several else f"{variant}.keras"

    def _write(self):
        _files.write_json(self.path / RESULTS, self.content)

    def _begin(self, content, command):
        """Writes what is known at the start, within `locked`."""
        self.content = content or {
            "format": FORMAT,
            "kind": self.study.kind,
            "command": None,
            "settings": self.settings,
            "versions": versions(),
            **self.about,
            "labels": {},
            "seeds": list(self.study.runs),
            "outcomes": [],
        }
        tables = self.content["comparisons"], self.about["comparisons"]
        about = {"command": command, **self.about}
        about["comparisons"] = merge_tables(*tables)
        self.content |= {k: v for k, v in about.items() if v is not None}
        self._grow()
        for outcome in [*self.content["outcomes"]]:
            if outcome["file"] and _files.is_torn(self.path / outcome["file"]):
                self.content["outcomes"].remove(outcome)
                # A search that has ended lacks a trial now.
                self.content.pop("searched", None)
                _checks.warn(
                    f'"{self.path / outcome["file"]}" is not a whole archive, '
                    "as after a power cut. Its network is trained again"
                )
        self._write()

    def _grow(self):
        """Adds more seeds and variants to the content."""
        settings = self.content["settings"]
        for key in GROWING:
            values = {**settings[key], **self.settings[key]}
            names = merge([*settings[key]], [*self.settings[key]])
            settings[key] = {name: values[name] for name in names}
        self.content["labels"] = {**self.content["labels"], **self.labels}
        self.content["seeds"] = merge(self.content["seeds"], self.study.runs)
        for outcome in self.content["outcomes"]:
            # One seed became several, or a process died in between.
            name = self._name(outcome["variant"], outcome["seed"])
            if outcome["file"] not in (None, name):
                for suffix in (_files.PREDICTIONS, ".keras"):
                    before = self.path / f"{outcome['variant']}{suffix}"
                    after = self.path / pathlib.Path(name).with_suffix(suffix)
                    with contextlib.suppress(FileNotFoundError):
                        os.replace(before, after)
                outcome["file"] = name

    def _check(self, resume, overwrite=False):
        """Returns the content of the run to resume, or `None` to begin."""
        if not (self.path / RESULTS).exists():
            # No run begins beside other files.
            others = self.path.is_dir() and sorted(
                path.name
                for path in self.path.iterdir()
                if path.name not in (TRAINING, _files.LOCK)
                and not path.name.startswith(_files.UNFINISHED)
            )
            if others:
                raise self._refused(f"other files: {_checks.first_few(others)}")
            return None
        if overwrite:
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
            content = read_content(self.path)
        except FileNotFoundError:
            raise
        except DAMAGE as error:
            raise ValueError(
                f'The run in output="{self.path}" cannot be resumed: '
                f"{RESULTS} is damaged, or of another version "
                f"({type(error).__name__}: {error}). "
                f"Put back a copy of it. {ADVICE}"
            ) from error
        if content["kind"] != self.study.kind:
            raise self._refused(f"another run ({content['kind']})")
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
            for line in _differences(old, new)
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

    def _set_aside(self):
        """Renames the folder of a run that no process trains."""
        folder = self.path.resolve()
        with self.locked(), contextlib.ExitStack() as stack:
            if not (folder / RESULTS).exists():
                return
            # A search has networks in its confirmation, too.
            for lock in folder.rglob(f"{TRAINING}/*.lock"):
                stack.enter_context(_files.locked(lock))
            aside = next(
                path
                for number in itertools.count(1)
                if not (path := pathlib.Path(f"{folder}.old-{number}")).exists()
            )
            try:
                if pathlib.Path.cwd().is_relative_to(folder):
                    raise OSError("This process runs in it")
                folder.rename(aside)
            except OSError as error:
                raise ValueError(
                    "A run is overwritten by renaming its folder, which must "
                    f'be possible. Received: overwrite=True, output="{folder}" '
                    f"({error.strerror or error}). Rename it yourself, or "
                    "choose another folder"
                ) from error
            (aside / _files.LOCK).unlink()
            folder.mkdir(exist_ok=True)
        _terminal.say(f'The run that was in "{self.path}" is now in "{aside}"')

    def tidy(self, trained: Iterable[tuple[str, int]]) -> None:
        """Deletes what dead processes left.

        That is checkpoints of networks that are trained and have not failed,
        and plans and locks that no process holds.
        """
        folders = {self.network_folder(*network) for network in trained}
        folders = {path for path in folders if not (path / FAILED).exists()}
        for path in self.path.glob(f"{TRAINING}/*"):
            if path in folders:
                name = path.name
            elif path.suffix in (".lock", PLAN):
                name = path.stem
            else:
                continue
            lock = path.with_name(f"{name}.lock")
            with contextlib.suppress(_files.InUse), _files.locked(lock):
                if path in folders:
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            (self.path / TRAINING).rmdir()

    def _end(self):
        with self.locked():
            _files.delete_unfinished(self.path)
            # Another process may train a network again that had failed.
            self.refresh()
        outcomes = self.content["outcomes"]
        self.tidy((outcome["variant"], outcome["seed"]) for outcome in outcomes)


def default_output(study: Study) -> pathlib.Path:
    """Returns the default folder of a run, as `runs/train-mnist5k-small`."""
    name = member(study.task, "name")
    if name is None:
        raise ValueError(
            "`output` must be a folder for a task that has no `name`. "
            f"Received: output=None, task={study.task!r}"
        )
    names = [study.kind, str(name)]
    if "model" in study.settings:
        names.append(str(study.settings["model"]))
    # Configurations of a dataset are written "name/configuration".
    parts = (re.sub(r"[^\w.+-]+", "-", name) for name in names)
    return pathlib.Path("runs") / "-".join(part.strip("-.") for part in parts)


def describe(data: Data) -> _files.Json:
    """Returns the description of data, which a run must have to be read."""
    name, sizes = getattr(data, "name", None), getattr(data, "sizes", None)
    description = as_written({"name": name, "sizes": sizes, **data.describe()})
    name, sizes = description["name"], description["sizes"]
    if (
        not isinstance(name, str)
        or not isinstance(sizes, dict)
        or not {"train", "test"} <= sizes.keys()
        or not all(type(count) is int for count in sizes.values())
    ):
        raise ValueError(
            "The data of a task must have a `name` and `sizes`, the numbers "
            'of images by split, as {"train": 800, "test": 200}. Received: '
            f"{name=}, {sizes=}"
        )
    return description


def as_written(settings: Mapping[str, object]) -> _files.Json:
    """Returns settings as they will read from a file, tuples as lists."""
    return json.loads(json.dumps(settings, default=_plain))


def _as_list(values):
    return None if values is None else np.asarray(values).tolist()


def _comparable(settings):
    """Returns settings as they will read, which a resumed run compares."""
    text = json.dumps(settings, default=_plain)

    def refuse(constant):
        end = text.index(constant) + len(constant)
        raise ValueError(
            "The numbers in settings and options of a run must be finite. "
            f"Received: {text[:end][-60:]}"
        )

    return json.loads(text, parse_constant=refuse)


def _plain(value):
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, keras.layers.Layer | keras.losses.Loss):
        config = keras.saving.serialize_keras_object(value)
        return without_names(config, {})
    raise TypeError(
        "Settings and options of a run must be plain values (numbers, "
        f"strings, lists), to be written to a file. Received: {value!r}"
    )


def _differences(old, new, prefix=""):
    """Returns a line for each value that differs between two mappings."""
    lines = []
    for key in {**old, **new}:
        before, after = map(_by_number, (old.get(key), new.get(key)))
        if isinstance(before, dict) and isinstance(after, dict):
            lines += _differences(before, after, f"{prefix}{key}.")
        elif before != after:
            lines.append(f"{prefix}{key} was {before!r}, is {after!r}")
    return lines


def _by_number(value):
    """Returns a list that holds mappings, as layers are, by its numbers."""
    has_mappings = isinstance(value, list) and dict in map(type, value)
    return dict(enumerate(value)) if has_mappings else value


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
