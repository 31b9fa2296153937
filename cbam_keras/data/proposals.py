"""What reads folders of several meanings, read by names before it is shown."""

import collections
import contextlib
import itertools
import json
import os
import pathlib
import re
import string
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
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
from cbam_keras.data.patterns import make_pattern
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
# What words begin with that say masks.
MASKS = (
    *("mask", "label", "gt", "anno", "seg", "ground", "truth", "manual"),
    *("trimap", "bbox", "lesion"),
)
LAST_WORD = re.compile(r"[\W_]+[A-Za-z]+\d?$")

# The split, the class and the group of a file, `None` if it is not read.
Meaning = tuple[str, str, str | None] | None


class Proposal(NamedTuple):
    """A pattern, or the folders of classes by split."""

    # Those of the lowest rank are shown.
    rank: int
    text: str
    pattern: str
    folders: Mapping[str, Parts]


def are_subjects(names: Iterable[str]) -> bool:
    """Returns whether names are one word and a number, as "patient_1"."""
    matches = [SUBJECT.fullmatch(name) for name in names]
    words = {match[1].lower() if match else "" for match in matches}
    return len(matches) > 1 and len(words) == 1 and "" not in words


def propose_classes(root: pathlib.Path, paths: Sequence[Parts]) -> list[str]:
    """Returns lines that read images by class, each with what it gives."""
    parts, masks = find_parts(paths, by_words=True), find_masks(paths)
    others = {
        path
        for path in paths
        if path in masks or any(path[:i] in parts for i in range(len(path)))
    }
    images = [path for path in paths if path not in others]
    rows = _draw_sample(images)
    scored = []
    for proposal in _write(root, rows, bool(masks)):
        lost = _read(proposal, rows).count(None)
        order = proposal.rank, round(20 * lost / max(1, len(rows)))
        scored.append((order, proposal))
    scored.sort(key=lambda x: x[0])
    lines, seen, lowest = dict[str, str](), list[tuple[set, list[int]]](), 2
    for _, proposal in scored[:TRIED]:
        if proposal.rank > lowest or len(seen) == SHOWN:
            break
        with contextlib.suppress(ValueError):
            meanings = _read(proposal, images)
            given = _describe(meanings)
            found = {(row, x[1]) for row, x in enumerate(meanings) if x}
            # A part with less splits or classes is not shown.
            counts = [len({x[i] for x in meanings if x}) for i in (0, 1)]
            is_seen = any(
                found <= more and (counts < most or found == more)
                for more, most in seen
            )
            if not is_seen and not any(_read(proposal, others)):
                seen.append((found, counts))
                lines[proposal.text], lowest = given, proposal.rank
    width = max(map(len, lines), default=0)
    return [f"{text:{width}}  {lines[text]}" for text in lines]


