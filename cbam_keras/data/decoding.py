"""Decodes and resizes images to one size, with TensorFlow or Pillow.

Both decode PNG and JPEG to the same values. Resized values differ by at most
one level.
"""

import io
import math
import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from cbam_keras import _checks

# Pillow reads many more formats, less common and less safe.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "WEBP")

# From this side on, evaluation takes a centre crop, as ImageNet's of 224 from
# 256 pixels.
CROPPED_FROM = 128

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

# The tag of EXIF that says how the camera was held; from 5 on, height and
# width are exchanged. The pattern is its entry with any value but "upright",
# in either order of bytes, as cameras write it: near the start of a file.
ORIENTATION = 0x0112
TURNED = (
    r"\x01\x12\x00\x03\x00\x00\x00\x01\x00[\x02-\x08]"
    r"|\x12\x01\x03\x00\x01\x00\x00\x00[\x02-\x08]\x00"
)
EXIF_BYTES = 65536

# Random resized crops: the fraction of the area, the logarithm of the largest
# aspect ratio, and how many boxes are drawn to find one that fits.
AREA = (0.08, 1.0)
LOG_RATIO = math.log(4 / 3)
TRIES = 10


def evaluation_box(
    height: Any, width: Any, size: tuple[int, int]
) -> tuple[Any, Any, Any, Any]:
    """Returns top, left, height and width of the centre crop of evaluation.

    The largest box with the aspect ratio of `size`; from `CROPPED_FROM`
    pixels on, 224/256 of each side of it. Numbers may be tensors.
    """
    factor = 1.0
    if min(size) >= CROPPED_FROM:
        factor = 256 / 224
    resized = [round(factor * side) for side in size]
    # The smaller of both ratios, without `min`, which tensors lack.
    by_height, by_width = height / resized[0], width / resized[1]
    scale = (by_height + by_width - abs(by_height - by_width)) / 2
    box = size[0] * scale, size[1] * scale
    return (height - box[0]) / 2, (width - box[1]) / 2, *box


def random_box(
    library: Any, height: Any, width: Any, draws: Any
) -> tuple[Any, Any, Any, Any]:
    """Returns top, left, height and width of a random resized crop.

    As Szegedy et al., 2015, and torchvision: the first of ten boxes of 8 to
    100 % of the area and an aspect ratio of 3:4 to 4:3 that lies in the
    image, else the largest centre box of such a ratio. `library` is NumPy or
    TensorFlow, `draws` are `(10, 4)` from [0, 1).
    """
    area = height * width * (AREA[0] + (AREA[1] - AREA[0]) * draws[:, 0])
    ratio = library.exp(LOG_RATIO * (2 * draws[:, 1] - 1))
    heights = library.round(library.sqrt(area / ratio))
    widths = library.round(library.sqrt(area * ratio))
    fits = (heights >= 1) & (heights <= height)
    fits &= (widths >= 1) & (widths <= width)
    first = library.argmax(library.where(fits, 1, 0))
    found = fits[first]
    high = library.where(
        found,
        heights[first],
        library.minimum(height, library.round(width * 4 / 3)),
    )
    wide = library.where(
        found,
        widths[first],
        library.minimum(width, library.round(height * 4 / 3)),
    )
    top = library.where(found, draws[first, 2], 0.5) * (height - high + 1)
    left = library.where(found, draws[first, 3], 0.5) * (width - wide + 1)
    # Rounding may reach the excluded end.
    top = library.minimum(library.floor(top), height - high)
    left = library.minimum(library.floor(left), width - wide)
    return top, left, high, wide


# With TensorFlow, for `tf.data`.


def as_bytes(items: Iterable[str | bytes]) -> list[bytes]:
    """Returns paths or encoded images as bytes, which TensorFlow takes."""
    # The name of a file need not be valid text.
    return [os.fsencode(item) for item in items]


def tf_decode(tf: Any, encoded: Any, channels: int) -> Any:
    """Returns an encoded image as uint8 `(H, W, channels)`."""
    image = tf.case(
        [
            (
                _tf_is_upright_jpeg(tf, encoded),
                # As accurate as Pillow; the faster method is off by several
                # levels.
                lambda: tf.io.decode_jpeg(
                    encoded, channels=3, dct_method="INTEGER_ACCURATE"
                ),
            ),
            (
                tf.strings.substr(encoded, 0, len(PNG_SIGNATURE))
                == PNG_SIGNATURE,
                lambda: tf.io.decode_png(encoded, channels=3),
            ),
        ],
        # TensorFlow decodes the others only in part: no WebP with
        # transparency, for example, and no orientation.
        lambda: tf.numpy_function(
            lambda item: pil_decode(item, 3), [encoded], tf.uint8
        ),
    )
    image.set_shape((None, None, 3))
    # TensorFlow cannot decode every format to one channel.
    return image[..., :channels]


def _tf_is_upright_jpeg(tf, encoded):
    head = tf.strings.substr(encoded, 0, EXIF_BYTES)
    upright = tf.strings.regex_replace(head, TURNED, "", replace_global=False)
    return tf.io.is_jpeg(encoded) & (
        tf.strings.length(upright) == tf.strings.length(head)
    )


def tf_evaluation(tf: Any, images: Any, size: tuple[int, int]) -> Any:
    """Returns images `(B, H, W, C)` as evaluation sees them at a size."""
    return tf.cond(
        tf.reduce_all(tf.shape(images)[1:3] == size),
        lambda: images,
        lambda: _tf_resized(tf, images, size),
    )


