"""The images to explain, from files, a folder or a dataset."""

import dataclasses
import os
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np

from cbam_keras import _checks, _terminal, data

# This many images of a dataset that does not fit into memory are read to choose
# from, so that all classes are likely among them.
READ_OF_LARGE = 1000

# Height and width.
Size = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class RunData:
    """The data of a run, as it has split them.

    There is no `source` where a run does not say where its images are, and for
    image files. `fingerprint` is `None` where any data will do. `rows` are
    those of the test images to explain, if they are not chosen at random.
    """

    source: data.Source | None
    seed: int
    fingerprint: str | None = None
    folds: int | None = None
    fold: int = 0
    rows: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Images:
    """The images that are explained, not yet decoded.

    They are some of a split of a dataset, or of files. Labels are indices of
    `dataset.class_names`; -1 is an image in no class.
    """

    names: np.ndarray
    examples: data.Examples
    dataset: data.Dataset
    is_split: bool

    def __len__(self) -> int:
        return len(self.names)

    def take(self, rows: np.ndarray | slice) -> "Images":
        """Returns some of the images, in the order of the rows."""
        rows = np.arange(len(self))[rows]
        names, examples = self.names[rows], self.examples.take(rows)
        return dataclasses.replace(self, names=names, examples=examples)

    def batches(
        self, batch_size: int, title: str
    ) -> Iterator[tuple[slice, "Images"]]:
        """Yields rows and their images, with a progress bar."""
        starts = range(0, len(self), batch_size)
        for start in _terminal.show_progress(starts, len(starts), title):
            rows = slice(start, min(start + batch_size, len(self)))
            yield rows, self.take(rows)

    def view(self, size: Size, frame: Size) -> np.ndarray:
        """Returns uint8 images `(B, H, W, 3)` of a size.

        They are cropped as evaluation crops them for the size `frame`.
        """
        resized = []
        for item in self.examples.images:
            image = data.pil_decode(item, 3, self.examples.scale)
            crop = data.find_evaluation_box(image.shape[:2], frame)
            resized.append(data.pil_resize(image, size, crop))
        return np.stack(resized)

    def boxes_in_view(self, size: Size, frame: Size) -> np.ndarray | None:
        """Returns the boxes on the images of `view`, `None` if not known."""
        shape = self.dataset.shape
        if self.examples.boxes is None or shape is None:
            return None
        crop = data.find_evaluation_box(shape, frame)
        corner, sides = np.split(np.array(crop), 2)
        lowest, highest = np.hsplit(self.examples.boxes, 2)
        scale = np.array(size) / sides
        low = np.floor((lowest - corner) * scale).clip(0, np.array(size) - 1)
        high = np.ceil((highest - corner) * scale).clip(low + 1, size)
        return np.concatenate([low, high], axis=1).astype("int32")

    def label_by(
        self, class_names: Sequence[str] | None, count: int
    ) -> tuple[Sequence[str] | None, np.ndarray]:
        """Returns the names of `count` classes, and the label of each image.

        The names are those of the run that trained the models, `class_names`,
        else those of the images, if there is one for each class, else `None`.
        Labels are found by these names: that of the folder of an image, else
        that of the folder with all images, else -1. A warning tells where an
        order is assumed: that of folders, and that of a dataset which has
        other names.
        """
        classes = self.dataset.class_names
        is_known = {*(class_names or ())} & {*classes}
        fits = len(classes) == count > 1
        is_assumed = class_names is None or self.is_split
        if fits and is_assumed and not is_known:
            if class_names or self.dataset.root is not None:
                _checks.warn(
                    "It is assumed that the classes of the images, "
                    f"{_checks.first_few(classes)}, are in the order of the "
                    "models' classes. If they are not, call grad_cam of "
                    "cbam_keras.explain with the right indices"
                )
            return class_names or classes, self.examples.labels
        indices = {name: i for i, name in enumerate(class_names or ())}
        others = -1
        if self.dataset.root is not None and not self.is_split:
            # Also the name of "." and "..".
            name = os.path.basename(os.path.abspath(self.dataset.root))
            others = indices.get(name, -1)
        # The label -1 stands for the last one.
        by_label = [*(indices.get(name, others) for name in classes), others]
        return class_names, np.array(by_label)[self.examples.labels]


