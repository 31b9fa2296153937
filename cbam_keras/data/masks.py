"""Masks as people have them, as a class for each pixel."""

import dataclasses
import functools
import itertools
import os
import pathlib
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence, Set
from typing import Any, NamedTuple

import numpy as np

from cbam_keras import _checks
from cbam_keras.data import decoding
from cbam_keras.data.decoding import map_in_threads, open_image
from cbam_keras.data.examples import Dataset, describe_counts, digest

# What colors of no class are called, and the classes of masks of 0 and 255.
VOID = ("void", "ignore", "ignored", "unlabeled", "unlabelled")
BINARY = ("background", "foreground")
# The white of 8 and of 16 bits.
WHITE = (255, 65535)
# Values of a compressed mask of two classes are this near to black or white,
# but for this fraction of the pixels, at the edges.
NEAR, EDGES = 32, 0.1
# A line of colors, as "128 64 128 Road", "Road, 128, 64, 128", "1 Road 9 9 9".
RGB = r"(\d+)[\s,;]+(\d+)[\s,;]+(\d+)"
NAME = r'("[^"]+"|(?!\d+(?:[\s,;]|$))[^,;"]+?)'
COLOR_LINE = re.compile(
    rf"\s*(?:{RGB}[\s,;]+{NAME}|(?:\d+[\s,;]+)?{NAME}[\s,;]+{RGB})\s*"
)

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
    pair_by: str | None = None

    def __post_init__(self) -> None:
        _checks.positive_integer(
            "ignore_index", self.ignore_index, or_zero=True
        )
        _checks.pattern("pair_by", self.pair_by)
        names, colors = self.class_names, self.colors
        if names is not None and (
            isinstance(names, str | Mapping | Set)
            or len({*names}) < max(2, len(names))
        ):
            raise ValueError(
                "`class_names` must be two different names or more, as a list "
                "in the order of their values in the masks (of a file, open("
                f"path).read().splitlines()). Received: class_names={names!r}"
            )
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
    colors = defaultdict[str, list[list[int]]](list)
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
        elif number or re.search(r"\d", line):
            raise ValueError(
                "`colors` must have a line of red, green, blue and the name "
                'for each class, as "128 64 128 Road" or "Road,128,64,128"; '
                "json.load makes a mapping of JSON. "
                f'Received: colors="{path}" with the line "{line}"'
            )
    return dict(colors)


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
    """How codes of masks become classes, the same for a whole dataset.

    A code is a value or, if `is_color`, a color; of `is_binary` masks it is
    black or white. `table` has the class of each.
    """

    table: Mapping[int, int]
    is_color: bool = False
    is_binary: bool = False

    @functools.cached_property
    def _arrays(self):
        codes = sorted(self.table)
        classes = np.array([self.table[x] for x in codes])
        is_small = classes.max() <= 255
        return np.array(codes), classes.astype("uint8" if is_small else "int32")

    @property
    def dtype(self) -> np.dtype:
        """The type of a class."""
        return self._arrays[1].dtype

    def to_code(self, values: Any, has_colors: bool) -> Any:
        """Returns the codes of what a scan counts."""
        if self.is_binary:
            return 255 * (values > 127)
        return values * GRAY if self.is_color and not has_colors else values

    def read(self, mask: Any) -> np.ndarray:
        """Returns the class of each pixel of a mask, `(H, W)`."""
        values, has_colors, *_ = _decode(mask, self.is_color)
        codes, classes = self._arrays
        places = np.searchsorted(codes, self.to_code(values, has_colors))
        return classes[places]


class Scan(NamedTuple):
    """What one mask holds, and the name of its file."""

    name: str
    size: tuple[int, int]
    image_size: tuple[int, int]
    # The number of pixels of each value, or color.
    counts: Counter[int]
    has_colors: bool
    palette: dict[int, tuple[int, ...]]
    is_lossy: bool
    content: str
    # What may be wrong with the file.
    doubt: str


