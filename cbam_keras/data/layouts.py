"""Layouts of folders that could mean several things, and what to write."""

import collections
import os
import re
from collections.abc import Iterable, Mapping, Sequence

from cbam_keras import _checks

# What belongs to images, and is no class: words without digits and signs.
PART = re.compile(
    "masks?|labels|annot(ations?)?|gts?|groundtruth|segmentations?|trimaps|"
    "bboxes|xml|thumb(nail)?s|augmented|unlabell?ed|manual"
)
# Beside these all other folders are parts.
OF_INPUTS = {"image", "images", "img", "imgs", "jpegimages"}
# What names of masks end with, beside images that lack it.
MASK = re.compile(
    r"(.+)[\W_](mask|label|seg|segmentation|gt)([\W_]?\d+)?", re.I
)
WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
# A split, and what may stand around its name, as in "seg_train" and "test set".
SPLIT = re.compile(
    r"(.*?)(train|val|test|dev|eval)(?:idation|uation|ing|id)?(.*)", re.I
)
FILLER = re.compile(r"[\W_]|set|data|images?|imgs?|val", re.I)
# How many levels of folders are drawn, and how many folders of one.
LEVELS, MOST_FOLDERS = 3, 4

# The parts of a path below a folder.
Parts = tuple[str, ...]


class LayoutError(ValueError):
    """Folders of several meanings: the message has a drawing of lines."""

    def __init__(
        self,
        message: str,
        names: Iterable[str],
        proposals: Sequence[str],
        advice: str,
        tables: Mapping[str, Sequence[str]] | None = None,
    ):
        lines = [f"{message}:", *_draw(x.split("/") for x in names)]
        for table, code in (tables or {}).items():
            lines.append(f'The table "{table}" names images and classes:')
            lines += [f"    {line}" for line in code]
        if proposals and tables:
            lines.append("Or, without the table, copy one of the lines:")
        elif proposals:
            lines.append("Copy the line that describes your data:")
        elif not tables:
            lines.append(f"{advice}.")
        lines += [f"    {proposal}" for proposal in proposals]
        super().__init__("\n".join(lines))


def name_splits(names: Iterable[str]) -> dict[str, str]:
    """Returns the split of each name that says one, e.g. "Training", "test1".

    "seg_train" says one beside "seg_test", and "train_station" alone does not.
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


def find_parts(paths: Iterable[Parts], by_words: bool = False) -> set[Parts]:
    """Returns folders of parts of a dataset, such as masks, also by a word."""
    beside = collections.defaultdict[Parts, set[str]](set)
    for path in {path[:-1] for path in paths}:
        for i, name in enumerate(path):
            beside[path[:i]].add(name)
    return {
        (*parent, name)
        for parent, names in beside.items()
        for name in _list_parts(names, by_words)
    }


def _list_parts(names, by_words):
    if any(map(is_input, names)):
        return {name for name in names if not is_input(name)}
    said = {x: [*map(PART.fullmatch, find_words(x))] for x in names}
    marked = {name for name in names if any(said[name])}
    whole = {name for name in marked if all(said[name])}
    whole |= {name for name in names if PART.fullmatch(_to_word(name))}
    # "mask" beside "no_mask" is a class.
    others = [_to_word(name) for name in names - whole] if whole else []
    parts = {x for x in whole if not any(_to_word(x) in y for y in others)}
    is_class = not by_words or len(marked) == len(names) or whole > parts
    return parts if is_class else parts | marked


def is_input(name: str) -> bool:
    """Returns whether a folder is called like one of images, e.g. "images"."""
    return _to_word(name) in OF_INPUTS


def _to_word(name):
    """Returns a name without digits and signs."""
    return re.sub(r"[\W\d_]", "", name.lower())


def find_words(name: str) -> list[str]:
    """Returns the words of a name, in small letters."""
    return [word.lower() for word in WORDS.findall(name)]


def find_masks(paths: Iterable[Parts]) -> set[Parts]:
    """Returns the files that are named as another one, and more.

    The other one is in the same folder or in the one above.
    """
    stems = {(path[:-1], os.path.splitext(path[-1])[0]): path for path in paths}
    found = set()
    for (folder, stem), path in stems.items():
        match = MASK.fullmatch(stem)
        places = (folder, folder[:-1])
        if match and any((place, match[1]) in stems for place in places):
            found.add(path)
    return found


def write_literal(name: str) -> str:
    """Returns a name as it is written in a pattern."""
    return name.replace("{", "{{").replace("}", "}}")


def _draw(paths, level=1):
    """Gives a line for each folder of the upper levels, with its images."""
    inside = collections.defaultdict[str, list[list[str]]](list)
    files = []
    for name, *rest in paths:
        if rest:
            inside[name].append(rest)
        else:
            files.append(name)
    indent = "    " * level
    if files and (level == 1 or inside):
        yield f"{indent}{min(files)}  and so on, {len(files):,} in all"
    for name in sorted(inside)[:MOST_FOLDERS]:
        yield f"{indent}{name}/  {_checks.count(len(inside[name]), 'image')}"
        if level < LEVELS:
            yield from _draw(inside[name], level + 1)
    if len(inside) > MOST_FOLDERS:
        yield f"{indent}... {len(inside) - MOST_FOLDERS:,} more"
