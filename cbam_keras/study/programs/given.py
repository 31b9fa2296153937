"""`results_of`: predictions that any program has made, as results."""

import dataclasses
import importlib
import itertools
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cbam_keras import _checks, _files
from cbam_keras.study.files.checkpoints import STATE, State, name_of
from cbam_keras.study.files.folder import FORMAT, as_written, versions
from cbam_keras.study.files.outcomes import FINISHED, Outcome
from cbam_keras.study.plans.measures import (
    ACCURACY,
    MEASURES,
    SCORE,
    SHOWN,
    TEST_ACCURACY,
    Measure,
    check_measure_of_numbers,
    compute,
    guess_number,
    measure_numbers,
    measures_of_numbers,
)
from cbam_keras.study.plans.study import Run, check_name, runs_of
from cbam_keras.study.results.predictions import (
    Numbers,
    Predictions,
    write_predictions,
)
from cbam_keras.study.results.results import Results

KIND = "predictions"
CLASSIFICATION, REGRESSION = TASKS = ("classification", "regression")
SCORES = "scores"
# Probabilities in half precision sum to 1 up to this.
ROUNDING = 1e-2
# Numbers are below this.
LARGEST = 1e100
# What a folder holds of a study, and not of predictions.
NOT_KNOWN = ("class_counts", "notes", "leaks", "source")


class GivenRun(NamedTuple):
    """The indices of test examples, and what one network gives them."""

    rows: np.ndarray
    scores: np.ndarray


@dataclasses.dataclass(frozen=True)
class Given(Results):
    """Results of predictions that were given, see `results_of`."""

    content: _files.Json = dataclasses.field(
        default_factory=dict, compare=False, repr=False
    )

    def write(
        self, folder: str | os.PathLike, figures: str | None = None
    ) -> pathlib.Path:
        """Writes predictions, tables, figures and a page into a folder.

        Args:
            folder: Path of a folder that is new or empty.
            figures: `"pdf"` to write the figures also as PDF. Defaults to
                `None`.

        Returns:
            Path of the page, `report.html` in that folder.

        Raises:
            ValueError: If the folder is not empty, or cannot be written to, or
                for other `figures`.
        """
        path = _files.output_folder(folder, "folder")
        if held := sorted(x.name for x in path.iterdir()):
            raise ValueError(
                "`folder` (--output) must be new or empty. Received: "
                f'folder="{folder}", which holds {_checks.first_few(held)}'
            )
        for outcome in self.outcomes:
            place = path / name_of(outcome.variant, outcome.run)
            place.mkdir()
            kept = self.tested[outcome.variant][outcome.run]
            arrays = {
                f"test/{x}": y for x, y in vars(kept).items() if y is not None
            }
            write_predictions(path / str(outcome.predictions), arrays)
            ended = dataclasses.asdict(outcome)
            for name in ("variant", "seed", "fold", "history"):
                del ended[name]
            data = self.settings["data"][outcome.run.name]
            state = State(outcome.variant, *outcome.run, {}, data, ended=ended)
            _files.write_json(place / STATE, dataclasses.asdict(state))
        _files.write_json(path / _files.STUDY, self.content)
        _files.write_figure(path / "comparison.png", self.plot())
        # Reports are made of results, and imported by nothing here.
        report = importlib.import_module("cbam_keras.report")
        return report.write(path, figures=figures)


