"""What reads a folder of classes in several ways, tried before it is shown."""

import collections
import functools
import itertools
import json
import os
import pathlib
import re
import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from cbam_keras import _checks
from cbam_keras.data import layouts, levels
from cbam_keras.data.examples import Dataset
from cbam_keras.data.layouts import name_splits, write_literal
from cbam_keras.data.levels import Candidate, Level, find_split, write_ending
from cbam_keras.data.patterns import make_pattern

SEPARATORS = ("__", "_", "-", " (", ".", " ")
# Numbers of files that are more than so many times as wide as there are files
# are no counts from 0: the same one in two folders is one picture.
SPREAD = 4


# A row of each image: "path", "class", "split", and others.
ClassRows = list[dict[str, str]]


class ClassProposal(NamedTuple):
    """A reading of a folder."""

    # Proposals of the lowest rank are shown.
    rank: int
    # What the user copies: a pattern, a mapping, or code of a data frame.
    text: str
    # Returns a row for each name that is read, as it would be loaded.
    read: Callable[[Iterable[str]], ClassRows]


def propose_classes(
    root: pathlib.Path,
    names: Sequence[str],
    every_name: Sequence[str],
    make_dataset: Callable[[Sequence[Mapping[str, str]]], tuple[Dataset, bool]],
) -> list[str]:
    """Returns lines that read images by class, each with what it gives.

    Args:
        root: The folder.
        names: The paths below it of images that may have a class.
        every_name: Those of all images, also of test images without one.
        make_dataset: Returns the dataset of rows, and whether groups have
            images in several splits; raises ValueError if it cannot be split.
    """
    images, others, has_masks = _divide(names)
    sample = levels.draw_sample(images)
    candidates = []
    for proposal in _write(root, sample, has_masks):
        try:
            rows = proposal.read(sample)
        except ValueError:
            # Its text has several meanings in some path.
            continue
        if rows and not _are_splits(row["class"] for row in rows):
            candidates.append(_judge(proposal, rows, len(sample)))

    def describe(proposal):
        rows = proposal.read(images)
        classes = sorted({row["class"] for row in rows})
        has_classes = len(classes) <= max(2, len(rows) / 3)
        is_half = 2 * len(rows) >= max(1, len(images))
        if not has_classes or not is_half or proposal.read(others):
            raise ValueError("too few images, too many classes, or masks")
        dataset, is_divided = make_dataset(rows)
        text = _describe(rows, classes, every_name, dataset)
        return text + ("; groups in several splits" if is_divided else "")

    return levels.choose(candidates, describe)


def _divide(names):
    """Returns images, other parts, and whether masks are beside images."""
    paths = [tuple(name.split("/")) for name in names]
    parts = layouts.find_parts(paths, by_words=True)
    masks = layouts.find_masks(paths)
    images, others = list[str](), list[str]()
    for name, path in zip(names, paths, strict=True):
        is_part = any(path[:i] in parts for i in range(len(path)))
        if is_part or path in masks:
            others.append(name)
        else:
            images.append(name)
    return images, others, bool(masks)


def _are_splits(classes):
    """Returns whether all classes are names of splits, such as "test"."""
    names = {*classes}
    return len(name_splits(names)) == len(names)


def _judge(proposal, rows, num_sampled):
    """Returns a proposal as a candidate, in its order among others."""
    classes = {row["class"] for row in rows}
    found = {(row["path"], row["class"]) for row in rows}
    count = len({(row["class"], row["split"]) for row in rows})
    # Twentieths of the sample, so that few images decide nothing.
    share = round(20 * len(found) / num_sampled)
    # Subjects and folds are classes if nothing else is, and of two numbered
    # levels, such as patients and grades, the one with fewer names has them.
    num_numbered = len(classes) if levels.are_numbered(classes) else 0
    order = (
        proposal.rank,
        _has_copies(rows),
        levels.are_subjects(classes),
        -share,
        num_numbered,
    )
    return Candidate(order, proposal.text, found, count, proposal)


def _has_copies(rows):
    """Returns whether most pictures are read twice, by their file names.

    Numbers that begin anew in each folder are no copies.
    """
    folders = collections.defaultdict[tuple[str, str], set[str]](set)
    for row in rows:
        folder, _, file = row["path"].rpartition("/")
        folders[row["class"], os.path.splitext(file)[0]].add(folder)
    num_twice = sum(len(places) > 1 for places in folders.values())
    if 2 * num_twice < len(folders):
        return False
    stems = [stem for _, stem in folders]
    start = len(os.path.commonprefix(stems))
    end = len(os.path.commonprefix([stem[::-1] for stem in stems]))
    digits = {re.sub(r"\D", "", x[start : len(x) - end]) for x in stems}
    numbers = [int(text) for text in digits if text]
    if len(numbers) < 2:
        return False
    return max(numbers) - min(numbers) > SPREAD * len(folders)


