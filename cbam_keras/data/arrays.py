"""Arrays of examples and labels, batches of them, and files of arrays."""

import contextlib
import dataclasses
import functools
import os
import pathlib
import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from cbam_keras import _checks
from cbam_keras.data import kinds
from cbam_keras.data.decoding import map_in_threads
from cbam_keras.data.examples import NUMBERS, SEVERAL, Dataset, Examples, digest
from cbam_keras.data.splits import SPLITS, by_split

FASHION_CLASSES = tuple(
    "T-shirt/top, Trouser, Pullover, Dress, Coat, Sandal, Shirt, Sneaker, Bag, "
    "Ankle boot".split(", ")
)


# The deviation of numbers that float32 still tells apart when it is divided by.
LEAST_DEVIATION = 1e-6
# Channels whose mean is so many deviations from zero are read again, exactly.
ROUNDED_FROM = 1e3
# A mean of more deviations leaves less than three digits to float32.
MOST_DEVIATIONS = 1e4


def load_fashion_mnist() -> Dataset:
    """Returns Fashion-MNIST, which Keras downloads and keeps."""
    # A progress bar is not among the results on standard output.
    with contextlib.redirect_stdout(sys.stderr):
        arrays = keras.datasets.fashion_mnist.load_data()
    return dataclasses.replace(from_arrays(arrays), class_names=FASHION_CLASSES)


def _read_file(path):
    """Returns arrays and groups by split, of a `.npy` file those beside it."""
    path = pathlib.Path(path).expanduser()
    try:
        arrays = np.load(path, allow_pickle=False)
        if path.suffix != ".npz":
            arrays = {x.stem: np.load(x) for x in path.parent.glob("*.npy")}
        by_name = {name.lower(): array for name, array in arrays.items()}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            "`data` must be a file that exists, written by numpy.savez or "
            f'numpy.save. Received: data="{path}" ({error})'
        ) from error
    pairs, groups = {}, {}
    names = [(f"x_{x}", x) for x in (*SPLITS, "val")]
    names += [(f"{x}_images", x) for x in (*SPLITS, "val")]
    for name, split in [*names, ("x", "train")]:
        labels = name.replace("images", "labels").replace("x", "y")
        if name in by_name and labels in by_name:
            pairs[split] = by_name[name], by_name[labels]
        if f"groups_{split}" in by_name:
            groups[split] = by_name[f"groups_{split}"]
    if "train" not in pairs:
        raise ValueError(
            "A file must hold the arrays x_train and y_train, train_images and "
            "train_labels, or x and y, or be X_train.npy beside y_train.npy. "
            f'Received: data="{path}" with {[*arrays]}. '
            "Pass the images and labels of np.load: data=(images, labels)"
        )
    return pairs, groups or None


def from_arrays(
    arrays: Any,
    of_masks: bool = False,
    kind: str | None = None,
    label_kind: str | None = None,
    groups: Any = None,
) -> Dataset:
    """Returns arrays of examples and labels, or masks, as a dataset."""
    if isinstance(arrays, str | os.PathLike):
        arrays, groups = _read_file(arrays)
    if not isinstance(arrays, Mapping):
        # Two pairs are what Keras' `load_data` returns.
        is_two = _is_pair(arrays) and all(
            is_batches(part)
            or _is_pair(part)
            and (isinstance(part[0], Mapping) or np.ndim(part[0]) > 1)
            for part in arrays
        )
        if is_two and is_batches(arrays[1]):
            raise ValueError(
                "Two datasets must have names. Write "
                '{"train": data[0], "test": data[1]}, or "validation"'
            )
        splits_given = ("train", "test") if is_two else ("train",)
        parts = arrays if is_two else [arrays]
        arrays = dict(zip(splits_given, parts, strict=True))
        if groups is not None and not isinstance(groups, Mapping):
            each = groups if is_two else [groups]
            groups = dict(zip(splits_given, each, strict=False))
    arrays = by_split(arrays)
    pairs = {name: arrays[name] for name in SPLITS if name in arrays}
    for name in filter(lambda x: is_batches(pairs[x]), pairs):
        pairs[name] = _read(pairs[name], label_kind)
    # Keras' loaders name the classes, each in its own way.
    indices = getattr(arrays["train"], "class_indices", {})
    names = getattr(arrays["train"], "class_names", None)
    names = names or sorted(indices, key=lambda x: indices[x])
    kind = kinds.IMAGES if of_masks else kind
    dataset = _make_dataset(pairs, names, of_masks, kind, label_kind)
    return dataset if groups is None else _group(dataset, groups)