def _draw_sample(paths):
    """Returns runs of paths, those of one number beside each other."""
    if len(paths) <= SAMPLED:
        return paths
    order = sorted(paths, key=lambda x: (re.sub(r"\D", "", x[-1]), x[-1]))
    starts = np.linspace(0, len(paths) - 100, SAMPLED // 100).astype(int)
    return [path for start in starts for path in order[start : start + 100]]


def _read(proposal: Proposal, paths: Iterable[Parts]) -> list[Meaning]:
    """Returns what each file means, as it would be loaded."""
    pattern = make_pattern(proposal.pattern)
    known = dict[Parts, Meaning]()

    def read(path):
        for split, folder in proposal.folders.items():
            if path[: len(folder)] == folder:
                x = pattern.match("/".join(path[len(folder) :]))
                return x and (x.get("split", split), x["class"], x.get("group"))
        return None

    found = []
    for path in paths:
        # All files of a folder are alike where the last part is "*".
        key = path[:-1] if pattern.is_of_folders else path
        if key not in known:
            known[key] = read(path)
        found.append(known[key])
    split_of = name_splits({x[0] for x in found if x})
    return [x and (split_of.get(x[0], x[0]), *x[1:]) for x in found]


def _describe(meanings: Sequence[Meaning]) -> str:
    """Returns what is read. Raises if that is no dataset."""
    found = [x for x in meanings if x]
    if 2 * len(found) < max(1, len(meanings)):
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


def _write(root, rows, has_masks):
    """Yields what may read images, in each rank the likeliest first."""
    texts = []
    for length in {*map(len, rows)}:
        kept = [row for row in rows if len(row) == length]
        if 2 * len(kept) >= len(rows):
            texts += _write_levels(kept, has_masks)
        if len(kept) < len(rows):
            texts += _write_any_depth(rows)
    for rank, text in dict.fromkeys(texts):
        yield Proposal(rank, f'pattern="{text}"', text, {"train": ()})
    folders = dict[str, Parts]()
    places = collections.Counter(x[:-1] for x in {row[:-1] for row in rows})
    # "TEST" comes before "TEST_SIMPLE".
    for folder in sorted(places, key=lambda x: len("/".join(x))):
        splits = [*filter(None, map(_find_split, folder)), "train"]
        if folder and places[folder] > 1:
            folders.setdefault(splits[0], folder)
    if "test" not in folders and "validation" in folders:
        # What authors hold out is tested on.
        folders["test"] = folders.pop("validation")
    if {"train", "test"} <= {*folders}:
        given = {x: str(root.joinpath(*y)) for x, y in folders.items()}
        text = json.dumps(given, ensure_ascii=False)
        yield Proposal(0, text, "{class}/*", folders)


def _write_levels(rows, has_masks):
    """Yields ranks and patterns of paths of one length."""
    *columns, names = zip(*rows, strict=True)
    levels = [_see(column) for column in columns]
    stems, endings = zip(*map(os.path.splitext, names), strict=True)
    ending = _write_ending(endings)
    file = (
        f"*{write_literal(_find_suffix(stems))}{ending}" if has_masks else "*"
    )
    plain = [i for i, (kind, _) in enumerate(levels) if kind == "open"]
    numbered = [i for i, (kind, _) in enumerate(levels) if kind == "numbered"]
    groups = max(numbered, key=lambda i: len({*columns[i]}), default=None)
    classes = [(0, i, "{class}", file) for i in plain]
    for i in numbered:
        classes += [
            (0, i, text, file)
            for field, text in _find_fields(columns[i])
            if 1 < len({*field}) < len({*columns[i]})
            and not _is_numbered({*field})
            and not any(_are_alike(field, columns[j]) for j in plain)
        ]
    # Folders of files are classes rather than those above them.
    chosen = [x for x in classes if x[1] == len(levels) - 1] or classes
    chosen += [(1, i, "{class}", file) for i in numbered]
    owners = None if groups is None else columns[groups]
    rank = 1 if owners and are_subjects({*owners}) else 2
    texts = [] if plain else _write_names(stems, owners)
    chosen += [(rank, len(levels), "", text + ending) for text in texts]
    for rank, place, text, name in chosen:
        options = []
        for i, (_, words) in enumerate(levels):
            # Part of the folders of a class is no other dataset.
            words = [text] if i == place else words[: 1 if i > place else None]
            is_grouped = i == groups != place
            options.append(["{group}", *words] if is_grouped else words)
        for words in itertools.product(*options):
            yield rank, "/".join([*words, name])
    for i, (kind, words) in enumerate(levels):
        # Only training images have a class.
        kept = [row for row in rows if row[i] in words]
        if kind == "splits" and kept and not (plain or texts):
            yield from _write_levels(kept, has_masks=False)


def _see(column):
    """Returns what folders of one depth are, and what may be written."""
    names = sorted({*column})
    ((largest, count),) = collections.Counter(column).most_common(1)
    texts = [write_literal(largest)] if 2 * count >= len(column) else []
    if len(names) == 1:
        return "known", texts
    split_texts = _write_splits(names)
    if len({*split_texts.values()}) == 1 and len(split_texts) == len(names):
        return "splits", [split_texts[largest], *texts]
    if any(map(_find_split, names)):
        return "open", texts
    return "numbered" if _is_numbered(names) else "open", ["{}", *texts]


def _is_numbered(names):
    """Returns whether names differ in numbers rather than in words."""
    rests = {re.sub(r"\d", "", name) for name in names}
    return rests.isdisjoint(names) and 2 * len(rests) <= len(names)


def _write_splits(names):
    """Returns names of splits as they are written in a pattern."""
    by_text = collections.defaultdict[str, list[str]](list)
    for name in names:
        if match := SPLIT.fullmatch(name):
            before, _, after = map(write_literal, match.groups())
            # Archives number their folders, as "a. Training Set".
            before = re.sub(r"^\w(?=[._ -])", "{}", before)
            by_text[f"{before}{{split}}{after}"].append(name)
    texts = {
        name: text
        for text, found in by_text.items()
        if {SPLIT.fullmatch(x)[2].lower() for x in found} > {"train"}
        for name in found
    }
    is_plain = len(name_splits(names)) == len(names) > len(texts)
    return dict.fromkeys(names, "{split}") if is_plain else texts


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
            found.append((is_word, each / count, count, text))
    found.sort(key=lambda x: x[:3], reverse=True)
    return [text for is_word, *_, text in found if is_word == found[0][0]]


def _are_alike(column, other):
    pairs = {*zip(column, other, strict=True)}
    return len(pairs) == len({*column}) == len({*other})


def _write_any_depth(rows):
    """Yields ranks and patterns of folders that are not of one depth."""
    folders = {row[:-1] for row in rows} - {()}
    start = os.path.commonprefix([*folders])
    first = {x[len(start)] for x in folders if x != start}
    last = {x[-1] for x in folders}
    text = "".join(f"{write_literal(name)}/" for name in start)
    if first < last:
        yield 0, f"{text}{{class}}/**"
    elif last < first or len(last) == len(folders):
        if not any(map(_find_split, last)):
            yield 0, f"{text}**/{{class}}/*"


def _write_ending(endings):
    """Returns the ending of all files, as it is written in a pattern."""
    different = {ending.lower() for ending in endings}
    return different.pop() if len(different) == 1 else ".*"


def _find_suffix(names):
    """Returns what all names end with, from a sign on."""
    end = os.path.commonprefix([name[::-1] for name in names])[::-1]
    return re.search(r"([\W_].*)?$", end)[0]


def propose_masks(
    base: pathlib.Path,
    paths: Sequence[Parts],
    masks: Set[Parts],
    read: Callable[[str, str], Mapping[str, str]],
) -> list[str]:
    """Returns lines that read images and masks, each with what it gives.

    `masks` are the paths of masks, empty if no one knows where they are; `read`
    returns the pairs of two patterns, or raises.
    """
    rows = _draw_sample(paths)
    words = [{*find_words("/".join(path))} for path in paths]
    shared = set.intersection(*words) if words else set()
    total = len(paths) - (
        len(masks) or sum(_says_mask(x - shared) for x in words)
    )
    scored = dict[tuple[str, str], tuple[int, ...]]()
    depth = max(map(len, rows), default=1) - 1
    sides = [x for x in rows if x not in masks], [x for x in rows if x in masks]
    for *is_open, has_splits in itertools.product((0, 1), repeat=depth + 1):
        forms = [_count_forms(side, is_open, has_splits) for side in sides]
        of_images, of_masks = forms if masks else (forms[0], forms[0])
        for image, mask in itertools.product(of_images, of_masks):
            count = min(of_images[image], of_masks[mask])
            is_half = 2 * count >= min(of_images[image], total)
            if is_half and (masks or _is_mask_of(mask, image)):
                score = -count, sum(is_open), -has_splits, len(image + mask)
                scored.setdefault((image, mask), score)
    lines, seen = list[str](), list[set]()
    for image, mask in sorted(scored, key=lambda x: scored[x])[:TRIED]:
        # Folders that are no patients may be too few to be kept whole.
        for word in ("{group}", "{}"):
            texts = [x.replace("{group}", word) for x in (image, mask)]
            with contextlib.suppress(ValueError):
                found = {*read(*texts).items()}
                most = min(total, len(paths) - len(found))
                is_seen = not found or any(found <= other for other in seen)
                if not is_seen and 2 * len(found) >= most and len(seen) < SHOWN:
                    seen.append(found)
                    lines.append(
                        f'data="{base}", images="{texts[0]}", masks='
                        f'"{texts[1]}": {len(found):,} of {most:,} images'
                    )
    return lines


def _says_mask(words):
    """Returns whether one of some words says masks."""
    return any(word.startswith(MASKS) for word in words)


def _is_mask_of(mask, image):
    """Returns whether two patterns differ by words that say masks."""
    *places, _ = image.split("/")
    *others, _ = mask.split("/")
    if len(places) == len(others):
        # Other folders are other images.
        names = [x for x, y in zip(others, places, strict=True) if x != y]
        if not all(_says_mask(find_words(name)) for name in names):
            return False
    of_mask, of_image = {*find_words(mask)}, {*find_words(image)}
    more, less = of_mask - of_image, of_image - of_mask
    if "box" in f"{mask} {image}".lower() or not more or _says_mask(less):
        return False
    is_longer = not less and places == others and not _says_mask(of_image)
    return is_longer or _says_mask(more)


def _count_forms(rows, is_open, has_splits):
    """Returns the commonest patterns of files, with their number.

    A level that is open is a group, unless it says splits.
    """
    columns = itertools.zip_longest(*(row[:-1] for row in rows))
    splits = [
        _write_splits({*names} - {None}) if has_splits else {}
        for names in columns
    ]
    files = collections.defaultdict[tuple, list](list)
    for row in rows:
        stem, ending = os.path.splitext(row[-1])
        places = [
            split.get(name, "{group}" if opened else write_literal(name))
            for name, opened, split in zip(row, is_open, splits, strict=False)
        ]
        # Images and masks of one folder differ in their ends.
        end = LAST_WORD.search(stem)
        files[*places[: len(row) - 1], end and end[0]].append((stem, ending))
    forms = collections.Counter[str]()
    for (*places, _), found in files.items():
        stems, endings = zip(*found, strict=True)
        ending = write_literal(_find_suffix(stems)) + _write_ending(endings)
        # Numbers that begin alike are not cut in two.
        prefix = os.path.commonprefix(stems).rstrip(string.digits)
        for start in {"", prefix} if len({*stems}) > 1 else ():
            name = f"{write_literal(start)}{{name}}{ending}"
            forms["/".join([*places, name])] += len(found)
    return dict(forms.most_common(TRIED))
