"""The examples of several files, joined by their names."""

import collections
import dataclasses
from collections.abc import Hashable, Mapping

import numpy as np

from cbam_keras.study.plans.study import Run
from cbam_keras.study.programs.given_arrays import is_missing
from cbam_keras.study.programs.given_files import PredictionTable, Tables
from cbam_keras.study.programs.given_values import GivenRun


@dataclasses.dataclass(frozen=True)
class Joined:
    """The examples of all files, and what networks predict for them.

    Args:
        runs: Mapping of networks to their runs, in order.
        labels: Array of the labels of all examples, or `None`.
        groups: Array of the groups of all examples, or `None`.
        names: Array of the names of all examples, or `None`.
        count: Integer, the number of examples.
    """

    runs: dict[str, list[GivenRun]]
    labels: np.ndarray | None
    groups: np.ndarray | None
    names: np.ndarray | None
    count: int


def join(
    tables: Tables,
    predictions: Mapping[tuple[str, Run], np.ndarray],
    labels: Mapping[tuple[str, Run], np.ndarray],
    given_labels: np.ndarray | None,
    has_given_groups: bool,
) -> Joined:
    """Returns the examples of tables, each once, and the runs of networks.

    Examples are the same where their names are; without names where their
    places are, in files of the same fold. `predictions` and `labels` are those
    of tables whose classes are numbered; `given_labels` are of no file, in the
    order of the files.

    Raises:
        ValueError: If names are missing in some files or occur twice, or if
            files differ in their examples, labels or groups.
    """
    _check_names(tables)
    first_seed = next(iter(tables))[1].seed
    rows_of: dict[Hashable, int] = {}
    for (_, run), table in tables.items():
        if run.seed == first_seed:
            for key in _keys_of(table, run):
                rows_of.setdefault(key, len(rows_of))
    rows = {
        key: _find_rows(table, key[1], rows_of, tables)
        for key, table in tables.items()
    }
    _check_same_examples(tables, rows)
    count = len(rows_of)
    if given_labels is not None or has_given_groups:
        _check_order(tables, rows, given_labels, count)
    of_labels = [
        (tables[key].source, rows[key], values)
        for key, values in labels.items()
    ]
    if given_labels is not None:
        of_labels.insert(0, ("labels=", np.arange(count), given_labels))
    of_groups = [
        (table.source, rows[key], table.groups)
        for key, table in tables.items()
        if table.groups is not None
    ]
    runs = collections.defaultdict(list)
    for key in tables:
        order: slice | np.ndarray = slice(None)
        if (np.diff(rows[key]) < 0).any():
            order = np.argsort(rows[key], kind="stable")
        runs[key[0]].append(GivenRun(rows[key][order], predictions[key][order]))
    first = next(iter(tables.values()))
    names = None if first.images is None else np.array([*rows_of], dtype=str)
    return Joined(
        dict(runs),
        _fill("labels", of_labels, count),
        _fill("groups", of_groups, count),
        names,
        count,
    )


def _check_names(tables):
    """Raises unless all tables have names of examples, each once, or none."""
    with_names = [x for x in tables.values() if x.images is not None]
    without = [x for x in tables.values() if x.images is None]
    if with_names and without:
        raise ValueError(
            "All files must have the names of their examples (image), or "
            f'none. Received: "{with_names[0].source}" with names and '
            f'"{without[0].source}" without. Add the column, or leave it out'
        )
    for table in with_names:
        names, counts = np.unique(table.images, return_counts=True)
        repeated = names[counts > 1].tolist()
        if repeated:
            raise ValueError(
                f'"{table.source}" must have each example once. Received: '
                f"{len(repeated):,} names (image) that occur several times, "
                f"such as {repeated[0]!r}. Leave out copies, or the column if "
                "it does not name single examples; for several examples of "
                "one patient call it group"
            )


def _keys_of(table, run):
    """Returns by what the examples of a table are known in other tables."""
    if table.images is not None:
        return table.images.tolist()
    return [(run.fold, row) for row in range(len(table.predictions))]


def _find_rows(table, run, rows_of, tables):
    """Returns the place of each example of a table among all examples."""
    keys = _keys_of(table, run)
    unknown = [x for x in keys if x not in rows_of]
    if unknown:
        first = next(iter(tables.values()))
        if table.images is None:
            what = f"predictions, of {len(first.predictions)} and {len(keys)}"
        else:
            what = f"names, such as {unknown[0]!r}, of {len(unknown):,}"
        _refuse_other_examples(first, table, what)
    return np.array([rows_of[x] for x in keys])


def _check_same_examples(tables, rows):
    """Raises unless the networks of a run have the same examples."""
    first_of_run: dict[Run, tuple[str, Run]] = {}
    for key, table in tables.items():
        # Without folds, all runs have the same.
        run = key[1] if key[1].fold is not None else Run(0)
        first = first_of_run.setdefault(run, key)
        if not np.array_equal(np.sort(rows[key]), np.sort(rows[first])):
            _refuse_other_examples(
                tables[first],
                table,
                f"{'names' if table.images is not None else 'predictions'}, "
                f"of {len(rows[first])} and {len(rows[key])}",
            )


def _refuse_other_examples(
    expected: PredictionTable, table: PredictionTable, what: str
) -> None:
    raise ValueError(
        "All files must contain the same examples in the same order, or name "
        "their examples if folds differ between seeds. Received: "
        f'"{expected.source}" and "{table.source}", which differ in their '
        f"{what} examples. Runs that test other examples are folds: call them "
        "_fold0, _fold1, ..."
    )


def _check_order(tables, rows, labels, count):
    """Raises unless arrays beside the files can only be in their order."""
    if labels is not None and len(labels) != count:
        raise ValueError(
            f"`labels` must have one entry for each of the {count:,} examples "
            f"in the files. Received: {len(labels):,}"
        )
    for key, table in tables.items():
        if (np.diff(rows[key]) < 0).any():
            raise ValueError(
                "`labels` and `groups` beside files are in the order of their "
                "rows, which must be the same in all files. Received: other "
                f'orders of names in "{next(iter(tables.values())).source}" '
                f'and "{table.source}". Add columns label and group to the '
                "files"
            )


def _fill(what, sources, count):
    """Returns what sources say of all examples, or `None` if none says it."""
    filled: list = [None] * count
    said_by: list[str] = [""] * count
    for source, rows, values in sources:
        is_absent = is_missing(values).reshape(len(values), -1)
        missing = np.flatnonzero(is_absent.any(axis=1))
        if len(missing):
            raise ValueError(
                f'"{source}" must give {what} for all examples. Received: none '
                f"in {len(missing):,} of {len(values):,}, the first at index "
                f"{missing[0]}"
            )
        pairs = zip(rows.tolist(), values.tolist(), strict=True)
        for index, (row, value) in enumerate(pairs):
            if filled[row] is None:
                filled[row] = value
                said_by[row] = source
            elif filled[row] != value:
                raise ValueError(
                    "All files must contain the same examples. Received: "
                    f'"{said_by[row]}" and "{source}", which '
                    f"differ in their {what}, of {count} and {len(values)} "
                    f"examples, first at index {index}"
                )
    if not sources:
        return None
    unsaid = [row for row, value in enumerate(filled) if value is None]
    if unsaid:
        raise ValueError(
            f"Files must give the {what} for all examples. Received: none for "
            f"{len(unsaid):,} of {count:,}"
        )
    return np.array(filled)
