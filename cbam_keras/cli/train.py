"""The command `cbam-keras train`."""

import argparse

from cbam_keras import comparison, training
from cbam_keras.cli.arguments import (
    ARMS,
    add_data,
    add_model,
    add_recipe,
    add_run_folder,
    data_options_of,
    recipe_of,
    run_folder_of,
)
from cbam_keras.layers import ORDERS


def add_train(commands):
    """Adds the subcommand to the parser."""
    parser = commands.add_parser(
        "train",
        help="train a network without and with attention, and compare",
        description=(
            "Trains a network without attention, with SE and with CBAM "
            "under equal conditions and ends with a table. The same command "
            "given again resumes. Without arguments: a small ResNet on "
            "cluttered digits, a few minutes on a CPU."
        ),
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add_model(parser)
    _add_attention(parser)
    add_run_folder(parser, "runs/train-DATA-MODEL")
    add_data(parser, "cluttered_mnist")
    add_recipe(parser, training.Recipe())
    _add_devices(parser)
    parser.set_defaults(handler=_train, prog=parser.prog)


def _add_attention(parser):
    add = parser.add_argument
    add(
        "--attention",
        action="append",
        choices=ARMS,
        help="what to compare; repeat it for several "
        "(default: none, se and cbam)",
        default=argparse.SUPPRESS,
    )
    add(
        "--reduction-ratio",
        type=int,
        default=argparse.SUPPRESS,
        help="of the channel gate (default: 16)",
    )
    add(
        "--kernel-size",
        type=int,
        default=argparse.SUPPRESS,
        help="of the spatial gate, odd (default: 7)",
    )
    add(
        "--order",
        choices=ORDERS,
        default=argparse.SUPPRESS,
        help="of CBAM's gates (default: channel_first)",
    )


def _add_devices(parser):
    add = parser.add_argument_group("many devices").add_argument
    add(
        "--distribute",
        action="store_true",
        default=argparse.SUPPRESS,
        help="share each batch among all devices of this machine",
    )
    add(
        "--address",
        metavar="HOST:PORT",
        default=argparse.SUPPRESS,
        help="of process 0, if several machines train one network (JAX)",
    )
    add(
        "--processes",
        type=int,
        default=argparse.SUPPRESS,
        help="how many processes there are, one per machine",
    )
    add(
        "--process",
        type=int,
        default=argparse.SUPPRESS,
        help="which of them this is, from 0",
    )


def _train(options):
    given = vars(options)
    distribution = _distribution(given)
    results = comparison.compare(
        given.get("attention", ("none", "se", "cbam")),
        model=options.model,
        images=options.data,
        recipe=recipe_of(options, training.Recipe()),
        layer_options={
            key: given[key]
            for key in ("reduction_ratio", "kernel_size", "order")
            if key in given
        },
        data_options=data_options_of(options),
        **run_folder_of(options),
        distribute=distribution,
    )
    # Of several processes the first one prints.
    if getattr(distribution, "process", 0) == 0:
        print(results)


def _distribution(given):
    machines = {"address", "processes", "process"} & set(given)
    if not machines:
        return given.get("distribute", False)
    missing = sorted({"address", "processes", "process"} - machines)
    if missing:
        raise ValueError(
            "Several machines need `address`, `processes` and `process`. "
            f"Received: no {', '.join(missing)}"
        )
    return training.Distribution(
        address=given["address"],
        processes=given["processes"],
        process=given["process"],
    )
