"""`Source`: where images are, and the one way to read and split them."""

import dataclasses
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias, TypeGuard

import keras
import numpy as np

from cbam_keras import _checks
from cbam_keras._files import Json
from cbam_keras.data import splits
from cbam_keras.data.arrays import from_arrays, is_batches, load_fashion_mnist
from cbam_keras.data.decoding import read_all
from cbam_keras.data.digits import EMBEDDED, from_embedded
from cbam_keras.data.examples import Dataset, Examples, Rows, describe_counts
from cbam_keras.data.folders import from_folder
from cbam_keras.data.groups import note_groups
from cbam_keras.data.kinds import KINDS
from cbam_keras.data.layouts import is_input
from cbam_keras.data.masks import Colors, Masks, encode
from cbam_keras.data.pairs import from_pairs, make_patterns
from cbam_keras.data.patterns import make_pattern
from cbam_keras.data.tables import COLUMNS, from_table, is_table
from cbam_keras.data.tfds import from_tfds

# What `load` takes: arrays, data frames and most batches are iterable.
Given: TypeAlias = str | os.PathLike | Iterable | keras.utils.PyDataset | None
# Paths may begin with these, and names of datasets never do.
PATH_STARTS = (".", "~", "/", "\\")
# Attributes that a description lacks: `data` is called `name` there, and
# whoever reads the description of somebody else decides what is downloaded.
NOT_DESCRIBED = ("data", "download", "_kept")