def results_of(
    predictions: Mapping[str, Any],
    labels: Any = None,
    *,
    task: str | None = None,
    class_names: Sequence[str] | None = None,
    baseline: str | None = None,
    measure: Any = None,
    groups: Any = None,
    folds: Any = None,
) -> Given:
    """Returns the results of predictions that any program has made.

    They have the tables, intervals, verdict and figures of a study, without
    what only a training knows, as times. `results.write(folder)` writes
    its page.

    Args:
        predictions: Mapping of the names of networks to a list of runs, as of
            several seeds, or to one array. A run is an array of probabilities
            for all `N` test examples: `(N, classes)`, or `(N,)`, the
            probability of the second of two classes. Runs at one place of the
            lists are paired, as those of one seed. Data frames and tensors
            are taken as arrays. For regression a run has the shape of the
            labels, for scores it is `(N,)`.
        labels: The classes of the examples: names or numbers from 0, `(N,)`,
            or one-hot, `(N, classes)`. For regression the targets, `(N,)` or
            `(N, ...)`; scores have none. Defaults to `None`.
        task: `"classification"`, `"regression"`, or `"scores"` for one number
            an example that says how good a network is, as an IoU. Defaults to
            `None`: regression for floats `(N,)` as labels and predictions, else
            classification.
        class_names: Sequence of strings, the classes in the order of the
            probabilities. Defaults to `None`: numbers; names in `labels` need
            it.
        baseline: String, the network that the others are compared with.
            Defaults to `None`, the first one.
        measure: What is compared, see `Classification` and `Regression`; of
            scores a `Measure`, by which a lower one may be better. Defaults to
            `None`: `"test_accuracy"`, `"mae"`, and a score of which more is
            better.
        groups: Array `(N,)`, what each example belongs to, as a patient.
            Intervals then draw groups. Defaults to `None`: each is its own.
        folds: What says that there are folds of a cross-validation: an array
            `(N,)` with the fold of each example, where runs are of all
            examples; a list of the indices of each fold, where each fold is a
            run of its examples alone; or the number of folds, or `True`, where
            each run is a tuple of the indices of its examples and their
            predictions. Folds of a second seed follow those of the first.
            Defaults to `None`: a run is of all examples.

    Returns:
        A `study.Results`, with a method `write(folder)`.

    Raises:
        ValueError: If predictions are no probabilities of these classes, or
            no numbers, if they have another number of examples than `labels`,
            or networks other numbers of runs, or if folds do not test each
            example once.
        ImportError: If scikit-learn or pandas is missing.

    Example:
        >>> labels = np.arange(60) % 2
        >>> plain, gated = (np.clip(labels, x, 1 - x) for x in (0.4, 0.2))
        >>> results = results_of({"plain": plain, "gated": gated}, labels)
        >>> results.to_dataframe()["mean"].tolist()
        [1.0, 1.0]
    """
    _checks.one_of("task", task, (None, *TASKS, SCORES))
    if not isinstance(predictions, Mapping) or not predictions:
        raise TypeError(
            "`predictions` must be a mapping of the names of networks to "
            f"probabilities or numbers. Received: {_checks.shown(predictions)}"
        )
    first, *_ = predictions
    if labels is None and task == SCORES:
        count = _count_scores(predictions[first], folds)
    elif labels is None or task == SCORES:
        raise ValueError(
            "`labels` must be given, except for scores, one of each example, "
            'which need task="scores". Received: labels='
            f"{_checks.shown(labels)}, {task=}"
        )
    else:
        labels = _as_array(labels)
        count = len(labels)
    runs = {x: _runs(y, count, folds) for x, y in predictions.items()}
    for name in runs:
        check_name(name)
    _checks.one_of("baseline", baseline or first, runs)
    groups = _as_array(np.arange(count) if groups is None else groups)
    if groups.shape != (count,):
        raise ValueError(
            f"`groups` must have a value for each of the {count:,} examples. "
            f"Received: shape {groups.shape}"
        )
    if any(x is None or x != x for x in groups.tolist()):
        raise ValueError(
            "`groups` must name what each example belongs to. Received: None "
            "or NaN among them"
        )
    given = _read(task, runs[first][0].scores, labels, class_names, measure)
    places, count_of_folds = _places(runs[first], count, folds)
    names = np.array([f"test {row}" for row in range(count)])
    files_read, outcomes = {}, []
    for variant, its_runs in runs.items():
        _check_pairs(variant, its_runs, first, runs[first])
        for place, run in zip(places, its_runs, strict=True):
            about = names[run.rows], groups[run.rows].astype(str)
            kept, metrics = given.read(variant, run, *about)
            files_read[variant, place] = {"test": kept}
            name = name_of(variant, place)
            outcomes.append(
                Outcome(
                    *(variant, place.seed, FINISHED),
                    fold=place.fold,
                    metrics=metrics,
                    predictions=f"{name}/{name}{_files.PREDICTIONS}",
                )
            )
    data = {
        place.name: {
            **{"name": "given predictions", "noun": "example"},
            "classes": len(given.class_names),
            "sizes": {"train": 0, "test": len(run.rows)},
        }
        for place, run in zip(places, runs[first], strict=True)
    }
    settings = {"model": "networks", "recipe": {}, "folds": count_of_folds}
    settings |= {"variants": {name: {} for name in runs}, "data": data}
    content = as_written(
        {
            **{"format": FORMAT, "kind": KIND, "command": None},
            **{"settings": settings, "versions": versions(), "labels": {}},
            "seeds": [*dict.fromkeys(place.seed for place in places)],
            "question": "",
            "measures": [dataclasses.asdict(x) for x in given.measures],
            "baseline": baseline or first,
            **{"class_names": given.class_names, "threshold": None},
            "commonest": given.commonest,
            **dict.fromkeys(NOT_KNOWN),
        }
    )
    parts = Results.parts_of(
        pathlib.Path(KIND),
        {**content, "outcomes": outcomes},
        tuple(runs),
        tuple(content["seeds"]),
    )
    results = Given(**parts, content=content)
    results.files_read.update(files_read)
    return results


