"""Folders of images, in the layouts that people have."""

import collections
import os
import pathlib
import re
from collections.abc import Iterable, Sequence

import numpy as np

from cbam_keras import _checks, _files
from cbam_keras.data.decoding import ENDINGS, describe_file, keep_readable
from cbam_keras.data.examples import Dataset, Examples, describe_counts, digest
from cbam_keras.data.splits import SPLITS

# A split, and what may stand around its name, as in "seg_train" and "test set".
SPLIT = re.compile(
    r"(.*?)(train|val|test|dev|eval)(?:idation|uation|ing|id)?(.*)", re.I
)
FILLER = re.compile(r"[\W_]|set|data|images?|imgs?", re.I)
# Beside folders that hold inputs, as "images" (which is nothing but filler),
# these hold what belongs to them, and none is a class.
INPUTS = re.compile(
    r"(?!\d)(train|orig|original|raw|input|jpeg|photo|picture|frame|rgb)?s?\d*"
)
PARTS = re.compile(
    r"(train|test|val)?(annot|annotation|label|mask|gt|groundtruth|target|"
    r"segmentation|output|xml|json|bbox|trimap|depth|aug|augmented|"
    r"augmentation|resized|cropped|crop|processed|preprocessed|thumb|thumbnail|"
    r"extra|holdout|prediction|pred|sample|submission|unlabell?ed)s?\d*"
)
UNLABELED = re.compile(r"unlabell?ed\d*")
# Makes a table of files whose names begin with the class, as "cat.0.jpg".
TABLE_OF_NAMES = """

    files = sorted(pathlib.Path("{folder}").glob("*{ending}"))
    labels = [re.split(r"[\\W\\d_]", file.name)[0] for file in files]
    pandas.DataFrame({{"image": files, "label": labels}}).to_csv("table.csv")"""


def describe_missing(path: str | os.PathLike) -> str:
    """Returns what is in place of a folder, or what has a similar name."""
    path = pathlib.Path(path).expanduser()
    if file := describe_file(path):
        return file
    folders = [folder.name for folder in path.parent.glob("*/")]
    hint = _checks.did_you_mean(path.name, folders)
    return f"where there is no folder{hint}"


def from_folder(
    path: str | os.PathLike, group_by_folder: bool, group_by: str | None = None
) -> Dataset:
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
            for file in find_visible(folder, "**/*"):
                if file.suffix.lower() in ENDINGS:
                    paths.append(str(file))
                    labels.append(class_names.index(folder.name))
                    groups.append(find_first_folder(file, folder))
                else:
                    left_out[find_ending(file.name) or file.name] += 1
        groups = groups if group_by_folder else paths
        if group_by is not None:
            names = [
                pathlib.Path(x).relative_to(root).as_posix() for x in paths
            ]
            groups = find_groups(group_by, names)
        splits[split] = make_examples(paths, labels, groups, group_by is None)
    return finish(splits, class_names, left_out, root, group_by)


def finish(splits, class_names, left_out, root, group_by):
    """Returns the files that can be read, after a look at others."""
    if len(splits) == 1:
        _warn_of_lists(root, map(pathlib.Path, splits["train"].images))
    return keep_readable(
        Dataset(
            splits=splits,
            class_names=tuple(class_names),
            fingerprint=digest(group_by) if group_by is not None else "",
            left_out=left_out,
            root=root,
            grouped_by="" if group_by is None else "group_by",
        )
    )


def name_splits(names: Iterable[str]) -> dict[str, str]:
    """Returns the split of each name that says one, as "Training", "test1".

    "seg_train" and "seg_test" do, since they differ in nothing else, while
    "train_station" alone does not.
    """
    by_rest = collections.defaultdict[str, dict[str, str]](dict)
    for name in names:
        if match := SPLIT.fullmatch(name):
            before, split, after = match.groups()
            rest = FILLER.sub("", before + after).lower().strip("0123456789")
            is_held_out = split.lower() in ("val", "dev", "eval")
            by_rest[rest][name] = "validation" if is_held_out else split.lower()
    return {
        name: split
        for rest, splits in by_rest.items()
        for name, split in splits.items()
        if not rest or len({*splits.values()}) > 1
    }


def find_groups(pattern, names, argument="group_by"):
    """Returns what a regular expression finds in each name."""
    matches = [re.search(pattern, name) for name in names]
    if None in matches:
        others = [x for x, m in zip(names, matches, strict=True) if m is None]
        raise ValueError(
            f"`{argument}` must match each name, with its folders. "
            f"Received: {argument}={pattern!r}, which does not match "
            f"{len(others):,} of {len(names):,}: {_checks.first_few(others)}"
        )
    return [str(m.groups() or m[0]) for m in matches if m is not None]


def find_ending(name: str) -> str:
    """Returns the ending of a file name, of both parts if it is compressed."""
    path = pathlib.PurePath(name.lower())
    return "".join(path.suffixes[-2 if path.suffix == ".gz" else -1 :])


def find_first_folder(file: pathlib.Path, folder: pathlib.Path) -> str:
    """Returns the subfolder of a folder that a file lies in, or its path."""
    within = file.relative_to(folder).parts
    return within[0] if len(within) > 1 else str(file)


def make_examples(
    paths: Sequence[str],
    labels: Sequence[int],
    groups: Sequence[str],
    are_folders: bool = True,
) -> Examples:
    """Returns images in files, with groups where these divide a class."""
    of_classes = {*zip(groups, labels, strict=True)}
    # A single folder in each class is no more than a part of the path.
    is_grouped = not are_folders or len({*labels}) < len(of_classes)
    return Examples(
        np.array(paths, object),
        np.array(labels, "int32"),
        groups=np.array(groups, object) if is_grouped else None,
    )