@_checks.named_arguments
@dataclasses.dataclass(frozen=True)
class Source:
    """The arguments of `load` that neither a recipe nor a study decides."""

    data: Given
    validation_fraction: float = 0.1
    pattern: str | None = None
    image_column: str | None = None
    label_column: str | None = None
    split_column: str | None = None
    group_column: str | None = None
    fold_column: str | None = None
    image_folder: str | os.PathLike | None = None
    data_dir: str | os.PathLike | None = None
    download: bool = False
    kind: str | None = None
    # What each example of arrays belongs to, by split if there are several.
    groups: Iterable | None = None
    standardize: bool = True
    masks: Masks | None = None
    # `NUMBERS`, `SEVERAL`, or `None` for one class of each image.
    labels: str | None = None
    # What has been read.
    _kept: dict[str, Any] = dataclasses.field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        fraction = self.validation_fraction
        _checks.positive_number("validation_fraction", fraction)
        _checks.momentum("validation_fraction", fraction)
        _checks.boolean("download", self.download)
        _checks.boolean("standardize", self.standardize)
        _checks.one_of("kind", self.kind, (None, *KINDS))
        origin = self.origin
        arrays = tuple | list | Mapping | str | os.PathLike
        is_known = isinstance(self.data, arrays) or is_batches(self.data)
        if origin == "arrays" and not is_known:
            raise TypeError(
                "`data` must be the name of a dataset, a path or arrays "
                f"(images, labels). Received: {type(self.data).__name__}. Join "
                "the batches of a generator: images, labels = map("
                "np.concatenate, zip(*itertools.islice(generator, steps)))"
            )
        if self.labels and origin != "arrays":
            raise ValueError(
                "`data` must be arrays or batches for labels that are numbers, "
                f"or several for each image. Received: data={self.name!r}"
            )
        columns = [f"{name}_column" for name in COLUMNS]
        of_classes, is_table = self.masks is None, origin == "table"
        may_be_arrays = of_classes and origin in ("arrays", "folder", "table")
        in_memory = not (_is_path(self.data) or is_batches(self.data))
        is_pattern = of_classes and origin == "folder"
        for names, is_right, what in (
            ([*columns, "image_folder"], is_table, "CSV files and data frames"),
            (["pattern"], is_pattern, "folders of images by class"),
            (["data_dir"], origin == "tfds", "datasets of TensorFlow Datasets"),
            (["kind"], may_be_arrays, "arrays and files of them"),
            (["groups"], in_memory, "arrays in memory"),
        ):
            for name in () if is_right else names:
                value = getattr(self, name)
                if value is not None:
                    message = f"`{name}` is only for {what}. Received: "
                    raise ValueError(f"{message}{name}={value!r}")
        if self.pattern is not None:
            make_pattern(self.pattern, isinstance(self.data, Mapping))
        if self.masks is not None and origin in ("embedded", "tfds"):
            raise ValueError(
                "`data` must be a folder, a table, arrays or batches. Received:"
                f" data={self.data!r}, with masks. TensorFlow Datasets come as "
                'pairs: tfds.load(...).map(lambda x: (x["image"], '
                'x["segmentation_mask"])).batch(32)'
            )

    @property
    def origin(self) -> str:
        """`"table"`, `"folder"`, `"embedded"`, `"tfds"` or `"arrays"`."""
        if is_table(self.data):
            return "table"
        if isinstance(self.data, Mapping):
            is_path = map(_is_path, self.data.values())
            return "folder" if self.data and all(is_path) else "arrays"
        is_file = str(self.data).endswith((".npz", ".npy"))
        if not _is_path(self.data) or is_file:
            return "arrays"
        if not isinstance(self.data, str) or self.data.startswith(PATH_STARTS):
            return "folder"
        if self.data in EMBEDDED:
            return "embedded"
        # A folder may bear the name of a dataset.
        is_folder = self.data_dir is None and os.path.isdir(self.data)
        return "folder" if is_folder else "tfds"

    @property
    def name(self) -> str:
        """The name of the dataset, known before it is read."""
        if self.origin in ("embedded", "tfds"):
            return str(self.data)
        if not _is_path(self.data):
            return {"folder": "folders"}.get(self.origin, self.origin)
        path = pathlib.Path(self.data).expanduser().resolve()
        if self.origin != "folder":
            return path.stem
        # Images beside masks are in a folder called so.
        is_part = self.masks is not None and is_input(path.name)
        return path.parent.name if is_part else path.name

    def __getstate__(self) -> Json:
        # Workers read the images themselves.
        return {**vars(self), "_kept": {}}

    def read(self) -> Dataset:
        """Returns images as they are split, read once for all seeds."""
        if "dataset" in self._kept:
            return self._kept["dataset"]
        dataset, numbered, total = self._find_reader()(), {}, 0
        # Without any image, an error says why.
        if self.masks is not None and any(map(len, dataset.splits.values())):
            dataset = encode(dataset, self.masks)
        for split, examples in dataset.splits.items():
            places = np.arange(total, total + len(examples))
            numbered[split] = dataclasses.replace(examples, places=places)
            total += len(examples)
        if dataset.splits["train"].folds is not None:
            numbered = splits.number_folds(numbered)
        self._kept["dataset"] = dataclasses.replace(dataset, splits=numbered)
        return self._kept["dataset"]

    def read_all(
        self, examples: Examples, size: tuple[int, int], channels: int
    ) -> Examples:
        """Returns images of `split` decoded to one size, once for all seeds."""
        title, places = "Preparing images", examples.places
        if places is None or examples.images.shape[1:3] == size:
            return read_all(examples, size, channels, title)
        decoded = self._kept.setdefault("decoded", {})
        if (size, channels) not in decoded:
            every = splits.pool(self.read()).splits["train"]
            decoded[size, channels] = read_all(every, size, channels, title)
        every = decoded[size, channels]
        return dataclasses.replace(
            examples,
            images=Rows(every.images, places),
            masks=None if every.masks is None else Rows(every.masks, places),
            encoding=None,
            names=examples.paths,
        )

    def _find_reader(self):
        """Returns the function that reads such data, with its arguments."""
        data, masks, kind = self.data, self.masks, self.kind
        options = {"of_masks": masks is not None, "kind": kind}
        match self.origin:
            case "table":
                columns = {x: getattr(self, f"{x}_column") for x in COLUMNS}
                place = self.image_folder
                return partial(from_table, data, columns, place, **options)
            case "folder" if masks is not None:
                return partial(from_pairs, data, masks.folder, masks.images)
            case "folder":
                return partial(from_folder, data, self.pattern, kind)
            case "embedded":
                return partial(from_embedded, data)
            case "arrays":
                options |= {"label_kind": self.labels, "groups": self.groups}
                return partial(from_arrays, data, **options)
        if data == "fashion_mnist" and self.data_dir is None:
            return load_fashion_mnist
        return partial(from_tfds, data, self.data_dir, self.download)

    def count_folds(self, folds: int | None = None) -> int | None:
        """Returns `folds`, or the number of those that the data say."""
        splits.check_folds(folds)
        if self.fold_column is None and "{fold}" not in str(self.pattern):
            return folds
        parts = self.read().splits.values()
        count = 1 + max(int(x.folds.max(initial=0)) for x in parts)
        if folds not in (None, count):
            raise ValueError(
                "`folds` must be the number of folds in the data, or be left "
                f"out. Received: {folds=} and {count} in the data"
            )
        return count

    def split(
        self, seed: int = 0, folds: int | None = None, fold: int = 0
    ) -> Dataset:
        """Returns the images with all three splits, see `load`."""
        folds = self.count_folds(folds)
        splits.check_folds(folds, fold)
        dataset = self.read()
        received = self.name
        if _is_path(self.data):
            received = f'data="{self.data}"'
        if dataset.left_out:
            received += f" (left out: {describe_counts(dataset.left_out)})"
        if dataset.left_out and not any(map(len, dataset.splits.values())):
            raise ValueError(
                f"`data` must hold {dataset.noun}s that can be read. Received: "
                f"{received}"
            )
        leaks = () if folds else splits.warn_of_divided_groups(dataset)
        if folds is not None:
            dataset = splits.pool(dataset)
        # A published dataset is taken as it is, classes without images too.
        is_published = self.origin in ("embedded", "tfds")
        is_checked = folds is not None or not is_published
        if is_checked:
            are_given = dataset.splits["train"].folds is not None
            splits.check_classes(
                dataset, received, None if are_given else folds
            )
        dataset = splits.complete(
            dataset, self.validation_fraction, seed, folds, fold
        )
        if is_checked:
            # Groups may be too few for each split.
            splits.check_classes(dataset, received)
        if not is_published:
            leaks += splits.warn_of_copies(dataset)
        remarks = (*dataset.remarks, *self._note_names(dataset))
        return dataclasses.replace(dataset, leaks=leaks, remarks=remarks)

    def _note_names(self, dataset):
        """Returns notes on groups that the names of files tell of."""
        train = dataset.splits["train"]
        has_classes = dataset.root is not None and train.labels.ndim == 1
        is_said = dataset.grouped_by or "{fold}" in str(self.pattern)
        if train.paths is None or is_said or not has_classes:
            return ()
        names, classes, parts = list[str](), list[str](), list[str]()
        for split, examples in dataset.splits.items():
            names += map(dataset.name_of, examples.paths)
            parts += [split] * len(examples)
            if dataset.class_names and self.masks is None:
                classes += [dataset.class_names[i] for i in examples.labels]
            else:
                classes += [""] * len(examples)
        # The folders of the two layouts that need no pattern.
        ends = ("{split}/{class}", "{class}")
        patterns = [f"{start}{end}" for end in ends for start in ("", "**/")]
        if self.pattern is not None:
            patterns = [os.path.dirname(self.pattern)]
        note = note_groups(names, classes, parts, dataset.root, patterns)
        return (note,) if note else ()

    def describe(self) -> Json | None:
        """Returns plain values for `from_description`, `None` for arrays."""
        if not _is_path(self.data):
            return None
        description: Json = {"name": self.data}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name not in NOT_DESCRIBED and value is not None:
                description[field.name] = value
        if self.masks is not None:
            masks = description["masks"] = dataclasses.asdict(self.masks)
            if masks["folder"] is not None and masks["images"] is None:
                path = os.path.expanduser(masks["folder"])
                masks["folder"] = os.path.abspath(path)
        is_path = self.origin in ("folder", "table", "arrays")
        keys = {"data_dir", "image_folder"} | ({"name"} if is_path else set())
        for key in keys & {*description}:
            path = os.path.expanduser(description[key])
            description[key] = os.path.abspath(path)
        return description

    @classmethod
    def from_description(cls, description: Json) -> "Source":
        """Returns the source of a description; other keys are ignored."""
        options = {
            field.name: description[field.name]
            for field in dataclasses.fields(cls)
            if field.name not in NOT_DESCRIBED and field.name in description
        }
        if "masks" in options:
            options["masks"] = Masks(**options["masks"])
        return cls(description["name"], **options)


