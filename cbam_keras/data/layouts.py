"""Layouts of folders that could mean several things."""

import collections
import pathlib
import re
from collections.abc import Iterable

from cbam_keras import _checks

# What belongs to images, and is no class: words without digits and signs.
PARTS = {
    *("mask", "masks", "labels", "annot", "annotation", "annotations"),
    *("gt", "groundtruth", "segmentation", "trimaps"),
    *("bboxes", "xml", "thumbs", "thumbnails", "augmented", "unlabeled"),
    "unlabelled",
}
# Beside these all other folders are parts.
INPUTS = {"image", "images", "img", "imgs", "jpegimages"}
# What names of masks end with, beside images that lack it.
MASK = re.compile(
    r"(.+)[\W_](mask|label|seg|segmentation|gt)([\W_]?\d+)?", re.I
)
# A split, and what may stand around its name, as in "seg_train" and "test set".
SPLIT = re.compile(
    r"(.*?)(train|val|test|dev|eval)(?:idation|uation|ing|id)?(.*)", re.I
)
FILLER = re.compile(r"[\W_]|set|data|images?|imgs?", re.I)
# How many levels of folders are drawn, and how many folders of one.
LEVELS, FOLDERS = 3, 4

# The parts of a path below a folder.
Parts = tuple[str, ...]


class LayoutError(ValueError):
    """Folders of several meanings: the message has a drawing of lines."""

    def __init__(self, message: str, paths: Iterable[Parts], advice: str):
        lines = [f"{message}:", *_draw(paths), f"{advice}."]
        super().__init__("\n".join(lines))


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


def find_parts(paths: Iterable[Parts]) -> set[Parts]:
    """Returns the folders that hold parts of a dataset, as masks."""
    folders = {path[:i] for path in paths for i in range(1, len(path))}
    beside = collections.defaultdict[Parts, set[str]](set)
    for *parent, name in folders:
        beside[tuple(parent)].add(_to_word(name))
    return {
        folder
        for folder in folders
        if _is_part(_to_word(folder[-1]), beside[folder[:-1]])
    }


def is_input(name: str) -> bool:
    """Returns whether a folder is called as one of images, as "images"."""
    return _to_word(name) in INPUTS


def _is_part(word, beside):
    if word in INPUTS:
        return False
    # "mask" beside "no_mask" is a class.
    is_class = any(word in other and word != other for other in beside)
    return bool(beside & INPUTS) or (word in PARTS and not is_class)


def _to_word(name: str) -> str:
    """Returns a name without digits and signs."""
    return re.sub(r"[\W\d_]", "", name.lower())


def find_masks(paths: Iterable[Parts]) -> set[Parts]:
    """Returns the files that are named as another one, and more."""
    stems = {(*path[:-1], pathlib.PurePath(path[-1]).stem) for path in paths}
    found = set()
    for path in paths:
        match = MASK.fullmatch(pathlib.PurePath(path[-1]).stem)
        if match and (*path[:-1], match[1]) in stems:
            found.add(path)
    return found


def _draw(paths, level=1):
    """Gives a line for each folder of the upper levels, with its images."""
    inside = collections.defaultdict[str, list[Parts]](list)
    files = []
    for name, *rest in paths:
        if rest:
            inside[name].append(tuple(rest))
        else:
            files.append(name)
    indent = "    " * level
    if files and (level == 1 or inside):
        yield f"{indent}{min(files)}  and so on, {len(files):,} in all"
    for name in sorted(inside)[:FOLDERS]:
        yield f"{indent}{name}/  {_checks.count(len(inside[name]), 'image')}"
        if level < LEVELS:
            yield from _draw(inside[name], level + 1)
    if len(inside) > FOLDERS:
        yield f"{indent}... {len(inside) - FOLDERS:,} more"
