"""How images are split into those to train, validate and test with."""

import dataclasses

import numpy as np

from cbam_keras import _checks
from cbam_keras.data.examples import Dataset, DiskExamples

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


def completed(
    dataset: Dataset, validation_fraction: float, seed: int
) -> Dataset:
    """Returns all three splits, the missing ones split off training."""
    splits = dataset.splits
    if len(splits) == len(SPLITS):
        return dataset
    train = splits["train"]
    fraction = None if "validation" in splits else validation_fraction
    if isinstance(train, DiskExamples):
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


def check_classes(dataset: Dataset, received: str) -> None:
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
        counts = np.bincount(examples.labels, minlength=len(names))
        few = [f'"{names[i]}"' for i in np.flatnonzero(counts < needed)]
        if few:
            raise ValueError(
                f'Each class must have at least {needed} images in "{split}". '
                f"Received: {received}, with fewer of class "
                f"{_checks.first_few(few)}. Add images, or remove the class "
                "everywhere"
            )
