"""The images to explain, from the data of a run, files or a folder."""

import dataclasses
import os
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np

from cbam_keras import _checks, _terminal, data
from cbam_keras.explain.figures import luminance
from cbam_keras.report.networks import Run

# This many images of a dataset that does not fit into memory are read to choose
# from, so that all classes are likely among them.
READ_OF_LARGE = 1000


@dataclasses.dataclass(frozen=True)
class Images:
    """The images that are explained, not yet decoded.

    Networks take them as `(*size, channels)`. Labels are indices of the classes
    of the run; -1 is an image in no class. `regions` are those with masks.
    """

    names: np.ndarray
    examples: data.Examples
    size: tuple[int, int]
    channels: int
    regions: data.Examples | None = None

    def __len__(self) -> int:
        return len(self.names)

    @property
    def labels(self) -> np.ndarray:
        return self.examples.labels

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

    def pixels(self) -> np.ndarray:
        """Returns images `(B, H, W, C)`, cropped and resized as in a test."""
        pixels = np.stack(
            [
                data.read_example(self.examples, row, self.size, channels=3)[0]
                for row in range(len(self))
            ]
        )
        if self.channels == 3:
            return pixels
        return luminance(pixels)[..., None].round().astype("uint8")

    def boxes(self) -> np.ndarray | None:
        """Returns the boxes on `pixels`, `None` if they are not known."""
        if self.examples.boxes is None:
            return None
        size = np.array(self.size)
        # Images with boxes are an array.
        shape = self.examples.images.shape[1:3]
        crop = data.find_evaluation_box(shape, self.size)
        corner, sides = np.split(np.array(crop), 2)
        lowest, highest = np.hsplit(self.examples.boxes, 2)
        scale = size / sides
        low = np.floor((lowest - corner) * scale).clip(0, size - 1)
        high = np.ceil((highest - corner) * scale).clip(low + 1, size)
        return np.concatenate([low, high], axis=1).astype("int32")

    def masks(self) -> list[np.ndarray] | None:
        """Returns the regions on `pixels`, `None` if they are not known.

        That of an image without a mask is empty.
        """
        if self.regions is None:
            return None
        paths, masks = np.asarray(self.regions.images), []
        row_of = {path: row for row, path in enumerate(paths)}
        for name in self.names:
            if name not in row_of:
                masks.append(np.zeros(self.size, "uint8"))
                continue
            classes = self.regions.read_mask(row_of[name])
            # Class 0 is the background, and 255 is ignored.
            region = np.isin(classes, (0, 255), invert=True).astype("uint8")
            box = data.find_evaluation_box(region.shape, self.size)
            masks.append(data.pil_resize(region, self.size, box, "NEAREST"))
        return masks


def find_images(
    run: Run,
    paths: Sequence[str] | None = None,
    split: str = "test",
    count: int | None = None,
    seed: int | None = None,
    regions: str | None = None,
) -> Images:
    """Returns images of a split of a run, or those in files or a folder.

    They are `count`, of each class as many, unless they are files; `seed` is
    that of the choice, by default that of the run. In the folder `regions` are
    masks of some.
    """
    shape = run.images.get("image_shape", ())
    if len(shape) != 3 or shape[2] not in (1, 3):
        raise ValueError(
            "A run must be on images (H, W, C) of one or three channels, to be "
            f'explained. Received: "{run.folder}", with images of shape '
            f"{(*shape,)}. In Python, cbam_keras.explain takes others too"
        )
    seed = run.seed if seed is None else seed
    if paths:
        files = [pathlib.Path(path).expanduser() for path in paths]
        names, dataset = _read_files(files, run, count, seed)
    else:
        names, dataset = _read_split(run, split, count, seed)
    (examples,), masks = dataset.splits.values(), None
    if regions is not None:
        dataset = data.pair_with_regions(dataset, regions)
        (masks,) = dataset.splits.values()
    size = (*shape[:2],)
    return Images(np.array(names), examples, size, shape[2], masks)


def _read_files(paths, run, count, seed):
    """Returns names and dataset of files, or `count` of those in a folder.

    A folder may hold damaged images, which are left out with a warning. The
    class of an image is that of the folder it is in, else of the folder with
    all of them, found by its name.
    """
    is_folder, root = os.path.isdir(paths[0]), None
    if len(paths) > 1 and any(map(os.path.isdir, paths)):
        raise ValueError(
            "Images must be files, or those of one folder with its "
            f"subfolders. Received: {_checks.first_few(paths)}"
        )
    files, folders, whole = [*paths], [""] * len(paths), ""
    if is_folder:
        # A class may have subfolders, e.g. of patients, as in training.
        root = data.enter_folder(paths[0])
        files = data.find_image_files(paths[0], "**/*")
        parts = [file.relative_to(root).parts for file in files]
        folders = [names[0] if len(names) > 1 else "" for names in parts]
        # Also the name of "." and "..".
        whole = os.path.basename(os.path.abspath(root))
    classes = {name: label for label, name in enumerate(run.class_names)}
    others = classes.get(whole, -1)
    labels = [classes.get(name, others) for name in folders]
    examples = data.Examples(
        np.array([*map(str, files)], object), np.array(labels)
    )
    if is_folder:
        examples = examples.take(choose_balanced(folders, count, seed))
    dataset = data.Dataset({"images": examples}, (*classes,), root=root)
    dataset = data.keep_readable(dataset)
    examples, damaged = dataset.splits["images"], dataset.skipped
    if not len(examples) or (damaged and not is_folder):
        reasons = data.describe_counts(dataset.damaged)
        raise ValueError(
            "Images must be complete files that Pillow reads. Received: "
            f"{_checks.first_few(damaged or paths)} "
            f"({reasons or 'no images'})"
        )
    data.warn_of_damaged(dataset)
    if scale := run.content.get("scale"):
        # The networks see images as they did in training.
        examples = dataclasses.replace(examples, scale=data.Scale(*scale))
        dataset = dataclasses.replace(dataset, splits={"images": examples})
    elif examples.scale:
        _checks.warn(
            "The run does not say how values beyond 8 bits are scaled, and "
            f"these are by their own range: {examples.scale.note}"
        )
    return [*examples.images], dataset


def _read_split(run, split, count, seed):
    """Returns names and dataset of `count` images of a split of a run."""
    dataset = run.split()
    examples = dataset.splits[split]
    if not isinstance(examples, data.Examples):
        if count is None:
            raise ValueError(
                "`count` must be a number for a dataset that is too large for "
                f'memory. Received: count=all, data="{run.source.data}"'
            )
        total = min(len(examples), max(READ_OF_LARGE, count))
        examples = examples.load(total, "Reading")
    rows = choose_balanced(examples.labels, count, seed)
    examples = examples.take(rows)
    names = [
        item if isinstance(item, str) else f"{split} {row}"
        for item, row in zip(examples.images, rows, strict=True)
    ]
    return names, dataclasses.replace(dataset, splits={split: examples})


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
