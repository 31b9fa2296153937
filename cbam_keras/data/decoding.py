"""Decodes images and brings them to one size, with Pillow."""

import collections
import concurrent.futures
import dataclasses
import functools
import hashlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np

from cbam_keras import _checks
from cbam_keras._terminal import show_progress
from cbam_keras.data.augmentation import draw_box
from cbam_keras.data.examples import (
    Dataset,
    Examples,
    Header,
    describe_counts,
    digest,
)
from cbam_keras.data.formats import READERS, find_ending

# Pillow reads many more formats, less common and less safe.
LOSSLESS = ["BMP", "GIF", "PNG", "PPM", "TIFF"]
FORMATS = sorted([*LOSSLESS, "AVIF", "JPEG", "JPEG2000", "WEBP"])
# File names of images that are read.
OF_JPEG = (".jfif", ".jp2", ".jpe", ".jpeg", ".jpg")
OF_PPM = (".pbm", ".pgm", ".pnm", ".ppm")
OTHERS = (".avif", ".bmp", ".gif", ".png", ".tif", ".tiff", ".webp")
ENDINGS = tuple(sorted([*OF_JPEG, *OF_PPM, *OTHERS]))
# The tag of EXIF that says how the camera was held, and its values that
# exchange height and width.
ORIENTATION = 0x0112
TURNED = range(5, 9)
# The tags of TIFF with the bits of each color and the number of bands.
BITS, BANDS = 258, 277
# How a file of TIFF begins, by the order of its bytes.
TIFF_MAGIC = (b"II*\0", b"MM\0*")
# Pillow opens no TIFF of more bands, and logs an error instead.
MOST_BANDS = 4
UNSUPPORTED = (
    "of more than 8 bits or with additional bands: convert to 8-bit RGB, or "
    "pass arrays in [0, 255], such as images / 256 of 16 bits"
)
MANY_BANDS = (
    "of {} bands: read each with tifffile.imread(path), and pass arrays in "
    '[0, 255]: data.load((images, labels), kind="images")'
)
TOO_LARGE = (
    "larger than Pillow opens: make them smaller, or set "
    "PIL.Image.MAX_IMAGE_PIXELS = None if you trust the files"
)

# Images that end like this are not decoded to find damaged ones.
LAST_BYTES = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}

# How many items a thread is given at once, and how many results are kept.
ITEMS_AT_ONCE, MOST_RESULTS = 32, 1024

# Evaluation takes 224/256 of each side from this side on, as on ImageNet.
CROPPED_FROM = 128


@functools.cache
def list_formats() -> tuple[str, ...]:
    """Returns the formats that can be read here."""
    pil = _checks.require("PIL.Image", extra="data")
    pil.init()
    return tuple(name for name in FORMATS if name in pil.OPEN)


def pil_decode(item: str | bytes | np.ndarray, channels: int) -> np.ndarray:
    """Decodes a file or bytes to `(H, W, channels)`; leaves an array alone."""
    if isinstance(item, np.ndarray):
        return item
    # Without Pillow, no image is to blame.
    list_formats()
    try:
        with _open(item) as file:
            pixels = _read_pixels(open_image(file))
    # Pillow raises errors of many kinds for damaged images.
    except Exception as error:
        raise _name_error(item, error) from error
    return pixels[..., :channels]


def _name_error(item, error):
    name = f'"{item}"' if isinstance(item, str) else "of the dataset"
    return ValueError(
        f"The image {name} cannot be decoded ({error}). Remove the file, "
        "or repeat the command once it can be read"
    )


def open_image(file: BinaryIO, has_deep_gray: bool = False) -> Any:
    """Returns an image of Pillow of 8 bits a color, or of the gray of masks."""
    pil = _checks.require("PIL.Image", extra="data")
    bands = _count_bands(file)
    if bands > MOST_BANDS:
        raise NotImplementedError(MANY_BANDS.format(bands))
    image = pil.open(file, formats=list_formats())
    tags = getattr(image, "tag_v2", {})
    is_deep = max(tags.get(BITS, (8,))) > 8
    is_deep |= image.mode == "RGB" and tags.get(BANDS, 3) > 3
    is_deep |= image.format == "PNG" and "16B" in str(image.tile)
    is_deep |= image.mode.startswith(("I", "F"))
    if is_deep and not (has_deep_gray and image.mode.startswith("I;16")):
        raise NotImplementedError(UNSUPPORTED)
    return image


