"""Splits with the same fraction of each class."""

from collections.abc import Sequence

import numpy as np

from cbam_keras import _checks
from cbam_keras.data.records import SPLITS, Records

# The fraction of the training images used for testing if a dataset has no
# test images.
TEST_FRACTION = 0.2


def stratified(
    labels: np.ndarray,
    validation_fraction: float | None,
    seed: int,
    *,
    test: bool = True,
) -> dict[str, np.ndarray]:
    """Returns the indices of each split, the same fraction of each class.

    The validation split is empty if `validation_fraction` is `None`, the
    test split if `test` is `False`.
    """
    split: dict[str, list] = {name: [] for name in SPLITS}
    # The test images are chosen without the user's seed, so that results
    # for different seeds can be compared.
    fixed, seeded = np.random.default_rng(0), np.random.default_rng([seed, 1])
    for label in np.unique(labels):
        indices = np.flatnonzero(labels == label)
        tested = 0
        if test:
            indices = fixed.permutation(indices)
            tested = round(TEST_FRACTION * len(indices))
            # One is left to train where there is one, two where there are
            # enough for each split.
            tested = min(max(1, tested), max(0, len(indices) - 2))
        trained = seeded.permutation(indices[tested:])
        held_out = 0
        if validation_fraction is not None:
            # Both sides of the split keep at least one image of each class.
            held_out = round(validation_fraction * len(trained))
            held_out = min(max(1, held_out), len(trained) - 1)
        split["test"].append(indices[:tested])
        split["validation"].append(trained[:held_out])
        split["train"].append(trained[held_out:])
    return {
        name: np.sort(np.concatenate(parts)) for name, parts in split.items()
    }


def complete_splits(
    splits: dict[str, Records],
    class_names: Sequence[str],
    received: str,
    validation_fraction: float,
    seed: int,
) -> dict[str, Records]:
    """Returns all three splits, the missing ones split off training.

    Raises unless there are two classes and enough images of each.
    """
    check_classes(splits, class_names, received)
    needed = 1 + sum(name not in splits for name in SPLITS)
    counts = np.bincount(splits["train"].labels, minlength=len(class_names))
    few = [class_names[i] for i in np.flatnonzero(counts < needed).tolist()]
    if few:
        raise ValueError(
            f"Each class needs at least {needed} training images, one for "
            "each split that is split off. Received: "
            f"{received}, with fewer of class {_listed(few)}"
        )
    return add_missing_splits(splits, validation_fraction, seed)


def add_missing_splits(
    splits: dict[str, Records], validation_fraction: float, seed: int
) -> dict[str, Records]:
    """Returns all three splits, the missing ones split off training."""
    train = splits["train"]
    missing = [name for name in SPLITS if name not in splits]
    if not missing:
        return splits
    parts = stratified(
        train.labels,
        validation_fraction if "validation" in missing else None,
        seed,
        test="test" in missing,
    )
    return {
        name: train.take(parts[name])
        if name in missing or name == "train"
        else splits[name]
        for name in SPLITS
    }


def check_classes(
    splits: dict[str, Records], class_names: Sequence[str], received: str
) -> None:
    """Raises unless there are two classes and every split has them all."""
    if len(class_names) < 2:
        raise ValueError(
            "A dataset must have at least two classes. Received: "
            f"{received}, which has {len(class_names)}: "
            f"{_checks.first_few(class_names)}"
        )
    for split, records in splits.items():
        counts = np.bincount(records.labels, minlength=len(class_names))
        absent = [class_names[i] for i in np.flatnonzero(counts == 0).tolist()]
        if absent:
            raise ValueError(
                "Every split must have images of every class. Received: "
                f'{received}, whose split "{split}" has none of class '
                f"{_listed(absent)}. Remove the class everywhere, or add "
                "images"
            )


def _listed(names):
    return _checks.first_few([f'"{name}"' for name in names])
