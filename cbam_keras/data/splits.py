"""How images are split into those to train, validate and test with."""

import dataclasses

import numpy as np

from cbam_keras import _checks
from cbam_keras.data.examples import Dataset, DiskExamples, Examples

SPLITS = ("train", "validation", "test")
# The fraction of the training images used for testing if a dataset has no
# test images.
TEST_FRACTION = 0.2


def stratified(
    labels: np.ndarray,
    validation_fraction: float | None,
    seed: int,
    test: bool = True,
) -> dict[str, np.ndarray]:
    """Returns the indices of each split, the same fraction of each class."""
    splits: dict[str, list] = {name: [] for name in SPLITS}
    # The test images are chosen without the user's seed, so that results
    # for different seeds can be compared.
    fixed, seeded = np.random.default_rng(0), np.random.default_rng([seed, 1])
    for label in np.unique(labels):
        indices = np.flatnonzero(labels == label)
        tested = validated = 0
        if test:
            indices = fixed.permutation(indices)
            tested = round(TEST_FRACTION * len(indices))
            # At least one is left to train, and two where there are enough
            # for each split.
            tested = min(max(1, tested), max(0, len(indices) - 2))
        trained = seeded.permutation(indices[tested:])
        if validation_fraction is not None:
            # Both sides of the split keep at least one image of each class.
            validated = round(validation_fraction * len(trained))
            validated = min(max(1, validated), len(trained) - 1)
        splits["test"].append(indices[:tested])
        splits["validation"].append(trained[:validated])
        splits["train"].append(trained[validated:])
    return {
        name: np.sort(np.concatenate(parts)) for name, parts in splits.items()
    }


def folded(
    labels: np.ndarray,
    validation_fraction: float,
    seed: int,
    folds: int,
    fold: int,
) -> dict[str, np.ndarray]:
    """Returns the indices of each split, those of one of the folds to test.

    Each image is in one fold, and each fold has the same fraction of each
    class, up to one image. Another seed gives other folds.
    """
    rng = np.random.default_rng([seed, 3])
    by_class = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    # Neighbours are of one class, and every fold gets each n-th.
    order = np.concatenate([rng.permutation(rows) for rows in by_class])
    tested = np.sort(order[fold::folds])
    others = np.setdiff1d(order, tested)
    rows = stratified(labels[others], validation_fraction, seed, test=False)
    return {
        "train": others[rows["train"]],
        "validation": others[rows["validation"]],
        "test": tested,
    }


def check_folds(folds: object, fold: object = 0) -> None:
    """Raises unless there are at least two folds, or none, and this one."""
    if folds is None and fold == 0:
        return
    count = _checks.positive_integer("folds", folds)
    if count < 2:
        raise ValueError(
            f"`folds` must be at least 2, or None. Received: {folds=}"
        )
    _checks.positive_integer("fold", fold, or_zero=True, most=count - 1)


def pooled(dataset: Dataset) -> Dataset:
    """Returns a dataset whose training images are those of all splits."""
    parts = [*dataset.splits.values()]
    if isinstance(parts[0], DiskExamples):
        raise ValueError(
            "`folds` need labels in memory, and datasets of TensorFlow "
            "Datasets of more than 2 GiB are read from disk. Received: "
            f'data="{dataset.name}"'
        )
    images = np.concatenate([part.images for part in parts])
    labels = np.concatenate([part.labels for part in parts])
    return dataclasses.replace(
        dataset, splits={"train": Examples(images, labels)}
    )


def completed(
    dataset: Dataset,
    validation_fraction: float,
    seed: int,
    folds: int | None = None,
    fold: int = 0,
) -> Dataset:
    """Returns all three splits, the missing ones split off training."""
    splits = dataset.splits
    if len(splits) == len(SPLITS):
        return dataset
    train = splits["train"]
    fraction = None if "validation" in splits else validation_fraction
    if folds is not None:
        rows = folded(train.labels, validation_fraction, seed, folds, fold)
    elif isinstance(train, DiskExamples):
        rows = _cut(len(train), fraction, "test" not in splits)
    else:
        rows = stratified(train.labels, fraction, seed, "test" not in splits)
    parts = {split: train.take(rows[split]) for split in SPLITS}
    parts |= {split: splits[split] for split in splits if split != "train"}
    return dataclasses.replace(dataset, splits=parts)


def _cut(count, validation_fraction, test):
    """Returns the indices of each split where labels are not known."""
    tested = round(TEST_FRACTION * count) if test else 0
    validated = 0
    if validation_fraction is not None:
        validated = max(1, round(validation_fraction * (count - tested)))
    parts = np.split(np.arange(count), [tested, count - validated])
    return dict(zip(("test", "train", "validation"), parts, strict=True))


def check_classes(
    dataset: Dataset, received: str, folds: int | None = None
) -> None:
    """Raises unless there are two classes and enough images of each."""
    names, splits = dataset.class_names, dataset.splits
    if len(names) < 2:
        raise ValueError(
            "A dataset must have at least two classes, in a folder a folder "
            f"of images for each. Received: {received} with the classes "
            f"{list(names)}"
        )
    for split, examples in splits.items():
        # Each split that is split off needs one more.
        needed = 1 + (split == "train") * (len(SPLITS) - len(splits))
        wanted, advice = f'in "{split}"', ""
        if folds is not None:
            # Each fold tests one, and leaves two to train and validate.
            needed = max(folds, 2 + 2 // (folds - 1))
            wanted, advice = f"for folds={folds}", ", or take fewer folds"
        counts = np.bincount(examples.labels, minlength=len(names))
        few = [
            f'"{names[i]}" ({counts[i]})'
            for i in np.flatnonzero(counts < needed)
        ]
        if few:
            raise ValueError(
                f"Each class must have at least {needed} images {wanted}. "
                f"Received: {received}, with fewer of class "
                f"{_checks.first_few(few)}. Add images, or remove the class "
                f"everywhere{advice}"
            )
