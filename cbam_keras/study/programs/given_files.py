"""Files of predictions, one of each network and seed, or all in one."""

import collections
import itertools
import os
import pathlib
import re
from typing import Any

import numpy as np

from cbam_keras import _checks
from cbam_keras.study.plans.study import Run

PROBABILITIES = ("probs", "probabilities", "predictions", "prediction", "pred")
OF_SCIKIT_LEARN = ("y_pred", "y_prob", "y_score")
# What arrays of a .npz file and columns of a .csv file are called.
ARRAY_NAMES = {
    "predictions": (*PROBABILITIES, *OF_SCIKIT_LEARN, "scores"),
    "labels": ("labels", "label", "y_true", "targets", "target"),
    "groups": ("groups", "group"),
    # pandas writes an index without a name.
    "names": ("names", "name", "image", "id", "Unnamed: 0"),
}
LOGITS, CLASS_NAMES = "logits", "class_names"
# As none_s0.npz, none-seed0.csv, none_s0_fold2.npz, none_fold2.npz.
USUAL = (
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
    "label. Describe other names with pattern= (--pattern), e.g. "
    '"{network}/{seed}/probs.npz"'
)
Part = dict[str, Any]


def read_files(
    path: str | os.PathLike, pattern: str | None, logits: bool
) -> Part:
    """Returns arguments of `results_of`, names of examples, and seeds."""
    path = pathlib.Path(path).expanduser()
    if not path.is_dir():
        return _read_all_in_one(path)
    files = _find_files(path, pattern)
    parts = {key: _read(file, logits) for key, file in files.items()}
    networks = sorted({network for network, _ in parts})
    networks.sort(key=lambda x: x.lower() not in BASELINES)
    runs = sorted({run for _, run in parts}, key=lambda x: (x[0], x[1] or 0))
    for network, run in itertools.product(networks, runs):
        if (network, run) not in parts:
            raise ValueError(
                "Networks are compared with the same seeds and folds. "
                f'Received: no file of "{network}" ({run}) beside '
                f'"{[*files.values()][0]}"'
            )
    class_names = _align_classes([*parts.values()])
    given = _join(parts, networks, runs)
    given["predictions"] = {
        network: [parts[network, run]["predictions"] for run in runs]
        for network in networks
    }
    given[CLASS_NAMES] = class_names
    given["seeds"] = [*dict.fromkeys(run.seed for run in runs)]
    return given


def _find_files(folder, pattern):
    """Returns files by network and run, in the order of their names."""
    expression = re.compile(USUAL if pattern is None else _translate(pattern))
    found: dict[tuple[str, Run], pathlib.Path] = {}
    for file in sorted(folder.rglob("*")):
        match = expression.fullmatch(file.relative_to(folder).as_posix())
        if match is None:
            continue
        parts = match.groupdict()
        fold = None if parts.get("fold") is None else int(parts["fold"])
        key = parts["network"], Run(int(parts.get("seed") or 0), fold)
        if key in found:
            raise ValueError(
                "There must be one file of each network and seed. Received: "
                f'"{found[key]}" and "{file}"'
            )
        found[key] = file
    if not found:
        held = _checks.first_few(sorted(x.name for x in folder.iterdir()))
        raise ValueError(
            f"A folder of predictions must hold {EXAMPLE}. Received: "
            f'"{folder}", {pattern=}, which holds {held or "nothing"}'
        )
    return found


def _translate(pattern):
    """Returns a pattern as a regular expression."""
    pieces = re.split(r"(\{network\}|\{seed\}|\{fold\}|\*)", pattern)
    others = "".join(x for x in pieces if x not in PARTS_OF_PATTERN)
    if pieces.count("{network}") != 1 or {*"{}"} & {*others}:
        raise ValueError(
            "`pattern` must have {network} once, and may have {seed} and "
            f'{{fold}}, e.g. "{{network}}/{{seed}}/probs.npz". Received: '
            f"{pattern=}"
        )
    text = "".join(PARTS_OF_PATTERN.get(x) or re.escape(x) for x in pieces)
    return rf"{text}(\.npz|\.csv)?"


