"""Tables of image files and their labels: CSV files and data frames."""

import collections
import dataclasses
import os
import pathlib
import re
import sys
from collections.abc import Mapping
from typing import Any

from cbam_keras import _checks
from cbam_keras.data.arrays import read_arrays
from cbam_keras.data.beside import map_names
from cbam_keras.data.decoding import ENDINGS, keep_readable
from cbam_keras.data.examples import Dataset, digest
from cbam_keras.data.folders import ARRAYS, find_names, make_dataset
from cbam_keras.data.formats import find_ending
from cbam_keras.data.layouts import name_splits
from cbam_keras.data.splits import SPLITS, by_split

# What columns are called, where no other name is given.
COLUMNS = ("image", "label", "split", "group", "fold")
# So many columns are named in a message.
LISTED = 8
NUMBER = r"[-+]?[0-9.]+(e[-+]?[0-9]+)?"


def is_table(data: object) -> bool:
    """Returns whether data are a file or data frame of rows, or several."""
    if isinstance(data, Mapping):
        return bool(data) and all(map(is_table, data.values()))
    if isinstance(data, str | os.PathLike):
        is_file = str(data).lower().endswith((".csv", ".tsv"))
        return is_file and not os.path.isdir(os.path.expanduser(data))
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(data, pandas.DataFrame)


def from_table(
    data: Any,
    columns: Mapping[str, str | None],
    image_folder: str | os.PathLike | None,
    of_masks: bool = False,
    kind: str | None = None,
) -> Dataset:
    """Returns the image files of a table, or of a table for each split.

    `columns` names the column of each of `COLUMNS`, or has `None`.
    """
    pandas = _checks.require("pandas", extra="plot")
    tables = data if isinstance(data, Mapping) else {"train": data}
    tables = by_split(tables)
    what = "mask" if of_masks else "label"
    left_out, notes = collections.Counter[str](), dict[str, None]()
    parts, roots, numbers = [], [], dict[str, Any]()
    for split in sorted(tables, key=SPLITS.index):
        frame, root = _read(tables[split])
        root = pathlib.Path(image_folder or root).expanduser().absolute()
        is_named = columns["image"] is not None or "image" in frame.columns
        has_files = any("/" in x or _is_file(x) for x in frame.iloc[0].map(str))
        has_numbers = not (kind is None or is_named or has_files)
        if has_numbers:
            names = [f"{split} {row}" for row in range(len(frame))]
            frame = frame.assign(image=names)
        used = _find_columns(frame, columns, len(tables) > 1, of_masks)
        if has_numbers:
            frame, values = _take_numbers(frame, used)
            numbers |= dict(zip(names, values, strict=True))
        rows, remarks = _read_rows(frame, used, root, of_masks, has_numbers)
        notes |= dict.fromkeys(remarks)
        left_out[f"without a {what}"] += len(frame) - len(rows)
        if "split" not in used:
            rows["split"] = split
        roots.append(root)
        parts.append(rows)
    rows, names = pandas.concat(parts, ignore_index=True), list[str]()
    if of_masks:
        rows["mask"] = rows["label"]
    else:
        codes, names = _number_labels(rows["label"])
        rows["class"] = [names[code] for code in codes]
    _check_single(rows, of_masks)
    copies = int(rows.duplicated(["path", "split"]).sum())
    if copies:
        note = f"{_checks.count(copies, 'row', 'repeat')} an image"
        notes[f"{note}, in the same split; class weights count each row"] = None
    is_grouped = "group" in rows
    hashed = [names, *rows.get("class", []), *rows.get("fold", [])]
    # Rows of one image stay in one split, too.
    groups = rows["path"]
    if is_grouped:
        groups = rows.groupby("path")["group"].transform("first").fillna(groups)
        hashed += groups.tolist()
    records = rows.assign(group=groups).to_dict("records")
    splits_used = {"train", *rows["split"]}
    dataset = make_dataset(records, splits_used, names, +left_out, roots[0])
    dataset = dataclasses.replace(
        dataset,
        fingerprint=digest(dataset.fingerprint, *hashed),
        grouped_by="group_column" if is_grouped else "",
        remarks=tuple(notes),
    )
    if numbers:
        dataset = dataclasses.replace(dataset, root=None)
        return read_arrays(dataset, kind, numbers.__getitem__)
    ending = find_ending(rows["path"].iloc[0])
    if ending in ARRAYS and not of_masks:
        return read_arrays(dataset, kind)
    return keep_readable(dataset)


