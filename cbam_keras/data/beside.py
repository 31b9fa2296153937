"""Tables beside images that have their classes, and the code to read them."""

import json
import os
import pathlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from cbam_keras import _checks
from cbam_keras.data.layouts import name_splits

# Tables are read up to so many rows, and so many of them are looked at.
ROWS_READ, TABLES_TRIED = 2000, 20
# A column names the images if it has so large a fraction of their names.
MATCHED = 0.9
TABLE_ENDINGS = (".csv", ".tsv", ".txt")
# Words in the names of columns of classes, the likeliest first.
LABEL_COLUMNS = re.compile(
    r"label|class|categor|target|diagnos|species|breed|emotion|choice|grade"
    r"|disease|level|type|annotation",
    re.I,
)
# A split at the start of a name, e.g. "train_00001.jpg".
LEADING_SPLIT = re.compile("(train|val|test)(?=[_-])")


# What is done to the values of a column, as code and as a function.
CHANGES: Mapping[str, Callable[[str], str]] = {
    "": str,
    ".map(os.path.basename)": os.path.basename,
    # Label Studio begins names of uploads with a hash.
    '.map(os.path.basename).str.split("-", n=1).str[-1]': (
        lambda x: os.path.basename(x).split("-", maxsplit=1)[-1]
    ),
}


class NameMapping(NamedTuple):
    """How values of a column become paths: as code, and done."""

    # What is done to the column, e.g. ".map(os.path.basename)".
    change: str
    # What a path `x` is looked up by, e.g. "x.stem".
    key: str
    # The path of each value.
    path_of: Mapping[str, str]

    @property
    def code(self) -> str:
        """What makes paths of the column, without the folder of files."""
        return f"{self.change}.map({{{self.key}: x for x in files}})"


class ImageTable(NamedTuple):
    """A table with the classes of images."""

    path: pathlib.Path
    # The columns of images, classes and splits, "" if there is none of these.
    image: str
    label: str
    split: str
    # The folder that names are relative to, below `root`, or `None`: then code
    # makes paths of them.
    root: pathlib.Path
    folder: str | None
    lines: list[str]


def find_tables(
    root: pathlib.Path,
    names: Sequence[str],
    files: Iterable[str],
    make_dataset: Callable[[Sequence[Mapping[str, str]]], Any],
) -> dict[str, list[str]]:
    """Returns the code that reads each table with the classes of images.

    Args:
        root: The folder of all files.
        names: The paths of images below it.
        files: The paths of all files below it.
        make_dataset: Raises ValueError for rows that are no dataset.
    """
    try:
        pandas = _checks.require("pandas", extra="plot")
    except ImportError:
        return {}
    tables = []
    paths = [root / x for x in files if x.lower().endswith(TABLE_ENDINGS)]
    for path in paths[:TABLES_TRIED]:
        try:
            frame, call = _read(pandas, path)
            table = _find_columns(root, path, frame, call, names)
            if table is not None:
                tables.append((table, _make_rows(table, frame, names)))
        except (OSError, ValueError):
            # Not every text file is a table.
            continue
    code = _write_splits(root, tables, make_dataset)
    for table, rows in () if code else tables:
        try:
            make_dataset(rows)
        except ValueError:
            # It has too few images of a class, or several classes of one.
            continue
        code[table.path.relative_to(root).as_posix()] = _write_code(table)
    return code


def _read(pandas, path):
    """Returns the first rows of a table, and the code that reads it."""
    with open(path, encoding="utf-8-sig") as file:
        first = file.readline().strip()
    options: dict[str, Any] = {}
    separator = max(",;\t", key=first.count)
    if separator not in first:
        separator = r"\s+"
    if separator != ",":
        options["sep"] = separator
    cells = re.split(separator, first)
    # The first line has an image or a number, and no names of columns.
    if any(re.search(r"\.\w{3,4}$|^[\d.]+$", cell) for cell in cells):
        options["header"] = None
        options["names"] = ["name", "label", "third", "fourth"][: len(cells)]
        if len(cells) == 1:
            options["names"] = ["label"]
    frame = pandas.read_csv(path, nrows=ROWS_READ, dtype=str, **options)
    arguments = "".join(f", {key}={x!r}" for key, x in options.items())
    return frame, f'pandas.read_csv("{path}", dtype=str{arguments})'


