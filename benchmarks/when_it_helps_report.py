"""The tables and figures of `docs/when-it-helps.md`.

    python -m benchmarks.when_it_helps_report

Prints the stored results of `benchmarks.when_it_helps` as Markdown, each arm
of a study compared with the first, paired by seed, and draws the figures.
"""

import math

import numpy as np

from benchmarks.when_it_helps import CANVASES, STUDIES, TUNING_SEEDS, stored
from cbam_keras import _tables, training


def difference(rows, baseline):
    """Returns mean and interval of the difference in test accuracy.

    Args:
        rows: List of results, one per seed.
        baseline: List of results of the same seeds.
    """
    own, other = (
        np.array([[int(n) for n in row["right"]] for row in side])
        for side in (rows, baseline)
    )
    table = (own - other) / CANVASES["test"]
    seeds, many = table.shape
    mean = table.mean()
    if seeds < 2:
        return mean, None
    by_seed, by_digit = table.mean(axis=1), table.mean(axis=0)
    rest = table - by_seed[:, None] - by_digit[None, :] + mean
    residual = (rest**2).sum() / ((seeds - 1) * (many - 1))
    variance = (
        by_seed.var(ddof=1) / seeds
        + by_digit.var(ddof=1) / many
        - residual / (seeds * many)
    )
    from scipy import stats

    quantile = stats.t.ppf((1 + training.CONFIDENCE) / 2, seeds - 1)
    return mean, float(quantile) * math.sqrt(max(variance, 0))


def report():
    """Prints the tables of all studies that have results."""
    found = stored()
    for study, arms in STUDIES.items():
        first = next(iter(arms.values()))
        lines = []
        for name, arm in arms.items():
            seeds = sorted(
                seed
                for own, seed in found
                if own == arm
                and (first, seed) in found
                and seed not in TUNING_SEEDS
            )
            if seeds:
                lines.append(_line(name, arm, first, seeds, found))
        if lines:
            columns = {
                "network": "left",
                "parameters": "right",
                "seeds": "right",
                "training accuracy": "right",
                "test error (%)": "right",
                "difference (95 %)": "right",
                "ahead": "right",
            }
            print(f"**{study}**\n")
            print(_tables.render(columns, [lines], markdown=True), "\n")


def _line(name, arm, first, seeds, found):
    rows = [found[arm, seed] for seed in seeds]
    baseline = [found[first, seed] for seed in seeds]
    errors = [100 * (1 - row["test_accuracy"]) for row in rows]
    compared, ahead = "", ""
    if arm != first:
        mean, reach = difference(rows, baseline)
        compared = f"{-100 * mean:+.2f}"
        if reach is not None:
            compared += f" ± {100 * reach:.2f}"
        wins = sum(
            own["test_accuracy"] > other["test_accuracy"]
            for own, other in zip(rows, baseline, strict=True)
        )
        ahead = f"{wins} of {len(seeds)}"
    return (
        name,
        f"{rows[0]['parameters']:,}",
        str(len(seeds)),
        f"{np.mean([row['train_accuracy'] for row in rows]):.1%}",
        f"{np.mean(errors):.2f}",
        compared,
        ahead,
    )
