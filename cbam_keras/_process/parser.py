"""The outline of the command line: the subcommands, without their options."""

import argparse
from collections.abc import Mapping
from typing import Any

from cbam_keras._version import __version__

COMPLETION = "--print-completion"
COMMANDS = {
    "train": "train a network without and with attention, and compare",
    "tune": "search reduction ratio and kernel size, and confirm the best",
    "ablate": "run the paper's comparisons on your own data, over seeds",
    "table": "count the networks of the paper's tables beside what is printed",
    "explain": "see what networks look at: Grad-CAM and attention maps",
    "detect": "train a detector without and with attention, and compare",
    "audit": "check anybody's CBAM layer against the paper",
    "export": "export a model to another format, and compare the result",
}


class Parser(argparse.ArgumentParser):
    """A parser that takes no abbreviations and reports errors in one line.

    Positional arguments of the name `anywhere` may also stand between
    options, where argparse would not recognize them.
    """

    anywhere: str | None = None
    # The subcommands by their names, of the parser that has them.
    commands: Mapping[str, argparse.ArgumentParser] = {}

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


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows defaults, except of flags, and keeps lines of whole texts."""

    def _get_help_string(self, action):
        if action.default in (None, []) or isinstance(action.default, bool):
            return action.help
        return super()._get_help_string(action)

    def _fill_text(self, text, width, indent):
        if "\n" not in text:
            return super()._fill_text(text, width, indent)
        return "".join(indent + line for line in text.splitlines(True))


def examples(*commands: str) -> str:
    """Returns the examples at the end of a help text."""
    lines = "\n".join(f"  cbam-keras {command}" for command in commands)
    return f"examples:\n{lines}\n"


def outline(completion: Any = "store") -> tuple[Parser, Any]:
    """Returns the parser, and what its subcommands are added to.

    Args:
        completion: The action of `--print-completion`, which needs all
            subcommands.
    """
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
        COMPLETION,
        action=completion,
        choices=("bash", "zsh", "tcsh"),
        help="print the tab completion for a shell",
    )
    commands = parser.add_subparsers(
        title="commands", dest="command", required=True, metavar="COMMAND"
    )
    return parser, commands
