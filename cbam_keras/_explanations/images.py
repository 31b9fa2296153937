"""The images to explain, from files, folders or a dataset."""

import dataclasses
import pathlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from cbam_keras import _checks, data

# Of a dataset that does not fit into memory, this many images are read to
# choose from, so that all classes are likely among them.
READ_OF_LARGE = 1000


# Images, uint8 `(B, H, W, 3)`, and the boxes on them, `None` if not known.
View = tuple[np.ndarray, np.ndarray | None]


@dataclasses.dataclass(frozen=True)
class Images:
    """The chosen images, not yet read, and what is known of them.

    `items` are paths, encoded images or arrays, and `groups` the class of
    each by name, or the folder that it lies in (`""` for none). `folders` are
    those of classes. `size` is `None` if the sizes of the images differ.
    """

    names: Sequence[str]
    items: Sequence[str | bytes | np.ndarray]
    groups: Sequence[str]
    class_names: tuple[str, ...] | None = None
    folders: tuple[str, ...] = ()
    boxes: np.ndarray | None = None
    size: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.items)

    def take(self, numbers: Sequence[int] | np.ndarray) -> "Images":
        """Returns some of the images, in the order of the numbers."""
        return dataclasses.replace(
            self,
            names=[self.names[i] for i in numbers],
            items=[self.items[i] for i in numbers],
            groups=[self.groups[i] for i in numbers],
            boxes=None if self.boxes is None else self.boxes[numbers],
        )

    def labels(self, class_names: Sequence[str] | None) -> np.ndarray:
        """Returns the index of each true class by name, -1 where unknown."""
        indices = {name: i for i, name in enumerate(class_names or ())}
        return np.array([indices.get(group, -1) for group in self.groups])

    def batches(
        self, batch_size: int, sizes: Sequence[tuple[int, int]]
    ) -> Iterator[tuple[slice, dict[tuple[int, int], View]]]:
        """Yields slices and their images in each size.

        They are cropped as for evaluation in the first size.
        """
        for start in range(0, len(self), batch_size):
            part = slice(start, start + batch_size)
            images = [_read(item) for item in self.items[part]]
            crops = [
                data.evaluation_box(image.shape[0], image.shape[1], sizes[0])
                for image in images
            ]
            views = {}
            for size in sizes:
                pairs = zip(images, crops, strict=True)
                seen = [data.pil_resize(*pair, size) for pair in pairs]
                boxes = None
                if self.boxes is not None:
                    boxes = _moved(self.boxes[part], crops, size)
                views[size] = np.stack(seen), boxes
            yield part, views


def from_paths(
    paths: Sequence[pathlib.Path], count: int | None, seed: int
) -> Images:
    """Returns all images of the files, and `count` of each folder.

    A folder may hold damaged images, which are left out with a warning.
    """
    names: list[str] = []
    groups: list[str] = []
    folders: set[str] = set()
    for path in paths:
        files = [path]
        if path.is_dir():
            within = sorted(path.rglob("*"))
            ours = {x.parent for x in within if x.name in data.RECORDS}
            files = [
                file
                for file in within
                if file.suffix.lower() in data.ENDINGS
                and not file.name.startswith(".")
                and not ours & {*file.parents}
            ]
        parents = [
            file.parent.name if path in file.parents[1:] else ""
            for file in files
        ]
        folders |= {*parents} - {""}
        for i in balanced_sample(parents, count, seed):
            names.append(str(files[i]))
            groups.append(parents[i])
    headers = data.headers(names, "Reading headers")
    is_given = {*map(str, paths)}
    damaged = [x for x, y in zip(names, headers, strict=True) if y is None]
    if len(damaged) == len(names) or is_given & {*damaged}:
        raise ValueError(
            "Images must be complete BMP, GIF, JPEG, PNG or WebP files, and "
            "models must end in .keras or .h5. Received: "
            f"{_checks.first_few(damaged or list(map(str, paths)))}"
        )
    data.left_out(damaged)
    sizes = {(x.height, x.width) for x in headers if x is not None}
    images = Images(
        names=names,
        items=names,
        groups=groups,
        folders=tuple(sorted(folders)),
        size=sizes.pop() if len(sizes) == 1 else None,
    )
    return images.take([i for i, x in enumerate(headers) if x is not None])


def from_data(
    name: str,
    split: str,
    count: int | None,
    seed: int,
    options: Mapping[str, object],
    fingerprint: str | None = None,
) -> Images:
    """Returns `count` images of a split of a dataset, of a fingerprint."""
    options = dict(options)
    fraction = options.pop("validation_fraction", 0.1)
    dataset = data.find_dataset(name, fraction, seed, **options)
    if fingerprint not in (None, dataset.fingerprint):
        raise ValueError(
            "The data of a run must be as they were, or its test images may "
            f'be others. Received: "{name}", which has changed since. Give '
            "--data to explain it as it is"
        )
    examples = dataset.splits[split]
    if not isinstance(examples, data.Examples):
        if count is None:
            raise ValueError(
                "`count` must be a number for a dataset that is too large for "
                f'memory. Received: count=all, data="{name}"'
            )
        total = min(len(examples), max(READ_OF_LARGE, count))
        examples = examples.load(total, "Reading")
    numbers = balanced_sample(examples.labels, count, seed)
    examples = examples.take(numbers)
    return Images(
        names=[
            item if isinstance(item, str) else f"{split} {number}"
            for item, number in zip(examples.images, numbers, strict=True)
        ],
        items=examples.images,
        groups=[dataset.class_names[label] for label in examples.labels],
        class_names=dataset.class_names,
        folders=dataset.class_names if dataset.root else (),
        boxes=examples.boxes,
        size=dataset.shape,
    )


def balanced_sample(
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
    chosen = np.lexsort((group_order[inverse], turn))[:count]
    return np.sort(chosen) if len(values) == 1 else chosen


def _read(item: str | bytes | np.ndarray) -> np.ndarray:
    """Returns an image as uint8 `(H, W, 3)`."""
    if isinstance(item, np.ndarray):
        return np.broadcast_to(item, (*item.shape[:2], 3))
    return data.pil_decode(item, 3)


def _moved(boxes, crops, size):
    """Returns boxes on crops of images that are resized."""
    corner, sides = np.hsplit(np.array(crops), 2)
    lowest, highest = np.hsplit(boxes, 2)
    scale = np.array(size) / sides
    low = np.floor((lowest - corner) * scale).clip(0, np.array(size) - 1)
    high = np.ceil((highest - corner) * scale).clip(low + 1, size)
    return np.concatenate([low, high], axis=1).astype("int32")
