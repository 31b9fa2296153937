"""`results_of`: predictions from any framework, as results."""

import dataclasses
import itertools
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

import cbam_keras
from cbam_keras import _checks, _files
from cbam_keras.study.files.checkpoints import folder_name
from cbam_keras.study.files.folder import FORMAT, as_written, versions
from cbam_keras.study.files.outcomes import FINISHED, Outcome
from cbam_keras.study.plans.measures import Measure
from cbam_keras.study.plans.study import Run, check_name, runs_of
from cbam_keras.study.programs.given_arrays import as_names
from cbam_keras.study.programs.given_classes import interpret
from cbam_keras.study.programs.given_columns import GIVEN_TASKS, Column
from cbam_keras.study.programs.given_files import (
    PredictionTable,
    name_columns,
    read_tables,
)
from cbam_keras.study.programs.given_names import describe_networks
from cbam_keras.study.programs.given_rows import Joined, join
from cbam_keras.study.programs.given_values import GivenRun, find_reader
from cbam_keras.study.results.kept import GIVEN, OF_SCORES
from cbam_keras.study.results.results import Results


@dataclasses.dataclass(frozen=True)
class GivenResults(Results):
    """Results of predictions that were given, see `results_of`.

    All that `Results` tell of a run is told of these predictions. Only what was
    read, and how, is more.

    Attributes:
        content: Dictionary, what `study.json` of a written folder holds.
    """

    content: _files.Json = dataclasses.field(
        default_factory=dict, compare=False, repr=False
    )

    def __str__(self) -> str:
        notes = [f"{x}." for x in self.content["notes"]]
        read = f"{self.content['read']}."
        return "\n\n".join([read, super().__str__(), *notes])

    def write(
        self, folder: str | os.PathLike, figures: str | None = None
    ) -> pathlib.Path:
        """Writes predictions, tables, figures and a page into a folder.

        Args:
            folder: Path of a folder that is new or empty.
            figures: `"pdf"` to write figures also as PDF. Defaults to `None`.

        Returns:
            Path of the page, `report.html` in that folder.

        Raises:
            ValueError: If the folder is not empty, or cannot be written to, or
                for other `figures`.
        """
        # The report is above studies, which do not import it: it is reached by
        # the package's root, which imports it when it is asked for.
        return cbam_keras.report.write_given(self, folder, figures)


