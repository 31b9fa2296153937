"""Masks as people have them, as a class for each pixel."""

import dataclasses
import functools
import itertools
import os
import pathlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from typing import Any, NamedTuple

import numpy as np

from cbam_keras import _checks
from cbam_keras.data.decoding import map_in_threads, open_image
from cbam_keras.data.examples import IGNORED, Dataset, digest

# The classes of masks of 0 and 255.
BINARY = ("background", "foreground")
# Values of a JPEG mask of two classes are this near to black or white, but for
# this fraction of the pixels, at the edges.
NEAR, EDGES = 32, 0.1
# A line of CVAT's labelmap.txt, e.g. "road:128,64,128::", or of a CSV file.
COLOR_LINE = re.compile(r"^ *([^#:,\n]+)[:,] *(\d+), *(\d+), *(\d+)", re.M)
# All gray levels above one, which stand for the numbers of objects.
ABOVE = re.compile(r" *> *(\d+) *")
# Files that hold all values from 0 to so many different maxima number objects
# rather than classes.
INSTANCES = 4

# A gray pixel is its value, any other one COLOR + 65536 red + 256 green + blue.
COLOR = 2**32
SHIFTS = np.array([65536, 256, 1])
# Gray levels, or red, green and blue, by class, or the path of a file of them.
Colors = Mapping[str, int | Sequence[int]] | str | os.PathLike


@dataclasses.dataclass(frozen=True)
class Masks:
    """Where masks are, and what their values mean: see `load_masks`."""

    # `None` where masks are with the images, in a table or as arrays.
    folder: str | os.PathLike | None = None
    class_names: Sequence[str] | None = None
    colors: Colors | None = None
    ignore_index: int | None = None
    # The pattern of images; `folder` is then that of masks.
    images: Any = None

    def __post_init__(self) -> None:
        names, ignored = self.class_names, self.ignore_index
        if ignored is not None:
            _checks.positive_integer("ignore_index", ignored, or_zero=True)
        if names is not None and (
            self.colors is not None
            or isinstance(names, str | Mapping | Set)
            or len({*names}) < max(2, len(names))
        ):
            raise ValueError(
                "`class_names` must be two different names or more, as a list "
                "in the order of their values in the masks, and be left out "
                f"with `colors`. Received: class_names={names!r}"
            )
        if self.colors is None:
            return
        colors = _check_colors(self.colors)
        if ignored is not None and ignored >= len(colors):
            raise ValueError(
                "`ignore_index` must be a zero-based index into `colors`. "
                f"Received: ignore_index={ignored} and {len(colors)} colors"
            )
        _checks.convert(self, colors=colors)


def _check_colors(given):
    """Returns red, green and blue of each class, by its name."""
    if isinstance(given, str | os.PathLike):
        text = pathlib.Path(given).expanduser().read_text("utf-8-sig")
        given = {name: color for name, *color in COLOR_LINE.findall(text)}
    colors = {str(name): _check_color(x) for name, x in dict(given).items()}
    if len({*map(str, colors.values())}) < max(2, len(colors)) or (
        None in colors.values()
    ):
        raise ValueError(
            "`colors` must map two classes or more to different colors or "
            f'gray levels, such as {{"sky": 0, "road": (128, 64, 128)}} or '
            f'{{"no": 0, "gland": "> 0"}}, or be a file with lines such as '
            f'"road:128,64,128" (the labelmap.txt of CVAT). Received: {given}'
        )
    return colors


def _check_color(color):
    """Returns red, green and blue, or "> 0"; nothing of anything else."""
    if isinstance(color, str) and ABOVE.fullmatch(color):
        return color
    values = np.array([] if isinstance(color, str) else color, int)
    is_color = values.size in (1, 3)
    return np.broadcast_to(values, 3).tolist() if is_color else None