def read_given(path: pathlib.Path) -> Given:
    """Returns the results of the predictions in a `.npz` file.

    It has `labels` and, if they are to be named, `class_names`; `groups` and
    `task`, if there are any; and probabilities or numbers `(S, N, ...)` under
    the names of networks.
    """
    try:
        with np.load(path) as file:
            arrays = dict(file)
    except (OSError, ValueError) as error:
        raise ValueError(
            "Predictions must be a .npz file that has the array labels and one "
            "for each network, as numpy.savez(file, labels=..., none=..., "
            f'cbam=...) writes. Received: "{path}" ({error})'
        ) from error
    names = ("labels", "class_names", "groups", "task")
    options = {name: arrays.pop(name) for name in names if name in arrays}
    if "task" in options:
        options["task"] = str(options["task"])
    return results_of({x: [*y] for x, y in arrays.items()}, **options)


def _count_scores(value, folds):
    """Returns of how many examples the scores of a network are."""
    parts = value if isinstance(value, list | tuple) else [value]
    if _is_single(folds) and folds is not None:
        folds = [rows for rows, _ in parts]
    if folds is None or all(map(_is_single, folds)):
        return len(parts) if np.ndim(parts[0]) == 0 else len(parts[0])
    return len(np.unique(np.concatenate([*folds])))


def _is_single(value):
    """Returns whether a value is neither an array nor a list."""
    return not isinstance(value, list | tuple) and np.ndim(value) == 0


def _as_array(values):
    if hasattr(values, "detach"):
        # A tensor of PyTorch that may hold gradients, or be on a GPU.
        values = values.detach().cpu()
    if np.ma.is_masked(values):
        raise ValueError(
            "Arrays must have no masked values. Received: "
            f"{_checks.count(np.ma.count_masked(values), 'masked value')} in "
            f"an array of shape {values.shape}. Leave out these examples"
        )
    return np.asarray(values)


