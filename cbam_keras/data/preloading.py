"""Decodes, resizes or checks all images of a dataset before training."""

import concurrent.futures
import os
from collections.abc import Callable, Iterator, Sequence

import keras
import numpy as np

from cbam_keras import _checks
from cbam_keras._terminal import watched
from cbam_keras.data.decoding import (
    as_bytes,
    open_image,
    pil_decode,
    pil_evaluation,
    tf_decode,
    tf_evaluation,
    upright_size,
)
from cbam_keras.data.records import Records

# Markers in the last bytes of a whole file. A truncated file lacks them.
END_MARKERS = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}
TAIL_BYTES = 4096
# Images that are resized at a time.
CHUNK = 64


def headers(
    items: Sequence[str | bytes], title: str
) -> list[tuple[int, int, bool] | None]:
    """Returns the height, the width and whether it is grey of each image.

    `None` for an image that cannot be read. Reads only the header and the
    end of a file, so that a million images take minutes.
    """
    return list(watched(_in_threads(_header, items), len(items), title))


def _header(item):
    try:
        with open_image(item) as image:
            kind, mode = image.format, image.mode
            width, height = upright_size(image)
        marker = END_MARKERS.get("JPEG" if kind == "MPO" else kind, b"")
        if isinstance(item, str):
            with open(item, "rb") as file:
                file.seek(max(0, os.path.getsize(item) - TAIL_BYTES))
                tail = file.read()
        else:
            tail = item[-TAIL_BYTES:]
        whole = marker in tail
    except ImportError:
        raise
    except Exception:
        # Pillow raises errors of many kinds for damaged images.
        return None
    grey = mode in ("1", "L") or mode.startswith("I;16")
    return (height, width, grey) if whole else None


def decode_all(
    records: Records, size: tuple[int, int], channels: int, title: str
) -> tuple[Records, np.ndarray]:
    """Returns records with decoded images, without those that fail.

    Also returns the indices of the images that could not be decoded.
    """
    count = len(records)
    images = np.empty((count, *size, channels), "uint8")
    is_good = np.zeros(count, bool)
    tensorflow = keras.backend.backend() == "tensorflow"
    decoded = (_tf_decoded if tensorflow else _pil_decoded)(
        records.images, size, channels
    )
    for index, image in watched(decoded, count, title):
        if image is not None:
            images[index] = image
            is_good[index] = True
    kept = Records(images, records.labels, records.boxes)
    if not is_good.all():
        kept = kept.take(np.flatnonzero(is_good))
    return kept, np.flatnonzero(~is_good)


def _tf_decoded(items, size, channels):
    tf = _checks.require("tensorflow", extra="tensorflow")

    def decode(item, index):
        if isinstance(items[0], str):
            item = tf.io.read_file(item)
        image = tf_decode(tf, item, channels)
        return tf_evaluation(tf, image[None], size)[0], index

    with tf.device("CPU:0"):
        dataset = tf.data.Dataset.from_tensor_slices(
            (tf.constant(as_bytes(items)), np.arange(len(items)))
        )
        dataset = dataset.map(decode, num_parallel_calls=tf.data.AUTOTUNE)
        for image, index in dataset.ignore_errors().as_numpy_iterator():
            yield index, image


def _pil_decoded(items, size, channels):
    def decode(item):
        try:
            image = pil_decode(item, channels)
        except ImportError:
            raise
        except Exception:
            return None
        return pil_evaluation(image, size)

    return enumerate(_in_threads(decode, items))


def resize_all(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns an array of images, resized as evaluation sees them."""
    if images.shape[1:3] == size:
        return images
    resized = np.empty((len(images), *size, images.shape[3]), images.dtype)
    for start in watched(
        range(0, len(images), CHUNK), -(-len(images) // CHUNK), "Resizing"
    ):
        part = images[start : start + CHUNK]
        if keras.backend.backend() == "tensorflow":
            tf = _checks.require("tensorflow", extra="tensorflow")
            with tf.device("CPU:0"):
                part = tf_evaluation(tf, tf.constant(part), size).numpy()
        else:
            part = np.stack([pil_evaluation(image, size) for image in part])
        resized[start : start + CHUNK] = part
    return resized


def _in_threads(function: Callable, items: Sequence) -> Iterator:
    """Maps in order, in threads. Keeps at most 1024 results in memory."""
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(items), 1024):
            yield from pool.map(function, items[start : start + 1024])