def _take_numbers(frame, used):
    """Returns a table without its columns of numbers, and these as an array."""
    pandas = _checks.require("pandas", extra="plot")
    others = frame.drop(columns=[*used.values()])
    numbers = others.apply(pandas.to_numeric, errors="coerce")
    # Columns without any number are no part of an example.
    numbers = numbers.dropna(axis="columns", how="all")
    return frame.drop(columns=numbers.columns), numbers.to_numpy("float64")


def _read_rows(frame, used, root, of_masks, has_numbers):
    """Returns rows with an image and a label by our names, and notes."""
    pandas = _checks.require("pandas", extra="plot")
    unused = [str(x) for x in frame.columns if x not in used.values()]
    listed = _checks.first_few(unused, LISTED)
    notes = [f"columns not used: {listed}"] if unused else []
    rows = pandas.DataFrame({x: frame[used[x]].map(_clean) for x in used})
    rows = rows.dropna(subset=["image", "label"]).reset_index(drop=True)
    for key in [x for x in used if x in COLUMNS[2:]]:
        notes.append(f'{key}s by the column "{used[key]}"')
        rows[key] = _name_groups(key, used[key], rows[key])
    rows["path"], note = rows["image"], ""
    if not has_numbers:
        rows["path"], note = _locate(rows["image"], root, used["image"])
    if of_masks:
        rows["label"], _ = _locate(rows["label"], root, used["label"])
    return rows, [*notes, *filter(None, [note])]


def _read(table):
    """Returns a data frame of rows, and the folder that paths start from."""
    if not isinstance(table, str | os.PathLike):
        _check_rows(table, "a data frame")
        return table.rename(columns=str), pathlib.Path()
    pandas = _checks.require("pandas", extra="plot")
    path = pathlib.Path(table).expanduser()
    # A class may be called "None", which pandas takes for no label, and
    # "007.png" just "007".
    options = {"keep_default_na": False, "na_values": ["", "nan", "NaN"]}
    options |= {"dtype": str, "skipinitialspace": True, "index_col": False}
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            first = file.readline()
        separator = max(",;\t", key=first.count)
        if not _is_head(first.strip().split(separator)):
            options["header"] = None
        frame = pandas.read_csv(path, sep=separator, **options)
    except (OSError, ValueError) as error:
        raise ValueError(
            "`data` must be a CSV file that exists, in UTF-8, its columns "
            f'named in the first line. Received: data="{table}" ({error})'
        ) from error
    _check_rows(frame, f'data="{table}"')
    return frame.rename(columns=lambda x: str(x).strip()), path.parent


def _check_rows(frame, name):
    if not len(frame):
        raise ValueError(
            "A table must have a row for each example. Received: "
            f"{name}, with none below its first line"
        )


def _is_head(cells):
    """Returns whether the first line of a file names columns."""
    names = [cell.strip('" ') for cell in cells]
    are_numbers = all(re.fullmatch(NUMBER, x) for x in names)
    return not are_numbers and not any(map(_is_file, names))


def _is_file(text):
    return find_ending(text) in (*ENDINGS, *ARRAYS)


def _clean(value):
    """Returns text without spaces around it, none as missing."""
    if isinstance(value, list | tuple | set):
        return str(value)
    return (value.strip() or None) if isinstance(value, str) else value


def _find_columns(frame, columns, are_splits, of_masks):
    """Returns the columns of a table by our names or those that are given."""
    used, label = dict[str, Any](), "mask" if of_masks else "label"
    for key in COLUMNS:
        own = label if key == "label" else key
        name = columns[key] or own
        if key == "fold" and columns[key] is None:
            continue
        if name in frame.columns and not (key == "split" and are_splits):
            used[key] = name
        elif columns[key] or key in ("image", "label"):
            row = frame.iloc[0].map(str)
            held = [f'"{x}" ({row[x][:40]})' for x in frame.columns]
            advice = f'{own}_column="..." (--{own}-column) with one of these'
            if key == "label" and (one_hot := _find_one_hot(frame)):
                advice = f'frame["{own}"] = frame[{one_hot}].idxmax(axis=1)'
            raise ValueError(
                f'A table must have the columns "image" and "{label}", or '
                f'others that are named. Received: no column "{name}" among '
                f"{_checks.first_few(held, LISTED)}. Write {advice}. Rows of "
                'numbers are for kind="signals" or "vectors" (--kind); those '
                "of pixels become arrays: frame.drop(columns=...).to_numpy()"
            )
    return used