def _group(dataset, groups):
    """Returns a dataset whose examples of one group stay together."""
    groups = by_split(groups)
    names = {x: np.array([*map(str, y)], object) for x, y in groups.items()}
    counts = {x: len(y) for x, y in dataset.splits.items()}
    if {x: len(y) for x, y in names.items()} != counts:
        raise ValueError(
            "`groups` must have one group per example, shape (N,), or map "
            "each split to such an array if data are split. Received: "
            f"groups={_checks.shown(groups)} for {counts}"
        )
    count = _checks.count(len({*np.concatenate([*names.values()])}), "group")
    splits = dataset.splits
    return dataclasses.replace(
        dataset,
        splits={
            x: dataclasses.replace(splits[x], groups=names[x]) for x in names
        },
        grouped_by="groups",
        remarks=(*dataset.remarks, f"{count}, each in one split"),
        fingerprint=digest(dataset.fingerprint, *map(list, names.values())),
    )


def read_recordings(
    files: Mapping[str, Sequence[pathlib.Path]], kind: str | None
) -> Dataset:
    """Returns the examples of `.npz` files of x and y, each file a group."""
    arrays, groups = {}, {}
    for split, paths in files.items():
        read = [*map_in_threads(_read_file, paths, f"Reading {split}")]
        shapes = [[x.shape[1:] for x, _ in y.values()] for y, _ in read]
        wrong = [
            f"{path.name} {shape}"
            for path, shape in zip(paths, shapes, strict=True)
            if len(shape) > 1 or shape != shapes[0]
        ]
        if wrong:
            raise ValueError(
                "Each .npz file of a folder must hold x (N, ...) and y (N,) of "
                "a recording, with equal shapes except for N. Received: "
                f"{_checks.first_few(wrong)}. If a file holds several splits, "
                "pass the file itself"
            )
        parts = [pairs["train"] for pairs, _ in read]
        arrays[split] = tuple(map(np.concatenate, zip(*parts, strict=True)))
        lengths = [len(y) for _, y in parts]
        groups[split] = np.repeat([path.stem for path in paths], lengths)
    return from_arrays(arrays, kind=kind, groups=groups)


def read_arrays(
    dataset: Dataset, kind: str | None, load: Callable = np.load
) -> Dataset:
    """Returns a dataset of `.npy` files, each of one example, in memory."""
    pairs = {}
    for split, examples in dataset.splits.items():
        paths = [*examples.images]
        arrays = _stack_files(dataset, split, paths, load)
        pairs[split] = arrays, examples.labels
    made = _make_dataset(pairs, dataset.class_names, kind=kind)
    splits = {
        split: dataclasses.replace(
            examples, images=made.splits[split].images, names=examples.images
        )
        for split, examples in dataset.splits.items()
    }
    return dataclasses.replace(
        dataset,
        splits=splits,
        fingerprint=digest(dataset.fingerprint, made.fingerprint),
        kind=made.kind,
        shape=made.shape,
        channels=made.channels,
    )


def _stack_files(dataset, split, paths, load):
    """Returns the arrays of files as one.

    Each is read into its place, so that memory holds nothing twice. Numbers
    are float32, but for uint8, which may be images, and for those that float32
    would round.
    """
    if not paths:
        raise ValueError(
            f'The files of `pattern` must be arrays. For "{split}" received: '
            "none"
        )
    first = np.asarray(load(paths[0]))
    is_converted = first.dtype.kind in "iuf" and first.dtype != "uint8"
    dtype = np.dtype("float32") if is_converted else first.dtype
    stacked = np.empty((len(paths), *first.shape), dtype)
    dtypes = {first.dtype}
    first_of_shape = {first.shape: paths[0]}

    def read(row, stacked):
        array = np.asarray(load(paths[row]))
        if array.shape == first.shape:
            stacked[row] = array
        return array.shape, array.dtype

    fill = functools.partial(read, stacked=stacked)
    rows = range(len(paths))
    with np.errstate(over="ignore"):
        shapes = [*map_in_threads(fill, rows, f"Reading {split}")]
    for path, (shape, its_dtype) in zip(paths, shapes, strict=True):
        first_of_shape.setdefault(shape, path)
        dtypes.add(its_dtype)
    if len(first_of_shape) > 1:
        raise ValueError(
            _describe_shapes(dataset, split, paths, first_of_shape)
        )
    exact = np.result_type(*dtypes)
    is_rounded = is_converted and not np.can_cast(exact, "float32")
    if exact != dtype and (
        not is_converted or is_rounded & _may_round(stacked)
    ):
        stacked = np.empty((len(paths), *first.shape), exact)
        fill = functools.partial(read, stacked=stacked)
        for _ in map_in_threads(fill, rows, f"Reading {split}"):
            pass
    return stacked


