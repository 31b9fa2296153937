"""Folders of images, as two layouts or a pattern say what they mean."""

import collections
import contextlib
import dataclasses
import os
import pathlib
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from cbam_keras import _checks, _files
from cbam_keras.data import layouts
from cbam_keras.data.arrays import read_arrays, read_recordings
from cbam_keras.data.beside import find_tables
from cbam_keras.data.decoding import ENDINGS, keep_readable
from cbam_keras.data.examples import Dataset, Examples, describe_counts, digest
from cbam_keras.data.formats import describe_readers, find_ending
from cbam_keras.data.levels import are_subjects
from cbam_keras.data.patterns import make_pattern
from cbam_keras.data.proposals import propose_classes
from cbam_keras.data.splits import SPLITS, by_split, check_splits, name_missing

# Files that seem to say the splits or classes of images.
LIST = re.compile(
    r"\.[ct]sv$|(?<![a-z])(train|trainval|val|test|split|fold).*\.txt$", re.I
)
# How files end that may have the classes of images.
MAY_HAVE_CLASSES = (".csv", ".json", ".jsonl", ".mat", ".tsv", ".txt", ".xlsx")
# How files of arrays end, each with one example.
ARRAYS = (".npy",)


def describe_missing(path: str | os.PathLike) -> str:
    """Returns what is in place of a folder."""
    path = pathlib.Path(path).expanduser()
    if not path.is_file() and not re.match(r"\w\w+:/", str(path)):
        return "where there is no folder"
    return (
        "which is a file or an address: download and unpack it, and pass the "
        "folder, or read it, and pass arrays (images, labels) or a data frame"
    )


def from_folder(
    data: Any, pattern: str | None = None, kind: str | None = None
) -> Dataset:
    """Returns the images of a folder, or of one for each split, as paths."""
    is_several = isinstance(data, Mapping)
    given = by_split(data if is_several else {"train": data})
    roots = {split: find_root(folder) for split, folder in given.items()}
    root = pathlib.Path(os.path.commonpath([*roots.values()]))
    places = [*roots.items()]
    left_out, endings = collections.Counter[str](), collections.Counter[str]()
    classes = set[str]()
    if pattern is None:
        if not is_several:
            places = _find_places(root, left_out)
        places = [(split, enter_folder(folder)) for split, folder in places]
    files = [(*place, find_names(place[1])) for place in places]
    names = [name.lower() for _, _, within in files for name in within]
    has_arrays = any(name.endswith(ARRAYS) for name in names)
    recordings = {
        split: [folder / x for x in within if x.lower().endswith(".npz")]
        for split, folder, within in files
    }
    has_images = any(map(is_image, names))
    has_others = has_arrays or has_images
    if all(recordings.values()) and pattern is None and not has_others:
        return read_recordings(recordings, kind)
    are_arrays = str(pattern).endswith(ARRAYS)
    are_arrays |= has_arrays and not has_images
    endings_read = ARRAYS if are_arrays else ENDINGS
    if not are_arrays and kind is not None:
        counts = collections.Counter(map(find_ending, names)).most_common(4)
        readers = describe_readers(names)
        raise ValueError(
            "`data` must hold arrays for `kind`: arrays in Python; a .npz file "
            "of x_train and y_train, or x and y; X_train.npy beside "
            "y_train.npy; folders of .npy by class, or a table of their paths; "
            "a folder of .npz recordings of x and y; a table of numbers. "
            f'Received: data="{root}", {kind=} of {dict(counts)}'
            f"{', with ' if readers else ''}{readers}"
        )
    readers = "" if has_others else describe_readers(names)
    if readers:
        raise ValueError(
            "`data` must be a folder of images or of .npy files. Received: "
            f'data="{root}", with {readers}'
        )
    if pattern is None:
        classes = _check_classes(root, files, endings_read)
    compiled = make_pattern(pattern or "{class}/*", is_several)
    found, others = [], []
    for split, folder, within in files:
        for name in within:
            values = compiled.match(name)
            is_read = name.lower().endswith(endings_read)
            if values is None:
                if is_read:
                    others.append(name)
            elif is_read:
                path = os.path.join(folder, *name.split("/"))
                found.append({"split": split, "path": path, **values})
            else:
                endings[find_ending(name) or name] += 1
    if others and not found and pattern is not None:
        raise ValueError(
            f'`pattern` must match the paths below data="{root}". Received: '
            f'pattern="{pattern}": {compiled.describe_mismatch(others[:99])}'
        )
    reason = "not in the pattern" if pattern else "not in a class folder"
    left_out[reason] += len(others)
    # This drops the reasons that hold for no file.
    if left_out := +left_out:
        _checks.warn(f"Images are left out: {describe_counts(left_out)}")
    classes |= {x["class"] for x in found}
    splits = {split for split, _ in places}
    if found and "split" in compiled.names:
        splits = {x["split"] for x in found}
    dataset = make_dataset(
        found, splits, sorted(classes), left_out + endings, root, pattern
    )
    below = [] if is_several else find_names(root)
    if lists := [*filter(LIST.search, below)]:
        remark = (
            f"not used: {_checks.first_few(lists)} (pass splits as a table "
        )
        remark += "with a column `split`)"
        dataset = dataclasses.replace(dataset, remarks=(remark,))
    return read_arrays(dataset, kind) if are_arrays else keep_readable(dataset)