def _find_one_hot(frame):
    """Returns the columns with one 1 in each row, and 0 elsewhere, if any."""
    pandas = _checks.require("pandas", extra="plot")
    numbers = frame.apply(pandas.to_numeric, errors="coerce")
    found = [str(x) for x in frame.columns if numbers[x].isin((0, 1)).all()]
    is_one_hot = len(found) > 1 and (numbers[found].sum(axis=1) == 1).all()
    return found if is_one_hot else []


def _name_groups(key, name, values):
    """Returns the group of each row as text, or its split by our name."""
    texts = values.map(str, na_action="ignore")
    if key == "split":
        found = {*texts.dropna()}
        # CelebA numbers its splits.
        is_numbered = found == {"0", "1", "2"}
        names = dict(zip("012", SPLITS, strict=True))
        texts = texts.map(names if is_numbered else name_splits(found))
    if texts.isna().any():
        raise ValueError(
            f"`{key}_column` must give a {key} for every image. Received: "
            f"{key}_column={name!r}, which also has "
            f'"{values[texts.isna()].iloc[0]}". Fill that column, or '
            "remove it; fold_column= (--fold-column) takes folds"
        )
    return texts


def _locate(names, root, column):
    """Returns the path of each image, and a note if it is found by its end."""
    names = [*map(str, names)]
    if not names:
        return names, ""
    # Windows separates folders by what may stand in a name elsewhere.
    plain = [re.sub("^file://", "", x).replace("\\", "/") for x in names]
    parts = [pathlib.PurePath(x).parts for x in plain]
    for start in range(max(map(len, parts))):
        tails = [pathlib.PurePath(*x[start:] or x[-1:]) for x in parts]
        paths = [os.path.abspath(root / tail) for tail in tails]
        rows = [row for row, path in enumerate(paths) if os.path.isfile(path)]
        if rows:
            note = f'"{tails[rows[0]].as_posix()}" of "{names[rows[0]]}"'
            note = f"images by the ends of their paths, as {note}"
            return paths, note if start else ""
    raise ValueError(
        "A table must hold the path of each image, not its URL. Received: none "
        f'that is in "{root}", the first of them "{names[0]}". '
        f"{_advise_paths(names, root, column)}"
    )


def _advise_paths(names, root, column):
    """Returns how to pass the folder of images, or code that finds them."""
    files = find_names(root)
    mapping = map_names(names, files)
    if mapping is None:
        # Pictures of sounds are called as these, but for the ending.
        stems = [os.path.splitext(name)[0] for name in names]
        mapping = map_names(stems, files)
        if mapping is not None:
            change = '.str.replace(r"[.][^.]*$", "", regex=True)'
            mapping = mapping._replace(change=change + mapping.change)
    if mapping is None:
        return (
            "Pass the folder that paths are relative to as image_folder= "
            "(--image-folder), or download the images"
        )
    place = f'pathlib.Path("{root}").rglob("*.*")'
    code = mapping.code.replace("in files", f"in {place}")
    return (
        "In a data frame, its names become paths by "
        f'frame["image"] = frame["{column}"]{code}'
    )


def _number_labels(labels):
    """Returns the class of each row as an integer, and the texts as written."""
    pandas = _checks.require("pandas", extra="plot")
    # Integers beside missing values have become floats.
    values = labels.convert_dtypes().map(str)
    texts = {*values}
    for text in sorted(texts):
        parts = re.split(r"\s*[|;,]\s*|\s+", text)
        is_list = "|" in text or text.startswith(("[", "(", "{"))
        if len(parts) > 1 and (is_list or {*parts} <= texts):
            raise ValueError(
                f'An image must have one class. Received: the label "{text}". '
                "For several, pass arrays with multi_label=True"
            )
    are_integers = all(re.fullmatch("0|-?[1-9][0-9]*", x) for x in texts)
    names = sorted(texts, key=int if are_integers else str)
    return pandas.Categorical(values, names).codes, names


def _check_single(rows, of_masks):
    """Raises if images have several classes, or masks."""
    rows = rows[rows.duplicated("path", keep=False)]
    classes = rows.groupby("path")["label"].agg(
        lambda x: sorted({*map(str, x)})
    )
    names = [
        f"{os.path.basename(path)} ({', '.join(each)})"
        for path, each in classes.items()
        if len(each) > 1
    ]
    if names:
        kind = "mask" if of_masks else "class"
        raise ValueError(
            f"An image must have one {kind}. Received: {len(names):,} with "
            f"several: {_checks.first_few(names)}. Keep one row per image"
        )
