"""How many gates of trained networks fold, and what is won?

    python -m benchmarks.folding cifar10 --data FOLDER --mode jax

Folds the networks with attention that a study of `benchmarks.when_it_helps`
left in `runs/when-it-helps`, by their validation images and a tolerance of 0.2
points, counts the test images again, and times both on one image and a batch,
by turns with the same network without attention.
"""

import collections
import functools
import pathlib
import statistics

import numpy as np

from benchmarks import arguments, results, timing
from benchmarks.when_it_helps.plans import PLANS
from cbam_keras import _files, explain, insertion, study


def gathered(batches):
    """Returns all images of batches, and their labels."""
    parts = [[np.asarray(x) for x in batch] for batch in batches]
    return [np.concatenate(x) for x in zip(*parts, strict=True)]


def right(model, images, labels):
    """Returns of each image whether its class is predicted."""
    predicted = explain.class_probabilities(model, images, batch_size=100)
    return predicted.argmax(axis=1) == labels


def fold(path, data):
    """Returns a network, it folded and without attention, and what changed."""
    model = _files.load_model(path)
    slim, report = insertion.fold_attention(
        model, data["validation"][0], labels=data["validation"][1]
    )
    images, labels = data["test"]
    before, after = (right(x, images, labels) for x in (model, slim))
    found = {
        "gates": len(report.rows),
        "folded": sum(row.is_folded for row in report.rows),
        "before": float(before.mean()),
        "change": float(after.mean() - before.mean()),
        "changed sides": float((after != before).mean()),
    }
    return model, slim, insertion.remove_attention(model), found


def main():
    parser = arguments.parser(__doc__, repeats=30)
    parser.add_argument("study", choices=PLANS)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    runs = pathlib.Path("runs/when-it-helps")
    parser.add_argument("--runs", type=pathlib.Path, default=runs)
    parser.add_argument("--seed", type=int, help="of the networks (all)")
    options = parser.parse_args()
    plan = PLANS[options.study](options.data)
    loaded = plan.task.load(plan.recipe)
    names = ("validation", "test")
    data = {name: gathered(getattr(loaded, name)) for name in names}
    counts, functions = collections.defaultdict(list), {}
    trained = study.Results.read(options.runs / options.study)
    for run in trained.runs:
        kind, seeds = run.variant, (None, run.seed)
        if kind not in ("cbam", "se", "eca") or options.seed not in seeds:
            continue
        model, slim, plain, found = fold(trained.output / run.file, data)
        counts[kind].append(found)
        for size in (1, 32):
            images = data["test"][0][:size]
            what = f"{kind}, batch of {size}"
            for arm, network in zip(
                ("no attention", "as trained", "folded"),
                (plain, model, slim),
                strict=True,
            ):
                predict = functools.partial(network.predict_on_batch, images)
                functions.setdefault((what, arm), predict)
    rows = [
        {
            "network": kind,
            "networks": str(len(found)),
            "gates folded": f"{sum(x['folded'] for x in found)} of "
            f"{sum(x['gates'] for x in found)}",
            "test accuracy (%)": f"{100 * mean(found, 'before'):.2f}",
            "folded, points": f"{100 * mean(found, 'change'):+.2f}",
            "images that change sides (%)": (
                f"{100 * mean(found, 'changed sides'):.2f}"
            ),
        }
        for kind, found in counts.items()
    ]
    timed = timing.compared(functions, options.repeats)
    tables = [results.table(rows), results.times(timed)]
    record = {"folded": rows, "rows": timed, "study": options.study}
    # Places on one machine.
    del options.data, options.runs
    results.write("folding", options, record, tables)


def mean(found, key):
    return statistics.mean(x[key] for x in found)


if __name__ == "__main__":
    main()
