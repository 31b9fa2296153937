"""What the command does before Keras is imported, which takes seconds."""

import pathlib
import sys
from collections.abc import Sequence

from cbam_keras._process import interrupts, log
from cbam_keras._process.parser import COMMANDS, COMPLETION, outline


def is_command() -> bool:
    """Returns whether this process is `cbam-keras`."""
    started = sys.orig_argv
    as_module = ("-m", "cbam_keras") in zip(started, started[1:], strict=False)
    return as_module or pathlib.Path(*sys.argv[:1]).stem == "cbam-keras"


def answer(arguments: Sequence[str]) -> None:
    """Ends the process unless the first argument is a subcommand.

    So `--help`, `--version` and a mistyped command are answered at once. The
    options of a subcommand name networks and recipes, which need Keras.
    """
    first = arguments[0].split("=")[0] if arguments else ""
    # The completion lists the options of all subcommands.
    if first not in (*COMMANDS, COMPLETION):
        parser, commands = outline()
        for name, text in COMMANDS.items():
            commands.add_parser(name, help=text)
        parser.parse_args(arguments)


if is_command():
    interrupts.begin()
    answer(sys.argv[1:])
    log.import_quietly()
