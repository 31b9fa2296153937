"""The tables and the figure of `docs/when-it-helps.md`.

    python -m benchmarks.when_it_helps_report --output docs/figures

Prints the results of `benchmarks.when_it_helps` as Markdown: one table per
experiment, with differences paired by seed, and what the gates do.
"""

import argparse
import dataclasses
import functools
import math
import pathlib

import numpy as np

from benchmarks import results, timing, when_it_helps
from benchmarks.arguments import positive_integer
from cbam_keras import profile_model, study

MEASURES = {
    "test_accuracy": "test accuracy",
    "pointing": "maximum in the box",
    "heat_in_box": "heat in the box",
}
# These are known of the gates of a stage.
GATES = (
    "mean of the channel map",
    "deviation among channels",
    "among images",
    "mean of the spatial map",
    "deviation among positions",
)


class DigitResults(study.Results):
    """Results whose intervals count the test digits as drawn at random.

    Several canvases show one digit.
    """

    def compared(self, measure=None, comparison=None):
        compared = super().compared(measure, comparison)
        if measure not in (None, self.measures[0].key):
            return compared
        baseline = self.values(self.baseline, "right")
        for name, measured in compared.items():
            if measured.pairs:
                own = self.values(name, "right")
                pairs = [(own[x], baseline[x]) for x in own if x in baseline]
                mean, reach = difference(*zip(*pairs, strict=True))
                ends = (mean - reach, mean + reach)
                compared[name] = dataclasses.replace(measured, interval=ends)
        return compared


def difference(own, other):
    """Returns mean and half interval of the difference in test accuracy.

    Both are strings, one per seed: on how many of its canvases each test digit
    is recognized.
    """
    own, other = (
        np.array([[*map(int, right)] for right in side])
        for side in (own, other)
    )
    table = (own - other) / when_it_helps.CANVASES
    seeds, many = table.shape
    mean = table.mean()
    by_seed, by_digit = table.mean(axis=1), table.mean(axis=0)
    rest = table - by_seed[:, None] - by_digit[None, :] + mean
    residual = (rest**2).sum() / (max(seeds - 1, 1) * (many - 1))
    drawn = math.sqrt(by_digit.var(ddof=1) / many)
    shared = math.sqrt(residual / (seeds * many))
    return mean, study.reach(by_seed.tolist(), drawn, shared)


def trained(name):
    """Returns the stored results of an experiment."""
    plan = when_it_helps.EXPERIMENTS[name]
    names = [variant.name for variant in plan.variants]
    is_digits = isinstance(plan.task, when_it_helps.Digits)
    outcomes = [
        study.Outcome(
            variant=row["variant"],
            seed=row["seed"],
            status="finished",
            parameters=row["parameters"],
            metrics=row["metrics"],
        )
        for row in when_it_helps.stored().values()
        if row["experiment"] == name
    ]
    return (DigitResults if is_digits else study.Results)(
        output=pathlib.Path(name),
        outcomes=tuple(outcomes),
        variants=tuple(names),
        seeds=plan.seeds,
        comparisons=(study.Comparison(plan.baseline, names),),
        measures=tuple(plan.measured_by),
        data=plan.task.name,
        sizes={"test": plan.task.test_images},
    )


def table(name):
    """Returns an experiment as Markdown: one line per variant."""
    found = trained(name)
    if found.baseline is None:
        return rates(found)
    lines = {
        row.network: {
            "network": row.network,
            "parameters": f"{row.parameters:,}",
            "seeds": str(len(row.seeds)),
        }
        for row in found.rows
    }
    for measure, words in MEASURES.items():
        for variant, measured in found.compared(measure).items():
            reach = ""
            if measured.interval is not None:
                half = 100 * (measured.interval[1] - measured.difference)
                reach = f"{100 * measured.difference:+.2f} ± {half:.2f}"
            lines[variant][f"{words} (%)"] = f"{100 * measured.mean:.2f}"
            lines[variant][f"difference in {words}"] = reach
    return results.table(list(lines.values()))


def rates(found):
    """Returns loss and accuracy on validation images by learning rate."""
    losses = found.compared("val_loss")
    lines, columns = {}, {}
    for variant, accuracy in found.compared("val_accuracy").items():
        name, _, rate = variant.rpartition("-")
        cell = f"{accuracy.mean:.1%}"
        if variant in losses:
            cell = f"{losses[variant].mean:.4f}, {cell}"
        lines.setdefault(name, {"network": name})[rate] = cell
        columns[rate] = ""
    # The same columns for each, also without a cell.
    return results.table(
        [{"network": name} | columns | line for name, line in lines.items()]
    )


def gates(name):
    """Returns what the gates of one network do on digits, mean over seeds."""
    found = trained("digits").values(name, "gates").values()
    # The gates of the first trainings were not looked at.
    found = [seen for seen in found if seen]
    rows = []
    for number, seen in enumerate(zip(*found, strict=True), start=1):
        means = np.mean([[*g["channel"], *g["spatial"]] for g in seen], axis=0)
        row = {"stage": str(number)}
        for heading, mean in zip(GATES, means, strict=True):
            row[heading] = f"{mean:.2f}"
        rows.append(row)
    return results.table(rows)


def tables():
    """Returns all tables by their titles."""
    attended = ("cbam-not-normalized", "cbam", "cbam-paper")
    return {
        **{name: table(name) for name in when_it_helps.EXPERIMENTS},
        **{f"gates of {name}": gates(name) for name in attended},
    }


def costs(repeats):
    """Returns parameters, MACs and the time of a step of small networks.

    Steps of training are timed by turns, relative to the first network.
    """
    experiment = when_it_helps.EXPERIMENTS["digits"]
    task, recipe = experiment.task, experiment.recipe
    images = task.load(recipe)
    x, y = next(iter(images.train))
    # Too small to change the weights while steps are timed.
    recipe = dataclasses.replace(recipe, learning_rate=1e-6)
    profiles, functions = {}, {}
    for variant in experiment.variants[: len(when_it_helps.MAIN)]:
        model = variant.build(images)
        task.compile(model, recipe, images)
        profiles[variant.name] = profile_model(model)
        functions["step", variant.name] = functools.partial(
            model.train_on_batch, x, y
        )
    return results.table(
        [
            {
                "network": row["kind"],
                "parameters": f"{profiles[row['kind']].parameters:,}",
                "MMACs": f"{profiles[row['kind']].macs / 1e6:.2f}",
                "time of a step": f"{row['ratio']:.2f}",
            }
            for row in timing.compared(functions, repeats)
        ]
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=pathlib.Path, metavar="DIR")
    parser.add_argument(
        "--steps",
        type=positive_integer,
        help="time so many training steps instead",
    )
    options = parser.parse_args()
    if options.steps:
        print(costs(options.steps))
        return
    for title, text in tables().items():
        print(f"**{title}**\n\n{text}\n")
    if options.output:
        digits = trained("digits")
        shown = study.Comparison(digits.baseline, when_it_helps.MAIN)
        main = dataclasses.replace(digits, comparisons=(shown,))
        figure = main.plot()
        figure.savefig(options.output / "when-it-helps.png", dpi=110)


if __name__ == "__main__":
    main()
