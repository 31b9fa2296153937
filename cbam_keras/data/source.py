"""`Source`: where images are, and the one way to read and split them."""

import dataclasses
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from cbam_keras import _checks
from cbam_keras.data.arrays import from_arrays, is_batches, load_fashion_mnist
from cbam_keras.data.decoding import warn_of_damaged
from cbam_keras.data.digits import EMBEDDED, from_embedded
from cbam_keras.data.examples import Dataset, describe_counts
from cbam_keras.data.folders import from_folder, warn_of_copies
from cbam_keras.data.splits import (
    check_classes,
    check_folds,
    complete,
    pool,
)
from cbam_keras.data.tables import from_table, is_table, name_table
from cbam_keras.data.tfds import from_tfds

# Paths may begin with these, and names of datasets never do.
PATH_STARTS = (".", "~", "/", "\\")
# Keras downloads it where TensorFlow Datasets has not prepared it.
FASHION = "fashion_mnist"
# Attributes that a description lacks: `data` is called `name` there, and
# whoever reads the description of somebody else decides what is downloaded.
NOT_DESCRIBED = ("data", "download")


@dataclasses.dataclass(frozen=True)
class Source:
    """Where images are, and what says which of them belong together.

    These are the arguments of `load` that neither a recipe nor a study
    decides; `load` documents them. Nothing is read before `read` or `split`.
    """

    # It is `Any`, since arrays and batches have many types.
    data: Any
    validation_fraction: float = 0.1
    group_by_folder: bool = True
    image_column: str | None = None
    label_column: str | None = None
    data_dir: str | os.PathLike | None = None
    manual_dir: str | os.PathLike | None = None
    download: bool = False

    def __post_init__(self) -> None:
        fraction = self.validation_fraction
        _checks.positive_number("validation_fraction", fraction)
        if fraction >= 1:
            raise ValueError(
                "`validation_fraction` must lie between 0 and 1. Received: "
                f"validation_fraction={fraction}"
            )
        _checks.boolean("group_by_folder", self.group_by_folder)
        _checks.boolean("download", self.download)
        kind = self.kind
        is_several = isinstance(self.data, tuple | list | Mapping)
        if kind == "arrays" and not is_several and not is_batches(self.data):
            raise TypeError(
                "`data` must be the name of a dataset, a path or arrays "
                f"(images, labels). Received: {type(self.data).__name__}"
            )
        columns = self.image_column, self.label_column
        if columns != (None, None) and kind != "table":
            raise ValueError(
                "`image_column` and `label_column` are only for CSV files and "
                f"data frames. Received: image_column={columns[0]!r}, "
                f"label_column={columns[1]!r}"
            )
        folders = self.data_dir, self.manual_dir
        if folders != (None, None) and kind != "tfds":
            raise ValueError(
                "`data_dir` and `manual_dir` are only for datasets of "
                f"TensorFlow Datasets. Received: data_dir={folders[0]}, "
                f"manual_dir={folders[1]}"
            )

    @property
    def kind(self) -> str:
        """`"table"`, `"folder"`, `"embedded"`, `"tfds"` or `"arrays"`."""
        if is_table(self.data):
            return "table"
        if not isinstance(self.data, str):
            return "folder" if isinstance(self.data, os.PathLike) else "arrays"
        if self.data.startswith(PATH_STARTS):
            return "folder"
        if self.data in EMBEDDED:
            return "embedded"
        # A folder may bear the name of a dataset.
        is_folder = self.data_dir is None and os.path.isdir(self.data)
        return "folder" if is_folder else "tfds"

    @property
    def name(self) -> str:
        """The name of the dataset, known before it is read."""
        if self.kind == "table":
            return name_table(self.data)
        if self.kind == "folder":
            return pathlib.Path(self.data).expanduser().resolve().name
        return self.data if isinstance(self.data, str) else "arrays"

    def read(self) -> Dataset:
        """Returns images and labels in the splits that the source has.

        Images are arrays, or files and encoded images that are not decoded
        yet. Files that cannot be read are left out, with a warning.
        """
        dataset = self._read()
        warn_of_damaged(dataset)
        return dataset

    def _read(self):
        if self.kind == "table":
            columns = self.image_column, self.label_column
            return from_table(self.data, *columns, self.group_by_folder)
        if self.kind == "folder":
            return from_folder(self.data, self.group_by_folder)
        if self.kind == "embedded":
            return from_embedded(self.data)
        if self.kind == "arrays":
            return from_arrays(self.data)
        folders = self.data_dir, self.manual_dir
        try:
            return from_tfds(self.data, EMBEDDED, *folders, self.download)
        except (ImportError, ValueError):
            is_other = self.data != FASHION or self.data_dir is not None
            if is_other or self.download:
                raise
            return load_fashion_mnist()

    def split(
        self, seed: int = 0, folds: int | None = None, fold: int = 0
    ) -> Dataset:
        """Returns the images with all three splits.

        Splits that the source lacks are split off its training images. With
        `folds` all images are pooled, and those of one fold are tested.
        """
        check_folds(folds, fold)
        dataset = self.read()
        received = self.name
        if isinstance(self.data, str | os.PathLike):
            received = f'data="{self.data}"'
        if dataset.left_out:
            received += f" (left out: {describe_counts(dataset.left_out)})"
        if folds is not None:
            dataset = pool(dataset, received)
        # A published dataset is taken as it is, classes without images too.
        is_published = self.kind in ("embedded", "tfds")
        is_checked = folds is not None or not is_published
        if is_checked:
            check_classes(dataset, received, folds)
        dataset = complete(dataset, self.validation_fraction, seed, folds, fold)
        if is_checked:
            # Groups may be too few for each split.
            check_classes(dataset, received)
        warn_of_copies(dataset)
        return dataset

    def describe(self) -> dict[str, Any] | None:
        """Returns plain values by which `from_description` finds it again.

        Arrays and data frames, which have no place, give `None`.
        """
        if not isinstance(self.data, str | os.PathLike):
            return None
        description: dict[str, Any] = {"name": self.data}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name not in NOT_DESCRIBED and value is not None:
                description[field.name] = value
        paths = ["data_dir", "manual_dir"]
        if self.kind in ("folder", "table"):
            paths.append("name")
        for key in paths:
            if key in description:
                path = os.path.expanduser(description[key])
                description[key] = os.path.abspath(path)
        return description

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> "Source":
        """Returns the source of a description; other keys are ignored."""
        options = {
            field.name: description[field.name]
            for field in dataclasses.fields(cls)
            if field.name not in NOT_DESCRIBED and field.name in description
        }
        return cls(description["name"], **options)