def find_root(path: Any, argument: str = "data") -> pathlib.Path:
    """Returns the absolute path of a folder, which must exist."""
    folder = pathlib.Path(os.path.abspath(os.path.expanduser(path)))
    if not folder.is_dir():
        raise ValueError(
            f"`{argument}` must be a folder that exists. Received: "
            f'{argument}="{path}", {describe_missing(path)}'
        )
    return folder


def make_dataset(
    rows: Sequence[Mapping[str, str]],
    splits: Iterable[str],
    class_names: Sequence[str],
    left_out: Mapping[str, int],
    root: pathlib.Path,
    *patterns: str | None,
) -> Dataset:
    """Returns files in their splits, by rows of "path", "split" and others."""
    split_of = layouts.name_splits(splits)
    for name in {*splits} - {*split_of}:
        # "testA" says a split where it is written as one.
        if match := re.fullmatch(r"(train|val|test)_?[A-Z\d]", name):
            split_of[name] = layouts.name_splits([match[1]])[match[1]]
    others = [*map(_checks.quoted, sorted({*splits} - {*split_of}))]
    if others or "train" not in split_of.values():
        raise ValueError(
            "{split} must be train, validation or test, or names such as val. "
            "Received: "
            f"{_checks.first_few(others or sorted(splits), 9)}. Rename these "
            "folders, or use {} if they are not splits"
        )
    columns: dict[str, Any] = {
        f"{key}s": np.array([row[key] for row in rows], object)
        for key in ("group", "fold", "mask")
        if any(key in row for row in rows)
    }
    numbers = {name: number for number, name in enumerate(class_names)}
    labels = [numbers.get(row.get("class") or "", 0) for row in rows]
    examples = Examples(
        np.array([row["path"] for row in rows], object),
        np.array(labels, "int32"),
        **columns,
    )
    split_of_rows = np.array([split_of[row["split"]] for row in rows], object)
    return Dataset(
        splits={
            split: examples.take(np.flatnonzero(split_of_rows == split))
            for split in SPLITS
            if split in split_of.values()
        },
        class_names=tuple(class_names),
        fingerprint=digest(*patterns) if any(patterns) else "",
        left_out=left_out,
        root=root,
        grouped_by="{group}" if "groups" in columns else "",
    )