def _decode(mask, is_color):
    """Returns values or colors as integers `(H, W)`, and which they are.

    Then the palette of indices, and the format of the file.
    """
    palette, kind = {}, ""
    if isinstance(mask, str):
        ops = _checks.require("PIL.ImageOps", extra="data")
        with open(mask, "rb") as file:
            opened = open_image(file)
            kind, image = str(opened.format), ops.exif_transpose(opened)
            if image.mode == "P" and not is_color:
                colors = np.reshape(image.getpalette("RGB"), (-1, 3)).tolist()
                palette = dict(enumerate(map(tuple, colors)))
            elif image.mode == "LA":
                image = image.getchannel(0)
            elif not re.match(r"[1LIF]($|;)", image.mode):
                image = image.convert("RGB")
            mask = np.asarray(image)
    values = np.nan_to_num(mask).astype("int64")
    if (values != mask).any():
        raise decoding.Unsupported("fractions, where masks are whole numbers")
    has_colors = values.ndim == 3 and (values != values[..., :1]).any()
    if values.ndim == 3:
        values = values @ SHIFTS if has_colors else values[..., 0]
    return values, bool(has_colors), palette, kind


def _scan(dataset, examples, is_color, row):
    """Returns the scan of a mask, or text on why it is not read."""
    mask, image = examples.masks[row], examples.images[row]
    name, is_file = f"masks[{row}]", isinstance(image, str)
    if isinstance(mask, str):
        name = f'"{dataset.name_of(mask)}"'
    try:
        values, has_colors, palette, kind = _decode(mask, is_color)
        are_files = is_file and isinstance(mask, str)
        doubt = decoding.find_doubt(mask, image) if are_files else ""
    # Pillow raises errors of many kinds for damaged images.
    except Exception as error:
        return f"{name} ({error})"
    codes, counts = np.unique(values, return_counts=True)
    return Scan(
        name,
        values.shape,
        dataset.headers[image][:2] if is_file else image.shape[:2],
        Counter(dict(zip(codes.tolist(), counts.tolist(), strict=True))),
        has_colors,
        {code: palette[code] for code in codes.tolist() if code in palette},
        kind in ("JPEG", "MPO"),
        digest(values),
        doubt,
    )


def encode(dataset: Dataset, masks: Masks) -> Dataset:
    """Returns a dataset whose masks are classes, after checking all of them.

    Masks that cannot be read are left out with their images. Those in files
    are decoded again when they are used.
    """
    splits, scans_of, unread, channels = _scan_all(dataset, masks)
    scans = [scan for each in scans_of.values() for scan in each]
    if unread and not scans:
        raise ValueError(
            "Masks must be images that can be read. Received: "
            f"{len(unread):,} that cannot: {_checks.first_few(unread)}"
        )
    if unread:
        _checks.warn(
            f"{_checks.count(len(unread), 'mask')} could not be read, and will "
            f"be left out with their images: {_checks.first_few(unread)}"
        )
    _check_sizes(scans)
    encoding, names, note = _find_encoding(scans, masks, channels)
    _check_known(scans, encoding, masks, names)
    if masks.ignore_index == 255 < len(names):
        raise ValueError(
            "`ignore_index` must not be the number of a class. Received: "
            f"ignore_index=255 and {len(names)} classes. Pass another one"
        )
    for split, examples in splits.items():
        counts = [
            _count_pixels(scan, encoding, len(names), masks.ignore_index)
            for scan in scans_of[split]
        ]
        pixels = np.array(counts, "int64").reshape(-1, len(names))
        changes = {"pixels": pixels, "encoding": encoding}
        if examples.masks.dtype != object:
            classes = np.stack([encoding.read(x) for x in examples.masks])
            changes |= {"masks": classes, "encoding": None}
        splits[split] = dataclasses.replace(examples, **changes)
    total = sum(scan.counts.total() for scan in scans)
    labeled = sum(int(x.pixels.sum()) for x in splits.values())
    ignored = f"{100 - 100 * labeled / total:.3g} % of the pixels"
    if labeled < total:
        note = f"{note or 'ignored'}: {ignored}"
    doubts = [describe_counts(Counter(x.doubt for x in scans if x.doubt))]
    if 2 * labeled < total:
        doubts.append(f"{ignored} are ignored, more than have a class")
    if len(scans) > 1 and len({scan.content for scan in scans}) == 1:
        doubts.append("all are equal, as fields of view are")
    if any(doubts):
        _checks.warn(f"Masks may be wrong: {', '.join(filter(None, doubts))}")
    contents = [scan.content for scan in scans]
    meaning = sorted(encoding.table.items()), names, masks.ignore_index
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


