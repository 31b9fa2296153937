"""Runs that are given: arrays of test examples, of all or of folds."""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from cbam_keras import _checks
from cbam_keras.study.plans.study import Run, runs_of


class GivenRun(NamedTuple):
    """The indices of test examples, and what one network gives them."""

    rows: np.ndarray
    scores: np.ndarray


def as_array(values: Any) -> np.ndarray:
    """Returns values as an array, also those of PyTorch."""
    if hasattr(values, "detach"):
        # A tensor that may hold gradients, or be on a GPU.
        values = values.detach().cpu()
    if np.ma.is_masked(values):
        raise ValueError(
            "Arrays must have no masked values. Received: an array of shape "
            f"{values.shape} with some. Leave out these examples"
        )
    return np.asarray(values)


def count_scores(value: Any, folds: Any) -> int:
    """Returns of how many examples the scores of a network are."""
    parts = value if isinstance(value, list | tuple) else [value]
    if folds is None:
        return len(parts) if np.ndim(parts[0]) == 0 else len(parts[0])
    rows = folds if isinstance(folds, list | tuple) else [x for x, _ in parts]
    return len(np.unique(np.concatenate([*rows])))


def read_runs(value: Any, count: int, folds: Any) -> list[GivenRun]:
    """Returns the runs of one network for so many examples."""
    runs = value if isinstance(value, list | tuple) else [value]
    if not len(runs):
        raise ValueError("`predictions` of a network must not be empty")
    if folds is not None:
        return [*_runs_of_folds(runs, count, folds)]
    if any(map(_is_fold, runs)):
        raise ValueError(
            "`folds` must say that runs are folds, as folds=5, where each is a "
            "tuple of the indices of its examples and their predictions. "
            "Received: such a tuple, folds=None"
        )
    if runs is value and len(runs) == count:
        sizes = {np.shape(as_array(x))[:1] for x in runs}
        if sizes == {(count,)}:
            raise ValueError(
                "`predictions` of a network must be a list of runs or an "
                f"array. Received: {count} lists of {count}, which are either: "
                "pass numpy.array(...), or a list of such"
            )
        runs = [value]
    arrays = [as_array(run) for run in runs]
    for scores in arrays:
        if len(scores) != count:
            raise ValueError(
                f"`predictions` must be of all {count:,} examples, or `folds` "
                "say which are of what; several runs must be a list, as "
                f"[*array]. Received: an array of shape {scores.shape}"
            )
    return [GivenRun(np.arange(count), scores) for scores in arrays]


def _is_fold(run):
    """Returns whether a run is indices and predictions, as of a fold."""
    if not isinstance(run, tuple) or len(run) != 2:
        return False
    rows = as_array(run[0])
    return rows.ndim == 1 and rows.dtype.kind in "iu"


def _runs_of_folds(runs, count, folds):
    """Yields a run for each fold, with the indices of its examples."""
    pairs = runs
    if isinstance(folds, list | tuple):
        pairs = zip(itertools.cycle(folds), runs, strict=False)
    elif not all(map(_is_fold, runs)):
        raise ValueError(
            "`predictions` of folds must be a list of tuples, of the indices "
            f"of examples and their predictions. Received: {folds=}, with "
            f"{_checks.shown(runs[0])}"
        )
    for number, (rows, scores) in enumerate(pairs):
        rows, scores = as_array(rows), as_array(scores)
        is_index = rows.ndim == 1 and rows.dtype.kind in "iu" and len(rows)
        different = len(np.unique(rows)) if is_index else 0
        is_inside = is_index and rows.min() >= 0 and rows.max() < count
        if not is_inside or different != len(rows) or len(scores) != len(rows):
            raise ValueError(
                "A fold must have whole numbers from 0 to "
                f"{count - 1:,} as indices of its examples, each once, with "
                f"what is predicted. Received: in fold {number} "
                f"{_checks.shown(rows)}, {different} of them different, and "
                f"{len(scores)} predictions"
            )
        yield GivenRun(rows, scores)


def find_places(
    runs: Sequence[GivenRun], count: int, asked: Any
) -> tuple[list[Run], int | None]:
    """Returns the seed and fold of each run, and the number of folds."""
    if asked is None:
        return [Run(seed) for seed in range(len(runs))], None
    places: list[Run] = []
    seed, tested = 0, np.zeros(count, int)
    for run in runs:
        fold = sum(place.seed == seed for place in places)
        places.append(Run(seed, fold))
        np.add.at(tested, run.rows, 1)
        seed += bool(tested.all())
        if tested.max() > 1:
            break
        tested *= not tested.all()
    folds = len(places) // max(seed, 1)
    is_other = type(asked) is int and asked != folds
    are_whole = not tested.any() and folds > 1 and not is_other
    if not are_whole or places != [*runs_of(range(seed), folds)]:
        raise ValueError(
            "Folds must test each example once before the next repetition "
            "begins, and be as many in each, two or more. Received: "
            f"{len(runs)} runs of {[len(run.rows) for run in runs]} examples, "
            f"of {count}, folds={_checks.shown(asked)}"
        )
    return places, folds


def check_pairs(
    variant: str,
    runs: Sequence[GivenRun],
    first: str,
    its_runs: Sequence[GivenRun],
) -> None:
    """Raises unless two networks have runs on the same examples."""
    rows, others = ([x.rows.tolist() for x in y] for y in (runs, its_runs))
    if rows != others:
        raise ValueError(
            "Runs are paired by their place, so networks must have as many, "
            f'with the same folds. Received: {len(rows)} of "{variant}" and '
            f'{len(others)} of "{first}", or other folds'
        )
