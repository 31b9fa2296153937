"""Tables of image files and their labels: CSV files and data frames."""

import os
import pathlib
import sys
from typing import Any

from cbam_keras import _checks
from cbam_keras.data.decoding import ENDINGS, keep_readable
from cbam_keras.data.examples import Dataset, digest
from cbam_keras.data.folders import find_first_folder, make_examples

# A column of labels is found by these among several.
LABELS = ("label", "class", "category", "target")


def is_table(data: object) -> bool:
    """Returns whether data are a CSV file or a `pandas.DataFrame`."""
    if isinstance(data, str | os.PathLike):
        is_folder = os.path.isdir(os.path.expanduser(data))
        return str(data).lower().endswith(".csv") and not is_folder
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(data, pandas.DataFrame)


def name_table(data: Any) -> str:
    """Returns the name of the dataset of a table."""
    return "table" if hasattr(data, "columns") else pathlib.Path(data).stem


def from_table(
    data: Any,
    image_column: str | None,
    label_column: str | None,
    group_by_folder: bool,
) -> Dataset:
    """Returns the image files of a table, all of them for training."""
    pandas = _checks.require("pandas", extra="plot")
    path, frame = pathlib.Path(), data
    if not isinstance(data, pandas.DataFrame):
        path = pathlib.Path(data).expanduser()
        try:
            # A class may be called "None", which pandas takes for no label.
            frame = pandas.read_csv(path, keep_default_na=False, na_values="")
        except (OSError, ValueError) as error:
            raise ValueError(
                "`data` must be a CSV file that exists, its columns named in "
                f'the first line. Received: data="{data}" ({error})'
            ) from error

    def holds_images(name):
        return frame[name].astype(str).str.lower().str.endswith(ENDINGS).any()

    def holds_labels(name):
        is_only = len(frame.columns) == 2
        return name != image and (is_only or str(name).lower() in LABELS)

    image = _find_column("image_column", image_column, frame, holds_images)
    label = _find_column("label_column", label_column, frame, holds_labels)
    labelled = frame.dropna(subset=[image, label])
    # Integers beside missing values have become floats.
    codes, values = pandas.factorize(
        labelled[label].convert_dtypes(), sort=True
    )
    root = path.parent.absolute()
    paths = [os.path.abspath(root / str(name)) for name in labelled[image]]
    around = pathlib.Path(os.path.commonpath(paths or [str(root)]))
    groups = [find_first_folder(pathlib.Path(each), around) for each in paths]
    unlabelled = len(frame) - len(labelled)
    return keep_readable(
        Dataset(
            splits={
                "train": make_examples(
                    paths, codes, groups if group_by_folder else paths
                )
            },
            class_names=tuple(map(str, values)),
            fingerprint=digest([*map(str, values)], codes.tolist()),
            left_out={"without a label": unlabelled} if unlabelled else {},
            root=root,
        )
    )


def _find_column(option, name, frame, fits):
    """Returns the name of a column, the only one that fits if none is given."""
    names = [name] if name is not None else [*filter(fits, frame.columns)]
    if len(names) != 1 or names[0] not in frame.columns:
        raise ValueError(
            f"`{option}` must be the name of a column, one of "
            f"{list(map(str, frame.columns))}. Received: {option}={name!r}"
        )
    return names[0]
