"""A folder's files by the names that layouts give them, and its splits."""

import collections
import os
import pathlib
import re

from cbam_keras import data

# Words for a split.
SPLIT = re.compile("(trainval|train|val|test)(?:ing|id|idation)?")
# Words in names of folders that say what is in them, and not of which split.
KINDS = set(
    "annotation annotations data image images imagesets img imgs jpegimages "
    "label labels main obj xml xmls".split()
)
# Where an image and its annotations agree: the folders but for `KINDS`, and
# the name without its ending.
Key = tuple[str, ...]


class Folder:
    """The visible files of a folder and of those inside it."""

    def __init__(self, root: pathlib.Path):
        self.root = root
        self.files: list[pathlib.Path] = []
        self.images: dict[Key, list[pathlib.Path]] = {}
        self.keys_by_name = collections.defaultdict[str, list[Key]](list)
        # `Path.rglob` does not follow links to folders.
        for folder, folders, names in os.walk(root, followlinks=True):
            folders[:] = filter(_is_visible, folders)
            self.files += [pathlib.Path(folder, x) for x in names]
        self.files = sorted(x for x in self.files if _is_visible(x.name))
        for file in self.files:
            if file.suffix.lower() in data.ENDINGS:
                self.images.setdefault(self.key_of(file), []).append(file)
        for key in self.images:
            self.keys_by_name[key[-1]].append(key)

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

    def match(self, name: str, split: str = "") -> Key:
        """Returns the key of what annotations call `name`.

        No image has it if the image is missing, is of another split, or is
        one of several that fit equally.
        """
        own = key_of(name)
        ranks = {}
        for key in self.keys_by_name[own[-1]]:
            if not split or split_of(*key[:-1]) in ("", split):
                same = os.path.commonprefix([own[::-1], key[::-1]])
                is_of_split = split_of(*key[:-1]) == split
                ranks[key] = is_of_split, len(same), -len(key)
        best = max(ranks.values(), default=None)
        fitting = [key for key in ranks if ranks[key] == best]
        return fitting[0] if len(fitting) == 1 else own

    def read_lists(self) -> dict[str, list[Key]]:
        """Returns what lists as `ImageSets/Main/train.txt` name, by split."""
        splits = collections.defaultdict[str, list[Key]](list)
        for file in self.find(".txt"):
            is_split = SPLIT.fullmatch(file.stem.lower())
            if is_split and self.key_of(file) not in self.images:
                splits[split_of(file.stem)] += self.read_list(file)
        return splits

    def read_list(self, file: pathlib.Path) -> list[Key]:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
        return [self.match(x) for x in filter(None, map(str.strip, lines))]


def key_of(file: pathlib.PurePath | str) -> Key:
    """Returns the key of a path, of which the ending may be missing."""
    *folders, name = pathlib.PurePosixPath(str(file).replace("\\", "/")).parts
    stem, ending = os.path.splitext(name)
    is_ending = ending.lower() in (*data.ENDINGS, ".xml", ".txt")
    return *filter(None, map(_strip, folders)), stem if is_ending else name


def split_of(*names: str) -> str:
    """Returns the split that the last of some names tells, or an empty text."""
    for name in reversed(names):
        for word in re.split(r"[\W\d_]+", name.lower()):
            if matched := SPLIT.fullmatch(word):
                return matched[1]
    return ""


def _is_visible(name):
    return not name.startswith((".", "__MACOSX"))


def _strip(name):
    words = re.split(r"[\W_]+", name.lower())
    return "_".join(word for word in words if word not in KINDS)