def _describe(rows, classes, names, dataset):
    """Returns what a reading gives: images, classes, splits, groups."""
    listed = f"{len(classes):,} classes ({_checks.first_few(classes)})"
    text = f"{len(rows):,} images of {listed}"
    splits = ", ".join(dataset.splits)
    if splits != "train":
        text += f" in {splits}"
    for key in ("group", "fold"):
        values = {row.get(key) for row in rows} - {None}
        if values:
            text += f", {len(values):,} {key}s"
    if _has_copies(rows):
        text += "; the same pictures in several folders"
    split_of = {row["path"]: row["split"] for row in rows}
    return text + levels.describe_held_out(names, split_of, classes)


def _read_by_pattern(text, folders, names):
    """Returns rows by a pattern below the folder of each split."""
    pattern = make_pattern(text)
    values_of = dict[str, Any]()

    def match(name):
        for split, folder in folders.items():
            if name.startswith(folder):
                values = pattern.match(name.removeprefix(folder))
                return values and {"split": split, **values}
        return None

    rows = []
    for name in names:
        # All files of a folder are alike where the last part is "*".
        key = name.rpartition("/")[0] if pattern.is_of_folders else name
        if key not in values_of:
            values_of[key] = match(name)
        if values_of[key] is not None:
            rows.append({**values_of[key], "path": name})
    return rows


def _write(root, names, has_masks):
    """Yields what may read images, in each rank the likeliest first."""
    rows = [tuple(name.split("/")) for name in names]
    ranked = dict[str, int]()
    for length in {*map(len, rows)}:
        of_length = [row for row in rows if len(row) == length]
        if 2 * len(of_length) >= len(rows):
            for rank, text in _write_levels(of_length, has_masks):
                ranked.setdefault(text, rank)
        if len(of_length) < len(rows):
            for rank, text in _write_any_depth(rows):
                ranked.setdefault(text, rank)
    yield from _propose_names(root, rows)
    for text, rank in ranked.items():
        read = functools.partial(_read_by_pattern, text, {"train": ""})
        yield ClassProposal(rank, f'pattern="{text}"', read)
    yield from _propose_depths(root, rows)
    folders = _find_folders_of_splits(rows)
    if {"train", "test"} <= {*folders}:
        mapping = {split: str(root / folders[split]) for split in folders}
        text = json.dumps(mapping, ensure_ascii=False)
        read = functools.partial(_read_by_pattern, "{class}/*", folders)
        yield ClassProposal(0, text, read)


def _write_frame(root, rows, *columns):
    """Returns the code of a data frame, by the code of its columns."""
    ending = write_ending(os.path.splitext(row[-1])[1] for row in rows)
    ending = ending.replace(".*", "*")
    values = ", ".join(["x", *(code for _, code in columns)])
    names = ", ".join(_checks.quoted(x) for x in ("image", *dict(columns)))
    return (
        f'pandas.DataFrame([({values}) for x in pathlib.Path("{root}")'
        f'.rglob("*{ending}")], columns=[{names}])'
    )


def _propose_names(root, rows):
    """Yields data frames of classes in names, e.g. "KA.AN1.1", "KA.AN2.2".

    No pattern can tell the class "AN" from the number after it.
    """
    if any(len(row) > 1 for row in rows):
        return
    stems = [os.path.splitext(row[-1])[0] for row in rows]
    for sign in SEPARATORS:
        fields = [stem.split(sign) for stem in stems]
        if len({*map(len, fields)}) > 1:
            continue
        columns = [*zip(*fields, strict=True)]
        for number, column in enumerate(columns):
            if not _have_digits_at_end(column, len(stems)):
                continue
            words = [name.rstrip(string.digits) for name in column]
            part = f'x.stem.split("{sign}")'
            code = f'{part}[{number}].rstrip("{string.digits}")'
            pairs = [("label", code)]
            group = _find_group(columns, number, words)
            if group is not None:
                pairs.append(("group", f"{part}[{group}]"))
            text = _write_frame(root, rows, *pairs)
            read = functools.partial(_read_by_fields, sign, number, group)
            yield ClassProposal(2, text, read)