@_checks.named
def results_of(
    predictions: Mapping[str, ArrayLike] | str | os.PathLike,
    labels: Any = None,
    *,
    task: str | None = None,
    class_names: Sequence[str] | None = None,
    baseline: str | None = None,
    measure: str | Callable | Measure | None = None,
    groups: ArrayLike | None = None,
    folds: int | Sequence[ArrayLike] | None = None,
    multi_label: bool = False,
    logits: bool = False,
    pattern: str | None = None,
) -> GivenResults:
    """Returns the results of predictions from any framework.

    They have the tables, intervals, verdict and figures of a study.
    `results.write(folder)` writes the report.

    Args:
        predictions: Mapping of network names to one array, or to a list of
            runs, such as several seeds. A run is an array of probabilities for
            all `N` test examples: `(N, classes)`, or `(N,)` or `(N, 1)`, the
            probability of the second of two classes; or only classes, `(N,)`,
            as numbers or names. Runs at the same position of the lists are
            paired, like runs with one seed. Tensors are taken as arrays, data
            frames too, and text in their `columns` names the classes. For
            regression a run has the shape of the labels, for scores it is
            `(N,)`. Or the path of a folder of `.npz` or `.csv` files with
            labels, one per network and seed, such as `none_s0.npz`, or of one
            file of all networks; see the guide on predictions.
        labels: The classes of the examples: names or numbers from 0, `(N,)`,
            or one-hot, `(N, classes)`. For regression the targets, `(N,)` or
            `(N, ...)`; scores have none. Beside files they are in the order of
            the rows. Defaults to `None`: those of files.
        task: `"classification"`, `"regression"`, or `"scores"` for one number
            per example, e.g. an IoU. Defaults to `None`: by the values, never
            by their type. Text, `class_names`, `(N, classes)` and labels that
            are exactly 0 to C - 1 are classes; targets or predictions that are
            not whole are numbers; what may be both is refused.
        class_names: Sequence of strings, the classes in the order of their
            numbers, and of probabilities without names. Defaults to `None`:
            what columns are called, the text of labels, or numbers.
        baseline: String, the network that the others are compared with.
            Defaults to `None`: the first one, or in files one called `none`,
            `baseline` or similar.
        measure: The metric that is compared, see `Classification` and
            `Regression`; for scores a `Measure`, if lower is better. Defaults
            to `None`: `"test_accuracy"`, `"mae"`, or a higher score.
        groups: Array `(N,)`, the group of each example, e.g. a patient.
            Intervals are then over groups. Defaults to `None`: no groups.
        folds: If runs are folds of a cross-validation: their number, or `True`,
            and each run is a tuple of the indices of its examples and their
            predictions; or a list of these indices, and runs are the
            predictions. Folds of a second seed follow the first seed's.
            Defaults to `None`: a run has all examples.
        multi_label: Boolean, whether examples may have several classes; see
            `Classification`. Defaults to `False`.
        logits: Boolean, whether predictions are logits, of a softmax, or of a
            sigmoid for single logits and several labels. Defaults to `False`.
        pattern: String, the names of files in a folder, with `{network}`,
            `{seed}` and `{fold}`, e.g. `"{network}/{seed}/probs.npz"`. Defaults
            to `None`: `none_s0.npz`, `none_run0.npz`, `none-seed0_fold2.csv`.

    Returns:
        A `study.Results`, with a method `write(folder)`.

    Raises:
        ValueError: If predictions are not probabilities of these classes, or
            not numbers, if their number differs from `labels`, if networks
            differ in their numbers of runs, if folds do not test each example
            once, if files are damaged or disagree, or if names of files,
            columns or labels could be read in two ways. The message has the
            argument that decides.
        ImportError: If scikit-learn or pandas is missing.

    Example:
        >>> labels = np.arange(60) % 2
        >>> plain, gated = (np.clip(labels, x, 1 - x) for x in (0.4, 0.2))
        >>> results = results_of({"plain": plain, "gated": gated}, labels)
        >>> results.to_dataframe()["mean"].tolist()
        [1.0, 1.0]
    """
    _checks.one_of("task", task, (None, *GIVEN_TASKS, OF_SCORES))
    _checks.boolean("multi_label", multi_label)
    _checks.boolean("logits", logits)
    names = _names_of_frame(labels)
    labels = None if labels is None else _as_array(labels)
    beside = None
    if labels is not None:
        beside = Column("labels=", "labels", labels, names)
    options = {
        "class_names": class_names,
        "multi_label": multi_label,
        "logits": logits,
    }
    if isinstance(predictions, str | os.PathLike):
        count = None if labels is None else len(labels)
        tables, task = read_tables(predictions, pattern, task, logits, count)
        _check_labels(beside, task, [*tables.values()])
        joined, meaning = _join_files(
            tables, beside, groups is not None, task, options
        )
        asked = _find_folds(tables, folds)
        seeds = [*dict.fromkeys(run.seed for _, run in tables)]
    else:
        if not isinstance(predictions, Mapping) or not predictions:
            raise TypeError(
                "`predictions` must be a mapping of the names of networks to "
                "probabilities or numbers, or the path of a folder of files. "
                f"Received: {_checks.shown(predictions)}"
            )
        _check_labels(beside, task, [])
        joined, meaning = _join_arrays(
            predictions, beside, folds, task, options
        )
        asked, seeds = folds, None
    count, runs = joined.count, joined.runs
    first = next(iter(runs))
    for name in runs:
        check_name(name)
    _checks.one_of("baseline", baseline or first, runs)
    places, count_of_folds = _find_places(runs[first], count, asked)
    if seeds is not None:
        places = [Run(seeds[x.seed], x.fold) for x in places]
    reader = find_reader(
        meaning,
        joined.labels,
        measure=measure,
        multi_label=multi_label,
        logits=logits,
    )
    images = joined.names
    if images is None:
        images = np.array([f"test {row}" for row in range(count)])
    groups = joined.groups if groups is None else groups
    about = images, _read_groups(groups, count)
    read = _describe(joined, meaning, count_of_folds, multi_label)
    return _make(
        runs, places, reader, about, baseline or first, count_of_folds, read
    )


