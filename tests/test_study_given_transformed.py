"""Right predictions, written in many forms and rearranged: numbers never move.

Each draw has probabilities whose accuracies NumPy computes, a form in which
people keep them, and rearrangements that mean the same: other orders of
columns, files, rows with names, classes and seeds, other types of labels. They
are read with these accuracies, or refused.
"""

import csv
import dataclasses
import itertools
import shutil

import numpy as np
import pytest

from cbam_keras import study

pandas = pytest.importorskip("pandas")
pytest.importorskip("sklearn")

DRAWS = 60
# Names of classes, some of which are numbers, booleans, or sort otherwise.
POOLS = (
    ("cat", "dog", "fox", "gnu"),
    ("zebra", "ant", "Yak", "bee"),
    ("class 10", "class 2", "class 1", "class 30"),
    ("01", "02", "03", "10"),
    ("3", "1", "2", "4"),
    ("no", "yes", "na", "none"),
    ("True", "False"),
)
# How predictions are kept, the last one of two classes.
BY_NAME = ("columns", "prefixed", "class_names", "named answers")
STYLES = (*BY_NAME, "places", "answers", "single")
KINDS = ("text", "int", "float", "bool", "bytes", "category", "one-hot")


@dataclasses.dataclass
class Draw:
    """Probabilities `(N, classes)` of each run, and how they are kept."""

    names: tuple
    labels: np.ndarray
    probabilities: dict
    parts: dict
    style: str
    kind: str
    form: str
    has_images: bool
    has_labels: str
    asks_names: bool
    mixes_kinds: bool


def draw(random):
    """Returns one draw: what is right, and how it is written."""
    pool = POOLS[random.integers(len(POOLS))]
    classes = int(random.integers(2, len(pool) + 1))
    names = tuple(random.permutation(pool)[:classes].tolist())
    count = int(random.integers(24, 40))
    labels = random.integers(0, classes, count)
    labels[:classes] = np.arange(classes)
    folds = int(random.choice([1, 1, 3]))
    seeds = random.choice(90, random.integers(1, 4), replace=False).tolist()
    parts, probabilities = {}, {}
    for seed in seeds:
        division = np.arange(count) % folds
        for fold in range(folds):
            run = (seed, fold if folds > 1 else None)
            parts[run] = np.flatnonzero(division == fold)
    for network, run in itertools.product(("none", "cbam"), parts):
        scores = random.dirichlet(np.ones(classes), count)
        scores += 0.6 * np.eye(classes)[labels] * (random.random() + 0.2)
        probabilities[network, run] = scores / scores.sum(axis=1, keepdims=True)
    style = random.choice(STYLES if classes == 2 else STYLES[:-1])
    form = str(random.choice(["csv", "npz", "memory"]))
    in_npz = style in ("class_names", "named answers")
    if form == "memory" and in_npz:
        style = "places" if style == "class_names" else "answers"
    if "True" in names and style in ("places", "single"):
        # Without names, False and True are 0 and 1 everywhere.
        names = ("False", "True")
    if form == "npz" and style in ("columns", "prefixed"):
        form = "csv"
    if form == "csv" and in_npz:
        form = "npz"
    return Draw(
        names,
        labels,
        probabilities,
        parts,
        str(style),
        str(random.choice(KINDS)),
        form,
        bool(random.random() < 0.5),
        str(random.choice(["all", "all", "one", "argument"])),
        bool(random.random() < 0.5),
        bool(random.random() < 0.2),
    )


def expected(drawn):
    """Returns the accuracies of each network, in ascending order."""
    found = {"none": [], "cbam": []}
    for (network, run), scores in drawn.probabilities.items():
        rows = drawn.parts[run]
        right = scores[rows].argmax(axis=1) == drawn.labels[rows]
        found[network].append(right.mean())
    return {name: sorted(x) for name, x in found.items()}


def encode(numbers, kind, names):
    """Returns numbers of classes as labels of another type."""
    if kind == "int":
        return numbers.astype("int32")
    if kind == "float":
        return numbers.astype("float32")
    if kind == "bool" and len(names) == 2:
        is_true = [x == "True" for x in names]
        return np.array(is_true if any(is_true) else [False, True])[numbers]
    if kind == "one-hot":
        return np.eye(len(names))[numbers]
    texts = np.array(names)[numbers]
    return texts.astype("S12") if kind == "bytes" else texts


def arrays_of(drawn, network, run, random):
    """Returns what one file holds, with all its rearrangements."""
    rows = drawn.parts[run]
    if drawn.has_images:
        # Rows whose examples have names may be in any order.
        rows = random.permutation(rows)
    kind = random.choice(KINDS) if drawn.mixes_kinds else drawn.kind
    names, scores = drawn.names, drawn.probabilities[network, run][rows]
    labels = drawn.labels[rows]
    if drawn.style in BY_NAME:
        # Columns may be in any order if their names are.
        order = random.permutation(len(names))
        scores = scores[:, order]
        names = [names[x] for x in order]
    if drawn.style in ("class_names", "named answers"):
        # Numbers are places in the class names of their own file.
        labels = np.argsort(order)[labels]
        encoded = encode(labels, kind, names)
    else:
        encoded = encode(labels, kind, drawn.names)
    arrays = predictions_of(drawn.style, scores, kind, names)
    if drawn.has_images:
        arrays["image"] = np.array([f"image {x}" for x in rows])
    return arrays, encoded


