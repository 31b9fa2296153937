"""The command `cbam-keras tune`: a search by one process or several."""

import argparse
import os
import socket
import sys

from cbam_keras import _checks, _files, tuning
from cbam_keras._process import COMMANDS, HelpFormatter, examples
from cbam_keras.cli.arguments import (
    ARMS,
    add_data,
    add_dry_run,
    add_identity_init,
    add_model,
    add_quiet,
    add_recipe,
    add_run_folder,
    add_tensorboard,
    data_options_of,
    imported,
    model_of,
    progress_of,
    recipe_of,
    run_folder_of,
)
from cbam_keras.cli.reports import complete, reported
from cbam_keras.layers import ORDERS

# Options of the search space: name, kind, help, and how a value is shown.
SPACE = (
    ("attention", str, "the kind (default: none se cbam)", ARMS),
    (
        *("reduction-ratio", int),
        *("of the channel gate (default: 2 4 8 16, and 4 for se)", "R"),
    ),
    ("kernel-size", int, "of the spatial gate, odd (default: 3 5 7)", "K"),
    ("order", str, "of CBAM's gates (default: channel_first)", ORDERS),
    (
        *("channel-pool-types", str),
        *("of the channel gate (default: avg+max)", "POOLS"),
    ),
    (
        *("spatial-pool-types", str),
        *("of the spatial gate (default: avg+max)", "POOLS"),
    ),
    ("learning-rate", float, "(default: that of the recipe)", "RATE"),
)


def add_tune(commands):
    """Adds the command to those of the parser."""
    parser = commands.add_parser(
        "tune",
        help=COMMANDS["tune"],
        description=(
            "Searches the reduction ratio and kernel size of CBAM, beside no "
            "attention and SE, and whatever else you give several values, by "
            "KerasTuner. Then trains the best configurations and both "
            "controls again from fresh seeds, and ends with whether attention "
            "improves accuracy on this dataset. If it is killed, the same "
            "command resumes it. Without arguments: a tiny ResNet on "
            "crowded handwritten digits, 26 trainings of one epoch."
        ),
        epilog=examples(
            "tune",
            "tune --attention cbam --reduction-ratio 4 8 --kernel-size 3 7",
            "tune --data photos --image-size 64 --max-trials 30 --workers 2",
            "tune --model mine:build --algorithm bayesian --max-macs 1e8",
        ),
        formatter_class=HelpFormatter,
    )
    add_model(parser, own=True)
    _add_search(parser)
    add_run_folder(parser, "runs/tune-DATA-MODEL")
    _add_space(parser)
    add_data(parser, "crowded_mnist")
    add_recipe(parser, tuning.default_recipe, learning_rate=False)
    _add_processes(parser)
    parser.set_defaults(handler=_tune, prog=parser.prog)


def _add_search(parser):
    add = parser.add_argument
    add(
        "--hypermodel",
        metavar="MODULE:FUNCTION",
        default=argparse.SUPPRESS,
        help="a function of your own, or a keras_tuner.HyperModel, with a "
        "search space of its own",
    )
    add(
        "--algorithm",
        default="random",
        choices=list(tuning.ALGORITHMS),
        help="how the next trial is chosen",
    )
    add(
        "--max-trials",
        type=int,
        default=argparse.SUPPRESS,
        help="how many trials (default: 14; hyperband and grid end by "
        "themselves)",
    )
    add(
        "--confirm",
        type=int,
        metavar="SEEDS",
        default=3,
        help="how many fresh seeds the best configurations and the controls "
        "are trained with again; 0 for none",
    )
    add_dry_run(parser)
    add(
        "--json",
        action="store_true",
        help="print the result as JSON on standard output, and everything "
        "else on standard error",
    )
    add_quiet(parser)
    add(
        "--max-parameters",
        type=float,
        default=argparse.SUPPRESS,
        help="record larger networks as over budget, without training them",
    )
    add(
        "--max-macs",
        type=float,
        default=argparse.SUPPRESS,
        help="likewise, in multiply-accumulates of one image, as 1e9",
    )
    add(
        "--keep",
        type=int,
        default=3,
        help="how many of the best trials keep their weights",
    )
    add_tensorboard(parser)


