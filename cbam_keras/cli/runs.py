"""The subcommands.

`train` and `tune` make a plan of their options, and run it or count what it
would train.
"""

import contextlib
import dataclasses
import importlib
import json
import logging
import os
import pathlib
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from typing import Any

import keras

from _cbam_keras_command.parser import Options
from cbam_keras import _checks, data, insertion, report, study, tuning
from cbam_keras._files import STUDY
from cbam_keras._terminal import say
from cbam_keras.study import (
    RECIPES,
    Recipe,
    comparison,
    find_recipe,
)

# Options that are arguments of the attention layers.
LAYER_OPTIONS = ("reduction_ratio", "kernel_size")
# Networks trained at a time by default: small ones leave cores idle.
AT_A_TIME = {"tiny": 2}
# The learning rate of `tune --frozen`.
SEARCH_RATE = 0.01


def plan_training(options: Options) -> study.Study:
    model, images = _model(options), _data_or_task(options)
    if options.masks is not None:
        options.refuse(["threshold"], "with `masks`")
    return comparison.plan(
        _attentions(options, comparison.DEFAULT),
        **options.select(["stages", "instead_of"]),
        model=model,
        weights=options.weights,
        recipe=_recipe(options, model),
        layer_options=options.select(LAYER_OPTIONS),
        seeds=options.seeds,
        folds=options.folds,
        threshold=options.threshold,
        **images,
    )


def _data_or_task(options: Options) -> dict[str, Any]:
    """Returns the arguments for images, or for images with masks."""
    names = ["class_names", "colors", "ignore_index", "images"]
    if options.masks is None:
        options.refuse(names, "without `masks`")
        return {
            "data": options.data,
            "data_options": options.data_options,
            "measure": options.measure,
            "task": options.task,
        }
    masks = {"masks": options.masks}
    if data.is_table(options.data):
        masks = {"mask_column": options.masks}
    refused = ["download", "kind", "label_column", "pattern", "task"]
    options.refuse(refused, "with `masks`")
    if options.measure is not None:
        masks["measure"] = options.measure
    arguments = {**masks, **options.data_options, **options.select(names)}
    return {"task": study.Segmentation(options.data, **arguments)}


def plan_search(options: Options) -> tuning.Search:
    images = _data_or_task(options)
    hypermodel = tuning.CBAMHyperModel(
        model=comparison.name_network(_model(options), images.get("task")),
        weights=options.weights,
        attention=_attentions(options, ("none", "se", "cbam")),
        **options.select(["stages", *LAYER_OPTIONS]),
    )
    layers = ", ".join(hypermodel.layers)
    options.refuse(hypermodel.unused, f"with the layers {layers}")
    return tuning.Search(
        hypermodel,
        recipe=_recipe(options, hypermodel.model),
        max_trials=options.max_trials,
        confirm=options.confirm,
        folds=options.folds,
        **images,
    )


PLANS: dict[str, Callable[[Options], study.Study | tuning.Search]] = {
    "train": plan_training,
    "tune": plan_search,
}


def run(options: Options) -> int:
    """Runs what is planned, and prints the results; or counts it.

    Returns the exit status: 1 if a network failed, unless it is a trial.
    """
    planned = PLANS[options.command](options)
    if options.dry_run:
        with progress_of(options):
            estimated = study.estimate(planned)
        say(estimated.json() if options.json else estimated)
        return 0
    if not options.no_report:
        # Needed only at the end, but checked before any work.
        _checks.require("jinja2", extra="plot")
    pages = []

    def finish(folder, results):
        # While nobody can overwrite the run; also if it is stopped.
        draw = results is not None
        if not options.no_report and report.try_to_write(folder, draw=draw):
            pages.append(folder / study.REPORT)

    with progress_of(options), _executor(options) as executor:
        default = 1 if executor else AT_A_TIME.get(options.model, 1)
        settings = study.RunOptions(
            options.output,
            overwrite=options.overwrite,
            workers=options.workers or default,
            executor=executor,
            command=options.line,
            on_end=finish,
        )
        results = study.execute(planned, settings)
    with progress_of(options):
        say(f"\n{results.question}")
    say(results.json() if options.json else results)
    with progress_of(options):
        for page in pages:
            say(f"\nReport in {page}")
    is_search = isinstance(planned, tuning.Search)
    return int(not is_search and len(results.runs) < len(results.outcomes))