def _load(path):
    """Returns the arrays of a `.npz` file, or the columns of a `.csv` one."""
    try:
        if path.suffix == ".csv":
            pandas = _checks.require("pandas", extra="predictions")
            texts = *ARRAY_NAMES["groups"], *ARRAY_NAMES["names"]
            frame = pandas.read_csv(
                path,
                # Else "007" and "7" are one patient.
                dtype=dict.fromkeys(texts, str),
                # pandas finds the delimiter.
                sep=None,
                engine="python",
                keep_default_na=False,
                encoding="utf-8-sig",
            )
            # Columns of text are those of objects, or of pandas' own strings.
            columns = {name: np.array(frame[name]) for name in frame}
            return {x: np.array(y.tolist()) for x, y in columns.items()}
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
    if logits and LOGITS in arrays:
        arrays["predictions"] = arrays[LOGITS]
    for what, names in ARRAY_NAMES.items():
        found = [name for name in arrays if name in names]
        if len(found) > 1:
            raise ValueError(
                f'"{path}" must have one of {", ".join(found)}. Received: all'
            )
        if found:
            part[what] = arrays.pop(found[0])
    if path.suffix != ".csv" and CLASS_NAMES in arrays:
        part[CLASS_NAMES] = [*map(str, arrays[CLASS_NAMES].ravel())]
    elif path.suffix == ".csv" and "predictions" not in part and arrays:
        part[CLASS_NAMES] = [*arrays]
        part["predictions"] = np.stack([*arrays.values()], axis=1)
        if part["predictions"].dtype.kind == "U":
            raise ValueError(
                f'"{path}" must have probabilities in each column but label, '
                f"group and name. Received: text in {_checks.shown([*arrays])}"
            )
    if "predictions" not in part:
        held = _checks.first_few([*arrays], 9) or "nothing"
        advice = ""
        if LOGITS in arrays:
            advice = ". Say that they are logits by logits=True (--logits)"
        raise ValueError(
            f'"{path}" must have an array probs, or a column for each class. '
            f"Received: {held}{advice}"
        )
    shapes = {x: np.shape(part[x]) for x in ARRAY_NAMES if x in part}
    if () in shapes.values() or len({x[0] for x in shapes.values()}) > 1:
        what = f"arrays of the same examples. Received: {shapes}"
        raise ValueError(f'"{path}" must have {what}')
    return part


def _align_classes(parts):
    """Gives all files one order of classes, and returns their names."""
    first = next((x for x in parts if CLASS_NAMES in x), {CLASS_NAMES: None})
    names = first[CLASS_NAMES]
    for part in parts:
        own, scores = part.get(CLASS_NAMES, names), part["predictions"]
        if own is not None and sorted(own) != sorted(names):
            raise ValueError(
                "Files must be of the same classes. Received: "
                f'"{part["path"]}" and "{first["path"]}", which differ in '
                f"{_checks.first_few(sorted({*own} ^ {*names}))}"
            )
        if own is None or "labels" not in part:
            continue
        if scores.ndim == 2:
            part["predictions"] = scores[:, [own.index(x) for x in names]]
        labels = part["labels"]
        # Numbers are places of the columns, unless these are called so.
        is_number = labels.dtype.kind in "iu"
        if is_number and {*labels.astype(str).tolist()} <= {*own}:
            part["labels"] = labels.astype(str)
        elif is_number and labels.max(initial=0) < len(own):
            part["labels"] = np.array(own)[labels]
    return names


def _join(parts, networks, runs):
    """Returns the examples of all files, and the rows that each run tests."""
    every, rows = [], []
    for run in runs:
        of_run = [parts[network, run] for network in networks]
        examples = dict(collections.ChainMap(*of_run))
        for part in of_run:
            _check_same(part, examples)
        if run.fold is not None and "names" not in examples:
            # Each seed must have divided the examples alike.
            count = range(len(examples["predictions"]))
            examples["names"] = np.array([f"{run.fold}, {x}" for x in count])
        every.append(examples)
    whole = every[: len({run.fold for run in runs})]
    joined = {
        name: np.concatenate([examples[name] for examples in whole])
        for name in ("names", "labels", "groups")
        if all(name in examples for examples in whole)
    }
    for run, examples in zip(runs, every, strict=True):
        own = slice(None)
        if run.fold is not None:
            names = joined["names"].tolist()
            places = {name: row for row, name in enumerate(names)}
            own = [places.get(x, -1) for x in examples["names"].tolist()]
        tested = {name: values[own] for name, values in joined.items()}
        _check_same(examples, {**tested, "path": whole[0]["path"]})
        rows.append(own)
    return joined if runs[0].fold is None else joined | {"folds": rows}


def _check_same(part, expected):
    """Raises unless two files tell the same of their examples."""
    for name in ("labels", "groups", "names", "predictions"):
        old, new = expected.get(name), part.get(name)
        if old is None or new is None:
            continue
        are_equal = len(old) == len(new)
        if are_equal and name != "predictions":
            are_equal = np.array_equal(old, new)
        if not are_equal:
            raise ValueError(
                "Files must be of the same examples in the same order; where "
                "seeds divide them into other folds, of examples with names. "
                f'Received: "{expected["path"]}" and "{part["path"]}", which '
                f"differ in their {name}, of {len(old)} and {len(new)} examples"
            )


def _read_all_in_one(path):
    """Returns the arrays `(S, N, ...)` of networks in a `.npz` file."""
    arrays = _load(path)
    given: Part = {x: arrays.pop(x, None) for x in ("labels", "groups")}
    if CLASS_NAMES in arrays:
        given[CLASS_NAMES] = [*map(str, arrays.pop(CLASS_NAMES).ravel())]
    if "task" in arrays:
        given["task"] = str(arrays.pop("task"))
    given["predictions"] = {name: [*array] for name, array in arrays.items()}
    return given
