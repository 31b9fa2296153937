"""The command `cbam-keras`: `argparse` over the package's functions."""

import argparse
import os
import pathlib
import sys
from collections.abc import Sequence

import cbam_keras
from cbam_keras import (
    _bench_command,
    _files,
    ablation,
    comparison,
    reproduction,
    training,
)
from cbam_keras.cli.arguments import (
    ARMS,
    Parser,
    add_data,
    add_model,
    add_output,
    add_recipe,
    data_options_of,
    model_of,
    recipe_of,
)
from cbam_keras.cli.explain import add_command
from cbam_keras.cli.tune import add_command
from cbam_keras.layers.cbam import ORDERS


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit status.

    Args:
        arguments: Sequence of strings, the command line without the program.
            Defaults to `None`, which means that of the process.

    Returns:
        0, or 2 after a mistake of the user's, told in one line on stderr, or
        1 where the work itself failed, or 130 after Ctrl-C.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    options = _parser().parse_args(arguments)
    options.arguments = arguments
    try:
        status = options.handler(options)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader, as `head`, has seen enough. Nor may the interpreter
        # write what is left when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    except (ValueError, TypeError, ImportError, RuntimeError) as error:
        # Our own errors tell the user what to mend. Others are bugs, and
        # their traceback is what a report needs.
        if not _raised_by_us(error):
            raise
        message = " ".join(str(error).split())
        print(f"{options.prog}: error: {message}", file=sys.stderr)
        return 1 if isinstance(error, RuntimeError) else 2
    except KeyboardInterrupt:
        then = f"; {options.goes_on} goes on from here"
        print(
            f"{options.prog}: interrupted{then if options.goes_on else ''}",
            file=sys.stderr,
        )
        return 130
    return status or 0


def _parser():
    parser = Parser(
        prog="cbam-keras",
        description="CBAM attention for Keras: train, search, compare, see.",
    )
    parser.add_argument(
        "--version", action="version", version=cbam_keras.__version__
    )
    parser.set_defaults(goes_on="the same command")
    commands = parser.add_subparsers(
        title="commands", dest="command", required=True, metavar="COMMAND"
    )
    _add_train(commands)
    add_command(commands)
    _add_ablate(commands)
    _add_table(commands)
    add_command(commands)
    _bench_command.add_command(commands)
    return parser


def _add_train(commands):
    parser = commands.add_parser(
        "train",
        help="train a network without and with attention, and compare",
        description=(
            "Trains a network without attention, with SE and with CBAM "
            "under equal conditions and ends with a table. Without "
            "arguments: a small ResNet on digits among clutter, a few "
            "minutes on a CPU."
        ),
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add_model(parser)
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
    add_output(parser, "runs/DATA-MODEL, which must be new")
    add(
        "--resume",
        action="store_true",
        default=argparse.SUPPRESS,
        help="go on with the run in the output folder",
    )
    add_data(parser, "cluttered_mnist")
    add_recipe(parser, training.Recipe())
    group = parser.add_argument_group("many devices")
    group.add_argument(
        "--distribute",
        action="store_true",
        default=argparse.SUPPRESS,
        help="share each batch among all devices of this machine",
    )
    group.add_argument(
        "--address",
        metavar="HOST:PORT",
        default=argparse.SUPPRESS,
        help="of process 0, when several machines train one network (JAX)",
    )
    group.add_argument(
        "--processes",
        type=int,
        default=argparse.SUPPRESS,
        help="how many processes there are, one per machine",
    )
    group.add_argument(
        "--process",
        type=int,
        default=argparse.SUPPRESS,
        help="which of them this is, from 0",
    )
    parser.set_defaults(handler=_train, prog=parser.prog, goes_on="--resume")


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
        output=given.get("output"),
        resume=given.get("resume", False),
        distribute=distribution,
    )
    # Of several processes the first one speaks.
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


def _add_ablate(commands):
    parser = commands.add_parser(
        "ablate",
        help="run the paper's comparisons on data of yours, over seeds",
        description=(
            "Trains the networks of the paper's Tables 1, 2 and 3 and "
            "baseline, SE and CBAM of Table 4 over several seeds, and ends "
            "with those tables: mean, deviation, and the paired difference "
            "to the baseline. Killed at any moment, the same command goes on."
        ),
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add_model(parser, own=True)
    add = parser.add_argument
    add(
        "--tables",
        type=int,
        nargs="+",
        default=list(ablation.TABLES),
        metavar="TABLE",
        help="of the paper",
    )
    add("--seeds", type=int, default=3, help="how many seeds, from 0")
    form = parser.add_mutually_exclusive_group()
    for name, text in (
        ("markdown", "Markdown"),
        ("latex", "LaTeX"),
        ("csv", "CSV"),
    ):
        form.add_argument(
            f"--{name}", action="store_true", help=f"print {text}"
        )
    add_output(parser, "runs/ablate-DATA-MODEL")
    add_data(parser, "cluttered_mnist")
    add_recipe(parser, training.Recipe())
    parser.set_defaults(handler=_ablate, prog=parser.prog)


def _ablate(options):
    results = ablation.run(
        options.data,
        model=model_of(options.model),
        tables=options.tables,
        seeds=options.seeds,
        recipe=recipe_of(options, training.Recipe()),
        data_options=data_options_of(options),
        output=vars(options).get("output"),
    )
    for form in ("markdown", "latex", "csv"):
        if getattr(options, form):
            print(getattr(results, form)())
            return
    print(results)


def _add_table(commands):
    parser = commands.add_parser(
        "table",
        help="count the networks of the paper's tables beside what is printed",
        description=(
            "Builds the networks of Tables 1 to 5 of the paper and prints "
            "their parameters and multiply-accumulates beside the printed "
            "ones, with the errors that the paper reports. About half a "
            "minute for all."
        ),
    )
    add = parser.add_argument
    add(
        "names",
        nargs="*",
        metavar="NAME",
        help="rows, as resnet50-cbam (default: all)",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="print Markdown")
    form.add_argument(
        "--json", action="store_true", help="print JSON, with exact counts"
    )
    add(
        "--output",
        metavar="DIR",
        help="a folder that also gets tables.md and tables.json",
    )
    parser.set_defaults(handler=_table, prog=parser.prog)


def _table(options):
    if options.output is not None:
        # Before any work: whether it can be written to.
        folder = _files.output_folder(pathlib.Path(options.output))
    tables = reproduction.paper_tables(options.names or None, progress=True)
    if options.output is not None:
        for name, text in (
            ("tables.md", tables.markdown()),
            ("tables.json", tables.json()),
        ):
            with _files.replacing(folder / name) as path:
                path.write_text(text + "\n", encoding="utf-8")
    if options.json:
        print(tables.json())
    else:
        print(tables.markdown() if options.markdown else tables)


def _raised_by_us(error):
    traceback = error.__traceback__
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    module = traceback.tb_frame.f_globals.get("__name__", "")
    return module.split(".")[0] == "cbam_keras"
