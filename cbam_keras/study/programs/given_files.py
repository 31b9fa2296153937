"""Files of predictions, one of each network and seed, or all in one."""

import itertools
import os
import pathlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from cbam_keras import _checks
from cbam_keras.study.plans.study import Run

# What arrays of a .npz file and columns of a .csv file are called.
NAMES = {
    "predictions": (
        *("probs", "probabilities", "predictions", "prediction", "pred"),
        *("y_pred", "y_prob", "y_score", "scores"),
    ),
    "labels": ("labels", "label", "y_true", "targets", "target"),
    "groups": ("groups", "group"),
    # pandas writes an index without a name.
    "names": ("names", "name", "image", "id", "Unnamed: 0"),
}
LOGITS, CLASSES = "logits", "class_names"
# As none_s0.npz, none-seed0.csv, none_s0_fold2.npz, none_fold2.npz.
USUAL = re.compile(
    r"(?P<network>[^/]+?)([-_](s|seed)[-_]?(?P<seed>\d+))?"
    r"([-_]fold[-_]?(?P<fold>\d+))?\.(npz|csv)"
)
PARTS_OF_PATTERN = {
    "{network}": "(?P<network>[^/]+?)",
    "{seed}": r"(?P<seed>\d+)",
    "{fold}": r"(?P<fold>\d+)",
    "*": "[^/]*",
}
# Networks without attention, which others are compared with.
BASELINES = ("none", "baseline", "plain", "control")
EXAMPLE = (
    "files as none_s0.npz and cbam_s0.npz, with the arrays probs, (N, classes) "
    "or (N,), and labels, (N,); or .csv with a column for each class and "
    "label. Other names are said by pattern= (--pattern), as "
    '"{network}/{seed}/probs.npz"'
)
# What a file holds, by the names above.
Part = dict[str, Any]


def read_files(
    path: str | os.PathLike, pattern: str | None, logits: bool
) -> tuple[Part, Sequence[int] | None]:
    """Returns arguments of `results_of`, names of examples, and seeds."""
    path = pathlib.Path(path).expanduser()
    if not path.is_dir():
        return _read_all_in_one(path), None
    files = _find_files(path, pattern)
    parts = {key: _read(file, logits) for key, file in files.items()}
    every, networks = [*parts.values()], [*{network for network, _ in parts}]
    networks.sort(key=lambda x: (x.lower() not in BASELINES, x))
    runs = sorted({run for _, run in parts}, key=lambda x: (x[0], x[1] or 0))
    for network, run in itertools.product(networks, runs):
        if (network, run) not in parts:
            raise ValueError(
                "Networks are compared with the same seeds and folds. "
                f'Received: no file of "{network}" ({run}) beside '
                f'"{every[0]["path"]}"'
            )
    given: Part = {CLASSES: _align_classes(every)}
    if runs[0].fold is None:
        given |= _join(every)
    else:
        of_runs = [_join([parts[x, run] for x in networks]) for run in runs]
        given |= _join_folds(of_runs, len({x.fold for x in runs}))
    given["predictions"] = {
        network: [parts[network, run]["predictions"] for run in runs]
        for network in networks
    }
    return given, [*dict.fromkeys(run.seed for run in runs)]


def _find_files(folder, pattern):
    """Returns files by network and run, in the order of their names."""
    expression = USUAL if pattern is None else _as_expression(pattern)
    found: dict[tuple[str, Run], pathlib.Path] = {}
    for file in sorted(folder.rglob("*")):
        match = expression.fullmatch(file.relative_to(folder).as_posix())
        if match is None:
            continue
        parts = match.groupdict()
        network, seed, fold = map(parts.get, ("network", "seed", "fold"))
        run = Run(int(seed or 0), None if fold is None else int(fold))
        if (network, run) in found:
            raise ValueError(
                "There must be one file of each network and seed. Received: "
                f'"{found[network, run]}" and "{file}"'
            )
        found[network, run] = file
    if not found:
        held = _checks.first_few(sorted(x.name for x in folder.iterdir()))
        raise ValueError(
            f"A folder of predictions must hold {EXAMPLE}. Received: "
            f'"{folder}", {pattern=}, which holds {held or "nothing"}'
        )
    return found


def _as_expression(pattern):
    """Returns a pattern as a regular expression."""
    pieces = re.split(r"(\{network\}|\{seed\}|\{fold\}|\*)", pattern)
    others = "".join(x for x in pieces if x not in PARTS_OF_PATTERN)
    if pieces.count("{network}") != 1 or {*"{}"} & {*others}:
        raise ValueError(
            "`pattern` must have {network} once, and may have {seed} and "
            f'{{fold}}, as "{{network}}/{{seed}}/probs.npz". Received: '
            f"{pattern=}"
        )
    text = "".join(PARTS_OF_PATTERN.get(x) or re.escape(x) for x in pieces)
    return re.compile(rf"{text}(\.npz|\.csv)?")


def _load(path):
    """Returns the arrays of a `.npz` file, or the columns of a `.csv` one."""
    try:
        if path.suffix == ".csv":
            pandas = _checks.require("pandas", extra="predictions")
            # It finds the delimiter, and all cells are text.
            options = {"sep": None, "engine": "python", "dtype": str}
            options |= {"keep_default_na": False, "encoding": "utf-8-sig"}
            frame = pandas.read_csv(path, **options)
            return {name: np.array(frame[name], "U") for name in frame}
        # NumPy leaves a file open that is no archive.
        with path.open("rb") as opened, np.load(opened) as file:
            return dict(file)
    except ImportError:
        raise
    # Damaged archives and tables raise errors of many types.
    except Exception as error:
        raise ValueError(
            f'"{path}" must be a .npz file, as numpy.savez(file, probs=..., '
            "labels=...) writes, or a .csv file with a header "
            f"({type(error).__name__}: {error})"
        ) from error