def _find_columns(root, path, frame, call, names):
    """Returns the table if some column names images, and one has classes."""
    if not len(frame) or len(frame.columns) > 100:
        return None
    if len(frame.columns) == 1:
        return _read_by_order(root, path, frame, call, names)
    has_names = "header=None" not in call
    for column in map(str, frame.columns):
        values = [*frame[column].dropna()]
        folder = _find_folder(values, names, path.parent.relative_to(root))
        mapping = None
        if folder is None:
            mapping = map_names(values, names)
        if folder is None and mapping is None:
            continue
        label = _find_label(frame, column)
        if not label:
            return None
        split = _find_split(frame, column, label)
        lines = list[str]()
        if folder is None or path.suffix.lower() == ".txt" or not has_names:
            code = f'.map(lambda x: "{root / (folder or "")}/" + x)'
            code = mapping.code if mapping else code
            folder = None
            lines = [
                "import os, pathlib, pandas",
                f"frame = {call}",
                f'files = [*pathlib.Path("{root}").rglob("*.*")]',
            ]
            if not split and all(map(LEADING_SPLIT.match, values)):
                sign = values[0][LEADING_SPLIT.match(values[0]).end()]
                first = f'frame["{column}"].str.split("{sign}").str[0]'
                lines.append(f'frame["split"] = {first}')
                split = "split"
            lines.append(f'frame["image"] = frame["{column}"]{code}')
            lines.append('frame = frame.dropna(subset=["image"])')
        return ImageTable(path, column, label, split, root, folder, lines)
    return None


def _read_by_order(root, path, frame, call, names):
    """Returns a list of classes alone, in the order of images by name."""
    if len(frame) != len(names) or "header=None" not in call:
        return None
    ending = os.path.splitext(names[0])[1]
    lines = [
        "# if line n is the class of the n-th image by name",
        "import pathlib, pandas",
        f"frame = {call}",
        f'files = pathlib.Path("{root}").rglob("*{ending}")',
        'frame["image"] = sorted(files)',
    ]
    return ImageTable(path, "", "label", "", root, None, lines)


def _make_rows(table, frame, names):
    """Returns a row of each image of a table; raises if one has two classes."""
    if not table.image:
        values = sorted(names)
        path_of: Mapping[str, str] = {name: name for name in names}
    elif table.folder is not None:
        values = [*frame[table.image]]
        start = f"{table.folder}/" if table.folder else ""
        path_of = {x: start + x for x in values if isinstance(x, str)}
    else:
        values = [*frame[table.image]]
        mapping = map_names(values, names)
        path_of = {}
        if mapping is not None:
            path_of = mapping.path_of
    labels = [*map(str, frame[table.label])]
    splits = ["train"] * len(labels)
    if table.split in frame.columns:
        splits = [*map(str, frame[table.split])]
    elif table.split:
        splits = [LEADING_SPLIT.match(value)[0] for value in values]
    rows = dict[str, dict[str, str]]()
    for value, label, split in zip(values, labels, splits, strict=True):
        if value in path_of:
            path = path_of[value]
            row = {"path": path, "class": label, "split": split}
            if rows.setdefault(path, row) != row:
                raise ValueError("an image of several classes")
    return [*rows.values()]


def _write_code(table):
    """Returns the code that loads images by a table."""
    if table.folder is None:
        data, lines = "frame", table.lines
    else:
        data, lines = f'"{table.path}"', []
    arguments = _write_arguments(table)
    if table.folder is not None:
        folder = table.root / table.folder
        if folder != table.path.parent:
            arguments += f', image_folder="{folder}"'
    return [*lines, f"data.load({data}{arguments})"]