def _check_labels(beside, task, tables):
    """Raises unless there are labels, or none of scores."""
    with_labels = [x.source for x in tables if x.labels is not None]
    has_labels = beside is not None or len(with_labels) > 0
    if has_labels != (task == OF_SCORES):
        return
    if has_labels:
        received = f"labels in {with_labels[0] if with_labels else 'labels='}"
        advice = "Leave out the labels, or the task"
    else:
        received = "no labels"
        if tables:
            columns = tables[0].columns or ("none beside predictions",)
            received += (
                f' in "{tables[0].source}", with the columns '
                f"{_checks.first_few(columns, 9)}"
            )
        advice = (
            "Add a column or array label (y_true, target), or pass "
            'task="scores" (--task scores) if each number is a score'
        )
    raise ValueError(
        '`labels` must be given, except for scores (task="scores"). '
        f"Received: {received}, {task=}. {advice}"
    )


def _join_files(tables, beside, has_groups, task, options):
    """Returns the examples and runs of files, and what they mean."""
    keys = [key for key, table in tables.items() if table.labels is not None]
    columns = [
        Column(
            tables[key].source,
            "labels",
            tables[key].labels,
            tables[key].class_names,
            tables[key].is_text,
        )
        for key in keys
    ]
    if beside is not None:
        columns.append(beside)
    meaning = interpret([*tables.values()], columns, task=task, **options)
    predictions = dict(zip(tables, meaning.predictions, strict=True))
    labels = dict(zip(keys, meaning.labels, strict=False))
    labels_beside = None if beside is None else meaning.labels[-1]
    return join(tables, predictions, labels, labels_beside, has_groups), meaning


def _find_folds(tables, folds):
    """Returns whether runs of files are folds."""
    has_folds = any(run.fold is not None for _, run in tables)
    if folds is not None and not has_folds:
        raise ValueError(
            "Folds of files are given by their names, such as "
            "none_s0_fold2.npz, or by a column fold. Received: "
            f"folds={_checks.shown(folds)}, with files without folds"
        )
    return True if has_folds else None


def _join_arrays(predictions, beside, folds, task, options):
    """Returns the examples and runs of arrays, and what they mean."""
    count = None if beside is None else len(beside.values)
    runs = {x: _read_runs(y, count, folds) for x, y in predictions.items()}
    first, *_ = runs
    if count is None:
        count = 1 + max(int(run.rows.max(initial=-1)) for run in runs[first])
    for name, its_runs in runs.items():
        _check_runs(its_runs, count, folds)
        rows, others = (
            [x.rows.tolist() for x in runs[y]] for y in (name, first)
        )
        if rows != others:
            raise ValueError(
                "Runs are paired by position, so all networks need the same "
                f"number of runs and the same folds. Received: {len(rows)} of "
                f'"{name}" and {len(others)} of "{first}", or other folds'
            )
    tables = []
    for name, its_runs in runs.items():
        for run in its_runs:
            matrix, columns = run.scores, run.columns
            if columns is not None:
                matrix, columns = name_columns(matrix, columns)
            tables.append(PredictionTable(str(name), matrix, columns))
    columns = [] if beside is None else [beside]
    meaning = interpret(tables, columns, task=task, **options)
    read = iter(meaning.predictions)
    ordered = {
        name: [GivenRun(run.rows, next(read)) for run in its_runs]
        for name, its_runs in runs.items()
    }
    labels = None if beside is None else meaning.labels[0]
    return Joined(ordered, labels, None, None, count), meaning