def _runs(value, count, folds):
    """Returns the runs of one network for so many examples."""
    are_runs = isinstance(value, list | tuple)
    if are_runs and folds is None and not any(map(_is_fold, value)):
        sizes = {np.shape(_as_array(x))[:1] for x in value}
        is_array = sizes != {(count,)} and len(value) == count
        if sizes == {(count,)} and len(value) == count:
            raise ValueError(
                "`predictions` of a network must be a list of runs or an "
                f"array. Received: {count} lists of {count}, which are either: "
                "pass numpy.array(...), or a list of such"
            )
        are_runs = not is_array
    runs = [*(value if are_runs else [value])]
    if not runs:
        raise ValueError("`predictions` of a network must not be empty")
    if folds is not None:
        return [*_runs_of_folds(runs, count, folds)]
    if any(map(_is_fold, runs)):
        raise ValueError(
            "`folds` must say that runs are folds, as folds=5, where each is a "
            "tuple of the indices of its examples and their predictions. "
            "Received: such a tuple, folds=None"
        )
    return [GivenRun(np.arange(count), _of_all(run, count)) for run in runs]


def _of_all(run, count):
    """Returns what a run gives so many examples."""
    scores = _as_array(run)
    if len(scores) != count and count in scores.shape[1:2]:
        raise ValueError(
            "`predictions` of several runs must be a list, as [*array]. "
            f"Received: an array of shape {scores.shape} for {count:,} "
            "examples"
        )
    if len(scores) != count:
        raise ValueError(
            f"`predictions` must be of all {count:,} examples, or `folds` say "
            f"which are of what. Received: an array of shape {scores.shape}"
        )
    return scores


def _is_fold(run):
    """Returns whether a run is indices and predictions, as of a fold."""
    if not isinstance(run, tuple) or len(run) != 2:
        return False
    rows = _as_array(run[0])
    return rows.ndim == 1 and rows.dtype.kind in "iu"


def _runs_of_folds(runs, count, folds):
    """Yields a run for each fold, with the indices of its examples."""
    if _is_single(folds):
        if not all(map(_is_fold, runs)):
            raise ValueError(
                "`predictions` of folds must be a list of tuples, of the "
                "indices of examples and their predictions. Received: "
                f"{folds=}, with {_checks.shown(runs[0])}"
            )
        pairs = runs
    elif all(map(_is_single, folds)):
        of_each = _as_array(folds)
        if of_each.shape != (count,):
            raise ValueError(
                f"`folds` must have a fold for each of the {count:,} examples. "
                f"Received: {len(of_each)}"
            )
        every = [np.flatnonzero(of_each == x) for x in np.unique(of_each)]
        pairs = [(x, _of_all(run, count)[x]) for run in runs for x in every]
    else:
        pairs = zip(itertools.cycle(folds), runs, strict=False)
    for number, (rows, scores) in enumerate(pairs):
        rows, scores = _as_array(rows), _as_array(scores)
        is_index = rows.ndim == 1 and rows.dtype.kind in "iu" and len(rows)
        if not is_index or rows.min() < 0 or rows.max() >= count:
            raise ValueError(
                "Indices of a fold must be whole numbers from 0 to "
                f"{count - 1:,}. Received: {_checks.shown(rows)} in fold "
                f"{number}" + (f", up to {rows.max()}" if is_index else "")
            )
        if len(np.unique(rows)) != len(rows) or len(scores) != len(rows):
            raise ValueError(
                "A fold must have each of its examples once, with what is "
                f"predicted of it. Received: {len(rows)} indices, "
                f"{len(np.unique(rows))} of them different, and "
                f"{len(scores)} predictions in fold {number}"
            )
        yield GivenRun(rows, scores)


@dataclasses.dataclass
class _Classes:
    """Reads probabilities of classes, whose labels are given."""

    class_names: list[str]
    labels: np.ndarray
    measure: str

    @property
    def measures(self):
        if self.measure == ACCURACY:
            return [TEST_ACCURACY]
        heading = f"test {MEASURES[self.measure]}"
        shown = SHOWN.get(self.measure, {})
        return [Measure(self.measure, heading, **shown), TEST_ACCURACY]

    @property
    def commonest(self):
        return int(np.bincount(self.labels).max()) / len(self.labels)

    def read(self, variant, run, names, groups):
        """Returns the predictions of a run, and its metrics."""
        scores = _probabilities(variant, run, len(self.class_names))
        kept = Predictions(names, self.labels[run.rows], scores, groups)
        metrics = {ACCURACY: float(np.mean(kept.of_each))}
        if self.measure != ACCURACY:
            value = compute(self.measure, scores, kept.labels)
            metrics = {self.measure: value, **metrics}
        return kept, metrics


