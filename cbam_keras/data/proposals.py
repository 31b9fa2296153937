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
from typing import Any, NamedTuple

import numpy as np

from cbam_keras import _checks
from cbam_keras.data import layouts
from cbam_keras.data.examples import Dataset
from cbam_keras.data.layouts import find_words, name_splits, write_literal
from cbam_keras.data.patterns import make_pattern

# How many names are looked at to choose, how many proposals are then tried,
# and how many of these are read whole and shown.
SAMPLED, TRIALS, SHOWN = 2000, 12, 4
# Folders of one word and a number that are seldom classes.
SUBJECT = re.compile(
    r"(fold|split|part|subject|patient|actor|speaker|user|session|site|batch"
    r"|run|s)[\W_]*\d+",
    re.I,
)
SEPARATORS = ("__", "_", "-", " (", ".", " ")
# What words begin with that say masks.
WORD_OF_MASKS = re.compile(
    "mask|label|gt|anno|seg|ground|truth|manual|trimap|bbox|lesion"
)
LAST_WORD = re.compile(r"[\W_]+[A-Za-z]+\d?$")
# What is left of the name of a file without these is its number.
NOT_DIGITS = str.maketrans("", "", string.ascii_letters + string.punctuation)


class Proposal(NamedTuple):
    """A pattern, or folders of classes by split, with a slash at the end."""

    # Proposals of the lowest rank are shown.
    rank: int
    text: str
    pattern: str
    folders: Mapping[str, str]


def are_subjects(names: Iterable[str]) -> bool:
    """Returns whether names are a word and a number, e.g. "patient_1"."""
    matches = [SUBJECT.fullmatch(name) for name in names]
    words = {match[1].lower() if match else "" for match in matches}
    return len(matches) > 1 and len(words) == 1 and "" not in words


def propose_classes(
    root: pathlib.Path,
    names: Sequence[str],
    make_dataset: Callable[[Sequence[Mapping[str, str]]], Dataset],
) -> list[str]:
    """Returns lines that read images by class, each with what it gives."""
    paths = [tuple(name.split("/")) for name in names]
    parts = layouts.find_parts(paths, by_words=True)
    masks = layouts.find_masks(paths)
    images, others = list[str](), list[str]()
    for name, path in zip(names, paths, strict=True):
        is_part = any(path[:i] in parts for i in range(len(path)))
        (others if is_part or path in masks else images).append(name)
    few = _draw_sample(images)
    rows = [tuple(name.split("/")) for name in few]
    candidates = []
    for proposal in _write(root, rows, bool(masks)):
        read = _read(proposal, few)
        found = {(x["path"], x["class"]) for x in read}
        count = len({(x["class"], x["split"]) for x in read})
        order = proposal.rank, round(20 - 20 * len(found) / len(few))
        each = order, proposal.text, found, count, proposal
        candidates.append(each)
    candidates.sort(key=lambda x: x[0])

    def describe(proposal):
        found = _read(proposal, images)
        classes = sorted({row["class"] for row in found})
        has_classes = len(classes) <= max(2, len(found) / 3)
        is_half = 2 * len(found) >= max(1, len(images))
        if not has_classes or not is_half or _read(proposal, others):
            raise ValueError("too few images, too many classes, or masks")
        names = ", ".join(make_dataset(found).splits)
        listed = f"{len(classes):,} classes ({_checks.first_few(classes)})"
        text = f"{len(found):,} images of {listed} in {names}"
        groups = {row.get("group") for row in found} - {None}
        text = text.removesuffix(" in train")
        return text + (f", {len(groups):,} groups" if groups else "")

    return _choose(candidates[:TRIALS], describe)


def _choose(candidates, describe):
    """Returns lines of candidates of the lowest rank that can be read.

    Each has its order, its text, what it finds in a sample, in how many classes
    and splits, and what `describe` reads whole, which raises if it cannot.
    """
    lines, seen, lowest = dict[str, str](), list[tuple[Set, int]](), 0
    for (rank, *_), text, found, count, value in candidates:
        if len(lines) == SHOWN or (lines and rank > lowest):
            break
        # A part with less splits or classes is not shown.
        if not any(
            found <= more and (count < most or found == more)
            for more, most in seen
        ):
            with contextlib.suppress(ValueError):
                lines[text], lowest = describe(value), rank
                seen.append((found, count))
    width = max(map(len, lines), default=0)
    return [f"{text:{width}}  {lines[text]}" for text in lines]


