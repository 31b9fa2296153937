"""Files of predictions as tables: what each column or array is.

Nothing is joined here, and nothing is a class yet: `given_classes` says what
numbers and names mean, for all files at once.
"""

import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cbam_keras import _checks
from cbam_keras.study.plans.study import Run
from cbam_keras.study.programs import given_names
from cbam_keras.study.programs.given_arrays import (
    Arrays,
    as_names,
    as_text,
    is_missing,
    read_named_arrays,
)
from cbam_keras.study.results.kept import OF_SCORES

# What arrays of a .npz file and columns of a .csv file are called.
ROLES = {
    "labels": (
        "label",
        "labels",
        "y_true",
        "true",
        "target",
        "targets",
        "label_ids",
    ),
    # Predicted classes or numbers; in a .npz file also probabilities.
    "answers": ("prediction", "predictions", "pred", "y_pred"),
    "probabilities": (
        "prob",
        "probs",
        "probabilities",
        "y_prob",
        "y_score",
        "score",
        "scores",
    ),
    "logits": ("logits",),
    "images": ("image", "images", "name", "names", "id", "filename", "path"),
    "groups": ("group", "groups"),
    "folds": ("fold",),
}
# Columns of names: else "007" and "7" are one patient.
NAME_COLUMNS = (*ROLES["images"], *ROLES["groups"], "unnamed: 0")
ROLE_OF = {name: role for role, names in ROLES.items() for name in names}
# What a file of one network has, and no file of all networks.
OF_ONE_NETWORK = ("answers", "probabilities", "logits")
# The first column of a table that pandas wrote with its index.
INDEX = ("", "Unnamed: 0")
# Columns that say of which network and seed a row is.
OF_ROWS = ("model", "network", "method", "variant", "arch", "seed", "run")
KNOWN = (
    "Known columns are label, prediction, prob_CLASS or the names of the "
    "classes, prob, image, group and fold"
)
KNOWN_ARRAYS = (
    "Known arrays are probs, logits, predictions, labels, class_names, image, "
    "group and fold"
)
CLASS_NAMES, TASK = "class_names", "task"
# Columns of probabilities may be called prob_0, or prob_cat.
PREFIX = "prob_"
# Networks without attention, which others are compared with.
BASELINES = ("none", "baseline", "plain", "control")
EXAMPLE = (
    "files such as none_s0.npz and cbam_s0.npz, with the arrays probs, (N, "
    "classes) or (N,), and labels, (N,); or .csv with a column for each class "
    "and label"
)


@dataclasses.dataclass(frozen=True)
class PredictionTable:
    """What one file, or one array, says of the test examples, as it stands.

    Args:
        source: String, what messages call it: a path, or a network.
        predictions: Array `(N,)`, `(N, classes)` or of another shape.
        columns: Tuple of strings, what the columns of `predictions` are called;
            or `None`, if they have only places.
        class_names: Tuple of strings, what its numbers of classes, and columns
            without names, stand for. `None` if it does not say.
        labels: Array, the classes or targets of the examples, or `None`.
        answers: Array `(N,)`, predicted classes beside probabilities, or
            `None`.
        images: Array of strings, the names of the examples, or `None`.
        groups: Array of strings, what the examples belong to, or `None`.
        is_text: Boolean, whether values are text that may spell numbers.
        is_index: Boolean, whether `images` are an index that pandas wrote.
    """

    source: str
    predictions: np.ndarray
    columns: tuple[str, ...] | None = None
    class_names: tuple[str, ...] | None = None
    labels: np.ndarray | None = None
    answers: np.ndarray | None = None
    images: np.ndarray | None = None
    groups: np.ndarray | None = None
    is_text: bool = False
    is_index: bool = False

    def select(self, rows: Any) -> "PredictionTable":
        """Returns a table of some of the examples, by indices or a mask."""
        names = "predictions", "labels", "answers", "images", "groups"
        values = {name: getattr(self, name) for name in names}
        return dataclasses.replace(
            self, **{x: y[rows] for x, y in values.items() if y is not None}
        )


Tables = dict[tuple[str, Run], PredictionTable]