def _scan_all(dataset, masks):
    """Returns the splits of masks that can be read, and the scans of each.

    Then text on each of the others, and the channels of one-hot arrays.
    """
    is_color = masks.colors is not None and masks.table[2]
    splits, scans, unread, channels = {}, {}, [], 1
    for split, given in dataset.splits.items():
        examples = _without_one_hot(given, masks)
        if examples.masks.ndim == 3 < given.masks.ndim:
            channels = given.masks.shape[-1]
        scan = functools.partial(_scan, dataset, examples, is_color)
        title, rows = f"Checking masks of {split}", range(len(examples))
        results = [*map_in_threads(scan, rows, title)]
        unread += [x for x in results if isinstance(x, str)]
        scans[split] = [x for x in results if isinstance(x, Scan)]
        is_read = [isinstance(x, Scan) for x in results]
        splits[split] = examples.take(np.flatnonzero(is_read))
    return splits, scans, unread, channels


def _count_pixels(scan, encoding, num_classes, ignore_index):
    """Returns the number of pixels of each class in a mask."""
    pixels = [0] * num_classes
    for value, count in scan.counts.items():
        code = encoding.to_code(value, scan.has_colors)
        label = encoding.table[int(code)]
        if label < num_classes and label != ignore_index:
            pixels[label] += count
    return pixels


def _without_one_hot(examples, masks):
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
        raise ValueError(
            "Masks of several channels must be one-hot: a 1 in the channel of "
            "the class of each pixel, and 0 elsewhere. Received: masks "
            f"{values.shape} of {values.dtype}. Colors need "
            'colors={"road": (128, 64, 128), ...}'
        )
    # A pixel of no class is ignored.
    labels = np.where(sums == 0, masks.ignore_index, values.argmax(axis=-1))
    return dataclasses.replace(examples, masks=labels)


def _check_sizes(scans):
    """Raises unless each mask has the size of its image, and one palette."""
    different = [
        f"{x.name} of {x.size[0]} x {x.size[1]} for an image of "
        f"{x.image_size[0]} x {x.image_size[1]}"
        for x in scans
        if x.size != x.image_size
    ]
    if different:
        raise ValueError(
            "A mask must have the size of its image, in pixels. Received: "
            f"{_checks.first_few(different)}, {len(different):,} in all. "
            "Resize masks without interpolation (nearest), or images"
        )
    first = dict[int, tuple]()
    for scan in scans:
        for index, color in scan.palette.items():
            other, name = first.setdefault(index, (color, scan.name))
            if other != color:
                raise ValueError(
                    "Masks with a palette must have the same one, so that an "
                    f"index is one class. Received: index {index} is {other} "
                    f"in {name} and {color} in {scan.name}. Give `colors`, "
                    "the color of each class, and the palettes do not matter"
                )


