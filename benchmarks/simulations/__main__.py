"""What do studies claim, where the truth is known?

    python -m benchmarks.simulations

Simulates studies with normal values, or for folds with trained networks of one
layer, and prints how many claim a difference, and what searches find. It needs
no backend.
"""

import argparse
import itertools
import math

import numpy as np
from scipy import stats

from benchmarks import arguments, measured
from benchmarks.simulations import measures, studies
from benchmarks.simulations.search import search, search_with_folds
from cbam_keras.study.results.statistics import BY_CHANCE, Measured, holm

COMPARISONS, SEEDS = (1, 2, 7), (3, 5, 10)
# In standard deviations of a training.
EFFECT = 3


def claims(values):
    """Returns which networks a study claims to differ from the baseline.

    `values` is an array of (studies, networks, seeds), whose first network is
    the baseline. Each formula is that of the package, for all studies at once.
    """
    changes = values[:, 1:] - values[:, :1]
    count, seeds = changes.shape[1:]
    means = np.abs(changes.mean(axis=-1))
    errors = changes.std(axis=-1, ddof=1) / math.sqrt(seeds)
    p_values = 2 * stats.t.sf(means / errors, seeds - 1)
    clear = [holm(dict(enumerate(row))) for row in p_values]
    return np.array([[x in names for x in range(count)] for names in clear])


def values_of(random, studies, comparisons, seeds):
    """Returns values of equal networks, with a deviation of one per seed.

    What the networks of a seed share has a tenth of the variance.
    """
    shared = random.normal(0, math.sqrt(0.1), (studies, 1, seeds))
    shape = studies, comparisons + 1, seeds
    return shared + random.normal(size=shape)


def false_claims(studies):
    """Yields how often equal networks are claimed to differ."""
    random = np.random.default_rng(0)
    for comparisons, seeds in itertools.product(COMPARISONS, SEEDS):
        values = values_of(random, studies, comparisons, seeds)
        yield {
            "comparisons": str(comparisons),
            "seeds": str(seeds),
            "same test images": _percent(claims(values).any(axis=1)),
        }


def power(studies):
    """Yields how often one network that differs is found."""
    random = np.random.default_rng(1)
    for comparisons, seeds in itertools.product(COMPARISONS, SEEDS):
        values = values_of(random, studies, comparisons, seeds)
        values[:, 1] += EFFECT
        yield {
            "comparisons": str(comparisons),
            "seeds": str(seeds),
            "found": _percent(claims(values)[:, 0]),
        }


def folds(studies):
    """Yields how often networks with equally good inputs seem to differ."""
    random = np.random.default_rng(2)
    for count, seeds in ((3, 1), (5, 1), (10, 1), (5, 3)):
        row = {"folds": str(count), "seeds": str(seeds)}
        claimed = []
        for _ in range(studies // 4):
            inputs = random.normal(size=(200, 10))
            target = inputs.sum(axis=1) + random.normal(size=200)
            changes = []
            for _ in range(seeds):
                changes += _changes(random, inputs, target, count)
            tests = [
                Measured.of(changes, changes, folds=x) for x in (None, count)
            ]
            claimed.append([x.p_value < BY_CHANCE for x in tests])
        for name, column in zip(
            ("Student's t", "corrected"),
            zip(*claimed, strict=True),
            strict=True,
        ):
            row[name] = _percent(column)
        yield row


def _changes(random, inputs, target, count):
    """Yields, for each fold, the error of one half of inputs minus another."""
    fold_of = random.permutation(len(target)) % count
    for fold in range(count):
        train, test = fold_of != fold, fold_of == fold
        errors = []
        for half in (inputs[:, :5], inputs[:, 5:]):
            x, y = half[train], target[train]
            weights = np.linalg.solve(x.T @ x, x.T @ y)
            errors.append(np.mean((target[test] - half[test] @ weights) ** 2))
        yield float(errors[0] - errors[1])


def _percent(claimed):
    return f"{100 * np.mean(claimed):.1f}%"


TABLES = {
    "false-claims": false_claims,
    "power": power,
    "folds": folds,
    "search": search,
    "search-folds": search_with_folds,
    "groups": studies.groups,
    "detectable": studies.detectable,
    "sensitivity": studies.sensitivity,
    "scores": studies.scores,
    "measures": measures.find_claims,
    "areas": measures.find_areas,
}
# Others simulate so many, or a part of them.
STUDIES, OF_TABLE = 20_000, {"measures": 200, "areas": 200}


def main(command=None):
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0],
        allow_abbrev=False,
    )
    parser.add_argument(
        "--tables", nargs="+", choices=TABLES, default=[*TABLES]
    )
    parser.add_argument(
        "--studies",
        type=arguments.positive_integer,
        help=f"how many of each kind are simulated (default: {STUDIES:,}; "
        f"{OF_TABLE['measures']} of measures and areas)",
    )
    options = parser.parse_args(command)
    for name in options.tables:
        count = options.studies or OF_TABLE.get(name, STUDIES)
        rows = [*TABLES[name](count)]
        print(f"## {name}\n\n{measured.markdown(rows)}\n", flush=True)


if __name__ == "__main__":
    main()
