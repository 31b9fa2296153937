"""Folders of images and of masks, paired by the names of files."""

import collections
import dataclasses
import itertools
import os
import pathlib
import re

import numpy as np

from cbam_keras import _checks
from cbam_keras.data.decoding import ENDINGS
from cbam_keras.data.examples import READERS, Dataset, describe_counts
from cbam_keras.data.folders import (
    FILLER,
    PARTS,
    describe_missing,
    find_ending,
    find_groups,
    find_image_files,
    find_visible,
    finish,
    make_examples,
    name_splits,
)
from cbam_keras.data.splits import SPLITS

# What names of masks, and of images beside them, end or begin with.
MASK = (
    r"(masks?|labels?|labell?ed|annot(ation)?s?|seg(mentation)?s?|gt|gtfine|"
    r"ground_?truth|target|trimap|label(train)?ids|matte|l)"
)
IMAGE = r"(images?|imgs?|leftimg8bit|sat|photo|rgb|raw)"
# Words for masks in names of folders, as "trainannot" and "SegmentationClass".
FOLDER = re.compile(
    r"annot(ation)?s?|labels?|masks?|gts?|groundtruth|segmentation(class)?|"
    r"targets?|trimaps?|jpeg",
    re.I,
)


def from_pairs(
    images: str | os.PathLike,
    masks: str | os.PathLike | None,
    group_by_folder: bool,
    group_by: str | None,
    pair_by: str | None = None,
) -> Dataset:
    """Returns the images of a folder, and their masks, as paths.

    Both may be in one folder, which is entered for masks where folders or the
    ends of names say which these are.
    """
    roots = [pathlib.Path(x or images).expanduser() for x in (images, masks)]
    for name, root in zip(("images", "masks"), roots, strict=True):
        if not root.is_dir():
            raise ValueError(
                f"`{name}` must be a folder of images that exists. Received: "
                f'{name}="{root}", {describe_missing(root)}'
            )
    if roots[1].resolve().is_relative_to(roots[0].resolve()):
        # One may be given by its absolute path.
        below = roots[1].resolve().relative_to(roots[0].resolve())
        roots[1] = roots[0] / below
    root, of_masks = roots
    files = [find_image_files(x, "**/*") for x in roots]
    visible = [x for y in dict.fromkeys(roots) for x in find_visible(y, "**/*")]
    counts = collections.Counter(find_ending(path.name) for path in visible)
    endings = {x: counts[x] for x in counts if x not in ENDINGS}
    readable = {x: endings[x] for x in READERS if x in endings}
    left_out = collections.Counter(readable)
    if root == of_masks:
        files[1] = [x for x in files[0] if _is_mask(x.relative_to(root))]
        # "1_l" beside "1_l_mask" is an image.
        full = {(x.parent, y) for x in files[1] for y in _strip(x.stem)[1:]}
        files[1] = [
            x for x in files[1] if (x.parent, x.stem.lower()) not in full
        ]
        named_masks = {*files[1]}
        files[0] = [x for x in files[0] if x not in named_masks]
    elif root in of_masks.parents:
        files[0] = [x for x in files[0] if of_masks not in x.parents]
    pairs, alone = _pair(files, roots, pair_by)
    for what, rest in zip(("a mask", "an image"), alone, strict=True):
        left_out[f"without {what}"] += len(rest)
    if not pairs:
        firsts = [_checks.first_few(x and x[:1]) or "none" for x in files]
        others = f", beside {describe_counts(endings)} files" if endings else ""
        raise ValueError(
            "Each image must have a mask of the same name, as 1.jpg and "
            "1_mask.png, or in whose name `pair_by` finds the same, or a row "
            "in a table of two columns. Received: "
            f"{len(files[0]):,} images, as {firsts[0]}, and {len(files[1]):,} "
            f"masks, as {firsts[1]}, none of them alike{others}. Join several "
            "masks of an image, draw polygons, and save others as PNG"
        )
    missing = [str(each) for paths in alone for each in paths]
    if missing:
        _checks.warn(
            f"{_checks.count(len(alone[0]), 'image')} without a mask and "
            f"{_checks.count(len(alone[1]), 'mask')} without an image are left "
            f"out: {_checks.first_few(missing)}"
        )
    names = {path: _parts(path.relative_to(root))[:-1] for path in pairs}
    # All may be in one folder more, as archives have it.
    while all(names.values()) and len({x[0] for x in names.values()}) == 1:
        names = {path: parts[1:] for path, parts in names.items()}
    split_of = name_splits({x[0] for x in names.values() if x})
    if "train" not in split_of.values():
        split_of = {}
    of_path = {
        path: split_of.get("".join(parts[:1])) if split_of else "train"
        for path, parts in names.items()
    }
    left_out["in no split"] = [*of_path.values()].count(None)
    splits = {}
    for split in (x for x in SPLITS if x in of_path.values()):
        paths = [path for path in names if of_path[path] == split]
        within = [names[x][bool(split_of) :][:1] for x in paths]
        groups = [*map(str, paths)]
        if group_by is not None:
            relative = [x.relative_to(root).as_posix() for x in paths]
            groups = find_groups(group_by, relative)
        elif group_by_folder and len({*within}) > 1:
            groups = [
                "/".join(x or [y]) for x, y in zip(within, groups, strict=True)
            ]
        examples = make_examples(
            [*map(str, paths)], [0] * len(paths), groups, group_by is None
        )
        files_of_masks = np.array([str(pairs[x]) for x in paths], object)
        splits[split] = dataclasses.replace(examples, masks=files_of_masks)
    return finish(splits, (), +left_out, root, group_by)