@dataclasses.dataclass(frozen=True)
class Encoding:
    """The class of each code; palettes give colors, or else class numbers."""

    table: Mapping[int, int]
    has_colors: bool

    def read(self, mask: Any) -> np.ndarray:
        """Returns the class of each pixel of a mask, `(H, W)` uint8."""
        codes, classes = np.array(sorted(self.table.items())).T
        places = np.searchsorted(codes, _decode(mask, self.has_colors)[0])
        return classes.astype("uint8")[places]


class Scan(NamedTuple):
    """What one mask holds, and the name of its file."""

    name: str
    # The number of pixels of each code.
    counts: Counter[int]
    palette: dict[int, tuple[int, ...]]
    is_lossy: bool
    content: str


def _decode(mask, has_colors):
    """Returns codes `(H, W)`, the palette of indices, and the file's format."""
    palette, kind = {}, ""
    if isinstance(mask, str):
        ops = _checks.require("PIL.ImageOps", extra="data")
        with open(mask, "rb") as file:
            opened = open_image(file, has_deep_gray=True)
            kind, image = str(opened.format), ops.exif_transpose(opened)
            if image.mode == "P" and not has_colors:
                colors = np.reshape(image.getpalette("RGB"), (-1, 3)).tolist()
                palette = dict(enumerate(map(tuple, colors)))
            elif not re.match(r"[1LIF]($|;)", image.mode):
                image = image.convert("RGB")
            mask = np.asarray(image)
    values = np.asarray(mask).astype("int64")
    codes = values if values.ndim == 2 else _to_codes(values)
    return codes, palette, kind


def _to_codes(colors):
    is_gray = (colors == colors[..., :1]).all(axis=-1)
    return np.where(is_gray, colors[..., 0], COLOR + colors @ SHIFTS)


def _to_text(code):
    color = code >> 16 & 255, code >> 8 & 255, code & 255
    return str(code if code < COLOR else color)


def _scan(dataset, examples, has_colors, row):
    """Returns the scan of a mask, or text on why it is not read."""
    mask, image = examples.masks[row], examples.images[row]
    is_file = isinstance(image, str)
    name = f'"{dataset.name_of(mask)}"' if is_file else f"masks[{row}]"
    try:
        pixels, palette, kind = _decode(mask, has_colors)
        if is_file and pixels.shape != dataset.headers[image][:2]:
            sizes = pixels.shape + dataset.headers[image][:2]
            raise ValueError("{} x {} for an image of {} x {}".format(*sizes))
    # Pillow raises errors of many kinds for damaged images.
    except Exception as error:
        return f"{name} ({error})"
    codes, counts = np.unique(pixels, return_counts=True)
    return Scan(
        name,
        Counter(dict(zip(codes.tolist(), counts.tolist(), strict=True))),
        {code: palette[code] for code in codes.tolist() if code in palette},
        kind in ("JPEG", "MPO"),
        digest(pixels),
    )


def encode(dataset: Dataset, masks: Masks) -> Dataset:
    """Returns a dataset whose masks are classes, after checking all of them."""
    has_colors, scans_of = masks.colors is not None, {}
    for split, examples in dataset.splits.items():
        scan = functools.partial(_scan, dataset, examples, has_colors)
        title, rows = f"Checking masks of {split}", range(len(examples))
        scans_of[split] = [*map_in_threads(scan, rows, title)]
    scans = [*itertools.chain(*scans_of.values())]
    unread = [scan for scan in scans if isinstance(scan, str)]
    if unread:
        raise ValueError(
            "Masks must be readable images of the size of their image. "
            f"Received: {len(unread):,} that are not: "
            f"{_checks.first_few(unread, 20)}. Save them as PNG (their images "
            "too if rotated), resize them by nearest neighbor, or remove both"
        )
    _check_palettes(scans)
    table, names, note = _find_meaning(scans, masks)
    remarks = [note] if note else []
    encoding = Encoding(table, has_colors)
    splits = {}
    for split, examples in dataset.splits.items():
        pixels = np.zeros((len(examples), len(names)), "int64")
        for row, scan in enumerate(scans_of[split]):
            for code, count in scan.counts.items():
                if table[code] != IGNORED:
                    pixels[row, table[code]] += count
        changes = {"pixels": pixels, "encoding": encoding}
        if examples.masks.dtype != object:
            classes = np.stack([encoding.read(x) for x in examples.masks])
            changes |= {"masks": classes, "encoding": None}
        splits[split] = dataclasses.replace(examples, **changes)
    total = sum(scan.counts.total() for scan in scans)
    labeled = sum(int(x.pixels.sum()) for x in splits.values())
    if labeled < total:
        percent = 100 - 100 * labeled / total
        remarks.append(f"{percent:.3g}% of pixels ignored")
    hashed = [x.content for x in scans], sorted(table.items()), names
    return dataclasses.replace(
        dataset,
        splits=splits,
        class_names=names,
        fingerprint=digest(dataset.fingerprint, *hashed),
        remarks=(*dataset.remarks, *remarks),
    )