def find_image_files(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns the images below a folder, without our own figures."""
    return [path for path in find_visible(folder) if is_image(path.name)]


def find_visible(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns the files below a folder that are neither hidden nor our own."""
    return [folder / name for name in find_names(folder)]


def find_names(folder: pathlib.Path) -> list[str]:
    """Returns the same as paths from the folder, with "/" in between.

    Text, since objects of `pathlib` take seconds for 100,000 files.
    """
    paths = list[tuple[str, ...]]()
    for place, folders, names in os.walk(folder):
        is_own = _files.STUDY in names
        folders[:] = [x for x in folders if not (is_own or _is_hidden(x))]
        parts = pathlib.PurePath(os.path.relpath(place, folder)).parts
        paths += [(*parts, x) for x in names if not (is_own or _is_hidden(x))]
    return ["/".join(parts) for parts in sorted(paths)]


def is_image(name: str) -> bool:
    """Returns whether the name of a file is one of images."""
    return name.lower().endswith(ENDINGS)


def _find_places(root, left_out):
    """Returns splits and folders of classes, and counts what is in none."""
    top = enter_folder(root)
    folders = {folder.name: folder for folder in _list_folders(top)}
    split_of = layouts.name_splits(folders)
    if not split_of:
        return [("train", top)]
    names = {name: _list_names(folders[name]) for name in split_of}
    trains = [name for name in split_of if split_of[name] == "train"]
    trained = {x for name in trains for x in names[name]}
    beside = {*folders} - {*split_of}
    is_twice = len({*split_of.values()}) < len(split_of)
    if not trains or is_twice or beside & (trained or beside):
        listed = _checks.first_few([*map(_checks.quoted, split_of)])
        _refuse(
            root,
            f"the splits {listed} next to other folders, {sorted(beside)}",
            [root],
        )
    # The labels of a folder without classes are secret.
    used = {x for x in names if len(names[x]) > 1 or names[x] & trained}
    used |= {*trains}
    for name in sorted({*folders} - used):
        left_out[f"in {name}/"] += len(find_image_files(folders[name]))
    return [(split_of[name], folders[name]) for name in sorted(used)]


def _check_classes(root, files, endings):
    """Returns the classes in folders, whose files have one meaning."""
    inside = {split: _list_names(folder) for split, folder, _ in files}
    classes = set[str]().union(*inside.values())
    paths = [
        tuple(name.split("/"))
        for _, _, within in files
        for name in within
        if name.lower().endswith(endings)
    ]
    # Folders may hold files that are no images.
    named = layouts.find_parts([*paths, *((name, "") for name in classes)])
    parts = {x[0] for x in named if len(x) == 1} | {
        *filter(layouts.is_input, classes)
    }
    reason = ""
    with_images = {path[0] for path in paths if len(path) > 1}
    if paths and not classes:
        reason = "images outside class folders"
    elif paths and len(with_images) == 1 and len(paths[0]) == 2:
        (name,) = with_images
        reason = f'all images in one folder, "{name}", not in class folders'
    elif parts & classes:
        reason = f"{sorted(parts & classes)}, which are not classes"
    elif any(len(path) > 2 for path in paths):
        reason = "subfolders inside class folders"
    elif masks := layouts.find_masks(paths):
        reason = f'masks beside images, e.g. "{"/".join(min(masks))}", '
        reason += "which data.load_masks (--masks) reads"
    elif are_subjects(classes):
        names = _checks.first_few(sorted(classes))
        reason = f"folders named by a word and a number, {names}"
    elif missing := name_missing(inside):
        reason = f'classes that "train" lacks, {missing}'
    if reason:
        _refuse(root, reason, [folder for _, folder, _ in files], endings)
    return classes


def _refuse(root, reason, places, endings=ENDINGS):
    """Raises for a folder that is in neither layout, with what to write."""
    names = list[str]()
    for place in places:
        start = place.relative_to(root).as_posix()
        start = "" if start == "." else f"{start}/"
        within = [start + name for name in find_names(place)]
        names += [name for name in within if name.lower().endswith(endings)]

    def make(rows):
        classes = sorted({row["class"] for row in rows})
        splits = {row["split"] for row in rows}
        dataset = make_dataset(rows, splits, classes, {}, root)
        return dataset, check_splits(dataset)

    visible = find_names(root)
    tables = find_tables(root, names, visible, make)
    every_name = [name for name in visible if name.lower().endswith(endings)]
    proposals = propose_classes(root, names, every_name, make)
    beside = 0
    is_flat = not any("/" in name for name in names)
    if is_flat and not proposals and not tables:
        beside = _count_folders(root.parent)
    unread = [x for x in visible if x.lower().endswith(MAY_HAVE_CLASSES)]
    advice = "No pattern was found. Pass a CSV file or data frame of images"
    if unread:
        advice += f" and classes, as {_checks.first_few(unread)} may say"
    else:
        advice += " and classes, or rename the folders of classes"
    advice += (
        ': data.load(pandas.DataFrame({"image": paths, "label": classes})). '
        "For masks, use cbam_keras.data.load_masks (--masks)"
    )
    if beside > 1:
        raise ValueError(
            "`data` must be a folder with one subfolder of images per class. "
            f'Received: data="{root}", with {reason}. Pass its parent, which '
            f"has {beside} folders of images"
        )
    raise layouts.LayoutError(
        "`data` must be a folder with one subfolder of images per class, or "
        "with train and test of such. For other layouts, `pattern` (--pattern) "
        "names the path component that is the {class}, the {split}, or a "
        "{group} that stays in one split; other images are left out. Received: "
        f'data="{root}", with {reason}',
        names,
        proposals,
        advice,
        tables,
    )


def _count_folders(parent):
    """Returns how many folders in a folder hold images, if it can be read."""
    with contextlib.suppress(OSError):
        folders = _list_folders(parent)
        return sum(any(is_image(y.name) for y in x.iterdir()) for x in folders)
    return 0


def enter_folder(folder: pathlib.Path) -> pathlib.Path:
    """Returns a folder, or the one in it that an archive was made of."""
    while len(inside := _list_folders(folder)) == 1 and not any(
        is_image(path.name) and not _is_hidden(path.name)
        for place in (folder, *inside)
        for path in place.iterdir()
    ):
        (folder,) = inside
    return folder


def _list_names(folder):
    """Returns the names of the folders in one, or the one that it holds."""
    names = [inside.name for inside in _list_folders(enter_folder(folder))]
    return {unicodedata.normalize("NFC", name) for name in names}


def _list_folders(folder):
    paths = [x for x in sorted(folder.iterdir()) if x.is_dir()]
    paths = [x for x in paths if not (x / _files.STUDY).exists()]
    return [path for path in paths if not _is_hidden(path.name)]


def _is_hidden(name):
    return name.startswith((".", "__"))
