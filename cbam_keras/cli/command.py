"""The command `cbam-keras`: `argparse` over the package's functions."""

import argparse
import os
import sys
from collections.abc import Sequence

from cbam_keras import _checks
from cbam_keras._version import __version__
from cbam_keras.cli.ablate import add_ablate
from cbam_keras.cli.arguments import HelpFormatter, Parser, examples
from cbam_keras.cli.explain import add_explain
from cbam_keras.cli.table import add_table
from cbam_keras.cli.train import add_train
from cbam_keras.cli.tune import add_tune


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit status.

    Args:
        arguments: Sequence of strings, the command line without the program.
            Defaults to `None`, which means that of the process.

    Returns:
        0 on success, 2 after a user error, reported in one line on stderr, 1
        if the work itself failed, 130 after Ctrl-C.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    options = _parser().parse_args(arguments)
    options.arguments = arguments
    try:
        status = options.handler(options)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader, such as `head`, has ended. The interpreter must not
        # write the rest on exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    except (ValueError, TypeError, ImportError, RuntimeError) as error:
        # Our own errors say what to fix. Others are bugs, and a bug report
        # needs their traceback.
        if not _raised_by_us(error):
            raise
        message = " ".join(str(error).split())
        print(f"{options.prog}: error: {message}", file=sys.stderr)
        return 1 if isinstance(error, RuntimeError) else 2
    except KeyboardInterrupt:
        print(f"{options.prog}: interrupted{_advice(options)}", file=sys.stderr)
        return 130
    return status or 0


class _PrintCompletion(argparse.Action):
    """Prints the tab completion of the whole command, and exits."""

    def __call__(self, parser, namespace, values, option_string=None):
        try:
            shtab = _checks.require("shtab", extra="completion")
        except ImportError as error:
            parser.error(str(error))
        for command in parser.commands.values():
            for argument in command._actions:
                if argument.type is None and argument.metavar:
                    # Paths, as far as they are not names.
                    argument.complete = shtab.FILE
        print(shtab.complete(parser, shell=values))
        parser.exit(0)


def _advice(options):
    """Returns how to continue an interrupted command."""
    if not options.resumed_by:
        return ""
    without = " without --overwrite" if "overwrite" in options else ""
    return f"; {options.resumed_by}{without} resumes from here"


def _parser():
    parser = Parser(
        prog="cbam-keras",
        description="CBAM attention for Keras: train, tune, compare, explain.",
        epilog=examples(
            "train",
            "explain runs/train-crowded_mnist-tiny",
            "train --help",
        ),
        formatter_class=HelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument(
        "--print-completion",
        action=_PrintCompletion,
        choices=("bash", "zsh", "tcsh"),
        help="print the tab completion for a shell",
    )
    parser.set_defaults(resumed_by="the same command")
    commands = parser.add_subparsers(
        title="commands", dest="command", required=True, metavar="COMMAND"
    )
    add_train(commands)
    add_tune(commands)
    add_ablate(commands)
    add_table(commands)
    add_explain(commands)
    parser.commands = commands.choices
    return parser


def _raised_by_us(error):
    traceback = error.__traceback__
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    module = traceback.tb_frame.f_globals.get("__name__", "")
    return module.split(".")[0] == "cbam_keras"
