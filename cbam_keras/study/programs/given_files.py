"""Files of predictions, one of each network and seed, or all in one."""

import csv
import dataclasses
import io
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cbam_keras import _checks
from cbam_keras.study.plans.study import Run

# What arrays of a .npz file and columns of a .csv file are called.
LOGITS = "logits"
PREDICTED = (
    *("probs", "probabilities", "predictions", "y_pred", "y_prob", "y_score"),
    *("prob", "probability", "prediction", "pred", "preds", "scores", "score"),
)
LABELS = ("labels", "y_true", "label", "targets", "target")
GROUPS = ("groups", "group")
# pandas writes an index without a name.
NAMES = ("names", "name", "images", "image", "ids", "id", "")
CLASSES = "class_names"
SUFFIXES = (".npz", ".csv")
# As none_s0.npz, none-seed0.csv, none_s0_fold2.npz, none_fold2.npz.
USUAL = re.compile(
    r"(?P<network>.+?)([-_](s|seed)[-_]?(?P<seed>\d+))?"
    r"([-_](f|fold)[-_]?(?P<fold>\d+))?\.(npz|csv)",
    re.I,
)
PARTS_OF_PATTERN = {
    "{network}": "(?P<network>[^/]+?)",
    "{seed}": r"(?P<seed>\d+)",
    "{fold}": r"(?P<fold>\d+)",
    "*": "[^/]*",
}
# Networks without attention, which others are compared with.
BASELINES = ("none", "baseline", "plain", "control", "without", "base")
EXAMPLE = (
    "files as none_s0.npz and cbam_s0.npz, with the arrays probs, (N, classes) "
    "or (N,), and labels, (N,); or .csv with a column for each class and "
    "label. Other names are said by pattern= (--pattern), as "
    '"{network}/{seed}/probs.npz"'
)


@dataclasses.dataclass
class GivenFiles:
    """What files hold, as arguments of `results_of`."""

    predictions: dict[str, list[np.ndarray]]
    labels: np.ndarray | None = None
    class_names: Sequence[str] | None = None
    groups: np.ndarray | None = None
    names: np.ndarray | None = None
    folds: list[np.ndarray] | None = None
    task: str | None = None
    seeds: Sequence[int] | None = None


@dataclasses.dataclass
class _Part:
    """What one file holds."""

    path: pathlib.Path
    scores: np.ndarray
    labels: np.ndarray | None
    class_names: Sequence[str] | None
    groups: np.ndarray | None
    names: np.ndarray | None

    def __post_init__(self):
        every = self.scores, self.labels, self.groups, self.names
        lengths = [len(x) for x in every if x is not None]
        if len({*lengths}) != 1:
            raise ValueError(
                "Predictions, labels, groups and names of a file must be of "
                f'as many examples. Received: "{self.path}", with {lengths}'
            )
        if self.class_names is not None and self.labels is not None:
            self.labels = _as_places(self.labels, self.class_names)


