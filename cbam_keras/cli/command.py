"""The command `cbam-keras`: `argparse` over the package's functions."""

import argparse
import os
import sys
from collections.abc import Sequence

from cbam_keras import _checks, _process
from cbam_keras.cli.ablate import add_ablate
from cbam_keras.cli.audit import add_audit
from cbam_keras.cli.detect import add_detect
from cbam_keras.cli.explain import add_explain
from cbam_keras.cli.export import add_export
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
        if the work itself failed or an audit found departures, 130 after
        Ctrl-C or SIGTERM.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    options = _parser().parse_args(arguments)
    options.arguments = arguments
    interrupted = f"{options.prog}: interrupted{_advice(options)}"
    _process.set_last_line(interrupted)
    try:
        with _process.noted():
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
        _process.set_last_line("")
        print(interrupted, file=sys.stderr)
        return _process.STATUS
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
    parser, commands = _process.outline(_PrintCompletion)
    parser.set_defaults(resumed_by="the same command")
    add_train(commands)
    add_tune(commands)
    add_ablate(commands)
    add_table(commands)
    add_explain(commands)
    add_detect(commands)
    add_audit(commands)
    add_export(commands)
    parser.commands = commands.choices
    return parser


def _raised_by_us(error):
    traceback = error.__traceback__
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    module = traceback.tb_frame.f_globals.get("__name__", "")
    return module.split(".")[0] == "cbam_keras"