@dataclasses.dataclass
class _Numbers:
    """Reads numbers, whose targets are given, or scores without any."""

    labels: np.ndarray | None
    measure: Any
    measures: Sequence[Measure]
    class_names: Sequence[str] = ()

    @property
    def commonest(self):
        if self.labels is None:
            return None
        return guess_number(self.measure, self.labels, self.labels)

    def read(self, variant, run, names, groups):
        """Returns the predictions of a run, and its metrics."""
        rows, numbers = run
        shape = rows.shape
        if self.labels is not None:
            shape = self.labels[rows].shape
            if numbers.shape == shape[:-1]:
                numbers = numbers[..., None]
        if numbers.shape != shape or not _are_numbers(numbers):
            raise ValueError(
                f"`predictions` must be finite numbers of shape {shape}. "
                f'Received: those of "{variant}", {run.scores.dtype} of shape '
                f"{run.scores.shape}"
            )
        labels = None if self.labels is None else self.labels[rows]
        kept = Numbers(names, labels, numbers.astype("float64"), groups)
        if labels is None:
            return kept, {SCORE: float(kept.of_each.mean())}
        return kept, measure_numbers(self.measure, kept.numbers, labels)


def _read(task, scores, labels, class_names, measure):
    """Returns what reads predictions of a task, given those of one run."""
    if labels is None:
        usual = Measure(SCORE, "score", scale=1, unit="", digits=4)
        if not isinstance(measure or usual, Measure):
            raise TypeError(
                "`measure` of scores must be a study.Measure, which says "
                f"whether a lower one is better. Received: measure={measure!r}"
            )
        found = dataclasses.replace(measure or usual, key=SCORE)
        return _Numbers(None, None, [found])
    is_float = labels.dtype.kind == "f" and not np.isin(labels, (0, 1)).all()
    if task is None and is_float and labels.ndim == scores.ndim == 1:
        task = REGRESSION
    if task == REGRESSION:
        targets = labels[:, None] if labels.ndim == 1 else labels
        if not _are_numbers(targets) or class_names is not None:
            raise ValueError(
                "`labels` of a regression must be finite numbers, (N,) or "
                "(N, ...), without `class_names`. Received: "
                f"{labels.dtype} of shape {labels.shape}, {class_names=}"
            )
        measure = measure or "mae"
        name, targets = check_measure_of_numbers(measure), targets.astype(float)
        measures = measures_of_numbers(name, targets.std())
        return _Numbers(targets, measure, measures)
    measure = measure or ACCURACY
    _checks.one_of("measure", measure, [ACCURACY, *MEASURES])
    classes = scores.shape[1] if scores.ndim == 2 else 2
    return _Classes(*_read_labels(labels, class_names, classes), measure)


def _are_numbers(values):
    is_number = values.dtype.kind in "iuf" and values.size > 0
    # The squares of others are infinite.
    return is_number and bool((np.abs(values) < LARGEST).all())