def read_files(
    path: str | os.PathLike, pattern: str | None = None, logits: bool = False
) -> GivenFiles:
    """Returns what a folder of files of predictions holds, or one file.

    Args:
        path: Path of the folder or of a `.npz` file; see `results_of`.
        pattern: String, how files in the folder are called, with `{network}`,
            `{seed}` and `{fold}`. Defaults to `None`: `{network}_s{seed}` or
            alike.
        logits: Boolean, whether the predictions are logits. Defaults to
            `False`.

    Raises:
        ValueError: If there is no such file, if one is damaged or has no such
            arrays, or if two disagree.
    """
    path = pathlib.Path(path).expanduser()
    if not path.is_dir():
        return _read_all_in_one(path)
    files = _find_files(path, pattern)
    parts = {
        key: _read_csv(file) if file.suffix == ".csv" else _read(file, logits)
        for key, file in files.items()
    }
    networks = [*dict.fromkeys(network for network, _ in parts)]
    networks.sort(key=lambda x: (x.lower() not in BASELINES, x))
    runs = sorted({run for _, run in parts}, key=lambda x: (x[0], x[1] or 0))
    first = parts[next(iter(parts))]
    for network in networks:
        for run in runs:
            if (network, run) not in parts:
                raise ValueError(
                    "Networks are compared with the same seeds and folds. "
                    f'Received: "{path}" without a file of "{network}" '
                    f"({run}), where there is {first.path.name}"
                )
    class_names = _align_classes([*parts.values()])
    with_folds = {run.fold is not None for run in runs}
    if with_folds == {True, False}:
        raise ValueError(
            "Either all files must be of folds, or none. Received: "
            f'"{path}" with {_checks.first_few(runs)}'
        )
    by_run = [[parts[network, run] for network in networks] for run in runs]
    for of_one in by_run:
        _check_equal(of_one)
    seeds = [*dict.fromkeys(run.seed for run in runs)]
    given = GivenFiles(
        {x: [parts[x, run].scores for run in runs] for x in networks},
        class_names=class_names,
        seeds=seeds,
    )
    leading = [_most_complete(of_one) for of_one in by_run]
    if with_folds == {True}:
        _join_folds(given, leading, len(runs) // len(seeds))
        return given
    _check_equal(leading)
    best = _most_complete(leading)
    given.labels, given.groups, given.names = (
        best.labels,
        best.groups,
        best.names,
    )
    return given


def _find_files(folder, pattern):
    """Returns files by network and run, in the order of their names."""
    expression = USUAL if pattern is None else _as_expression(pattern)
    matches: dict[tuple[str, Run], pathlib.Path] = {}
    left_out = []
    every = sorted(x for x in folder.rglob("*") if x.suffix in SUFFIXES)
    found = [
        (file, match)
        for file in every
        if (match := expression.fullmatch(file.relative_to(folder).as_posix()))
        and (pattern or file.parent == folder)
    ]
    has_seeds = any(x["seed"] for _, x in found if "seed" in x.re.groupindex)
    for file, match in found:
        parts = match.groupdict()
        seed, fold = parts.get("seed"), parts.get("fold")
        if pattern is None and seed is None and fold is None and has_seeds:
            left_out.append(file.name)
            continue
        run = Run(int(seed or 0), None if fold is None else int(fold))
        key = parts["network"], run
        if key in matches:
            raise ValueError(
                "There must be one file of each network and seed. Received: "
                f'"{matches[key]}" and "{file}"'
            )
        matches[key] = file
    if left_out:
        _checks.warn(
            f"Files without a seed are left out: {_checks.first_few(left_out)}"
        )
    if not matches:
        held = sorted(x.name for x in folder.iterdir())
        raise ValueError(
            f"A folder of predictions must hold {EXAMPLE}. Received: "
            f'"{folder}", {pattern=}, which holds '
            f"{_checks.first_few(held) or 'nothing'}"
        )
    return matches


def _as_expression(pattern):
    """Returns a pattern as a regular expression."""
    pieces = re.split(r"(\{network\}|\{seed\}|\{fold\}|\*)", pattern)
    names = [x for x in pieces if x.startswith("{")]
    text = "".join(PARTS_OF_PATTERN.get(x) or re.escape(x) for x in pieces)
    others = "".join(x for x in pieces if x not in PARTS_OF_PATTERN)
    is_wrong = "{network}" not in names or len({*names}) < len(names)
    if is_wrong or "{" in others or "}" in others:
        raise ValueError(
            "`pattern` must have {network} once, and {seed} and {fold} at most "
            f'once. Received: {pattern=}. As "{{network}}/{{seed}}/probs.npz"'
        )
    if not pattern.endswith(SUFFIXES):
        text += r"\.(npz|csv)"
    return re.compile(text)


def _load(path):
    """Returns the arrays in a `.npz` file."""
    try:
        # NumPy leaves a file open that is no archive.
        with path.open("rb") as opened, np.load(opened) as file:
            arrays = dict(file)
    # Damaged archives raise errors of many types.
    except Exception as error:
        raise ValueError(
            f'"{path}" must be a .npz file, as numpy.savez(file, probs=..., '
            f"labels=...) writes ({type(error).__name__}: {error})"
        ) from error
    return arrays


def _read(path, logits):
    """Returns what a `.npz` file of one run holds."""
    arrays = _load(path)
    names = (LOGITS,) if logits and LOGITS in arrays else PREDICTED
    if not logits and LOGITS in arrays and not {*PREDICTED} & {*arrays}:
        raise ValueError(
            f'"{path}" holds logits: say so by logits=True (--logits), or '
            "write their softmax as probs"
        )
    scores = _one_of(path, arrays, names)
    if scores is None:
        raise ValueError(
            f'"{path}" must have an array probs of what is predicted. '
            f"Received: {_checks.first_few([*arrays], 9) or 'no arrays'}"
        )
    optional = [_one_of(path, arrays, x) for x in (LABELS, GROUPS, NAMES)]
    for array in (scores, *optional):
        if array is not None and array.ndim == 0:
            raise ValueError(
                f'"{path}" must have an array of all examples. Received: the '
                f"single value {array}"
            )
    labels, groups, names = optional
    classes = arrays.get(CLASSES)
    if classes is not None:
        classes = [*map(str, classes.ravel())]
    return _Part(path, scores, labels, classes, groups, names)


def _one_of(path, values: Mapping[str, Any], names):
    """Returns the value under one of some names, `None` without any."""
    found = [x for x in values if x.lower() in names]
    if len(found) > 1:
        raise ValueError(
            f'"{path}" must have one of {", ".join(found)}. Received: all'
        )
    return values[found[0]] if found else None


def _read_csv(path):
    """Returns what a `.csv` file of one run holds."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f'"{path}" must be a .csv file ({error})') from error
    start = text.partition("\n")[0]
    delimiter = max(",;\t", key=start.count)
    lines = csv.reader(io.StringIO(text), delimiter=delimiter)
    header, *rows = [row for row in lines if row] or [[]]
    wrong = [n for n, row in enumerate(rows, 2) if len(row) != len(header)]
    if not rows or wrong or len({*header}) != len(header):
        what = f"another length of line {wrong[0]}" if wrong else start[:80]
        raise ValueError(
            f'"{path}" must be a .csv file with a header of different names '
            f"and a row for each example. Received: {what!r}"
        )
    columns = dict(zip(header, np.array(rows).T, strict=True))
    optional = [_one_of(path, columns, x) for x in (LABELS, GROUPS, NAMES)]
    labels, groups, names = optional
    scores = _one_of(path, columns, (LOGITS, *PREDICTED))
    known = {x for x in header if x.lower() in (*LABELS, *GROUPS, *NAMES)}
    if scores is not None:
        labels = None if labels is None else _parse(labels)
        return _Part(path, _parse(scores), labels, None, groups, names)
    classes = [x for x in header if x not in known]
    if not classes:
        raise ValueError(
            f'"{path}" must have a column for each class, or one called '
            f"prediction. Received: {_checks.first_few(header, 9)}"
        )
    for name in classes:
        columns[name] = _parse(columns[name])
        if columns[name].dtype.kind == "U":
            raise ValueError(
                f'"{path}" must have probabilities in the column of each '
                f'class. Received: {columns[name][0].item()!r} in "{name}". '
                "Remove columns that are no classes"
            )
    scores = np.stack([columns[x].astype("float64") for x in classes], axis=1)
    return _Part(path, scores, labels, classes, groups, names)


def _parse(texts):
    """Returns numbers if all texts are, else the texts."""
    try:
        numbers = texts.astype("float64")
    except ValueError:
        return texts
    are_whole = all(re.fullmatch(r"-?\d+", x.strip()) for x in texts)
    return numbers.astype("int64") if are_whole else numbers


def _as_places(labels, class_names):
    """Returns labels that are names as texts, and others as they are."""
    if labels.dtype.kind not in "USO":
        return labels
    if {*map(str, labels)} <= {*map(str, class_names)}:
        places = {name: place for place, name in enumerate(class_names)}
        return np.array([places[str(x)] for x in labels])
    # Numbers are places of the columns.
    return _parse(labels.astype(str))


def _align_classes(parts):
    """Gives all files one order of classes, and returns their names."""
    named = [x for x in parts if x.class_names is not None]
    if not named:
        return None
    first = named[0]
    for part in named[1:]:
        if sorted(part.class_names) != sorted(first.class_names):
            others = {*part.class_names} ^ {*first.class_names}
            raise ValueError(
                "Files must be of the same classes. Received: "
                f'"{part.path}" and "{first.path}", which differ in '
                f"{_checks.first_few(sorted(others))}"
            )
        order = [part.class_names.index(x) for x in first.class_names]
        if part.scores.ndim == 2:
            part.scores = part.scores[:, order]
        if part.labels is not None and part.labels.dtype.kind in "iu":
            part.labels = np.argsort(order)[part.labels]
    for part in parts:
        if part.labels is not None:
            part.labels = _as_places(part.labels, first.class_names)
    return first.class_names


def _most_complete(parts):
    """Returns the file that tells most of the examples."""
    return max(
        parts,
        key=lambda x: sum(y is not None for y in (x.labels, x.groups, x.names)),
    )


def _check_equal(parts):
    """Raises if files differ in what must be the same."""
    for what in ("labels", "groups", "names"):
        known = [x for x in parts if getattr(x, what) is not None]
        for part in known[1:]:
            old, new = getattr(known[0], what), getattr(part, what)
            if old.shape != new.shape or (old != new).any():
                where = ""
                if old.shape == new.shape:
                    row = int(np.argwhere(old != new)[0][0])
                    where = f", first in example {row}: {old[row]}, {new[row]}"
                raise ValueError(
                    f"Files must have the same {what} in the same order. "
                    f'Received: "{known[0].path}" and "{part.path}", of '
                    f"{len(old)} and {len(new)} examples{where}"
                )
    for part in parts[1:]:
        if len(part.scores) != len(parts[0].scores):
            raise ValueError(
                "Files must be of the same examples. Received: "
                f'"{parts[0].path}" and "{part.path}", of '
                f"{len(parts[0].scores)} and {len(part.scores)}"
            )


def _join_folds(given, leading, count):
    """Puts the examples of folds one after the other."""
    for part in leading:
        if part.labels is None:
            raise ValueError(
                f'Files of folds must have labels. Received: "{part.path}", '
                "without any"
            )
    firsts = leading[:count]
    lengths = [len(x.labels) for x in firsts]
    given.labels = np.concatenate([x.labels for x in firsts])
    starts = np.cumsum([0, *lengths])
    blocks = [np.arange(*x) for x in zip(starts, starts[1:], strict=False)]
    if any(x.names is None for x in leading):
        # Without names each seed must have divided the examples alike.
        for number, part in enumerate(leading):
            _check_equal([firsts[number % count], part])
        given.folds = blocks * (len(leading) // count)
    else:
        given.names = np.concatenate([x.names for x in firsts])
        place = {name: row for row, name in enumerate(given.names)}
        for part in leading:
            if missing := [x for x in part.names if x not in place]:
                raise ValueError(
                    "Each seed must test the same examples. Received: "
                    f'"{part.path}", where {missing[0]} is new'
                )
        given.folds = [np.array([place[x] for x in y.names]) for y in leading]
    if all(x.groups is not None for x in firsts):
        given.groups = np.concatenate([x.groups for x in firsts])


def _read_all_in_one(path):
    """Returns the arrays `(S, N, ...)` of networks in a `.npz` file."""
    arrays = _load(path)
    options = {
        name: arrays.pop(name)
        for name in ("labels", "class_names", "groups", "task")
        if name in arrays
    }
    if "class_names" in options:
        options["class_names"] = [*map(str, options["class_names"].ravel())]
    if "task" in options:
        options["task"] = str(options["task"])
    for name, array in arrays.items():
        if array.ndim < 2:
            raise ValueError(
                f'"{path}" must have an array (seeds, N, ...) under the name '
                f"of each network. Received: {name} of shape {array.shape}"
            )
    return GivenFiles({x: [*y] for x, y in arrays.items()}, **options)
