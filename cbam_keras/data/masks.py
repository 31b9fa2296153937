"""Masks as people have them, as a class for each pixel."""

import collections
import csv
import dataclasses
import os
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cbam_keras import _checks
from cbam_keras.data.decoding import list_formats, map_in_threads
from cbam_keras.data.examples import Dataset, digest

# What colors of no class are called, and the classes of masks of 0 and 255.
VOID = ("void", "ignore", "ignored", "unlabeled", "unlabelled")
BINARY = ("background", "foreground")
# The white of 8 and of 16 bits.
WHITE = (255, 65535)
# Values of a compressed mask of two classes are this near to black or white,
# but for this fraction of the pixels, at the edges.
NEAR, EDGES = 32, 0.1
# A line of a file of colors, as "128 64 128 Road" and "Road, 128, 64, 128".
RGB = r"(\d+)[\s,;]+(\d+)[\s,;]+(\d+)"
COLOR_LINE = re.compile(rf"\s*(?:{RGB}[\s,;]+(.+?)|(.+?)[\s,;]+{RGB})\s*")

# A color is one number: 65536 * red + 256 * green + blue.
SHIFTS = np.array([65536, 256, 1])
GRAY = int(SHIFTS.sum())


@dataclasses.dataclass(frozen=True)
class Masks:
    """Where masks are, and what their values mean: see `load_masks`.

    `folder` is `None` where the masks are with the images, in a table or as
    arrays.
    """

    folder: str | os.PathLike | None = None
    class_names: Sequence[str] | None = None
    # A mapping, or the path of a file.
    colors: Any = None
    ignore_index: int = 255

    def __post_init__(self) -> None:
        _checks.positive_integer(
            "ignore_index", self.ignore_index, or_zero=True
        )
        names = self.class_names
        if names is not None and (
            isinstance(names, str) or len({*names}) < max(2, len(names))
        ):
            raise ValueError(
                "`class_names` must be two different names or more, in the "
                "order of their values in the masks. Received: class_names="
                f"{names!r}"
            )
        colors = self.colors
        if isinstance(colors, str | os.PathLike):
            colors = _read_colors(colors)
        if colors is not None:
            if names is not None:
                raise ValueError(
                    "`class_names` must be left out with `colors`, which name "
                    f"the classes. Received: class_names={names!r}"
                )
            colors = _check_colors(colors)
        _checks.convert(self, colors=colors)

    @property
    def table(self) -> tuple[dict[int, int], tuple[str, ...], bool]:
        """The class of each code, the classes, and whether codes are colors."""
        classes = [x for x in self.colors if x.strip().lower() not in VOID]
        table = {}
        for name, values in self.colors.items():
            is_class = name in classes
            index = classes.index(name) if is_class else self.ignore_index
            for value in values:
                is_color = isinstance(value, list)
                code = int(np.dot(value, SHIFTS)) if is_color else value
                table[code] = index
        return table, tuple(classes), is_color


def _read_colors(path):
    """Returns the colors of the classes in a file, by their names."""
    colors = collections.defaultdict[str, list[list[int]]](list)
    try:
        lines = pathlib.Path(path).expanduser().read_text("utf-8-sig")
    except (OSError, ValueError) as error:
        raise ValueError(
            "`colors` must be a mapping, or a text file that exists. Received: "
            f'colors="{path}" ({error})'
        ) from error
    rows = [line for line in lines.splitlines() if line.strip()]
    for number, line in enumerate(rows):
        match = COLOR_LINE.fullmatch(line)
        if match:
            *first, name, other, red, green, blue = match.groups()
            rgb = first if name else (red, green, blue)
            colors[(name or other).strip().strip('"')].append([*map(int, rgb)])
        # The first line may name columns.
        elif number or next(csv.reader([line]), [""])[0].isdecimal():
            raise ValueError(
                "`colors` must have a line of red, green, blue and the name "
                'for each class, as "128 64 128 Road" or "Road,128,64,128". '
                f'Received: colors="{path}" with the line "{line}"'
            )
    return colors