def _read(path, logits):
    """Returns what a file of one run holds."""
    arrays, part = _load(path), {"path": path}
    is_table = path.suffix == ".csv"
    if logits and LOGITS in arrays:
        arrays["predictions"] = arrays[LOGITS]
    for what, names in NAMES.items():
        found = [name for name in arrays if name in names]
        if len(found) > 1:
            raise ValueError(
                f'"{path}" must have one of {", ".join(found)}. Received: all'
            )
        for name in found:
            part[what] = arrays.pop(name)
    if is_table and "predictions" not in part and arrays:
        part[CLASSES] = [*arrays]
        scores = _parse(np.stack([*arrays.values()], axis=1))
        if scores.dtype.kind == "U":
            raise ValueError(
                f'"{path}" must have probabilities in each column but label, '
                f"group and name. Received: text in {_checks.shown([*arrays])}"
            )
        part["predictions"] = scores
    elif is_table:
        numbers = ("predictions", "labels")
        part |= {x: _parse(y) for x, y in part.items() if x in numbers}
    elif CLASSES in arrays:
        part[CLASSES] = [*map(str, arrays[CLASSES].ravel())]
    if "predictions" not in part:
        held = _checks.first_few([*arrays], 9) or "nothing"
        advice = ""
        if LOGITS in arrays:
            advice = ". Say that they are logits by logits=True (--logits)"
        raise ValueError(
            f'"{path}" must have an array probs, or a column for each class. '
            f"Received: {held}{advice}"
        )
    shapes = {x: np.shape(part[x]) for x in NAMES if x in part}
    if () in shapes.values() or len({x[0] for x in shapes.values()}) > 1:
        what = f"arrays of the same examples. Received: {shapes}"
        raise ValueError(f'"{path}" must have {what}')
    return part


def _parse(texts):
    """Returns numbers if all texts are, else the texts."""
    for kind in ("int64", "float64"):
        try:
            return texts.astype(kind)
        except ValueError:
            continue
    return texts


def _align_classes(parts):
    """Gives all files one order of classes, and returns their names."""
    first = next((x for x in parts if CLASSES in x), {CLASSES: None})
    names = first[CLASSES]
    for part in parts:
        own, scores = part.get(CLASSES, names), part["predictions"]
        if own is not None and sorted(own) != sorted(names):
            raise ValueError(
                "Files must be of the same classes. Received: "
                f'"{part["path"]}" and "{first["path"]}", which differ in '
                f"{_checks.first_few(sorted({*own} ^ {*names}))}"
            )
        labels = part.get("labels")
        if own is None or labels is None:
            continue
        if scores.ndim == 2:
            part["predictions"] = scores[:, [own.index(x) for x in names]]
        if labels.dtype.kind == "U" and not {*labels.tolist()} <= {*own}:
            labels = _parse(labels)
        # Numbers are places of the columns.
        if labels.dtype.kind in "iu" and labels.max(initial=0) < len(own):
            labels = np.array(own)[labels]
        part["labels"] = labels
    return names


def _join(parts):
    """Returns what files tell of the same examples; raises if they differ."""
    joined: Part = {}
    for part in parts:
        for name in ("labels", "groups", "names", "predictions"):
            if name not in part:
                continue
            old, new = joined.setdefault(name, part)[name], part[name]
            are_equal = len(old) == len(new)
            if are_equal and name != "predictions":
                are_equal = np.array_equal(old, new)
            if not are_equal:
                raise ValueError(
                    "Files must be of the same examples in the same order. "
                    f'Received: "{joined[name]["path"]}" and "{part["path"]}", '
                    f"which differ in their {name}, of {len(old)} and "
                    f"{len(new)} examples"
                )
    return {x: part[x] for x, part in joined.items()} | {"path": part["path"]}


def _join_folds(examples, count):
    """Returns the examples of all folds, with the indices of each fold."""
    joined, rows = {}, []
    for part in examples:
        # Without names each seed must have divided the examples alike.
        number = len(rows) % count
        own = [f"fold {number}, {x}" for x in range(len(part["predictions"]))]
        part.setdefault("names", np.array(own))
    for name in ("labels", "groups", "names"):
        if all(name in part for part in examples):
            first = [part[name] for part in examples[:count]]
            joined[name] = np.concatenate(first)
    place = {name: row for row, name in enumerate(joined["names"].tolist())}
    for part in examples:
        of_fold = [place.get(x, -1) for x in part["names"].tolist()]
        is_same = min(of_fold) >= 0 and "labels" in joined
        if not is_same or (joined["labels"][of_fold] != part["labels"]).any():
            raise ValueError(
                "Each seed must test the same examples, with their labels; "
                "files have names of the examples where seeds divide them in "
                f'another way. Received: "{part["path"]}"'
            )
        rows.append(np.array(of_fold))
    return joined | {"folds": rows}


def _read_all_in_one(path):
    """Returns the arrays `(S, N, ...)` of networks in a `.npz` file."""
    arrays = _load(path)
    given: Part = {x: arrays.pop(x, None) for x in ("labels", "groups")}
    if CLASSES in arrays:
        given[CLASSES] = [*map(str, arrays.pop(CLASSES).ravel())]
    if "task" in arrays:
        given["task"] = str(arrays.pop("task"))
    given["predictions"] = {name: [*array] for name, array in arrays.items()}
    return given