def predictions_of(style, scores, kind, names):
    """Returns the arrays of predictions of one style."""
    if style in ("columns", "prefixed"):
        prefix = "prob_" if style == "prefixed" else ""
        pairs = zip(names, scores.T, strict=True)
        return {f"{prefix}{name}": column for name, column in pairs}
    if style == "single":
        return {"prob": scores[:, 1]}
    if style in ("answers", "named answers"):
        kind = "int" if kind == "one-hot" else kind
        arrays = {"prediction": encode(scores.argmax(axis=1), kind, names)}
    else:
        arrays = {"probs": scores}
    if style in ("class_names", "named answers"):
        arrays["class_names"] = np.array(names)
    return arrays


def write_csv(path, arrays, random):
    """Writes columns in any order, in one of the ways of spreadsheets."""
    flat = {}
    for name, values in arrays.items():
        if values.ndim == 2:
            prefix = "prob" if name == "probs" else name
            for place, column in enumerate(values.T):
                flat[f"{prefix}_{place}"] = column
        else:
            flat[name] = values
    keys = random.permutation([*flat]).tolist()
    space = random.choice(["", " "])
    is_european = random.random() < 0.3
    lines = [[f"{space}{x}" for x in keys]]
    for row in zip(*(flat[x].tolist() for x in keys), strict=True):
        texts = [x.decode() if isinstance(x, bytes) else str(x) for x in row]
        if is_european:
            texts = [
                x.replace(".", ",") if isinstance(y, float) else x
                for x, y in zip(texts, row, strict=True)
            ]
        lines.append([f"{x}{space}" for x in texts])
    if random.random() < 0.3:
        lines = [
            ["" if x == 0 else str(x - 1), *y] for x, y in enumerate(lines)
        ]
    with path.open("w", newline="", encoding="utf-8") as file:
        delimiter = ";" if is_european else ","
        csv.writer(file, delimiter=delimiter).writerows(lines)


def arguments_of(drawn, folder, random):
    """Writes a draw, and returns the arguments that read it."""
    options = {}
    if drawn.asks_names:
        options["class_names"] = drawn.names
    order = np.concatenate(
        [
            drawn.parts[x]
            for x in drawn.parts
            if x[0] == next(iter(drawn.parts))[0]
        ]
    )
    beside = encode(drawn.labels[order], drawn.kind, drawn.names)
    if drawn.kind == "category":
        beside = pandas.Series(beside).astype("category")
    if drawn.form == "memory":
        return read_memory(drawn, beside, order, options, random)
    keys = [*drawn.probabilities]
    with_labels = keys[random.integers(len(keys))]
    for network, run in [keys[x] for x in random.permutation(len(keys))]:
        arrays, encoded = arrays_of(drawn, network, run, random)
        is_told = drawn.has_labels == "all" or with_labels == (network, run)
        if drawn.has_labels != "argument" and is_told:
            arrays["label"] = encoded
        seed, fold = run
        stem = f"{network}_{random.choice(['s', 'seed', 'run'])}{seed}"
        if fold is not None:
            stem += f"_fold{fold}"
        path = folder / f"{stem}.{drawn.form}"
        if drawn.form == "csv":
            write_csv(path, arrays, random)
        else:
            np.savez(path, **arrays)
    if drawn.has_labels == "argument":
        options["labels"] = beside
    return folder, options


def read_memory(drawn, beside, order, options, random):
    """Returns arrays, or data frames whose columns have any order."""
    given = {"none": [], "cbam": []}
    places = np.argsort(order)
    for (network, run), scores in drawn.probabilities.items():
        rows = order if run[1] is None else drawn.parts[run]
        values = scores[rows]
        if drawn.style in ("columns", "prefixed"):
            columns = random.permutation(len(drawn.names))
            values = pandas.DataFrame(
                values[:, columns], columns=[drawn.names[x] for x in columns]
            )
        elif drawn.style == "single":
            values = values[:, 1]
        elif drawn.style == "answers":
            kind = "int" if drawn.kind == "one-hot" else drawn.kind
            values = encode(values.argmax(axis=1), kind, drawn.names)
        if run[1] is not None:
            values = places[rows], values
            options["folds"] = True
        given[network].append(values)
    options["labels"] = beside
    return given, options


def check(drawn, folder, random):
    """Returns whether a draw is read; if it is, its numbers are right."""
    given, options = arguments_of(drawn, folder, random)
    try:
        results = study.results_of(given, **options)
    except ValueError as error:
        assert "Received" in str(error)
        return False
    found = {"none": [], "cbam": []}
    for outcome in results.outcomes:
        found[outcome.variant].append(outcome.metrics["test_accuracy"])
    found = {name: sorted(x) for name, x in found.items()}
    right = expected(drawn)
    for name in right:
        assert found[name] == pytest.approx(right[name]), drawn
    return True


@pytest.mark.parametrize(
    "block",
    [
        *range(4),
        *(pytest.param(x, marks=pytest.mark.exhaustive) for x in range(4, 100)),
    ],
)
def test_rearranged_predictions_have_the_same_accuracies_or_are_refused(
    block, tmp_path
):
    read = 0
    for number in range(DRAWS):
        random = np.random.default_rng((block, number))
        folder = tmp_path / "predictions"
        folder.mkdir()
        read += check(draw(random), folder, random)
        shutil.rmtree(folder)
    # Not even half are refused.
    assert read >= DRAWS / 2