def _check_colors(colors):
    """Returns the values of each class as a list of integers or of triples."""
    checked, kinds, seen = {}, set(), dict[str, str]()
    for name, value in colors.items() if isinstance(colors, Mapping) else ():
        array = np.asarray(value)
        rows = array.reshape(-1, 3) if array.shape[-1:] == (3,) else array
        rows = rows.reshape(-1) if rows.ndim == 0 else rows
        if not isinstance(name, str) or rows.dtype.kind not in "iu":
            kinds.add(-1)
            continue
        kinds.add(rows.ndim)
        checked[name] = rows.tolist()
        for row in checked[name]:
            first = seen.setdefault(str(row), name)
            if first != name:
                raise ValueError(
                    "`colors` must differ. Received: "
                    f'{row} for "{first}" and for "{name}"'
                )
    if len(kinds) != 1 or not kinds <= {1, 2} or len(checked) < 2:
        raise ValueError(
            "`colors` must map two classes or more to their colors in the "
            'masks, as {"road": (128, 64, 128)}, or all of them to gray '
            'levels, as {"cell": 128}; or be a file with such colors. '
            f"Received: colors={colors!r}"
        )
    return checked


@dataclasses.dataclass(frozen=True)
class Encoding:
    """How values of masks become classes, the same for a whole dataset.

    `codes` are what the masks hold, in order: values or colors, of
    `is_binary` ones black and white; `classes` is the class of each.
    """

    codes: np.ndarray
    classes: np.ndarray
    is_color: bool
    is_binary: bool

    @property
    def dtype(self) -> np.dtype:
        """The type of a class."""
        return self.classes.dtype

    def read(self, mask: Any) -> np.ndarray:
        """Returns the class of each pixel of a mask, `(H, W)`."""
        values = _decode(mask, self.is_color)[0]
        if values.ndim == 3:
            values = values @ SHIFTS if self.is_color else values[..., 0]
        elif self.is_color:
            values = values.astype("int64") * GRAY
        if self.is_binary:
            values = np.where(values > 127, 255, 0)
        return self.classes[np.searchsorted(self.codes, values)]


class Scan(NamedTuple):
    """What one mask holds: the pixels of each code, gray ones as values."""

    size: tuple[int, int]
    counts: dict[int, int]
    has_colors: bool
    palette: dict[int, tuple[int, ...]]
    is_lossy: bool
    content: str


def _decode(mask, is_color):
    """Returns values `(H, W)` or colors `(H, W, 3)`, palette and format."""
    if not isinstance(mask, str):
        return np.asarray(mask), {}, ""
    pil = _checks.require("PIL.Image", extra="data")
    ops = _checks.require("PIL.ImageOps", extra="data")
    with pil.open(mask, formats=list_formats()) as file:
        palette, kind = {}, file.format
        image = ops.exif_transpose(file)
        if image.mode == "P" and not is_color:
            colors = np.reshape(image.getpalette("RGB"), (-1, 3)).tolist()
            palette = dict(enumerate(map(tuple, colors)))
        elif image.mode == "LA":
            image = image.getchannel(0)
        elif image.mode not in ("1", "L", "I", "F") and image.mode[:2] != "I;":
            image = image.convert("RGB")
        values = np.asarray(image)
    return values.astype("uint8") if values.dtype == bool else values, *(
        palette,
        str(kind),
    )