def _describe(joined, meaning, folds, multi_label):
    """Returns what was read, e.g. "2 networks (a, b), 1 run each, ..."."""
    names = [
        (x, y) for x, runs in joined.runs.items() for y in range(len(runs))
    ]
    parts = [describe_networks(names)]
    if folds is not None:
        parts[0] += f" ({folds} folds)"
    parts.append(_checks.count(joined.count, "example"))
    if meaning.class_names:
        noun = "label" if multi_label else "class"
        count = len(meaning.class_names)
        plural = (
            noun if count == 1 else {"class": "classes"}.get(noun, "labels")
        )
        listed = _checks.first_few(meaning.class_names, 9)
        parts.append(f"{count:,} {plural} ({listed})")
    task = meaning.task
    if multi_label:
        task += " with several labels per example"
    return f"{', '.join(parts)}: {task}"


def _names_of_frame(values):
    """Returns what the columns of a data frame are called, if by texts."""
    columns = getattr(values, "columns", None)
    if columns is None or not all(isinstance(x, str) for x in columns):
        return None
    return as_names([*columns])


def _read_groups(groups, count):
    """Returns what each example belongs to, as text."""
    groups = _as_array(np.arange(count) if groups is None else groups)
    is_missing = any(x is None or x != x for x in groups.ravel().tolist())
    if groups.shape != (count,) or is_missing:
        received = "None or NaN" if is_missing else f"shape {groups.shape}"
        raise ValueError(
            f"`groups` must give a group for each of the {count:,} examples. "
            f"Received: {received}"
        )
    return groups.astype(str)


def _as_array(values):
    """Returns values as an array, also those of PyTorch."""
    if hasattr(values, "detach"):
        # A tensor that may hold gradients, or be on a GPU.
        values = values.detach().cpu()
    if np.ma.is_masked(values):
        raise ValueError(
            "Arrays must have no masked values. Received: an array of shape "
            f"{values.shape} with some. Leave out these examples"
        )
    return np.atleast_1d(np.asarray(values))


def _read_runs(value, count, folds):
    """Returns the runs of one network, for so many examples if it is known."""
    runs = value if isinstance(value, list | tuple) else [value]
    if not len(runs):
        raise ValueError("`predictions` of a network must not be empty")
    if isinstance(folds, list | tuple):
        runs = [*zip(itertools.cycle(folds), runs, strict=False)]
    are_folds = [*map(_is_fold, runs)]
    if folds is None and any(are_folds):
        raise ValueError(
            "`folds` must be given, such as folds=5, where runs are tuples "
            "(indices, predictions). Received: such a tuple, folds=None"
        )
    if folds is not None and not all(are_folds):
        raise ValueError(
            "`predictions` of folds must be a list of tuples, of the indices "
            "of examples, whole numbers, and their predictions. Received: "
            f"{folds=}, with {_checks.shown(runs[0])}"
        )
    if folds is not None:
        return [
            GivenRun(_as_array(rows), _as_array(x), _names_of_frame(x))
            for rows, x in runs
        ]
    if runs is value and (len(runs) == count or np.ndim(runs[0]) == 0):
        if {np.shape(_as_array(x))[:1] for x in runs} == {(count,)}:
            raise ValueError(
                "`predictions` of a network must be a list of runs or an "
                f"array. Received: {count} lists of {count}, which could be "
                "either: pass numpy.array(...), or a list of arrays"
            )
        runs = [value]
    arrays = [_as_array(x) for x in runs]
    return [
        GivenRun(np.arange(len(x)), x, _names_of_frame(run))
        for x, run in zip(arrays, runs, strict=True)
    ]


