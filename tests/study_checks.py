"""Small studies, for the tests of the engine."""

import functools
import itertools
import json
import pathlib

import keras
from keras import layers
from training_checks import SHORT

from cbam_keras import CBAM, study


def narrow(data, filters=4, attention=()):
    """Returns a network that compiles quickly."""
    return keras.Sequential(
        [
            keras.Input(data.image_shape),
            layers.Conv2D(filters, 3, 2),
            *attention,
            layers.GlobalAveragePooling2D(),
            layers.Dense(len(data.class_names), activation="softmax"),
        ]
    )


def gated(data):
    return narrow(data, attention=[CBAM(reduction_ratio=4)])


NARROW, GATED = study.Variant("narrow", narrow), study.Variant("gated", gated)
WIDE = study.Variant("wide", functools.partial(narrow, filters=8))


def planned(*variants, **options):
    defaults = {"task": study.Classification("mnist5k"), "recipe": SHORT}
    return study.Study(variants=variants, **{**defaults, **options})


def at_call(patch, owner, name, number, act):
    """Makes the nth call of a function call `act` first."""
    function, numbers = getattr(owner, name), itertools.count(1)

    @functools.wraps(function)
    def counted(*arguments, **options):
        if next(numbers) == number:
            act()
        return function(*arguments, **options)

    patch.setattr(owner, name, counted)


def as_run(seed):
    """Returns a seed as the run without folds, if it is none yet."""
    return seed if isinstance(seed, study.Run) else study.Run(seed)


def made(
    accuracies, baseline="none", kind=study.Results, outcome=(), **options
):
    """Returns results of test accuracies by network and seed.

    `outcome` holds what all trainings have in common.
    """
    names = tuple(accuracies)
    accuracy = study.Measure("test_accuracy", "test accuracy")
    measures = options.setdefault("measures", (accuracy,))
    outcomes = tuple(
        study.Outcome(
            *(name, run.seed, "finished"),
            fold=run.fold,
            metrics={measures[0].key: value},
            **{
                "seconds_per_epoch": run.seed,
                "parameters": 9000,
                **dict(outcome),
            },
        )
        for name, by_run in accuracies.items()
        for run, value in zip(map(as_run, by_run), by_run.values(), strict=True)
    )
    most = map(as_run, max(accuracies.values(), key=len))
    defaults = {
        "seeds": tuple(dict.fromkeys(run.seed for run in most)),
        "data": "mnist5k",
        "sizes": {},
        "baseline": baseline,
    }
    path = options.pop("output", pathlib.Path("runs/own"))
    return kind(path, outcomes, names, **{**defaults, **options})


def content_of(folder):
    return study.read_content(folder)


def network_files(results):
    """Returns the files of all networks of a run."""
    return {
        f"{name}/{file}"
        for outcome in results.outcomes
        for name in [f"{outcome.variant}-{outcome.run.name}"]
        for file in ("state.json", f"{name}.keras")
    }


def rewrite(path, change):
    """Changes a JSON file, by a function of its content."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def statuses(results):
    return [outcome.status for outcome in results.outcomes]


def shown_by(results):
    """Returns all texts of the tables of results, and the verdict."""
    texts = [results.verdict]
    for table in results.tables():
        cells = [text for row in table.rows for text in (*row, *row.values())]
        texts += [table.title, table.note, *cells]
    return " | ".join(texts)
