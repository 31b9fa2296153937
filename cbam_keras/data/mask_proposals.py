"""Patterns of images and masks, tried on the names of files before shown."""

import collections
import contextlib
import itertools
import os
import pathlib
import re
import string
from collections.abc import Mapping, Sequence, Set
from typing import Protocol

from cbam_keras.data import levels
from cbam_keras.data.layouts import (
    find_words,
    is_input,
    name_splits,
    write_literal,
)
from cbam_keras.data.levels import Candidate, find_suffix, write_ending

# What words begin with that say masks.
WORD_OF_MASKS = re.compile(
    "mask|label|gt|anno|seg|ground|truth|manual|trimap|bbox|lesion"
)
LAST_WORD = re.compile(r"[\W_]+[A-Za-z]+\d?$")
# A split at the start of a file's name, e.g. "train_1" and "testA_1".
SPLIT_OF_FILE = re.compile(r"(train|val|test)[A-Z\d]?(?=([_-]))", re.I)
# Patterns must pair one of so many files, and of fewer where nothing else does.
LEAST_FRACTIONS = (4, 20)
# So many pairs of patterns are tried, of which most may pair nothing.
MOST_PAIRS = 60


class PairReader(Protocol):
    """Reads two patterns, with {name} for what an image and its mask share."""

    def __call__(
        self, names: Sequence[str], images: str, masks: str
    ) -> Mapping[str, str]:
        """Returns the mask of each image, or raises ValueError."""


class PairDescriber(Protocol):
    """Reads two patterns whole."""

    def __call__(
        self, names: Sequence[str], images: str, masks: str, may_divide: bool
    ) -> str:
        """Returns what is read, or raises ValueError if it has no splits.

        With `may_divide` the groups may have images in several splits.
        """


def propose_masks(
    base: pathlib.Path,
    names: Sequence[str],
    masks: Set[str],
    read: PairReader,
    describe: PairDescriber,
) -> list[str]:
    """Returns lines that read images and masks, each with what it gives.

    `masks` are the names of masks, empty if no one knows where they are.
    """
    sample = levels.draw_sample(names)
    for fraction in LEAST_FRACTIONS:
        scores = _score_pairs(sample, masks, len(sample) / fraction)
        candidates = list[Candidate]()
        for pair in sorted(scores, key=lambda x: (scores[x], x))[:MOST_PAIRS]:
            candidates += _try_pair(base, sample, pair, scores[pair], read)
            if len(candidates) >= levels.TRIALS:
                break
        lines = _choose_lines(names, candidates, describe)
        if lines:
            return lines
    return []


def _choose_lines(names, candidates, describe):
    """Returns the lines of the best candidates that can be read whole.

    What divides groups is shown where nothing else pairs as many files.
    """
    num_pairs = {x.value: x.num_parts for x in candidates}
    largest = 0

    def describe_whole(texts):
        nonlocal largest
        text = describe(names, *texts, may_divide=False)
        largest = max(largest, num_pairs[texts])
        return text

    def describe_any(texts):
        may_divide = num_pairs[texts] > largest
        return describe(names, *texts, may_divide=may_divide)

    lines = levels.choose(candidates, describe_whole)
    if any(count > largest for count in num_pairs.values()):
        return levels.choose(candidates, describe_any)
    return lines


def _score_pairs(sample, masks, least):
    """Returns pairs of patterns of images and of masks, the lowest score first.

    Both match at least so many files of the sample.
    """
    paths = [tuple(name.split("/")) for name in sample]
    of_images = [x for x in paths if "/".join(x) not in masks]
    of_masks = [x for x in paths if "/".join(x) in masks]
    scores = dict[tuple[str, str], tuple]()
    depth = max((len(path) - 1 for path in paths), default=0)
    for choice in itertools.product((False, True), repeat=depth + 1):
        *is_open, has_splits = choice
        image_forms = _count_forms(of_images, is_open, has_splits)
        mask_forms = image_forms
        if of_masks:
            mask_forms = _count_forms(of_masks, is_open, has_splits)
        for image, mask in itertools.product(image_forms, mask_forms):
            count = min(image_forms[image], mask_forms[mask])
            if count < least:
                continue
            if of_masks or _is_mask_of(mask, image):
                length = len(image) + len(mask)
                # Most files, few open levels, splits where there are some.
                score = (0, -count, sum(is_open), not has_splits, length)
                scores.setdefault((image, mask), score)
    return scores