def from_paths(
    paths: Sequence[pathlib.Path], count: int | None, seed: int
) -> Images:
    """Returns the images in files, or `count` of those in a folder.

    A folder may hold damaged images, which are left out with a warning.
    """
    is_folder = paths[0].is_dir()
    if len(paths) > 1 and any(path.is_dir() for path in paths):
        raise ValueError(
            "Images must be files, or those of one folder with its "
            f"subfolders. Received: {_checks.first_few(paths)}"
        )
    files, folders, root = [*paths], [""] * len(paths), None
    if is_folder:
        # A class may have subfolders, e.g. of patients, as in training. The
        # empty name stands for no folder of a class.
        root = data.enter_folder(paths[0])
        files = data.find_image_files(paths[0], "**/*")
        parts = [file.relative_to(root).parts for file in files]
        folders = [names[0] if len(names) > 1 else "" for names in parts]
    classes = sorted({*folders} - {""})
    labels = [classes.index(name) if name else -1 for name in folders]
    examples = data.Examples(
        np.array([*map(str, files)], object), np.array(labels)
    )
    if is_folder:
        examples = examples.take(choose_balanced(folders, count, seed))
    dataset = data.Dataset({"images": examples}, tuple(classes), root=root)
    dataset = data.keep_readable(dataset)
    examples, damaged = dataset.splits["images"], dataset.skipped
    if not len(examples) or (damaged and not is_folder):
        reasons = data.describe_counts(dataset.damaged)
        raise ValueError(
            "Images must be complete files that Pillow reads, and models must "
            "end in .keras or .h5. Received: "
            f"{_checks.first_few(damaged or paths)} "
            f"({reasons or 'no images'})"
        )
    data.warn_of_damaged(dataset)
    names = np.array([*examples.images])
    return Images(names, examples, dataset, is_split=False)


def split_as_run(source: data.Source, run: RunData) -> data.Dataset:
    """Returns a source as a run has split it, or raises if it has changed."""
    dataset = source.split(run.seed, run.folds, run.fold)
    if run.fingerprint not in (None, dataset.fingerprint):
        raise ValueError(
            "The data of a run must be as they were, or its test images may "
            f'be others. Received: "{source.data}", which has changed since. '
            "Give --data to explain it as it is"
        )
    return dataset


def from_data(
    source: data.Source, run: RunData, split: str, count: int | None
) -> Images:
    """Returns `count` images of a split of a source, as a run has split it."""
    dataset = split_as_run(source, run)
    examples = dataset.splits[split]
    if not isinstance(examples, data.Examples) and run.rows is None:
        if count is None:
            raise ValueError(
                "`count` must be a number for a dataset that is too large for "
                f'memory. Received: count=all, data="{source.data}"'
            )
        total = min(len(examples), max(READ_OF_LARGE, count))
        examples = examples.load(total, "Reading")
    rows = run.rows
    if rows is None:
        rows = choose_balanced(examples.labels, count, run.seed)
    examples = examples.take(rows)
    if not isinstance(examples, data.Examples):
        examples = examples.load(len(rows), "Reading")
    names = [
        item if isinstance(item, str) else f"{split} {row}"
        for item, row in zip(examples.images, rows, strict=True)
    ]
    return Images(np.array(names), examples, dataset, is_split=True)


def choose_balanced(
    groups: Sequence[str] | np.ndarray, count: int | None, seed: int
) -> np.ndarray:
    """Returns the indices of `count` images, equally many of each group.

    They are one of each group in turn, in a random order, so that a smaller
    count gives the beginning of a larger one; those of a single group are
    sorted. `None` means all.
    """
    values, inverse = np.unique(np.asarray(groups), return_inverse=True)
    rng = np.random.default_rng([seed, 2])
    group_order = rng.permutation(len(values))
    order = rng.permutation(len(inverse))
    # How many images of the same group come before.
    turn = np.empty(len(inverse), "int64")
    for group in range(len(values)):
        members = order[inverse[order] == group]
        turn[members] = np.arange(len(members))
    sample = np.lexsort((group_order[inverse], turn))[:count]
    return np.sort(sample) if len(values) == 1 else sample
