"""Folders of images, in the layouts that people have."""

import collections
import os
import pathlib
from collections.abc import Sequence

import numpy as np

from cbam_keras import _checks, _files
from cbam_keras.data.decoding import ENDINGS, keep_readable
from cbam_keras.data.examples import Dataset, Examples, describe_counts
from cbam_keras.data.splits import SPLITS
from cbam_keras.data.tfds import describe_missing

# A folder with one of these holds our own figures, not images of a class.
RECORDS = (_files.RESULTS, _files.EXPLAINED)

# Names of split folders in lower case, without "set" at their end.
SPLIT_NAMES = {name: name for name in SPLITS} | {
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "testing": "test",
}


def from_folder(path: str | os.PathLike, group_by_folder: bool) -> Dataset:
    """Returns a folder of class folders, or of splits of those, as paths."""
    root = pathlib.Path(path).expanduser()
    if not root.is_dir():
        raise ValueError(
            "`data` must be a folder that exists, with a folder of images "
            f'per class. Received: data="{path}", {describe_missing(root)}'
        )
    left_out = collections.Counter[str]()
    classes = _find_class_folders(root, left_out)
    # This drops the reasons that hold for no file.
    left_out = +left_out
    if left_out:
        _checks.warn(f"Images are left out: {describe_counts(left_out)}")
    class_names = sorted({f.name for each in classes.values() for f in each})
    splits = {}
    for split, folders in classes.items():
        paths, labels, groups = [], [], []
        for folder in folders:
            for file in _find_visible(folder, "**/*"):
                if file.suffix.lower() in ENDINGS:
                    paths.append(str(file))
                    labels.append(class_names.index(folder.name))
                    groups.append(find_first_folder(file, folder))
                else:
                    left_out[file.suffix or file.name] += 1
        groups = groups if group_by_folder else paths
        splits[split] = make_examples(paths, labels, groups)
    return keep_readable(
        Dataset(
            splits=splits,
            class_names=tuple(class_names),
            left_out=left_out,
            root=root,
        )
    )


def find_first_folder(file: pathlib.Path, folder: pathlib.Path) -> str:
    """Returns the subfolder of a folder that a file lies in, or its path."""
    within = file.relative_to(folder).parts
    return within[0] if len(within) > 1 else str(file)


def make_examples(
    paths: Sequence[str], labels: Sequence[int], groups: Sequence[str]
) -> Examples:
    """Returns images in files, with groups where subfolders divide a class."""
    of_classes = {*zip(groups, labels, strict=True)}
    # A single folder in each class is no more than a part of the path.
    is_grouped = len({*labels}) < len(of_classes) < len(paths)
    return Examples(
        np.array(paths, object),
        np.array(labels, "int32"),
        groups=np.array(groups) if is_grouped else None,
    )


def warn_of_copies(dataset: Dataset) -> None:
    """Warns of files that are tested and trained on, whatever their names."""
    contents = dataset.contents
    if dataset.root is None:
        return
    *others, tested = (dataset.splits[split].images for split in SPLITS)
    trained = {contents[path]: path for paths in others for path in paths}
    copies = [
        f"{dataset.name_of(path)} is {dataset.name_of(trained[contents[path]])}"
        for path in tested
        if contents[path] in trained
    ]
    if copies:
        _checks.warn(
            f"{len(copies):,} test images have the same content as training "
            f"images, which flatters accuracy: {_checks.first_few(copies)}. "
            "Remove one of each pair"
        )


def find_image_files(
    folder: pathlib.Path, pattern: str = "*"
) -> list[pathlib.Path]:
    """Returns the images in a folder, without our own figures."""
    return [
        path
        for path in _find_visible(folder, pattern)
        if path.suffix.lower() in ENDINGS
    ]


def _find_visible(folder, pattern):
    """Returns the files in a folder that are neither hidden nor our own."""
    within = sorted(folder.glob(pattern))
    ours = {path.parent for path in within if path.name in RECORDS}
    return [
        path
        for path in within
        if not any(map(_is_hidden, path.relative_to(folder).parts))
        and not ours & {*path.parents}
        and not path.is_dir()
    ]


def _find_class_folders(root, left_out):
    """Returns the class folders by split, all as "train" without any split.

    Counts the images that are in none of them.
    """
    of_split = collections.defaultdict(list)
    for folder in _list_folders(enter_folder(root)):
        name = folder.name.lower().removesuffix("set").rstrip(" _-")
        of_split[SPLIT_NAMES.get(name)].append(folder)
    others = of_split.pop(None, [])
    # A class may be called "train", and then holds images itself.
    is_class = others and any(map(find_image_files, of_split["train"]))
    if is_class or not of_split["train"]:
        of_split, others = {"train": [root]}, []
    for split, folders in of_split.items():
        if len(folders) > 1:
            raise ValueError(
                f'There must be one folder for the split "{split}". Received: '
                f'data="{root}", with {[folder.name for folder in folders]}. '
                "Rename or remove the others"
            )
    classes = {}
    for split in (name for name in SPLITS if of_split.get(name)):
        folder = enter_folder(of_split[split][0])
        inside = _list_folders(folder)
        names = {each.name for each in inside}
        classes.setdefault("train", inside)
        trained = {each.name for each in classes["train"]}
        if len(names) < 2 and not names & trained and split != "train":
            # Its labels are secret.
            others.append(folder)
        else:
            classes[split] = inside
            left_out["in no class folder"] += len(find_image_files(folder))
    for folder in others:
        left_out[f"in {folder.name}/"] += len(find_image_files(folder, "**/*"))
    return classes


def enter_folder(folder: pathlib.Path) -> pathlib.Path:
    """Returns a folder, or the one in it that an archive was made of."""
    while len(inside := _list_folders(folder)) == 1 and not any(
        map(find_image_files, (folder, *inside))
    ):
        (folder,) = inside
    return folder


def _list_folders(folder):
    return [
        path
        for path in sorted(folder.iterdir())
        if path.is_dir()
        and not _is_hidden(path.name)
        and not any((path / name).exists() for name in RECORDS)
    ]


def _is_hidden(name):
    return name.startswith((".", "__"))
