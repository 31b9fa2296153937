"""The command `cbam-keras train`."""

from cbam_keras import comparison, training
from cbam_keras.cli import arguments
from cbam_keras.cli.reports import first_networks
from cbam_keras.cli.runs import run

MACHINES = ("address", "processes", "process")


def add_options(parser):
    """Adds the options of the subcommand to its parser."""
    parser.describe(
        "Trains a network without attention, with SE and with CBAM "
        "under equal conditions and ends with a table, a sentence on "
        "the differences, and the command that draws where the networks "
        "look. The same command given again resumes. Without arguments: "
        "a tiny ResNet on crowded digits, about two minutes on a CPU.",
        "train",
        "train --attention none cbam --seeds 5",
        "train --attention none cbam my_layers:MyGate",
        "train --data cifar10 --download --model resnet18 --epochs 20",
        "train --data photos --image-size 64 --augment flip crop",
    )
    arguments.add_model(parser)
    arguments.add_run(parser, "runs/train-DATA-MODEL", seeds=1)
    arguments.add_attention(
        parser, "4 in the network tiny, which has few channels, otherwise 16"
    )
    arguments.add_data(parser, "crowded_mnist")
    arguments.add_recipe(parser, comparison.default_recipe)
    add = parser.add_argument_group("many devices").add_argument
    arguments.add_flags(
        add, distribute="share each batch among all devices of this machine"
    )
    arguments.add_values(
        *(add, str, "HOST:PORT"),
        address="of process 0, if several machines train one network (JAX)",
    )
    arguments.add_values(
        *(add, int, "N"),
        processes="how many processes there are, one per machine",
        process="which of them this is, from 0",
    )
    parser.set_defaults(handler=_train, prog=parser.prog)


def _train(options):
    distribution = _distribution(options)
    if options.dry_run and distribution:
        raise ValueError(
            "`dry_run` times steps on one device. Received: dry_run=True, "
            f"distribute={distribution!r}"
        )
    run(
        options,
        comparison.estimate,
        comparison.compare,
        comparison.default_recipe(options.model),
        explained=lambda results: list(first_networks(results).values()),
        only={"distribute": distribution},
        attentions=arguments.attentions_of(options),
        model=options.model,
        layer_options=arguments.given(options, arguments.LAYER_OPTIONS),
    )


def _distribution(options):
    machines = arguments.given(options, MACHINES)
    if not machines:
        return options.distribute
    missing = sorted(set(MACHINES) - set(machines))
    if missing:
        raise ValueError(
            "Several machines need `address`, `processes` and `process`. "
            f"Received: no {', '.join(missing)}"
        )
    return training.Distribution(**machines)
