"""A folder's files by the names that layouts give them, and its splits."""

import collections
import itertools
import os
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from cbam_keras import data

# Words for a split.
SPLIT = re.compile("(trainval|train|val|test)(?:ing|id|idation)?")
# Words in names of folders that say what is in them, and not of which split.
KINDS = set(
    "annotation annotations data image images img imgs jpegimages label labels "
    "obj xml xmls".split()
)
# Where an image and its annotations agree: the folders but for `KINDS`, and
# the name without its ending.
Key = tuple[str, ...]
Entry = TypeVar("Entry", bound=tuple)


class Folder:
    """The visible files of a folder and of those inside it."""

    def __init__(self, root: pathlib.Path):
        self.root = root
        self.files: list[pathlib.Path] = []
        self.images: dict[Key, list[pathlib.Path]] = {}
        # `Path.rglob` does not follow links to folders.
        for folder, folders, names in os.walk(root, followlinks=True):
            folders[:] = filter(_is_visible, folders)
            self.files += [pathlib.Path(folder, x) for x in names]
        self.files = sorted(x for x in self.files if _is_visible(x.name))
        for file in self.files:
            if file.suffix.lower() in data.ENDINGS:
                self.images.setdefault(self.key_of(file), []).append(file)

    def find(self, *endings: str) -> list[pathlib.Path]:
        """Returns files that are in no folders but those of a layout."""
        return [
            file
            for file in self.files
            if file.suffix.lower() in endings
            and all(
                split_of(part) or not _strip(part)
                for part in file.relative_to(self.root).parts[:-1]
            )
        ]

    def key_of(self, file: pathlib.Path) -> Key:
        return key_of(file.relative_to(self.root))


def key_of(file: pathlib.PurePath | str) -> Key:
    """Returns the key of a path, of which the ending may be missing."""
    *folders, name = pathlib.PurePosixPath(str(file).replace("\\", "/")).parts
    stem, ending = os.path.splitext(name)
    is_ending = ending.lower() in (*data.ENDINGS, ".xml", ".txt")
    stripped = map(_strip, folders)
    return *(part for part in stripped if part), stem if is_ending else name


def split_of(*names: str) -> str:
    """Returns the split that the last of some names tells, or an empty text."""
    for name in reversed(names):
        for word in re.split(r"[\W\d_]+", name.lower()):
            if matched := SPLIT.fullmatch(word):
                return matched[1]
    return ""


def index(keys: Iterable[Key]) -> dict[str, list[Key]]:
    """Returns the keys by their last part, for `match`."""
    by_stem = collections.defaultdict(list)
    for key in keys:
        by_stem[key[-1]].append(key)
    return by_stem


def match(
    name: str, keys: Mapping[str, Sequence[Key]], split: str = ""
) -> Key | None:
    """Returns the key of what annotations call `name`.

    `None` if it is missing, is of another split, or several fit equally.
    """
    parts = key_of(name)

    def rank(key):
        pairs = zip(reversed(parts), reversed(key), strict=False)
        same = itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)
        return split_of(*key[:-1]) == split, len(list(same)), -len(key)

    candidates = [
        key
        for key in keys.get(parts[-1], ())
        if not split or split_of(*key[:-1]) in ("", split)
    ]
    best = max(map(rank, candidates), default=None)
    fitting = [key for key in candidates if rank(key) == best]
    return fitting[0] if len(fitting) == 1 else None


def divide(splits: Mapping[str, list[Entry]]) -> dict[str, list[Entry]]:
    """Returns what to train on and what to test on, of images and objects.

    If the test images have objects, the validation images are used for
    training, as is common for VOC; otherwise for testing, as for COCO. Without
    either, a fifth of the images is tested on, the same for each seed.
    `splits[""]` are images of no split.
    """
    train, val, test, trainval, rest = (
        splits.get(name, [])
        for name in ("train", "val", "test", "trainval", "")
    )
    trainval = trainval or train + val
    if any(objects for _, objects in test):
        return {"train": trainval, "test": test}
    if val:
        return {"train": train, "test": val}
    entries = trainval or rest
    if not entries:
        return {"train": [], "test": []}
    rows = data.stratify(np.zeros(len(entries)), None, seed=0)
    return {x: [entries[i] for i in rows[x]] for x in ("train", "test")}


def _is_visible(name):
    return not name.startswith((".", "__MACOSX"))


def _strip(name):
    words = re.split(r"[\W_]+", name.lower())
    return "_".join(word for word in words if word not in KINDS)