def read_tables(
    path: str | os.PathLike,
    pattern: str | None,
    task: str | None,
    logits: bool,
    count: int | None,
) -> tuple[Tables, str | None]:
    """Returns the table of each network and run, and the task, if it is said.

    The networks are in the order of their comparison, runs by seed and fold.
    `count` is the number of examples, if labels say it that are in no file.
    """
    path = pathlib.Path(path).expanduser()
    if path.is_dir():
        tables = _read_folder(path, pattern, task, logits)
    else:
        tables, task = _read_one_file(path, pattern, task, count)
    _check_grid(tables)
    return tables, task


def _read_folder(folder, pattern, task, logits):
    """Returns the tables of a folder, by network and run."""
    paths = {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.suffix in (".npz", ".csv") and path.is_file()
    }
    keys = given_names.parse_names([*paths], pattern)
    if not keys:
        _refuse_folder(folder, [*paths], pattern)
    tables: Tables = {}
    for name, (network, run) in keys.items():
        path = paths[name]
        arrays = read_named_arrays(path, NAME_COLUMNS)
        is_text = path.suffix == ".csv"
        table, folds = as_table(
            str(path), arrays, task=task, logits=logits, is_text=is_text
        )
        for key, part in _by_fold(table, folds, network, run):
            tables[key] = part
    tables = _drop_row_numbers(tables)
    networks = sorted({network for network, _ in tables})
    networks.sort(key=lambda x: x.lower() not in BASELINES)
    order = {network: place for place, network in enumerate(networks)}
    in_order = sorted(
        tables, key=lambda x: (order[x[0]], x[1].seed, x[1].fold or 0)
    )
    return {key: tables[key] for key in in_order}


def _refuse_folder(folder, names, pattern):
    """Raises for a folder of which no file is read."""
    held = _checks.first_few(names or sorted(x.name for x in folder.iterdir()))
    advice = "Describe other names with pattern= (--pattern)"
    if proposed := given_names.propose(names):
        read = given_names.parse_names(names, proposed[0])
        advice += (
            f': pattern="{proposed[0]}" reads '
            f"{given_names.describe_networks(read.values())}"
        )
    else:
        advice += ', e.g. "{network}/{seed}/probs.npz"'
    raise ValueError(
        f'A folder of predictions must hold {EXAMPLE}. Received: "{folder}", '
        f"{pattern=}, which holds {held or 'nothing'}. {advice}"
    )


def _check_grid(tables):
    """Raises unless all networks have the same runs."""
    networks = dict.fromkeys(network for network, _ in tables)
    for run in dict.fromkeys(run for _, run in tables):
        for network in networks:
            if (network, run) not in tables:
                beside = next(x for x in tables if x[0] == network)
                other = next(x for x in tables if x[1] == run)
                raise ValueError(
                    "Networks are compared with the same seeds and folds. "
                    f'Received: no file of "{network}" ({run}) beside '
                    f'"{tables[beside].source}", but '
                    f'"{tables[other].source}". Add it, or leave out this run '
                    "of the others"
                )


def as_table(
    source: str,
    arrays: Mapping[str, Any],
    *,
    task: str | None,
    logits: bool,
    is_text: bool,
) -> tuple[PredictionTable, np.ndarray | None]:
    """Returns the arrays of one network and run as a table, and their folds."""
    roles, columns = _find_roles(source, arrays)
    class_names = None
    if not is_text:
        if CLASS_NAMES in columns:
            class_names = as_names(columns.pop(CLASS_NAMES).ravel())
        if columns:
            raise ValueError(
                f'"{source}" must have no unknown arrays. '
                f"Received: {_checks.first_few([*columns], 9)}. Leave them "
                f"out. {KNOWN_ARRAYS}"
            )
    predictions, names_of_columns, answers = _find_predictions(
        source, roles, columns, task, logits
    )
    index = next((roles[x] for x in INDEX if x in roles), None)
    images = roles.get("images", index)
    table = PredictionTable(
        source,
        predictions,
        names_of_columns,
        class_names,
        labels=roles.get("labels"),
        answers=answers,
        images=None if images is None else as_text(images),
        groups=as_text(roles["groups"]) if "groups" in roles else None,
        is_text=is_text,
        is_index=index is not None and "images" not in roles,
    )
    folds = roles.get("folds")
    _check_lengths(table, folds)
    return table, folds


