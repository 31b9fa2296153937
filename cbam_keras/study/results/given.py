"""`results_of`: predictions that any program has made, as results."""

import dataclasses
import importlib
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cbam_keras import _checks, _files
from cbam_keras.study.plans.measures import (
    ACCURACY,
    MEASURES,
    SHOWN,
    TEST_ACCURACY,
    Measure,
    compute,
)
from cbam_keras.study.plans.study import Run, check_name, runs_of
from cbam_keras.study.results.predictions import Predictions
from cbam_keras.study.results.results import Results
from cbam_keras.study.running.checkpoints import STATE, State, name_of
from cbam_keras.study.running.folder import FORMAT, as_written, versions
from cbam_keras.study.running.outcomes import FINISHED, Outcome

KIND, TASKS = "predictions", ("classification",)
# Probabilities in half precision sum to 1 up to this.
ROUNDING = 1e-2
# What a folder holds of a study, and not of predictions.
NOT_KNOWN = ("class_counts", "scale", "notes", "leaks", "source")


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
                "`folder` must be new or empty. Received: "
                f'folder="{folder}", which holds {_checks.first_few(held)}'
            )
        for outcome in self.outcomes:
            place = path / name_of(outcome.variant, outcome.run)
            place.mkdir()
            kept = self.tested[outcome.variant][outcome.run]
            arrays = {f"test/{x}": y for x, y in vars(kept).items()}
            _files.write_arrays(path / str(outcome.predictions), arrays)
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
    labels: Any,
    *,
    task: str | None = None,
    class_names: Sequence[str] | None = None,
    baseline: str | None = None,
    measure: str | None = None,
    groups: Any = None,
) -> Given:
    """Returns the results of predictions that any program has made.

    They have the tables, intervals, verdict and figures of a study, without
    what only a training knows, as times. `results.write(folder)` writes
    its page.

    Args:
        predictions: Mapping of the names of networks to a list of runs, as of
            several seeds, or to one array. A run is an array of probabilities
            for all `N` test examples: `(N, classes)`, or `(N,)`, the
            probability of the second of two classes. Or, in a
            cross-validation, one of each fold: a tuple of the indices of its
            test examples and their probabilities. Runs at one place of the
            lists are paired, as those of one seed. Data frames and tensors
            are taken as arrays.
        labels: The classes of the examples: names or numbers from 0, `(N,)`,
            or one-hot, `(N, classes)`.
        task: `"classification"`. Defaults to `None`, which means the same.
        class_names: Sequence of strings, the classes in the order of the
            probabilities. Defaults to `None`: numbers; names in `labels` need
            it.
        baseline: String, the network that the others are compared with.
            Defaults to `None`, the first one.
        measure: What is compared, see `Classification`. Defaults to `None`,
            `"test_accuracy"`.
        groups: Array `(N,)`, what each example belongs to, as a patient.
            Intervals then draw groups. Defaults to `None`: each is its own.

    Returns:
        A `study.Results`, with a method `write(folder)`.

    Raises:
        ValueError: If predictions are no probabilities of these classes, if
            they have another number of examples than `labels`, or networks
            other numbers of runs.
        ImportError: If scikit-learn or pandas is missing.

    Example:
        >>> labels = np.arange(60) % 2
        >>> plain, gated = (np.clip(labels, x, 1 - x) for x in (0.4, 0.2))
        >>> results = results_of({"plain": plain, "gated": gated}, labels)
        >>> results.to_dataframe()["mean"].tolist()
        [1.0, 1.0]
    """
    _checks.one_of("task", task, (None, *TASKS))
    measure = measure or ACCURACY
    _checks.one_of("measure", measure, [ACCURACY, *MEASURES])
    if not isinstance(predictions, Mapping) or not predictions:
        raise TypeError(
            "`predictions` must be a mapping of the names of networks to "
            f"probabilities. Received: {_checks.shown(predictions)}"
        )
    labels = _as_array(labels)
    runs = {x: _runs(y, len(labels)) for x, y in predictions.items()}
    for name in runs:
        check_name(name)
    first, *_ = runs
    _checks.one_of("baseline", baseline or first, runs)
    scores = runs[first][0].scores
    classes = scores.shape[1] if scores.ndim == 2 else 2
    class_names, labels = _read_labels(labels, class_names, classes)
    groups = _as_array(np.arange(len(labels)) if groups is None else groups)
    if groups.shape != labels.shape:
        raise ValueError(
            "`groups` must have a value for each of the "
            f"{len(labels):,} examples. Received: shape {groups.shape}"
        )
    places, folds = _places(runs[first], len(labels))
    names = np.array([f"test {row}" for row in range(len(labels))])
    files_read, outcomes = {}, []
    for variant, its_runs in runs.items():
        _check_pairs(variant, its_runs, first, runs[first])
        for place, run in zip(places, its_runs, strict=True):
            rows = run.rows
            probabilities = _probabilities(variant, run, classes)
            kept = Predictions(
                *(names[rows], labels[rows], probabilities),
                groups[rows].astype(str),
            )
            files_read[variant, place] = {"test": kept}
            accuracy = float(np.mean(kept.predicted == kept.labels))
            metrics: dict[str, float | None] = {ACCURACY: accuracy}
            if measure != ACCURACY:
                value = compute(measure, probabilities, kept.labels)
                metrics = {measure: value, **metrics}
            name = name_of(variant, place)
            outcomes.append(
                Outcome(
                    *(variant, place.seed, FINISHED),
                    fold=place.fold,
                    metrics=metrics,
                    predictions=f"{name}/{name}{_files.PREDICTIONS}",
                )
            )
    measures = [TEST_ACCURACY]
    if measure != ACCURACY:
        heading = f"test {MEASURES[measure]}"
        measures.insert(0, Measure(measure, heading, **SHOWN.get(measure, {})))
    data = {
        place.name: {
            "name": "given predictions",
            "classes": classes,
            "sizes": {"train": 0, "test": len(run.rows)},
        }
        for place, run in zip(places, runs[first], strict=True)
    }
    settings = {"model": "networks", "recipe": {}, "folds": folds}
    settings |= {"variants": {name: {} for name in runs}, "data": data}
    content = as_written(
        {
            **{"format": FORMAT, "kind": KIND, "command": None},
            **{"settings": settings, "versions": versions(), "labels": {}},
            "seeds": [*dict.fromkeys(place.seed for place in places)],
            "question": "",
            "measures": [dataclasses.asdict(x) for x in measures],
            "baseline": baseline or first,
            **{"class_names": class_names, "threshold": None},
            "commonest": int(np.bincount(labels).max()) / len(labels),
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

    It has `labels` and, if they are to be named, `class_names`; `groups`, if
    there are any; and probabilities `(S, N, ...)` under the names of networks.
    """
    try:
        with np.load(path) as file:
            arrays = dict(file)
        labels = arrays.pop("labels")
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            "Predictions must be a .npz file that has the array labels and one "
            "for each network, as numpy.savez(file, labels=..., none=..., "
            f'cbam=...) writes. Received: "{path}" ({error})'
        ) from error
    names = ("class_names", "groups")
    options = {name: arrays.pop(name) for name in names if name in arrays}
    return results_of({x: [*y] for x, y in arrays.items()}, labels, **options)


def _as_array(values):
    if hasattr(values, "detach"):
        # A tensor of PyTorch that may hold gradients, or be on a GPU.
        values = values.detach().cpu()
    return np.asarray(values)


def _runs(value, count):
    """Returns the runs of one network for so many examples."""
    are_runs = isinstance(value, list | tuple) and not _is_fold(value)
    if are_runs and not any(map(_is_fold, value)):
        sizes = {np.shape(_as_array(x))[:1] for x in value}
        is_array = sizes != {(count,)} and len(value) == count
        if sizes == {(count,)} and len(value) == count:
            raise ValueError(
                "`predictions` of a network must be a list of runs or an "
                f"array. Received: {count} lists of {count}, which are either: "
                "pass numpy.array(...), or a list of such"
            )
        are_runs = not is_array
    runs = []
    for run in value if are_runs else [value]:
        rows, scores = run if _is_fold(run) else (np.arange(count), run)
        runs.append(GivenRun(_as_array(rows), _as_array(scores)))
    if not runs:
        raise ValueError("`predictions` of a network must not be empty")
    return runs


def _is_fold(value):
    """Returns whether a value is indices and their predictions."""
    if not isinstance(value, tuple) or len(value) != 2:
        return False
    rows = _as_array(value[0])
    return rows.ndim == 1 and rows.dtype.kind in "iu"


def _read_labels(labels, class_names, classes):
    """Returns the names of classes, and their numbers `(N,)`."""
    names = [*map(str, range(classes) if class_names is None else class_names)]
    if len(names) != classes or len({*names}) != classes:
        raise ValueError(
            "`class_names` must name each column of the probabilities. "
            f"Received: {names}, where there are {classes} columns"
        )
    received = f"{labels.dtype} of shape {labels.shape}"
    if labels.ndim == 2 and labels.shape[1] == classes > 1:
        is_one_hot = np.isin(labels, (0, 1)).all()
        if is_one_hot and (labels.sum(axis=1) == 1).all():
            labels = labels.argmax(axis=1)
    elif labels.dtype.kind in "UO":
        if class_names is None:
            raise ValueError(
                "`class_names` must be given for labels that are names: the "
                "classes in the order of the probabilities. Received: labels "
                f"as {labels[0]!r}"
            )
        numbers = {name: number for number, name in enumerate(names)}
        labels = np.array([numbers.get(str(x), -1) for x in labels])
    is_class = labels.ndim == 1 and labels.dtype.kind in "iub" and len(labels)
    if not is_class or labels.min() < 0 or labels.max() >= classes:
        raise ValueError(
            "`labels` must be the classes of the examples: names of "
            f"`class_names`, whole numbers from 0 to {classes - 1}, or "
            f"one-hot. Received: {received}"
        )
    return names, labels.astype("int32")


def _places(runs, count):
    """Returns the seed and fold of each run, and the number of folds."""
    if all(len(run.rows) == count for run in runs):
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
    if tested.any() or places != [*runs_of(range(seed), folds)]:
        raise ValueError(
            "Folds must test each example once before the next repetition "
            f"begins, and be as many in each. Received: {len(runs)} runs of "
            f"{[len(run.rows) for run in runs]} examples, of {count}"
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
            f"{scores.max():.3g}. Of logits take the softmax first"
        )
    return scores.astype("float32")