def _add_space(parser):
    group = parser.add_argument_group(
        "search space",
        "Each takes one value, which fixes it, or several to choose from.",
    )
    for name, kind, text, shown in SPACE:
        by = "metavar" if isinstance(shown, str) else "choices"
        group.add_argument(
            f"--{name}",
            type=kind,
            action="extend",
            nargs="+",
            default=argparse.SUPPRESS,
            help=text,
            **{by: shown},
        )
    group.add_argument(
        "--stages",
        action="store_true",
        help="search in which stages attention is, too",
    )
    add_identity_init(group)


def _add_processes(parser):
    group = parser.add_argument_group(
        "many processes", "See docs/cluster for SLURM and Kubernetes."
    )
    role = group.add_mutually_exclusive_group()
    role.add_argument(
        "--workers",
        type=int,
        metavar="N",
        default=argparse.SUPPRESS,
        help="run N trials at a time on this machine, each with its own GPU",
    )
    role.add_argument(
        "--chief",
        action="store_true",
        help="run the process of a cluster that hands out trials",
    )
    role.add_argument(
        "--worker",
        action="store_true",
        help="run a process of a cluster that runs trials",
    )
    group.add_argument(
        "--address",
        metavar="HOST:PORT",
        default=argparse.SUPPRESS,
        help="of the chief; its output folder must be seen by all",
    )
    group.add_argument(
        "--id",
        metavar="NAME",
        default=argparse.SUPPRESS,
        help="of a worker (default: its machine and process)",
    )


def _tune(options):
    given = vars(options)
    if options.dry_run:
        return _dry_run(options)
    started = tuning.end_with_starter()
    if "workers" in given and not started:
        return _run_workers(options)
    if options.chief or options.worker:
        if "address" not in given:
            raise ValueError(
                "`address` must be that of the chief, as "
                "--address node17:8765. Received: no address"
            )
        own = f"worker-{socket.gethostname()}-{os.getpid()}"
        role = "chief" if options.chief else given.get("id", own)
        tuning.join(role, given["address"])
    with progress_of(options), reported(options):
        hypermodel = _hypermodel(options)
        recipe = recipe_of(options, tuning.default_recipe(hypermodel))
        results = tuning.search(
            hypermodel,
            options.data,
            recipe,
            **_trials(options),
            keep=options.keep,
            tensorboard=options.tensorboard,
            data_options=data_options_of(options),
            **run_folder_of(options),
        )
    if results is not None:
        print(results.json() if options.json else results, flush=True)
        _complete(options, results, recipe)
    return 0


def _complete(options, results, recipe):
    """Adds to the report where the best network looks."""
    best = results.output / "best.keras"
    complete(options, results.output, [best], recipe.seed)


def _dry_run(options):
    with progress_of(options):
        workers = vars(options).get("workers", 1)
        hypermodel = _hypermodel(options)
        estimate = tuning.estimate(
            hypermodel,
            options.data,
            recipe_of(options, tuning.default_recipe(hypermodel)),
            **_trials(options),
            workers=workers,
            data_options=data_options_of(options),
        )
    print(estimate.json() if options.json else estimate)
    return 0


def _trials(options):
    """Returns the arguments that decide which networks are trained."""
    given = vars(options)
    limits = ("max_trials", "max_parameters", "max_macs")
    return {
        "algorithm": options.algorithm,
        "confirm": options.confirm,
        **{key: given[key] for key in limits if key in given},
    }


def _hypermodel(options):
    given = vars(options)
    if "hypermodel" in given:
        return imported("hypermodel", given["hypermodel"])
    space = {
        key: given[key]
        for key in (name.replace("-", "_") for name, *_ in SPACE)
        if key in given
    }
    return tuning.CBAMHyperModel(
        model=model_of(options.model),
        stages=options.stages,
        identity_init=vars(options).get("identity_init", True),
        **space,
    )


def _run_workers(options):
    workers = _checks.positive_integer("workers", options.workers)
    # User errors are reported before any process is started.
    hypermodel = _hypermodel(options)
    recipe_of(options, tuning.default_recipe(hypermodel))
    output = vars(options).get("output")
    if output is None:
        output = tuning.default_output(hypermodel, options.data)
    output = _files.output_folder(output)
    # Each process runs this command, and reads from its environment which
    # one it is.
    command = [sys.executable, "-m", "cbam_keras", *options.arguments]
    return tuning.run_workers(command, workers, output / "logs")
