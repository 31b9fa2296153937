"""The subcommands `train`, `tune`, `ablate` and `detect`.

An option is the argument of the same name of the function that a subcommand
calls, or a field of the recipe.
"""

import argparse
import dataclasses
import inspect
import shlex
from collections.abc import Callable, Mapping
from typing import Any

from cbam_keras import ablation, comparison, detection, training, tuning
from cbam_keras.cli.arguments import (
    data_options_of,
    imported,
    progress_of,
    selected,
)
from cbam_keras.cli.reports import (
    explain_for_report,
    first_networks,
    reported,
)
from cbam_keras.recipes import Recipe, find_recipe

# Options that are arguments of the attention layers.
LAYER_OPTIONS = ("reduction_ratio", "kernel_size", "order", "identity_init")
MACHINES = ("address", "processes", "process")


def train(options: argparse.Namespace) -> None:
    def shown(results):
        command = shlex.join(["cbam-keras", "explain", str(results.output)])
        return f"{results}\n\nTo see where they look:\n{command}"

    distribute = _distribution(options)
    if options.dry_run and distribute:
        raise ValueError(
            "`dry_run` times steps on one device. Received: dry_run=True, "
            f"distribute={distribute!r}"
        )
    model = _model(options)
    _run(
        options,
        comparison.compare,
        comparison.estimate,
        comparison.default_recipe(model),
        {**_compared(options), "model": model, "distribute": distribute},
        shown=shown,
        explained=lambda results: list(first_networks(results).values()),
    )


def ablate(options: argparse.Namespace) -> None:
    def shown(results):
        if options.markdown:
            return results.markdown()
        return results.csv() if options.csv else results

    def explained(results):
        """Returns the networks of the first seed, first those of Table 4."""
        files = first_networks(results)
        tables = sorted({row.table for row in results.rows}, reverse=True)
        names = dict.fromkeys(n for t in tables for n in ablation.TABLES[t])
        return [files[name] for name in names if name in files]

    model = _model(options)
    _run(
        options,
        ablation.run,
        ablation.estimate,
        comparison.default_recipe(model),
        {"model": model},
        shown=shown,
        explained=explained,
    )


def detect(options: argparse.Namespace) -> None:
    _run(
        options,
        detection.compare,
        detection.estimate,
        detection.DEFAULT_RECIPE,
        _compared(options),
    )


def tune(options: argparse.Namespace) -> None:
    if options.hypermodel is not None:
        hypermodel = imported("hypermodel", options.hypermodel)
    else:
        values = vars(options) | {"model": _model(options)}
        values["attention"] = _attentions(options)
        space = _arguments(tuning.CBAMHyperModel, values)
        hypermodel = tuning.CBAMHyperModel(**space)
    if isinstance(options.learning_rate, list):
        # Of the search space, and not the recipe's.
        options.learning_rate = None
    _run(
        options,
        tuning.search,
        tuning.estimate,
        tuning.default_recipe(hypermodel),
        {"hypermodel": hypermodel},
        explained=lambda results: [results.output / "best.keras"],
    )


def _run(
    options: argparse.Namespace,
    start: Callable[..., Any],
    estimate: Callable[..., Any],
    recipe: Recipe,
    arguments: Mapping[str, Any],
    *,
    shown: Callable[[Any], Any] = lambda results: results,
    explained: Callable[[Any], Any] | None = None,
) -> None:
    """Runs what a command asks for, and prints the result; or estimates it."""
    if options.seeds not in (None, 1) and vars(options).get("seed") is not None:
        raise ValueError(
            "Several seeds are counted from 0, so `seed` is for one. "
            f"Received: seed={options.seed}, seeds={options.seeds}"
        )
    fields = [field.name for field in dataclasses.fields(Recipe)]
    values = {
        **vars(options),
        "images": options.data,
        "recipe": dataclasses.replace(
            find_recipe(vars(options).get("recipe"), recipe),
            **selected(vars(options), fields),
        ),
        "data_options": data_options_of(options),
        "resume": True,
        **arguments,
    }
    passed = _arguments(start, values)
    if options.dry_run:
        with progress_of(options):
            estimated = estimate(**passed)
        print(estimated.json() if options.json else estimated)
        return
    with progress_of(options), reported(options):
        results = start(**passed)
    # Of several processes that train one network the first one prints; a
    # worker of KerasTuner has no results.
    if getattr(values.get("distribute"), "process", 0) or results is None:
        return
    print(results.json() if options.json else shown(results), flush=True)
    if explained is not None and not options.no_report:
        with progress_of(options):
            explain_for_report(options, results.output, explained(results))


def _arguments(function, values):
    """Returns the values that are among the arguments of a function."""
    return selected(values, inspect.signature(function).parameters)


def _compared(options):
    """Returns what is compared, and the options of its layers."""
    return {
        "attentions": _attentions(options),
        "layer_options": selected(vars(options), LAYER_OPTIONS),
    }


def _attentions(options):
    kind = "MODULE:CLASS, a layer class"
    names = options.attention or comparison.DEFAULT
    return [imported("attention", x, kind) if ":" in x else x for x in names]


def _model(options):
    """Returns the name of a network, or the function `MODULE:FUNCTION`."""
    name = options.model
    return imported("model", name) if ":" in name else name


def _distribution(options):
    machines = selected(vars(options), MACHINES)
    if not machines:
        return options.distribute
    missing = sorted(set(MACHINES) - set(machines))
    if missing:
        raise ValueError(
            "Several machines need `address`, `processes` and `process`. "
            f"Received: no {', '.join(missing)}"
        )
    return training.Distribution(**machines)
