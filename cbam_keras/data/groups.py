"""Groups that names of files tell of: frames, patients, augmented copies.

Only what repeats in a folder of one class is a group. Numbers that count files
from a beginning, dates, sizes and coordinates are none, and where names may
mean several things nothing is said.
"""

import collections
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from cbam_keras.data.layouts import name_splits, write_literal
from cbam_keras.data.levels import write_ending
from cbam_keras.data.patterns import Pattern

# At least this fraction of all files must be in groups of two or more.
LEAST_GROUPED = 0.8
# Folders of a class must have at least so many groups.
LEAST_GROUPS = 3
# Words, such as names of persons, are groups if there are so many of them, with
# so few files: breeds of dogs have more.
LEAST_WORDS, MOST_FILES = 5, 20
TOKEN = re.compile(r"\d+|[A-Za-z]+|[^A-Za-z\d]+")
# What is after the name of the original: "img1_aug2", "img1 (2)", "img1_flip".
COPY = re.compile(r"(.+?)([\W_]+[A-Za-z]*)\d*[)]?")
# Words before a number that is the place of a tile, a count, or a class.
NOT_OF_GROUPS = re.compile(
    "x|y|z|r|c|w|h|row|col|column|tile|class|label|size|px|idx|index|frame|aug"
    "|copy|page|rot|scale|v|version|fold",
    re.I,
)
# Words before the number of what has several images.
OF_GROUPS = re.compile(
    "p|pat|patient|subj|subject|person|actor|speaker|user|id|case|vid|video"
    "|clip|scan|slide|series|seq|sequence|scene|plant|animal|mouse|well|eye",
    re.I,
)
USUAL_SIZES = {"28", "32", "48", "64", "96", "128", "224", "256", "299", "512"}


class NamedGroups(NamedTuple):
    """Groups of files, with what their names have in common."""

    # The group of each file, in the order of the names.
    group_of: list[tuple]
    # The name of a file as a pattern, with {group}, e.g. "video{group}_*".
    text: str
    # Code that gives the group of a path `x`, where no pattern matches all.
    code: str = ""


class NamedFile(NamedTuple):
    """The name of a file, taken apart."""

    # Folder and class, within which groups are looked for.
    unit: tuple[str, str]
    stem: str
    tokens: list[str]


def note_groups(
    names: Sequence[str],
    classes: Sequence[str],
    splits: Sequence[str],
    root: pathlib.Path,
    patterns: Sequence[str],
) -> str:
    """Returns a note on groups whose files are in several splits, or "".

    Args:
        names: The path of each file below the root.
        classes: The name of the class of each.
        splits: The split of each.
        root: The folder.
        patterns: The patterns that read the folder, without the file's name,
            e.g. "{class}". Those that match no file are not shown.
    """
    files = []
    for name, label in zip(names, classes, strict=True):
        folder, _, file = name.rpartition("/")
        stem = os.path.splitext(file)[0]
        files.append(NamedFile((folder, label), stem, TOKEN.findall(stem)))
    groups = _find_copies(files) or _find_fields(files)
    if groups is None:
        return ""
    parts = collections.defaultdict[tuple, set[str]](set)
    for group, split in zip(groups.group_of, splits, strict=True):
        parts[group].add(split)
    if all(len(each) == 1 for each in parts.values()):
        return ""
    counts = collections.Counter(groups.group_of)
    size = round(np.median([*counts.values()]))
    note = (
        f"{len(names):,} files look like {len(counts):,} groups of about "
        f'{size} by "{groups.text}", and a group may be in several splits'
    )
    advice = _advise(groups, names, classes, root, patterns)
    return f"{note}; {advice}" if advice else note


def _find_copies(files):
    """Returns groups of originals and their copies, or `None`."""
    stems = collections.defaultdict[tuple, set[str]](set)
    for file in files:
        stems[file.unit].add(file.stem)
    ends = collections.Counter[str]()
    bases = []
    for file in files:
        base = file.stem
        match = COPY.fullmatch(file.stem)
        if match and match[1] in stems[file.unit]:
            base = match[1]
            ends[match[2]] += 1
        bases.append((*file.unit, base))
    if not _are_groups(files, bases) or len(ends) != 1:
        return None
    (end,) = ends
    return NamedGroups(
        bases, f"{{group}}{end}*", f"x.stem.partition({end!r})[0]"
    )


def _are_groups(files, group_of):
    """Returns whether most files are in groups, and each class has several."""
    counts = collections.Counter(group_of)
    num_grouped = sum(n for n in counts.values() if n > 1)
    num_units = len({file.unit for file in files})
    largest = max(counts.values())
    return (
        num_grouped >= LEAST_GROUPED * len(files)
        and len(counts) >= LEAST_GROUPS * num_units
        and 2 * largest * num_units <= len(files)
    )