def _find_encoding(scans, masks, channels):
    """Returns the encoding of masks, the classes, and a note on them."""
    if masks.colors is not None:
        table, names, is_color = masks.table
        void = [x for x in masks.colors if x not in names]
        note = f"ignored, with {', '.join(void)}" if void else ""
        return Encoding(table, is_color), names, note
    totals, lossy = Counter[int](), Counter[int]()
    for scan in scans:
        totals.update(scan.counts)
        lossy.update(scan.counts if scan.is_lossy else {})
    names = masks.class_names
    two = tuple(map(str, names or BINARY)) if channels == 1 else ()
    middle = sum(n for x, n in lossy.items() if NEAR <= x <= 255 - NEAR)
    is_white = 255 - NEAR < max(lossy, default=0) <= 255
    if len(two) == 2 and is_white and middle <= EDGES * lossy.total():
        first = next(scan for scan in scans if scan.is_lossy)
        for scan in scans:
            if not scan.is_lossy and not {*scan.counts} <= {0, *WHITE}:
                raise _disagree(first, scan)
        note = "JPEG masks: values above 127 are foreground"
        return Encoding({0: 0, 255: 1}, is_binary=True), two, note
    for white in WHITE:
        if len(two) == 2 and {white} <= {*totals} <= {0, white}:
            return Encoding({0: 0, white: 1}), two, ""
    count = next(x for x in itertools.count() if x not in totals)
    # The last one may be the void.
    count -= count == masks.ignore_index + 1
    if channels > 1:
        count = channels
    elif lossy or any(scan.has_colors for scan in scans):
        # What a JPEG file holds is not what was saved.
        count, names = 0, () if lossy else names
    elif masks.ignore_index in WHITE:
        _check_white(scans, masks.ignore_index, totals)
    names = tuple(map(str, range(count) if names is None else names))
    codes = [*range(len(names)), masks.ignore_index]
    return Encoding({code: code for code in codes}), names, ""


def _check_white(scans, white, totals):
    """Raises if white pixels may be the foreground, or may be ignored."""
    others = [scan for scan in scans if {*scan.counts} - {0, white}]
    of_white = [scan for scan in scans if white in scan.counts]
    alone = [scan for scan in of_white if {*scan.counts} <= {0, white}]
    # Few ones beside so many white pixels are taken for errors.
    is_stray = {*totals} <= {0, 1, white} and (
        2 * len(alone) > len(of_white) or 10 * totals[1] < totals[white]
    )
    if others and of_white and (is_stray or len(alone) == len(of_white)):
        raise _disagree((alone or of_white)[0], others[0])


def _disagree(*scans):
    """Returns the error to raise if masks do not mean the same."""
    texts = [f"{x.name} has {_checks.first_few([*x.counts])}" for x in scans]
    return ValueError(
        "The values of all masks must mean the same: classes by number, or "
        f"0 and 255. Received: {' and '.join(dict.fromkeys(texts))}. Save "
        'them alike as PNG, or say colors={"background": 0, "foreground": '
        '[1, 255]}, or {"background": 0, "foreground": 1, "void": 255}'
    )


def _check_known(scans, encoding, masks, names):
    """Raises if masks have values that are no class."""
    unknown, place = Counter[int](), ""
    has_colors = any(scan.has_colors for scan in scans)
    # The first one in color or in JPEG is named, if there is one.
    for scan in sorted(scans, key=lambda x: (not x.has_colors, not x.is_lossy)):
        for value, count in scan.counts.items():
            code = int(encoding.to_code(value, scan.has_colors))
            if code not in encoding.table or has_colors > encoding.is_color:
                unknown[code] += count
                place = place or scan.name
    if not unknown and len(names) > 1:
        return
    is_color = encoding.is_color or has_colors
    texts = [
        f"{(x >> 16, x >> 8 & 255, x & 255) if is_color else x} ({n:,} pixels)"
        for x, n in unknown.most_common()
    ]
    classes = f"the classes {_checks.first_few(names)}, and " if names else ""
    others = _checks.count(len(texts), "other value")
    others = f"{others}, {_checks.first_few(texts)}" if texts else others
    raise ValueError(
        "Masks must hold in each pixel the number of its class, from 0 without "
        f"gaps, or {masks.ignore_index} (`ignore_index`); or 0 and 255; or a "
        f"color or gray level of `colors`. Received: {classes}{others}, as in "
        f"{place or scans[0].name}. Say what "
        'they mean: class_names=[...] by number, colors={"cell": 128, "road": '
        '(128, 64, 128), "void": ...} by value (--colors FILE), or another '
        "ignore_index. Values in between come from JPEG or from resizing: save "
        "masks as PNG, and resize them without interpolation"
    )
