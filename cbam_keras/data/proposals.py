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
from typing import Any, NamedTuple

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
SIGNS = ("__", "_", "-", " (", ".", " ")

# The names of the files in each folder.
Folders = Mapping[Parts, Sequence[str]]
# The split, the class and the group of a file, `None` if it is not read.
Meaning = tuple[str, str, str | None] | None


class Proposal(NamedTuple):
    """A pattern, or a folder of class folders for each split."""

    # Those of the lowest rank are shown.
    rank: float
    text: str
    # The split of a folder, the folder, and a pattern below it.
    places: Sequence[tuple[str, Parts, Pattern]]


class Level(NamedTuple):
    """What may be written for folders of one depth that are no classes."""

    texts: list[str]
    is_known: bool = False
    is_splits: bool = False
    is_numbered: bool = False


def are_subjects(names: Iterable[str]) -> bool:
    """Returns whether names are one word and a number, as "patient_1"."""
    matches = [SUBJECT.fullmatch(name) for name in names]
    words = {match[1].lower() if match else "" for match in matches}
    return len(matches) > 1 and len(words) == 1 and "" not in words


def propose_classes(root: pathlib.Path, paths: Sequence[Parts]) -> list[str]:
    """Returns lines that read images by class, each with what it gives."""
    parts, masks = find_parts(paths, by_words=True), find_masks(paths)
    sides: tuple[list[Parts], list[Parts]] = [], []
    for path in paths:
        is_part = any(path[:i] in parts for i in range(1, len(path)))
        sides[is_part or path in masks].append(path)
    images, others = map(group_by_folder, sides)
    rows = draw_sample(sides[0])
    sample, scored = group_by_folder(rows), []
    for number, proposal in enumerate(_write(root, rows, bool(masks))):
        meanings = _read(proposal, sample)
        covered = len(rows) - meanings.count(None)
        order = proposal.rank, -round(20 * covered / max(1, len(rows))), number
        scored.append((order, proposal, meanings))
    shown: list[tuple[float, str, str]] = []
    seen: list[list] = []
    for _, proposal, meanings in sorted(scored, key=lambda x: x[0])[:TRIED]:
        if len(shown) == SHOWN or shown and shown[0][0] < proposal.rank:
            break
        alike = [x and x[:2] for x in meanings]
        if any(_is_within(alike, other) for other in seen):
            continue
        try:
            given = _describe(_read(proposal, images), len(sides[0]))
            is_read = not any(_read(proposal, others))
        except ValueError:
            continue
        if is_read:
            shown.append((proposal.rank, proposal.text, given))
            seen.append(alike)
    width = max((len(text) for _, text, _ in shown), default=0)
    return [f"{text:{width}}  {given}" for _, text, given in shown]


def _is_within(meanings, others):
    """Returns whether a reading is another one, or a part with less classes."""
    pairs = zip(meanings, others, strict=True)
    classes, more = ({x[1] for x in y if x} for y in (meanings, others))
    is_part = all(x is None or x == y for x, y in pairs)
    return is_part and (meanings == others or classes < more)


def group_by_folder(paths: Iterable[Parts]) -> Folders:
    folders = collections.defaultdict[Parts, list[str]](list)
    for path in paths:
        folders[path[:-1]].append(path[-1])
    return folders


def draw_sample(paths: Sequence[Parts]) -> list[Parts]:
    """Returns some paths at random, so that no order of names is met."""
    count = min(SAMPLED, len(paths))
    rows = np.random.default_rng(0).choice(len(paths), count, replace=False)
    return [paths[row] for row in sorted(rows)]


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
            x: Any = pattern.match(below + name)
            meaning = x and (x.get("split", split), x["class"], x.get("group"))
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
    names, codes = np.unique(np.array(labels, object), return_inverse=True)
    order = [x for x in SPLITS if x in splits]
    if len(order) < len({*splits}) or len(names) > max(2, len(found) / 3):
        raise ValueError("other splits, or hardly classes")
    is_grouped = groups[0] is not None
    owners = np.array(groups, object) if is_grouped else None
    every = Examples(np.arange(len(found)), codes, groups=owners)
    rows = np.array(splits)
    dataset = Dataset(
        {x: every.take(np.flatnonzero(rows == x)) for x in order},
        tuple(names),
        grouped_by="{group}" if is_grouped else "",
    )
    check_splits(dataset)
    listed = f"{len(names):,} classes ({_checks.first_few(names.tolist())})"
    text = f"{len(found):,} images of {listed} in {', '.join(order)}"
    text = text.removesuffix(" in train")
    return text + (f", {len({*groups}):,} groups" if is_grouped else "")