def _find_roles(source, arrays):
    """Returns arrays by what they are, and all others by their names."""
    roles: Arrays = {}
    others: Arrays = {}
    names: dict[str, str] = {}
    lowered = {name.lower() for name in arrays}
    for name, values in arrays.items():
        role = ROLE_OF.get(name.lower(), name if name in INDEX else None)
        # The classes True and False are no labels.
        is_class = name.lower() == "true" and "false" in lowered
        if role is None or is_class:
            others[name] = values
            continue
        if role in roles:
            raise ValueError(
                f'"{source}" must have one of {names[role]}, {name}. '
                "Received: both. Leave one out"
            )
        roles[role] = np.asarray(values)
        names[role] = name
    return roles, others


def _find_predictions(source, roles, columns, task, logits):
    """Returns predictions, what their columns are called, and answers."""
    answers = roles.get("answers")
    scores = roles.get("probabilities")
    if logits and "logits" in roles:
        scores = roles["logits"]
    elif scores is None and answers is None and "logits" in roles:
        raise ValueError(
            f'"{source}" must have an array probs, or a column for each class. '
            "Received: logits. If they are logits, pass logits=True "
            "(--logits)"
        )
    if task == OF_SCORES and scores is None and len(columns) == 1:
        # The only column that is left is the score, whatever it is called.
        scores = np.asarray(columns.popitem()[1])
    if scores is not None and columns:
        raise ValueError(
            f'"{source}" must have no unknown columns. Received: '
            f"{_checks.first_few([*columns], 9)}, beside probabilities. Leave "
            f"them out. {KNOWN}"
        )
    if scores is not None:
        return scores, None, answers
    if columns:
        return (*_stack(source, columns), answers)
    if answers is not None:
        return answers, None, None
    held = _checks.first_few([*roles], 9) or "nothing"
    raise ValueError(
        f'"{source}" must have an array probs, or a column for each class, or '
        f"predicted classes, prediction. Received: {held} alone. {KNOWN}"
    )


def _stack(source, columns):
    """Returns columns of numbers as a matrix, and what they are called."""
    numbers = [_read_numbers(source, *column) for column in columns.items()]
    return name_columns(np.stack(numbers, axis=1), [*columns])


def _read_numbers(source, name, values):
    """Returns a column of text as numbers, one in each row."""
    values = np.asarray(values)
    numbers = None
    with contextlib.suppress(ValueError):
        numbers = values.astype("float64")
    missing = np.flatnonzero(is_missing(values if numbers is None else numbers))
    if len(missing):
        raise ValueError(
            f'"{source}" must have a number in each row of the column '
            f'"{name}". Received: none in {len(missing):,} of '
            f"{len(values):,} rows, the first at index {missing[0]}. Leave out "
            "these examples"
        )
    if numbers is None:
        raise ValueError(
            f'"{source}" must have probabilities in each column that is not '
            f'known. Received: text in the column "{name}". Leave it out. '
            f"{KNOWN}. If columns are networks, give the file itself: "
            f'cbam-keras report "{source}"'
        )
    return numbers


def name_columns(
    matrix: np.ndarray, names: Sequence[str]
) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """Returns columns and the classes they name; `None` if these are places.

    `prob_cat` names the class `cat`. Columns that are called 0 to C - 1, in any
    order, are put into this order, and have no other names.
    """
    if all(name.lower().startswith(PREFIX) for name in names):
        names = [name[len(PREFIX) :] for name in names]
    places = [str(place) for place in range(len(names))]
    if len(names) > 1 and {*names} == {*places}:
        return matrix[:, [names.index(x) for x in places]], None
    return matrix, tuple(names)


def _check_lengths(table, folds):
    """Raises unless all arrays of a table are of as many examples."""
    names = "predictions", "labels", "answers", "images", "groups"
    arrays = {name: getattr(table, name) for name in names} | {"folds": folds}
    shapes = {x: np.shape(y) for x, y in arrays.items() if y is not None}
    if () in shapes.values() or len({x[0] for x in shapes.values()}) > 1:
        what = f"arrays of the same examples. Received: {shapes}"
        raise ValueError(f'"{table.source}" must have {what}')