@_checks.named
def source_of_masks(
    data: Given = None,
    masks: Given = None,
    *,
    images: Given = None,
    class_names: Sequence[str] | None = None,
    colors: Colors | None = None,
    ignore_index: int | None = None,
    mask_column: str | None = None,
    validation_fraction: float = 0.1,
    image_column: str | None = None,
    split_column: str | None = None,
    group_column: str | None = None,
    fold_column: str | None = None,
    image_folder: str | os.PathLike | None = None,
) -> Source:
    """Returns the source of these arguments of `load_masks`."""
    if data is None:
        data, images = images, None
    folder, is_path = masks if _is_path(masks) else None, _is_path(data)
    source = Source(
        data if is_path or masks is None else (data, masks),
        masks=Masks(folder, class_names, colors, ignore_index, images),
        label_column=mask_column,
        pattern=None,
        validation_fraction=validation_fraction,
        image_column=image_column,
        split_column=split_column,
        group_column=group_column,
        fold_column=fold_column,
        image_folder=image_folder,
    )
    is_folder = source.origin == "folder"
    is_mixed = (masks is not folder) if is_path else is_folder
    has_patterns = images is not None or "{" in str(folder)
    if is_mixed or not is_folder and (folder is not None or has_patterns):
        raise ValueError(
            "`masks` must be a folder or a pattern if `data` is a folder, and "
            "be left out otherwise; `images` is for folders. Received: "
            f"data={data if is_path else type(data).__name__!r}, "
            f"masks={folder if masks is folder else type(masks).__name__!r}, "
            f"images={_checks.shown(images)}"
        )
    if has_patterns:
        make_patterns(images, folder)
    return source


def _is_path(data: object) -> TypeGuard[str | os.PathLike]:
    return isinstance(data, str | os.PathLike)
