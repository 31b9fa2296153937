"""Decodes images and brings them to one size, with Pillow."""

import collections
import concurrent.futures
import contextlib
import dataclasses
import functools
import hashlib
import importlib
import io
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from cbam_keras import _checks
from cbam_keras._terminal import show_progress
from cbam_keras.data.augmentation import draw_box
from cbam_keras.data.examples import Dataset, Examples, describe_counts, digest

# Pillow reads many more formats, less common and less safe.
FORMATS = "AVIF BMP GIF HEIF JPEG JPEG2000 PNG PPM TIFF WEBP".split()
# File names of images that are read.
ENDINGS = tuple(
    ".avif .bmp .gif .heic .heif .jfif .jp2 .jpe .jpeg .jpg .pbm .pgm .png "
    ".pnm .ppm .tif .tiff .webp".split()
)
# What reads files of these endings, if Pillow does not.
INSTALL = {
    ".avif": ("AVIF", "pip install --upgrade pillow"),
    ".heic": ("HEIF", "pip install pillow-heif"),
    ".heif": ("HEIF", "pip install pillow-heif"),
}
# The tag of EXIF that says how the camera was held, and its values that
# exchange height and width.
ORIENTATION = 0x0112
TURNED = range(5, 9)

# Markers in the last bytes of a file that is not truncated.
END_MARKERS = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND"}
# How much is read at both ends of a file.
END_BYTES = 4096
# Compressed, so that another image has other ends.
COMPRESSED = ("GIF", "JPEG", "MPO", "PNG", "WEBP")

# Evaluation takes 224/256 of each side from this side on, as on ImageNet.
CROPPED_FROM = 128


@functools.cache
def list_formats() -> tuple[str, ...]:
    """Returns the formats that can be read here."""
    pil = _checks.require("PIL.Image", extra="data")
    with contextlib.suppress(ImportError):
        importlib.import_module("pillow_heif").register_heif_opener()
    pil.init()
    return tuple(name for name in FORMATS if name in pil.OPEN)


def pil_decode(
    item: str | bytes | np.ndarray, channels: int, bits: int | None = None
) -> np.ndarray:
    """Returns a file, an encoded image or an array as `(H, W, channels)`.

    `bits` are those that 16-bit grey images use, if not all.
    """
    if isinstance(item, np.ndarray):
        return np.broadcast_to(item, (*item.shape[:2], channels))
    pil = _checks.require("PIL.Image", extra="data")
    try:
        with _open(item) as file:
            image = pil.open(file, formats=list_formats())
            if image.getexif().get(ORIENTATION, 1) != 1:
                ops = _checks.require("PIL.ImageOps", extra="data")
                image = ops.exif_transpose(image)
            if image.mode.startswith("I"):
                # Pillow would clip instead of keeping the higher bits.
                levels = (np.asarray(image) >> ((bits or 16) - 8)).clip(0, 255)
                image = pil.fromarray(levels.astype("uint8"))
            if image.mode == "P":
                # Otherwise Pillow warns that it drops a transparency.
                image = image.convert("RGBA")
            return np.asarray(image.convert("RGB"))[..., :channels]
    except (OSError, SyntaxError, ValueError) as error:
        name = f'"{item}"' if isinstance(item, str) else "of the dataset"
        raise ValueError(
            f"The image {name} cannot be decoded ({error}). Remove it"
        ) from error


class Header(NamedTuple):
    """What is known of an image that has not been decoded.

    `content` is a short hash by which another image is noticed, and `highest`
    the largest value of a 16-bit grey image.
    """

    height: int
    width: int
    is_grey: bool
    content: str
    highest: int | None = None


def read_headers(
    items: Sequence[str | bytes], title: str
) -> list[Header | None]:
    """Returns the header of each image, `None` where it is damaged."""
    return list(map_in_threads(_header, items, title))


def _header(item):
    pil = _checks.require("PIL.Image", extra="data")
    try:
        with _open(item) as file:
            image = pil.open(file, formats=list_formats())
            if image.mode == "F":
                # It is not known which values are black and white.
                return None
            file.seek(0)
            start = file.read(END_BYTES)
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - END_BYTES))
            end = file.read()
            if END_MARKERS.get(image.format, b"") not in end:
                return None
            code = hashlib.sha256(start + end)
            if image.format not in COMPRESSED:
                file.seek(0)
                code = hashlib.file_digest(file, "sha256")
            if image.format == "PNG" and b"eXIf" in end:
                # It follows the pixels, which Pillow decodes first.
                image.load()
            # The method of a PNG would decode each that has no EXIF data.
            turned = pil.Image.getexif(image).get(ORIENTATION, 1) in TURNED
            is_wide = image.mode.startswith("I")
            highest = int(np.max(np.asarray(image))) if is_wide else None
    except Exception:
        # Pillow raises errors of many kinds for damaged images.
        return None
    width, height = image.size
    if turned:
        width, height = height, width
    is_grey = is_wide or image.mode in ("1", "L")
    content = f"{size} {code.hexdigest()}"
    return Header(height, width, is_grey, content, highest)


def count_bits(highest: Iterable[int | None]) -> int | None:
    """Returns how many bits the largest values of images need, at least 8.

    `None` stands for images of 8 bits.
    """
    values = [x for x in highest if x is not None]
    return max(8, max(values).bit_length()) if values else None


def warn_of_damaged(dataset: Dataset) -> None:
    """Warns of images that cannot be read."""
    if dataset.skipped:
        reasons = describe_counts(dataset.damaged)
        _checks.warn(
            f"{len(dataset.skipped)} images ({reasons}) could not be read and "
            f"are left out: {_checks.first_few(dataset.skipped)}"
        )


