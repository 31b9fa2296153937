"""What the folders of one depth are, and how their names say splits."""

import collections
import os
import re
import string
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Any, NamedTuple

import numpy as np

from cbam_keras.data import layouts
from cbam_keras.data.layouts import find_words, name_splits, write_literal

# How many names are looked at to choose a proposal, how many proposals are
# then tried, and how many of these are read whole and shown.
SAMPLED, TRIALS, SHOWN = 2000, 12, 4
# Texts of fewer characters are padded to one width.
WIDTH = 120
# Folders of one word and a number that are seldom classes.
SUBJECT = re.compile(
    r"(fold|split|part|subject|patient|actor|speaker|user|session|site|batch"
    r"|run|s)[\W_]*\d+",
    re.I,
)
# What is left of the name of a file without these is its number.
NOT_DIGITS = str.maketrans("", "", string.ascii_letters + string.punctuation)

# The kinds of levels: one folder; folders that are splits; folders whose names
# differ in numbers, such as patients; folders whose names differ in words.
SINGLE_LEVEL = "single"
SPLIT_LEVEL = "splits"
NUMBERED_LEVEL = "numbered"
WORD_LEVEL = "words"


class Level(NamedTuple):
    """The folders of one depth."""

    kind: str
    # What a pattern may say in their place, the likeliest first.
    texts: list[str]


class Candidate(NamedTuple):
    """What may read a folder, as far as a sample of its names tells."""

    # The first number is the rank: candidates of the lowest rank are shown.
    # The others order those of one rank, the likeliest first.
    order: tuple
    # What the user copies.
    text: str
    # What is read of the sample.
    found: Set
    # In how many classes and splits that is.
    num_parts: int
    # What `describe` of `choose` takes.
    value: Any


def choose(
    candidates: Iterable[Candidate], describe: Callable[[Any], str]
) -> list[str]:
    """Returns lines of the best candidates that can be read whole.

    `describe` reads a candidate whole and tells what it gives. It raises
    ValueError for what cannot be read.
    """
    lines = dict[str, str]()
    shown = list[Candidate]()
    for candidate in sorted(candidates, key=lambda x: x.order)[:TRIALS]:
        is_worse = bool(shown) and candidate.order[0] > shown[0].order[0]
        if is_worse or len(lines) == SHOWN:
            break
        # What reads less of the same, in less splits or classes, is not shown.
        if any(_is_part(candidate, other) for other in shown):
            continue
        try:
            lines[candidate.text] = describe(candidate.value)
        except ValueError:
            continue
        shown.append(candidate)
    # Code may be longer than any pattern.
    width = max((len(x) for x in lines if len(x) < WIDTH), default=0)
    return [f"{text:{width}}  {lines[text]}" for text in lines]


def _is_part(candidate, other):
    has_less = candidate.num_parts < other.num_parts
    is_same = candidate.found == other.found
    return candidate.found <= other.found and (has_less or is_same)