def _propose_depths(root, rows):
    """Yields a data frame of classes such as "bakery" and "flat/outdoor"."""
    folders = {row[:-1] for row in rows}
    is_inside = any(x == y[: len(x)] for x in folders for y in folders - {x})
    has_splits = any(find_split(name) for folder in folders for name in folder)
    depths = collections.defaultdict[str, set[int]](set)
    for folder in folders - {()}:
        depths[folder[-1]].add(len(folder))
    # The class "daisy" at two depths is one, of two copies of a dataset.
    is_twice = any(len(each) > 1 for each in depths.values())
    is_flat = len({*map(len, folders)}) == 1
    if not (is_flat or is_inside or has_splits or is_twice):
        code = f'x.parent.relative_to("{root}").as_posix()'
        text = _write_frame(root, rows, ("label", code))
        yield ClassProposal(0, text, _read_by_folder)


def _read_by_folder(names):
    """Returns rows whose class is the whole path of the folder."""
    return [
        {"path": name, "split": "train", "class": name.rpartition("/")[0]}
        for name in names
    ]


def _read_by_fields(sign, number, group, names):
    """Returns rows whose class is a part of the name, without its number."""
    rows = []
    for name in names:
        fields = os.path.splitext(name)[0].split(sign)
        row = {"path": name, "split": "train"}
        row["class"] = fields[number].rstrip(string.digits)
        if group is not None:
            row["group"] = fields[group]
        rows.append(row)
    return rows


def _have_digits_at_end(column, num_files):
    """Returns whether names are few words, each with several numbers."""
    numbers = collections.defaultdict[str, set[str]](set)
    for name in column:
        numbers[name.rstrip(string.digits)].add(name)
    has_several = all(len(names) > 1 for names in numbers.values())
    is_few = 1 < len(numbers) <= num_files / 3
    return has_several and is_few and "" not in numbers


def _find_group(columns, number, words):
    """Returns the number of the field that has each class for each value."""
    for other, column in enumerate(columns):
        num_values = len({*column})
        pairs = {*zip(column, words, strict=True)}
        is_even = len(pairs) == num_values * len({*words})
        if other != number and num_values > 2 and is_even:
            return other
    return None


def _find_folders_of_splits(rows):
    """Returns the folder of each split that a word of a folder's name says."""
    folders = dict[str, str]()
    num_classes = collections.Counter(
        x[:-1] for x in {row[:-1] for row in rows}
    )
    # "TEST" comes before "TEST_SIMPLE".
    for folder in sorted(num_classes, key=lambda x: len("/".join(x))):
        splits = [*filter(None, map(find_split, folder)), "train"]
        if folder and num_classes[folder] > 1:
            folders.setdefault(splits[0], "/".join([*folder, ""]))
    if "test" not in folders and "validation" in folders:
        # What authors hold out is tested on.
        folders["test"] = folders.pop("validation")
    return folders


class ClassPlace(NamedTuple):
    """Where a pattern has {class}."""

    rank: int
    # The number of the level of folders; that of files is the last one.
    level: int
    # What is written at this level, and as the name of files.
    text: str
    file: str


def _write_levels(rows, has_masks):
    """Yields ranks and patterns of paths of one length."""
    *columns, files = zip(*rows, strict=True)
    described = [levels.describe_level(column) for column in columns]
    stems, endings = zip(*map(os.path.splitext, files), strict=True)
    ending = write_ending(endings)
    file = "*"
    if has_masks:
        file = f"*{write_literal(levels.find_suffix(stems))}{ending}"
    numbered = _find_levels(described, levels.NUMBERED_LEVEL)
    # The level with the most names is that of patients, videos and so on.
    owner = max(numbered, key=lambda i: len({*columns[i]}), default=None)
    places = _find_classes_in_folders(columns, described, file)
    has_words = bool(_find_levels(described, levels.WORD_LEVEL))
    file_texts = []
    if not has_words:
        owners = None if owner is None else columns[owner]
        file_texts = _write_names(stems, owners)
        is_of_subjects = owners is not None and levels.are_subjects({*owners})
        rank = 1 if is_of_subjects else 2
        for text in file_texts:
            places.append(ClassPlace(rank, len(described), "", text + ending))
    of_splits = _find_levels(described, levels.SPLIT_LEVEL)
    owner_texts = []
    # Owners whose images are split on purpose, e.g. hospitals, are no groups.
    if owner is not None and not any(i > owner for i in of_splits):
        owner_texts = _write_owners(columns, owner)
    for place in places:
        options = []
        for i, level in enumerate(described):
            texts = level.texts
            if i == place.level:
                texts = [place.text]
            elif i > place.level:
                # Part of the folders of a class is no other dataset.
                texts = texts[:1]
            if i == owner and i != place.level:
                texts = [*owner_texts, *texts]
            options.append(texts)
        for parts in itertools.product(*options):
            yield place.rank, "/".join([*parts, place.file])
    if has_words or file_texts:
        return
    for i, level in enumerate(described):
        # Only training images have a class.
        of_split = [row for row in rows if row[i] in level.texts]
        if level.kind == levels.SPLIT_LEVEL and of_split:
            yield from _write_levels(of_split, has_masks=False)


