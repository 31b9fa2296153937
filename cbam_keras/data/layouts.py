"""Layouts of folders that could mean several things, and what to write."""

import collections
import os
import pathlib
import re
from collections.abc import Iterable, Sequence

from cbam_keras import _checks
from cbam_keras.data.patterns import make_pattern
from cbam_keras.data.splits import SPLITS

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

    def __init__(
        self,
        message: str,
        paths: Iterable[Parts],
        proposals: Sequence[str],
        advice: str,
    ):
        lines = [f"{message}:", *_draw(paths), f"{advice}."]
        if proposals:
            lines[-1] = "What reads it, if it is what you mean:"
            lines += [f"    {proposal}" for proposal in proposals]
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
        beside[tuple(parent)].add(to_word(name))
    return {
        folder
        for folder in folders
        if _is_part(to_word(folder[-1]), beside[folder[:-1]])
    }


def is_input(name: str) -> bool:
    """Returns whether a folder is called as one of images, as "images"."""
    return to_word(name) in INPUTS


def _is_part(word, beside):
    if word in INPUTS:
        return False
    # "mask" beside "no_mask" is a class.
    is_class = any(word in other and word != other for other in beside)
    return bool(beside & INPUTS) or (word in PARTS and not is_class)


def to_word(name: str) -> str:
    """Returns a name without digits and signs."""
    return re.sub(r"[\W\d_]", "", name.lower())


def find_masks(paths: Iterable[Parts], names: re.Pattern = MASK) -> set[Parts]:
    """Returns the files that are named as another one, and more."""
    stems = {(*path[:-1], pathlib.PurePath(path[-1]).stem) for path in paths}
    found = set()
    for path in paths:
        match = names.fullmatch(pathlib.PurePath(path[-1]).stem)
        if match and (*path[:-1], match[1]) in stems:
            found.add(path)
    return found


def propose(paths: Sequence[Parts]) -> list[str]:
    """Returns one or two patterns that read images, with what they find."""
    folders, masks = find_parts(paths), find_masks(paths)
    parts = {
        path
        for path in paths
        if path in masks or any(path[:i] in folders for i in range(len(path)))
    }
    images = [path for path in paths if path not in parts]
    if not images:
        return []
    texts = dict.fromkeys(_write_patterns(images, bool(masks)))
    meanings = {text: _describe(text, paths, parts) for text in texts}
    return [f'pattern="{text}": {x}' for text, x in meanings.items() if x][:2]


def _write_patterns(paths, has_masks):
    """Returns patterns that may read images, the likeliest first."""
    levels, texts = find_levels([path[:-1] for path in paths])
    files = [path[-1] for path in paths]
    unknown = [i for i, text in enumerate(texts) if not text]
    if not unknown:
        names = [f"{{class}}{sign}*{write_ending(files)}" for sign in "._- "]
        return ["/".join([*texts, name]) for name in names]
    file = "*" if len({*map(len, paths)}) == 1 else "**"
    if has_masks:
        stems = [pathlib.PurePath(name).stem for name in files]
        end = write_literal(common_suffix(stems))
        file = f"*{end}{write_ending(files)}"

    def write(names):
        parts = [names.get(i) or text or "{}" for i, text in enumerate(texts)]
        return "/".join([*parts, file])

    first, *others = unknown
    start = "".join(f"{text}/" for text in texts[:first])
    if not others:
        below = {x for path in paths for x in path[first + 1 : -1]}
        likeliest = write({first: "{class}"})
        if below & {*levels[first]}:
            # The dataset is in itself, or splits are beside classes.
            likeliest = start + "**/{class}/*"
        return [likeliest, start + "{class}/*"]
    second, largest = others[0], max(others, key=lambda i: len(levels[i]))
    by_group = write({largest: "{group}", first: "{class}"})
    inside = collections.defaultdict[str, set[str]](set)
    for path in paths:
        inside[path[first]].add(path[second])
    if len({*map(frozenset, inside.values())}) > 1:
        return [by_group, start + "{class}/**"]
    # A dataset in several forms or parts: colors, folds, sites.
    by_part = [
        write({largest: "{group}", first: text, second: "{class}"})
        for text in ("{}", write_literal(levels[first][0]))
    ]
    return by_part if largest == second else [by_group, *by_part]


def find_levels(folders: Sequence[Parts]) -> tuple[list[list[str]], list[str]]:
    """Returns the names of folders at each level, and what to write for them.

    That is the name if there is one, "{split}", or else nothing.
    """
    depth = min(map(len, folders))
    levels = [sorted({x[i] for x in folders}) for i in range(depth)]
    texts = []
    for names in levels:
        text = write_literal(names[0]) if len(names) == 1 else ""
        # "trainannot" and "testannot" share more than their splits.
        prefix, suffix = os.path.commonprefix(names), common_suffix(names)
        inner = [x[len(prefix) : len(x) - len(suffix)] for x in names]
        for before, splits, after in (("", names, ""), (prefix, inner, suffix)):
            split_of = name_splits(splits)
            if len(split_of) == len(names) > 1 and "train" in split_of.values():
                before, after = write_literal(before), write_literal(after)
                text = f"{before}{{split}}{after}"
        texts.append(text)
    return levels, texts


def write_ending(files: Iterable[str]) -> str:
    """Returns the ending of all files, as it is written in a pattern."""
    endings = {pathlib.PurePath(x).suffix.lower() for x in files}
    return endings.pop() if len(endings) == 1 else ".*"


def common_suffix(names: Sequence[str]) -> str:
    """Returns what all names end with."""
    return os.path.commonprefix([name[::-1] for name in names])[::-1]


def write_literal(name: str) -> str:
    """Returns a name as it is written in a pattern."""
    return name.replace("{", "{{").replace("}", "}}")


def _describe(text, paths, parts):
    """Returns what a pattern reads, `None` if that is no dataset."""
    pattern = make_pattern(text)
    try:
        values = {path: pattern.match("/".join(path)) for path in paths}
    except ValueError:
        return None
    found = {path: x for path, x in values.items() if x is not None}
    splits = name_splits({x.get("split", "train") for x in found.values()})
    units = {(x["class"], x.get("group", path)) for path, x in found.items()}
    counts = collections.Counter(name for name, _ in units)
    # Each split that is missing takes one of a class.
    least = 1 + len(SPLITS) - len({*splits.values()})
    is_many = len(counts) > max(2, len(found) / 3)
    few = min(counts.values(), default=0) < least
    if parts & {*found} or len(counts) < 2 or is_many or few:
        return None
    names = _checks.first_few([*map(_checks.quoted, sorted(counts))])
    classes = f"{len(counts)} classes, {names}"
    return f"{classes}; {len(found):,} of {len(paths):,} images"


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