def _draw_sample(names):
    """Returns runs of names, those of one number beside each other."""
    if len(names) <= SAMPLED:
        return names
    ends = {x: x.rpartition("/")[2] for x in names}
    order = sorted(names, key=lambda x: (ends[x].translate(NOT_DIGITS), x))
    starts = np.linspace(0, len(names) - 100, SAMPLED // 100).astype(int)
    return [name for start in starts for name in order[start : start + 100]]


def _read(proposal: Proposal, names: Iterable[str]) -> list[dict[str, str]]:
    """Returns a row for each file that is read, as it would be loaded."""
    pattern = make_pattern(proposal.pattern)
    known = dict[str, Any]()

    def read(name):
        for split, folder in proposal.folders.items():
            if name.startswith(folder):
                values = pattern.match(name.removeprefix(folder))
                return values and {"split": split, **values}
        return None

    rows = []
    for name in names:
        # All files of a folder are alike where the last part is "*".
        key = name.rpartition("/")[0] if pattern.is_of_folders else name
        if key not in known:
            known[key] = read(name)
        if known[key] is not None:
            rows.append({**known[key], "path": name})
    return rows


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
        yield Proposal(rank, f'pattern="{text}"', text, {"train": ""})
    folders = dict[str, str]()
    places = collections.Counter(x[:-1] for x in {row[:-1] for row in rows})
    # "TEST" comes before "TEST_SIMPLE".
    for folder in sorted(places, key=lambda x: len("/".join(x))):
        splits = [*filter(None, map(_find_split, folder)), "train"]
        if folder and places[folder] > 1:
            folders.setdefault(splits[0], "/".join([*folder, ""]))
    if "test" not in folders and "validation" in folders:
        # What authors hold out is tested on.
        folders["test"] = folders.pop("validation")
    if {"train", "test"} <= {*folders}:
        given = {x: str(root / folders[x]) for x in folders}
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
        if match := layouts.SPLIT.fullmatch(name):
            before, _, after = map(write_literal, match.groups())
            # Archives number their folders, e.g. "a. Training Set".
            before = re.sub(r"^\w(?=[._ -])", "{}", before)
            by_text[f"{before}{{split}}{after}"].append(name)
    texts = {
        name: text
        for text, found in by_text.items()
        if {layouts.SPLIT.fullmatch(x)[2].lower() for x in found} > {"train"}
        for name in found
    }
    is_plain = len(name_splits(names)) == len(names) > len(texts)
    return dict.fromkeys(names, "{split}") if is_plain else texts


def _find_split(name):
    """Returns the split that a word of a name says, if any."""
    return next(iter(name_splits(find_words(name)).values()), "")


def _find_fields(names):
    """Yields parts of all names, each with {class} in its place."""
    for sign in SEPARATORS:
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
    names: Sequence[str],
    masks: Set[str],
    read: Callable[..., Mapping[str, str]],
) -> list[str]:
    """Returns lines that read images and masks, each with what it gives.

    `masks` are the names of masks, empty if no one knows where they are; `read`
    returns the pairs of two patterns among names, or raises.
    """
    few = _draw_sample(names)
    sides = (
        [tuple(x.split("/")) for x in few if x not in masks],
        [tuple(x.split("/")) for x in few if x in masks],
    )
    scored = dict[tuple[str, str], tuple[int, ...]]()
    depth = max((x.count("/") for x in few), default=0)
    for *is_open, has_splits in itertools.product((0, 1), repeat=depth + 1):
        of_images, *others = [
            _count_forms(side, is_open, has_splits) for side in sides if side
        ]
        of_masks = others[0] if masks else of_images
        for image, mask in itertools.product(of_images, of_masks):
            count = min(of_images[image], of_masks[mask])
            # People who have other files, too, have more images.
            is_half = 4 * count >= len(few)
            if is_half and (masks or _is_mask_of(mask, image)):
                score = 0, -count, sum(is_open), -has_splits, len(image + mask)
                scored.setdefault((image, mask), score)
    candidates = []
    for pair in sorted(scored, key=lambda x: scored[x])[:TRIALS]:
        # Folders that are no patients may be too few to be kept whole.
        for word in ("{group}", "{}"):
            texts = [text.replace("{group}", word) for text in pair]
            line = 'data="{}", images="{}", masks="{}"'.format(base, *texts)
            with contextlib.suppress(ValueError):
                found = {*read(few, *texts).items()}
                each = scored[pair], line, found, len(found), texts
                candidates.append(each)

    def describe(texts):
        pairs = read(names, *texts, is_whole=True)
        return f"{len(pairs):,} images with masks, of {len(names):,} files"

    return _choose(candidates, describe)


def _says_mask(words):
    """Returns whether one of some words says masks."""
    return any(map(WORD_OF_MASKS.match, words))


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
    """Returns the commonest patterns of files, open levels as groups."""
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
    return dict(forms.most_common(TRIALS))
