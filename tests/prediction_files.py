"""Predictions of known accuracy, and what writes them as people keep them."""

import numpy as np
import pytest

pandas = pytest.importorskip("pandas")

CLASSES = ("cat", "dog", "fox")
COUNT = 60
random = np.random.default_rng(0)
LABELS = np.arange(COUNT) % 3
TEXTS = np.array(CLASSES)[LABELS]
BINARY = np.arange(COUNT) % 2
IMAGES = np.array([f"{number:03}.png" for number in range(COUNT)])
AGES = random.integers(20, 80, COUNT)


def guess(labels, classes, gain):
    """Returns probabilities that are right more often for a larger gain."""
    scores = random.dirichlet(np.ones(classes), COUNT)
    scores += gain * np.eye(classes)[labels]
    return scores / scores.sum(axis=1, keepdims=True)


RUNS = [(network, seed) for network in ("none", "cbam") for seed in range(2)]
GAINS = {"none": 0.3, "cbam": 0.5}
PROBS = {run: guess(LABELS, 3, GAINS[run[0]]) for run in RUNS}
SECOND = {run: guess(BINARY, 2, GAINS[run[0]])[:, 1] for run in RUNS}
NUMBERS = {run: AGES + random.normal(0, 3, COUNT) for run in RUNS}


def means_of(right):
    """Returns the mean of each network over runs and examples."""
    return {
        network: np.mean([right[x] for x in RUNS if x[0] == network])
        for network in GAINS
    }


OF_THREE = means_of({x: y.argmax(axis=1) == LABELS for x, y in PROBS.items()})
OF_TWO = means_of({x: (y > 0.5) == BINARY for x, y in SECOND.items()})
OF_NUMBERS = means_of({x: np.abs(y - AGES) for x, y in NUMBERS.items()})
OF_ROUNDED = means_of(
    {x: np.abs(np.round(y) - AGES) for x, y in NUMBERS.items()}
)


def csv(form="{m}_s{s}.csv", of=PROBS, **options):
    """Returns what writes a table of each run, of functions of the run."""
    return files(
        form,
        of,
        lambda path, columns: pandas.DataFrame(columns).to_csv(
            path, **{"index": False, **options}
        ),
    )


def npz(form="{m}_s{s}.npz", of=PROBS):
    return files(form, of, lambda path, arrays: np.savez(path, **arrays))


def files(form, of, save):
    def with_columns(columns):
        def write(folder):
            for (network, seed), scores in of.items():
                letter = "AB"[network == "cbam"]
                path = folder / form.format(
                    m=network, s=seed, r=seed + 1, letter=letter
                )
                path.parent.mkdir(parents=True, exist_ok=True)
                save(path, columns(scores))
            return folder

        return write

    return with_columns


def of_classes(scores):
    return dict(zip(CLASSES, scores.T, strict=True))


def answers(scores):
    return np.array(CLASSES)[scores.argmax(axis=1)]


def in_one(name, arrays):
    """Returns what writes one file of all networks."""

    def write(folder):
        path = folder / name
        if path.suffix == ".csv":
            pandas.DataFrame(arrays).to_csv(path, index=False)
        else:
            np.savez(path, **arrays)
        return path

    return write


def means(results):
    """Returns the mean of the metric of each network, weighted by examples."""
    key = results.measures[0].key
    sizes = {}
    for outcome in results.outcomes:
        kept = results.tested[outcome.variant][outcome.run]
        pair = outcome.metrics[key], len(kept.images)
        sizes.setdefault(outcome.variant, []).append(pair)
    return {
        x: np.average([y for y, _ in pairs], weights=[y for _, y in pairs])
        for x, pairs in sizes.items()
    }
