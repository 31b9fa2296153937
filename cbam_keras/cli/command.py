"""`main`: the command line in this process, and its subcommands."""

import contextlib
import dataclasses
import importlib
import logging
import os
import pathlib
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from typing import Any

import keras

from _cbam_keras_command.parser import Options, parse
from cbam_keras import (
    _checks,
    _terminal,
    data,
    insertion,
    report,
    study,
    tuning,
)
from cbam_keras._files import STUDY
from cbam_keras._terminal import say
from cbam_keras.recognition import formats
from cbam_keras.recognition.source import check_paths
from cbam_keras.study import comparison, interrupts

# Options that are arguments of the attention layers.
LAYER_OPTIONS = ("reduction_ratio", "kernel_size")
# Networks trained at a time by default: small ones leave cores idle.
AT_A_TIME = {"tiny": 2}
# The learning rate of `tune --frozen`.
SEARCH_RATE = 0.01


def plan_training(options: Options) -> study.Study:
    model = _find_object("model", options.model)
    images = _data_or_task(options)
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
        images = options.select(["data", "measure", "task"])
        return images | {"data_options": options.data_options}
    refused = ["download", "kind", "label_column", "pattern", "task"]
    options.refuse(refused, "with `masks`")
    place = "mask_column" if data.is_table(options.data) else "masks"
    arguments = options.data_options | options.select([*names, "measure"])
    arguments[place] = options.masks
    return {"task": study.Segmentation(options.data, **arguments)}


def plan_search(options: Options) -> tuning.Search:
    model, images = _find_object("model", options.model), _data_or_task(options)
    hypermodel = tuning.CBAMHyperModel(
        model=comparison.name_network(model, images.get("task")),
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


def run_planned(options: Options) -> int:
    """Prints the results of a plan, or counts it; 1 if a network failed."""
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
        results = study.run(
            planned,
            options.output,
            overwrite=options.overwrite,
            workers=options.workers or default,
            executor=executor,
            command=options.line,
            on_end=finish,
        )
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
        names = (
            "task",
            "class_names",
            "baseline",
            "measure",
            "multi_label",
            "logits",
            "pattern",
        )
        results = study.results_of(path, **options.select(names))
        say(results)
        output = options.output or f"runs/report-{path.stem}"
        page = results.write(output, options.figures)
    else:
        with progress_of(options):
            page = report.write(path, draw=True, figures=options.figures)
    say(f"Report in {page}")


def run_check(options: Options) -> int:
    """Prints what attention computes; 1 if some is not what it is called."""
    models = [x for x in options.paths if _is_model(x)]
    sources = [x for x in options.paths if not _is_model(x)]
    if sources:
        options.refuse(["classes"], "for source")
    reports = {path: _check_model(options, path) for path in models}
    # All files share one process, whose start takes seconds.
    checked = check_paths(sources, _show_file) if sources else []
    reports.update(zip(sources, checked, strict=True))
    in_order = [reports[path] for path in options.paths]
    passed = all(report.passed for report in in_order)
    if options.json or options.format == "json":
        say(formats.as_json(in_order))
    elif options.format == "github":
        say(formats.as_annotations(in_order))
    else:
        texts = [*map(str, in_order), *formats.next_steps(in_order)]
        say("\n\n".join(texts))
    return int(not passed)


def _is_model(path):
    return pathlib.Path(path).suffix in (".keras", ".h5")


def _show_file(path, number, total):
    """Prints which of several files is checked."""
    if total > 1:
        say(f"{number} of {total}: {path}", file=sys.stderr)


def _check_model(options, path):
    """Returns the report on a saved model."""
    kind = "MODULE:CLASS, a class in the file"
    classes = [_find_object("classes", x, kind) for x in options.classes]
    try:
        model = keras.saving.load_model(
            path, {x.__name__: x for x in classes}, compile=False
        )
    # A file may hold anything, and Keras raises as much.
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(
            "`path` must be source or a .keras or .h5 model, and `classes` its "
            "own layers, such as my_layers:MyGate. Received: "
            f'path="{path}" ({type(error).__name__}: {reason})'
        ) from error
    return insertion.check(model)


def progress_of(options: Options) -> contextlib.AbstractContextManager:
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
            "`scheduler` must be the address of a running Dask scheduler, such "
            "as tcp://host:8786, or its scheduler file. Received: "
            f'scheduler="{address}" ({error!r})'
        ) from error
    # The run itself says what to do where a scheduler is lost.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    with client:
        yield client.get_executor()


