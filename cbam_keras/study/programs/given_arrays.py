"""Files as named arrays, and their texts."""

import csv
import pathlib
import re
from collections.abc import Collection
from typing import Any

import numpy as np

from cbam_keras import _checks

DELIMITERS = (",", ";", "\t")
DECIMAL_COMMA = re.compile(r"[-+]?\d+(,\d+)?([eE][-+]?\d+)?")
# Texts of cells without a value.
MISSING = ("", "nan", "<na>")
# Columns of text are lists until they are used.
Arrays = dict[str, Any]


def read_named_arrays(path: pathlib.Path, names: Collection[str]) -> Arrays:
    """Returns the arrays of a `.npz` file, or the columns of a `.csv` one.

    Columns of these `names` are texts even if they are numbers.

    Raises:
        ValueError: If the file is damaged, or no table.
    """
    try:
        if path.suffix == ".csv":
            text = path.read_text(encoding="utf-8-sig")
            return _read_columns(text, names)
        # NumPy leaves a file open that is no archive.
        with path.open("rb") as opened, np.load(opened) as file:
            return dict(file)
    # Damaged archives and tables raise errors of many types.
    except Exception as error:
        raise ValueError(
            f'"{path}" must be a .npz file, as numpy.savez(file, probs=..., '
            "labels=...) writes, or a .csv file with a header. Received: "
            f"{type(error).__name__}: {error}"
        ) from error


def _read_columns(text, are_texts):
    """Returns the columns of a table as text, without spaces around."""
    header, *_ = text.partition("\n")
    delimiter = max(DELIMITERS, key=lambda x: len(_split(header, x)))
    lines = csv.reader(text.splitlines(), delimiter=delimiter, strict=True)
    names = [x.strip() for x in next(lines, [])]
    if not any(names) or "" in names[1:] or len({*names}) < len(names):
        raise ValueError(
            "the header must name each column once, and is "
            f"{_checks.first_few(names) or 'empty'}"
        )
    rows = []
    for row in lines:
        # A line without anything, such as the last.
        if not row:
            continue
        if len(row) != len(names):
            raise ValueError(
                f"line {lines.line_num} has {len(row)} fields, the header "
                f"{len(names)}"
            )
        rows.append(row)
    if not rows:
        raise ValueError("there are no rows below the header")
    columns: Arrays = {}
    # Lists of texts share memory with the rows, arrays of them would not.
    for name, values in zip(names, zip(*rows, strict=True), strict=True):
        columns[name] = [x.strip() for x in values]
        if name and name.lower() not in are_texts:
            columns[name] = _read_decimals(name, columns[name], delimiter)
    return columns


def _split(line, delimiter):
    return next(csv.reader([line], delimiter=delimiter), [])


def _read_decimals(name, values, delimiter):
    """Returns numbers with decimal commas as numbers with points."""
    if not any("," in x for x in values):
        return values
    if not all(DECIMAL_COMMA.fullmatch(x) for x in values if x):
        return values
    if delimiter == ",":
        raise ValueError(
            f'the numbers of the column "{name}" have a comma, such as '
            f"{values[0]}. Use a decimal point"
        )
    return [x.replace(",", ".") for x in values]


def as_text(values: np.ndarray) -> np.ndarray:
    """Returns an array as text without spaces around."""
    decoded = [
        x.decode() if isinstance(x, bytes) else str(x) for x in values.tolist()
    ]
    return np.char.strip(np.array(decoded, dtype=str))


def as_names(values: Any) -> tuple[str, ...]:
    """Returns the names of classes, without spaces around."""
    return tuple(as_text(np.asarray(values)).tolist())


def is_missing(values: np.ndarray) -> np.ndarray:
    """Returns where an array has no value: NaN, `None`, or an empty text."""
    if values.dtype.kind == "f":
        return np.isnan(values)
    if values.dtype.kind == "O":
        nothing = [x is None or x != x for x in values.ravel().tolist()]
        return np.array(nothing).reshape(values.shape)
    if values.dtype.kind in "US":
        return np.isin(np.char.lower(as_text(values)), MISSING)
    return np.zeros(values.shape, bool)