def _scan(mask, is_color):
    values, palette, kind = _decode(mask, is_color)
    has_colors = values.ndim == 3 and (values != values[..., :1]).any()
    codes = values @ SHIFTS if has_colors else values
    codes = codes[..., 0] if codes.ndim == 3 else codes
    if codes.dtype.kind == "f" and (codes != codes.round()).any():
        raise ValueError("fractions")
    found, counts = np.unique(codes.astype("int64"), return_counts=True)
    return Scan(
        values.shape[:2],
        dict(zip(found.tolist(), counts.tolist(), strict=True)),
        bool(has_colors),
        {code: palette[code] for code in found.tolist() if code in palette},
        kind in ("JPEG", "MPO"),
        digest(codes),
    )


def encode(dataset: Dataset, masks: Masks) -> Dataset:
    """Returns a dataset whose masks are classes, after checking all of them.

    Masks that cannot be read are left out with their images. Those in files
    are decoded again when they are used.
    """
    splits = {split: _one_hot(x, masks) for split, x in dataset.splits.items()}
    is_color = masks.colors is not None and masks.table[2]
    scans, unread = dict[str, list[Scan]](), list[str]()
    for split, examples in splits.items():

        def scan(row, examples=examples):
            try:
                return _scan(examples.masks[row], is_color)
            # Pillow raises errors of many kinds for damaged images.
            except Exception as error:
                return str(error)

        rows = range(len(examples))
        read = [*map_in_threads(scan, rows, f"Checking masks of {split}")]
        is_read = [isinstance(x, Scan) for x in read]
        unread += [
            f"{_name(dataset, examples, row)} ({read[row]})"
            for row in rows
            if not is_read[row]
        ]
        splits[split] = examples.take(np.flatnonzero(is_read))
        scans[split] = [x for x in read if isinstance(x, Scan)]
    dataset = dataclasses.replace(dataset, splits=splits)
    every = [
        (examples, row, found)
        for split, examples in splits.items()
        for row, found in enumerate(scans[split])
    ]
    if unread and not every:
        raise ValueError(
            "Masks must be images that can be read. Received: "
            f"{len(unread):,} that cannot: {_checks.first_few(unread)}"
        )
    if unread:
        _checks.warn(
            f"{_checks.count(len(unread), 'mask')} could not be read, and will "
            f"be left out with their images: {_checks.first_few(unread)}"
        )
    _check_sizes(dataset, every)
    encoding, names, note = _find_encoding(dataset, every, masks)
    for split, examples in splits.items():
        pixels = np.zeros((len(examples), len(names)), "int64")
        for row, found in enumerate(scans[split]):
            for code, count in found.counts.items():
                value = _as_code(code, found, encoding)
                label = encoding.classes[np.searchsorted(encoding.codes, value)]
                if label < len(names) and label != masks.ignore_index:
                    pixels[row, label] += count
        examples = dataclasses.replace(
            examples, pixels=pixels, encoding=encoding
        )
        if examples.masks.dtype != object:
            whole = np.stack([*map(examples.read_mask, range(len(examples)))])
            examples = dataclasses.replace(examples, masks=whole, encoding=None)
        splits[split] = examples
    contents = [found.content for _, _, found in every]
    meaning = encoding.codes, encoding.classes, names, masks.ignore_index
    left_out = {**dataset.left_out, "with an unreadable mask": len(unread)}
    return dataclasses.replace(
        dataset,
        splits=splits,
        class_names=names,
        fingerprint=digest(dataset.fingerprint, contents, *meaning),
        left_out=left_out if unread else dataset.left_out,
        skipped=(*dataset.skipped, *unread),
        remarks=(*dataset.remarks, *filter(None, [note])),
    )


def _name(dataset, examples, row):
    """Returns the name of the file of a mask, or its number."""
    mask = examples.masks[row]
    is_file = isinstance(mask, str)
    return f'"{dataset.name_of(mask)}"' if is_file else f"masks[{row}]"


