"""Folders of images and of masks, paired by names or by patterns."""

import collections
import itertools
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from cbam_keras import _checks
from cbam_keras.data import folders
from cbam_keras.data.decoding import keep_readable
from cbam_keras.data.examples import Dataset, describe_counts
from cbam_keras.data.formats import describe_readers
from cbam_keras.data.layouts import LayoutError, is_input, name_splits
from cbam_keras.data.mask_proposals import describe_splits, propose_masks
from cbam_keras.data.patterns import Pattern, normalize
from cbam_keras.data.splits import check_splits

# What names may mean in the patterns of images and of masks.
NAMES = ("name", "split", "group")
# The values of the names in each path.
Roles = Mapping[str, Mapping[str, str]]


def from_pairs(
    data: str | os.PathLike, masks: str | os.PathLike | None, images: str | None
) -> Dataset:
    """Returns images below a folder, and their masks there or in another."""
    root = folder = base = folders.find_root(data)
    patterns = [] if images is None else make_patterns(images, masks)
    if not patterns:
        folder = folders.find_root(masks or data, "masks")
        base = pathlib.Path(os.path.commonpath([root, folder]))
    # Files of both folders are named once.
    files = dict.fromkeys(
        folders.find_image_files(root) + folders.find_image_files(folder)
    )
    names = [file.relative_to(base).as_posix() for file in files]
    if not names:
        visible = folders.find_visible(root) + folders.find_visible(folder)
        readers = describe_readers(visible) or "no image"
        raise ValueError(
            "`data` and `masks` must hold images, such as PNG files. Received: "
            f'data="{root}", masks="{folder}", with {readers}'
        )
    start = f"{folder.relative_to(base).as_posix()}/"
    of_masks = [name for name in names if name.startswith(start)]
    if patterns:
        named = _match(names, patterns)
    else:
        of_images = [name for name in names if not name.startswith(start)]
        named = _name(base, root, of_images), _name(base, folder, of_masks)
    pairs, alone = _pair(*named)
    if not pairs:
        found = [
            f'{len(each):,} files by {pattern.argument}="{pattern.text}"'
            for pattern, each in zip(patterns, named, strict=False)
        ]
        found = found or [f'masks="{folder}"']
        _refuse(root, base, names, {*of_masks}, found)
    left_out = +collections.Counter(
        {
            "without a mask": len(alone[0]),
            "without an image": len(alone[1]),
            "in neither pattern": len(names) - sum(map(len, named)),
        }
    )
    if left_out:
        text = f"Images or masks are left out: {describe_counts(left_out)}"
        if any(alone):
            listed = _checks.first_few([*itertools.chain(*alone)])
            text += f", such as {listed}"
        _checks.warn(text)
    texts = [pattern.text for pattern in patterns]
    dataset = _make_dataset(named[0], pairs, base, left_out, root, *texts)
    return keep_readable(dataset)


def make_patterns(images: object, masks: object) -> list[Pattern]:
    """Returns the patterns of images and of masks."""
    texts: dict[str, Any] = {"images": images, "masks": masks}
    return [Pattern(texts[x], NAMES, "name", x) for x in texts]


def _match(
    names: Iterable[str], patterns: list[Pattern]
) -> tuple[Roles, Roles]:
    """Returns the values of names in the paths of images and of masks."""
    named = dict[str, dict[str, str]](), dict[str, dict[str, str]]()
    # "1_mask.png" is also a {name}.png: the longer text decides.
    order = sorted((0, 1), key=lambda side: -patterns[side].num_letters)
    for name in names:
        for side in order:
            values = patterns[side].match(name)
            if values is not None:
                named[side][name] = values
                break
    return named


def _name(base: pathlib.Path, folder: pathlib.Path, names: list[str]) -> Roles:
    """Returns what paths mean, if all are in a folder or in those of splits."""
    start = folders.enter_folder(folder).relative_to(base).as_posix()
    places = {x: pathlib.PurePath(x).relative_to(start) for x in names}
    inside = {place.parent.as_posix() for place in places.values()}
    if inside != {"."} and len(name_splits(inside)) < len(inside):
        return {}
    return {
        name: {
            "name": normalize(place.stem),
            **({"split": place.parts[0]} if len(place.parts) > 1 else {}),
        }
        for name, place in places.items()
    }


