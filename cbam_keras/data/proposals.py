"""What reads folders of several meanings, read by names before it is shown."""

import collections
import itertools
import json
import os
import pathlib
import re
from collections.abc import (
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from typing import NamedTuple

import numpy as np

from cbam_keras import _checks
from cbam_keras.data.examples import Dataset, Examples
from cbam_keras.data.layouts import (
    SPLIT,
    Parts,
    find_masks,
    find_parts,
    find_words,
    name_splits,
    write_literal,
)
from cbam_keras.data.patterns import Pattern, make_pattern
from cbam_keras.data.splits import SPLITS, check_splits

# How many names are looked at to choose, how many proposals are then read
# whole, and how many of these are shown.
SAMPLED, TRIED, SHOWN = 2000, 12, 4
# Folders of one word and a number that are seldom classes.
SUBJECT = re.compile(
    r"(fold|split|part|subject|patient|actor|speaker|user|session|site|batch"
    r"|run|s)[\W_]*\d+",
    re.I,
)
# What divides names.
SIGNS = ("__", "_", "-", " (", ".", " ")

# The names of the files in each folder.
Folders = Mapping[Parts, Sequence[str]]
# The split, the class and the group of a file, `None` if it is not read.
Meaning = tuple[str, str, str | None] | None


class Proposal(NamedTuple):
    """A pattern, or a folder of class folders for each split.

    `places` are the folders, each with the split of its files, if they have
    one, and a pattern below it. Those of the lowest `rank` are shown.
    """

    rank: int
    text: str
    places: Sequence[tuple[str, Parts, Pattern]]


class Level(NamedTuple):
    """Folders of one depth: what may be written where they are no classes."""

    texts: list[str]
    # They are one folder or splits, or their names differ in numbers alone.
    is_known: bool = False
    is_splits: bool = False
    is_numbered: bool = False
    is_folds: bool = False


def are_subjects(names: Iterable[str]) -> bool:
    """Returns whether names are one word and a number, as "patient_1"."""
    matches = [SUBJECT.fullmatch(name) for name in names]
    words = {match[1].lower() if match else "" for match in matches}
    return len(matches) > 1 and len(words) == 1 and "" not in words


def propose_classes(root: pathlib.Path, paths: Sequence[Parts]) -> list[str]:
    """Returns lines that read images by class, each with what it gives.

    `paths` are those of all images below the folder.
    """
    parts, masks = find_parts(paths, by_words=True), find_masks(paths)
    sides: tuple[list[Parts], list[Parts]] = [], []
    for path in paths:
        is_part = any(path[:i] in parts for i in range(1, len(path)))
        sides[is_part or path in masks].append(path)
    images, others = map(group_by_folder, sides)
    sample = draw_sample(images)
    # Each sampled file stands for so many.
    step = len(images) / max(1, len(sample))
    weights = [
        step * len(images[folder]) / len(names)
        for folder, names in sample.items()
        for _ in names
    ]
    rows = [(*folder, x) for folder, names in sample.items() for x in names]
    scored = []
    for number, proposal in enumerate(_write(root, rows, weights, bool(masks))):
        meanings = _read(proposal, sample)
        pairs = zip(weights, meanings, strict=True)
        covered = sum(weight for weight, meaning in pairs if meaning)
        if 2 * covered >= len(sides[0]):
            order = proposal.rank, -round(covered), number
            scored.append((order, proposal, meanings))
    shown: list[tuple[int, str, str]] = []
    seen: list[tuple[list, set]] = []
    for _, proposal, meanings in sorted(scored, key=lambda x: x[0])[:TRIED]:
        is_last = len(shown) == SHOWN or shown and shown[0][0] < proposal.rank
        if is_last:
            break
        has_folds = "{fold}" in proposal.text
        alike = [x and (*x[:2], has_folds) for x in meanings]
        classes = {x[1] for x in meanings if x}
        if any(_is_within(alike, classes, *other) for other in seen):
            continue
        try:
            given = _describe(_read(proposal, images), len(sides[0]))
            is_read = not any(_read(proposal, others))
        except ValueError:
            continue
        if is_read:
            shown.append((proposal.rank, proposal.text, given))
            seen.append((alike, classes))
    width = max((len(text) for _, text, _ in shown), default=0)
    return [f"{text:{width}}  {given}" for _, text, given in shown]


def _is_within(meanings, classes, others, more):
    """Returns whether a reading is another one, or a part with less classes."""
    pairs = zip(meanings, others, strict=True)
    is_part = all(x is None or x == y for x, y in pairs)
    return meanings == others or (is_part and classes < more)


def group_by_folder(paths: Iterable[Parts]) -> Folders:
    folders = collections.defaultdict[Parts, list[str]](list)
    for path in paths:
        folders[path[:-1]].append(path[-1])
    return folders


def draw_sample(folders: Folders) -> Folders:
    """Returns some names of all folders, or of some that are far apart."""
    step = -(-len(folders) // SAMPLED)
    names = SAMPLED * step // max(1, len(folders))
    return {
        folder: folders[folder][:: -(-len(folders[folder]) // names)]
        for folder in [*folders][::step]
    }


def _read(proposal: Proposal, folders: Folders) -> list[Meaning]:
    """Returns what each file means, as it would be loaded."""
    found: list[Meaning] = []
    for folder, names in folders.items():
        place = [x for x in proposal.places if folder[: len(x[1])] == x[1]]
        if not place:
            found += [None] * len(names)
            continue
        split, start, pattern = place[0]
        below = "".join(f"{name}/" for name in folder[len(start) :])
        # All files of a folder are alike where the last part is "*".
        tried = names[:1] if pattern.is_of_folders else names
        for name in tried:
            x = pattern.match(below + name)
            meaning = None
            if x is not None:
                group = x.get("group", x.get("fold"))
                meaning = x.get("split", split), x["class"], group
            found.append(meaning)
        found += found[-1:] * (len(names) - len(tried))
    split_of = name_splits({x[0] for x in found if x})
    return [x and (split_of.get(x[0], x[0]), *x[1:]) for x in found]


def _describe(meanings: Sequence[Meaning], total: int) -> str:
    """Returns what is read. Raises if that is no dataset."""
    found = [x for x in meanings if x]
    if 2 * len(found) < max(1, total):
        raise ValueError("too few")
    splits, labels, groups = zip(*found, strict=True)
    names, codes = _number(labels)
    order = [x for x in SPLITS if x in splits]
    is_odd = not {"train"} <= {*splits} <= {*SPLITS}
    if is_odd or len(names) > max(2, len(found) / 3):
        raise ValueError(found[0])
    is_grouped = groups[0] is not None
    owners = _number(groups)[1] if is_grouped else None
    every = Examples(np.arange(len(found)), codes, groups=owners)
    rows = np.array(splits)
    dataset = Dataset(
        {x: every.take(np.flatnonzero(rows == x)) for x in order},
        tuple(names),
        grouped_by="{group}" if is_grouped else "",
    )
    check_splits(dataset)
    text = f"{len(found):,} images of {len(names):,} classes "
    text += f"({_checks.first_few(names)})"
    if len(order) > 1:
        text += f" in {', '.join(order)}"
    return text + (f", {len({*groups}):,} groups" if is_grouped else "")


def _number(texts):
    """Returns the different texts, and the number of each one."""
    names = sorted({*texts})
    numbers = {name: number for number, name in enumerate(names)}
    return names, np.array([numbers[text] for text in texts])


def _write(root, rows, weights, has_masks) -> Iterator[Proposal]:
    """Yields what may read images, in each rank the likeliest first."""
    total, counts = sum(weights), collections.Counter[int]()
    for row, weight in zip(rows, weights, strict=True):
        counts[len(row)] += weight
    texts: list[tuple[int, str]] = []
    for length, count in counts.most_common():
        if 2 * count >= total:
            kept = [i for i, row in enumerate(rows) if len(row) == length]
            found = [rows[i] for i in kept], [weights[i] for i in kept]
            texts += _write_levels(*found, has_masks)
    if len(counts) > 1:
        texts += [(0, text) for text in _write_any_depth(rows)]
    for rank, text in dict.fromkeys(texts):
        places = [("train", (), make_pattern(text))]
        yield Proposal(rank, f'pattern="{text}"', places)
    for size in range(min(counts, default=1)):
        starts = collections.Counter[Parts]()
        for row, weight in zip(rows, weights, strict=True):
            starts[row[:size]] += weight
        for start in (x for x in starts if 2 * starts[x] >= total):
            yield from _write_mapping(root, start, rows)


def _write_levels(rows, weights, has_masks):
    """Yields ranks and patterns of paths of one length."""
    *columns, names = zip(*rows, strict=True)
    levels = [_see(column, weights) for column in columns]
    pairs = [os.path.splitext(name) for name in names]
    stems, endings = zip(*pairs, strict=True)
    ending = write_ending(endings)
    file = "*"
    if has_masks:
        file = f"*{write_literal(common_suffix(stems))}{ending}"
    is_open = [i for i, level in enumerate(levels) if not level.is_known]
    numbered = [i for i in is_open if levels[i].is_numbered]
    plain = [i for i in is_open if i not in numbered]
    groups = max(numbered, key=lambda i: len({*columns[i]}), default=None)
    classes = [(i, "{class}") for i in plain]
    for i in numbered:
        fields = _write_fields(columns[i], [columns[j] for j in plain])
        classes += [(i, text) for text in fields]
    # Folders of files are classes rather than those above them.
    last = [(i, text) for i, text in classes if i == len(levels) - 1]
    for i, text in last or classes:
        yield from _fill(0, levels, groups, {i: text}, file)
    for i in numbered:
        yield from _fill(1, levels, groups, {i: "{class}"}, file)
    if plain:
        return
    owners = None if groups is None else columns[groups]
    texts = _write_names(stems, owners)
    rank = 1 if owners and are_subjects({*owners}) else 2
    for text in texts:
        yield from _fill(rank, levels, groups, {}, text + ending)
    for i, level in enumerate(levels):
        if level.is_splits and not texts:
            # Only training images have a class.
            kept = [n for n, x in enumerate(columns[i]) if x in level.texts]
            found = [rows[n] for n in kept], [weights[n] for n in kept]
            yield from _write_levels(*found, False) if kept else ()


def _fill(rank, levels, groups, chosen, file):
    """Yields patterns with what is chosen for levels, and all for others."""
    texts = []
    for number, level in enumerate(levels):
        words = [chosen[number]] if number in chosen else level.texts
        if any(number > place for place in chosen):
            # Part of the folders of a class is no other dataset.
            words = words[:1]
        if number == groups and number not in chosen:
            words = ["{group}", *(["{fold}"] if level.is_folds else []), *words]
        texts.append(words)
    for words in itertools.product(*texts):
        # One of the splits is read where they are no dataset.
        is_one = any(
            level.is_splits and "{split}" not in word
            for level, word in zip(levels, words, strict=True)
        )
        yield rank + is_one / 2, "/".join([*words, file])


def _see(column, weights):
    """Returns what may be written for folders of one depth."""
    names, totals = sorted({*column}), collections.Counter[str]()
    for name, weight in zip(column, weights, strict=True):
        totals[name] += weight
    ((largest, weight),) = totals.most_common(1)
    texts = [write_literal(largest)] if 2 * weight >= sum(weights) else []
    if len(names) == 1:
        return Level(texts, is_known=True)
    split_texts = write_splits(names)
    if len({*split_texts.values()}) == 1 and len(split_texts) == len(names):
        texts = [split_texts[largest], *texts]
        return Level(texts, is_known=True, is_splits=True)
    is_held_out = _find_split(largest) in SPLITS[1:]
    if any(map(_find_split, names)):
        return Level([] if is_held_out else texts)
    return Level(
        ["{}", *texts],
        is_numbered=_is_numbered(names),
        is_folds=are_subjects(names) and "fold" in names[0].lower(),
    )


def _is_numbered(names):
    """Returns whether names differ in numbers rather than in words."""
    rests = {re.sub(r"\d", "", name) for name in names}
    return all(re.search(r"\d", x) for x in names) and 2 * len(rests) <= len(
        names
    )


def write_splits(names: Sequence[str]) -> dict[str, str]:
    """Returns names of splits as they are written in a pattern."""
    by_text = collections.defaultdict[str, dict[str, str]](dict)
    for name in names:
        if match := SPLIT.fullmatch(name):
            before, split, after = map(write_literal, match.groups())
            # Archives number their folders, as "a. Training Set".
            before = re.sub(r"^\w(?=[._ -])", "{}", before)
            by_text[f"{before}{{split}}{after}"][name] = split.lower()
    found = {
        name: text
        for text, splits in by_text.items()
        if len({*splits.values()}) > 1 and "train" in splits.values()
        for name in splits
    }
    split_of = name_splits(names)
    is_plain = len(split_of) == len(names) and "train" in split_of.values()
    is_whole = len(found) == len(names) or not is_plain
    return found if is_whole else dict.fromkeys(names, "{split}")


def _find_split(name):
    """Returns the split that a word of a name says, if any."""
    splits = name_splits(find_words(name)).values()
    return next(iter(splits), "")


def _split_names(names):
    """Yields signs, and the columns of texts that these divide names into."""
    for sign in SIGNS:
        fields = [name.split(sign) for name in names]
        if len({*map(len, fields)}) == 1 and all(map(all, fields)):
            columns = [*zip(*fields, strict=True)]
            if len(columns) > 1:
                yield sign, columns


def _write_fields(column, known):
    """Returns texts with {class} for a part of folders that have numbers."""
    return [
        sign.join("{class}" if x is field else "*" for x in fields)
        for sign, fields in _split_names(column)
        for field in fields
        if 1 < len({*field}) < len({*column})
        and not _is_numbered({*field})
        and not any(_are_alike(field, other) for other in known)
    ]


def _write_names(stems, owners):
    """Returns texts with {class} for a part of the names of files."""
    found = []
    for sign, fields in _split_names(stems):
        for number, field in enumerate(fields):
            count = len({*field})
            is_one = owners is not None and _are_alike(field, owners)
            if not 1 < count <= max(2, len(stems) / 3) or is_one:
                continue
            texts = [
                "{split}"
                if "{split}" in write_splits([*{*x}]).values()
                else "*"
                for x in fields
            ]
            texts[number] = "{class}"
            # A class is of all subjects rather than of one.
            each = len({*zip(field, owners or field, strict=True)})
            is_word = any(re.search("[A-Za-z]{2}", x) for x in field)
            order = each < len(stems), each / count, count
            found.append((is_word, order, sign.join(texts)))
    has_words = any(is_word for is_word, *_ in found)
    found = [x for x in found if x[0] == has_words]
    return [text for *_, text in sorted(found, key=lambda x: x[1])[::-1]]


def _are_alike(column, other):
    pairs = {*zip(column, other, strict=True)}
    return len(pairs) == len({*column}) == len({*other})


def _write_any_depth(rows):
    """Yields patterns of folders that are not of one depth."""
    folders = {row[:-1] for row in rows} - {()}
    parents = collections.defaultdict[Parts, set[str]](set)
    for folder in folders:
        parents[folder[:-1]].add(folder[-1])
    is_nested = any(x[:i] in folders for x in folders for i in range(1, len(x)))
    sets = {*map(frozenset, parents.values())}
    is_nested |= any(map(_find_split, frozenset().union(*sets)))
    is_unique = sum(map(len, parents.values())) == len(frozenset().union(*sets))
    if folders and not is_nested and (len(sets) == 1 or is_unique):
        start = map(write_literal, os.path.commonprefix([*parents]))
        yield "/".join([*start, "**", "{class}", "*"])
    start = os.path.commonprefix([*folders])
    if is_nested and {x[: len(start) + 1] for x in folders} <= folders:
        yield "/".join([*map(write_literal, start), "{class}", "**"])


def _write_mapping(root, start, rows):
    """Yields folders of classes whose names say the splits of a dataset."""
    inside = collections.defaultdict[str, set[Parts]](set)
    for row in rows:
        if row[: len(start)] == start and len(row) > len(start) + 2:
            inside[row[len(start)]].add(row[len(start) + 1 : -2])
    if len(write_splits([*inside])) == len(inside):
        return
    folders: dict[str, Parts] = {}
    # "TEST" comes before "TEST_SIMPLE".
    for name in sorted(inside, key=len):
        split = _find_split(name) or "train"
        if len(inside[name]) == 1:
            folders.setdefault(split, (*start, name, *inside[name].pop()))
    if "test" not in folders and "validation" in folders:
        # What authors hold out is tested on.
        folders["test"] = folders.pop("validation")
    if {"train", "test"} <= {*folders}:
        folders = {x: folders[x] for x in SPLITS if x in folders}
        pattern = make_pattern("{class}/*")
        paths = {x: str(root.joinpath(*folders[x])) for x in folders}
        yield Proposal(
            0,
            json.dumps(paths, ensure_ascii=False),
            [(split, folder, pattern) for split, folder in folders.items()],
        )


def write_ending(endings: Iterable[str]) -> str:
    """Returns the ending of all files, as it is written in a pattern."""
    different = {ending.lower() for ending in endings}
    return different.pop() if len(different) == 1 else ".*"


def common_suffix(names: Sequence[str]) -> str:
    """Returns what all names end with."""
    return os.path.commonprefix([name[::-1] for name in names])[::-1]