def _write(root, rows, has_masks) -> Iterator[Proposal]:
    """Yields what may read images, in each rank the likeliest first."""
    counts = collections.Counter(map(len, rows))
    texts: list[tuple[float, str]] = []
    for length, count in counts.most_common():
        if 2 * count >= len(rows):
            kept = [row for row in rows if len(row) == length]
            texts += _write_levels(kept, has_masks)
    if len(counts) > 1:
        texts += [(0, text) for text in _write_any_depth(rows)]
    for rank, text in dict.fromkeys(texts):
        places = [("train", (), make_pattern(text))]
        yield Proposal(rank, f'pattern="{text}"', places)
    for size in range(min(counts, default=1)):
        starts = collections.Counter(row[:size] for row in rows)
        for start in (x for x in starts if 2 * starts[x] >= len(rows)):
            yield from _write_mapping(root, start, rows)


def _write_levels(rows, has_masks):
    """Yields ranks and patterns of paths of one length."""
    *columns, names = zip(*rows, strict=True)
    levels = [_see(column) for column in columns]
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
        classes += [
            (i, text)
            for field, text in _find_fields(columns[i])
            if 1 < len({*field}) < len({*columns[i]})
            and not _is_numbered({*field})
            and not any(_are_alike(field, columns[j]) for j in plain)
        ]
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
            kept = [row for row in rows if row[i] in level.texts]
            yield from _write_levels(kept, False) if kept else ()


def _fill(rank, levels, groups, chosen, file):
    """Yields patterns with what is chosen for levels, and all for others."""
    texts = []
    for number, level in enumerate(levels):
        words = [chosen[number]] if number in chosen else level.texts
        if any(number > place for place in chosen):
            # Part of the folders of a class is no other dataset.
            words = words[:1]
        if number == groups and number not in chosen:
            words = ["{group}", *words]
        texts.append(words)
    for words in itertools.product(*texts):
        # One of the splits is read where they are no dataset.
        is_one = any(
            level.is_splits and "{split}" not in word
            for level, word in zip(levels, words, strict=True)
        )
        yield rank + is_one / 2, "/".join([*words, file])


def _see(column):
    """Returns what may be written for folders of one depth."""
    names = sorted({*column})
    ((largest, count),) = collections.Counter(column).most_common(1)
    texts = [write_literal(largest)] if 2 * count >= len(column) else []
    if len(names) == 1:
        return Level(texts, is_known=True)
    split_texts = write_splits(names)
    if len({*split_texts.values()}) == 1 and len(split_texts) == len(names):
        texts = [split_texts[largest], *texts]
        return Level(texts, is_known=True, is_splits=True)
    if any(map(_find_split, names)):
        return Level(texts)
    return Level(["{}", *texts], is_numbered=_is_numbered(names))


def _is_numbered(names):
    """Returns whether names differ in numbers rather than in words."""
    rests = {re.sub(r"\d", "", name) for name in names}
    return rests.isdisjoint(names) and 2 * len(rests) <= len(names)


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
    is_plain = len(name_splits(names)) == len(names) > len(found)
    return dict.fromkeys(names, "{split}") if is_plain else found


def _find_split(name):
    """Returns the split that a word of a name says, if any."""
    return next(iter(name_splits(find_words(name)).values()), "")


def _find_fields(names):
    """Yields parts of all names, each with {class} in its place."""
    for sign in SIGNS:
        fields = [name.split(sign) for name in names]
        is_even = len({*map(len, fields)}) == 1 and all(map(all, fields))
        if is_even and len(fields[0]) > 1:
            for number, field in enumerate(zip(*fields, strict=True)):
                texts = ["*"] * len(fields[0])
                texts[number] = "{class}"
                yield field, sign.join(texts)


def _write_names(stems, owners):
    """Returns texts with {class} for a part of the names of files."""
    found = []
    for field, text in _find_fields(stems):
        count = len({*field})
        is_one = owners is not None and _are_alike(field, owners)
        if 1 < count <= max(2, len(stems) / 3) and not is_one:
            each = len({*zip(field, owners or field, strict=True)})
            is_word = any(re.search("[A-Za-z]{2}", x) for x in field)
            order = is_word, each < len(stems), each / count, count
            found.append((order, text))
    found.sort(key=lambda x: x[0], reverse=True)
    return [text for order, text in found if order[0] == found[0][0][0]]


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