def _try_pair(base, sample, pair, score, read):
    """Yields the candidates of a pair of patterns that pair some files."""
    # Folders that are no patients may be too few to be kept whole.
    for order, word in enumerate(("{group}", "{}")):
        images, masks = [text.replace("{group}", word) for text in pair]
        text = f'data="{base}", images="{images}", masks="{masks}"'
        with contextlib.suppress(ValueError):
            found = {*read(sample, images, masks).items()}
            if found:
                texts = (images, masks)
                yield Candidate((*score, order), text, found, len(found), texts)


def _says_mask(words):
    """Returns whether one of some words says masks."""
    return any(map(WORD_OF_MASKS.match, words))


def _is_mask_of(mask, image):
    """Returns whether two patterns differ by words that say masks."""
    *image_folders, _ = image.split("/")
    *mask_folders, _ = mask.split("/")
    if len(image_folders) == len(mask_folders):
        # Other folders are other images.
        pairs = zip(mask_folders, image_folders, strict=True)
        different = [x for x, y in pairs if x != y]
        if not all(_says_mask(find_words(name)) for name in different):
            return False
    elif _are_siblings(mask_folders, image_folders):
        return False
    of_mask, of_image = {*find_words(mask)}, {*find_words(image)}
    more, less = of_mask - of_image, of_image - of_mask
    if "box" in f"{mask} {image}".lower() or not more or _says_mask(less):
        return False
    is_in_place = image_folders == mask_folders
    is_longer = not less and is_in_place and not _says_mask(of_image)
    return is_longer or _says_mask(more)


def _are_siblings(mask_folders, image_folders):
    """Returns whether masks are below a folder beside that of the images.

    Such as "Train/Label" for "Test", but not for "images".
    """
    for of_mask, of_image in zip(mask_folders, image_folders, strict=False):
        if of_mask != of_image:
            says_mask = _says_mask(find_words(of_mask))
            return not says_mask and not is_input(of_image)
    return False


def _count_forms(paths, is_open, has_splits):
    """Returns the commonest patterns of files, with how many each matches.

    Args:
        paths: The components of each path.
        is_open: For each depth, whether its folders become `{group}`.
        has_splits: Whether names of splits become `{split}`.
    """
    split_texts = list[dict[str, str]]()
    if has_splits:
        folders = [path[:-1] for path in paths]
        for column in itertools.zip_longest(*folders):
            split_texts.append(levels.write_splits(sorted({*column} - {None})))
    files = collections.defaultdict[tuple, list](list)
    for path in paths:
        places = []
        for depth, name in enumerate(path[:-1]):
            text = "{group}" if is_open[depth] else write_literal(name)
            if has_splits:
                text = split_texts[depth].get(name, text)
            places.append(text)
        stem, ending = os.path.splitext(path[-1])
        # Images and masks of one folder differ in their last words.
        end = LAST_WORD.search(stem)
        files[(*places, end and end[0])].append((stem, ending))
    forms = collections.Counter[str]()
    for (*places, _), parts in files.items():
        stems, endings = zip(*parts, strict=True)
        for text in _write_files(stems, endings, has_splits):
            forms["/".join([*places, text])] += len(parts)
    return dict(forms.most_common(levels.TRIALS))


def _write_files(stems, endings, has_splits):
    """Returns patterns of names of files, with {name} for what differs."""
    ending = write_literal(find_suffix(stems)) + write_ending(endings)
    if len({*stems}) == 1:
        return set()
    prefix = os.path.commonprefix(stems)
    # Numbers that begin alike are not cut in two, but "0001" may be the image
    # of the mask "001".
    starts = {"", prefix.rstrip(string.digits)}
    if prefix.rstrip(string.digits) == prefix.rstrip("0"):
        starts.add(prefix)
    texts = {f"{write_literal(start)}{{name}}{ending}" for start in starts}
    matches = [SPLIT_OF_FILE.match(stem) for stem in stems]
    if has_splits and all(matches):
        words = {match[1].lower() for match in matches}
        signs = {match[2] for match in matches}
        if len(words) > 1 and "train" in words and len(signs) == 1:
            texts = {f"{{split}}{signs.pop()}{{name}}{ending}"}
    return texts


def describe_splits(names: Sequence[str], roles: Mapping) -> str:
    """Returns what becomes of official test images, "" if they are tested."""
    split_of = {name: roles[name].get("split", "train") for name in roles}
    for name, split in split_of.items():
        # "testA" is no plain name of a split, but no training image either.
        split_of[name] = split if name_splits([split]) else "test"
    return levels.describe_held_out(names, split_of)
