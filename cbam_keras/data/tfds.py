"""Data sets of TensorFlow Datasets, prepared on this machine or downloaded."""

import os
import pathlib
import re
import socket
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from cbam_keras import _checks, _progress_bar
from cbam_keras.data.preloading import headers
from cbam_keras.data.records import SPLITS, Records, Source, Stream, digest
from cbam_keras.data.splitting import TEST_FRACTION, complete

# Encoded images of more bytes are not kept in memory.
STREAMED_BYTES = 2 * 2**30
# Seconds for an answer. TensorFlow Datasets itself would try for minutes.
TIMEOUT = 3


def from_tfds(
    name: str,
    validation_fraction: float,
    seed: int,
    *,
    in_memory: bool | None,
    data_dir: str | os.PathLike | None,
    manual_dir: str | os.PathLike | None,
    download: bool,
    embedded: Sequence[str],
) -> Source:
    """Returns a set of TensorFlow Datasets, as records or as streams."""
    # Imported first, so that the error names the right package.
    tfds = _checks.require("tensorflow_datasets", extra="data")
    tf = _checks.require("tensorflow", extra="tensorflow")
    builder = _builder(tfds, name, data_dir, embedded)
    # Before much is downloaded for nothing.
    _check_features(tfds, builder, name)
    if not builder.is_prepared():
        if not download:
            raise ValueError(_not_prepared(builder, name, manual_dir))
        _download(tf, tfds, builder, name, manual_dir)
    features = builder.info.features
    label = _check_features(tfds, builder, name)
    splits = builder.info.splits
    if "train" not in splits:
        raise ValueError(
            'A data set must have the split "train". Received: '
            f'name="{name}", which has {", ".join(map(str, splits))}'
        )
    used = [split for split in SPLITS if split in splits]
    size = sum(splits[split].num_bytes or 0 for split in used)
    streamed = in_memory is not True and size > STREAMED_BYTES
    if streamed:
        divided: dict[str, Any] = _streams(
            tfds, builder, used, validation_fraction
        )
    else:
        divided = _in_memory(tfds, builder, used, name)
        divided = complete(divided, validation_fraction, seed)
    if isinstance(label, tfds.features.ClassLabel):
        class_names = tuple(map(str, label.names))
    else:
        highest = max(records.labels.max() for records in divided.values())
        class_names = tuple(str(number) for number in range(highest + 1))
    image = features["image"]
    shape: tuple | None = tuple(image.shape[:2])
    channels = image.shape[2] or 3
    skipped: tuple[str, ...] = ()
    if None in image.shape[:2]:
        shape = None
        if not streamed:
            divided, shape, skipped = _looked_at(divided)
    return Source(
        name=name,
        splits=divided,
        class_names=class_names,
        fingerprint=digest(
            builder.info.full_name,
            [(split, splits[split].num_examples) for split in used],
        ),
        shape=shape,
        channels=channels,
        skipped=skipped,
    )