def _is_fold(run):
    """Returns whether a run is indices and predictions, as of a fold."""
    if not isinstance(run, tuple) or len(run) != 2:
        return False
    rows = _as_array(run[0])
    return rows.ndim == 1 and rows.dtype.kind in "iu" and np.ndim(run[0]) == 1


def _check_runs(runs, count, folds):
    """Raises unless each run is of all examples, or of different ones."""
    for number, (rows, scores, _) in enumerate(runs):
        if folds is None and len(rows) != count:
            raise ValueError(
                f"`predictions` must cover all {count:,} examples, unless "
                "`folds` assigns examples to runs; several runs must be a "
                f"list. Received: an array of shape {scores.shape}. Pass an "
                "array of several runs as [*array]"
            )
        different = len(np.unique(rows))
        is_inside = len(rows) > 0 and rows.min() >= 0 and rows.max() < count
        if not is_inside or {different, len(scores)} != {len(rows)}:
            raise ValueError(
                "A fold must have the indices of its examples, from 0 to "
                f"{count - 1:,} and each once, with predictions. Received: in "
                f"fold {number} {_checks.shown(rows)}, {different} of them "
                f"different, and {len(scores)} predictions"
            )


def _find_places(runs, count, asked):
    """Returns the seed and fold of each run, and the number of folds."""
    if asked is None:
        return [Run(seed) for seed in range(len(runs))], None
    sizes = [len(run.rows) for run in runs]
    ends = np.cumsum(sizes).tolist()
    folds = ends.index(count) + 1 if count in ends else 1
    rows = [run.rows for run in runs]
    starts = range(0, len(runs), folds)
    seeds = [np.concatenate(rows[start : start + folds]) for start in starts]
    test_all = all(np.array_equal(np.sort(x), np.arange(count)) for x in seeds)
    is_asked = folds > 1 and (type(asked) is not int or asked == folds)
    if not is_asked or not test_all:
        raise ValueError(
            "Each repetition must test each example once, in the same number "
            "of folds, at least two. Received: "
            f"{len(runs)} runs of {sizes} examples, of {count}, "
            f"folds={_checks.shown(asked)}"
        )
    return [*runs_of(range(len(seeds)), folds)], folds


def _make(runs, places, reader, about, baseline, folds, read):
    """Returns the results of runs; `about` are names and groups."""
    files_read, outcomes, data = {}, [], {}
    for variant, its_runs in runs.items():
        for place, run in zip(places, its_runs, strict=True):
            kept, metrics = reader.read(variant, run, *about)
            files_read[variant, place] = {"test": kept}
            name = folder_name(variant, place)
            outcomes.append(
                Outcome(
                    variant,
                    place.seed,
                    FINISHED,
                    fold=place.fold,
                    metrics={**metrics},
                    predictions=f"{name}/{name}{_files.PREDICTIONS}",
                )
            )
            data[place.name] = {
                "name": "given predictions",
                "noun": "example",
                "classes": len(reader.class_names),
                "sizes": {"train": 0, "test": len(run.rows)},
            }
    content = as_written(
        {
            "format": FORMAT,
            "kind": GIVEN,
            "command": None,
            "settings": {
                "model": "networks",
                "recipe": {},
                "folds": folds,
                "variants": {name: {} for name in runs},
                "data": data,
            },
            "versions": versions(),
            "labels": {},
            "seeds": [*dict.fromkeys(place.seed for place in places)],
            "question": "",
            "measures": [dataclasses.asdict(x) for x in reader.measures],
            "baseline": baseline,
            "class_names": reader.class_names,
            "threshold": None,
            "commonest": reader.commonest,
            "read": read,
            "notes": [*dict.fromkeys(reader.notes)],
            "class_counts": None,
            "leaks": None,
            "source": None,
        }
    )
    held = {**content, "outcomes": outcomes}
    results = GivenResults.of(pathlib.Path(GIVEN), held)
    results = dataclasses.replace(results, content=content)
    results.files_read.update(files_read)
    return results