def _reason(item):
    if isinstance(item, str):
        if not os.path.exists(item):
            return "missing"
        ending = pathlib.Path(item).suffix.lower()
        name, command = INSTALL.get(ending, (None, ""))
        if name and name not in list_formats():
            return f"{ending}: {command}"
    with contextlib.suppress(Exception), _open(item) as file:
        pil = _checks.require("PIL.Image", extra="data")
        if pil.open(file, formats=list_formats()).mode == "F":
            return "of floats: save them as integers"
    return "damaged"


def _open(item):
    return io.BytesIO(item) if isinstance(item, bytes) else open(item, "rb")


def find_evaluation_box(
    image_size: tuple[int, ...], size: tuple[int, int]
) -> tuple[float, float, float, float]:
    """Returns top, left, height and width of the centre crop of evaluation."""
    height, width = image_size
    if image_size == size:
        return 0.0, 0.0, height, width
    factor = 256 / 224 if min(size) >= CROPPED_FROM else 1.0
    scale = min(
        height / round(factor * size[0]), width / round(factor * size[1])
    )
    box = size[0] * scale, size[1] * scale
    return (height - box[0]) / 2, (width - box[1]) / 2, *box


def pil_resize(
    image: np.ndarray,
    size: tuple[int, int],
    box: Sequence[float] | None = None,
) -> np.ndarray:
    """Returns an image, or its box `(top, left, height, width)`, resized."""
    whole = (0, 0, *image.shape[:2])
    box = box or whole
    if box == whole and image.shape[:2] == size:
        # Faster than a copy of the same size.
        return image
    if image.ndim == 3 and (image.dtype != np.uint8 or image.shape[-1] != 3):
        planes = np.ascontiguousarray(np.moveaxis(image, -1, 0))
        return np.stack([pil_resize(p, size, box) for p in planes], axis=-1)
    pil = _checks.require("PIL.Image", extra="data")
    top, left, height, width = map(float, box)
    # Rounding may leave the image, which Pillow refuses.
    top, left = max(top, 0.0), max(left, 0.0)
    right = min(left + width, image.shape[1])
    bottom = min(top + height, image.shape[0])
    bilinear = pil.Resampling.BILINEAR
    corners = (left, top, right, bottom)
    resized = pil.fromarray(image).resize(size[::-1], bilinear, corners)
    return np.asarray(resized)


def read_image(
    item: str | bytes | np.ndarray,
    size: tuple[int, int],
    channels: int,
    draws: np.ndarray | None = None,
    bits: int | None = None,
) -> np.ndarray:
    """Returns an image as evaluation sees it, or cropped at random."""
    image = pil_decode(item, channels, bits)
    if draws is None:
        return pil_resize(
            image, size, find_evaluation_box(image.shape[:2], size)
        )
    top, left, height, width = draw_box(image.shape[:2], draws)
    # Cropped first, so that pixels outside do not blend into the edge.
    return pil_resize(image[top : top + height, left : left + width], size)


def read_all(
    examples: Examples, size: tuple[int, int], channels: int, title: str
) -> Examples:
    """Returns images in memory, as evaluation sees them."""
    if examples.images.shape[1:3] == size:
        return examples
    dtype = examples.images.dtype if examples.decoded else "uint8"
    images = np.empty((len(examples), *size, channels), dtype)
    prepared = functools.partial(
        read_image, size=size, channels=channels, bits=examples.bits
    )
    for row, image in enumerate(
        map_in_threads(prepared, examples.images, title)
    ):
        images[row] = image
    return dataclasses.replace(examples, images=images)


def keep_readable(dataset: Dataset) -> Dataset:
    """Returns encoded images that can be read, with shape and channels.

    The others are `skipped`. The fingerprint is then of names and contents
    too.
    """
    splits, contents = {}, dict[str, str]()
    hashed = list[tuple[str, str]]()
    readable, skipped, damaged = set[Header](), list[str](), []
    for split, examples in dataset.splits.items():
        heads = read_headers(examples.images, f"Reading headers of {split}")
        for row, head in enumerate(heads):
            item = examples.images[row]
            is_file = isinstance(item, str)
            name = dataset.name_of(item) if is_file else f"{split} {row}"
            if head is None:
                skipped.append(name)
                damaged.append(item)
            else:
                readable.add(head)
                hashed.append((name, head.content))
                if is_file:
                    contents[item] = head.content
        is_good = np.array([head is not None for head in heads], bool)
        splits[split] = examples.take(np.flatnonzero(is_good))
    reasons = collections.Counter(map(_reason, damaged))
    shapes = {(head.height, head.width) for head in readable}
    is_grey = all(head.is_grey for head in readable)
    bits = count_bits(head.highest for head in readable)
    if bits not in (None, 16):
        hashed.append(("bits", str(bits)))
    return dataclasses.replace(
        dataset,
        splits={
            split: dataclasses.replace(examples, bits=bits)
            for split, examples in splits.items()
        },
        fingerprint=digest(dataset.fingerprint, hashed),
        shape=shapes.pop() if len(shapes) == 1 else None,
        channels=dataset.channels or (1 if is_grey else 3),
        skipped=tuple(skipped),
        left_out={**dataset.left_out, **reasons},
        damaged=reasons,
        contents=contents,
    )


@functools.cache
def get_threads() -> concurrent.futures.ThreadPoolExecutor:
    """Returns the threads that decode images: one for each core."""
    return concurrent.futures.ThreadPoolExecutor(os.cpu_count())


def map_in_threads(
    function: Callable, items: np.ndarray | Sequence, title: str
) -> Iterator:
    """Maps in order, in threads. Keeps at most 1024 results in memory."""
    parts = (items[i : i + 1024] for i in range(0, len(items), 1024))
    results = (x for part in parts for x in get_threads().map(function, part))
    return show_progress(results, len(items), title)
