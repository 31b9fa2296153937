"""The tables and figures of `docs/when-it-helps.md`.

    python -m benchmarks.when_it_helps_report --output docs/figures

Prints the stored results of `benchmarks.when_it_helps` as Markdown: the
learning rates, the studies, each network compared with the first of its
study and paired by seed, and what the gates do. Draws the differences.
"""

import argparse
import dataclasses
import functools
import math
import pathlib
import statistics

import numpy as np

from benchmarks import timing
from benchmarks.arguments import positive_integer
from benchmarks.digit_networks import build
from benchmarks.when_it_helps import (
    CANVASES,
    NONE,
    RATES,
    STUDIES,
    TUNING_SEEDS,
    stored,
    study_of,
)
from cbam_keras import _terminal, profile_model, study
from cbam_keras.plotting import style

TABLE = {
    "network": "left",
    "parameters": "right",
    "seeds": "right",
    "training accuracy": "right",
    "test error (%)": "right",
    "difference (95 %)": "right",
    "ahead": "right",
}


def difference(rows, baseline):
    """Returns mean and interval of the difference in test accuracy.

    Seeds and test digits are both counted as drawn at random: several
    canvases show one digit.

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

    quantile = stats.t.ppf((1 + study.CONFIDENCE) / 2, seeds - 1)
    return mean, float(quantile) * math.sqrt(max(variance, 0))


def tables(found):
    """Returns the tables by their titles.

    Args:
        found: Results by arm and seed, see `stored`.
    """
    main = STUDIES["main"].values()
    made = {
        name: _study(arms, found)
        for name, arms in STUDIES.items()
        # Others repeat what the main study has.
        if arms is STUDIES["main"]
        or any(
            _has_several(arm, found)
            for arm in [*arms.values()][1:]
            if arm not in main
        )
    }
    rates = ("main", "12 fragments, 2 canvases, 2 epochs")
    return {
        **{
            f"{name}, learning rates": table
            for name in rates
            if (table := _rates(STUDIES.get(name, {}), found))
        },
        **{
            name: _terminal.render(TABLE, [rows], markdown=True)
            for name, rows in made.items()
        },
        **{
            f"gates of {name}": _gates(arm, found)
            for name, arm in STUDIES["main"].items()
            if arm.attention == "cbam" and _looked_at(arm, found)
        },
        "hidden units": _hidden(STUDIES.get("reduction ratio", {}), found),
    }


def _has_several(arm, found):
    """Returns whether there are two seeds, and thus an interval."""
    return len(paired(arm, arm, found)[0]) > 1


def paired(arm, first, found):
    """Returns the results of an arm and of the first, of the same seeds."""
    seeds = sorted(
        seed
        for own, seed in found
        if own == arm and (first, seed) in found and seed not in TUNING_SEEDS
    )
    return (
        [found[arm, seed] for seed in seeds],
        [found[first, seed] for seed in seeds],
    )


def _study(arms, found):
    first = next(iter(arms.values()))
    made = []
    for name, arm in arms.items():
        rows, baseline = paired(arm, first, found)
        if _has_several(arm, found):
            made.append(_line(name, rows, None if arm == first else baseline))
    return made


def _line(name, rows, baseline):
    compared, ahead = "", ""
    if baseline:
        mean, reach = difference(rows, baseline)
        # Of errors.
        compared = f"{-100 * mean:+.2f}"
        if reach is not None:
            compared += f" ± {100 * reach:.2f}"
        wins = sum(
            own["test_accuracy"] > other["test_accuracy"]
            for own, other in zip(rows, baseline, strict=True)
        )
        ahead = f"{wins} of {len(rows)}"
    errors = [100 * (1 - row["test_accuracy"]) for row in rows]
    return (
        name,
        f"{rows[0]['parameters']:,}",
        str(len(rows)),
        f"{np.mean([row['train_accuracy'] for row in rows]):.1%}",
        f"{np.mean(errors):.2f}",
        compared,
        ahead,
    )


def _rates(arms, found):
    """Returns the mean validation accuracy by learning rate, where known."""
    rows = []
    for name, arm in arms.items():
        means = []
        for rate in RATES:
            own = dataclasses.replace(arm, learning_rate=rate)
            accuracies = [
                100 * found[own, seed]["validation_accuracy"]
                for seed in TUNING_SEEDS
                if (own, seed) in found
            ]
            means.append(f"{np.mean(accuracies):.1f}" if accuracies else "")
        if any(means):
            rows.append((name, *means))
    if not rows:
        return ""
    columns = {"network": "left", **{str(rate): "right" for rate in RATES}}
    return _terminal.render(columns, [rows], markdown=True)


def _looked_at(arm, found):
    """Returns the gates of all seeds: a list of stages each."""
    rows, _ = paired(arm, arm, found)
    return [row["gates"] for row in rows if row.get("gates")]


def _gates(arm, found):
    """Returns what the gates of each stage do, the mean over seeds."""
    columns = {
        "stage": "right",
        "mean of the channel map": "right",
        "deviation among channels": "right",
        "among images": "right",
        "mean of the spatial map": "right",
        "deviation among positions": "right",
    }
    stages = zip(*_looked_at(arm, found), strict=True)
    rows = []
    for number, seen in enumerate(stages, start=1):
        means = [
            np.mean([gate[kind] for gate in seen], axis=0)
            for kind in ("channel", "spatial")
        ]
        rows.append((f"{number}", *(f"{x:.2f}" for x in np.concatenate(means))))
    return _terminal.render(columns, [rows], markdown=True)


def _hidden(arms, found):
    """Returns how many hidden units of each stage never fire."""
    rows = []
    for name, arm in arms.items():
        looked_at = _looked_at(arm, found)
        if looked_at:
            cells = [
                f"{np.mean([gate['dead'] for gate in seen]):.1f} of "
                f"{seen[0]['hidden']}"
                for seen in zip(*looked_at, strict=True)
            ]
            rows.append((name, *cells))
    columns = {"network": "left"}
    columns |= {f"stage {stage}": "right" for stage in (1, 2, 3)}
    return _terminal.render(columns, [rows], markdown=True)


def costs(repeats):
    """Returns parameters, MACs and the time of a step of the main study.

    Steps of training are timed by turns, relative to the first network.
    """
    arms = STUDIES["main"]
    main = study_of(list(arms.values()), (0,))
    images = main.task.load(main.recipe)
    x, y = next(iter(images.train))
    rows, functions = {}, {}
    # Too small to change the weights while steps are timed.
    recipe = dataclasses.replace(main.recipe, learning_rate=1e-6)
    for name, arm in arms.items():
        model = build(arm, images)
        main.task.compile(model, recipe, images)
        rows[name] = profile_model(model)
        functions[name] = functools.partial(model.train_on_batch, x, y)
    seconds = {
        name: statistics.median(each)
        for name, each in timing.by_turns(functions, repeats).items()
    }
    first = seconds[next(iter(seconds))]
    cells = [
        (
            name,
            f"{profile.parameters:,}",
            f"{profile.macs / 1e6:.2f}",
            f"{seconds[name] / first:.2f}",
        )
        for name, profile in rows.items()
    ]
    columns = {"network": "left"}
    columns |= dict.fromkeys(["parameters", "MMACs", "time of a step"], "right")
    return _terminal.render(columns, [cells], markdown=True)


def draw_differences(found):
    """Draws the differences of the main study and of other starts."""
    arms = STUDIES["main"] | STUDIES["start"]
    points = [
        (name, *difference(*both))
        for name, arm in arms.items()
        if arm != NONE and len((both := paired(arm, NONE, found))[0]) > 1
    ]
    points.sort(key=lambda point: point[1])
    names, gains, reaches = zip(*points, strict=True)
    figure = style.new_figure(7.5, 0.4 * len(points) + 1, "")
    axes = figure.subplots()
    axes.errorbar(
        -100 * np.array(gains),
        names,
        xerr=100 * np.array(reaches),
        color="#0072B2",
        marker="o",
        linestyle="none",
        capsize=3,
    )
    axes.axvline(0, color="0.4", linewidth=1)
    axes.set_xlabel(
        "Difference in test error to no attention (percentage points)\n"
        "with 95 % intervals; left is better"
    )
    style.style_axes(axes, "x")
    return figure


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=pathlib.Path, metavar="DIR")
    parser.add_argument(
        "--steps",
        type=positive_integer,
        help="time so many training steps of the networks of the main "
        "study, by turns",
    )
    options = parser.parse_args()
    if options.steps:
        print(costs(options.steps))
        return
    found = stored()
    for title, table in tables(found).items():
        print(f"**{title}**\n\n{table}\n")
    if options.output:
        figure = draw_differences(found)
        figure.savefig(options.output / "when-it-helps.png", dpi=150)


if __name__ == "__main__":
    main()
