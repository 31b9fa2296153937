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


def count_scores(value: Any, folds: Any) -> int:
    """Returns of how many examples the scores of a network are."""
    parts = value if isinstance(value, list | tuple) else [value]
    if _is_single(folds) and folds is not None:
        folds = [rows for rows, _ in parts]
    if folds is None or all(map(_is_single, folds)):
        return len(parts) if np.ndim(parts[0]) == 0 else len(parts[0])
    return len(np.unique(np.concatenate([*folds])))


def _is_single(value):
    """Returns whether a value is neither an array nor a list."""
    return not isinstance(value, list | tuple) and np.ndim(value) == 0


def as_array(values: Any) -> np.ndarray:
    """Returns values as an array, also those of PyTorch."""
    if hasattr(values, "detach"):
        # A tensor of PyTorch that may hold gradients, or be on a GPU.
        values = values.detach().cpu()
        if "bfloat16" in str(values.dtype):
            # NumPy has no such numbers.
            values = values.float()
    if np.ma.is_masked(values):
        raise ValueError(
            "Arrays must have no masked values. Received: "
            f"{_checks.count(np.ma.count_masked(values), 'masked value')} in "
            f"an array of shape {values.shape}. Leave out these examples"
        )
    return np.asarray(values)


def read_runs(value: Any, count: int, folds: Any) -> list[GivenRun]:
    """Returns the runs of one network for so many examples."""
    are_runs = isinstance(value, list | tuple)
    if are_runs and folds is None and not any(map(_is_fold, value)):
        sizes = {np.shape(as_array(x))[:1] for x in value}
        is_array = sizes != {(count,)} and len(value) == count
        if sizes == {(count,)} and len(value) == count:
            raise ValueError(
                "`predictions` of a network must be a list of runs or an "
                f"array. Received: {count} lists of {count}, which are either: "
                "pass numpy.array(...), or a list of such"
            )
        are_runs = not is_array
    runs = [*(value if are_runs else [value])]
    if not runs:
        raise ValueError("`predictions` of a network must not be empty")
    if folds is not None:
        return [*_runs_of_folds(runs, count, folds)]
    if any(map(_is_fold, runs)):
        raise ValueError(
            "`folds` must say that runs are folds, as folds=5, where each is a "
            "tuple of the indices of its examples and their predictions. "
            "Received: such a tuple, folds=None"
        )
    return [GivenRun(np.arange(count), _of_all(run, count)) for run in runs]


def _of_all(run, count):
    """Returns what a run gives so many examples."""
    scores = as_array(run)
    if len(scores) != count and count in scores.shape[1:2]:
        raise ValueError(
            "`predictions` of several runs must be a list, as [*array]. "
            f"Received: an array of shape {scores.shape} for {count:,} "
            "examples"
        )
    if len(scores) != count:
        raise ValueError(
            f"`predictions` must be of all {count:,} examples, or `folds` say "
            f"which are of what. Received: an array of shape {scores.shape}"
        )
    return scores


def _is_fold(run):
    """Returns whether a run is indices and predictions, as of a fold."""
    if not isinstance(run, tuple) or len(run) != 2:
        return False
    rows = as_array(run[0])
    return rows.ndim == 1 and rows.dtype.kind in "iu"


def _runs_of_folds(runs, count, folds):
    """Yields a run for each fold, with the indices of its examples."""
    if _is_single(folds):
        if not all(map(_is_fold, runs)):
            raise ValueError(
                "`predictions` of folds must be a list of tuples, of the "
                "indices of examples and their predictions. Received: "
                f"{folds=}, with {_checks.shown(runs[0])}"
            )
        pairs = runs
    elif all(map(_is_single, folds)):
        of_each = as_array(folds)
        if of_each.shape != (count,):
            raise ValueError(
                f"`folds` must have a fold for each of the {count:,} examples. "
                f"Received: {len(of_each)}"
            )
        every = [np.flatnonzero(of_each == x) for x in np.unique(of_each)]
        pairs = [(x, _of_all(run, count)[x]) for run in runs for x in every]
    else:
        pairs = zip(itertools.cycle(folds), runs, strict=False)
    for number, (rows, scores) in enumerate(pairs):
        rows, scores = as_array(rows), as_array(scores)
        is_index = rows.ndim == 1 and rows.dtype.kind in "iu" and len(rows)
        if not is_index or rows.min() < 0 or rows.max() >= count:
            raise ValueError(
                "Indices of a fold must be whole numbers from 0 to "
                f"{count - 1:,}. Received: {_checks.shown(rows)} in fold "
                f"{number}" + (f", up to {rows.max()}" if is_index else "")
            )
        if len(np.unique(rows)) != len(rows) or len(scores) != len(rows):
            raise ValueError(
                "A fold must have each of its examples once, with what is "
                f"predicted of it. Received: {len(rows)} indices, "
                f"{len(np.unique(rows))} of them different, and "
                f"{len(scores)} predictions in fold {number}"
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
            f"begins, and be as many in each, two or more. Received: "
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