def _builder(tfds, name, data_dir, embedded):
    base = name.split("/")[0].split(":")[0]
    listed = ", ".join(f'"{choice}"' for choice in embedded)
    expected = (
        f"`name` must be one of {listed}, the name of a TensorFlow data set "
        "(with its configuration and version, where it has several), an "
        f'existing folder, or arrays. Received: name="{name}"'
    )
    if not name or re.match(r"\w+:[a-zA-Z_]", name):
        # Those of a namespace are looked for in the network, for long.
        raise ValueError(expected)
    try:
        # Never asks the network for what it does not know.
        return tfds.builder(name, data_dir=data_dir, try_gcs=False)
    except tfds.core.DatasetNotFoundError as error:
        known = tfds.list_builders(with_community_datasets=False)
        where = f', data_dir="{data_dir}"' if data_dir else ""
        hint = _checks.did_you_mean(base, [*embedded, *known])
        raise ValueError(f"{expected}{where}{hint}") from error
    except (ValueError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        if base in tfds.list_builders(with_community_datasets=False):
            configurations = tfds.builder_cls(base).builder_configs
            if configurations:
                reason = "it has the configurations " + ", ".join(
                    configurations
                )
        raise ValueError(f"{expected} ({reason})") from error


def _not_prepared(builder, name, manual_dir):
    text = (
        f'The data set "{name}" is not prepared in '
        f"{builder.data_dir}. Received: download=False. Pass download=True "
        "(--download on the command line) to download and prepare it, or "
        "data_dir= (--data-dir), the folder that holds it"
    )
    if builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
        text += (
            ". Its files must be downloaded by hand, into "
            f"{_manual_folder(builder, manual_dir)}: "
            f"{_instructions(builder)}"
        )
    return text


def _instructions(builder):
    return " ".join(builder.MANUAL_DOWNLOAD_INSTRUCTIONS.split())


def _manual_folder(builder, manual_dir):
    if manual_dir is not None:
        return pathlib.Path(manual_dir).expanduser()
    return pathlib.Path(builder._data_dir_root) / "downloads" / "manual"


def _download(tf, tfds, builder, name, manual_dir):
    if builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
        folder = _manual_folder(builder, manual_dir)
        if not folder.is_dir() or not any(folder.iterdir()):
            raise ValueError(
                f'The files of the data set "{name}" must be downloaded by '
                "hand, into the folder manual_dir= (--manual-dir). Received: "
                f'manual_dir="{folder}", where nothing is. '
                f"{_instructions(builder)}"
            )
    else:
        hosts = _hosts(builder)
        if not _answers(hosts):
            raise ValueError(
                f'The data set "{name}" cannot be downloaded: no answer from '
                f"{_checks.first_few(hosts)}. Received: download=True. "
                "Prepare it on a machine with a network and copy the folder "
                f"{builder.data_dir}, or name another data_dir= (--data-dir)"
            )
    config = tfds.download.DownloadConfig(
        manual_dir=None if manual_dir is None else os.fspath(manual_dir),
        try_download_gcs=False,
    )
    try:
        builder.download_and_prepare(download_config=config)
    except (OSError, AssertionError, tf.errors.NotFoundError) as error:
        if not builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
            raise
        raise ValueError(
            f'The files of the data set "{name}" must be in the folder '
            f'manual_dir= (--manual-dir). Received: manual_dir="{folder}" '
            f"({error}). {_instructions(builder)}"
        ) from error


def _hosts(builder):
    """Returns the machines that the files come from, proxies in their place."""
    proxies = urllib.request.getproxies()
    hosts = []
    for url in builder.url_infos:
        parts = urllib.parse.urlparse(url)
        if parts.hostname is None:
            continue
        if parts.scheme in proxies and not urllib.request.proxy_bypass(
            parts.hostname
        ):
            parts = urllib.parse.urlparse(proxies[parts.scheme])
        port = parts.port or (80 if parts.scheme == "http" else 443)
        hosts.append(f"{parts.hostname}:{port}")
    return sorted(set(hosts)) or ["storage.googleapis.com:443"]


def _answers(hosts: Iterable[str]) -> bool:
    """Returns whether one of the first machines can be reached."""
    found = threading.Event()

    def ask(host):
        name, port = host.rsplit(":", 1)
        try:
            socket.create_connection((name, int(port)), TIMEOUT).close()
        except OSError:
            return
        found.set()

    threads = [
        # A name server that does not answer must not hold up the end.
        threading.Thread(target=ask, args=(host,), daemon=True)
        for host in list(hosts)[:4]
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT + 1)
        if found.is_set():
            break
    return found.is_set()


def _check_features(tfds, builder, name):
    """Returns the label's feature, or raises if it is no classification."""
    features = builder.info.features
    try:
        image, label = features["image"], features["label"]
    except (KeyError, TypeError) as error:
        raise ValueError(
            'A data set must have the features "image" and "label". '
            f'Received: name="{name}", which has '
            f"{', '.join(map(str, features))}"
        ) from error
    if not isinstance(image, tfds.features.Image) or image.np_dtype != np.uint8:
        raise ValueError(
            'The feature "image" must be an image of small integers. '
            f'Received: name="{name}", where it is {image!r}'
        )
    if label.shape != () or not np.issubdtype(label.np_dtype, np.integer):
        raise ValueError(
            'The feature "label" must be one class per image. '
            f'Received: name="{name}", where it is {label!r}'
        )
    return label


def _dataset(tfds, builder, split):
    """Returns a `tf.data.Dataset` of encoded images and labels."""
    decoders = tfds.decode.PartialDecoding(
        {"image": True, "label": True},
        decoders={"image": tfds.decode.SkipDecoding()},
    )
    read = builder.as_dataset(
        split=split,
        decoders=decoders,
        read_config=tfds.ReadConfig(try_autocache=False),
    )
    return read.map(lambda example: (example["image"], example["label"]))


def _in_memory(tfds, builder, used, name):
    splits = {}
    for split in used:
        images, labels = [], []
        read = _dataset(tfds, builder, split).as_numpy_iterator()
        total = builder.info.splits[split].num_examples
        for image, label in _progress_bar.watched(
            read, total, f"Reading {split}"
        ):
            images.append(image)
            labels.append(label)
        records = Records(
            np.empty(len(images), object), np.array(labels, "int32")
        )
        records.images[:] = images
        splits[split] = records
    # Test labels that are kept secret are written as -1.
    if "test" in splits and (splits["test"].labels < 0).any():
        splits = _without_test(splits)
    for split, records in splits.items():
        if not len(records) or records.labels.min() < 0:
            raise ValueError(
                "Every image must have a label from 0. Received: "
                f'name="{name}", whose split "{split}" has others'
            )
    return splits


def _without_test(splits):
    """Returns splits of which validation serves as test, if there is one."""
    kept = {"train": splits["train"]}
    if "validation" in splits:
        kept["test"] = splits["validation"]
    return kept


def _streams(tfds, builder, used, validation_fraction):
    """Returns streams, those that are missing cut off the training's."""
    names = {split: split for split in used}
    if "test" in names:
        first = _dataset(tfds, builder, "test").take(16).as_numpy_iterator()
        if any(label < 0 for _, label in first):
            names = _without_test(names)
    total = builder.info.splits["train"].num_examples
    start = 0
    if "test" not in names:
        start = round(TEST_FRACTION * total)
        names["test"] = f"train[:{start}]"
    if "validation" not in names:
        end = total - max(1, round(validation_fraction * (total - start)))
        names["validation"] = f"train[{end}:]"
    else:
        end = total
    if (start, end) != (0, total):
        names["train"] = f"train[{start}:{end}]"

    def stream(split):
        return Stream(
            lambda: _dataset(tfds, builder, split),
            builder.info.splits[split].num_examples,
        )

    return {split: stream(names[split]) for split in SPLITS}


def _looked_at(splits):
    """Returns splits of what can be read, their common shape, and the rest."""
    kept, shapes, skipped = {}, set(), []
    for split, records in splits.items():
        heads = headers(list(records.images), f"Looking at {split}")
        shapes |= {head[:2] for head in heads if head is not None}
        good = [head is not None for head in heads]
        skipped += [
            f"{split} {i}" for i, is_good in enumerate(good) if not is_good
        ]
        kept[split] = records.take(np.flatnonzero(good))
    return kept, shapes.pop() if len(shapes) == 1 else None, tuple(skipped)