def _one_hot(examples, masks):
    """Returns examples whose one-hot masks are integers."""
    values = examples.masks
    if values.dtype == object or values.ndim != 4:
        return examples
    if values.shape[-1] == 1:
        return dataclasses.replace(examples, masks=values[..., 0])
    if values.shape[-1] == 3 and masks.colors is not None:
        return examples
    sums = values.sum(axis=-1)
    if not np.isin(values, (0, 1)).all() or not np.isin(sums, (0, 1)).all():
        colors = 'Colors need colors={"road": (128, 64, 128), ...}'
        raise ValueError(
            "Masks of several channels must be one-hot: a 1 in the channel of "
            "the class of each pixel, and 0 elsewhere. Received: masks "
            f"{values.shape} of {values.dtype}. {colors}"
        )
    # A pixel of no class is ignored.
    labels = np.where(sums == 0, masks.ignore_index, values.argmax(axis=-1))
    return dataclasses.replace(examples, masks=labels)


def _check_sizes(dataset, every):
    """Raises unless each mask has the size of its image."""
    different = []
    for examples, row, found in every:
        image = examples.images[row]
        size = dataset.sizes.get(image) if isinstance(image, str) else None
        if size not in (None, found.size):
            different.append(
                f"{_name(dataset, examples, row)} of {found.size[0]} x "
                f"{found.size[1]} for an image of {size[0]} x {size[1]}"
            )
    if different:
        raise ValueError(
            "A mask must have the size of its image, in pixels. Received: "
            f"{_checks.first_few(different)}, {len(different):,} in all. "
            "Resize masks without interpolation (nearest), or images"
        )


def _as_code(code, found, encoding):
    """Returns what an encoding knows a code of one mask by."""
    if encoding.is_color and not found.has_colors:
        return code * GRAY
    if encoding.is_binary:
        return 255 if code > 127 else 0
    return code


def _find_encoding(dataset, every, masks):
    """Returns the encoding of masks, the classes, and a note on them."""
    note = ""
    has_colors = any(found.has_colors for *_, found in every)
    if masks.colors is not None:
        table, names, is_color = masks.table
        if has_colors and not is_color:
            raise ValueError(
                "`colors` must be of red, green and blue for masks in color. "
                f"Received: colors={masks.colors!r}"
            )
        if len(names) < 2:
            raise ValueError(
                "`colors` must have two classes or more, other than "
                f"{_checks.first_few(VOID)}. Received: colors={masks.colors!r}"
            )
        void = [x for x in masks.colors if x not in names]
        note = f"ignored: {', '.join(void)}" if void else ""
        encoding = _encode(table, is_color)
        _check_known(dataset, every, encoding, masks)
        return encoding, names, note
    if has_colors:
        raise ValueError(
            "Masks in color need `colors`, the color of each class: "
            'colors={"road": (128, 64, 128), ...}, or a text file of them '
            f"(--colors FILE). Received: {_describe_colors(dataset, every)}"
        )
    _check_palettes(dataset, every)
    totals = collections.Counter[int]()
    lossy = collections.Counter[int]()
    for *_, found in every:
        totals.update(found.counts)
        lossy.update(found.counts if found.is_lossy else {})
    values = sorted(totals)
    names = masks.class_names
    is_two = names is None or len(names) == 2
    middle = sum(n for x, n in lossy.items() if NEAR <= x <= 255 - NEAR)
    is_white = max(lossy, default=0) > 255 - NEAR
    if is_white and is_two and middle <= EDGES * lossy.total():
        note = "JPEG masks: values above 127 are foreground"
        encoding = Encoding(
            np.array([0, 255]), np.array([0, 1], "uint8"), *((False, True))
        )
        return encoding, tuple(map(str, names or BINARY)), note
    for white in WHITE:
        if {*values} <= {0, white} and white in values and is_two:
            names = tuple(map(str, names or BINARY))
            return _encode({0: 0, white: 1}, False), names, note
    classes = [x for x in values if x != masks.ignore_index]
    most = max(classes, default=0)
    count = most + 1 if names is None else len(names)
    wrong = [x for x in classes if not 0 <= x < count]
    gaps = [] if names else [x for x in range(most) if x not in totals]
    if wrong or gaps or count < 2 or (lossy and names is None):
        places = _find_places(dataset, every, wrong or classes[-1:])
        of_names = f"`class_names` of {count}" if names else ""
        raise ValueError(
            "Masks must hold the number of a class in each pixel, counted from "
            f"0 without gaps, or {masks.ignore_index} (`ignore_index`) for "
            f"none; or 0 and 255. Received: {of_names or 'masks'}, and the "
            f"values {_checks.first_few(values, 8)}, as in {places}. "
            "Say what they mean: class_names=[...] of all classes by number, "
            'colors={"cell": 128, ...} by value, or another ignore_index. '
            "Values in between come from JPEG or from resizing: save masks as "
            "PNG, and resize them without interpolation"
        )
    table = {x: x for x in {*range(count), *values}}
    names = tuple(map(str, names or range(count)))
    return _encode(table, False), names, note