def _may_round(values):
    """Returns whether a channel of float32 may lie far from zero."""
    means, deviations = kinds.moments_of(values)
    return bool((np.abs(means) > ROUNDED_FROM * deviations).any())


def _describe_shapes(dataset, split, paths, first_of_shape):
    """Returns the error for files of several shapes."""
    pairs = [*first_of_shape.items()]
    names = [f"{dataset.name_of(path)} {shape}" for shape, path in pairs]
    text = (
        "The files of `pattern` must contain arrays of equal shape. For "
        f'"{split}" received: {_checks.first_few(names)}'
    )
    folders = {os.path.basename(os.path.dirname(path)) for _, path in pairs[1:]}
    every = {os.path.basename(os.path.dirname(path)) for path in paths}
    if len(folders) == 1 and len(every) > 3:
        text += (
            f'. Move the folder "{folders.pop()}" elsewhere if it is not a '
            "class"
        )
    return text


def _make_dataset(pairs, names, of_masks=False, kind=None, label_kind=None):
    """Returns pairs of examples and labels, by their split, as a dataset."""
    checked = {x: _check_pair(x, pairs[x], of_masks) for x in pairs}
    kind = kinds.choose_kind(checked["train"][0], kind)
    for name, (examples, each) in checked.items():
        if kinds.kind_of((*examples.shape[1:], 1)) == kind:
            checked[name] = examples[..., None], each
    offset, splits, remarks = _find_offset(checked["train"][0], kind), {}, []
    if places := np.flatnonzero(offset).tolist():
        texts = [f"{offset[i]:.0f} of channel {i}" for i in places]
        note = "subtracted, as float32 would round it"
        remarks.append(f"{note}: {_checks.first_few(texts)}")
    for name, (examples, each) in checked.items():
        arrays = examples - offset if places else examples, each
        splits[name] = _make_examples(name, arrays, of_masks, kind, label_kind)
    shapes = {
        name: kinds.shape_of(each.images) for name, each in splits.items()
    }
    if any(shape != shapes["train"] for shape in shapes.values()):
        raise ValueError(
            f"The {kind} of all splits must have one shape. Received: "
            f"{kind} of the shapes {shapes}"
        )
    shape, channels = (), 0
    if kind != kinds.INPUTS:
        *shape, channels = shapes["train"]
    labels = [each.labels for each in splits.values()]
    if label_kind == SEVERAL:
        names = names or range(labels[0].shape[1])
    elif label_kind is None:
        names = names or range(1 + max(int(x.max()) for x in labels))
    else:
        names, every = (), np.concatenate(labels)
        ends = f"{every.min():.4g} to {every.max():.4g}"
        remarks.append(f"targets from {ends}, median {np.median(every):.4g}")
    hashed: list[object] = []
    for name, each in splits.items():
        hashed += [name, each.images, each.labels]
    return Dataset(
        splits=splits,
        class_names=tuple(map(str, names)),
        remarks=tuple(remarks),
        fingerprint=digest(*hashed),
        shape=tuple(shape),
        channels=channels,
        kind=kind,
    )


def _find_offset(examples, kind):
    """Returns the means by channel that float32 would round, else 0."""
    offset = np.zeros(examples.shape[-1])
    is_one = kind not in (kinds.IMAGES, kinds.INPUTS) and examples.size
    if is_one and examples.dtype.kind in "iuf":
        # Infinite values are refused later.
        with np.errstate(invalid="ignore", over="ignore"):
            means, deviations = kinds.moments_of(examples)
        is_rounded = np.abs(means) > MOST_DEVIATIONS * deviations
        is_rounded &= deviations > 0
        offset[is_rounded] = np.round(means[is_rounded])
    return offset