def write_report(options: Options) -> None:
    """Writes the page of a run again, or that of predictions in files."""
    path = pathlib.Path(options.run).expanduser()
    if not (path / STUDY).exists():
        results = study.results_of(
            path,
            baseline=options.baseline,
            measure=options.measure,
            multi_label=options.multi_label,
            logits=options.logits,
            pattern=options.pattern,
        )
        say(results)
        output = options.output or f"runs/report-{path.stem}"
        page = results.write(output, options.figures)
    else:
        with progress_of(options):
            page = report.write(path, True, options.figures)
    say(f"Report in {page}")


def check_paths(options: Options) -> int:
    """Prints what attention computes, by path; 1 if some does not pass."""
    kind = "MODULE:CLASS, a class in the file"
    classes = [_find_object("classes", x, kind) for x in options.classes]
    reports = []
    for path in options.paths:
        if pathlib.Path(path).suffix in (".keras", ".h5", ".hdf5"):
            report = insertion.check(_load(path, classes))
        else:
            report = insertion.check_source(path)
        reports.append(report)
        if not options.json:
            say(report)
    passed = all(report.passed for report in reports)
    if options.json:
        rows = [vars(row) for report in reports for row in report.rows]
        gates = [
            # JSON has no NaN.
            {name: None if x != x else x for name, x in row.items()}
            for row in rows
        ]
        say(json.dumps({"passed": passed, "gates": gates}, indent=2))
    return int(not passed)


def _load(path, classes):
    """Returns the model of a file."""
    try:
        return keras.saving.load_model(
            path, {x.__name__: x for x in classes}, compile=False
        )
    # A file may hold anything, and Keras raises as much.
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(
            "`path` must be source, or a model that Keras loads, `.keras` or "
            "`.h5`, and `classes` those in it that are your own, as "
            f'my_layers:MyGate. Received: path="{path}" '
            f"({type(error).__name__}: {reason})"
        ) from error


def progress_of(options: Options) -> contextlib.AbstractContextManager[Any]:
    """Context of the work before the result, which prints its progress."""
    if options.json:
        return contextlib.redirect_stdout(sys.stderr)
    return contextlib.nullcontext()


@contextlib.contextmanager
def _executor(options: Options) -> Iterator[Executor | None]:
    """Gives the executor of a Dask scheduler, if there is to be one."""
    if options.scheduler is None:
        yield None
        return
    distributed = _checks.require("distributed", extra="cluster")
    address = options.scheduler
    is_file = pathlib.Path(address).is_file()
    where = {"scheduler_file" if is_file else "address": address}
    try:
        client = distributed.Client(**where, set_as_default=False)
    # A file that a scheduler has not written fails an assertion.
    except (OSError, ValueError, AssertionError) as error:
        raise ValueError(
            "`scheduler` must be the address of a Dask scheduler that runs, "
            "as tcp://host:8786, or the file that it has written. Received: "
            f'scheduler="{address}" ({error!r})'
        ) from error
    # The run itself says what to do where a scheduler is lost.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    with client:
        yield client.get_executor()


def _recipe(options: Options, model: object) -> Recipe:
    default = comparison.default_recipe(
        model,
        options.weights,
        options.data,
        options.masks is not None,
    )
    names = [field.name for field in dataclasses.fields(Recipe)]
    recipe = find_recipe(options.recipe, default)
    changes = options.select(names)
    if changes.get("frozen"):
        one_stage: dict[str, Any] = {
            "frozen_epochs": 0,
            "least_steps": recipe.least_steps,
        }
        if options.recipe is None:
            recipe = RECIPES["frozen"]
            if options.command == "tune":
                # All trials of a search have one learning rate.
                one_stage["learning_rate"] = SEARCH_RATE
        changes = one_stage | changes
    if "epochs" in changes:
        changes["least_steps"] = None
    return dataclasses.replace(recipe, **changes)


def _attentions(options: Options, default: Sequence[str]) -> list[Any]:
    """Returns what is compared: names, and layer classes of the user."""
    kind = "MODULE:CLASS, a layer class"
    names = options.attention or default
    return [_find_object("attention", name, kind) for name in names]


def _model(options):
    """Returns the name of a network, or the function `MODULE:FUNCTION`."""
    kind = "MODULE:FUNCTION, a function"
    return _find_object("model", options.model, kind)


def _find_object(option, name, kind):
    """Returns the object of a name like "module:function", or the name."""
    if ":" not in name:
        return name
    module, _, attribute = name.partition(":")
    message = f"`{option}` must be {kind}"
    received = f"Received: {option}={name!r}"
    # An import would run any file of another name.
    if not all(map(str.isidentifier, (*module.split("."), attribute))):
        raise ValueError(f"{message}. {received}")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"{message} that is installed or in this folder. {received} "
            f"({error})"
        ) from error
