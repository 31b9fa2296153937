"""The command `cbam-keras tune`."""

import argparse

from cbam_keras import tuning
from cbam_keras.cli import arguments
from cbam_keras.cli.runs import run
from cbam_keras.layers import ORDERS

# Of the search space, each with one value or several.
SPACE = (
    *("attention", "reduction_ratio", "kernel_size", "order"),
    *("channel_pool_types", "spatial_pool_types", "learning_rate"),
)


def add_options(parser):
    """Adds the options of the subcommand to its parser."""
    parser.describe(
        "Searches the reduction ratio and kernel size of CBAM, beside no "
        "attention and SE, and whatever else you give several values, by "
        "KerasTuner. Then trains the best configurations and both "
        "controls again from fresh seeds, and ends with whether attention "
        "improves accuracy on this dataset. If it is killed, the same "
        "command resumes it. Without arguments: a tiny ResNet on "
        "crowded handwritten digits, 26 trainings of one epoch.",
        "tune",
        "tune --attention cbam --reduction-ratio 4 8 --kernel-size 3 7",
        "tune --data photos --image-size 64 --max-trials 30 --workers 2",
        "tune --model mine:build --algorithm bayesian --max-macs 1e8",
    )
    arguments.add_model(parser, own=True)
    _add_search(parser.add_argument)
    arguments.add_run(
        *(parser, "runs/tune-DATA-MODEL", 3, "--confirm", "--seeds"),
        text="how many fresh seeds the best configurations and the controls "
        "are trained with again; 0 for none",
    )
    _add_space(parser)
    arguments.add_data(parser, "crowded_mnist")
    arguments.add_recipe(
        parser, tuning.default_recipe, without=["learning_rate"]
    )
    for option in ("--chief", "--worker", "--address", "--id"):
        parser.add_argument(
            option, action=_Gone, nargs="?", help=argparse.SUPPRESS
        )
    parser.set_defaults(handler=_tune, prog=parser.prog)


def _add_search(add):
    arguments.add_values(
        *(add, None, "MODULE:FUNCTION"),
        hypermodel="a function of your own, or a keras_tuner.HyperModel, with "
        "a search space of its own",
    )
    add(
        "--algorithm",
        default="random",
        choices=list(tuning.ALGORITHMS),
        help="how the next trial is chosen",
    )
    arguments.add_values(
        *(add, int, "N"),
        max_trials="how many trials (default: 14; hyperband and grid end by "
        "themselves)",
    )
    arguments.add_values(
        *(add, float, "N"),
        max_parameters="record larger networks as over budget, without "
        "training them",
        max_macs="likewise, in multiply-accumulates of one image, as 1e9",
    )
    text = "how many of the best trials keep their weights"
    add("--keep", type=int, default=3, metavar="N", help=text)


def _add_space(parser):
    group = parser.add_argument_group(
        "search space",
        "Each takes one value, which fixes it, or several to choose from.",
    )
    add, many = group.add_argument, {"action": "extend", "nargs": "+"}
    text = "the kind (default: none se cbam)"
    add("--attention", **many, choices=arguments.ATTENTIONS, help=text)
    arguments.add_values(
        *(add, int, "N"),
        several=True,
        reduction_ratio="of the channel gate (default: 2 4 8 16, and 4 for se)",
        kernel_size="of the spatial gate, odd (default: 3 5 7)",
    )
    text = "of CBAM's gates (default: channel_first)"
    add("--order", **many, choices=ORDERS, help=text)
    arguments.add_values(
        *(add, str, "POOLS"),
        several=True,
        channel_pool_types="of the channel gate (default: avg+max)",
        spatial_pool_types="of the spatial gate (default: avg+max)",
    )
    arguments.add_values(
        *(add, float, "RATE"),
        several=True,
        learning_rate="(default: that of the recipe)",
    )
    arguments.add_flags(add, stages="search in which stages attention is, too")
    arguments.add_identity_init(add)


class _Gone(argparse.Action):
    """Says what to use in place of an option of earlier versions."""

    def __call__(self, parser, namespace, values, option_string=None):
        parser.error(
            f"{option_string} is gone: give the same command with the same "
            "--output on each node, or set KerasTuner's environment "
            "variables, see docs/cluster"
        )


def _tune(options):
    hypermodel = _hypermodel(options)
    limits = ("max_trials", "max_parameters", "max_macs")
    run(
        options,
        tuning.estimate,
        tuning.search,
        tuning.default_recipe(hypermodel),
        explained=lambda results: [results.output / "best.keras"],
        only={"keep": options.keep},
        hypermodel=hypermodel,
        algorithm=options.algorithm,
        confirm=options.confirm,
        **arguments.given(options, limits),
    )


def _hypermodel(options):
    if options.hypermodel is not None:
        return arguments.imported("hypermodel", options.hypermodel)
    return tuning.CBAMHyperModel(
        model=arguments.model_of(options.model),
        stages=options.stages,
        identity_init=options.identity_init is not False,
        **arguments.given(options, SPACE),
    )