def _tf_resized(tf, images, size):
    shape = tf.shape(images)
    height, width = (tf.cast(shape[axis], tf.float32) for axis in (1, 2))
    box = evaluation_box(height, width, size)
    scale = tf.stack([size[0] / box[2], size[1] / box[3]])
    resized = tf.raw_ops.ScaleAndTranslate(
        images=images,
        size=size,
        scale=scale,
        translation=-scale * tf.stack(box[:2]),
        kernel_type="triangle",
        antialias=True,
    )
    return _tf_cast(tf, resized, images.dtype)


def tf_random_crop(
    tf: Any, image: Any, channels: int | None, size: tuple[int, int], draws: Any
) -> Any:
    """Returns a random resized crop of an encoded or decoded image."""
    if channels is None:
        shape = tf.shape(image)[:2]
    else:
        is_jpeg = _tf_is_upright_jpeg(tf, image)
        # Of a JPEG only the crop is decoded, later. Other formats come whole.
        decoded = tf.cond(
            is_jpeg,
            lambda: tf.zeros((1, 1, channels), tf.uint8),
            lambda: tf_decode(tf, image, channels),
        )
        shape = tf.cond(
            is_jpeg,
            lambda: tf.io.extract_jpeg_shape(image)[:2],
            lambda: tf.shape(decoded)[:2],
        )
    sides = tf.cast(shape, tf.float32)
    box = tf.cast(tf.stack(random_box(tf, sides[0], sides[1], draws)), tf.int32)

    def cut(from_image):
        return tf.slice(from_image, [box[0], box[1], 0], [box[2], box[3], -1])

    if channels is None:
        cropped = cut(image)
    else:
        cropped = tf.cond(
            is_jpeg,
            lambda: tf.io.decode_and_crop_jpeg(
                image, box, channels=3, dct_method="INTEGER_ACCURATE"
            )[..., :channels],
            lambda: cut(decoded),
        )
    resized = tf.image.resize(cropped, size, antialias=True)
    return _tf_cast(tf, resized, cropped.dtype)


def _tf_cast(tf, resized, dtype):
    # Rounded, as Pillow does and as uint8 images in memory are.
    if dtype == tf.uint8:
        resized = tf.round(tf.clip_by_value(resized, 0, 255))
    return tf.cast(resized, dtype)


# With Pillow and NumPy.


def pil_decode(item: str | bytes, channels: int) -> np.ndarray:
    """Returns a file or an encoded image as uint8 `(H, W, channels)`.

    It is turned as its EXIF orientation says.
    """
    # Pillow would keep a GIF's file open, for its other frames.
    with open_image(item) as image:
        if _orientation(image) != 1:
            ops = _checks.require("PIL.ImageOps", extra="data")
            image = ops.exif_transpose(image)
        if image.mode.startswith("I;16"):
            # Pillow would clip; TensorFlow keeps the higher byte.
            levels = (np.asarray(image) >> 8).astype("uint8")
            return np.repeat(levels[..., None], channels, axis=-1)
        if image.mode == "P" and "transparency" in image.info:
            # Otherwise Pillow warns that it drops the transparency.
            image = image.convert("RGBA")
        return np.asarray(image.convert("RGB"))[..., :channels]


def pil_resize(
    image: np.ndarray, box: Sequence[float], size: tuple[int, int]
) -> np.ndarray:
    """Returns a box of an image, `(top, left, height, width)`, resized."""
    pil = _checks.require("PIL.Image", extra="data")
    top, left, height, width = map(float, box)
    # Rounding may leave the image, which Pillow refuses.
    top, left = max(top, 0.0), max(left, 0.0)
    bottom = min(top + height, image.shape[0])
    right = min(left + width, image.shape[1])
    options = {
        "size": size[::-1],
        "resample": pil.Resampling.BILINEAR,
        "box": (left, top, right, bottom),
    }
    if image.dtype == np.uint8 and image.shape[-1] == 3:
        return np.asarray(pil.fromarray(image).resize(**options))
    planes = [
        np.asarray(pil.fromarray(np.ascontiguousarray(plane)).resize(**options))
        for plane in np.moveaxis(image, -1, 0)
    ]
    return np.stack(planes, axis=-1)


def pil_evaluation(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns an image as evaluation sees it at a size."""
    if image.shape[:2] == tuple(size):
        return image
    box = evaluation_box(float(image.shape[0]), float(image.shape[1]), size)
    return pil_resize(image, box, size)


def pil_random_crop(
    image: np.ndarray, size: tuple[int, int], draws: np.ndarray
) -> np.ndarray:
    """Returns a random resized crop of a decoded image."""
    sides = np.float32(image.shape[0]), np.float32(image.shape[1])
    top, left, height, width = map(int, random_box(np, *sides, draws))
    # Cropped first, so that pixels outside do not blend into the edge.
    cropped = image[top : top + height, left : left + width]
    return pil_resize(cropped, (0, 0, height, width), size)


def upright_size(image: Any) -> tuple[int, int]:
    """Returns width and height of Pillow's image as `pil_decode` turns it."""
    width, height = image.size
    return (width, height) if _orientation(image) < 5 else (height, width)


def _orientation(image):
    """Returns the EXIF orientation from 1 to 8, where cameras write it."""
    # Of a PNG, Pillow would decode the whole image to find out.
    if image.format not in ("JPEG", "MPO", "WEBP"):
        return 1
    try:
        found = image.getexif().get(ORIENTATION, 1)
    except Exception:
        # Pillow raises errors of many kinds; the image itself may be whole.
        return 1
    return found if found in range(1, 9) else 1


def open_image(item: str | bytes) -> Any:
    """Returns a file or an encoded image as Pillow's image."""
    pil = _checks.require("PIL.Image", extra="data")
    source = io.BytesIO(item) if isinstance(item, bytes) else item
    return pil.open(source, formats=FORMATS)