def is_batches(data: object) -> bool:
    """Returns whether data are batches of Keras, TensorFlow or PyTorch."""
    marks = "as_numpy_iterator", "collate_fn"
    is_foreign = any(hasattr(data, mark) for mark in marks)
    return is_foreign or isinstance(data, keras.utils.PyDataset)


def _read(batches, label_kind):
    """Returns images and labels of batches as arrays, sorted by content."""
    try:
        parts = zip(*_iterate(batches), strict=True)
        images, labels = map(np.concatenate, parts)
        hashes = [digest(image) for image in images]
        again = [digest(x) for part, _ in _iterate(batches) for x in part]
    except (TypeError, ValueError) as error:
        raise ValueError(
            "Batches must be pairs (images, labels), such as those of "
            f"tf.data.Dataset.batch. Received: {batches} ({error}). Convert "
            "dictionaries with .map(lambda x: (x['image'], x['label'])). "
            "Remove .repeat(), and after .filter add "
            ".apply(tf.data.experimental.assert_cardinality(n))"
        ) from error
    if sorted(hashes) != sorted(again):
        raise ValueError(
            "Batches must be the same each time they are iterated. Received: "
            f"{batches}; {len({*again} - {*hashes})} of {len(again)} images "
            "differ on the second pass. A .shuffle before .take or .skip "
            "needs reshuffle_each_iteration=False; random changes of images "
            "in .map belong in augment="
        )
    if label_kind is None and labels.ndim == 2 and labels.shape[1] > 1:
        # These are one-hot, if they are classes at all.
        has_one = np.count_nonzero(labels == 1, axis=1) == 1
        if has_one.all() and np.isin(labels, (0, 1)).all():
            labels = labels.argmax(axis=1)
    # Copies of one image may have different labels.
    order = np.lexsort(([str(label) for label in labels], hashes))
    return images[order], labels[order]


def _iterate(batches):
    """Yields the images and labels of each batch as arrays."""
    # Endless batches have no length, which raises.
    rows = range(len(batches))
    is_random_access = isinstance(batches, keras.utils.PyDataset)
    every = map(batches.__getitem__, rows) if is_random_access else batches
    for batch in every:
        if not _is_pair(batch):
            raise ValueError(f"with a batch of {type(batch).__name__}")
        yield tuple(map(kinds.as_array, batch))


def _is_pair(arrays):
    return isinstance(arrays, tuple | list) and len(arrays) == 2


def _check_pair(split, arrays, of_masks):
    """Returns examples and labels, or masks, as arrays."""
    if not _is_pair(arrays):
        noun = "masks" if of_masks else "labels"
        count = f" of {len(arrays)}" if isinstance(arrays, tuple | list) else ""
        raise TypeError(
            "`data` must be the name of a dataset, a path or arrays (images, "
            f"{noun}), without sample weights; pass groups with groups=. "
            f"Received: {type(arrays).__name__}{count} for "
            f'the split "{split}"'
        )
    examples, labels = arrays
    return kinds.as_array(examples), np.asarray(labels)


def _make_examples(split, arrays, of_masks, kind, label_kind):
    images, labels = arrays
    check, expected = CHECKS["masks" if of_masks else label_kind]
    if problem := _find_problem(images, kind) or check(images, labels):
        form = kinds.KINDS.get(kind, "(N, ...) by name")
        raise ValueError(
            f"Data must be {kind} {form} and {expected}. Received: "
            f"{kind} {images.shape} of {images.dtype} and "
            f"{'masks' if of_masks else 'labels'} {labels.shape} of "
            f'{labels.dtype} for the split "{split}": {problem}'
        )
    if label_kind is not None:
        # One number for each is one value.
        labels = labels[:, None] if labels.ndim == 1 else labels
        labels = labels.astype("float32")
    elif not of_masks:
        labels = labels.ravel().astype("int32")
    if kind not in (kinds.IMAGES, kinds.INPUTS):
        images = images.astype("float32", copy=False)
    if kind != kinds.IMAGES:
        return Examples(images, labels)
    whole = images.astype("uint8", copy=False)
    if images.dtype.kind == "f" and (whole != images).any():
        whole = images.astype("float32")
    if of_masks:
        zeros = np.zeros(len(whole), "int32")
        masks = labels[..., 0] if labels.shape[3:] == (1,) else labels
        return Examples(whole, zeros, masks=masks)
    return Examples(whole, labels)