def _by_fold(table, folds, network, run):
    """Yields the table of each fold; `folds` is a column that names them."""
    if folds is None:
        yield (network, run), table
        return
    numbers = as_text(folds)
    is_number = np.char.isdecimal(numbers)
    if run.fold is not None or not is_number.all():
        raise ValueError(
            f'"{table.source}" must have the number of a fold from 0 in each '
            "row of fold, and no fold in its name. Received: "
            f"{_checks.first_few([*dict.fromkeys(numbers.tolist())])}"
        )
    for fold in sorted({*numbers.astype(int).tolist()}):
        part = table.select(numbers.astype(int) == fold)
        yield (network, Run(run.seed, fold)), part


def _drop_row_numbers(tables):
    """Leaves out the index of pandas where it counts rows in all files."""
    count_rows = all(
        table.images is None
        or table.images.tolist() == [str(x) for x in range(len(table.images))]
        for table in tables.values()
        if table.is_index
    )
    return {
        key: dataclasses.replace(table, images=None)
        if table.is_index and count_rows
        else table
        for key, table in tables.items()
    }


def _read_one_file(path, pattern, task, count):
    """Returns the tables of a file with an array for each network."""
    arrays = read_named_arrays(path, NAME_COLUMNS)
    is_text = path.suffix == ".csv"
    roles, networks = _find_roles(path, arrays)
    class_names = networks.pop(CLASS_NAMES, None)
    if TASK in networks:
        task = task or str(networks.pop(TASK))
    of_one = [x for x in arrays if ROLE_OF.get(x.lower()) in OF_ONE_NETWORK]
    if of_one or not networks:
        _refuse_one_file(path, arrays, of_one)
    count = len(roles["labels"]) if "labels" in roles else count
    if count is None and task != OF_SCORES:
        raise ValueError(
            '`labels` must be given, except for scores (task="scores"). '
            f'Received: "{path}" without labels'
        )
    shared = PredictionTable(
        str(path),
        np.empty(0),
        class_names=None if class_names is None else as_names(class_names),
        labels=roles.get("labels"),
        images=as_text(roles["images"]) if "images" in roles else None,
        groups=as_text(roles["groups"]) if "groups" in roles else None,
        is_text=is_text,
    )
    tables: Tables = {}
    keys = given_names.parse_names([*networks], pattern)
    for name, (network, run) in keys.items():
        source = f"{path}: {name}"
        runs = _runs_of(source, np.asarray(networks[name]), count)
        for place, values in enumerate(runs):
            table = dataclasses.replace(
                shared, source=source, predictions=values
            )
            _check_lengths(table, None)
            key = network, Run(run.seed + place, run.fold)
            if key in tables:
                raise ValueError(
                    f'"{path}" must have one array of each network and seed. '
                    f'Received: several of "{network}", {key[1]}'
                )
            tables[key] = table
    return tables, task


def _runs_of(source, array, count):
    """Returns the runs of an array `(N, ...)`, or `(S, N, ...)` of several."""
    if count is None:
        is_one, are_several = array.ndim == 1, array.ndim == 2
    else:
        is_one = array.ndim > 0 and len(array) == count
        are_several = array.ndim > 1 and array.shape[1] == count
    if is_one == are_several:
        raise ValueError(
            f'"{source}" must be of the examples, (N, ...), or of runs, '
            f"(S, N, ...). Received: shape {array.shape}, for "
            f"{count or 'an unknown number of'} examples"
        )
    return [array] if is_one else [*array]


def _refuse_one_file(path, arrays, of_one):
    """Raises for a file that holds no array or column for each network."""
    advice = "Give the folder of such files, one of each network and seed"
    keys = [x for x in arrays if x.lower() in OF_ROWS]
    if path.suffix == ".csv" and keys:
        seed = next((x for x in keys if x.lower() in ("seed", "run")), None)
        network = next((x for x in keys if x != seed), None)
        if network is not None and seed is not None:
            advice = (
                "Write a file of each network and seed: for (network, seed), "
                f'rows in pandas.read_csv("{path}").groupby({[network, seed]})'
                f": rows.drop(columns={[network, seed]}).to_csv("
                'f"{network}_s{seed}.csv", index=False)'
            )
    raise ValueError(
        f'"{path}" must have labels and, under the name of each network, its '
        f"predictions. Received: {_checks.first_few([*arrays], 9)}"
        f"{', of one network' if of_one else ''}. {advice}"
    )
