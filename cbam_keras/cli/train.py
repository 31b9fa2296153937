"""The command `cbam-keras train`."""

import argparse

from cbam_keras import comparison, training
from cbam_keras._process import COMMANDS, HelpFormatter, examples
from cbam_keras.cli.arguments import (
    add_compared,
    add_data,
    add_identity_init,
    add_model,
    add_recipe,
    add_run_folder,
    add_tensorboard,
    compared_of,
    data_options_of,
    progress_of,
    recipe_of,
    run_folder_of,
)
from cbam_keras.cli.reports import complete, reported
from cbam_keras.layers import ORDERS

_LAYER_OPTIONS = ("reduction_ratio", "kernel_size", "order", "identity_init")


def add_train(commands):
    """Adds the subcommand to the parser."""
    parser = commands.add_parser(
        "train",
        help=COMMANDS["train"],
        description=(
            "Trains a network without attention, with SE and with CBAM "
            "under equal conditions and ends with a table, a sentence on "
            "the differences, and the command that draws where the networks "
            "look. The same command given again resumes. Without arguments: "
            "a tiny ResNet on crowded digits, about two minutes on a CPU."
        ),
        epilog=examples(
            "train",
            "train --attention none cbam --seeds 5",
            "train --data cifar10 --download --model resnet18 --epochs 20",
            "train --data photos --image-size 64 --augment flip crop",
        ),
        formatter_class=HelpFormatter,
    )
    add_model(parser)
    add_compared(parser)
    _add_layer(parser)
    add_run_folder(
        parser, "runs/train-DATA-MODEL, with -seeds for several seeds"
    )
    add_data(parser, "crowded_mnist")
    add_recipe(parser, comparison.default_recipe)
    _add_devices(parser)
    add_tensorboard(parser)
    parser.set_defaults(handler=_train, prog=parser.prog)


def _add_layer(parser):
    add = parser.add_argument
    add(
        "--reduction-ratio",
        type=int,
        default=argparse.SUPPRESS,
        help="of the channel gate (default: 4 in the network tiny, which "
        "has few channels, otherwise 16)",
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
    add_identity_init(parser)


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
    if options.seeds != 1 and "seed" in given:
        raise ValueError(
            "Several seeds are counted from 0, so `seed` is for one. "
            f"Received: seed={options.seed}, seeds={options.seeds}"
        )
    distribution = _distribution(given)
    attentions = compared_of(options)
    default = comparison.default_recipe(options.model)
    arguments = {
        "model": options.model,
        "images": options.data,
        "recipe": recipe_of(options, default),
        "layer_options": {
            key: given[key] for key in _LAYER_OPTIONS if key in given
        },
        "data_options": data_options_of(options),
        "seeds": options.seeds,
    }
    if options.dry_run:
        if distribution:
            raise ValueError(
                "`dry_run` times steps on one device. Received: "
                f"dry_run=True, distribute={distribution!r}"
            )
        with progress_of(options):
            estimate = comparison.estimate(attentions, **arguments)
        print(estimate)
        return
    with progress_of(options), reported(options):
        results = comparison.compare(
            attentions,
            **arguments,
            **run_folder_of(options),
            distribute=distribution,
            tensorboard=options.tensorboard,
        )
    # Of several processes the first one prints.
    if getattr(distribution, "process", 0) != 0:
        return
    print(results.json() if options.json else results, flush=True)
    _complete(options, results)


def _complete(options, results):
    """Adds to the report where the networks of the first seed look."""
    many = len(results.rows)
    models = [results.output / run.file for run in results.runs[:many]]
    complete(options, results.output, models, results.seeds[0])


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