def _count_bands(file):
    """Returns the number of bands of a TIFF, 0 for any other file."""
    start = file.read(8)
    bands = 0
    if start[:4] in TIFF_MAGIC:
        tiff = _checks.require("PIL.TiffImagePlugin", extra="data")
        tags = tiff.ImageFileDirectory_v2(start)
        file.seek(tags.next)
        tags.load(file)
        bands = tags.get(BANDS, 0)
    file.seek(0)
    return bands


def _read_pixels(image):
    """Returns the pixels `(H, W, 3)`, turned as the camera was held."""
    ops = _checks.require("PIL.ImageOps", extra="data")
    ops.exif_transpose(image, in_place=True)
    if image.mode == "P":
        # Otherwise Pillow warns that it drops a transparency.
        image = image.convert("RGBA")
    # Pillow copies what it converts, even if nothing changes.
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def read_header(item: str | bytes) -> Header | str:
    """Returns what is known of an image, or the reason why it is not read."""
    pil = _checks.require("PIL.Image", extra="data")
    try:
        with _open(item) as file:
            content = file.read()
        image = open_image(io.BytesIO(content))
        height, width = image.size[::-1]
        is_grey = image.mode in ("1", "L")
        last = LAST_BYTES.get(image.format)
        is_whole = last is not None and content.endswith(last)
        # EXIF data may follow the pixels of a PNG.
        if not is_whole or b"eXIf" in content:
            height, width = _read_pixels(image).shape[:2]
        # The method of a PNG itself would decode each without EXIF data.
        elif pil.Image.getexif(image).get(ORIENTATION) in TURNED:
            height, width = image.size
    except Exception as error:
        return _find_reason(item, error)
    return Header(height, width, is_grey, hashlib.sha256(content).hexdigest())


def _find_reason(item, error):
    """Returns why an image is left out. Raises what the system may mend."""
    pil = _checks.require("PIL.Image", extra="data")
    match error:
        case FileNotFoundError():
            return "missing"
        case pil.DecompressionBombError():
            return TOO_LARGE
        case NotImplementedError():
            return str(error)
        case OSError() if error.errno is not None:
            raise _name_error(item, error) from error
    ending = find_ending(item) if isinstance(item, str) else ""
    if ending in READERS and ending not in ENDINGS:
        return f"{ending}: read each with {READERS[ending]}, and pass arrays"
    return "damaged or of another format"


def _open(item):
    return io.BytesIO(item) if isinstance(item, bytes) else open(item, "rb")


def find_evaluation_box(
    image_size: tuple[int, ...], size: tuple[int, int]
) -> tuple[float, float, float, float]:
    """Returns top, left, height and width of the center crop of evaluation."""
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
    resampling: str = "BILINEAR",
) -> np.ndarray:
    """Returns an image, or its box `(top, left, height, width)`, resized."""
    whole = (0, 0, *image.shape[:2])
    box = box or whole
    if box == whole and image.shape[:2] == size:
        # Faster than a copy of the same size.
        return image
    if image.ndim == 3 and (image.dtype != np.uint8 or image.shape[-1] != 3):
        planes = np.ascontiguousarray(np.moveaxis(image, -1, 0))
        resized = [pil_resize(p, size, box, resampling) for p in planes]
        return np.stack(resized, axis=-1)
    pil = _checks.require("PIL.Image", extra="data")
    top, left, height, width = box
    corners = left, top, left + width, top + height
    # Rounding may leave the image, which Pillow refuses.
    corners = np.clip(corners, 0, 2 * image.shape[1::-1]).tolist()
    resized = pil.fromarray(image).resize(
        size[::-1], pil.Resampling[resampling], corners
    )
    return np.asarray(resized)


