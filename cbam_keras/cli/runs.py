"""What `train`, `tune`, `ablate` and `detect` do alike."""

import argparse
from collections.abc import Callable, Mapping
from typing import Any

from cbam_keras.cli.arguments import data_options_of, progress_of, recipe_of
from cbam_keras.cli.reports import explain_for_report, reported
from cbam_keras.recipes import Recipe


def run(
    options: argparse.Namespace,
    estimate: Callable[..., Any],
    start: Callable[..., Any],
    default_recipe: Recipe,
    *,
    shown: Callable[[Any], Any] = lambda results: results,
    explained: Callable[[Any], Any] | None = None,
    only: Mapping[str, Any] | None = None,
    **arguments: Any,
) -> None:
    """Runs what a command asks for, and prints the result; or estimates it.

    Args:
        options: The command line.
        estimate: Function of the arguments that returns an estimate.
        start: Function of the arguments that runs, and returns results.
        default_recipe: The recipe that the command line changes.
        shown: Function of the results that returns what is printed. Defaults
            to the results.
        explained: Function of the results that returns the networks to
            explain for the report. Defaults to `None`, which means none.
        only: Arguments of `start` that `estimate` has not. Defaults to none.
        **arguments: Arguments of both, besides those that all have.
    """
    arguments |= {
        "images": options.data,
        "recipe": recipe_of(options, default_recipe),
        "data_options": data_options_of(options),
        "workers": options.workers,
    }
    if "seeds" in options:
        arguments["seeds"] = options.seeds
        if options.seeds != 1 and getattr(options, "seed", None) is not None:
            raise ValueError(
                "Several seeds are counted from 0, so `seed` is for one. "
                f"Received: seed={options.seed}, seeds={options.seeds}"
            )
    if options.dry_run:
        with progress_of(options):
            estimated = estimate(**arguments)
        print(estimated.json() if options.json else estimated)
        return
    only = dict(only or {})
    with progress_of(options), reported(options):
        results = start(
            **arguments,
            **only,
            output=options.output,
            overwrite=options.overwrite,
            tensorboard=options.tensorboard,
        )
    # Of several processes that train one network the first one prints; a
    # worker of KerasTuner has no results.
    if getattr(only.get("distribute"), "process", 0) or results is None:
        return
    print(results.json() if options.json else shown(results), flush=True)
    if explained is not None and not options.no_report:
        with progress_of(options):
            explain_for_report(options, results.output, explained(results))
