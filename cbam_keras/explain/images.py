"""The images to explain, from files, folders or a dataset."""

import dataclasses
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from cbam_keras import _checks, _terminal, data, plotting
from cbam_keras.data import ENDINGS, SPLITS, Records

# Of a dataset that does not fit into memory, this many images are read to
# choose from, so that all classes are likely among them.
READ_OF_STREAM = 1000


@dataclasses.dataclass(frozen=True)
class Examples:
    """The chosen images, not yet read, and what is known of them.

    Attributes:
        names: Sequence of strings, the names of the images.
        items: Sequence of paths, encoded images or arrays `(H, W, C)`.
        groups: Sequence of integers, the class of each image, or of strings,
            the folder that it lies in, `""` for none.
        class_names: Tuple of strings, or `None` if they are not known.
        folders: Tuple of strings, all folders from which images are chosen.
        boxes: Array `(N, 4)`, or `None`.
        size: Height and width of all images, or `None` if they differ.
    """

    names: Sequence[str]
    items: Sequence[Any]
    groups: Sequence[Any]
    class_names: tuple[str, ...] | None = None
    folders: tuple[str, ...] = ()
    boxes: np.ndarray | None = None
    size: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.items)

    def take(self, numbers: Any) -> "Examples":
        """Returns some of the images, in the order of the numbers."""
        return dataclasses.replace(
            self,
            names=[self.names[i] for i in numbers],
            items=[self.items[i] for i in numbers],
            groups=[self.groups[i] for i in numbers],
            boxes=None if self.boxes is None else self.boxes[numbers],
        )

    def labels(self, class_names: Sequence[str] | None) -> np.ndarray:
        """Returns the index of each true class, -1 where unknown."""
        if self.class_names is not None:
            return np.array(self.groups, "int64")
        # The first of equal names.
        indices = {
            name: i for i, name in reversed([*enumerate(class_names or ())])
        }
        return np.array([indices.get(group, -1) for group in self.groups])

    def batches(
        self, batch_size: int, size: tuple[int, int]
    ) -> Iterator["Batch"]:
        """Yields batches of read images, cropped for a model of some size."""
        for start in range(0, len(self), batch_size):
            numbers = slice(start, start + batch_size)
            images = [
                _read(item, name)
                for item, name in zip(
                    self.items[numbers], self.names[numbers], strict=True
                )
            ]
            yield Batch(
                start,
                images,
                [_evaluation_crop(image.shape, size) for image in images],
                None if self.boxes is None else self.boxes[numbers],
            )


@dataclasses.dataclass(frozen=True)
class Batch:
    """Some of the images, uncropped.

    Attributes:
        start: Index of the first one among all images.
        uncropped: List of uint8 arrays `(H, W, 3)` of different sizes.
        crops: List of tuples, top, left, height and width of the part that
            the models see.
        uncropped_boxes: Array `(B, 4)`, or `None`.
    """

    start: int
    uncropped: list[np.ndarray]
    crops: list[tuple[float, float, float, float]]
    uncropped_boxes: np.ndarray | None

    def images(self, size: tuple[int, int]) -> np.ndarray:
        """Returns the cropped images, resized to one size."""
        return np.stack(
            [
                data.pil_resize(image, crop, size)
                for image, crop in zip(self.uncropped, self.crops, strict=True)
            ]
        )

    def boxes(self, size: tuple[int, int]) -> np.ndarray | None:
        """Returns the boxes on the resized crops, `None` if not known."""
        if self.uncropped_boxes is None:
            return None
        corner, sides = np.hsplit(np.array(self.crops), 2)
        lowest, highest = np.hsplit(self.uncropped_boxes, 2)
        scale = np.array(size) / sides
        low = np.floor((lowest - corner) * scale).clip(0, np.array(size) - 1)
        high = np.ceil((highest - corner) * scale).clip(low + 1, size)
        return np.concatenate([low, high], axis=1).astype("int32")