def read_example(
    examples: Examples,
    row: int,
    size: tuple[int, int],
    channels: int,
    draws: np.ndarray | None = None,
) -> tuple[np.ndarray, Any]:
    """Returns an image as evaluation sees it, or cropped by random draws.

    Its label or mask follows. With a mask, evaluation sees the whole image.
    """
    item, label = examples.read(row)
    image, mask, box = pil_decode(item, channels), None, None
    if examples.masks is not None:
        mask = examples.read_mask(row)
    elif draws is None:
        box = find_evaluation_box(image.shape[:2], size)
    if draws is not None:
        top, left, height, width = draw_box(image.shape[:2], draws)
        part = slice(top, top + height), slice(left, left + width)
        # Cropped first, so that pixels outside do not blend into the edge.
        image = image[part]
        mask = mask if mask is None else mask[part]
    image = pil_resize(image, size, box)
    if mask is None:
        return image, label
    return image, pil_resize(mask, size, resampling="NEAREST")


def read_all(
    examples: Examples, size: tuple[int, int], channels: int, title: str
) -> Examples:
    """Returns images and masks in memory, as evaluation sees them."""
    if examples.images.shape[1:3] == size:
        return examples
    dtype = np.dtype(examples.images.dtype if examples.decoded else "uint8")
    images = np.empty((len(examples), *size, channels), dtype)
    masks = None
    if examples.masks is not None:
        masks = np.empty((len(examples), *size), "uint8")
    prepared = functools.partial(
        read_example, examples, size=size, channels=channels
    )
    read = map_in_threads(prepared, range(len(examples)), title)
    for row, (image, label) in enumerate(read):
        images[row] = image
        if masks is not None:
            masks[row] = label
    return dataclasses.replace(
        examples,
        images=images,
        masks=masks,
        encoding=None,
        names=examples.paths,
    )


def keep_readable(dataset: Dataset) -> Dataset:
    """Returns files of images that can be read, and warns of the others."""
    # Without Pillow, no image is to blame.
    list_formats()
    splits, headers, skipped = {}, dict[str, Header](), list[str]()
    hashed, reasons = list[tuple[str, str]](), collections.Counter[str]()
    for split, examples in dataset.splits.items():
        # A table may repeat a path.
        paths = [*dict.fromkeys(examples.images)]
        heads = map_in_threads(read_header, paths, f"Checking {split}")
        for path, head in zip(paths, heads, strict=True):
            name = dataset.name_of(path)
            if isinstance(head, str):
                skipped.append(name)
                reasons[head] += 1
            else:
                headers[path] = head
                hashed.append((name, head.content))
        is_read = [path in headers for path in examples.images]
        splits[split] = examples.take(np.flatnonzero(is_read))
    if skipped:
        _checks.warn(
            f"{_checks.count(len(skipped), 'image')} "
            f"({describe_counts(reasons)}) could not be read and will be left "
            f"out: {_checks.first_few(skipped)}"
        )
    readable = headers.values()
    shapes = {(head.height, head.width) for head in readable}
    is_grey = all(head.is_grey for head in readable)
    return dataclasses.replace(
        dataset,
        splits=splits,
        fingerprint=digest(dataset.fingerprint, hashed),
        shape=shapes.pop() if len(shapes) == 1 else None,
        channels=dataset.channels or (1 if is_grey else 3),
        left_out={**dataset.left_out, **reasons},
        headers=headers,
    )


@functools.cache
def get_threads() -> concurrent.futures.ThreadPoolExecutor:
    """Returns the threads that decode images: one for each core."""
    return concurrent.futures.ThreadPoolExecutor(os.cpu_count())


def map_in_threads(function: Callable, items: Sequence, title: str) -> Iterator:
    """Maps in order, in threads. Keeps at most 1024 results in memory.

    A thread is given several items at once, since giving it one takes as long
    as reading the header of a small image.
    """

    def call(start):
        return [function(item) for item in items[start : start + ITEMS_AT_ONCE]]

    def iterate():
        for first in range(0, len(items), MOST_RESULTS):
            last = min(first + MOST_RESULTS, len(items))
            for results in get_threads().map(
                call, range(first, last, ITEMS_AT_ONCE)
            ):
                yield from results

    return show_progress(iterate(), len(items), title)
