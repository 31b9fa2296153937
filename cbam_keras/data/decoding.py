"""Decodes images and brings them to one size, with Pillow."""

import concurrent.futures
import dataclasses
import functools
import hashlib
import io
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from cbam_keras import _checks
from cbam_keras._terminal import watched
from cbam_keras.data.augmentation import random_box
from cbam_keras.data.examples import Dataset, Examples, digest

# Pillow reads many more formats, less common and less safe.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "WEBP")
# The tag of EXIF that says how the camera was held, and its values that
# exchange height and width.
ORIENTATION = 0x0112
TURNED = range(5, 9)

# Markers in the last bytes of a file that is not truncated.
END_MARKERS = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND"}
# How much is read at both ends of a file.
END_BYTES = 4096

# Evaluation takes 224/256 of each side from this side on, as on ImageNet.
CROPPED_FROM = 128


def pil_decode(item: str | bytes | np.ndarray, channels: int) -> np.ndarray:
    """Returns a file, an encoded image or an array as `(H, W, channels)`."""
    if isinstance(item, np.ndarray):
        return np.broadcast_to(item, (*item.shape[:2], channels))
    pil = _checks.require("PIL.Image", extra="data")
    try:
        with _open(item) as file:
            image = pil.open(file, formats=FORMATS)
            if image.getexif().get(ORIENTATION, 1) != 1:
                ops = _checks.require("PIL.ImageOps", extra="data")
                image = ops.exif_transpose(image)
            if image.mode.startswith("I;16"):
                # Pillow would clip instead of keeping the higher byte.
                levels = (np.asarray(image) >> 8).astype("uint8")
                image = pil.fromarray(levels)
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

    `content` is a short hash by which another image is noticed.
    """

    height: int
    width: int
    is_grey: bool
    content: str


def headers(items: Sequence[str | bytes], title: str) -> list[Header | None]:
    """Returns the header of each image, `None` where it is damaged."""
    return list(in_threads(_header, items, title))


def _header(item):
    pil = _checks.require("PIL.Image", extra="data")
    try:
        with _open(item) as file:
            image = pil.open(file, formats=FORMATS)
            file.seek(0)
            start = file.read(END_BYTES)
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - END_BYTES))
            end = file.read()
            if END_MARKERS.get(image.format, b"") not in end:
                return None
            code = hashlib.sha256(start + end)
            if image.format == "BMP":
                # It is not compressed, so another may have the same ends.
                file.seek(0)
                code = hashlib.file_digest(file, "sha256")
            if image.format == "PNG" and b"eXIf" in end:
                # It follows the pixels, which Pillow decodes first.
                image.load()
            # The method of a PNG would decode each that has no EXIF data.
            turned = pil.Image.getexif(image).get(ORIENTATION, 1) in TURNED
    except Exception:
        # Pillow raises errors of many kinds for damaged images.
        return None
    width, height = image.size
    if turned:
        width, height = height, width
    is_grey = image.mode in ("1", "L") or image.mode.startswith("I;16")
    return Header(height, width, is_grey, f"{size} {code.hexdigest()}")


def left_out(names: Sequence[str]) -> None:
    """Warns of images that cannot be read, if there are any."""
    if names:
        _checks.warn(
            f"{len(names)} images could not be read and are left out: "
            f"{_checks.first_few(names)}"
        )


def _open(item):
    return io.BytesIO(item) if isinstance(item, bytes) else open(item, "rb")


def evaluation_box(
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
) -> np.ndarray:
    """Returns an image as evaluation sees it, or cropped at random."""
    image = pil_decode(item, channels)
    if draws is None:
        return pil_resize(image, size, evaluation_box(image.shape[:2], size))
    top, left, height, width = random_box(image.shape[:2], draws)
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
    prepared = functools.partial(read_image, size=size, channels=channels)
    for row, image in enumerate(in_threads(prepared, examples.images, title)):
        images[row] = image
    return dataclasses.replace(examples, images=images)


def readable(dataset: Dataset) -> Dataset:
    """Returns encoded images that can be read, with shape and channels.

    Warns of the others. The fingerprint is then of names and contents too.
    """
    splits, described = {}, list[tuple[str, str]]()
    found, skipped = set[Header](), list[str]()
    for split, examples in dataset.splits.items():
        heads = headers(examples.images, f"Reading headers of {split}")
        for row, head in enumerate(heads):
            name = f"{split} {row}"
            if dataset.root:
                path = pathlib.PurePath(examples.images[row])
                name = path.relative_to(dataset.root).as_posix()
            if head is None:
                skipped.append(name)
            else:
                found.add(head)
                described.append((name, head.content))
        is_good = np.array([head is not None for head in heads], bool)
        splits[split] = examples.take(np.flatnonzero(is_good))
    left_out(skipped)
    shapes = {(head.height, head.width) for head in found}
    is_grey = all(head.is_grey for head in found)
    return dataclasses.replace(
        dataset,
        splits=splits,
        fingerprint=digest(dataset.fingerprint, described),
        shape=shapes.pop() if len(shapes) == 1 else None,
        channels=dataset.channels or (1 if is_grey else 3),
        skipped=tuple(skipped),
    )


@functools.cache
def threads() -> concurrent.futures.ThreadPoolExecutor:
    """Returns the threads that decode images: one for each core."""
    return concurrent.futures.ThreadPoolExecutor(os.cpu_count())


def in_threads(
    function: Callable, items: np.ndarray | Sequence, title: str
) -> Iterator:
    """Maps in order, in threads. Keeps at most 1024 results in memory."""
    parts = (items[i : i + 1024] for i in range(0, len(items), 1024))
    results = (x for part in parts for x in threads().map(function, part))
    return watched(results, len(items), title)
