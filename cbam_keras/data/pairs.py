"""Folders of images and of masks, paired by names or by patterns."""

import collections
import itertools
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cbam_keras import _checks
from cbam_keras.data.decoding import keep_readable
from cbam_keras.data.examples import Dataset, describe_counts
from cbam_keras.data.folders import (
    enter_folder,
    find_image_files,
    find_root,
    make_dataset,
)
from cbam_keras.data.layouts import LayoutError, name_splits
from cbam_keras.data.patterns import Pattern, normalize
from cbam_keras.data.proposals import propose_masks
from cbam_keras.data.splits import check_splits

# What names may mean in the patterns of images and of masks.
NAMES = ("name", "split", "group")
# The values of the names in each path.
Named = Mapping[str, Mapping[str, str]]


def from_pairs(
    data: str | os.PathLike, masks: str | os.PathLike | None, images: str | None
) -> Dataset:
    """Returns images below a folder, and their masks, as paths.

    `images` and `masks` are patterns below it, or `masks` is another folder.
    """
    root = folder = find_root(data)
    files = find_image_files(root)
    patterns = [] if images is None else make_patterns(images, masks)
    if patterns:
        named = _match(root, files, patterns)
    else:
        folder = find_root(masks or data, "masks")
        files = [x for x in files if folder not in x.parents]
        files_of_masks = find_image_files(folder)
        named = _name(root, files), _name(folder, files_of_masks)
        files += files_of_masks
    pairs, alone = _pair(*named)
    if not pairs:
        found = [
            f'{len(each):,} files by {pattern.argument}="{pattern.text}"'
            for pattern, each in zip(patterns, named, strict=False)
        ]
        _refuse(root, folder, files, found or [f'masks="{folder}"'])
    left_out = +collections.Counter(
        {
            "without a mask": len(alone[0]),
            "without an image": len(alone[1]),
            "in neither pattern": len(files) - sum(map(len, named)),
        }
    )
    if left_out:
        names = _checks.first_few([*itertools.chain(*alone)])
        _checks.warn(
            f"Images or masks are left out: {describe_counts(left_out)}"
            + (f", as {names}" if any(alone) else "")
        )
    texts = [pattern.text for pattern in patterns]
    dataset = _make_dataset(named[0], pairs, left_out, root, *texts)
    return keep_readable(dataset)


def make_patterns(images: object, masks: object) -> list[Pattern]:
    """Returns the patterns of images and of masks."""
    texts: dict[str, Any] = {"images": images, "masks": masks}
    return [Pattern(texts[x], NAMES, "name", x) for x in texts]


def _match(
    root: pathlib.Path, files: Iterable[pathlib.Path], patterns: list[Pattern]
) -> tuple[Named, Named]:
    """Returns the values of names in the paths of images and of masks."""
    named = dict[str, dict[str, str]](), dict[str, dict[str, str]]()
    # "1_mask.png" is also a {name}.png: the longer text decides.
    order = sorted((0, 1), key=lambda side: -patterns[side].num_letters)
    for file in files:
        for side in order:
            values = patterns[side].match(file.relative_to(root).as_posix())
            if values is not None:
                named[side][str(file)] = values
                break
    return named


def _name(folder: pathlib.Path, files: Sequence[pathlib.Path]) -> Named:
    """Returns what paths mean, none if they are not plain.

    All are in the folder, or in folders of splits.
    """
    folder = enter_folder(folder)
    parts = {x: x.relative_to(folder).parts[:-1] for x in files}
    splits = name_splits("/".join(x) for x in parts.values())
    if any(parts.values()) and len(splits) < len({*parts.values()}):
        return {}
    return {
        str(file): {
            "name": normalize(file.stem),
            **({"split": x[0]} if x else {}),
        }
        for file, x in parts.items()
    }


def _pair(
    images: Named, masks: Named
) -> tuple[dict[str, str], tuple[list[str], list[str]]]:
    """Returns the mask of each image that has one, and the files alone."""
    sides = images, masks
    every = [*images.values(), *masks.values()]
    shared = sorted({*NAMES}.intersection(*every))
    found = collections.defaultdict[object, tuple[list[str], list[str]]](
        lambda: ([], [])
    )
    for number, side in enumerate(sides):
        # Splits may have other names beside masks.
        split_of = name_splits(x.get("split", "") for x in side.values())
        for path, values in side.items():
            key = {name: values[name] for name in shared}
            if "split" in key:
                key["split"] = split_of.get(key["split"], key["split"])
            found[tuple(key.values())][number].append(path)
    pairs = {}
    for of_images, of_masks in found.values():
        if len(of_images) == len(of_masks) == 1:
            pairs[of_images[0]] = of_masks[0]
        elif of_images and of_masks:
            counts = _checks.count(len(of_masks), "mask")
            raise ValueError(
                "Each image must have one mask. Received: "
                f"{_checks.count(len(of_images), 'image')} and {counts} of one "
                f"name: {_checks.first_few(of_images + of_masks)}. Join masks "
                "of one image, or write `images` and `masks` as patterns that "
                "match one of them"
            )
    used = {*pairs, *pairs.values()}
    alone = [[path for path in side if path not in used] for side in sides]
    return pairs, (alone[0], alone[1])


def _refuse(root, folder, files, received):
    """Raises for files where no image has a mask, with what to write."""
    base = pathlib.Path(os.path.commonpath([root, folder]))
    paths = [file.relative_to(base).parts for file in files]
    start = folder.relative_to(base).parts
    masks = {x for x in paths if folder != root and x[: len(start)] == start}

    def read(*texts):
        named = _match(base, files, make_patterns(*texts))
        pairs, _ = _pair(*named)
        check_splits(_make_dataset(named[0], pairs, {}, base))
        return pairs

    raise LayoutError(
        "Each image must have one mask of the same name, with any ending, in "
        "a folder of masks, or in train, validation and test of it. Another "
        "layout is said by `images` and `masks` (--images, --masks), patterns "
        "of paths below `data` where {name} is what both share. Received: "
        f'data="{root}", {", ".join(received)}',
        paths,
        propose_masks(base, paths, masks, read),
        "No patterns were found. Pass a table of images and masks. Join "
        "several masks of an image, draw polygons, and save others as PNG",
    )


def _make_dataset(images, pairs, *options):
    rows = [
        {"split": "train", **images[path], "path": path, "mask": pairs[path]}
        for path in pairs
    ]
    return make_dataset(rows, {row["split"] for row in rows}, (), *options)