def warn_of_copies(dataset: Dataset) -> tuple[str, ...]:
    """Warns of copies of files in training and test, or in two classes.

    Returns the warnings.
    """
    if dataset.root is None:
        return ()
    contents = {path: x.content for path, x in dataset.headers.items()}
    *others, tested = (dataset.splits[split] for split in SPLITS)
    trained, several = dict[str, tuple[str, int]](), []
    for examples in others:
        for path, label in zip(examples.images, examples.labels, strict=True):
            first, its = trained.setdefault(contents[path], (path, label))
            if label != its:
                several.append((path, first))
    copies = [
        (path, trained[contents[path]][0])
        for path in tested.images
        if contents[path] in trained
    ]
    same = "the same content as training images, which flatters accuracy"
    both = "several classes, as files of two have the same content"
    kinds = (copies, "test image", same), (several, "image", both)
    warnings = []
    for pairs, noun, text in kinds:
        if pairs:
            names = [" is ".join(map(dataset.name_of, pair)) for pair in pairs]
            warnings.append(
                f"{_checks.count(len(pairs), noun, 'have')} {text}: "
                f"{_checks.first_few(names)}. Remove one of each pair"
            )
            _checks.warn(warnings[-1])
    return tuple(warnings)


def _warn_of_lists(root, images):
    """Warns of text files beside images that say which are for training."""
    places = root.absolute(), root.absolute().parent
    patterns = "*.txt", "ImageSets/**/*.txt", "[Ss]plits/*.txt"
    files = {x for place in places for y in patterns for x in place.glob(y)}
    stems = {path.stem for path in images}
    for path in sorted(x for x in files if SPLIT.fullmatch(x.stem)):
        first = path.read_text("utf-8", "replace").split(maxsplit=1)[:1]
        if {pathlib.PurePath(x).stem for x in first} & stems:
            _checks.warn(
                f"Splits in text files are not read: {path}. Pass a data frame "
                "with columns of paths and of splits to train on these"
            )
            return


def find_image_files(
    folder: pathlib.Path, pattern: str = "*"
) -> list[pathlib.Path]:
    """Returns the images in a folder, without our own figures."""
    return [
        path
        for path in find_visible(folder, pattern)
        if path.suffix.lower() in ENDINGS
    ]


def find_visible(folder, pattern):
    """Returns the files in a folder that are neither hidden nor our own."""
    within = sorted(folder.glob(pattern))
    ours = {x.parent for x in within if x.name == _files.STUDY}
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
    top = enter_folder(root)
    every = _list_folders(top)
    split_of = name_splits(folder.name for folder in every)
    of_split = collections.defaultdict(list)
    for folder in every:
        of_split[split_of.get(folder.name)].append(folder)
    others = of_split.pop(None, [])
    trained = {x.name for y in of_split["train"] for x in _list_folders(y)}
    is_flat = not trained and any(map(find_image_files, of_split["train"]))
    is_repeated = any(folder.name in trained for folder in others)
    # A class may be called "train", and then holds images itself. Without it,
    # there would be one class.
    is_class = is_flat and len(split_of) == len(others) == 1
    if is_class or not split_of:
        of_split, others = {"train": [top]}, []
    elif not of_split["train"] or (others and (is_flat or is_repeated)):
        listed = _checks.first_few([*map(_checks.quoted, split_of)])
        raise ValueError(
            "Folders must be classes, or splits, train among them, with a "
            f'folder per class. Received: data="{root}", with {listed} beside '
            f"{[folder.name for folder in others]}. If that is a split, move "
            "the classes into a folder train; if it is a class, rename it"
        )
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
            _check_class_names(root, folder, inside)
            left_out["in no class folder"] += len(find_image_files(folder))
    for folder in others:
        left_out[f"in {folder.name}/"] += len(find_image_files(folder, "**/*"))
    return classes


def _check_class_names(root, folder, inside):
    """Raises for folders that are parts of a dataset, and for none."""
    files = [] if inside else find_image_files(folder)
    if files:
        words = {re.split(r"[\W\d_]", file.name)[0] for file in files}
        example = TABLE_OF_NAMES.format(folder=folder, ending=files[0].suffix)
        above = folder.resolve().parent
        beside = [x for x in _list_folders(above) if find_image_files(x)]
        is_class = folder.samefile(root) and len(beside) > 1
        start = (
            f'"{above}", which has classes, or a data' if is_class else "a data"
        )
        is_named = 1 < len(words - {""}) <= len(files) / 2
        raise ValueError(
            "There must be a folder of images for each class. Received: "
            f'data="{root}", with {_checks.count(len(files), "image")} in no '
            f'such folder, as "{folder.name}/{files[0].name}". Pass {start} '
            "frame or CSV file with a column of paths and one of classes"
            + (f", made of these names:{example}" if is_named else "")
        )
    words = {x.name: FILLER.sub("", x.name.lower()) for x in inside}
    is_part = PARTS if any(map(INPUTS.fullmatch, words.values())) else UNLABELED
    parts = [x for x in words if is_part.fullmatch(words[x])]
    if parts:
        raise ValueError(
            "Folders of images must be classes. Received: "
            f'data="{root}", with the folders {[*words]}, where {parts} hold '
            "another part of a dataset. Pass the folder with a folder per "
            "class, or a data frame or CSV file with a column of paths and "
            "one of classes; if it is a class, rename it. Masks are for "
            "cbam_keras.data.load_masks (--masks)"
        )


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
        and not (path / _files.STUDY).exists()
    ]


def _is_hidden(name):
    return name.startswith((".", "__"))