def _find_fields(files):
    """Returns groups by a number or word of names of one form, or `None`."""
    forms = collections.Counter(_describe_form(x.tokens) for x in files)
    if len(forms) != 1:
        return None
    columns = [*zip(*(file.tokens for file in files), strict=True)]
    varying = [i for i in range(len(columns)) if _varies(files, columns[i])]
    excluded = _find_dates_and_sizes(columns)
    for i in varying:
        others = [j for j in varying if j != i]
        group_of = [
            (*file.unit, value)
            for file, value in zip(files, columns[i], strict=True)
        ]
        before = _find_word(columns, i)
        if i in excluded or NOT_OF_GROUPS.fullmatch(before):
            continue
        if not others or not _are_groups(files, group_of):
            continue
        if not columns[i][0].isdigit() and not _are_persons(files, group_of):
            continue
        is_said = bool(OF_GROUPS.fullmatch(before))
        counts_within = len(others) == 1 and i < others[0]
        counts_within &= _begins_anew(files, columns, others)
        if is_said or counts_within or _are_runs(files, columns, i, others):
            text = _write_text(columns, i)
            return NamedGroups(group_of, text)
    return None


def _describe_form(tokens):
    """Returns the signs of a name, and where numbers and words are."""
    form = []
    for token in tokens:
        if token.isdigit():
            form.append("0")
        else:
            form.append("a" if token.isalpha() else token)
    return tuple(form)


def _varies(files, column):
    """Returns whether a token differs within a folder of a class."""
    values = collections.defaultdict[tuple, set[str]](set)
    for file, value in zip(files, column, strict=True):
        values[file.unit].add(value)
    return any(len(each) > 1 for each in values.values())


def _find_dates_and_sizes(columns):
    """Returns the places of tokens that are dates, times or sizes."""
    excluded = set[int]()
    for i, column in enumerate(columns):
        if not column[0].isdigit():
            continue
        years = r"(19|20)\d\d((0\d|1[0-2])([0-2]\d|3[01])(\d{6})?)?"
        if all(re.fullmatch(years, value) for value in column):
            # The month, the day and the time follow the year.
            excluded |= {i, i + 2, i + 4}
            # Day and month may also be before it.
            if i >= 4 and columns[i - 1] == columns[i - 3]:
                excluded |= {i - 2, i - 4}
        if {*column} <= USUAL_SIZES:
            excluded.add(i)
        if i + 2 < len(columns) and {*columns[i + 1]} == {"x"}:
            excluded |= {i, i + 2}
    return excluded


def _find_word(columns, i):
    """Returns the word just before a number, beside signs; "" if it differs."""
    for column in reversed(columns[:i]):
        if column[0].isalpha():
            return column[0] if len({*column}) == 1 else ""
        if column[0].isdigit():
            return ""
    return ""


def _are_persons(files, group_of):
    """Returns whether words are many, each of few files."""
    counts = collections.Counter(group_of)
    num_units = len({file.unit for file in files})
    is_many = len(counts) >= LEAST_WORDS * num_units
    return is_many and max(counts.values()) <= MOST_FILES


def _begins_anew(files, columns, others):
    """Returns whether the rest of names counts anew in each group."""
    rests = collections.defaultdict[tuple, set[tuple]](set)
    for row, file in enumerate(files):
        rests[file.unit].add(tuple(columns[j][row] for j in others))
    return 2 * sum(map(len, rests.values())) <= len(files)


def _are_runs(files, columns, i, others):
    """Returns whether groups follow each other in the numbers of files."""
    last = others[-1]
    if not columns[last][0].isdigit():
        return False
    order = collections.defaultdict[tuple, dict[int, str]](dict)
    for row, file in enumerate(files):
        order[file.unit][int(columns[last][row])] = columns[i][row]
    if sum(map(len, order.values())) < len(files):
        # The numbers are not those of files.
        return False
    num_runs = num_values = 0
    for value_of in order.values():
        values = [value_of[number] for number in sorted(value_of)]
        pairs = zip(values, values[1:], strict=False)
        num_runs += 1 + sum(x != y for x, y in pairs)
        num_values += len({*values})
    return num_runs == num_values


def _write_text(columns, i):
    """Returns the name of files with {group}, and * for what else differs."""
    text = ""
    for j, column in enumerate(columns):
        if j == i:
            text += "{group}"
        elif len({*column}) == 1:
            text += write_literal(column[0])
        elif not text.endswith("*"):
            text += "*"
    return text


def _advise(groups, names, classes, root, patterns):
    """Returns what keeps groups together, after trying it on all names."""
    ending = write_ending(os.path.splitext(name)[1] for name in names)
    if groups.code:
        folders = {name.rpartition("/")[0] for name in names}
        has_splits = any(name_splits(folder.split("/")) for folder in folders)
        ends = {os.path.basename(folder) for folder in folders}
        if has_splits or ends != {*classes}:
            return "keep them together with a column `group` of a table"
        return (
            "keep them together with data.load(pandas.DataFrame([(x, "
            f'x.parent.name, {groups.code}) for x in pathlib.Path("{root}")'
            f'.rglob("*{ending}")], columns=["image", "label", "group"]))'
        )
    for text in patterns:
        pattern = f"{text}/{groups.text}{ending}"
        try:
            values = [_match(pattern, name) for name in names]
        except ValueError:
            continue
        if None in values:
            continue
        # No other folder is taken for a split.
        splits = {value["split"] for value in values if "split" in value}
        read = [value["class"] for value in values]
        if read == [*classes] and len(name_splits(splits)) == len(splits):
            return f'keep them together with pattern="{pattern}"'
    return "keep them together with {group} in pattern="


def _match(pattern: str, name: str) -> Mapping[str, str] | None:
    names = ("class", "split", "group", "fold")
    return Pattern(pattern, names, "class").match(name)