def _write_arguments(table):
    """Returns the names of columns that are not the usual ones."""
    text = ""
    is_named = table.folder is not None and table.image != "image"
    if is_named:
        text += f', image_column="{table.image}"'
    if table.label != "label":
        text += f', label_column="{table.label}"'
    if table.split not in ("", "split"):
        text += f', split_column="{table.split}"'
    return text


def _write_splits(root, tables, make_dataset):
    """Returns the code for a table in each folder of a split, {} if none is."""
    by_name = dict[str, ImageTable]()
    rows = []
    split_of = name_splits(table.path.parent.name for table, _ in tables)
    for table, of_table in tables:
        split = split_of.get(table.path.parent.name)
        if split is None or split in by_name or table.folder is None:
            return {}
        by_name[split] = table
        rows += [{**row, "split": split} for row in of_table]
    if len(by_name) < 2 or "train" not in by_name:
        return {}
    try:
        make_dataset(rows)
    except ValueError:
        return {}
    mapping = {split: str(table.path) for split, table in by_name.items()}
    arguments = _write_arguments(by_name["train"])
    text = json.dumps(mapping, ensure_ascii=False)
    name = by_name["train"].path.relative_to(root).as_posix()
    return {name: [f"data.load({text}{arguments})"]}


def _find_folder(values, names, start):
    """Returns the folder from which values are paths, `None` without one."""
    known = {*names}
    value = values[0]
    ends = [x for x in names if x == value or x.endswith(f"/{value}")]
    folders = [end.removesuffix(value).rstrip("/") for end in ends]
    # The folder of the table comes first.
    folders.sort(key=lambda folder: folder != start.as_posix().strip("."))
    for folder in folders:
        prefix = f"{folder}/" if folder else ""
        matched = sum(prefix + value in known for value in values)
        if matched >= MATCHED * len(values):
            return folder
    return None


def map_names(values: Sequence, names: Sequence[str]) -> NameMapping | None:
    """Returns how values of a column name images, `None` if they do not.

    Args:
        values: The values of a column: names, paths or numbers of images.
        names: The paths of images, of different names.
    """
    by_name = {name.rpartition("/")[2]: name for name in names}
    if len(by_name) < len(names):
        return None
    by_stem = {os.path.splitext(name)[0]: by_name[name] for name in by_name}
    keys = [("x.name", by_name), ("x.stem", by_stem)]
    # All names end alike, e.g. "train_00001_aligned.jpg" of "train_00001.jpg".
    common = os.path.commonprefix([stem[::-1] for stem in by_stem])[::-1]
    match = re.search(r"[_-][a-zA-Z]+$", common)
    if match:
        end = match[0]
        cut = {name.replace(end, ""): by_name[name] for name in by_name}
        keys.append((f'x.name.replace("{end}", "")', cut))
    for change, function in CHANGES.items():
        changed = {x: function(x) for x in values if isinstance(x, str)}
        for key, path_of in keys:
            matched = {
                x: path_of[y] for x, y in changed.items() if y in path_of
            }
            # A table has all rows of the images, or all images of its rows.
            least = MATCHED * min(len(changed), len(path_of))
            if len(matched) >= max(2, least):
                return NameMapping(change, key, matched)
    return None


def _find_label(frame, column):
    """Returns the column of classes: by its name, else if one may be it."""
    candidates = []
    for name in map(str, frame.columns):
        count = frame[name].nunique()
        are_splits = len(name_splits(map(str, {*frame[name]}))) == count
        is_few = 1 < count <= max(2, len(frame) / 3)
        if name != column and is_few and not are_splits:
            candidates.append(name)
    named = [name for name in candidates if LABEL_COLUMNS.search(name)]
    if named:
        return named[0]
    return candidates[0] if len(candidates) == 1 else ""


def _find_split(frame, *others):
    """Returns the column whose values are splits, "" if there is none."""
    for name in map(str, frame.columns):
        values = {*map(str, frame[name].dropna())}
        is_split = len(values) > 1 and len(name_splits(values)) == len(values)
        if name not in others and is_split:
            return name
    return ""