def _encode(table, is_color):
    """Returns an encoding of the classes of codes."""
    codes = sorted(table)
    classes = [table[code] for code in codes]
    dtype = "uint8" if max(classes) <= 255 else "int32"
    return Encoding(np.array(codes), np.array(classes, dtype), is_color, False)


def _check_known(dataset, every, encoding, masks):
    """Raises if masks have values that `colors` do not name."""
    unknown = collections.Counter[int]()
    for *_, found in every:
        for code, count in found.counts.items():
            code = _as_code(code, found, encoding)
            if code not in encoding.codes:
                unknown[code] += count
    if unknown:
        texts = [
            f"{_describe(code, encoding.is_color)} ({count:,} pixels)"
            for code, count in unknown.most_common()
        ]
        places = _find_places(dataset, every, unknown, encoding)
        first = _describe(unknown.most_common(1)[0][0], encoding.is_color)
        raise ValueError(
            "`colors` must name all values of the masks. Received: "
            f"{_checks.first_few([*masks.colors])}, and masks that also hold "
            f"{_checks.first_few(texts)}, as in {places}. Add "
            f'"void": {first} to leave pixels of that value out. '
            "Many such colors come from "
            "JPEG or from resizing: save masks as PNG, and resize them without "
            "interpolation"
        )


def _describe(code, is_color):
    return str((code >> 16, code >> 8 & 255, code & 255)) if is_color else code


def _find_places(
    dataset: Dataset,
    every: Iterable,
    codes: Any,
    encoding: Encoding | None = None,
) -> str:
    """Returns the name of the first mask with one of these codes."""
    for examples, row, found in every:
        values = found.counts
        if encoding is not None:
            values = [_as_code(x, found, encoding) for x in values]
        if {*values} & {*codes}:
            return _name(dataset, examples, row)
    return "no mask"


def _describe_colors(dataset, every):
    """Returns the commonest colors of all masks, and where one is."""
    totals = collections.Counter[int]()
    for *_, found in every:
        factor = 1 if found.has_colors else GRAY
        for code, count in found.counts.items():
            totals[factor * code] += count
    texts = [_describe(code, True) for code, _ in totals.most_common()]
    colored = [x for x in every if x[2].has_colors][0]
    place = _name(dataset, *colored[:2])
    return f"{len(texts):,} colors, as {_checks.first_few(texts)}, in {place}"


def _check_palettes(dataset, every):
    """Raises if an index stands for two colors, as if each mask had its own."""
    first = dict[int, tuple[Any, str]]()
    for examples, row, found in every:
        for index, color in found.palette.items():
            name = _name(dataset, examples, row)
            other, where = first.setdefault(index, (color, name))
            if other != color:
                raise ValueError(
                    "Masks with a palette must have the same one, so that an "
                    f"index is one class. Received: index {index} is {other} "
                    f"in {where} and {color} in {name}. Give `colors`, the "
                    "color of each class, and the palettes do not matter"
                )