def _read_labels(labels, class_names, classes):
    """Returns the names of classes, and their numbers `(N,)`."""
    given = [*(range(classes) if class_names is None else class_names)]
    names = [*map(str, given)]
    if len(names) != classes or len({*names}) != classes:
        raise ValueError(
            "`class_names` must name each column of the probabilities. "
            f"Received: {names}, where there are {classes} columns"
        )
    received = f"{labels.dtype} of shape {labels.shape}"
    if labels.dtype.kind == "O" and not any(
        isinstance(x, str | bytes) or x is None for x in labels.flat
    ):
        # Such as data frames have.
        labels = np.array(labels.tolist())
    if labels.ndim == 2 and labels.shape[1] == classes > 1:
        is_one_hot = np.isin(labels, (0, 1)).all()
        if is_one_hot and (labels.sum(axis=1) == 1).all():
            labels = labels.argmax(axis=1)
    elif labels.dtype.kind in "USO":
        if class_names is None:
            raise ValueError(
                "`class_names` must be given for labels that are names: the "
                "classes in the order of the probabilities. Received: labels "
                f"as {labels[0]!r}"
            )
        numbers = {name: number for number, name in enumerate(names)}
        texts = [x.decode() if isinstance(x, bytes) else str(x) for x in labels]
        labels = np.array([numbers.get(x, -1) for x in texts])
    elif any(_is_number(x) and str(x) != str(i) for i, x in enumerate(given)):
        raise ValueError(
            "`class_names` must be no numbers where labels are numbers, since "
            "a label is the place of its class. Received: "
            f"class_names={_checks.shown(given)}. Give the labels as text, as "
            "labels.astype(str), if they are these names"
        )
    is_class = labels.ndim == 1 and labels.dtype.kind in "iub" and len(labels)
    if not is_class or labels.min() < 0 or labels.max() >= classes:
        raise ValueError(
            "`labels` must be the classes of the examples: names of "
            f"`class_names`, whole numbers from 0 to {classes - 1}, or "
            f"one-hot. Received: {received}. For numbers pass "
            'task="regression"'
        )
    return names, labels.astype("int32")


def _is_number(name):
    """Returns whether a name is a number, or is written as one."""
    try:
        float(name)
    except ValueError:
        return False
    return True


def _places(runs, count, asked):
    """Returns the seed and fold of each run, and the number of folds."""
    if asked is None:
        return [Run(seed) for seed in range(len(runs))], None
    places, seed, tested = [], 0, np.zeros(count, int)
    for run in runs:
        fold = sum(place.seed == seed for place in places)
        places.append(Run(seed, fold))
        np.add.at(tested, run.rows, 1)
        seed += bool(tested.all())
        if tested.max() > 1:
            break
        tested *= not tested.all()
    folds = len(places) // max(seed, 1)
    is_other = type(asked) is int and asked != folds
    are_whole = not tested.any() and folds > 1 and not is_other
    if not are_whole or places != [*runs_of(range(seed), folds)]:
        raise ValueError(
            "Folds must test each example once before the next repetition "
            f"begins, and be as many in each, two or more. Received: "
            f"{len(runs)} runs of {[len(run.rows) for run in runs]} examples, "
            f"of {count}, folds={_checks.shown(asked)}"
        )
    return places, folds


def _check_pairs(variant, runs, first, its_runs):
    """Raises unless two networks have runs on the same examples."""
    rows, others = ([x.rows.tolist() for x in y] for y in (runs, its_runs))
    if rows != others:
        raise ValueError(
            "Runs are paired by their place, so networks must have as many, "
            f'with the same folds. Received: {len(rows)} of "{variant}" and '
            f'{len(others)} of "{first}", or other folds'
        )


def _probabilities(variant, run, classes):
    """Returns probabilities `(N, classes)`, after checking them."""
    scores = run.scores
    if scores.shape == run.rows.shape and classes == 2:
        scores = np.stack([1 - scores, scores], axis=1)
    received = f'those of "{variant}", of shape {run.scores.shape}'
    if scores.shape != (len(run.rows), classes):
        raise ValueError(
            "`predictions` must be probabilities of shape "
            f"({len(run.rows)}, {classes}). Received: {received}"
        )
    if not (scores >= 0).all() or abs(scores.sum(axis=1) - 1).max() > ROUNDING:
        raise ValueError(
            "`predictions` must be probabilities, which sum to 1 over classes. "
            f"Received: {received}, from {scores.min():.3g} to "
            f"{scores.max():.3g}. Of logits take the softmax first; for "
            'numbers pass task="regression"'
        )
    return scores.astype("float32")
