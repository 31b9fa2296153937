"""The outline of the command line: the subcommands, without their options."""

import argparse
from typing import Any

from cbam_keras._version import __version__

COMMANDS = {
    "train": "train a network without and with attention, and compare",
    "tune": "search reduction ratio and kernel size, and confirm the best",
    "ablate": "run the paper's comparisons on your own data, over seeds",
    "table": "count the networks of the paper's tables beside what is printed",
    "explain": "see what networks look at: Grad-CAM and attention maps",
}


class Parser(argparse.ArgumentParser):
    """A parser that takes no abbreviations and reports errors in one line.

    Positional arguments of the name `anywhere` may also stand between
    options, where argparse would not recognize them.
    """

    anywhere: str | None = None

    def __init__(self, **options: Any):
        super().__init__(allow_abbrev=False, **options)

    def parse_known_args(self, args=None, namespace=None):
        options, rest = super().parse_known_args(args, namespace)
        if self.anywhere is None:
            return options, rest
        loose = [argument for argument in rest if argument[:1] != "-"]
        found = [*getattr(options, self.anywhere), *loose]
        setattr(options, self.anywhere, found)
        return options, [argument for argument in rest if argument[:1] == "-"]

    def error(self, message):
        self.exit(2, f"{self.prog}: error: {message} (see --help)\n")


def outline() -> tuple[Parser, Any]:
    """Returns the parser, and what its subcommands are added to."""
    parser = Parser(
        prog="cbam-keras",
        description="CBAM attention for Keras: train, tune, compare, explain.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(
        title="commands", dest="command", required=True, metavar="COMMAND"
    )
    return parser, commands