def _is_mask(path):
    """Returns whether folders or the end of a name say that it is a mask."""
    words = [FILLER.sub("", x.lower()) for x in path.parts[:-1]]
    if any(PARTS.fullmatch(x) for x in words if x):
        return True
    return len(_strip(path.stem)) > 1


def _strip(stem, words=MASK):
    """Returns a name, then without words at its ends, one word fewer each."""
    names, marks = [stem.lower()], "$^"
    while True:
        ends = marks, rf"[\W_]{words}([\W_]*\d)?$", rf"^{words}[\W_]"
        shorter = (re.sub(end, "", names[-1]) for end in ends)
        name = next((x for x in shorter if x != names[-1]), None)
        if name is None:
            return names
        names.append(name)
        # Marks belong to a word or, as in "1 (1)_mask", to the name; "l" is a
        # word at the very end alone.
        words, marks = words.replace("|l)", ")"), r"^[\W_]+|[\W_]+$"


def _parts(path):
    """Returns the folders of a file that tell it from others, and its stem."""
    parts = [FOLDER.sub("", FILLER.sub("", x.lower())) for x in path.parts[:-1]]
    return (*filter(None, parts), path.stem.lower())


def _pair(files, roots, pair_by):
    """Returns the mask of each image that has one, and the files alone.

    Names must be the same, or else so without words for masks and images;
    folders too, unless no pair is found with them, and splits in any case.
    """
    folders, names = {}, {}
    for paths, root, words in zip(files, roots, (IMAGE, MASK), strict=True):
        folders |= {x: _parts(x.relative_to(root))[:-1] for x in paths}
        names |= {path: _strip(path.stem, words) for path in paths}
        if pair_by is not None:
            texts = [path.relative_to(root).as_posix() for path in paths]
            found = find_groups(pair_by, texts, "pair_by")
            names |= {x: [text] for x, text in zip(paths, found, strict=True)}
    split_of = name_splits({x for each in folders.values() for x in each})
    splits = {
        path: tuple(split_of[x] for x in each if x in split_of)
        for path, each in folders.items()
    }
    # Masks of all splits may lie in one folder.
    is_split = "train" in split_of.values()
    if not is_split or not all(any(map(splits.get, x)) for x in files):
        splits = {}
    pairs = {} if pair_by else _pair_by(files, names, folders)
    pairs = pairs or _pair_by(files, names, splits)
    used = {*pairs, *pairs.values()}
    return pairs, [[x for x in paths if x not in used] for paths in files]


def _pair_by(files, names, keys):
    """Returns pairs of the same keys and names, these as whole as possible."""
    pairs: dict[pathlib.Path, pathlib.Path] = {}
    for steps in itertools.product(range(5), repeat=2):
        used = {*pairs, *pairs.values()}
        found = collections.defaultdict[object, tuple](lambda: ([], []))
        for side, paths in enumerate(files):
            for path in (x for x in paths if x not in used):
                *_, name = names[path][: steps[side] + 1]
                found[keys.get(path), name][side].append(path)
        for images, masks in found.values():
            if len(images) > 1 <= len(masks) or len(masks) > 1 <= len(images):
                both = _checks.first_few([*map(str, images + masks)])
                raise ValueError(
                    "Each image must have one mask, found by its name. "
                    f"Received: {len(images)} images and {len(masks)} "
                    f"masks of one name: {both}. Rename or join them, or pass "
                    "`pair_by`, or a table with a column of images and one of "
                    "masks"
                )
            pairs |= zip(images, masks, strict=False)
    return {path: pairs[path] for path in files[0] if path in pairs}