def _recipe(options: Options, model: object) -> study.Recipe:
    default = comparison.default_recipe(
        model, options.weights, options.data, options.masks is not None
    )
    names = [field.name for field in dataclasses.fields(study.Recipe)]
    recipe = study.find_recipe(options.recipe, default)
    changes = options.select(names)
    if changes.get("frozen"):
        steps = recipe.least_steps
        one_stage: dict[str, Any] = {"frozen_epochs": 0, "least_steps": steps}
        if options.recipe is None:
            recipe = study.RECIPES["frozen"]
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


def _find_object(option, name, kind="MODULE:FUNCTION, a function"):
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


HANDLERS: dict[str, Callable[[Options], int | None]] = {
    **dict.fromkeys(PLANS, run_planned),
    "check": run_check,
    "report": write_report,
}


def main(
    arguments: Sequence[str] | None = None, *, owns_process: bool = False
) -> int:
    """Runs the command line, by default that of the process.

    Returns the exit status: 0 on success, 2 after a user error, reported in
    one line on stderr, 1 if the work itself failed, or a network of a
    comparison, or if a check found something wrong, 130 after Ctrl-C or
    SIGTERM. `owns_process` says that the process is the command, which signals
    then end whatever it does.
    """
    options = parse(sys.argv[1:] if arguments is None else arguments)
    program = f"cbam-keras {options.command}"
    try:
        if owns_process:
            interrupts.watch()
        with (
            interrupts.note_signals(),
            _terminal.no_retracing(),
            _plain_warnings(program),
        ):
            status = HANDLERS[options.command](options)
        sys.stdout.flush()
    except BrokenPipeError:
        # A reader such as `head` has ended: nothing is written on exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    except (ValueError, TypeError, ImportError, RuntimeError) as error:
        # Our own errors say what to fix. Others are bugs, and need a traceback.
        *_, (frame, _) = traceback.walk_tb(error.__traceback__)
        module = frame.f_globals.get("__name__", "")
        if module.split(".")[0] not in ("cbam_keras", "_cbam_keras_command"):
            raise
        message = str(error)
        if not isinstance(error, data.LayoutError):
            message = " ".join(message.split())
        say(f"{program}: error: {message}", sys.stderr)
        status = 1 if isinstance(error, RuntimeError) else 2
    except KeyboardInterrupt:
        advice = ""
        if "overwrite" in options and not options.dry_run:
            words = " without --overwrite" if options.overwrite else ""
            advice = f"; the same command{words} resumes from here"
        say(f"{program}: interrupted{advice}", sys.stderr)
        status = interrupts.STATUS
        if owns_process:
            # An orderly exit would interrupt TensorFlow, which logs an error.
            with contextlib.suppress(OSError):
                sys.stdout.flush()
            os._exit(status)
    return status or 0


@contextlib.contextmanager
def _plain_warnings(program):
    """Context in which a warning is one line."""
    formatted = warnings.formatwarning

    def one_line(message, category, *where):
        if category is not UserWarning:
            return formatted(message, category, *where)
        message = _terminal.make_printable(message)
        return f"{program}: warning: {' '.join(message.split())}\n"

    warnings.formatwarning = one_line
    try:
        yield
    finally:
        warnings.formatwarning = formatted
