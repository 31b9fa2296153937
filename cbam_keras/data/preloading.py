"""Images decoded and resized once, before training."""

import concurrent.futures
import os
from collections.abc import Callable, Iterator, Sequence

import keras
import numpy as np

from cbam_keras import _checks
from cbam_keras._progress_bar import watched
from cbam_keras.data.decoding import (
    as_bytes,
    opened,
    pil_decode,
    pil_evaluation,
    tf_decode,
    tf_evaluation,
)
from cbam_keras.data.records import Records

# How a file must end where its kind has an end: what was cut off has none.
ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}

# Before training.


def headers(
    items: Sequence[str | bytes], title: str
) -> list[tuple[int, int, bool] | None]:
    """Returns height, width and whether it is grey of each image.

    `None` stands for one that cannot be read. Only its head and its end are
    looked at, so that a million take minutes.
    """
    return list(watched(_in_threads(_header, items), len(items), title))


def _header(item):
    try:
        with opened(item) as image:
            form, (width, height), mode = image.format, image.size, image.mode
        end = ENDS.get("JPEG" if form == "MPO" else form, b"")
        if isinstance(item, str):
            with open(item, "rb") as file:
                file.seek(max(0, os.path.getsize(item) - 4096))
                tail = file.read()
        else:
            tail = item[-4096:]
        whole = end in tail
    except ImportError:
        raise
    except Exception:
        # Pillow raises many kinds for what is no image.
        return None
    grey = mode in ("1", "L") or mode.startswith("I;16")
    return (height, width, grey) if whole else None


def decode_all(
    records: Records, size: tuple[int, int], channels: int, title: str
) -> tuple[Records, np.ndarray]:
    """Returns records with decoded images, and the numbers of those that
    could not be decoded, which are left out."""
    count = len(records)
    images = np.empty((count, *size, channels), "uint8")
    good = np.zeros(count, bool)
    tensorflow = keras.backend.backend() == "tensorflow"
    decoded = (_tf_decoded if tensorflow else _pil_decoded)(
        records.images, size, channels
    )
    for index, image in watched(decoded, count, title):
        if image is not None:
            images[index] = image
            good[index] = True
    kept = Records(images, records.labels, records.boxes)
    if not good.all():
        kept = kept.take(np.flatnonzero(good))
    return kept, np.flatnonzero(~good)


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
    """Returns an array of images in another size."""
    if images.shape[1:3] == size:
        return images
    resized = np.empty((len(images), *size, images.shape[3]), images.dtype)
    for start in watched(
        range(0, len(images), 64), -(-len(images) // 64), "Resizing"
    ):
        part = images[start : start + 64]
        if keras.backend.backend() == "tensorflow":
            tf = _checks.require("tensorflow", extra="tensorflow")
            with tf.device("CPU:0"):
                part = tf_evaluation(tf, tf.constant(part), size).numpy()
        else:
            part = np.stack([pil_evaluation(image, size) for image in part])
        resized[start : start + 64] = part
    return resized


def _in_threads(function: Callable, items: Sequence) -> Iterator:
    """Maps in order, with some work ahead, not all of it."""
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(items), 1024):
            yield from pool.map(function, items[start : start + 1024])
