"""The command `cbam-keras`: `argparse` over the package's functions."""

import argparse
import os
import pathlib
import sys
from collections.abc import Sequence

import cbam_keras
from cbam_keras import _files, comparison, data, reproduction, training
from cbam_keras.layers.cbam import ORDERS
from cbam_keras.layers.factory import ATTENTION


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, without the usage before them."""

    def error(self, message):
        self.exit(2, f"{self.prog}: error: {message} (see --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit status.

    Args:
        arguments: Sequence of strings, the command line without the program.
            Defaults to `None`, which means that of the process.

    Returns:
        0, or 2 after a mistake of the user's, told in one line on stderr, or
        130 after Ctrl-C.
    """
    options = _parser().parse_args(arguments)
    try:
        options.handler(options)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader, as `head`, has seen enough. Nor may the interpreter
        # write what is left when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ValueError, TypeError, ImportError) as error:
        # Our own errors tell the user what to mend. Others are bugs, and
        # their traceback is what a report needs.
        if not _raised_by_us(error):
            raise
        message = " ".join(str(error).split())
        print(f"{options.prog}: error: {message}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            f"{options.prog}: interrupted; --resume goes on from here",
            file=sys.stderr,
        )
        return 130
    return 0


def _parser():
    parser = _Parser(
        prog="cbam-keras",
        description="CBAM attention for Keras: train, compare, explain.",
    )
    parser.add_argument(
        "--version", action="version", version=cbam_keras.__version__
    )
    commands = parser.add_subparsers(
        title="commands", dest="command", required=True, metavar="COMMAND"
    )
    _add_train(commands)
    _add_table(commands)
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
    recipe = training.Recipe()
    add = parser.add_argument
    add(
        "--model",
        default="small",
        choices=list(comparison.NETWORKS),
        help="the network",
    )
    add(
        "--attention",
        action="append",
        choices=["none", *ATTENTION],
        help="what to compare; repeat it for several "
        "(default: none, se and cbam)",
        default=argparse.SUPPRESS,
    )
    add(
        "--data",
        default="cluttered_mnist",
        metavar="NAME",
        help=f"the data set: {' or '.join(data.EMBEDDED)}",
    )
    add("--epochs", type=int, default=recipe.epochs, help="epochs each")
    add(
        "--batch-size",
        type=int,
        default=recipe.batch_size,
        help="images per step",
    )
    add(
        "--learning-rate",
        type=float,
        default=recipe.learning_rate,
        help="the highest learning rate of the schedule",
    )
    add("--seed", type=int, default=recipe.seed, help="of everything random")
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
    add(
        "--mixed-precision",
        nargs="?",
        const="float16",
        choices=["float16", "bfloat16"],
        default=argparse.SUPPRESS,
        help="compute in half precision (float16 if nothing follows)",
    )
    add(
        "--output",
        metavar="DIR",
        default=argparse.SUPPRESS,
        help="a new folder for all files (default: runs/DATA-MODEL)",
    )
    add(
        "--resume",
        action="store_true",
        default=argparse.SUPPRESS,
        help="go on with the run in the output folder",
    )
    parser.set_defaults(handler=_train, prog=parser.prog)


def _train(options):
    given = vars(options)
    results = comparison.compare(
        given.get("attention", ("none", "se", "cbam")),
        model=options.model,
        images=options.data,
        recipe=training.Recipe(
            epochs=options.epochs,
            batch_size=options.batch_size,
            learning_rate=options.learning_rate,
            seed=options.seed,
            mixed_precision=given.get("mixed_precision"),
        ),
        layer_options={
            key: given[key]
            for key in ("reduction_ratio", "kernel_size", "order")
            if key in given
        },
        output=given.get("output"),
        resume=given.get("resume", False),
    )
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
