"""Folders of images and of masks, paired by the names of files."""

import collections
import dataclasses
import os
import pathlib
import re

import numpy as np

from cbam_keras import _checks
from cbam_keras.data.decoding import keep_readable
from cbam_keras.data.examples import READERS, Dataset, digest
from cbam_keras.data.folders import (
    FILLER,
    PARTS,
    find_ending,
    find_groups,
    find_image_files,
    find_visible,
    make_examples,
    name_splits,
)
from cbam_keras.data.splits import SPLITS
from cbam_keras.data.tfds import describe_missing

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
) -> Dataset:
    """Returns the images of a folder, and their masks, as paths.

    Both may be in one folder, which is entered for masks where folders or the
    ends of names say which these are.
    """
    roots = [pathlib.Path(x or images).expanduser() for x in (images, masks)]
    for name, root in zip(("images", "masks"), roots, strict=True):
        if not root.is_dir():
            raise ValueError(
                f"`{name}` must be a folder that exists. Received: "
                f'{name}="{root}", {describe_missing(root)}'
            )
    if roots[1].resolve().is_relative_to(roots[0].resolve()):
        # One may be given by its absolute path.
        below = roots[1].resolve().relative_to(roots[0].resolve())
        roots[1] = roots[0] / below
    root, of_masks = roots
    files = [find_image_files(x, "**/*") for x in roots]
    left_out = collections.Counter(
        ending
        for path in find_visible(root, "**/*")
        if (ending := find_ending(path.name)) in READERS
    )
    if root == of_masks:
        files[1] = [x for x in files[0] if _is_mask(x.relative_to(root))]
        named_masks = {*files[1]}
        files[0] = [x for x in files[0] if x not in named_masks]
    elif root in of_masks.parents:
        files[0] = [x for x in files[0] if of_masks not in x.parents]
    pairs, alone = _pair(*files, *roots)
    for what, rest in zip(("a mask", "an image"), alone, strict=True):
        left_out[f"without {what}"] += len(rest)
    if not pairs:
        firsts = [_checks.first_few(x and x[:1]) or "none" for x in files]
        raise ValueError(
            "Each image must have a mask of the same name, as 1.jpg and "
            "1_mask.png, or a row in a table of two columns. Received: "
            f"{len(files[0]):,} images, as {firsts[0]}, and {len(files[1]):,} "
            f"masks, as {firsts[1]}, none of them alike"
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
    by_split = collections.defaultdict[str, list[pathlib.Path]](list)
    for path, parts in names.items():
        split = split_of.get(
            parts[0] if parts else "", None if split_of else "train"
        )
        if split is None:
            left_out["in no split"] += 1
        else:
            by_split[split].append(path)
    splits = {}
    for split in (x for x in SPLITS if x in by_split):
        paths = by_split[split]
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
    return keep_readable(
        Dataset(
            splits=splits,
            class_names=(),
            fingerprint=digest(group_by) if group_by is not None else "",
            left_out=+left_out,
            root=root,
            grouped_by="" if group_by is None else "group_by",
        )
    )


def _is_mask(path):
    """Returns whether folders or the end of a name say that it is a mask."""
    words = [FILLER.sub("", x.lower()) for x in path.parts[:-1]]
    if any(PARTS.fullmatch(x) for x in words if x):
        return True
    return _strip(path.stem, MASK) != path.stem.lower()


def _strip(stem, words):
    """Returns a name without words at its ends, as of masks."""
    stem = before = stem.lower()
    while True:
        stem = re.sub(rf"[\W_]+{words}([\W_]*\d)?$|^{words}[\W_]+", "", stem)
        if stem == before:
            return stem
        before = stem


def _parts(path):
    """Returns the folders of a file that tell it from others, and its stem."""
    parts = [FOLDER.sub("", FILLER.sub("", x.lower())) for x in path.parts[:-1]]
    return (*filter(None, parts), path.stem.lower())


def _pair(images, masks, image_root, mask_root):
    """Returns the mask of each image that has one, and the files alone.

    Names must be the same, or else so without words for masks and images;
    folders too, unless no pair is found with them.
    """
    for with_folders in (True, False):
        pairs = _pair_by(images, masks, image_root, mask_root, with_folders)
        if pairs:
            break
    used = {*pairs.values()}
    return pairs, (
        [x for x in images if x not in pairs],
        [x for x in masks if x not in used],
    )


def _pair_by(images, masks, image_root, mask_root, with_folders):
    def key(path, root, *words):
        *folders, stem = _parts(path.relative_to(root))
        for word in words:
            stem = _strip(stem, word)
        return (*folders, stem) if with_folders else stem

    pairs: dict[pathlib.Path, pathlib.Path] = {}
    for of_images, of_masks in (((), ()), ((), (MASK,)), ((IMAGE,), (MASK,))):
        left = [x for x in images if x not in pairs]
        taken = {*pairs.values()}
        masks_by_key = collections.defaultdict[object, list](list)
        for path in masks:
            if path not in taken:
                masks_by_key[key(path, mask_root, *of_masks)].append(path)
        images_by_key = collections.defaultdict[object, list](list)
        for path in left:
            images_by_key[key(path, image_root, *of_images)].append(path)
        for name, paths in images_by_key.items():
            candidates = masks_by_key.get(name, [])
            if not candidates:
                continue
            if len(paths) > 1 or len(candidates) > 1:
                both = _checks.first_few([*map(str, paths + candidates)])
                raise ValueError(
                    "Each image must have one mask, found by its name. "
                    f"Received: {len(paths)} images and {len(candidates)} "
                    f"masks of one name: {both}. Rename or join them, or pass "
                    "a table with a column of images and one of masks"
                )
            pairs[paths[0]] = candidates[0]
    return {path: pairs[path] for path in images if path in pairs}