def draw_sample(names: Sequence[str]) -> Sequence[str]:
    """Returns runs of names, those of one number beside each other."""
    if len(names) <= SAMPLED:
        return names
    ends = {x: x.rpartition("/")[2] for x in names}
    order = sorted(names, key=lambda x: (ends[x].translate(NOT_DIGITS), x))
    starts = np.linspace(0, len(names) - 100, SAMPLED // 100).astype(int)
    return [name for start in starts for name in order[start : start + 100]]


def are_subjects(names: Iterable[str]) -> bool:
    """Returns whether names are a word and a number, e.g. "patient_1"."""
    matches = [SUBJECT.fullmatch(name) for name in names]
    words = {match[1].lower() if match else "" for match in matches}
    return len(matches) > 1 and len(words) == 1 and "" not in words


def are_folds(names: Set[str]) -> bool:
    """Returns whether names are predefined folds, e.g. "fold1"."""
    return are_subjects(names) and min(names).lower().startswith("fold")


def are_numbered(names: Set[str]) -> bool:
    """Returns whether names differ in numbers rather than in words."""
    rests = {re.sub(r"\d", "", name) for name in names}
    return rests.isdisjoint(names) and 2 * len(rests) <= len(names)


def describe_level(column: Sequence[str]) -> Level:
    """Returns what the folders of one depth are, one name for each file."""
    names = {*column}
    counts = collections.Counter(column)
    largest, count = counts.most_common(1)[0]
    # A folder with half of the files may be the only one that is meant.
    literals = [write_literal(largest)] if 2 * count >= len(column) else []
    if len(names) == 1:
        return Level(SINGLE_LEVEL, literals)
    split_texts = write_splits(sorted(names))
    is_one_text = len({*split_texts.values()}) == 1
    if is_one_text and len(split_texts) == len(names):
        return Level(SPLIT_LEVEL, [split_texts[largest], *literals])
    if any(map(find_split, names)):
        # Other folders beside splits are not pooled with these.
        return Level(WORD_LEVEL, literals)
    kind = NUMBERED_LEVEL if are_numbered(names) else WORD_LEVEL
    return Level(kind, ["{}", *literals])


def write_splits(names: Sequence[str]) -> dict[str, str]:
    """Returns names of splits as they are written in a pattern."""
    by_text = collections.defaultdict[str, list[str]](list)
    for name in names:
        if match := layouts.SPLIT.fullmatch(name):
            before, _, after = map(write_literal, match.groups())
            # Archives number their folders, e.g. "a. Training Set".
            before = re.sub(r"^\w(?=[._ -])", "{}", before)
            by_text[f"{before}{{split}}{after}"].append(name)
    texts = dict[str, str]()
    for text, names_of_text in by_text.items():
        matches = [layouts.SPLIT.fullmatch(name) for name in names_of_text]
        words = {match[2].lower() for match in matches if match}
        if words > {"train"}:
            texts |= dict.fromkeys(names_of_text, text)
    # Plain names such as "train" and "testing" need no text around them.
    is_plain = len(name_splits(names)) == len(names) > len(texts)
    return dict.fromkeys(names, "{split}") if is_plain else texts


def find_split(name: str) -> str:
    """Returns the split that a word of a name says, "" if none does."""
    return next(iter(name_splits(find_words(name)).values()), "")


def find_held_out(names: Iterable[str]) -> dict[str, str]:
    """Returns the folder of a test or validation set that each file is in.

    Only where folders beside it are training images: "test" alone may be a
    class.
    """
    folders = {name.rpartition("/")[0] for name in names}
    beside = collections.defaultdict[str, set[str]](set)
    for folder in folders:
        parent = ""
        for part in folder.split("/"):
            beside[parent].add(part)
            parent = f"{parent}/{part}" if parent else part
    held_out = dict[str, str]()
    for parent, parts in beside.items():
        split_of = {part: find_split(part) for part in parts}
        if "train" in split_of.values():
            for part, split in split_of.items():
                if split not in ("", "train"):
                    path = f"{parent}/{part}" if parent else part
                    held_out[path] = split
    found = dict[str, str]()
    for folder in folders:
        components = folder.split("/")
        for count in range(1, len(components) + 1):
            path = "/".join(components[:count])
            if path in held_out:
                found[folder] = path
                break
    return found


def describe_held_out(
    names: Sequence[str],
    split_of: Mapping[str, str],
    class_names: Iterable[str] = (),
) -> str:
    """Returns what becomes of official test images, "" if they are tested.

    Args:
        names: All names of files.
        split_of: The split of each file that is read.
        class_names: The classes that are read, such as "test_tube" beside
            "train_station". Defaults to `()`.
    """
    folder_of = find_held_out(names)
    places = {name: folder_of.get(name.rpartition("/")[0]) for name in names}
    read = {places[name] for name in names if name in split_of}
    unread, pooled = collections.Counter[str](), collections.Counter[str]()
    for name, held_out in places.items():
        if held_out is None:
            continue
        # Many folders of one name, such as "bottle/test", are named once.
        part = held_out.rpartition("/")[2]
        if part in class_names:
            continue
        # Some images may have no mask.
        if held_out not in read:
            unread[part] += 1
        elif name not in split_of:
            continue
        elif name_splits([split_of[name]]).get(split_of[name]) == "train":
            pooled[part] += 1
    text = ""
    for part, count in sorted(unread.items()):
        text += f"; without {count:,} of {part}/"
    for part, count in sorted(pooled.items()):
        text += f"; trains on {count:,} of {part}/"
    return text


def find_suffix(names: Sequence[str]) -> str:
    """Returns what all names end with, from a sign on."""
    end = os.path.commonprefix([name[::-1] for name in names])[::-1]
    match = re.search(r"([\W_].*)?$", end)
    return match[0] if match else ""


def write_ending(endings: Iterable[str]) -> str:
    """Returns the ending of all files, as it is written in a pattern."""
    different = {ending.lower() for ending in endings}
    return different.pop() if len(different) == 1 else ".*"