def balanced_sample(
    groups: Sequence[Any], count: int | None, seed: int
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
    by_group = order[np.argsort(inverse[order], kind="stable")]
    sizes = np.bincount(inverse)
    # How many images of the same group come before.
    turn = np.empty(len(inverse), "int64")
    turn[by_group] = np.arange(len(order)) - np.repeat(
        np.cumsum(sizes) - sizes, sizes
    )
    chosen = np.lexsort((group_order[inverse], turn))[:count]
    return np.sort(chosen) if len(values) == 1 else chosen


def from_paths(
    paths: Sequence[pathlib.Path], count: int | None, seed: int
) -> Examples:
    """Returns all images of the files, and `count` of each folder."""
    names, groups, sizes, folders = [], [], set(), set()
    for path in paths:
        files, parents, headers = _readable_files(path)
        chosen: Any = [0]
        if path.is_dir():
            chosen = balanced_sample(parents, count, seed)
        names += [files[i] for i in chosen]
        groups += [parents[i] for i in chosen]
        sizes |= {headers[i][:2] for i in chosen}
        folders |= {*parents} - {""}
    return Examples(
        names=names,
        items=names,
        groups=groups,
        folders=tuple(sorted(folders)),
        size=sizes.pop() if len(sizes) == 1 else None,
    )


def _readable_files(path):
    """Returns images of a path, their folders and headers."""
    files = _files_in(path) if path.is_dir() else [path]
    parents = [
        "" if file in (path, path / file.name) else file.parent.name
        for file in files
    ]
    names = [str(file) for file in files]
    headers = data.headers(names, "Reading headers")
    good = [i for i, header in enumerate(headers) if header is not None]
    bad = [names[i] for i, header in enumerate(headers) if header is None]
    if not good:
        raise ValueError(
            "Images must be complete BMP, GIF, JPEG, PNG or WebP files, and "
            "models must end in .keras or .h5. Received: "
            f"{_checks.first_few(bad)}"
        )
    if bad:
        _checks.warn(
            f"{len(bad)} images could not be read and are left out: "
            f"{_checks.first_few(bad)}"
        )
    return (
        [names[i] for i in good],
        [parents[i] for i in good],
        [headers[i] for i in good],
    )


def _files_in(folder):
    """Returns the images in a folder and its subfolders."""
    files = sorted(
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in ENDINGS
        and not any(
            part.startswith((".", "__"))
            for part in file.relative_to(folder).parts
        )
    )
    if not files:
        raise ValueError(
            "A folder must hold images, which end in "
            f'{", ".join(ENDINGS)}. Received: "{folder}", which holds none'
        )
    return files


def from_data(
    name: str,
    split: str,
    count: int | None,
    seed: int,
    options: dict[str, Any],
) -> Examples:
    """Returns `count` images of a split of a dataset."""
    _checks.one_of("split", split, SPLITS)
    defaults = {"data_dir": None, "manual_dir": None, "download": False}
    source = data.find_source(
        name, 0.1, seed, in_memory=None, **{**defaults, **options}
    )
    records = source.splits[split]
    if not isinstance(records, Records):
        records = _first_records(records, name, count)
    numbers = balanced_sample(records.labels, count, seed)
    records = records.take(numbers)
    return Examples(
        names=[
            item if isinstance(item, str) else f"{split} {number}"
            for item, number in zip(records.images, numbers, strict=True)
        ],
        items=records.images,
        groups=records.labels,
        class_names=source.class_names,
        boxes=records.boxes,
        size=source.shape,
    )


def _first_records(stream, name, count):
    """Returns the first images of a dataset that does not fit into memory."""
    if count is None:
        raise ValueError(
            "`count` must be a number for a dataset that is too large for "
            f'memory. Received: count=all, data="{name}" with {len(stream)} '
            "images"
        )
    total = min(len(stream), max(READ_OF_STREAM, count))
    read = stream.make().take(total).as_numpy_iterator()
    images, labels = zip(
        *_terminal.watched(read, total, "Reading"), strict=True
    )
    records = Records(np.empty(len(images), object), np.array(labels, "int32"))
    records.images[:] = images
    return records


def _read(item: Any, name: str) -> np.ndarray:
    """Returns an image as uint8 `(H, W, 3)`."""
    if isinstance(item, np.ndarray):
        return np.broadcast_to(item, (*item.shape[:2], 3))
    try:
        return data.pil_decode(item, 3)
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(
            f'The image "{name}" cannot be decoded ({error}). Leave it out'
        ) from error


def _evaluation_crop(
    shape: Sequence[int], size: tuple[int, int]
) -> tuple[float, float, float, float]:
    """Returns top, left, height and width of the crop used in evaluation."""
    height, width = shape[:2]
    if (height, width) == tuple(size):
        return 0.0, 0.0, float(height), float(width)
    return data.evaluation_box(float(height), float(width), size)


def resize_heat_maps(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns heat maps `(B, H, W)` in another size."""
    box = (0, 0, *maps.shape[1:])
    return np.array(
        [data.pil_resize(one[..., None], box, size)[..., 0] for one in maps]
    ).reshape(-1, *size)


def to_grayscale(images: np.ndarray) -> np.ndarray:
    """Returns RGB images of uint8 in grayscale, `(B, H, W, 1)`."""
    return plotting.luminance(images).round().astype(images.dtype)[..., None]