def _find_levels(described: Sequence[Level], kind: str) -> list[int]:
    return [i for i, level in enumerate(described) if level.kind == kind]


def _find_classes_in_folders(columns, described, file):
    """Returns the places of classes in names of folders, likeliest first."""
    words = _find_levels(described, levels.WORD_LEVEL)
    numbered = _find_levels(described, levels.NUMBERED_LEVEL)
    places = []
    for i in words:
        text = _write_rest(columns, i) or "{class}"
        places.append(ClassPlace(0, i, text, file))
    for i in numbered:
        for field, text in _find_fields(columns[i]):
            is_field = 1 < len({*field}) < len({*columns[i]})
            is_of_words = any(_are_alike(field, columns[j]) for j in words)
            if is_field and not levels.are_numbered({*field}) | is_of_words:
                places.append(ClassPlace(0, i, text, file))
    # Folders of files are classes rather than those above them.
    last = len(columns) - 1
    places = [place for place in places if place.level == last] or places
    for i in numbered:
        places.append(ClassPlace(1, i, "{class}", file))
    return places


def _write_rest(columns, level):
    """Returns a text with {class} beside the name of a folder above, or "".

    "D/CD, D/UD, P/CP" has two classes, not three.
    """
    names = columns[level]
    for above in columns[:level]:
        for sign in ("", *SEPARATORS):
            ends = [sign + name for name in above]
            if _have_rests(names, above, map(str.removesuffix, names, ends)):
                return f"{{class}}{sign}{{}}"
            starts = [name + sign for name in above]
            if _have_rests(names, above, map(str.removeprefix, names, starts)):
                return f"{{}}{sign}{{class}}"
    return ""


def _have_rests(names, above, rests):
    """Returns whether names have rests beside those of the folders above.

    Each rest must be below several folders, or it is no class of its own.
    """
    parents = collections.defaultdict[str, set[str]](set)
    for name, parent, rest in zip(names, above, rests, strict=True):
        if rest in ("", name):
            return False
        parents[rest].add(parent)
    return len(parents) > 1 and all(len(x) > 1 for x in parents.values())


def _write_owners(columns, level):
    """Returns what keeps the images of one owner together, coarser first."""
    column = columns[level]
    if levels.are_folds({*column}):
        return ["{fold}"]
    texts = ["{group}"]
    places = [*zip(*columns[:level], strict=True)] or [()] * len(column)
    num_names = len({*zip(places, column, strict=True)})
    # Clips "v_Apply_g01_c01", "v_Apply_g01_c02" are of one video.
    for field, text in _find_fields(column):
        num_fields = len({*zip(places, field, strict=True)})
        is_coarser = len({*field}) > 2 and 2 * num_fields <= num_names
        if is_coarser and levels.are_numbered({*field}):
            texts.insert(0, text.replace("{class}", "{group}"))
            break
    return texts


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
    fields = []
    for field, text in _find_fields(stems):
        count = len({*field})
        is_one = owners is not None and _are_alike(field, owners)
        has_classes = 1 < count <= max(2, len(stems) / 3)
        # "AN1" and "AN2" are of one class, which a data frame can say.
        if owners is None and _have_digits_at_end(field, len(stems)):
            continue
        if has_classes and not is_one and not _are_splits(field):
            pairs = {*zip(field, owners or field, strict=True)}
            is_word = any(re.search("[A-Za-z]{2}", x) for x in field)
            # Classes that each owner has are likelier than what few have.
            fields.append((is_word, len(pairs) / count, count, text))
    fields.sort(key=lambda x: x[:3], reverse=True)
    return [x[-1] for x in fields if x[0] == fields[0][0]]


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
        if not any(map(find_split, last)):
            yield 0, f"{text}**/{{class}}/*"