def _pair(
    images: Roles, masks: Roles
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
                f"name: {_checks.first_few(of_images + of_masks)}. Merge them, "
                "or give `images` and `masks` as patterns that match one"
            )
    used = {*pairs, *pairs.values()}
    alone = [[path for path in side if path not in used] for side in sides]
    return pairs, (alone[0], alone[1])


def _refuse(root, base, names, masks, received):
    """Raises for files where no image has a mask, with what to write."""

    def read(names, *texts):
        pairs, _ = _pair(*_match(names, make_patterns(*texts)))
        return pairs

    def describe(names, *texts, may_divide):
        of_images, of_masks = _match(names, make_patterns(*texts))
        pairs, _ = _pair(of_images, of_masks)
        dataset = _make_dataset(of_images, pairs, base, {}, base)
        is_divided = check_splits(dataset)
        if is_divided and not may_divide:
            raise ValueError("groups are in several splits")
        text = f"{len(pairs):,} images with masks, of {len(names):,} files"
        if is_divided:
            text += "; each group is in several splits"
        paired = {name: of_images[name] for name in pairs}
        every = [name for name in names if name not in of_masks]
        return text + describe_splits(every, paired)

    advice = (
        "No patterns were found. Pass a table of images and masks, or merge "
        "several masks of an image, rasterize polygons, and save as PNG"
    )
    raise LayoutError(
        "Each image must have one mask of the same name, with any extension, "
        "in a folder of masks, or in its train, validation and test. For other "
        "layouts, give `images` and `masks` (--images, --masks) as patterns of "
        "paths below `data`, with {name} for what both share. Received: "
        f'data="{root}", {", ".join(received)}',
        names,
        propose_masks(base, names, masks, read, describe),
        _advise_merging(base, names) or advice,
    )


def _advise_merging(base, names):
    """Returns the code that merges the masks of each image, "" if not needed.

    Each image then has a folder of its own, with folders of the image and of
    its masks, one file for each object.
    """
    inside = collections.defaultdict[str, collections.Counter[str]](
        collections.Counter
    )
    for name in names:
        *parents, part, _ = f"/{name}".split("/")
        inside["/".join(parents)][part] += 1
    places = {os.path.dirname(folder) for folder in inside}
    parts = {part for counts in inside.values() for part in counts}
    of_images = [part for part in parts if is_input(part)]
    if len(places) != 1 or len(parts) != 2 or len(of_images) != 1:
        return ""
    (image_part,) = of_images
    (mask_part,) = parts - {image_part}
    has_one_image = all(x[image_part] == 1 for x in inside.values())
    has_several_masks = any(x[mask_part] > 1 for x in inside.values())
    if not has_one_image or not has_several_masks:
        return ""
    root = base / places.pop().removeprefix("/")
    return (
        "Each image has a mask for each object. Merge them, then pass what "
        "the last line says:\n"
        "    import pathlib, numpy, PIL.Image\n"
        f'    for folder in pathlib.Path("{root}").iterdir():\n'
        f'        paths = (folder / "{mask_part}").iterdir()\n'
        '        masks = [PIL.Image.open(x).convert("L") for x in paths]\n'
        "        arrays = [numpy.asarray(mask) for mask in masks]\n"
        "        merged = numpy.any(arrays, axis=0)\n"
        '        image = PIL.Image.fromarray(merged).convert("L")\n'
        '        image.save(folder / "merged.png")\n'
        f'    data="{root}", images="{{name}}/{image_part}/*", '
        'masks="{name}/merged.png"'
    )


def _make_dataset(images, pairs, base, *options):
    rows = [
        {
            "split": "train",
            **images[name],
            "path": str(base / name),
            "mask": str(base / pairs[name]),
        }
        for name in pairs
    ]
    splits = {row["split"] for row in rows}
    return folders.make_dataset(rows, splits, (), *options)