def _check_palettes(scans):
    """Raises unless an index has the same color in all masks."""
    first = dict[int, tuple]()
    for scan in scans:
        for index, color in scan.palette.items():
            other, name = first.setdefault(index, (color, scan.name))
            if other != color:
                raise ValueError(
                    "Masks with a palette must have the same one, so that an "
                    f"index is one class. Received: index {index} is {other} "
                    f"in {name} and {color} in {scan.name}. Give `colors`, the "
                    "color of each class: then the palettes do not matter"
                )


class Meaning(NamedTuple):
    """What the values of masks mean: the class of each code, and its name."""

    # A code that is ignored has the class `IGNORED`.
    table: dict[int, int]
    names: tuple[str, ...]
    # What the user is told of this reading, "" if there is nothing to say.
    note: str = ""


def _find_meaning(scans, masks):
    """Returns what values mean: as the user says, or as masks usually are."""
    totals = Counter[int]()
    for scan in scans:
        totals.update(scan.counts)
    of_two = masks.class_names or BINARY
    is_lossy = any(scan.is_lossy for scan in scans)
    if masks.colors is not None:
        meaning = _read_colors(totals, masks)
    elif is_lossy and len(of_two) == 2 and _are_black_or_white(scans, masks):
        table = {code: int(code > 127) for code in totals}
        note = f"JPEG masks: values above 127 are {of_two[1]}"
        return Meaning(table, tuple(of_two), note)
    elif is_lossy:
        # What a JPEG file holds is not what was saved.
        meaning = _number_classes((), (), masks.ignore_index)
    elif len(of_two) == 2 and {*totals} - {masks.ignore_index} == {0, 255}:
        meaning = _number_classes((0, 255), of_two, masks.ignore_index)
    else:
        meaning = _read_numbers(scans, totals, masks)
    has_unknown = not {*totals} <= {*meaning.table}
    if has_unknown or not 1 < len(meaning.names) <= IGNORED:
        raise _refuse(scans, totals, {*meaning.table}, meaning.names)
    return meaning


def _number_classes(codes, names, ignored):
    """Returns the meaning of codes in the order of their classes."""
    pairs = [x for x in zip(codes, names, strict=True) if x[0] != ignored]
    table = {code: number for number, (code, _) in enumerate(pairs)}
    if ignored is not None:
        table[ignored] = IGNORED
    return Meaning(table, tuple(str(name) for _, name in pairs))