def _find_problem(images, kind):
    """Returns what is wrong with examples and how to mend it, if anything."""
    inputs = kinds.inputs_of(images, kind)
    fits = kind in (kinds.INPUTS, kinds.kind_of(images.shape[1:]))
    if not fits or any(
        not x.size or x.dtype.kind not in "iuf" for x in inputs.values()
    ):
        problem = f"the {kind} are empty, of another shape or not numbers"
        return f"{problem}. Paths are columns of a data frame"
    for x in inputs.values():
        lowest, highest = x.min(), x.max()
        if not np.isfinite([lowest, highest]).all():
            bad = ~np.isfinite(x).all(axis=tuple(range(1, x.ndim)))
            counted = _checks.count(bad.sum(), kinds.noun_of(kind))
            return f"NaN or infinite values in {counted}"
    if kind != kinds.IMAGES:
        return None
    _, first, height, width = images.shape
    if first in (1, 3, 4) and height == width > 4:
        return "np.moveaxis(images, 1, -1) puts the channels last"
    # Floats of so few levels were scaled for a network.
    is_scaled = images.dtype.kind == "f" and highest <= 1
    if is_scaled or lowest < 0 or highest > 255:
        return (
            f"values from {lowest} to {highest}. Remove the earlier "
            "preprocessing, or rescale to [0, 255]: 255 * images of [0, 1], "
            "127.5 * (images + 1) of [-1, 1], images / 256 of 16 bits"
        )
    return None


def _find_problem_of_masks(images, masks):
    """Returns what is wrong with the shape or type of masks, if anything."""
    if masks.shape[:3] != images.shape[:3]:
        return "masks must have the size of their images"
    if masks.shape[3:] not in ((), (1,), (3,)):
        return "np.argmax(masks, axis=-1) gives the classes of one-hot masks"
    is_number = masks.dtype.kind in "iufb"
    is_whole = is_number and (masks == np.round(masks)).all()
    return None if is_whole else "masks must be integers"


def _find_problem_of_labels(images, labels):
    """Returns what is wrong with labels and how to mend it, if anything."""
    count = len(images)
    if labels.shape[:1] != (count,):
        return f"{count} images, but {labels.size} labels"
    if labels.size != count:
        return (
            "convert one-hot labels with np.argmax(labels, axis=-1); for "
            "several labels per image pass study.Classification(..., "
            'multi_label=True), for regression task="regression"'
        )
    is_number = labels.dtype.kind in "iufb"
    # Keras' loaders give whole numbers as floats, also for two classes.
    if is_number and (labels != np.round(labels)).any():
        return 'non-integer labels; for regression pass task="regression"'
    if is_number and 0 <= labels.min() and labels.max() < count:
        return None
    values = np.unique(labels if is_number else labels.astype(str))
    return (
        f"labels from {values[0]} to {values[-1]} for {count} images; class "
        "indices must start at 0. Convert labels, as text if mixed: names, "
        "labels = np.unique(labels, return_inverse=True)"
    )


def _find_problem_of_numbers(images, labels):
    """Returns what is wrong with regression targets, if anything."""
    if labels.dtype.kind not in "iuf" or not np.isfinite(labels).all():
        return "labels that are not numbers, or NaN or infinite"
    if labels.shape[:1] != images.shape[:1] or labels.ndim > 3:
        return f"{len(images)} examples, but labels of another shape"
    if labels.std() < LEAST_DEVIATION:
        return "(nearly) constant labels; use another unit"
    return None


def _find_problem_of_several(images, labels):
    """Returns what is wrong with several labels of an image, if anything."""
    if labels.ndim != 2 or len(labels) != len(images) or labels.shape[1] < 2:
        return "labels of another shape"
    is_binary = labels.dtype.kind in "iufb" and np.isin(labels, (0, 1)).all()
    return None if is_binary else "values other than 0 and 1"


# What finds problems of labels by their kind, and what is expected.
ONE = "an integer from 0 for the class of each, (N,) or (N, 1)"
CHECKS = {
    None: (_find_problem_of_labels, ONE),
    "masks": (_find_problem_of_masks, "masks, (N, H, W), colors (N, H, W, 3)"),
    NUMBERS: (_find_problem_of_numbers, "numbers (N,), (N, k) or (N, L, k)"),
    SEVERAL: (_find_problem_of_several, "0 or 1 for each class, (N, classes)"),
}
