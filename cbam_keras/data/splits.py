"""How images are split into those to train, validate and test with."""

import collections
import dataclasses
import difflib
import hashlib
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from cbam_keras import _checks
from cbam_keras.data.examples import Dataset
from cbam_keras.data.layouts import name_splits

SPLITS = ("train", "validation", "test")
# The fraction of the training images used for testing if a dataset has no
# test images.
TEST_FRACTION = 0.2
# The rule by which copies are split. A run that was begun by another one, as by
# version 0.7, is not resumed. Change the text with the rule.
COPIES_RULE = "kept in one split, as of version 0.8"


def by_split(data: Mapping) -> dict[str, Any]:
    """Returns values by our names of splits, or raises for other keys."""
    split_of = name_splits(map(str, data))
    named = {split_of.get(str(x), str(x)): data[x] for x in data}
    is_twice = len(named) < len(data)
    if is_twice or "train" not in named or not {*named} <= {*SPLITS}:
        raise ValueError(
            'The splits of `data` must be "train" and optionally "validation" '
            f'and "test". Received: data with the keys {list(data)}'
        )
    return named


def stratify(
    labels: np.ndarray,
    validation_fraction: float | None,
    seed: int,
    test: bool = True,
    groups: np.ndarray | None = None,
    folds: int | None = None,
    fold: int = 0,
    fold_of: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Returns the indices of each split, the same fraction of each class.

    Groups stay whole. With `folds` the images of one fold are tested, which the
    seed draws unless `fold_of` says the fold of each image.
    """
    rows = np.arange(len(labels))
    tested = validated = rows[:0]
    if folds is not None:
        if fold_of is None:
            fold_of = _assign_folds(labels, groups, seed, folds)
        tested, rows = rows[fold_of == fold], rows[fold_of != fold]
    elif test:
        # They are chosen without the user's seed, so that results for
        # different seeds can be compared.
        rng = np.random.default_rng(0)
        # Two are left where there are enough, for the other splits.
        tested, rows = _take(rows, labels, groups, TEST_FRACTION, 2, rng)
    if validation_fraction is not None:
        rng = np.random.default_rng([seed, 1])
        validated, rows = _take(
            rows, labels, groups, validation_fraction, 1, rng
        )
    return {
        "train": np.sort(rows),
        "validation": np.sort(validated),
        "test": np.sort(tested),
    }


def _take(rows, labels, groups, fraction, least, rng):
    """Returns a fraction of the rows of each class, at least one, and the rest.

    So many are left as `least`, if there are.
    """
    if groups is not None:
        fractions = fraction, 1 - fraction
        parts = divide_groups(labels[rows], groups[rows], fractions, rng)
        return rows[parts == 0], rows[parts == 1]
    taken, left = [], []
    for label in np.unique(labels[rows]):
        order = rng.permutation(rows[labels[rows] == label])
        count = max(1, round(fraction * len(order)))
        count = min(count, max(0, len(order) - least))
        taken.append(order[:count])
        left.append(order[count:])
    return np.concatenate(taken), np.concatenate(left)


def _assign_folds(labels, groups, seed, folds):
    """Returns the fold of each image: groups whole, each class evenly."""
    rng = np.random.default_rng([seed, 3])
    by_class = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    # Neighbors are of one class, and every fold gets each n-th.
    order = np.concatenate([rng.permutation(rows) for rows in by_class])
    if groups is not None:
        return divide_groups(labels, groups, [1 / folds] * folds, rng)
    fold_of = np.empty(len(labels), int)
    fold_of[order] = np.arange(len(labels)) % folds
    return fold_of


def divide_groups(
    labels: np.ndarray,
    groups: np.ndarray,
    fractions: Sequence[float],
    rng: np.random.Generator,
) -> np.ndarray:
    """Returns the part that each image is in, about so much of each class.

    Groups stay whole, and each part has one of each class if there are enough.
    """
    names, groups = np.unique(groups, return_inverse=True)
    shares = np.zeros((len(names), labels.max() + 1))
    np.add.at(shares, (groups, labels), 1)
    left = np.count_nonzero(shares, axis=0)
    shares /= np.maximum(1, shares.sum(axis=0))
    filled = np.zeros((len(fractions), len(left)))
    parts = np.empty(len(names), int)
    order = rng.permutation(len(names))
    # Groups that are larger than a part come first, while there is room.
    is_small = shares[order].max(axis=1) <= min(fractions)
    for group in order[np.argsort(is_small, kind="stable")]:
        share = shares[group]
        after = filled + share / np.reshape(fractions, (-1, 1))
        # The last groups of a class go to parts that lack it.
        lacks = (filled == 0) & (share > 0)
        is_urgent = lacks[:, lacks.sum(axis=0) >= left].any(axis=1)
        part = np.lexsort((after @ share, ~is_urgent))[0]
        parts[group], filled[part] = part, after[part]
        left -= share > 0
    return parts[groups]


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


def number_folds(splits: Mapping[str, Any]) -> dict[str, Any]:
    """Returns examples with the numbers of their folds in place of names."""
    names = {name for each in splits.values() for name in each.folds}
    # "fold10" comes after "fold2".
    order = sorted(names, key=lambda x: (len(x), x))
    numbers = {name: number for number, name in enumerate(order)}
    return {
        x: dataclasses.replace(y, folds=np.array([numbers[z] for z in y.folds]))
        for x, y in splits.items()
    }


def pool(dataset: Dataset) -> Dataset:
    """Returns a dataset whose training images are those of all splits."""
    parts = [*dataset.splits.values()]
    if len(parts) == 1:
        return dataset
    pooled = {
        name: np.concatenate([vars(part)[name] for part in parts])
        for name, values in vars(parts[0]).items()
        if isinstance(values, np.ndarray)
    }
    train = dataclasses.replace(parts[0], **pooled)
    return dataclasses.replace(dataset, splits={"train": train})


def complete(
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
    test = "test" not in splits
    groups = train.groups if train.is_grouped else None
    options = groups, folds, fold, train.folds
    rows = stratify(train.strata, fraction, seed, test, *options)
    remarks, copies = dataset.remarks, None
    if groups is None and train.folds is None:
        first = _find_first_copies(dataset, train)
        whole = _keep_copies_together(
            rows, train.strata, first, fraction, seed, test, folds, fold
        )
        if whole is not None:
            rows, copies = whole, COPIES_RULE
            num_copies = len(first) - len({*first.tolist()})
            count = _checks.count(num_copies, dataset.noun, "are")
            remarks = (*remarks, f"{count} copies, kept in one split")
    parts = {split: train.take(rows[split]) for split in SPLITS}
    parts |= {split: splits[split] for split in splits if split != "train"}
    if dataset.draw is not None:
        parts = {x: dataset.draw(parts[x], x, seed) for x in parts}
    return dataclasses.replace(
        dataset, splits=parts, remarks=remarks, copies=copies
    )


def _find_first_copies(dataset, examples):
    """Returns the number of the first image with the content of each."""
    numbers = np.arange(len(examples))
    if examples.decoded or not dataset.headers:
        return numbers
    first = dict[str, int]()
    for row, path in enumerate(examples.images):
        content = dataset.headers[path].content
        numbers[row] = first.setdefault(content, row)
    return numbers


def _keep_copies_together(
    rows, labels, first, fraction, seed, test, folds, fold
):
    """Returns the rows of each split, with copies in one split.

    `None` if there are no copies, or if that leaves a class without images.
    """
    originals, original_of = np.unique(first, return_inverse=True)
    if len(originals) == len(labels):
        return None
    drawn = stratify(labels[originals], fraction, seed, test, None, folds, fold)
    kept = {
        split: np.flatnonzero(np.isin(original_of, drawn[split]))
        for split in rows
    }
    for split in rows:
        if {*labels[kept[split]]} != {*labels[rows[split]]}:
            return None
    return kept


def check_classes(
    dataset: Dataset, received: str, folds: int | None = None
) -> None:
    """Raises unless there are two classes, and of each images to train with."""
    names, splits = dataset.class_names, dataset.splits
    has_masks = splits["train"].masks is not None
    has_classes = splits["train"].labels.ndim == 1 and not has_masks
    if len(names) < 2 and has_classes:
        raise ValueError(
            "A dataset must have at least two classes, one subfolder each. "
            f"Received: {received} with the classes {list(names)}"
        )
    for split, examples in splits.items():
        needed, place, advice = 1, f'in "{split}"', ""
        if split == "train":
            # Each split that is split off needs one more.
            needed += len(SPLITS) - len(splits)
        if folds is not None:
            # Each fold tests one, and leaves two to train and validate.
            needed = max(folds, 2 + 2 // (folds - 1))
            place, advice = f"for folds={folds}", ", or use fewer folds"
        if any(part.is_grouped for part in splits.values()):
            advice += f", or use smaller groups by {dataset.grouped_by}"
        count = len(names) if has_classes else 1
        counts = np.bincount(examples.strata, minlength=count)
        few = [
            f'"{names[i] if has_classes else "with a label"}" ({counts[i]})'
            for i in np.flatnonzero(counts < needed)
        ]
        if few and split != "train" and len(examples):
            _checks.warn(
                f'"{split}" has no {dataset.noun}s of class '
                f"{_checks.first_few(few)}, so that class is not evaluated"
            )
        elif few:
            if has_classes:
                classes_of = {
                    name: [names[i] for i in np.unique(part.strata)]
                    for name, part in splits.items()
                }
                missing = name_missing(classes_of)
                if missing:
                    few[-1] += f': "train" lacks {missing}'
            raise ValueError(
                "Each class must have at least "
                f"{_checks.count(needed, dataset.noun)} {place}. Received: "
                f"{received}, with fewer of class {_checks.first_few(few)}. "
                f"Number labels from 0 without gaps, add {dataset.noun}s, or "
                f"remove the class everywhere{advice}"
            )


def name_missing(classes: Mapping[str, Iterable[str]]) -> str:
    """Returns the classes that training lacks, beside what it has instead."""
    trained = sorted(classes["train"])
    texts = []
    for name in sorted({x for y in classes.values() for x in y} - {*trained}):
        alike = difflib.get_close_matches(name, trained, 1, 0.4)
        texts.append(f'"{name}" ("train" has {alike or "no such class"})')
    return _checks.first_few(texts, 6)


def check_splits(dataset: Dataset) -> bool:
    """Raises unless a dataset can be split; returns if groups are divided."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_classes(dataset, "")
        is_divided = bool(warn_of_divided_groups(dataset))
        check_classes(complete(dataset, 0.1, 0), "")
    return is_divided


def warn_of_divided_groups(dataset: Dataset) -> tuple[str, ...]:
    """Returns the warning of groups in several splits, after warning."""
    if not dataset.grouped_by:
        return ()
    splits = collections.Counter[object]()
    for examples in dataset.splits.values():
        splits.update({*examples.groups})
    divided = sorted(str(x) for x, count in splits.items() if count > 1)
    if not divided:
        return ()
    warning = (
        f"{_checks.count(len(divided), 'group', 'have')} {dataset.noun}s in "
        f"several splits by {dataset.grouped_by}, which inflates accuracy: "
        f"{_checks.first_few(divided)}. Move each group into one split, or use "
        "folds"
    )
    _checks.warn(warning)
    return (warning,)


def warn_of_copies(dataset: Dataset) -> tuple[str, ...]:
    """Returns warnings of copies in training and test, or in two classes."""
    first = dict[str | bytes, tuple[str, int, str]]()
    tested, validated, several = [], [], []
    for split, examples in dataset.splits.items():
        for row, label in enumerate(examples.strata):
            name, content = _identify(dataset, examples, row)
            seen_before = first.setdefault(content, (name, label, split))
            other, its_label, its_split = seen_before
            if split == "test" and its_split != "test":
                tested.append((name, other))
            elif split == "validation" and its_split == "train":
                validated.append((name, other))
            elif label != its_label:
                several.append((name, other))
    noun = dataset.noun
    same = f"the same content as training {noun}s, which inflates accuracy"
    both = f"the same content as {noun}s of another class"
    kinds = (
        (tested, f"test {noun}", same),
        (validated, f"validation {noun}", same),
        (several, noun, both),
    )
    warnings = []
    for pairs, noun, text in kinds:
        if pairs:
            names = _checks.first_few([" is ".join(pair) for pair in pairs])
            warnings.append(
                f"{_checks.count(len(pairs), noun, 'have')} {text}: {names}. "
                "Remove one of each pair"
            )
            _checks.warn(warnings[-1])
    return tuple(warnings)


def _identify(dataset, examples, row):
    """Returns the name of an image, and its content or a hash of it."""
    image, paths = examples.images[row], examples.paths
    if not examples.decoded:
        return dataset.name_of(image), dataset.headers[image].content
    # Examples of arrays are counted over all splits.
    name = f"{dataset.noun} {examples.places[row]}"
    if paths is not None:
        name = dataset.name_of(paths[row])
    return name, hashlib.blake2b(image.tobytes()).digest()