def _read_colors(totals, masks):
    """Returns the meaning of values by the colors of the user.

    A color is one code. "> 0" is every gray level above 0 that the masks hold
    and that no other class names.
    """
    class_of, names = list[int](), list[str]()
    for position, name in enumerate(masks.colors):
        if position == masks.ignore_index:
            class_of.append(IGNORED)
        else:
            class_of.append(len(names))
            names.append(name)
    table = dict[int, int]()
    for number, color in zip(class_of, masks.colors.values(), strict=True):
        if not isinstance(color, str):
            table[int(_to_codes(np.array(color)))] = number
    for number, color in zip(class_of, masks.colors.values(), strict=True):
        if isinstance(color, str):
            level = int(ABOVE.fullmatch(color)[1])
            for code in totals:
                if level < code < COLOR:
                    table.setdefault(code, number)
    return Meaning(table, tuple(names))


def _read_numbers(scans, totals, masks):
    """Returns the meaning of values that number classes from 0."""
    names, note = masks.class_names, ""
    if names is None:
        note = _note_instances(scans)
        used = {*totals, masks.ignore_index}
        # A gap ends the numbers of classes.
        count = next(x for x in itertools.count() if x not in used)
        names = range(count)
    codes = range(len(names))
    meaning = _number_classes(codes, names, masks.ignore_index)
    return meaning._replace(note=note)


def _note_instances(scans):
    """Returns a note on masks that may number objects, or raises.

    Objects are numbered anew in each file, so that a file holds all values
    from 0 to a maximum of its own. Few maxima may also be those of classes
    that lie within one another, such as an organ and its tumor.
    """
    is_contiguous = [max(x.counts) == len(x.counts) - 1 for x in scans]
    maxima = {
        max(scan.counts)
        for scan, is_counted in zip(scans, is_contiguous, strict=True)
        if is_counted
    }
    highest = max(max(scan.counts) for scan in scans)
    advice = 'pass colors={"background": 0, "foreground": "> 0"}'
    if len(maxima) >= INSTANCES:
        raise ValueError(
            "Masks must hold the class of each pixel. Received: values from 0 "
            f"to a different maximum in each file, up to {highest}. These look "
            f"like instance numbers. If they are, {advice}; otherwise pass "
            "class_names=[...]"
        )
    maxima.discard(0)
    if all(is_contiguous) and len(maxima) > 1:
        return (
            "masks hold 0 to a different maximum in each file, up to "
            f"{highest}, and are read as classes; if these are instance "
            f"numbers, {advice}"
        )
    return ""


def _are_black_or_white(scans, masks):
    """Returns whether JPEG masks, and those beside them, have two classes."""
    if masks.ignore_index is not None:
        return False
    lossy = sum((x.counts for x in scans if x.is_lossy), Counter())
    others = sum((x.counts for x in scans if not x.is_lossy), Counter())
    middle = sum(n for x, n in lossy.items() if NEAR <= x <= 255 - NEAR)
    is_white = 255 - NEAR < max(lossy) <= 255 and {*others} <= {0, 255}
    return is_white and middle <= EDGES * lossy.total()


def _refuse(scans, totals, known, names):
    """Returns the error to raise if some values are of no class."""
    texts = [
        f"{_to_text(code)} ({count:,} pixels)"
        for code, count in totals.most_common()
        if code not in known
    ]
    places = [x.name for x in scans if not {*x.counts} <= known]
    classes = _checks.first_few([f"{len(names)} classes", *names], 4)
    others = _checks.first_few([f"{len(texts):,} other values", *texts], 4)
    colors = _checks.first_few(
        [f'"class {n}": {_to_text(x)}' for n, x in enumerate(sorted(totals))]
    )
    return ValueError(
        "Masks must hold a class index in each pixel, from 0 without gaps, "
        f"for 2 to {IGNORED} classes. They may also hold only 0 and 255, or "
        f"the colors or gray levels of `colors`. Received: {classes}, and "
        f"{others}, as in {places[0] if places else scans[0].name}. If a "
        "value has no class, pass ignore_index=. To name classes, pass "
        f"class_names=[...] by index, or colors={{{colors}}} by value "
        "(--colors FILE). Stray values usually come from JPEG or from "
        "resizing with interpolation, and masks of 0 only from fractions: "
        "save integers as PNG, resized without interpolation"
    )
