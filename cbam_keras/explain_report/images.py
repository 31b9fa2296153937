"""Images to look at: of files, of folders, or of a data set."""

import dataclasses
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from cbam_keras import _checks, _progress_bar, data, plotting
from cbam_keras.data import ENDINGS, SPLITS, Records

# Of a data set that is read while it is used, as many are looked through for
# images of different classes.
LOOKED_THROUGH = 1000


@dataclasses.dataclass(frozen=True)
class Examples:
    """Images that are chosen, and what is known of them.

    Attributes:
        names: Sequence of strings, what each is called.
        items: Sequence of paths, encoded images or arrays `(H, W, C)`.
        groups: Sequence of integers, the class of each, or of strings, the
            folder it lies in, `""` for none.
        class_names: Tuple of strings, or `None` where they are not known.
        folders: Tuple of strings, all folders there are of `groups`.
        boxes: Array `(N, 4)`, or `None`.
        size: Height and width of all, or `None` where they differ.
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

    def labels(self, class_names: Sequence[str] | None) -> np.ndarray:
        """Returns the true class of each by number, -1 where unknown."""
        if self.class_names is not None:
            return np.array(self.groups, "int64")
        known = {
            name: i for i, name in reversed([*enumerate(class_names or ())])
        }
        return np.array([known.get(group, -1) for group in self.groups])

    def batches(
        self, batch_size: int, size: tuple[int, int]
    ) -> Iterator["Batch"]:
        """Yields the images, read, of each the part seen at a size."""
        for begin in range(0, len(self), batch_size):
            numbers = slice(begin, begin + batch_size)
            read = [
                _read(item, name)
                for item, name in zip(
                    self.items[numbers], self.names[numbers], strict=True
                )
            ]
            yield Batch(
                numbers,
                read,
                [_window(image.shape, size) for image in read],
                None if self.boxes is None else self.boxes[numbers],
            )


@dataclasses.dataclass(frozen=True)
class Batch:
    """Some of the images: uint8 `(H, W, 3)`, of different sizes.

    `windows` are top, left, height and width of the part that is looked at.
    """

    numbers: slice
    whole: list[np.ndarray]
    windows: list[tuple[float, float, float, float]]
    whole_boxes: np.ndarray | None

    def images(self, size: tuple[int, int]) -> np.ndarray:
        """Returns the parts that are looked at, in one size."""
        return np.stack(
            [
                image
                if (*window[2:], *size) == 2 * image.shape[:2]
                else data.pil_resize(image, window, size)
                for image, window in zip(self.whole, self.windows, strict=True)
            ]
        )

    def boxes(self, size: tuple[int, int]) -> np.ndarray | None:
        """Returns the boxes on those parts, in one size, if they are known."""
        if self.whole_boxes is None:
            return None
        corner, sides = np.hsplit(np.array(self.windows), 2)
        lowest, highest = np.hsplit(self.whole_boxes, 2)
        scale = np.array(size) / sides
        low = np.floor((lowest - corner) * scale).clip(0, np.array(size) - 1)
        high = np.ceil((highest - corner) * scale).clip(low + 1, size)
        return np.concatenate([low, high], axis=1).astype("int32")


def spread(groups: Sequence[Any], count: int | None, seed: int) -> np.ndarray:
    """Returns the numbers of `count` images, evenly of all groups.

    One of each group in turn, in an order that the seed decides, so that a
    smaller count gives the first of a larger one. `None` means all. Of a
    single group they are in the order they are given in.
    """
    values, inverse = np.unique(np.asarray(groups), return_inverse=True)
    rng = np.random.default_rng([seed, 2])
    place = rng.permutation(len(values))
    order = rng.permutation(len(inverse))
    by_group = order[np.argsort(inverse[order], kind="stable")]
    sizes = np.bincount(inverse)
    # How many of its group come before it.
    turn = np.empty(len(inverse), "int64")
    turn[by_group] = np.arange(len(order)) - np.repeat(
        np.cumsum(sizes) - sizes, sizes
    )
    chosen = np.lexsort((place[inverse], turn))[:count]
    return np.sort(chosen) if len(values) == 1 else chosen


def from_paths(
    paths: Sequence[pathlib.Path], count: int | None, seed: int
) -> Examples:
    """Returns images of files, and `count` of each folder that is given."""
    names, groups, sizes, folders = [], [], set(), set()
    for path in paths:
        files, own, heads = _found(path)
        chosen: Any = spread(own, count, seed) if path.is_dir() else [0]
        names += [files[i] for i in chosen]
        groups += [own[i] for i in chosen]
        sizes |= {heads[i][:2] for i in chosen}
        folders |= {*own} - {""}
    return Examples(
        names=names,
        items=names,
        groups=groups,
        folders=tuple(sorted(folders)),
        size=sizes.pop() if len(sizes) == 1 else None,
    )


def _found(path):
    """Returns the images of a path, the folder each lies in, their heads."""
    files = _below(path) if path.is_dir() else [path]
    own = [
        "" if file in (path, path / file.name) else file.parent.name
        for file in files
    ]
    names = [str(file) for file in files]
    heads = data.headers(names, "Looking at images")
    good = [i for i, head in enumerate(heads) if head is not None]
    bad = [names[i] for i, head in enumerate(heads) if head is None]
    if not good:
        raise ValueError(
            "Images must be whole files of BMP, GIF, JPEG, PNG or WebP, and "
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
        [own[i] for i in good],
        [heads[i] for i in good],
    )


def _below(folder):
    """Returns the images in a folder and in those within it."""
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
    """Returns `count` images of a split of a data set."""
    _checks.one_of("split", split, SPLITS)
    found = {"data_dir": None, "manual_dir": None, "download": False}
    source = data.find_source(
        name, 0.1, seed, in_memory=None, **{**found, **options}
    )
    records = source.splits[split]
    if not isinstance(records, Records):
        records = _first(records, name, count)
    numbers = spread(records.labels, count, seed)
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


def _first(stream, name, count):
    """Returns the first images of a stream, enough to choose from."""
    if count is None:
        raise ValueError(
            "`count` must be a number for a data set that is too large for "
            f'memory. Received: count=all, data="{name}" with {len(stream)} '
            "images"
        )
    total = min(len(stream), max(LOOKED_THROUGH, count))
    read = stream.make().take(total).as_numpy_iterator()
    images, labels = zip(
        *_progress_bar.watched(read, total, "Reading"), strict=True
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


def _window(
    shape: Sequence[int], size: tuple[int, int]
) -> tuple[float, float, float, float]:
    """Returns top, left, height and width of the part that is looked at.

    What evaluation would see at that size.
    """
    height, width = shape[:2]
    if (height, width) == tuple(size):
        return 0.0, 0.0, float(height), float(width)
    return data.evaluation_box(float(height), float(width), size)


def heat_in(heat: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns heat maps `(B, H, W)` in another size."""
    if heat.shape[1:] == tuple(size):
        return heat
    box = (0, 0, *heat.shape[1:])
    return np.array(
        [data.pil_resize(one[..., None], box, size)[..., 0] for one in heat]
    ).reshape(-1, *size)


def grey(images: np.ndarray) -> np.ndarray:
    """Returns the brightness of RGB images of bytes, `(B, H, W, 1)`."""
    return plotting.luminance(images).round().astype(images.dtype)[..., None]
