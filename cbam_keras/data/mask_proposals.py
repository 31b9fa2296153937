"""What reads folders of images and masks, read by names before it is shown."""

import collections
import contextlib
import itertools
import os
import pathlib
import re
import string
from collections.abc import Callable, Mapping, Sequence, Set

from cbam_keras.data.layouts import (
    SPLIT,
    Parts,
    find_words,
    write_literal,
)
from cbam_keras.data.proposals import (
    SHOWN,
    TRIED,
    common_suffix,
    draw_sample,
    write_ending,
    write_splits,
)

# What words begin with that say masks.
MASKS = (
    *("mask", "label", "gt", "anno", "seg", "ground", "truth", "manual"),
    *("trimap", "bbox", "lesion"),
)

LAST_WORD = re.compile(r"[\W_]+[^\W_]*[A-Za-z][^\W_]*$")


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
    rows = draw_sample(paths)
    words = [{*find_words("/".join(path))} for path in paths]
    shared = set.intersection(*words) if words else set()
    masked = sum(_says_mask(x - shared) for x in words)
    total = len(paths) - (len(masks) or masked)
    sides = rows, rows
    if masks:
        sides = [x for x in rows if x not in masks], [*masks & {*rows}]
    scored = dict[tuple[str, str], tuple[int, ...]]()
    depth = max(map(len, rows), default=1) - 1
    for is_open in itertools.product((False, True), repeat=depth):
        for has_splits in (True, False):
            forms = [_find_forms(side, is_open, has_splits) for side in sides]
            for image, mask in itertools.product(*forms):
                if masks or _is_mask_of(mask, image):
                    pairs = zip(forms[0][image], forms[1][mask], strict=True)
                    count = max(len(x & y) for x, y in pairs)
                    if 2 * count >= min(len(forms[0][image][1]), total):
                        size = len(image + mask)
                        score = -count, sum(is_open), size
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


def _find_forms(rows, is_open, has_splits):
    """Returns what files mean, by the pattern that these folders give.

    A level that is open is a group, unless it says splits.
    """
    depth = len(is_open)
    names = [
        sorted({x[i] for x in rows if len(x) > i + 1}) for i in range(depth)
    ]
    split_texts = [write_splits(x) if has_splits else {} for x in names]
    files = collections.defaultdict[str, list](list)
    for row in rows:
        texts, groups, split = [], [], ""
        for level, name in enumerate(row[:-1]):
            text = split_texts[level].get(name)
            if text is not None:
                split = SPLIT.fullmatch(name)[2].lower()
            elif is_open[level]:
                text, groups = "{group}", [*groups, name]
            texts.append(write_literal(name) if text is None else text)
        stem, ending = os.path.splitext(row[-1])
        files["/".join([*texts, ""])].append((stem, ending, groups, split))
    forms = collections.defaultdict[str, tuple[set, set]](
        lambda: (set(), set())
    )
    for place, found in files.items():
        for kept in _divide(found):
            ending = write_ending(x[1] for x in kept)
            stems = [x[0] for x in kept]
            for prefix, suffix in _find_affixes(stems):
                word = f"{write_literal(prefix)}{{name}}{write_literal(suffix)}"
                with_groups, without = forms[f"{place}{word}{ending}"]
                for stem, (*_, groups, split) in zip(stems, kept, strict=True):
                    name = stem[len(prefix) : len(stem) - len(suffix)]
                    with_groups.add((split, name, *groups))
                    without.add((split, name))
    return forms


def _divide(files):
    """Returns images and masks of one folder, which differ in their ends."""
    found = [LAST_WORD.search(file[0]) for file in files]
    ends = [match[0] if match else "" for match in found]
    counts = collections.Counter(ends)
    least = 0.05 * len(files)
    divided = collections.defaultdict[str, list](list)
    for file, end in zip(files, ends, strict=True):
        divided[end if counts[end] > max(1, least) else ""].append(file)
    return divided.values()


def _find_affixes(names):
    """Returns what all names begin and end with, also without the first."""
    # Numbers that begin or end alike are not cut in two.
    prefix = os.path.commonprefix(names).rstrip(string.digits)
    suffix = re.search(r"([\W_].*)?$", common_suffix(names))[0]
    if len({*names}) == 1:
        return []
    return dict.fromkeys([("", suffix), (prefix, suffix)])
